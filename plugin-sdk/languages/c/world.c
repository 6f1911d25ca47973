// The generated code asks for the object file that holds the world. Here `heliograph plugin componentize --wit`
// writes the world into the module, so that no binary file is kept with the sources.
void __component_type_object_force_link_prefix_router(void) {}

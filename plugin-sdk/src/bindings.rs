//! What wit-bindgen makes of `wit/v0.3/sms.wit`: one module for the shared types and the capabilities, and one
//! for each exported interface, so that a component's type names the hooks it serves and no other.
//! Generated code is the only place of this crate with `unsafe`; nothing here is hand-written logic.
#![allow(unsafe_code, unused_qualifications, missing_docs, clippy::all)]

/// The shared types, and the four capability imports.
pub mod host {
    wit_bindgen::generate!({
        path: "../wit/v0.3",
        inline: "
            package heliograph:sdk;
            world capabilities {
                import heliograph:sms/types@0.3.0;
                import heliograph:sms/logging@0.3.0;
                import heliograph:sms/state@0.3.0;
                import heliograph:sms/tables@0.3.0;
                import heliograph:sms/http@0.3.0;
            }
        ",
        generate_all,
        generate_unused_types: true,
        additional_derives: [PartialEq],
    });
}

pub mod plugin {
    wit_bindgen::generate!({
        path: "../wit/v0.3",
        inline: "package heliograph:sdk; world only-plugin { export heliograph:sms/plugin@0.3.0; }",
        generate_all,
        generate_unused_types: true,
        additional_derives: [PartialEq],
        pub_export_macro: true,
        export_macro_name: "export_plugin",
    });
}

pub mod enrichment {
    wit_bindgen::generate!({
        path: "../wit/v0.3",
        inline: "package heliograph:sdk; world only-enrichment { export heliograph:sms/enrichment@0.3.0; }",
        with: { "heliograph:sms/types@0.3.0": crate::bindings::host::heliograph::sms::types },
        generate_all,
        generate_unused_types: true,
        additional_derives: [PartialEq],
        pub_export_macro: true,
        export_macro_name: "export_enrichment",
    });
}

pub mod content_filter {
    wit_bindgen::generate!({
        path: "../wit/v0.3",
        inline: "package heliograph:sdk; world only-content-filter { export heliograph:sms/content-filter@0.3.0; }",
        with: { "heliograph:sms/types@0.3.0": crate::bindings::host::heliograph::sms::types },
        generate_all,
        generate_unused_types: true,
        additional_derives: [PartialEq],
        pub_export_macro: true,
        export_macro_name: "export_content_filter",
    });
}

pub mod compliance_check {
    wit_bindgen::generate!({
        path: "../wit/v0.3",
        inline: "package heliograph:sdk; world only-compliance-check { export heliograph:sms/compliance-check@0.3.0; }",
        with: { "heliograph:sms/types@0.3.0": crate::bindings::host::heliograph::sms::types },
        generate_all,
        generate_unused_types: true,
        additional_derives: [PartialEq],
        pub_export_macro: true,
        export_macro_name: "export_compliance_check",
    });
}

pub mod routing_policy {
    wit_bindgen::generate!({
        path: "../wit/v0.3",
        inline: "package heliograph:sdk; world only-routing-policy { export heliograph:sms/routing-policy@0.3.0; }",
        with: { "heliograph:sms/types@0.3.0": crate::bindings::host::heliograph::sms::types },
        generate_all,
        generate_unused_types: true,
        additional_derives: [PartialEq],
        pub_export_macro: true,
        export_macro_name: "export_routing_policy",
    });
}

pub mod carrier_adapter {
    wit_bindgen::generate!({
        path: "../wit/v0.3",
        inline: "package heliograph:sdk; world only-carrier-adapter { export heliograph:sms/carrier-adapter@0.3.0; }",
        with: { "heliograph:sms/types@0.3.0": crate::bindings::host::heliograph::sms::types },
        generate_all,
        generate_unused_types: true,
        additional_derives: [PartialEq],
        pub_export_macro: true,
        export_macro_name: "export_carrier_adapter",
    });
}

pub mod inbound_handler {
    wit_bindgen::generate!({
        path: "../wit/v0.3",
        inline: "package heliograph:sdk; world only-inbound-handler { export heliograph:sms/inbound-handler@0.3.0; }",
        with: { "heliograph:sms/types@0.3.0": crate::bindings::host::heliograph::sms::types },
        generate_all,
        generate_unused_types: true,
        additional_derives: [PartialEq],
        pub_export_macro: true,
        export_macro_name: "export_inbound_handler",
    });
}

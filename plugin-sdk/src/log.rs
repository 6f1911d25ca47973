//! Capability: structured logs, rate-limited by the host. Message text and full numbers do not belong in them.

/// For whoever debugs this plugin.
pub fn debug(message: &str, fields: &[(&str, &str)]) {
    write(Level::Debug, message, fields);
}

/// Worth knowing in normal operation.
pub fn info(message: &str, fields: &[(&str, &str)]) {
    write(Level::Info, message, fields);
}

/// Something an operator should look at.
pub fn warn(message: &str, fields: &[(&str, &str)]) {
    write(Level::Warn, message, fields);
}

/// The plugin could not do its work.
pub fn error(message: &str, fields: &[(&str, &str)]) {
    write(Level::Error, message, fields);
}

pub use crate::bindings::host::heliograph::sms::logging::Level;

fn write(level: Level, message: &str, fields: &[(&str, &str)]) {
    let fields: Vec<(String, String)> = fields
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    #[cfg(target_family = "wasm")]
    crate::bindings::host::heliograph::sms::logging::log(level, message, &fields);
    #[cfg(not(target_family = "wasm"))]
    crate::testing::with(|host| host.log(level, message, fields));
}

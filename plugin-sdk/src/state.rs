//! Capability: small persistent state, private to the plugin, with a quota that the host keeps.

#[cfg(target_family = "wasm")]
use crate::bindings::host::heliograph::sms::state as import;

/// The value under `key`, none where it was never set or has expired.
pub fn get(key: &str) -> Option<Vec<u8>> {
    #[cfg(target_family = "wasm")]
    return import::get(key);
    #[cfg(not(target_family = "wasm"))]
    crate::testing::with(|host| host.state_get(key))
}

/// Stores `value` under `key`, for ever or for `ttl_seconds`. The error says which quota is used up.
pub fn set(key: &str, value: &[u8], ttl_seconds: Option<u32>) -> Result<(), String> {
    #[cfg(target_family = "wasm")]
    return import::set(key, value, ttl_seconds);
    #[cfg(not(target_family = "wasm"))]
    crate::testing::with(|host| host.state_set(key, value, ttl_seconds))
}

/// Forgets `key`.
pub fn delete(key: &str) {
    #[cfg(target_family = "wasm")]
    import::delete(key);
    #[cfg(not(target_family = "wasm"))]
    crate::testing::with(|host| host.state_delete(key));
}

/// Adds to a counter that starts at zero and expires `ttl_seconds` after its first increment.
/// Returns the new value.
pub fn increment(key: &str, by: i64, ttl_seconds: u32) -> i64 {
    #[cfg(target_family = "wasm")]
    return import::increment(key, by, ttl_seconds);
    #[cfg(not(target_family = "wasm"))]
    crate::testing::with(|host| host.state_increment(key, by, ttl_seconds))
}

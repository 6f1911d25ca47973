//! Capability: read-only tables that the operator uploads (rate decks, number portability, block lists).

#[cfg(target_family = "wasm")]
use crate::bindings::host::heliograph::sms::tables as import;

/// The value of the row whose key is `key`; none where there is no such row, or no such table.
pub fn lookup(table: &str, key: &str) -> Option<String> {
    #[cfg(target_family = "wasm")]
    return import::lookup(table, key);
    #[cfg(not(target_family = "wasm"))]
    crate::testing::with(|host| host.lookup(table, key))
}

/// The row whose key is the longest prefix of `key`: that key and its value.
pub fn longest_prefix<'k>(table: &str, key: &'k str) -> Option<(&'k str, String)> {
    #[cfg(target_family = "wasm")]
    let found = import::longest_prefix(table, key).map(|row| (row.prefix, row.value));
    #[cfg(not(target_family = "wasm"))]
    let found = crate::testing::with(|host| host.longest_prefix(table, key));
    let (length, value) = found?;
    let prefix = usize::try_from(length)
        .ok()
        .and_then(|length| key.get(..length));
    Some((prefix.unwrap_or(key), value))
}

//! What the bundled plugins that read texts share: characters as a reader sees them (`fold`) and links as a handset
//! finds them (`urls`). Knows no plugin contract and decides nothing.

pub mod fold;
pub mod urls;

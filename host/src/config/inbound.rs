//! `[inbound]`: whose mobile-originated messages are, and how long their parts wait for each other.

use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct InboundSection {
    /// How long the parts of a message wait for each other; then they go on as they are.
    #[schemars(range(min = 1, max = 604_800))]
    pub reassembly_seconds: u64,
    /// Incomplete messages of one handset, and of all.
    #[schemars(range(min = 1, max = 10_000))]
    pub reassembly_per_source: usize,
    #[schemars(range(min = 1, max = 1_000_000))]
    pub reassembly_total: usize,
    /// Memory for their parts.
    #[schemars(range(min = 1, max = 4_096))]
    pub reassembly_mib: usize,
    /// How old a message may be for a text to answer it.
    #[schemars(range(min = 60, max = 2_592_000))]
    pub reply_window_seconds: u64,
    /// The closest number decides, then the longest keyword.
    #[schemars(length(max = 10_000))]
    pub routes: Vec<InboundRouteSection>,
}

impl Default for InboundSection {
    fn default() -> InboundSection {
        InboundSection {
            reassembly_seconds: 24 * 3_600,
            reassembly_per_source: 100,
            reassembly_total: 100_000,
            reassembly_mib: 64,
            reply_window_seconds: 72 * 3_600,
            routes: Vec::new(),
        }
    }
}

/// Gives texts to an account.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InboundRouteSection {
    /// The number that is texted: `60777`, `+447700900123`, `4477009*`, or `*` for any.
    #[serde(default = "any_number")]
    #[schemars(length(min = 1, max = 32))]
    pub number: String,
    /// The text's first word or words, in any case; left out: any text.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 64))]
    pub keyword: Option<String>,
    /// Only what this carrier brings.
    #[serde(default)]
    pub carrier: Option<String>,
    pub account: String,
}

fn any_number() -> String {
    "*".to_owned()
}

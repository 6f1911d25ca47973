//! Number portability: the network that a number lives in, by tables that the operator uploads. It tells and decides
//! nothing; nothing is remembered between messages, so the same question always gets the same answer.

mod network;

use heliograph_plugin::{
    Context, Enriched, Enrichment, Finding, Message, Network, Plugin, TypeOfNumber, log, tables,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::network::Row;

/// Digits of a number that may stand in a log line or a reason.
const SHOWN_DIGITS: usize = 6;
const LABEL_CHARS_MAX: usize = 64;
/// The host takes no longer value of a label.
const NAME_CHARS_MAX: usize = 256;

/// Where the tables are. At least one of `ported` and `ranges` is needed.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Uploaded table of ported numbers. Key: the whole number without `+`. Value: its network now, as in
    /// `234-10;GB;O2 UK` (MCC and MNC, country, name), or a key of `networks`.
    pub ported: Option<String>,
    /// Uploaded table of number ranges. Key: leading digits of the number. Value as in `ported`. The longest key counts.
    pub ranges: Option<String>,
    /// Uploaded table of networks, for values of the other two that are no network themselves.
    pub networks: Option<String>,
    /// Name of the label that holds the network's name, in the message's metadata. Without it there is none.
    #[schemars(regex(pattern = r"^[A-Za-z0-9._-]{1,64}$"))]
    pub operator_label: Option<String>,
}

pub struct NumberPortability {
    config: Config,
}

impl Plugin for NumberPortability {
    type Config = Config;
    const NAME: &'static str = "number-portability";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str =
        "Tells the network that a number lives in, ported numbers included, by uploaded tables.";
    const SCHEMA: Option<&'static str> = Some(include_str!("../schema.json"));

    fn new(config: Config) -> Result<Self, String> {
        if config.ported.is_none() && config.ranges.is_none() {
            return Err("ported, ranges: at least one of the tables is needed".to_owned());
        }
        if let Some(label) = &config.operator_label
            && !is_label(label)
        {
            return Err(format!(
                "operator_label: {label:?} is not 1 to {LABEL_CHARS_MAX} letters, digits, '.', '_' and '-'"
            ));
        }
        Ok(Self { config })
    }
}

impl Enrichment for NumberPortability {
    fn enrich(&self, message: &Message, _context: &Context) -> Enriched {
        let recipient = &message.recipient;
        if recipient.ton != TypeOfNumber::International {
            return Enriched::Pass;
        }
        if !recipient.withheld
            && let Some(table) = &self.config.ported
            && let Some(value) = tables::lookup(table, &recipient.value)
            && let Some(found) = self.found(message, table, &recipient.value, &value, true)
        {
            return found;
        }
        let number = if recipient.withheld {
            &*recipient.prefix
        } else {
            &*recipient.value
        };
        let Some(table) = &self.config.ranges else {
            return Enriched::Pass;
        };
        tables::longest_prefix(table, number)
            .and_then(|(prefix, value)| self.found(message, table, prefix, &value, false))
            .unwrap_or(Enriched::Pass)
    }
}

heliograph_plugin::export!(NumberPortability: Enrichment);

impl NumberPortability {
    /// What a row says of the message, none where it says nothing that can be read.
    fn found(
        &self,
        message: &Message,
        table: &str,
        key: &str,
        value: &str,
        ported: bool,
    ) -> Option<Enriched> {
        let named;
        let row = match (Row::parse(value), &self.config.networks) {
            (None, Some(networks)) => {
                named = tables::lookup(networks, value.trim());
                named.as_deref().and_then(Row::parse)
            }
            (row, _) => row,
        };
        let Some(row) = row else {
            let fields = [("table", table), ("key", shown(key))];
            log::warn("a row names no network and is skipped", &fields);
            return None;
        };
        let network = Network {
            country: row.country.or(message.network.country),
            mcc: Some(row.mcc),
            mnc: Some(row.mnc),
            ported,
        };
        let named = match (&self.config.operator_label, row.name) {
            (Some(label), name) if !name.is_empty() => {
                Some((label.clone(), name.chars().take(NAME_CHARS_MAX).collect()))
            }
            (Some(_) | None, _) => None,
        };
        let Row { mcc, mnc, name, .. } = row;
        let space = if name.is_empty() { "" } else { " " };
        let reason = if ported {
            format!("ported to {mcc}-{mnc}{space}{name}")
        } else {
            format!("{} is {mcc}-{mnc}{space}{name}", shown(key))
        };
        Some(Enriched::Found(Finding {
            network: Some(network),
            labels: named.into_iter().collect(),
            reason,
        }))
    }
}

fn is_label(text: &str) -> bool {
    (1..=LABEL_CHARS_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// Enough of a number to find its row by, and too little to know whose it is.
fn shown(number: &str) -> &str {
    number.get(..SHOWN_DIGITS).unwrap_or(number)
}

#[cfg(test)]
mod tests;

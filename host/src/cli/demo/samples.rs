//! What the demonstration sends, over which carriers, under which policy, and where each sample
//! has to end. Data, and the few lines that fill in addresses and the time of day.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use crate::carrier::simulator::{Credentials, Settings};

/// Asked for no more messages before the demonstration begins.
pub const OPTED_OUT: &str = "+447700900020";
/// Texts STOP during it.
pub const STOPPER: &str = "+447700900021";
pub const SHORT_CODE: &str = "60777";

/// Prices by number prefix in millionths of a unit: what an operator uploads.
pub const RATES: &str = "\
prefix,carriers
1,north=6900; south=7200
33,south=5100; north=5600
44,north=4200; south=4900
49,south=5200; north=6000
81,north=7400; south=8100
";

/// One message and where it should end.
pub struct Sample {
    pub name: &'static str,
    pub body: Value,
    pub expect: Expect,
}

/// What must be true of the record.
#[derive(Clone, Copy)]
pub enum Expect {
    State(&'static str),
    /// Delivered, in so many segments.
    Segments(u64),
    /// Delivered in this encoding.
    Encoding(&'static str),
    /// Refused with this in its history.
    Refused(&'static str),
    /// Delivered by this carrier, after another one failed.
    FailedOverTo(&'static str),
    /// Waits, for this reason.
    Waits(&'static str),
}

impl Expect {
    pub fn holds(self, record: &Value) -> bool {
        let status = record["status"].as_str().unwrap_or_default();
        match self {
            Expect::State(state) => status == state,
            Expect::Segments(n) => {
                status == "delivered"
                    && record["receipts"]
                        .as_array()
                        .is_some_and(|p| p.len() as u64 == n)
            }
            Expect::Encoding(name) => status == "delivered" && record["encoding"] == name,
            Expect::Refused(code) => {
                status == "rejected" && record["events"].to_string().contains(code)
            }
            Expect::FailedOverTo(carrier) => {
                let attempts = record["attempts"].as_array();
                let last = attempts.and_then(|a| a.last());
                status == "delivered"
                    && attempts.is_some_and(|a| a.len() > 1)
                    && last.is_some_and(|a| a["carrier"] == carrier)
            }
            Expect::Waits(reason) => status == "scheduled" && record["reason"] == reason,
        }
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expect::State(state) => write!(f, "{state}"),
            Expect::Segments(n) => write!(f, "delivered in {n} segments"),
            Expect::Encoding(name) => write!(f, "delivered in {name}"),
            Expect::Refused(code) => write!(f, "rejected with {code}"),
            Expect::FailedOverTo(carrier) => {
                write!(f, "delivered by {carrier} after another carrier failed")
            }
            Expect::Waits(reason) => write!(f, "scheduled because {reason}"),
        }
    }
}

pub fn to(recipient: &str, text: &str) -> Value {
    json!({ "to": recipient, "from": "Acme", "text": text })
}

/// Every interesting kind once.
pub fn all() -> Vec<Sample> {
    let sample = |name, body, expect| Sample { name, body, expect };
    let with = |mut body: Value, field: &str, value: Value| {
        body[field] = value;
        body
    };
    let long = "Dear customer, your engineer arrives on Tuesday between 14:00 and 16:00. Please make sure that \
        somebody over 18 is at home, that pets are kept in another room, and that the meter cupboard can be \
        reached. If the time does not suit you, answer with another one or call us on the number of your bill. Thank you.";
    vec![
        sample(
            "a plain text",
            to(
                "+447700900010",
                "Your parcel arrives today between 14:00 and 16:00.",
            ),
            Expect::State("delivered"),
        ),
        sample(
            "300 characters: two segments, one status",
            to("+447700900011", &long[..300]),
            Expect::Segments(2),
        ),
        sample(
            "an emoji: UCS-2",
            to("+819012345678", "荷物は本日到着します 📦✨"),
            Expect::Encoding("ucs2"),
        ),
        sample(
            "a one-time password",
            with(
                to("+447700900012", "417 204 is your code."),
                "class",
                json!("otp"),
            ),
            Expect::State("delivered"),
        ),
        sample(
            "to somebody who opted out",
            to(OPTED_OUT, "We have missed you."),
            Expect::Refused("opted_out"),
        ),
        sample(
            "a blocked word in disguise",
            to("+447700900013", "Win big at the C.а.s.і.n.o tonight"),
            Expect::Refused("blocked_word"),
        ),
        sample(
            "a promotion in the recipient's quiet hours",
            with(
                to("+447700900014", "20 % off all lamps this week."),
                "class",
                json!("promotional"),
            ),
            Expect::Waits("deferred_by_policy"),
        ),
        sample(
            "the cheapest carrier fails, the next one delivers",
            to("+447700900404", "This takes the second way."),
            Expect::FailedOverTo("south"),
        ),
        sample(
            "through the carrier that throttles",
            to(
                "+4915112345678",
                "Guten Tag, Ihre Bestellung ist unterwegs.",
            ),
            Expect::State("delivered"),
        ),
        sample(
            "a phone that is never reached",
            to("+447700900099", "Is anybody there?"),
            Expect::State("undeliverable"),
        ),
        sample(
            "a carrier that loses the receipt",
            to("+33612345678", "Votre colis est en route."),
            Expect::State("enroute"),
        ),
    ]
}

fn credentials() -> Vec<Credentials> {
    "heliograph:secret".parse().into_iter().collect()
}

/// The good carrier; two numbers have a fate of their own.
pub fn north() -> Settings {
    let rules = ["447700900404=0x08", "447700900099=UNDELIV:001"];
    Settings {
        binds: credentials(),
        latency_ms: 15,
        latency_jitter_ms: 20,
        receipt_delay_ms: 300,
        receipt_jitter_ms: 400,
        rules: rules.iter().filter_map(|r| r.parse().ok()).collect(),
        ..Settings::default()
    }
}

/// The bad one: slow, throttles, fails now and then, loses receipts, and writes ids in
/// hexadecimal in its responses and in decimal in its receipts.
pub fn south() -> Settings {
    let rules = ["33612345678=no-receipt"];
    Settings {
        binds: credentials(),
        latency_ms: 40,
        latency_jitter_ms: 60,
        throughput: 2,
        errors: "0x58=0.3"
            .parse()
            .into_iter()
            .chain("0x08=0.1".parse())
            .collect(),
        receipt_delay_ms: 500,
        receipt_jitter_ms: 500,
        id_response: crate::carrier::simulator::IdStyle::HexLower,
        rules: rules.iter().filter_map(|r| r.parse().ok()).collect(),
        ..Settings::default()
    }
}

/// Who is where.
pub struct Addresses<'a> {
    pub http: SocketAddr,
    pub north: SocketAddr,
    pub south: SocketAddr,
    pub webhook: String,
    pub key: &'a str,
}

/// The demonstration's `heliograph.toml`: an example of a real one.
pub fn config(at: &Addresses<'_>) -> String {
    let Addresses {
        http,
        north,
        south,
        webhook,
        key,
    } = at;
    let secret = super::webhooks::SECRET;
    format!(
        r#"[http]
listen = "{http}"

[store]
path = "data"
min_free_mib = 64

[policy]
file = "policy.toml"

[webhooks]
allow_private = true        # the demonstration's webhook target is on loopback

[[accounts]]
id = "demo"
keys = [{{ key = "literal:{key}", scopes = ["send", "read", "admin"] }}]
receipt_url = "{webhook}"
inbound_url = "{webhook}"
webhook_secret = "literal:{secret}"
numbers = ["{SHORT_CODE}"]

[[carriers]]
id = "north"
kind = "smpp"
address = "{north}"
system_id = "heliograph"
password = "literal:secret"
window = 50
tags = ["direct"]

[[carriers]]
id = "south"
kind = "smpp"
address = "{south}"
system_id = "heliograph"
password = "literal:secret"
window = 10
"#
    )
}

/// The demonstration's `policy.toml`. Quiet hours are around the present time, so that the
/// promotion meets them whenever the demonstration runs.
pub fn policy(plugins: &Path, now_ms: u64) -> String {
    let plugins = plugins.display();
    let minute = (now_ms / 60_000) % 1440;
    let clock = |minute: u64| format!("{:02}:{:02}", (minute % 1440) / 60, minute % 60);
    let (start, end) = (clock(minute + 1440 - 180), clock(minute + 240));
    format!(
        r#"default_route = ["north", "south"]

[tables.rates]
file = "rates.csv"

[[plugin]]
name = "content-filter"
path = "{plugins}/content-filter.wasm"
[[plugin.config.rules]]
name = "gambling"
kind = "words"
words = ["casino", "jackpot"]
action = "refuse"

[[plugin]]
name = "compliance-guard"
path = "{plugins}/compliance-guard.wasm"
[plugin.config.quiet_hours]
start = "{start}"           # three hours ago...
end = "{end}"             # ...to four hours ahead, whenever this is
exempt = ["otp", "transactional", "alert"]
unknown_zone = "allow"

[[plugin]]
name = "least-cost-router"
path = "{plugins}/least-cost-router.wasm"
[plugin.config]
deck = "rates"
[plugin.config.weights]
price = 1
[plugin.grants]
tables = ["rates"]

[[plugin]]
name = "keyword-responder"
path = "{plugins}/keyword-responder.wasm"
[plugin.config]
brand = "Acme"
scope = "account"
[plugin.grants.state]
bytes = 1048576
"#
    )
}

//! `heliograph message`: show, trace, list, cancel, release. Turns the API's JSON into what a person
//! reads; decides nothing.

use std::fmt::Write as _;

use serde_json::Value;

use super::client::{Client, Failure, Target, escaped, query};
use super::send::{print, text};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show a message as the API has it
    #[command(after_help = "Example:\n  heliograph message show 019ac0f1e0b27c3f8a1b2c3d4e5f6071")]
    Show(One),
    /// Tell a message's story: decisions, attempts, receipts
    #[command(after_help = "Example:\n  heliograph message trace 019ac0f1e0b27c3f8a1b2c3d4e5f6071")]
    Trace(One),
    /// List messages, newest first
    #[command(after_help = "Example:\n  heliograph message list --status held --limit 20")]
    List(List),
    /// Cancel a message that was not sent
    #[command(
        after_help = "Example:\n  heliograph message cancel 019ac0f1e0b27c3f8a1b2c3d4e5f6071"
    )]
    Cancel(One),
    /// Let a held message go (scope `admin`)
    #[command(
        after_help = "Example:\n  heliograph message release 019ac0f1e0b27c3f8a1b2c3d4e5f6071"
    )]
    Release(One),
}

#[derive(Debug, clap::Args)]
pub struct One {
    /// The message's id
    pub id: String,
    #[command(flatten)]
    pub target: Target,
}

#[derive(Debug, clap::Args)]
pub struct List {
    /// queued, delivered, held, ...
    #[arg(long)]
    pub status: Option<String>,
    #[arg(long, value_name = "RECIPIENT")]
    pub to: Option<String>,
    #[arg(long, value_name = "SENDER")]
    pub from: Option<String>,
    #[arg(long)]
    pub class: Option<String>,
    /// Accepted at this time or later: 2026-11-22T09:00:00Z
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Accepted before this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// 1 to 200
    #[arg(long, default_value_t = 50)]
    pub limit: u16,
    /// Where the last page ended
    #[arg(long)]
    pub cursor: Option<String>,
    #[command(flatten)]
    pub target: Target,
}

pub async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Show(one) => {
            let client = Client::new(&one.target)?;
            let shown = client
                .get(&format!("/v1/messages/{}", escaped(&one.id)))
                .await?;
            println!("{shown:#}");
        }
        Command::Trace(one) => {
            let client = Client::new(&one.target)?;
            let shown = client
                .get(&format!("/v1/messages/{}", escaped(&one.id)))
                .await?;
            print(&shown, one.target.json, trace_text);
        }
        Command::List(list) => {
            let pairs = [
                ("status", list.status),
                ("to", list.to),
                ("from", list.from),
                ("class", list.class),
                ("since", list.since),
                ("until", list.until),
                ("limit", Some(list.limit.to_string())),
                ("cursor", list.cursor),
            ];
            let path = format!("/v1/messages{}", query(&pairs));
            let page = Client::new(&list.target)?.get(&path).await?;
            print(&page, list.target.json, list_text);
        }
        Command::Cancel(one) => change(one, "cancel").await?,
        Command::Release(one) => change(one, "release").await?,
    }
    Ok(())
}

async fn change(one: One, what: &str) -> Result<(), Failure> {
    let client = Client::new(&one.target)?;
    let path = format!("/v1/messages/{}/{what}", escaped(&one.id));
    let changed = client.post(&path, &Value::Null).await?;
    print(&changed, one.target.json, |m| {
        format!(
            "{} {} ({})",
            text(m, "id"),
            text(m, "status"),
            text(m, "reason")
        )
    });
    Ok(())
}

/// `1 segment, gsm7`.
pub fn segments(message: &Value) -> String {
    let count = message["segments"].as_u64().unwrap_or_default();
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} segment{plural}, {}", text(message, "encoding"))
}

fn list_text(page: &Value) -> String {
    let mut out = String::new();
    for item in items(page, "items") {
        let _ = writeln!(
            out,
            "{}  {}  {:<14} {:<16} {:<12} {}",
            text(item, "id"),
            text(item, "accepted_at"),
            text(item, "status"),
            text(item, "to"),
            text(item, "from"),
            text(item, "reason"),
        );
    }
    if out.is_empty() {
        out.push_str("no messages\n");
    }
    if let Some(cursor) = page["next_cursor"].as_str() {
        let _ = writeln!(out, "more: --cursor {cursor}");
    }
    out.trim_end().to_owned()
}

/// What would happen to a submission, for a person.
pub fn preview_text(preview: &Value) -> String {
    let mut out = format!(
        "{}: {}, {}",
        text(preview, "outcome"),
        segments(preview),
        text(preview, "class")
    );
    for name in ["code", "reason", "until"] {
        if !text(preview, name).is_empty() {
            let _ = write!(out, "\n  {name} {}", text(preview, name));
        }
    }
    if let Some(price) = preview["price_micros"].as_u64() {
        let _ = write!(out, "\n  price {}", money(price));
    }
    let _ = write!(out, "\n  route {}", route(preview));
    for decision in items(preview, "decisions") {
        let _ = write!(out, "\n{}", calls_text(decision));
    }
    out
}

/// A message's story in the order of time, with times relative to its acceptance.
pub fn trace_text(message: &Value) -> String {
    let start = millis(text(message, "accepted_at")).unwrap_or_default();
    let mut out = format!(
        "message {}\n  {} ({})\n  to {} from {}, {}, {}\n",
        text(message, "id"),
        text(message, "status"),
        text(message, "reason"),
        text(message, "to"),
        text(message, "from"),
        text(message, "class"),
        segments(message),
    );
    if let Some(body) = message["text"].as_str() {
        let _ = writeln!(out, "  text {body:?}");
    }
    if let Some(network) = network_text(&message["network"]) {
        let _ = writeln!(out, "  network {network}");
    }
    if let Some(submitted) = message["submitted"]["text"].as_str() {
        let _ = writeln!(out, "  submitted as {submitted:?}");
    }
    let _ = writeln!(
        out,
        "  accepted {}, valid until {}\n",
        text(message, "accepted_at"),
        text(message, "expires_at")
    );
    for (at, story) in stories(message, start) {
        let mut lines = story.lines();
        let _ = writeln!(
            out,
            "{:>10}  {}",
            relative(at),
            lines.next().unwrap_or_default()
        );
        for line in lines {
            let _ = writeln!(out, "{:>10}  {line}", "");
        }
    }
    if let Some(next) = message["next_attempt_at"].as_str() {
        let _ = writeln!(out, "{:>10}  next attempt at {next}", "");
    }
    if message["duplicate_risk"] == true {
        let _ = writeln!(
            out,
            "{:>10}  an earlier copy may have reached the carrier",
            ""
        );
    }
    if let Some(url) = message["receipt_url"].as_str() {
        let _ = writeln!(out, "{:>10}  webhooks go to {url}", "");
    }
    out.trim_end().to_owned()
}

/// `GB 234-30, ported (portability)`; none where nothing is known.
pub fn network_text(network: &Value) -> Option<String> {
    let mut words: Vec<String> = network["country"]
        .as_str()
        .map(str::to_owned)
        .into_iter()
        .collect();
    match (network["mcc"].as_u64(), network["mnc"].as_u64()) {
        (Some(mcc), Some(mnc)) => words.push(format!("{mcc:03}-{mnc:02}")),
        (Some(mcc), None) => words.push(format!("{mcc:03}")),
        (None, _) => {}
    }
    if words.is_empty() {
        return None;
    }
    let ported = if network["ported"] == true {
        ", ported"
    } else {
        ""
    };
    Some(format!(
        "{}{ported} ({})",
        words.join(" "),
        text(network, "source")
    ))
}

/// Everything that happened: milliseconds since the start, and in words.
fn stories(message: &Value, start: i64) -> Vec<(i64, String)> {
    let at = |item: &Value, name: &str| millis(text(item, name)).map_or(0, |at| at - start);
    // At the same time, what was decided comes before what came of it.
    let mut all: Vec<(i64, u8, String)> = Vec::new();
    for decision in items(message, "decisions") {
        let phase = text(decision, "phase");
        let set = text(decision, "policy_set").get(..12).unwrap_or_default();
        all.push((
            at(decision, "at"),
            0,
            format!(
                "decided ({phase}, policy set {set})\n{}",
                calls_text(decision)
            ),
        ));
    }
    for attempt in items(message, "attempts") {
        let mut story = format!(
            "attempt by {}: {}",
            text(attempt, "carrier"),
            text(attempt, "outcome")
        );
        if let Some(status) = attempt["status"].as_u64() {
            let _ = write!(story, " (status {status}, 0x{status:08x})");
        }
        if !text(attempt, "error").is_empty() {
            let _ = write!(story, " (err:{})", text(attempt, "error"));
        }
        all.push((at(attempt, "at"), 1, story));
    }
    for event in items(message, "events") {
        let mut story = format!("{} ({})", text(event, "status"), text(event, "reason"));
        for name in ["carrier", "detail"] {
            if !text(event, name).is_empty() {
                let _ = write!(story, " {}", text(event, name));
            }
        }
        if text(event, "reason") == "accepted" {
            let _ = write!(story, "\nroute {}", route(message));
        }
        all.push((at(event, "at"), 2, story));
    }
    let mut last = 0;
    for receipt in items(message, "receipts") {
        let mut story = format!(
            "segment {} at {}",
            receipt["segment"],
            text(receipt, "carrier")
        );
        let _ = write!(
            story,
            " as {:?}: {}",
            text(receipt, "carrier_message_id"),
            text(receipt, "status")
        );
        if !text(receipt, "error").is_empty() {
            let _ = write!(story, " (err:{})", text(receipt, "error"));
        }
        if let Some(done) = receipt["done_at"].as_str() {
            let _ = write!(story, ", done {done}");
        }
        last = last.max(all.iter().map(|(at, _, _)| *at).max().unwrap_or_default());
        all.push((last, 3, story));
    }
    all.sort_by_key(|(at, order, _)| (*at, *order));
    all.into_iter().map(|(at, _, story)| (at, story)).collect()
}

/// One line for each hook: what it is, what it said, why, and how long it took.
fn calls_text(decision: &Value) -> String {
    let mut lines = Vec::new();
    for call in items(decision, "calls") {
        let name = match text(call, "version") {
            "" => text(call, "name").to_owned(),
            version => format!("{} {version}", text(call, "name")),
        };
        let digest = text(call, "digest")
            .strip_prefix("sha256:")
            .and_then(|d| d.get(..8))
            .unwrap_or_default();
        let why = text(call, "why");
        let us = call["us"].as_f64().unwrap_or_default();
        let hook = text(call, "hook");
        let outcome = text(call, "outcome");
        let line = format!("  {hook:<17} {name:<26} {digest:<8} {us:>7.1} µs  {outcome:<8} {why}");
        lines.push(line.trim_end().to_owned());
    }
    lines.join("\n")
}

/// `north at 0.012, then south (cheapest)`.
fn route(message: &Value) -> String {
    let hops: Vec<String> = items(&message["route"], "hops")
        .iter()
        .map(|hop| match hop["price_micros"].as_u64() {
            Some(price) => format!("{} at {}", text(hop, "carrier"), money(price)),
            None => text(hop, "carrier").to_owned(),
        })
        .collect();
    match (hops.is_empty(), text(&message["route"], "reason")) {
        (true, _) => "none yet".to_owned(),
        (false, "") => hops.join(", then "),
        (false, reason) => format!("{} ({reason})", hops.join(", then ")),
    }
}

/// Millionths as a decimal number without needless zeros.
fn money(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn relative(millis: i64) -> String {
    match millis {
        ..10_000 => format!("+{millis} ms"),
        10_000..600_000 => format!("+{:.1} s", millis as f64 / 1_000.0),
        600_000..36_000_000 => format!("+{} min", millis / 60_000),
        _ => format!("+{} h", millis / 3_600_000),
    }
}

fn millis(time: &str) -> Option<i64> {
    time.parse::<jiff::Timestamp>()
        .ok()
        .map(jiff::Timestamp::as_millisecond)
}

fn items<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn delivered() -> Value {
        json!({
            "id": "0a", "status": "delivered", "reason": "receipt", "to": "+447700900123", "from": "Acme",
            "class": "otp", "segments": 1, "encoding": "gsm7", "text": "hi",
            "accepted_at": "2027-01-15T08:00:00.000Z", "expires_at": "2027-01-18T08:00:00.000Z",
            "route": { "reason": "cheapest", "current": 0, "hops": [
                { "carrier": "north", "price_micros": 12_000 }, { "carrier": "south", "price_micros": null } ] },
            "decisions": [{ "at": "2027-01-15T08:00:00.000Z", "phase": "admission", "policy_set": "ab".repeat(16),
                "calls": [{ "name": "words", "version": "1.2.0", "digest": "sha256:0123456789", "hook": "content-filter",
                    "outcome": "pass", "us": 3.25 }] }],
            "attempts": [{ "carrier": "north", "at": "2027-01-15T08:00:00.012Z", "outcome": "sent" }],
            "events": [
                { "at": "2027-01-15T08:00:00.000Z", "status": "queued", "reason": "accepted" },
                { "at": "2027-01-15T08:00:00.012Z", "status": "enroute", "reason": "taken_by_carrier", "carrier": "north" },
                { "at": "2027-01-15T08:00:02.000Z", "status": "delivered", "reason": "receipt", "carrier": "north" } ],
            "receipts": [{ "segment": 1, "carrier": "north", "carrier_message_id": "7", "status": "delivered", "done_at": null }],
            "receipt_url": "https://example.com/hook",
        })
    }

    #[test]
    fn a_trace_tells_the_story_in_the_order_of_time() {
        let trace = trace_text(&delivered());
        let places: Vec<usize> = [
            "delivered (receipt)\n  to +447700900123 from Acme, otp, 1 segment, gsm7",
            "+0 ms  decided (admission, policy set abababababab)",
            "content-filter    words 1.2.0                01234567     3.2 µs  pass",
            "+0 ms  queued (accepted)",
            "route north at 0.012, then south (cheapest)",
            "+12 ms  attempt by north: sent",
            "+12 ms  enroute (taken_by_carrier) north",
            "+2000 ms  delivered (receipt) north",
            "segment 1 at north as \"7\": delivered",
            "webhooks go to https://example.com/hook",
        ]
        .iter()
        .map(|part| {
            trace
                .find(part)
                .unwrap_or_else(|| panic!("{part:?} is not in\n{trace}"))
        })
        .collect();
        assert!(places.is_sorted(), "{trace}");
    }

    #[test]
    fn a_trace_of_anything_is_told_without_panic() {
        for value in [
            json!(null),
            json!([]),
            json!({ "events": [1, null], "decisions": { "a": 1 } }),
        ] {
            assert!(trace_text(&value).starts_with("message"));
        }
    }

    #[test]
    fn times_and_prices_are_short() {
        assert_eq!(relative(9_999), "+9999 ms");
        assert_eq!(relative(12_345), "+12.3 s");
        assert_eq!(relative(7_200_000), "+120 min");
        assert_eq!(relative(72_000_000), "+20 h");
        assert_eq!(
            (money(12_000), money(3_000_000), money(0)),
            ("0.012".to_owned(), "3".to_owned(), "0".to_owned())
        );
    }

    #[test]
    fn an_empty_list_says_so_and_a_full_one_goes_on() {
        assert_eq!(
            list_text(&json!({ "items": [], "next_cursor": null })),
            "no messages"
        );
        let page = json!({ "items": [delivered()], "next_cursor": "abc" });
        assert!(list_text(&page).ends_with("more: --cursor abc"));
    }
}

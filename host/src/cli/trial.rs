//! `heliograph policy replay|shadow|canary|export`: trying a policy before everybody has it. The work
//! is the server's; its answers are put into words here.

use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::Method;
use serde_json::{Value, json};

use super::client::{Client, Failure, Target, escaped};
use super::policy::{items, uploaded};
use super::send::{print, text};
use crate::clock::{Clock, Timestamp};
use crate::plugin::PolicySpec;

/// Differences that are told one by one on a terminal.
const EXAMPLES_TOLD: usize = 10;

#[derive(Debug, clap::Args)]
pub struct Replay {
    /// The candidate, TOML; the policy in force where none is given
    pub file: Option<PathBuf>,
    /// From when on, as 24h, 90m or 7d ago, or as an RFC 3339 time
    #[arg(long, default_value = "24h", value_name = "AGO")]
    pub since: String,
    /// Until when, in the same ways
    #[arg(long, value_name = "AGO")]
    pub until: Option<String>,
    /// The newest decisions at most
    #[arg(long, default_value_t = 100_000)]
    pub limit: u64,
    /// Differences that the report shows one by one
    #[arg(long, default_value_t = 20)]
    pub examples: usize,
    /// Exit with 1 where anything would change
    #[arg(long)]
    pub expect_same: bool,
    #[command(flatten)]
    pub target: Target,
}

#[derive(Debug, clap::Args)]
pub struct Shadow {
    /// The candidate, TOML; without one, what the shadow under way has seen
    #[arg(conflicts_with = "stop")]
    pub file: Option<PathBuf>,
    /// How much of one core it may use; what it has no time for it does not see
    #[arg(long, value_name = "SHARE", requires = "file")]
    pub cpu_share: Option<f64>,
    /// End it
    #[arg(long)]
    pub stop: bool,
    #[command(flatten)]
    pub target: Target,
}

#[derive(Debug, clap::Args)]
pub struct Canary {
    /// The candidate, TOML; without one, how the canary under way does
    #[arg(conflicts_with_all = ["abort", "promote"])]
    pub file: Option<PathBuf>,
    /// Percent of the recipients, rising
    #[arg(long, value_delimiter = ',', value_name = "PERCENT", requires = "file")]
    pub steps: Vec<f64>,
    /// Decisions of the candidate that a step takes at least
    #[arg(long, value_name = "N", requires = "file")]
    pub step_messages: Option<u64>,
    /// Seconds that a step takes at least
    #[arg(long, value_name = "N", requires = "file")]
    pub step_seconds: Option<u64>,
    /// Decisions on both sides before they are compared
    #[arg(long, value_name = "N", requires = "file")]
    pub min_messages: Option<u64>,
    /// Decisions with a failing plugin, 0.0 to 1.0
    #[arg(long, value_name = "RATE", requires = "file")]
    pub max_fault_rate: Option<f64>,
    /// Refused, held, dropped or deferred, above the policy in force
    #[arg(long, value_name = "RATE", requires = "file")]
    pub max_refusal_rate: Option<f64>,
    /// Receipts that are no delivery, above the policy in force
    #[arg(long, value_name = "RATE", requires = "file")]
    pub max_failed_receipt_rate: Option<f64>,
    /// Price of a segment, as a multiple of the policy in force's
    #[arg(long, value_name = "TIMES", requires = "file")]
    pub max_cost_per_segment: Option<f64>,
    /// End it; the policy in force decides everything
    #[arg(long)]
    pub abort: bool,
    /// Put it in force for everybody now
    #[arg(long, conflicts_with = "abort")]
    pub promote: bool,
    #[command(flatten)]
    pub target: Target,
}

#[derive(Debug, clap::Args)]
pub struct Export {
    /// The folder to make: policy.toml, its components and its tables
    pub folder: PathBuf,
    #[command(flatten)]
    pub target: Target,
}

pub async fn replay(args: Replay) -> Result<(), Failure> {
    let client = Client::new(&args.target)?;
    let now = Clock::system().now();
    let mut body = json!({
        "since": when(&args.since, now)?,
        "limit": args.limit,
        "examples": args.examples,
    });
    if let Some(until) = &args.until {
        body["until"] = when(until, now)?.into();
    }
    if let Some(file) = &args.file {
        body["policy"] = uploaded(&client, file).await?;
    }
    let report = client.post("/v1/policy/replay", &body).await?;
    print(&report, args.target.json, replay_text);
    match report["different"].as_u64() {
        Some(n) if n > 0 && args.expect_same => {
            Err(Failure::Failed(format!("{n} decisions would change")))
        }
        _ => Ok(()),
    }
}

pub async fn shadow(args: Shadow) -> Result<(), Failure> {
    const PATH: &str = "/v1/policy/shadow";
    let client = Client::new(&args.target)?;
    let shown = if let Some(file) = &args.file {
        let mut body = json!({ "policy": uploaded(&client, file).await? });
        if let Some(share) = args.cpu_share {
            body["cpu_share"] = share.into();
        }
        put(&client, PATH, &body).await?
    } else if args.stop {
        delete(&client, PATH).await?
    } else {
        client.get(PATH).await?
    };
    print(&shown, args.target.json, shadow_text);
    Ok(())
}

pub async fn canary(args: Canary) -> Result<(), Failure> {
    const PATH: &str = "/v1/policy/canary";
    let client = Client::new(&args.target)?;
    if args.promote {
        let done = client
            .post("/v1/policy/canary/promote", &Value::Null)
            .await?;
        print(&done, args.target.json, |d| {
            format!("policy set {} is in force for everybody", text(d, "set"))
        });
        return Ok(());
    }
    if args.abort {
        let done = delete(&client, PATH).await?;
        print(&done, args.target.json, |d| {
            format!("the canary of {} is over", text(d, "set"))
        });
        return Ok(());
    }
    let shown = match &args.file {
        Some(file) => {
            let policy = uploaded(&client, file).await?;
            let body = json!({ "policy": policy, "canary": settings(&args) });
            put(&client, PATH, &body).await?
        }
        None => client.get(PATH).await?,
    };
    print(&shown, args.target.json, canary_text);
    Ok(())
}

fn settings(args: &Canary) -> Value {
    let mut settings = json!({});
    let mut guards = json!({});
    let set = |into: &mut Value, name: &str, value: Option<Value>| {
        if let Some(value) = value {
            into[name] = value;
        }
    };
    let steps = (!args.steps.is_empty()).then(|| json!(args.steps));
    set(&mut settings, "steps", steps);
    let numbers = [
        ("step_messages", args.step_messages),
        ("step_seconds", args.step_seconds),
        ("min_messages", args.min_messages),
    ];
    for (name, value) in numbers {
        set(&mut settings, name, value.map(Value::from));
    }
    let rates = [
        ("fault_rate", args.max_fault_rate),
        ("refusal_rate", args.max_refusal_rate),
        ("failed_receipt_rate", args.max_failed_receipt_rate),
        ("cost_per_segment", args.max_cost_per_segment),
    ];
    for (name, value) in rates {
        set(&mut guards, name, value.map(Value::from));
    }
    settings["guards"] = guards;
    settings
}

/// The policy in force as a folder that stands for itself: for `explain` on another machine, or to
/// be kept under version control.
pub async fn export(args: Export) -> Result<(), Failure> {
    let client = Client::new(&args.target)?;
    let shown = client.get("/v1/policy").await?;
    let spec = PolicySpec::from_json(shown["policy"].to_string().as_bytes());
    let mut spec = spec.map_err(|e| Failure::Failed(e.to_string()))?;
    let plain = |name: &&String| {
        let good = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        !name.is_empty() && name.bytes().all(good)
    };
    let mut names = spec
        .plugins
        .iter()
        .map(|p| &p.name)
        .chain(spec.tables.keys());
    // They become names of files, and the server is somebody else's machine.
    if let Some(odd) = names.find(|name| !plain(name)) {
        return Err(Failure::Failed(format!("{odd:?} is no name of a policy")));
    }
    let made = std::fs::create_dir_all(&args.folder);
    made.map_err(|e| Failure::Failed(format!("{}: {e}", args.folder.display())))?;
    for plugin in &mut spec.plugins {
        let previous = plugin.previous.as_mut();
        let previous = previous.map(|p| ("-previous", &mut p.path, &mut p.digest));
        let own = ("", &mut plugin.path, &mut plugin.digest);
        for (ending, path, digest) in std::iter::once(own).chain(previous) {
            let Some(digest) = digest.take() else {
                continue;
            };
            let file = format!("{}{ending}.wasm", plugin.name);
            let from = format!("/v1/plugins/{}", escaped(&digest));
            write(&args.folder.join(&file), &client.bytes(&from).await?)?;
            *path = Some(file);
        }
    }
    for (name, table) in &mut spec.tables {
        if let Some(digest) = table.digest.take() {
            let file = format!("{name}.csv");
            let bytes = client
                .bytes(&format!("/v1/tables/{}", escaped(&digest)))
                .await?;
            write(&args.folder.join(&file), &bytes)?;
            table.file = Some(file);
        }
    }
    let toml = toml::to_string(&spec)
        .map_err(|e| Failure::Failed(format!("the policy has no TOML: {e}")))?;
    let path = args.folder.join("policy.toml");
    write(&path, toml.as_bytes())?;
    let answer = json!({ "set": shown["id"], "file": path });
    print(&answer, args.target.json, |a| {
        format!("policy set {} is in {}", text(a, "set"), text(a, "file"))
    });
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let written = std::fs::write(path, bytes);
    written.map_err(|e| Failure::Failed(format!("{}: {e}", path.display())))
}

async fn put(client: &Client, path: &str, body: &Value) -> Result<Value, Failure> {
    let json = [("content-type", "application/json")];
    let body = Bytes::from(body.to_string());
    client.call(Method::PUT, path, &json, body).await
}

async fn delete(client: &Client, path: &str) -> Result<Value, Failure> {
    client.call(Method::DELETE, path, &[], Bytes::new()).await
}

/// `24h` ago, or a time as it is, in RFC 3339.
fn when(text: &str, now: Timestamp) -> Result<String, Failure> {
    if text.contains('T') {
        return Ok(text.to_owned());
    }
    let bad = || {
        Failure::Usage(format!(
            "{text:?} is no time: 90s, 30m, 24h, 7d, or RFC 3339"
        ))
    };
    let (count, unit) = text
        .split_at_checked(text.len().saturating_sub(1))
        .ok_or_else(bad)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(bad()),
    };
    let count: u64 = count.parse().map_err(|_| bad())?;
    let ago = Duration::from_secs(count.saturating_mul(seconds));
    let ago = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
    let at = i64::try_from(now.millis().saturating_sub(ago)).map_err(|_| bad())?;
    let at = jiff::Timestamp::from_millisecond(at).map_err(|_| bad())?;
    Ok(at.to_string())
}

// ---------------------------------------------------------------------------- in words

fn replay_text(report: &Value) -> String {
    let number = |name: &str| report[name].as_u64().unwrap_or_default();
    let mut out = format!(
        "candidate {}\n{} of {} recorded decisions replayed, {} to {}",
        text(report, "candidate"),
        number("replayed"),
        number("recorded"),
        text(report, "first"),
        text(report, "last"),
    );
    if number("damaged_blocks") > 0 {
        let damaged = number("damaged_blocks");
        out.push_str(&format!(
            "\n{damaged} blocks of the recording cannot be read"
        ));
    }
    let inbound = &report["inbound"];
    if let Some(replayed) = inbound["replayed"].as_u64().filter(|n| *n > 0) {
        out.push_str(&format!(
            "\n{replayed} of them about mobile-originated messages, of which {} would change",
            inbound["different"]
        ));
    }
    out.push_str(&tally_text(report));
    for moved in items(inbound, "actions") {
        let (before, after) = (text(moved, "before"), text(moved, "after"));
        out.push_str(&format!(
            "\n  inbound     {before} -> {after}: {}",
            moved["count"]
        ));
    }
    out
}

fn shadow_text(shadow: &Value) -> String {
    let number = |name: &str| shadow[name].as_u64().unwrap_or_default();
    format!(
        "shadow {} since {}\n{} decisions shown, {} for which it had no time{}",
        text(shadow, "set"),
        text(shadow, "since"),
        number("shown"),
        number("not_shown"),
        tally_text(shadow),
    )
}

fn tally_text(tally: &Value) -> String {
    let number = |name: &str| tally[name].as_u64().unwrap_or_default();
    let mut out = format!("\n{} would change", number("different"));
    if number("not_comparable") > 0 {
        let count = number("not_comparable");
        out.push_str(&format!(
            "; {count} say nothing, because a plugin had failed when they were made"
        ));
    }
    for (change, count) in tally["by_change"].as_object().into_iter().flatten() {
        out.push_str(&format!("\n  {change:<11} {count}"));
    }
    for (name, title) in [("carriers", "where to"), ("codes", "refusals")] {
        for moved in items(tally, name) {
            let (before, after) = (text(moved, "before"), text(moved, "after"));
            out.push_str(&format!(
                "\n  {title:<11} {before} -> {after}: {}",
                moved["count"]
            ));
        }
    }
    for (name, title) in [("price_micros", "price"), ("segments", "segments")] {
        let (before, after) = (&tally[name]["before"], &tally[name]["after"]);
        if before != after {
            let shown = |v: &Value| match name {
                "price_micros" => format!("{:.4}", v.as_f64().unwrap_or_default() / 1e6),
                _ => v.to_string(),
            };
            let (before, after) = (shown(before), shown(after));
            out.push_str(&format!("\n  {title:<11} {before} -> {after} altogether"));
        }
    }
    for fault in items(tally, "candidate_faults") {
        let (entry, why) = (text(fault, "entry"), text(fault, "fault"));
        out.push_str(&format!(
            "\n  fault       {entry}: {why}: {}",
            fault["count"]
        ));
    }
    for example in items(tally, "examples").iter().take(EXAMPLES_TOLD) {
        let changes: Vec<&str> = items(example, "changes")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        out.push_str(&format!(
            "\n  {} {} {} ({})\n    before {}\n    after  {}",
            text(example, "id"),
            text(example, "recipient"),
            text(example, "class"),
            changes.join(", "),
            told_text(&example["before"]),
            told_text(&example["after"]),
        ));
    }
    out
}

fn told_text(told: &Value) -> String {
    let carriers: Vec<&str> = items(told, "carriers")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let mut out = text(told, "outcome").to_owned();
    for part in [text(told, "code"), &carriers.join(", ")] {
        if !part.is_empty() {
            out.push(' ');
            out.push_str(part);
        }
    }
    if !text(told, "reason").is_empty() {
        out.push_str(&format!(" ({})", text(told, "reason")));
    }
    out
}

fn canary_text(canary: &Value) -> String {
    let steps = items(&canary["settings"], "steps").len();
    let arm = |title: &str, arm: &Value| {
        let rate = |name: &str| match arm[name].as_f64() {
            Some(rate) => format!("{:.2} %", rate * 100.0),
            None => "-".to_owned(),
        };
        let price = arm["price_micros_per_segment"].as_f64();
        let price = price.map_or("-".to_owned(), |p| format!("{:.5}", p / 1e6));
        format!(
            "\n  {title:<10} {:>8} decisions  faults {}  refused {}  failed receipts {}  a segment {price}",
            arm["decisions"].as_u64().unwrap_or_default(),
            rate("fault_rate"),
            rate("refusal_rate"),
            rate("failed_receipt_rate"),
        )
    };
    format!(
        "canary {} since {}\n  step {} of {steps}: {} % of the recipients{}{}",
        text(canary, "set"),
        text(canary, "since"),
        canary["step"],
        canary["percent"],
        arm("candidate", &canary["candidate"]),
        arm("in force", &canary["in_force"]),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_as_ago_or_as_it_is() {
        let now = Timestamp(1_700_000_000_000);
        assert_eq!(when("90s", now).unwrap(), "2023-11-14T22:11:50Z");
        assert_eq!(when("7d", now).unwrap(), "2023-11-07T22:13:20Z");
        assert_eq!(
            when("2026-01-01T00:00:00Z", now).unwrap(),
            "2026-01-01T00:00:00Z"
        );
        for bad in ["", "h", "5", "5w", "-1h", "é"] {
            assert!(matches!(when(bad, now), Err(Failure::Usage(_))), "{bad}");
        }
        assert!(
            when("99999999999999999d", now).is_ok(),
            "before the epoch is the epoch"
        );
    }

    #[test]
    fn a_report_is_told_by_what_changes() {
        let report = json!({
            "candidate": "ab", "replayed": 10, "recorded": 10, "first": "a", "last": "b", "different": 2,
            "by_change": { "carrier": 2 }, "carriers": [{ "before": "north", "after": "south", "count": 2 }],
            "price_micros": { "before": 1_000_000, "after": 2_500_000 }, "segments": { "before": 3, "after": 3 },
            "examples": [{ "id": "0a", "recipient": "+44770…23", "class": "otp", "changes": ["carrier"],
                "before": { "outcome": "send", "carriers": ["north"], "reason": "cheapest" },
                "after": { "outcome": "send", "carriers": ["south"], "reason": "" } }],
        });
        let told = replay_text(&report);
        for part in [
            "2 would change",
            "north -> south: 2",
            "1.0000 -> 2.5000",
            "before send north (cheapest)",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
        assert!(!told.contains("segments"), "{told}");
    }
}

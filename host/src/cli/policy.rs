//! `heliograph policy` and `heliograph plugin deploy|list`: what an operator changes on a running
//! server. A policy file's paths are read here and uploaded, so that the server may be elsewhere.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use axum::body::Bytes;
use axum::http::Method;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::client::{Client, Failure, Target, escaped, query};
use super::send::{print, text};
use super::trial;
use crate::pipeline::signatures::beside;
use crate::plugin::{ComponentLimits, PolicySpec, Signature, Signer, signers_text};

/// The server takes no larger ones, whatever its settings.
const PLUGIN_OCTETS_MAX: u64 = (ComponentLimits::MIB_CEILING as u64) << 20;
const TABLE_OCTETS_MAX: u64 = 64 << 20;
const POLICY_OCTETS_MAX: u64 = 1 << 20;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show the policy in force
    #[command(after_help = "Example:\n  heliograph policy show")]
    Show(Plain),
    /// Check a policy file as `apply` does; put nothing in force
    #[command(after_help = "Example:\n  heliograph policy check policy.toml")]
    Check(File),
    /// Put a policy file in force, whole or not at all
    #[command(after_help = "Example:\n  heliograph policy apply policy.toml")]
    Apply(File),
    /// Run recorded decisions through a candidate and tell what would change
    #[command(after_help = "Example:\n  heliograph policy replay candidate.toml --since 24h")]
    Replay(trial::Replay),
    /// Show a candidate live decisions; it changes nothing
    #[command(after_help = "Example:\n  heliograph policy shadow candidate.toml")]
    Shadow(trial::Shadow),
    /// Let a candidate decide a share of the traffic, step by step
    #[command(
        after_help = "Example:\n  heliograph policy canary candidate.toml --steps 1,10,50 --step-seconds 60"
    )]
    Canary(Box<trial::Canary>),
    /// Write the policy in force into a folder that stands for itself
    #[command(after_help = "Example:\n  heliograph policy export live-policy")]
    Export(trial::Export),
    /// List the policies that were in force, newest first
    #[command(after_help = "Example:\n  heliograph policy history")]
    History(Plain),
    /// Back to the policy before
    #[command(
        after_help = "Example:\n  heliograph policy rollback --set 5f0c3a9d8e7b6c5d4e3f2a1b0c9d8e7f"
    )]
    Rollback(Rollback),
}

#[derive(Debug, clap::Args)]
pub struct Plain {
    #[command(flatten)]
    pub target: Target,
}

#[derive(Debug, clap::Args)]
pub struct File {
    /// The policy, TOML; its paths are relative to it
    pub file: PathBuf,
    #[command(flatten)]
    pub target: Target,
}

#[derive(Debug, clap::Args)]
pub struct Rollback {
    /// The id of the set to go back to; the one before the present one where none is given
    #[arg(long, value_name = "ID")]
    pub set: Option<String>,
    #[command(flatten)]
    pub target: Target,
}

/// Upload components; they stay inert until a policy names them
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  heliograph plugin deploy target/plugins/content-filter.wasm")]
pub struct Deploy {
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub target: Target,
}

pub async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Show(plain) => {
            let shown = Client::new(&plain.target)?.get("/v1/policy").await?;
            print(&shown, plain.target.json, policy_text);
        }
        Command::Check(file) => {
            let client = Client::new(&file.target)?;
            let spec = uploaded(&client, &file.file).await?;
            let checked = client.post("/v1/policy/check", &spec).await?;
            print(&checked, file.target.json, |c| {
                let state = if c["in_force"] == true {
                    ", in force"
                } else {
                    ""
                };
                let good = format!(
                    "{}: good (policy set {}{state})",
                    file.file.display(),
                    text(c, "set")
                );
                good + &notes_text(c)
            });
        }
        Command::Apply(file) => {
            let client = Client::new(&file.target)?;
            let spec = uploaded(&client, &file.file).await?;
            let body = Bytes::from(spec.to_string());
            let json = [("content-type", "application/json")];
            let applied = client.call(Method::PUT, "/v1/policy", &json, body).await?;
            print(&applied, file.target.json, applied_text);
        }
        Command::Replay(args) => trial::replay(args).await?,
        Command::Shadow(args) => trial::shadow(args).await?,
        Command::Canary(args) => trial::canary(*args).await?,
        Command::Export(args) => trial::export(args).await?,
        Command::History(plain) => {
            let page = Client::new(&plain.target)?
                .get("/v1/policy/history")
                .await?;
            print(&page, plain.target.json, history_text);
        }
        Command::Rollback(back) => {
            let path = format!("/v1/policy/rollback{}", query(&[("set", back.set)]));
            let applied = Client::new(&back.target)?.post(&path, &Value::Null).await?;
            print(&applied, back.target.json, applied_text);
        }
    }
    Ok(())
}

pub async fn deploy(args: Deploy) -> Result<(), Failure> {
    let client = Client::new(&args.target)?;
    let mut staged = Vec::new();
    for file in &args.files {
        let bytes = read(file, PLUGIN_OCTETS_MAX)?;
        staged.push(stage(&client, file, bytes).await?);
    }
    print(&Value::from(staged), args.target.json, |all| {
        all.as_array()
            .into_iter()
            .flatten()
            .map(plugin_text)
            .collect::<Vec<_>>()
            .join("\n")
    });
    Ok(())
}

pub async fn list(args: Plain) -> Result<(), Failure> {
    let page = Client::new(&args.target)?.get("/v1/plugins").await?;
    print(&page, args.target.json, |page| match items(page, "items") {
        [] => "no plugins were uploaded".to_owned(),
        some => some.iter().map(plugin_text).collect::<Vec<_>>().join("\n"),
    });
    Ok(())
}

/// The policy of a file as JSON, everything that it reads from files uploaded and named by digest.
pub(super) async fn uploaded(client: &Client, file: &Path) -> Result<Value, Failure> {
    with_uploads(client, Some(file), read_spec(file)?).await
}

/// A policy file.
pub(super) fn read_spec(file: &Path) -> Result<PolicySpec, Failure> {
    let text_of = |bytes: Vec<u8>| {
        String::from_utf8(bytes)
            .map_err(|_| Failure::Failed(format!("{}: is not UTF-8", file.display())))
    };
    let toml = text_of(read(file, POLICY_OCTETS_MAX)?)?;
    PolicySpec::from_toml(&toml).map_err(|e| Failure::Failed(format!("{}: {e}", file.display())))
}

/// The policy as JSON, everything that it reads from files uploaded and named by digest. Its paths
/// are relative to `file`.
pub(super) async fn with_uploads(
    client: &Client,
    file: Option<&Path>,
    mut spec: PolicySpec,
) -> Result<Value, Failure> {
    let base = file.and_then(Path::parent).unwrap_or(Path::new(""));
    let mut known: BTreeMap<PathBuf, String> = BTreeMap::new();
    let named = spec.plugins.iter_mut().flat_map(|plugin| {
        let previous = plugin.previous.as_mut();
        let previous = previous.map(|v| (&mut v.path, &mut v.digest));
        std::iter::once((&mut plugin.path, &mut plugin.digest)).chain(previous)
    });
    for (path, digest_of) in named {
        let Some(path) = path.take() else {
            continue;
        };
        let path = base.join(path);
        let digest = match known.get(&path) {
            Some(digest) => digest.clone(),
            None => {
                let staged = stage(client, &path, read(&path, PLUGIN_OCTETS_MAX)?).await?;
                let digest = text(&staged, "digest").to_owned();
                known.insert(path, digest.clone());
                digest
            }
        };
        *digest_of = Some(digest);
    }
    for table in spec.tables.values_mut() {
        let Some(path) = table.file.take() else {
            continue;
        };
        let bytes = read(&base.join(path), TABLE_OCTETS_MAX)?;
        // Under a name of its own: a name that is in use would be in force at once.
        let digest = Sha256::digest(&bytes);
        let name = digest
            .iter()
            .take(8)
            .fold("upload-".to_owned(), |name, octet| {
                format!("{name}{octet:02x}")
            });
        let headers = [("content-type", "text/csv")];
        let stored = client
            .call(
                Method::PUT,
                &format!("/v1/tables/{}", escaped(&name)),
                &headers,
                bytes.into(),
            )
            .await?;
        table.digest = Some(text(&stored, "digest").to_owned());
    }
    serde_json::to_value(&spec).map_err(|e| Failure::Failed(e.to_string()))
}

pub(super) async fn stage(client: &Client, file: &Path, bytes: Vec<u8>) -> Result<Value, Failure> {
    let signatures = beside(file).map_err(Failure::Failed)?;
    let signatures: Vec<String> = signatures.iter().map(Signature::header).collect();
    let mut headers = vec![("content-type", "application/wasm")];
    headers.extend(
        signatures
            .iter()
            .map(|s| ("x-heliograph-signature", s.as_str())),
    );
    client
        .call(Method::POST, "/v1/plugins", &headers, bytes.into())
        .await
        .map_err(|failure| match failure {
            Failure::Refused(problem) => {
                Failure::Failed(format!("{}: {}", file.display(), text(&problem, "detail")))
            }
            Failure::Usage(_) | Failure::Failed(_) => failure,
        })
}

/// Commands run on a runtime of their own: a blocking read holds up nobody.
fn read(file: &Path, max: u64) -> Result<Vec<u8>, Failure> {
    let failed = |why: String| Failure::Failed(format!("{}: {why}", file.display()));
    let opened = std::fs::File::open(file).map_err(|e| failed(e.to_string()))?;
    let mut bytes = Vec::new();
    opened
        .take(max + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| failed(e.to_string()))?;
    if bytes.len() as u64 > max {
        return Err(failed(format!(
            "has more than {max} octets, the most that a server takes"
        )));
    }
    Ok(bytes)
}

fn policy_text(policy: &Value) -> String {
    let mut out = format!("policy set {}", text(policy, "id"));
    let route: Vec<&str> = items(policy, "default_route")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    if !route.is_empty() {
        out.push_str(&format!("\n  default route {}", route.join(", ")));
    }
    for table in items(policy, "tables") {
        out.push_str(&format!(
            "\n  table {} ({} rows)",
            text(table, "name"),
            table["rows"]
        ));
    }
    for plugin in items(policy, "plugins") {
        for hook in items(plugin, "hooks") {
            if hook["stats"].is_object() {
                out.push_str(&hook_text(plugin, hook, &hook["stats"]));
            }
            for own in items(hook, "accounts") {
                out.push_str(&hook_text(plugin, hook, own));
            }
        }
        out.push_str(&format!("\n    {}", signed_text(plugin)));
    }
    for used in items(policy, "usage") {
        out.push_str(&format!(
            "\n  account {}: its own plugins used {} ms in {} calls, {} refused by its quota",
            text(used, "account"),
            used["cpu_ms"],
            used["calls"],
            used["refused"],
        ));
    }
    out + &notes_text(policy)
}

/// `signed by ops (0011223344556677)`, or `unsigned`.
fn signed_text(plugin: &Value) -> String {
    let signers: Vec<Signer> =
        serde_json::from_value(plugin["signatures"].clone()).unwrap_or_default();
    signers_text(&signers)
}

fn notes_text(answer: &Value) -> String {
    let note = |note: &Value| {
        let (entry, pointer) = (text(note, "entry"), text(note, "pointer"));
        let place = if entry.is_empty() { pointer } else { entry };
        format!("\n  note: {place}: {}", text(note, "detail"))
    };
    items(answer, "notes").iter().map(note).collect()
}

fn hook_text(plugin: &Value, hook: &Value, stats: &Value) -> String {
    let micros = |name: &str| stats[name].as_f64().unwrap_or_default() / 1_000.0;
    let skipped = match text(stats, "breaker") {
        "open" | "probing" => "  skipped: it keeps failing",
        _ => "",
    };
    let account = match text(stats, "account") {
        "" => String::new(),
        account => format!("  for account {account}"),
    };
    let line = format!(
        "\n  {:<17} {:<26} fail {:<8} {:>9} calls  p50 {:.1} µs  p99 {:.1} µs{account}{skipped}",
        text(hook, "hook"),
        format!("{} {}", text(plugin, "name"), text(plugin, "version")),
        text(hook, "fail"),
        stats["calls"].as_u64().unwrap_or_default(),
        micros("p50_ns"),
        micros("p99_ns"),
    );
    let mut out = line + &trouble_text(stats);
    if let Some(granted) = stats["state"]["granted"].as_u64() {
        let used = stats["state"]["bytes"].as_u64().unwrap_or_default();
        out.push_str(&format!("\n      state {used} of {granted} bytes"));
    }
    let previous = &stats["previous"];
    if previous.is_object() {
        out.push_str(&format!(
            "\n      version {} stands in: {} calls",
            text(previous, "version"),
            previous["calls"]
        ));
        out.push_str(&trouble_text(previous));
    }
    out
}

/// How the breaker stands, where there is anything to tell.
fn trouble_text(stats: &Value) -> String {
    let counts = |of: &Value| {
        let all = of.as_object().into_iter().flatten();
        let each: Vec<String> = all.map(|(kind, n)| format!("{n} {kind}")).collect();
        each.join(", ")
    };
    let mut out = String::new();
    let faults = counts(&stats["window"]["faults"]);
    if !faults.is_empty() {
        out.push_str(&format!(
            "\n      faults in the last {} calls: {faults}",
            stats["window"]["calls"]
        ));
    }
    if let state @ ("open" | "probing") = text(stats, "breaker") {
        out.push_str(&format!(
            "\n      breaker {state} since {}, next probe {}",
            text(stats, "breaker_since"),
            text(stats, "next_probe")
        ));
    }
    match text(stats, "last_fault") {
        "" => {}
        fault => out.push_str(&format!("\n      last fault: {fault}")),
    }
    out
}

fn applied_text(applied: &Value) -> String {
    let state = match applied["changed"].as_bool() {
        Some(false) => format!("policy set {} was in force already", text(applied, "set")),
        _ => format!("policy set {} is in force", text(applied, "set")),
    };
    state + &notes_text(applied)
}

fn history_text(page: &Value) -> String {
    let line = |entry: &Value| {
        let plugins: Vec<String> = items(entry, "plugins")
            .iter()
            .map(|p| format!("{} {}", text(p, "name"), text(p, "version")))
            .collect();
        let plugins = if plugins.is_empty() {
            "no plugins".to_owned()
        } else {
            plugins.join(", ")
        };
        format!(
            "{}  {}  {}  {plugins}",
            text(entry, "at"),
            text(entry, "set"),
            text(entry, "by")
        )
    };
    match items(page, "items") {
        [] => "no policy was ever put in force".to_owned(),
        some => some.iter().map(line).collect::<Vec<_>>().join("\n"),
    }
}

fn plugin_text(plugin: &Value) -> String {
    let list = |name: &str| {
        let named: Vec<&str> = items(plugin, name)
            .iter()
            .filter_map(Value::as_str)
            .collect();
        if named.is_empty() {
            "none".to_owned()
        } else {
            named.join(", ")
        }
    };
    format!(
        "{} {}  {}\n  digest  {}\n  hooks   {}\n  imports {}\n  {}",
        text(plugin, "name"),
        text(plugin, "version"),
        text(plugin, "summary"),
        text(plugin, "digest"),
        list("hooks"),
        list("imports"),
        signed_text(plugin),
    )
}

pub(super) fn items<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_policy_is_told_with_its_hooks() {
        let policy = json!({
            "id": "ab", "default_route": ["north"], "tables": [{ "name": "rates", "rows": 2 }],
            "plugins": [{ "name": "words", "version": "1.0.0",
                "signatures": [{ "key": "0011223344556677", "name": "ops", "trusted": true }], "hooks": [{ "hook": "content-filter", "fail": "closed",
                "stats": { "calls": 7, "p50_ns": 2_500, "p99_ns": 9_000, "breaker": "open",
                    "breaker_since": "T1", "next_probe": "T2", "last_fault": "the plugin trapped",
                    "window": { "calls": 20, "faults": { "trap": 5 } },
                    "state": { "bytes": 3, "granted": 10 },
                    "previous": { "version": "0.9.0", "calls": 4 } },
                "accounts": [{ "account": "acme", "calls": 2, "breaker": "closed" }] }] }],
            "usage": [{ "account": "acme", "cpu_ms": 12, "calls": 2, "refused": 1 }],
            "notes": [{ "pointer": "/plugin/0/fail", "entry": "law", "detail": "compliance is open" }],
        });
        let told = policy_text(&policy);
        for part in [
            "policy set ab",
            "default route north",
            "table rates (2 rows)",
            "words 1.0.0",
            "7 calls",
            "p50 2.5 µs",
            "keeps failing",
            "signed by ops (0011223344556677)",
            "breaker open since T1, next probe T2",
            "last 20 calls: 5 trap",
            "last fault: the plugin trapped",
            "state 3 of 10 bytes",
            "version 0.9.0 stands in: 4 calls",
            "for account acme",
            "account acme: its own plugins used 12 ms in 2 calls, 1 refused",
            "note: law: compliance is open",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let failure = read(Path::new("no/such/file.wasm"), 10).unwrap_err();
        assert!(
            failure.to_string().contains("no/such/file.wasm"),
            "{failure}"
        );
    }

    #[test]
    fn a_file_that_is_too_large_is_refused_before_it_is_sent() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [0; 11]).unwrap();
        assert!(
            read(file.path(), 10)
                .unwrap_err()
                .to_string()
                .contains("more than 10 octets")
        );
        assert_eq!(read(file.path(), 11).unwrap().len(), 11);
    }
}

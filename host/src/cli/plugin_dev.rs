//! `heliograph plugin dev`: at every save a plugin is built, its cases are run, and the policy of a
//! running server is applied again with the new component in it. What fails is told, and the next save
//! is waited for; the server keeps what it had.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::http::Method;
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::client::{Client, Failure, Target};
use super::plugin::{self, Built, PluginError};
use super::plugin_test::{FOLDER, Options, Subject, Tester, failing, tell};
use super::policy;
use super::send::text;
use super::toolchain::{self, Toolchain};
use crate::plugin::PolicySpec;

/// How long the files must be left alone before a build begins: editors write in several steps.
const SETTLE: Duration = Duration::from_millis(200);
/// Folders of a crate that are watched.
const WATCHED_MAX: usize = 64;

/// Build, test and apply a plugin at every save
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  heliograph plugin dev no-links --name no-links")]
pub struct Args {
    /// The plugin's crate
    #[arg(value_name = "PATH", default_value = ".")]
    pub path: PathBuf,
    /// The policy's entry that gets the new component; the crate's name unless given
    #[arg(long, value_name = "ENTRY")]
    pub name: Option<String>,
    /// Apply this policy file with the new component in it, instead of the policy in force
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// The folder of the cases; the crate's own `cases` unless given
    #[arg(long, value_name = "DIR")]
    pub cases: Option<PathBuf>,
    /// Apply it even where a case fails
    #[arg(long)]
    pub force: bool,
    /// Do it once and end, with exit code 1 where nothing was applied
    #[arg(long)]
    pub once: bool,
    /// Fetch and install nothing for the build
    #[arg(long)]
    pub offline: bool,
    #[command(flatten)]
    pub target: Target,
}

pub async fn run(args: Args) -> Result<(), Failure> {
    let dev = Dev::new(args)?;
    if dev.args.once {
        return dev.round().await;
    }
    let changed = Arc::new(Notify::new());
    // Watched before the first build, so that no save is missed.
    let mut watch = Watch::new(changed.clone())?;
    watch.follow(&dev.args)?;
    loop {
        if let Err(failure) = dev.round().await {
            eprintln!("{failure}");
        }
        // A folder made since then is followed from now on.
        watch.follow(&dev.args)?;
        eprintln!("waiting for the next save of {}", dev.args.path.display());
        changed.notified().await;
        while tokio::time::timeout(SETTLE, changed.notified())
            .await
            .is_ok()
        {}
    }
}

struct Dev {
    args: Args,
    toolchain: Toolchain,
    tester: Tester,
    client: Client,
}

impl Dev {
    fn new(args: Args) -> Result<Dev, Failure> {
        Ok(Dev {
            client: Client::new(&args.target)?,
            toolchain: toolchain::find(args.offline).map_err(PluginError::from)?,
            tester: Tester::new()?,
            args,
        })
    }

    /// From the sources to the policy in force. An error is one of this round alone.
    async fn round(&self) -> Result<(), Failure> {
        let started = Instant::now();
        let built = self.build()?;
        self.say(&format!(
            "built    {} in {:.1} s ({} KiB, {})",
            built.name,
            started.elapsed().as_secs_f64(),
            built.inspection.size.div_ceil(1024),
            short(&built.inspection.digest)
        ));
        let passed = self.test(&built).await?;
        let applied = self.apply(&built).await?;
        if self.args.target.json {
            let line = json!({
                "file": built.file, "digest": built.inspection.digest, "cases": passed,
                "set": applied["set"], "changed": applied["changed"],
            });
            tell(&format!("{line}\n"));
        }
        Ok(())
    }

    fn say(&self, line: &str) {
        if !self.args.target.json {
            tell(&format!("{line}\n"));
        }
    }

    fn build(&self) -> Result<Built, Failure> {
        let paths = std::slice::from_ref(&self.args.path);
        let mut all = plugin::built(&self.toolchain, paths, None, self.args.offline)?;
        match (all.pop(), all.len()) {
            (Some(built), 0) => Ok(built),
            (_, more) => Err(Failure::Usage(format!(
                "{} has {} plugins: name the crate of one",
                self.args.path.display(),
                more + 1
            ))),
        }
    }

    /// The cases that passed.
    async fn test(&self, built: &Built) -> Result<usize, Failure> {
        let cases = match &self.args.cases {
            Some(folder) => folder.clone(),
            None => built.directory.join(FOLDER),
        };
        if self.args.cases.is_none() && !cases.is_dir() {
            self.say(&format!("cases    none in {}", cases.display()));
            return Ok(0);
        }
        let subject = Subject {
            name: built.name.clone(),
            file: built.file.clone(),
            bytes: Arc::new(built.bytes.clone()),
            cases,
            named: true,
        };
        let tested = self.tester.test(&subject, &Options::default()).await?;
        let (all, failed) = (tested.cases.len(), tested.failed());
        if failed == 0 {
            self.say(&format!("cases    {all} passed"));
            return Ok(all);
        }
        eprint!("{}", failing(tested));
        let what = format!("cases    {failed} of {all} failed");
        if !self.args.force {
            return Err(Failure::Failed(format!(
                "{what}: nothing is applied (--force applies it all the same)"
            )));
        }
        self.say(&what);
        Ok(all - failed)
    }

    async fn apply(&self, built: &Built) -> Result<Value, Failure> {
        let name = self.args.name.as_ref().unwrap_or(&built.name);
        let mut spec = match &self.args.policy {
            Some(file) => policy::read_spec(file)?,
            None => self.in_force().await?,
        };
        let Some(entry) = spec.plugins.iter_mut().find(|entry| entry.name == *name) else {
            return Err(self.no_entry(name, built, &spec));
        };
        let staged = policy::stage(&self.client, &built.file, built.bytes.clone()).await?;
        let digest = text(&staged, "digest").to_owned();
        entry.path = None;
        let before = entry.digest.replace(digest.clone());
        let spec = policy::with_uploads(&self.client, self.args.policy.as_deref(), spec).await?;
        let json = [("content-type", "application/json")];
        let body = Bytes::from(spec.to_string());
        let applied = self
            .client
            .call(Method::PUT, "/v1/policy", &json, body)
            .await
            .map_err(|failure| match failure {
                Failure::Refused(_) => Failure::Failed(format!("refused  {failure}")),
                Failure::Usage(_) | Failure::Failed(_) => failure,
            })?;
        let set = text(&applied, "set");
        self.say(&match applied["changed"].as_bool() {
            Some(false) => format!("applied  nothing: policy set {set} is in force already"),
            _ => match before {
                Some(before) => format!(
                    "applied  policy set {set}: {name} {} instead of {}",
                    short(&digest),
                    short(&before)
                ),
                None => format!("applied  policy set {set}: {name} {}", short(&digest)),
            },
        });
        Ok(applied)
    }

    async fn in_force(&self) -> Result<PolicySpec, Failure> {
        let shown = self.client.get("/v1/policy").await?;
        PolicySpec::from_json(shown["policy"].to_string().as_bytes()).map_err(|e| {
            Failure::Failed(format!(
                "the policy in force is not one that this program knows: {e}"
            ))
        })
    }

    fn no_entry(&self, name: &str, built: &Built, spec: &PolicySpec) -> Failure {
        let known: Vec<&str> = spec.plugins.iter().map(|p| p.name.as_str()).collect();
        let known = match known.is_empty() {
            true => "it has none".to_owned(),
            false => format!("it has {}", known.join(", ")),
        };
        let policy = match &self.args.policy {
            Some(file) => file.display().to_string(),
            None => "the policy in force".to_owned(),
        };
        Failure::Failed(format!(
            "{policy} has no entry named {name} ({known}); add this to the policy file, apply it, and save again:\n\n{}",
            entry_text(name, &built.file, &defaults(&built.directory.join(FOLDER)))
        ))
    }
}

/// The entry that a policy lacks, as a policy file has it, with what the cases use.
fn entry_text(name: &str, file: &Path, defaults: &Value) -> String {
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let mut text = format!(
        "[[plugin]]\nname = {}\npath = {}\n",
        json!(name),
        json!(file.display().to_string())
    );
    for field in ["config", "grants"] {
        if let Some(value) = defaults.get(field).filter(|value| !value.is_null()) {
            text.push_str(&format!("{field} = {}\n", inline(value)));
        }
    }
    text
}

/// JSON as a TOML value on one line.
fn inline(value: &Value) -> String {
    match value {
        // TOML has no null; an entry with one is for its author to write.
        Value::Null => "\"\"".to_owned(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(inline).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(fields) if fields.is_empty() => "{}".to_owned(),
        Value::Object(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|(name, value)| format!("{} = {}", key(name), inline(value)))
                .collect();
            format!("{{ {} }}", fields.join(", "))
        }
    }
}

fn key(name: &str) -> String {
    let bare = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    match !name.is_empty() && name.bytes().all(bare) {
        true => name.to_owned(),
        false => json!(name).to_string(),
    }
}

fn defaults(cases: &Path) -> Value {
    std::fs::read(cases.join("defaults.json"))
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or(Value::Null)
}

/// Enough of a digest to tell it from another.
fn short(digest: &str) -> &str {
    digest.get(.."sha256:".len() + 12).unwrap_or(digest)
}

// ---------------------------------------------------------------------------- watching

struct Watch {
    watcher: RecommendedWatcher,
    followed: Vec<PathBuf>,
}

impl Watch {
    fn new(changed: Arc<Notify>) -> Result<Watch, Failure> {
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // What could not be told may have been a change.
            if event.is_ok_and(|event| !matters(&event)) {
                return;
            }
            changed.notify_one();
        })
        .map_err(|e| Failure::Failed(format!("files cannot be watched here: {e}")))?;
        Ok(Watch {
            watcher,
            followed: Vec::new(),
        })
    }

    /// The crate's folder, and every folder in it but the build's own and hidden ones; the cases and
    /// the policy where they are elsewhere.
    fn follow(&mut self, args: &Args) -> Result<(), Failure> {
        let failed = |path: &Path, e: String| Failure::Failed(format!("{}: {e}", path.display()));
        let root = args
            .path
            .canonicalize()
            .map_err(|e| failed(&args.path, e.to_string()))?;
        self.add(&root, RecursiveMode::NonRecursive)
            .map_err(|e| failed(&root, e.to_string()))?;
        let entries = std::fs::read_dir(&root).map_err(|e| failed(&root, e.to_string()))?;
        let folders = entries.flatten().filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let watched = name != "target" && !name.starts_with('.');
            (watched && entry.path().is_dir()).then(|| entry.path())
        });
        for folder in folders.take(WATCHED_MAX) {
            self.add(&folder, RecursiveMode::Recursive)
                .map_err(|e| failed(&folder, e.to_string()))?;
        }
        let policy = args.policy.as_deref().map(|file| match file.parent() {
            Some(folder) if folder != Path::new("") => folder,
            Some(_) | None => Path::new("."),
        });
        for folder in [args.cases.as_deref(), policy].into_iter().flatten() {
            let folder = folder
                .canonicalize()
                .map_err(|e| failed(folder, e.to_string()))?;
            self.add(&folder, RecursiveMode::NonRecursive)
                .map_err(|e| failed(&folder, e.to_string()))?;
        }
        Ok(())
    }

    fn add(&mut self, folder: &Path, mode: RecursiveMode) -> notify::Result<()> {
        if self.followed.iter().any(|known| known == folder) {
            return Ok(());
        }
        self.watcher.watch(folder, mode)?;
        self.followed.push(folder.to_owned());
        Ok(())
    }
}

/// Whether an event may have changed what is built or tested: a read did not, and what cargo and
/// this program write themselves is no news.
fn matters(event: &notify::Event) -> bool {
    let written = match event.kind {
        EventKind::Access(_) => false,
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => true,
    };
    let own = |path: &PathBuf| {
        path.file_name().is_some_and(|name| {
            let name = name.to_string_lossy();
            name == "target" || name == "Cargo.lock" || name.starts_with('.') || name.ends_with('~')
        })
    };
    written && (event.paths.is_empty() || !event.paths.iter().all(own))
}

#[cfg(test)]
mod tests {
    use notify::event::{AccessKind, CreateKind};

    use super::*;

    #[test]
    fn the_entry_to_paste_is_a_policy() {
        let defaults = json!({
            "config": {"order": ["north"], "by country": {"GB": 1.5}, "deep": {}},
            "grants": {"http": {"hosts": ["carrier.example:443"]}},
        });
        let text = entry_text("my-router", Path::new("/x/my-router.wasm"), &defaults);
        let spec = PolicySpec::from_toml(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert_eq!(spec.plugins[0].name, "my-router");
        assert_eq!(spec.plugins[0].config, defaults["config"]);
        let http = spec.plugins[0].grants.http.as_ref().expect("the grant");
        assert_eq!(http.hosts, ["carrier.example:443"]);
        let bare = entry_text("my-router", Path::new("/x/my-router.wasm"), &Value::Null);
        assert!(PolicySpec::from_toml(&bare).is_ok(), "{bare}");
    }

    #[test]
    fn reading_and_building_are_no_news() {
        let event = |kind: EventKind, path: &str| notify::Event {
            kind,
            paths: vec![PathBuf::from(path)],
            attrs: Default::default(),
        };
        let create = EventKind::Create(CreateKind::File);
        assert!(matters(&event(create, "/x/src/lib.rs")));
        assert!(!matters(&event(create, "/x/Cargo.lock")));
        assert!(!matters(&event(create, "/x/src/.lib.rs.swp")));
        assert!(!matters(&event(
            EventKind::Access(AccessKind::Any),
            "/x/src/lib.rs"
        )));
    }
}

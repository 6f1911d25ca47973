//! `heliograph plugin inspect`: all that can be told of a component before it is deployed. What shows
//! without running it comes from `component`; what it says of itself, from the runtime within its limits.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::component::{self, PACKAGE};
use super::plugin::{PluginError, read_component};
use super::sign::{self, Found, State};
use crate::pipeline::signatures::beside;
use crate::plugin::{CompileMode, Engine, EngineLimits, Inspection, LoadError, inspect_component};

/// Instances that the runtime makes room for: one is asked.
const INSTANCES: u32 = 4;

#[derive(Args, Debug)]
#[command(after_help = "Example: heliograph plugin inspect target/plugins/content-filter.wasm")]
pub struct Inspect {
    /// A component.
    pub file: PathBuf,
    /// Public keys to check its signatures with
    #[arg(long, value_name = "NAME.pub", num_args = 1..)]
    pub key: Vec<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Tells what a component serves and wants, who signed it, and what it says of itself.
pub async fn run(args: &Inspect, out: &mut dyn Write) -> Result<(), PluginError> {
    let bytes = read_component(&args.file)?;
    let shown = component::inspect(&bytes).map_err(|reason| PluginError::NotAPlugin {
        path: args.file.clone(),
        reason,
    })?;
    let mut keys = Vec::new();
    for file in &args.key {
        keys.extend(sign::public_keys(file)?);
    }
    // Damage is told of and hides nothing else.
    let signatures = beside(&args.file).map(|given| sign::against(&given, &bytes, &keys));
    let said = ask(bytes).await;
    let text = match args.json {
        true => object(&shown, &signatures, &said).to_string(),
        false => lines(&shown, &signatures, &said).join("\n"),
    };
    writeln!(out, "{text}").map_err(PluginError::Output)?;
    let bad = |found: &Vec<Found>| found.iter().any(|f| f.state == State::Bad);
    match &signatures {
        Ok(found) if bad(found) => Err(PluginError::Failed(
            "a signature is not over these bytes".to_owned(),
        )),
        Ok(_) => Ok(()),
        Err(why) => Err(PluginError::Failed(why.clone())),
    }
}

/// Runs `describe` as a server does at an upload, compiled in a process of its own.
async fn ask(bytes: Vec<u8>) -> Result<Inspection, LoadError> {
    let compile = match std::env::current_exe() {
        // A test's program has no command that compiles.
        Ok(program) if !cfg!(test) => CompileMode::Child { program },
        Ok(_) | Err(_) => CompileMode::InProcess,
    };
    let engine = Engine::new(EngineLimits {
        instances: INSTANCES,
        compile,
        ..EngineLimits::default()
    });
    let engine = engine.map_err(|e| LoadError::Compiler(e.to_string()))?;
    inspect_component(&engine, bytes).await
}

fn schema(said: &Inspection) -> Value {
    serde_json::from_str(&said.manifest.config_schema).unwrap_or(Value::Null)
}

fn object(
    shown: &component::Inspection,
    signatures: &Result<Vec<Found>, String>,
    said: &Result<Inspection, LoadError>,
) -> Value {
    let mut all = json!(shown);
    match signatures {
        Ok(found) => all["signatures"] = sign::views(found).into(),
        Err(why) => all["signatures_unreadable"] = json!(why),
    }
    match said {
        Ok(said) => {
            let manifest = &said.manifest;
            all["manifest"] = json!({
                "name": manifest.name, "version": manifest.version, "summary": manifest.summary,
            });
            all["config_schema"] = schema(said);
        }
        Err(why) => all["not_run"] = json!(format!("it {why}")),
    }
    all
}

fn lines(
    shown: &component::Inspection,
    signatures: &Result<Vec<Found>, String>,
    said: &Result<Inspection, LoadError>,
) -> Vec<String> {
    let mut lines = Vec::new();
    if let Ok(said) = said {
        let manifest = &said.manifest;
        lines.push(format!("name     {} {}", manifest.name, manifest.version));
        lines.push(format!("summary  {}", manifest.summary));
    }
    let hooks: Vec<&str> = shown.hooks.iter().map(|hook| hook.name()).collect();
    let imports: Vec<String> = shown
        .imports
        .iter()
        .map(|(name, functions)| match functions.is_empty() {
            true => name.clone(),
            false => format!("{name} ({})", functions.join(", ")),
        })
        .collect();
    let imports = match imports.is_empty() {
        true => "none".to_owned(),
        false => imports.join(", "),
    };
    lines.push(format!("digest   {}", shown.digest));
    lines.push(format!("size     {} bytes", shown.size));
    lines.push(format!("contract {PACKAGE}@{}", shown.wit_version));
    lines.push(format!("hooks    {}", hooks.join(", ")));
    lines.push(format!("imports  {imports}"));
    if !shown.unknown_imports.is_empty() {
        let unknown = shown.unknown_imports.join(", ");
        lines.push(format!("unknown  {unknown}: this host does not offer them"));
    }
    match signatures {
        Ok(found) if found.is_empty() => lines.push("signed   no".to_owned()),
        Ok(found) => lines.extend(found.iter().map(|f| format!("signed   {}", by(f)))),
        Err(why) => lines.push(format!("signed   cannot be told: {why}")),
    }
    match said {
        Ok(said) => {
            let pretty = serde_json::to_string_pretty(&schema(said)).unwrap_or_default();
            lines.push("schema".to_owned());
            lines.extend(pretty.lines().map(|line| format!("  {line}")));
        }
        Err(why) => lines.push(format!("not run  it {why}")),
    }
    lines
}

fn by(found: &Found) -> String {
    let text = found.to_string();
    text.strip_prefix("signed ").unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_cannot_be_run_is_told_with_the_reason_and_what_shows_without() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("odd.wasm");
        let component = wat::parse_str(
            r#"(component (instance $i) (export "heliograph:sms/plugin@0.1.0" (instance $i))
                (export "heliograph:sms/content-filter@0.1.0" (instance $i)))"#,
        );
        std::fs::write(&file, component.unwrap()).unwrap();
        let inspect = async |json: bool| {
            let args = Inspect {
                file: file.clone(),
                key: Vec::new(),
                json,
            };
            let mut out = Vec::new();
            run(&args, &mut out).await.unwrap();
            String::from_utf8(out).unwrap()
        };
        let text = inspect(false).await;
        for part in [
            "hooks    content-filter",
            "signed   no",
            "not run  it cannot describe itself",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let json: Value = serde_json::from_str(&inspect(true).await).unwrap();
        assert_eq!(json["hooks"], json!(["content-filter"]));
        assert_eq!(json["signatures"], json!([]));
        assert!(json["not_run"].is_string() && json.get("manifest").is_none());
    }
}

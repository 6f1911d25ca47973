//! `heliograph plugin test`: a plugin's cases, each an input and the decision expected of it, run on the
//! runtime of production. This file decides what is tested and what a failure is; reading, running and
//! telling are beside it.

mod case;
mod decision;
mod input;
mod report;
mod run;
mod world;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::client::Failure;
use super::plugin::{self, PluginError};
use super::toolchain;
use crate::pipeline::numbers::Numbers;
use crate::plugin::{Engine, EngineLimits, digest_text};
use case::{Case, Expected, Read};
use report::{Done, Tested};

/// The folder of a crate's cases.
pub const FOLDER: &str = "cases";

/// Run a plugin's cases on the runtime of production
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  heliograph plugin test --update")]
pub struct Args {
    /// Crates, which are built first, folders of crates, or components
    #[arg(value_name = "PATH|FILE.wasm", default_value = ".")]
    pub paths: Vec<PathBuf>,
    /// The folder of the cases; a crate's own `cases` unless given, `./cases` for a component
    #[arg(long, value_name = "DIR")]
    pub cases: Option<PathBuf>,
    /// Write what is decided as what is expected
    #[arg(long)]
    pub update: bool,
    /// Only cases whose name holds this
    #[arg(long, value_name = "NAME")]
    pub filter: Option<String>,
    /// Fetch and install nothing for the build
    #[arg(long)]
    pub offline: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// A component, and where its cases are.
pub struct Subject {
    pub name: String,
    pub file: PathBuf,
    pub bytes: Arc<Vec<u8>>,
    pub cases: PathBuf,
    /// It was named itself: without cases there is nothing to be done.
    pub named: bool,
}

/// Which cases, and whether what they decide becomes what is expected.
#[derive(Default)]
pub struct Options<'a> {
    pub filter: Option<&'a str>,
    pub update: bool,
}

pub async fn run(args: Args) -> Result<(), Failure> {
    let subjects = subjects(&args)?;
    let options = Options {
        filter: args.filter.as_deref(),
        update: args.update,
    };
    let tester = Tester::new()?;
    let mut all = Vec::new();
    for subject in &subjects {
        if !subject.named && !subject.cases.is_dir() {
            eprintln!("{}: has no {}", subject.name, subject.cases.display());
            continue;
        }
        let tested = tester.test(subject, &options).await?;
        if !args.json {
            tell(&report::words(&tested));
        }
        all.push(tested);
    }
    if args.json {
        tell(&format!("{:#}\n", report::json(&all)));
    }
    if all.iter().all(|tested| tested.cases.is_empty()) {
        return Err(Failure::Failed(match &args.filter {
            Some(filter) => format!("no case's name holds {filter:?}"),
            None => "there are no cases".to_owned(),
        }));
    }
    let total = report::total(&all);
    if all.iter().any(|tested| tested.failed() > 0) {
        return Err(Failure::Failed(total));
    }
    if !args.json {
        tell(&format!("{total}\n"));
    }
    Ok(())
}

/// Whoever has stopped reading our output has enough of it: no reason to complain.
pub fn tell(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Builds what has to be built.
fn subjects(args: &Args) -> Result<Vec<Subject>, Failure> {
    let (files, crates): (Vec<&PathBuf>, Vec<&PathBuf>) = args
        .paths
        .iter()
        .partition(|path| path.is_file() || path.extension().is_some_and(|e| e == "wasm"));
    let mut subjects = Vec::new();
    for file in files {
        let name = file.file_stem().unwrap_or(file.as_os_str());
        subjects.push(Subject {
            name: name.to_string_lossy().into_owned(),
            file: file.clone(),
            bytes: Arc::new(plugin::read_component(file)?),
            cases: PathBuf::from(FOLDER),
            named: true,
        });
    }
    if !crates.is_empty() {
        let toolchain = toolchain::find(args.offline).map_err(PluginError::from)?;
        let paths: Vec<PathBuf> = crates.into_iter().cloned().collect();
        let named: Vec<PathBuf> = paths
            .iter()
            .filter_map(|path| path.canonicalize().ok())
            .collect();
        for built in plugin::built(&toolchain, &paths, None, args.offline)? {
            subjects.push(Subject {
                named: named.contains(&built.directory),
                cases: built.directory.join(FOLDER),
                name: built.name,
                file: built.file,
                bytes: Arc::new(built.bytes),
            });
        }
    }
    if let Some(folder) = &args.cases {
        let [subject] = subjects.as_mut_slice() else {
            return Err(Failure::Usage(format!(
                "--cases is for one plugin, and these are {}",
                subjects.len()
            )));
        };
        folder.clone_into(&mut subject.cases);
        subject.named = true;
    }
    Ok(subjects)
}

/// The cases that failed, in words.
pub fn failing(mut tested: Tested) -> String {
    tested.cases.retain(|case| !case.passed());
    report::words(&tested)
}

/// The runtime, and what every case needs.
pub struct Tester {
    engine: Engine,
    numbers: Numbers,
}

impl Tester {
    pub fn new() -> Result<Tester, Failure> {
        let failed = |why: String| Failure::Failed(why);
        Ok(Tester {
            engine: Engine::new(EngineLimits::default()).map_err(|e| failed(e.to_string()))?,
            numbers: Numbers::new([]).map_err(|e| failed(format!("time zones: {e:?}")))?,
        })
    }

    /// Every case of a plugin that the filter lets through.
    pub async fn test(&self, subject: &Subject, options: &Options<'_>) -> Result<Tested, Failure> {
        let cases = case::read_folder(&subject.cases, &self.numbers).map_err(|why| {
            Failure::Failed(format!(
                "{}: {why} (a case is a file such as {FOLDER}/one.json, `heliograph plugin new` writes some)",
                subject.name
            ))
        })?;
        let wanted = |read: &Read| options.filter.is_none_or(|part| read.name.contains(part));
        let mut done = Vec::new();
        for read in cases.into_iter().filter(wanted) {
            done.push(self.one(subject, read, options.update).await?);
        }
        Ok(Tested {
            name: subject.name.clone(),
            file: subject.file.display().to_string(),
            digest: digest_text(&Sha256::digest(subject.bytes.as_slice()).into()),
            cases: done,
        })
    }

    async fn one(&self, subject: &Subject, read: Read, update: bool) -> Result<Done, Failure> {
        let case: Arc<Case> = match read.case {
            Ok(case) => Arc::from(case),
            Err(why) => {
                return Ok(Done {
                    name: read.name,
                    ran: None,
                    expected: None,
                    problems: vec![why],
                    differences: Vec::new(),
                    updated: false,
                });
            }
        };
        let ran = run::run(&self.engine, subject.bytes.clone(), case.clone()).await;
        let mut expected = case.expected.value().cloned();
        let mut updated = false;
        if update && let Some(decision) = to_be_written(&case.expected, &ran) {
            write_golden(&read.golden, decision)?;
            expected = Some(decision.clone());
            updated = true;
        }
        let (mut problems, differences) = run::failures(&ran, expected.as_ref());
        if expected.is_none() && problems.is_empty() {
            problems.push(unexpected(&ran, &read.golden));
        }
        Ok(Done {
            name: read.name,
            ran: Some(ran),
            expected,
            problems,
            differences,
            updated,
        })
    }
}

/// What `--update` writes. A fault or a refusal never becomes expected by itself: nobody would see it.
fn to_be_written<'r>(expected: &Expected, ran: &'r run::Ran) -> Option<&'r Value> {
    let decided = ran.problems.is_empty() && ran.why.is_none() && ran.decision != Value::Null;
    match expected {
        Expected::Inline(_) => None,
        Expected::Golden(golden) if *golden == ran.decision => None,
        Expected::Golden(_) | Expected::Missing => decided.then_some(&ran.decision),
    }
}

fn unexpected(ran: &run::Ran, golden: &Path) -> String {
    match &ran.why {
        None => format!(
            "no decision is expected: --update writes this one to {}",
            golden.display()
        ),
        Some(why) => format!(
            "{why}\n       if that is what is to come of it, write \"expect\": {} into the case",
            ran.decision
        ),
    }
}

fn write_golden(path: &Path, decision: &Value) -> Result<(), Failure> {
    std::fs::write(path, format!("{decision:#}\n"))
        .map_err(|e| Failure::Failed(format!("{}: {e}", path.display())))
}

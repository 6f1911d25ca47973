//! Statement 13. All dependencies keep to their licences and sources and have no known fault (`make audit`, which
//! this runs), and all unsafe code is listed with its reasons.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::{Outcome, Part, Run, Statement};
use crate::{binary, source_tree};

pub const STATEMENT: Statement = Statement {
    number: 13,
    name: "Supply chain",
    parts: &[
        Part {
            name: "licences, sources and advisories of all dependencies",
            run: |run| Box::pin(audit(run)),
        },
        Part {
            name: "unsafe code is listed with its reasons",
            run: |_| Box::pin(async { listed() }),
        },
    ],
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The short form uses the tools that are there; the long one installs them.
async fn audit(run: Run) -> Outcome {
    let binary = binary();
    let Some(target) = binary.parent().and_then(Path::parent) else {
        return Outcome::not_run("there is no target folder");
    };
    let mut script = tokio::process::Command::new("sh");
    script
        .arg(root().join("tests/audit.sh"))
        .arg(target)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true);
    if !run.long {
        script.env("HELIOGRAPH_AUDIT_INSTALL", "no");
    }
    let ended = match script.output().await {
        Ok(ended) => ended,
        Err(error) => return Outcome::not_run(format!("sh: {error}")),
    };
    let told = String::from_utf8_lossy(&ended.stdout);
    judged(&told, ended.status.success())
}

/// Lines of the script are `CHECK: clean`, `CHECK: FINDINGS` or `CHECK: not run: WHY`, between what its tools say.
fn judged(told: &str, good: bool) -> Outcome {
    let of = |end: &str| -> Vec<&str> {
        let lines = told.lines().filter_map(|l| l.strip_suffix(end));
        lines.collect()
    };
    let (clean, findings) = (of(": clean"), of(": FINDINGS"));
    let missing: Vec<&str> = told.lines().filter(|l| l.contains(": not run: ")).collect();
    let runs = clean.len() + findings.len();
    let mut faults: Vec<String> = findings.iter().map(|f| format!("{f}: findings")).collect();
    if !good && faults.is_empty() {
        faults.push("the audit failed".to_owned());
    }
    let note = match clean.is_empty() {
        true => missing.join("; "),
        false => [
            &[format!("clean: {}", clean.join(", "))][..],
            &missing.iter().map(|m| (*m).to_owned()).collect::<Vec<_>>(),
        ]
        .concat()
        .join("; "),
    };
    let advisories = clean.iter().any(|c| c.starts_with("advisories"));
    let rest = clean.iter().any(|c| c.starts_with("licences"));
    if faults.is_empty() && !(advisories && rest) {
        return Outcome::not_run(note);
    }
    Outcome::judged(runs, 0, 0, &faults).noted(note)
}

fn listed() -> Outcome {
    let found = source_tree::found(&root());
    let listed = source_tree::listed(&root());
    let places: usize = found.values().sum();
    let mut faults = Vec::new();
    for (file, count) in &found {
        match listed.get(file) {
            Some(said) if said == count => {}
            Some(said) => faults.push(format!("{file} has {count} places, the list says {said}")),
            None => faults.push(format!("{file} is not listed")),
        }
    }
    let gone = listed.keys().filter(|file| !found.contains_key(*file));
    faults.extend(gone.map(|file| format!("{file} is listed and has none")));
    Outcome::judged(found.len(), 0, 0, &faults)
        .noted(format!("{places} places in {} files", found.len()))
}

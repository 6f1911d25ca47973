//! What a person reads of the cases that were run, and what a program reads. Decides nothing.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::decision::{self, Difference};
use super::run::{Ran, Usage};
use crate::plugin::{HOST_CALLS_MAX, LOG_LINES_MAX};

/// The differences of one case that are printed; JSON has them all.
const DIFFERENCES_SHOWN: usize = 20;

/// One case, done.
pub struct Done {
    pub name: String,
    /// None where the case could not be read.
    pub ran: Option<Ran>,
    pub expected: Option<Value>,
    /// Why it failed, in lines.
    pub problems: Vec<String>,
    pub differences: Vec<Difference>,
    /// Its golden file was written just now.
    pub updated: bool,
}

impl Done {
    pub fn passed(&self) -> bool {
        self.problems.is_empty() && self.differences.is_empty()
    }
}

/// The cases of one plugin.
pub struct Tested {
    pub name: String,
    pub file: String,
    pub digest: String,
    pub cases: Vec<Done>,
}

impl Tested {
    pub fn failed(&self) -> usize {
        self.cases.iter().filter(|case| !case.passed()).count()
    }
}

pub fn words(tested: &Tested) -> String {
    let mut out = format!("{}  {}\n", tested.name, tested.file);
    for case in &tested.cases {
        let state = match (case.passed(), case.updated) {
            (true, true) => "new ",
            (true, false) => "ok  ",
            (false, _) => "FAIL",
        };
        let summary = match &case.ran {
            Some(ran) if ran.decision != Value::Null => decision::summary(&ran.decision),
            Some(_) | None => String::new(),
        };
        let _ = writeln!(
            out,
            "{}",
            format!("  {state} {:<28} {summary}", case.name).trim_end()
        );
        if let Some(usage) = case.ran.as_ref().and_then(|ran| ran.usage.as_ref()) {
            let _ = writeln!(out, "       {}", usage_words(usage));
        }
        for line in &case.problems {
            let _ = writeln!(out, "       {line}");
        }
        if !case.differences.is_empty() {
            let _ = writeln!(out, "       expected -> actual");
        }
        for difference in case.differences.iter().take(DIFFERENCES_SHOWN) {
            let _ = writeln!(out, "         {difference}");
        }
        if let Some(more) = case.differences.len().checked_sub(DIFFERENCES_SHOWN + 1) {
            let _ = writeln!(out, "         and {} more", more + 1);
        }
    }
    out
}

/// The last line of all.
pub fn total(all: &[Tested]) -> String {
    let cases: usize = all.iter().map(|tested| tested.cases.len()).sum();
    let failed: usize = all.iter().map(Tested::failed).sum();
    match failed {
        0 => format!("{cases} cases, all passed"),
        failed => format!("{cases} cases, {failed} failed"),
    }
}

fn usage_words(usage: &Usage) -> String {
    let mut out = String::new();
    match usage.warm_nanos {
        Some(warm) => {
            let _ = write!(
                out,
                "{:.1} µs ({:.1} first)",
                micros(warm),
                micros(usage.first_nanos)
            );
        }
        None => {
            let _ = write!(out, "{:.1} µs", micros(usage.first_nanos));
        }
    }
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let _ = write!(
        out,
        " of {} ms, {:.2} of {} MiB, ",
        usage.deadline_ms,
        mib(usage.memory_bytes),
        usage.memory_limit_bytes >> 20
    );
    let total: u64 = usage.host_calls.iter().map(|(_, count)| count).sum();
    let _ = write!(out, "{total} of {HOST_CALLS_MAX} host calls");
    let kinds: Vec<String> = usage
        .host_calls
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(kind, count)| match *kind {
            "log" => format!("log {count} of {LOG_LINES_MAX}"),
            kind => format!("{kind} {count}"),
        })
        .collect();
    if !kinds.is_empty() {
        let _ = write!(out, " ({})", kinds.join(", "));
    }
    out
}

fn micros(nanos: u32) -> f64 {
    f64::from(nanos) / 1_000.0
}

pub fn json(all: &[Tested]) -> Value {
    let plugins: Vec<Value> = all
        .iter()
        .map(|tested| {
            json!({
                "name": tested.name,
                "file": tested.file,
                "digest": tested.digest,
                "cases": tested.cases.iter().map(case_json).collect::<Vec<_>>(),
            })
        })
        .collect();
    let cases: usize = all.iter().map(|tested| tested.cases.len()).sum();
    let failed: usize = all.iter().map(Tested::failed).sum();
    json!({ "plugins": plugins, "passed": cases - failed, "failed": failed })
}

fn case_json(case: &Done) -> Value {
    let mut value = json!({
        "name": case.name,
        "passed": case.passed(),
        "updated": case.updated,
        "problems": case.problems,
        "expected": case.expected,
        "differences": case.differences.iter().map(difference_json).collect::<Vec<_>>(),
    });
    let Some(ran) = &case.ran else { return value };
    value["hook"] = json!(ran.hook.map(crate::domain::Hook::name));
    value["decision"] = ran.decision.clone();
    value["why"] = json!(ran.why);
    if let Some(usage) = &ran.usage {
        let calls: serde_json::Map<String, Value> = usage
            .host_calls
            .iter()
            .map(|(kind, count)| ((*kind).to_owned(), json!(count)))
            .collect();
        value["usage"] = json!({
            "first_us": micros(usage.first_nanos),
            "warm_us": usage.warm_nanos.map(micros),
            "deadline_ms": usage.deadline_ms,
            "memory_bytes": usage.memory_bytes,
            "memory_limit_bytes": usage.memory_limit_bytes,
            "host_calls": calls,
            "host_calls_limit": HOST_CALLS_MAX,
            "log_lines_limit": LOG_LINES_MAX,
        });
    }
    value
}

fn difference_json(difference: &Difference) -> Value {
    json!({
        "path": difference.path,
        "expected": difference.expected,
        "actual": difference.actual,
    })
}

//! What Heliograph promises, as numbered statements that anyone can run: `make prove` in the long form,
//! `make test` in the short one. This file knows how a statement is run and how its verdict is told; what
//! it states is in a file of its own beside this one. To add one: write its file, with a [`Statement`],
//! and name it in [`STATEMENTS`].
//!
//! The server under test is always another process than this one, which keeps the ledgers: what was
//! acknowledged to clients, and what carriers took.

mod at_rest;
mod backlog;
mod clock;
mod crash;
mod damage;
mod disk;
mod edge;
mod injection;
mod ledger;
mod loop_disk;
mod lost_pages;
pub mod message;
mod neighbours;
mod offer;
mod overload;
mod power;
mod restart;
pub mod simulation;
mod soak;
mod strace;
mod supply_chain;
mod syncs;
mod table;

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use rand::SeedableRng as _;
use rand::rngs::StdRng;

pub use table::{json, table};

pub const STATEMENTS: &[Statement] = &[
    crash::STATEMENT,
    power::STATEMENT,
    disk::STATEMENT,
    restart::STATEMENT,
    overload::STATEMENT,
    neighbours::STATEMENT,
    clock::STATEMENT,
    edge::STATEMENT,
    injection::STATEMENT,
    at_rest::STATEMENT,
    soak::STATEMENT,
    simulation::STATEMENT,
    supply_chain::STATEMENT,
];

const FAULTS_TOLD: usize = 3;

/// A promise, under its number of the list in the README.
pub struct Statement {
    pub number: u8,
    pub name: &'static str,
    pub parts: &'static [Part],
}

/// One line of the table.
pub struct Part {
    pub name: &'static str,
    pub run: fn(Run) -> Pin<Box<dyn Future<Output = Outcome>>>,
}

/// How a statement is run.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    pub long: bool,
    /// All chance of the run comes from it.
    pub seed: u64,
    /// How long the long form of a soak takes, where that is told.
    pub soak: Option<Duration>,
    /// How many hours the long form of the simulation lives through, where that is told.
    pub hours: Option<usize>,
}

impl Run {
    pub fn pick(&self, short: usize, long: usize) -> usize {
        if self.long { long } else { short }
    }

    pub fn rng(&self) -> StdRng {
        StdRng::seed_from_u64(self.seed)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Holds,
    Fails(String),
    /// This machine cannot run it; that proves nothing.
    NotRun(String),
}

#[derive(Clone, Debug)]
pub struct Outcome {
    pub runs: usize,
    pub lost: usize,
    pub duplicated: usize,
    pub verdict: Verdict,
    /// Figures that belong to the verdict.
    pub note: String,
}

impl Outcome {
    pub fn not_run(why: impl Into<String>) -> Outcome {
        Outcome {
            runs: 0,
            lost: 0,
            duplicated: 0,
            verdict: Verdict::NotRun(why.into()),
            note: String::new(),
        }
    }

    /// Holds where there are no faults; tells the first few.
    pub fn judged(runs: usize, lost: usize, duplicated: usize, faults: &[String]) -> Outcome {
        let verdict = match faults {
            [] => Verdict::Holds,
            few if few.len() <= FAULTS_TOLD => Verdict::Fails(few.join("; ")),
            many => {
                let (first, more) = many.split_at(FAULTS_TOLD);
                Verdict::Fails(format!("{}; and {} more", first.join("; "), more.len()))
            }
        };
        Outcome {
            runs,
            lost,
            duplicated,
            verdict,
            note: String::new(),
        }
    }

    /// What was found beside.
    pub fn with_faults(self, faults: Vec<String>) -> Outcome {
        let verdict = match (self.verdict, faults.is_empty()) {
            (verdict, true) => verdict,
            (Verdict::Fails(why), false) => Verdict::Fails(format!("{why}; {}", faults.join("; "))),
            (_, false) => Verdict::Fails(faults.join("; ")),
        };
        Outcome { verdict, ..self }
    }

    pub fn noted(self, note: impl Into<String>) -> Outcome {
        Outcome {
            note: note.into(),
            ..self
        }
    }
}

/// A line of the table with its outcome.
pub struct Row {
    pub number: u8,
    pub statement: &'static str,
    pub part: &'static str,
    pub outcome: Outcome,
    pub took: Duration,
    pub seed: u64,
}

/// Runs the parts of one statement, one after the other.
pub async fn prove(statement: &Statement, run: Run) -> Vec<Row> {
    let mut rows = Vec::new();
    for part in statement.parts {
        rows.push(prove_part(statement, part, run, std::future::pending()).await);
    }
    rows
}

pub async fn prove_part(
    statement: &Statement,
    part: &Part,
    run: Run,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Row {
    let began = Instant::now();
    // What fails loudly fails its own line alone, and leaves none of its tasks behind.
    let body = part.run;
    let alone = move || {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        // Its servers and folders go with it.
        runtime.block_on(async {
            tokio::select! {
                outcome = body(run) => outcome,
                () = stop => Outcome::not_run("it was stopped"),
            }
        })
    };
    let outcome = match tokio::task::spawn_blocking(alone).await {
        Ok(outcome) => outcome,
        Err(error) => {
            let panic = error.try_into_panic().ok();
            let text = panic.and_then(|p| {
                let text = p.downcast_ref::<String>().cloned();
                text.or_else(|| p.downcast_ref::<&str>().map(|s| (*s).to_owned()))
            });
            Outcome::judged(0, 0, 0, &[text.unwrap_or_else(|| "it was cut off".into())])
        }
    };
    Row {
        number: statement.number,
        statement: statement.name,
        part: part.name,
        outcome,
        took: began.elapsed(),
        seed: run.seed,
    }
}

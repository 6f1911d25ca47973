//! Statement 12. One seed drives a whole server through a simulated hour: its store, dispatch, retries, receipts,
//! webhooks and SMPP carriers are the real ones; time, disk, network, clients and crashes come out of the seed.
//! Rules are checked as things happen. The same seed always does the same, so a fault that it finds can be looked
//! at; and defects that are planted show that it finds any.

mod centre;
mod defect;
mod handsets;
mod ledger;
mod life;
mod plugins;
mod sessions;
mod smsc;
mod world;

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use super::{Outcome, Part, Run, Statement};
use defect::Defect;
use life::{End, live};
use world::World;

pub const STATEMENT: Statement = Statement {
    number: 12,
    name: "Simulation",
    parts: &[
        Part {
            name: "a server through an hour of faults, by one seed",
            run: |run| Box::pin(hours(run)),
        },
        Part {
            name: "two SMPP sessions over a network that breaks",
            run: |run| Box::pin(pairs(run)),
        },
        Part {
            name: "defects that are planted are found",
            run: |run| Box::pin(planted(run)),
        },
        Part {
            name: "a seed does the same twice",
            run: |run| Box::pin(twice(run)),
        },
    ],
};

const LIVES_MAX: u32 = 60;
const FAULTS_KEPT: usize = 5;

/// What came of one seed.
pub struct Told {
    pub seed: u64,
    pub faults: Vec<String>,
    pub trace: Vec<String>,
    pub hash: u64,
    pub messages: usize,
    pub copies: usize,
    pub lives: u32,
}

/// Runs the simulation of one seed.
pub fn simulate(seed: u64, keep_trace: bool) -> Told {
    simulate_with(seed, keep_trace, None)
}

fn simulate_with(seed: u64, keep_trace: bool, defect: Option<Defect>) -> Told {
    hook_panics();
    let world = World::new(seed, keep_trace, defect);
    let folder = scratch();
    let folder = folder.path().join("data");
    plugins::provide(&folder).expect("a component");
    loop {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        PANIC.with_borrow_mut(|p| *p = Some(Vec::new()));
        let lived = std::panic::AssertUnwindSafe(|| {
            runtime.block_on(async {
                let end = live(&world, &folder).await;
                let mut world = world.lock();
                let downtime = world.pick(0..30_000);
                world.end_life(downtime);
                end
            })
        });
        let end = std::panic::catch_unwind(lived).unwrap_or(End::Broken);
        drop(runtime);
        if let Err(error) = world.lock().fail_power(&folder) {
            world.fault(format!("the store's file cannot be read: {error}"));
        }
        let panics = PANIC.with_borrow_mut(Option::take).unwrap_or_default();
        for panic in panics {
            world.fault(format!("a panic: {panic}"));
        }
        let mut state = world.lock();
        if state.lives > LIVES_MAX {
            state.fault(format!("after {LIVES_MAX} lives there is no end"));
        }
        let over = matches!(end, End::Rest | End::Broken) || state.faults.len() >= FAULTS_KEPT;
        if over || state.lives > LIVES_MAX {
            break;
        }
    }
    let (hash, trace) = (world.hash(), world.take_trace());
    let state = world.lock();
    let entries = &state.ledger.entries;
    Told {
        seed,
        faults: state.faults.clone(),
        hash,
        trace,
        messages: entries.iter().filter(|e| e.id.is_some()).count(),
        copies: entries
            .iter()
            .map(|e| e.copies.len() - e.segments_taken())
            .sum(),
        lives: state.lives,
    }
}

thread_local! {
    /// Panics of this thread's simulation.
    static PANIC: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

fn hook_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let mine = PANIC.with_borrow_mut(|panics| {
                panics.as_mut().map(|p| p.push(info.to_string())).is_some()
            });
            if !mine {
                before(info);
            }
        }));
    });
}

/// In memory where there is room for it.
fn scratch() -> tempfile::TempDir {
    let memory = PathBuf::from("/dev/shm");
    let folder = tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir());
    folder.expect("a folder")
}

/// The short form lives the same hours each time, to tell what a change broke; the long one looks for what was
/// broken before.
const SHORT_SEED: u64 = 3_385_581_716;

async fn hours(run: Run) -> Outcome {
    let seeds = run
        .hours
        .filter(|_| run.long)
        .unwrap_or(run.pick(12, 2_000));
    let first = if run.long { run.seed } else { SHORT_SEED };
    let all: Vec<u64> = (0..seeds as u64).map(|n| first.wrapping_add(n)).collect();
    let began = Instant::now();
    let (next, messages, copies, lives) = (
        AtomicUsize::new(0),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
        AtomicU64::new(0),
    );
    let faults = parking_lot::Mutex::new(Vec::new());
    // Each waits for the disk at times.
    let workers = 2 * std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(seed) = all.get(next.fetch_add(1, Relaxed)) {
                    let told = simulate(*seed, false);
                    messages.fetch_add(told.messages, Relaxed);
                    copies.fetch_add(told.copies, Relaxed);
                    lives.fetch_add(told.lives.into(), Relaxed);
                    if let Some(first) = told.faults.first() {
                        let fault = format!("seed {seed}: {first}");
                        eprintln!("    {fault}");
                        faults.lock().push(fault);
                    }
                }
            });
        }
    });
    let mut faults = faults.into_inner();
    faults.sort();
    let lost = faults.iter().filter(|f| f.contains("lost")).count();
    let took = began.elapsed().as_secs_f64();
    let note = format!(
        "{} hours of faults, each with 40 minutes of rest behind it, in {took:.0} s: {} messages, {} lives, {} explained copies",
        all.len(),
        messages.into_inner(),
        lives.into_inner(),
        copies.into_inner(),
    );
    Outcome::judged(all.len(), lost, 0, &faults).noted(note)
}

async fn pairs(run: Run) -> Outcome {
    let seeds = run.pick(100, 5_000);
    let mut faults = Vec::new();
    let mut requests = 0;
    for n in 0..seeds as u64 {
        let seed = run.seed.wrapping_add(n);
        let (found, asked) = sessions::simulate(seed);
        requests += asked;
        faults.extend(found.first().map(|f| format!("seed {seed}: {f}")));
    }
    Outcome::judged(seeds, 0, 0, &faults).noted(format!("{requests} requests"))
}

/// Hours that are lived through with a defect, until it is found.
const HOURS_WITH_DEFECT: u64 = 100;

async fn planted(run: Run) -> Outcome {
    let first = if run.long { run.seed } else { SHORT_SEED };
    let search = move || {
        let mut told = Vec::new();
        let mut faults = Vec::new();
        for defect in Defect::ALL {
            let mut seeds = (0..HOURS_WITH_DEFECT).map(|n| first.wrapping_add(n));
            let found = seeds.find_map(|seed| {
                let faults = simulate_with(seed, false, Some(defect)).faults;
                Some((seed, faults.into_iter().next()?))
            });
            match found {
                Some((seed, fault)) => told.push(format!("{defect:?} by seed {seed}: {fault}")),
                None => faults.push(format!(
                    "{defect:?} is not found in {HOURS_WITH_DEFECT} hours"
                )),
            }
        }
        (told, faults)
    };
    let (told, faults) = match tokio::task::spawn_blocking(search).await {
        Ok(found) => found,
        Err(error) => (Vec::new(), vec![error.to_string()]),
    };
    for found in &told {
        eprintln!("    {found}");
    }
    Outcome::judged(Defect::ALL.len(), 0, 0, &faults)
}

/// A seed whose second run differs would be no proof of anything.
async fn twice(run: Run) -> Outcome {
    let seeds = run.pick(2, 50);
    let compare = move || compare((0..seeds as u64).map(|n| run.seed.wrapping_add(n)));
    let faults = tokio::task::spawn_blocking(compare).await;
    let faults = faults.unwrap_or_else(|e| vec![e.to_string()]);
    Outcome::judged(seeds, 0, 0, &faults)
}

fn compare(seeds: impl Iterator<Item = u64>) -> Vec<String> {
    let differ = seeds.filter_map(|seed| {
        let (first, second) = (simulate(seed, true), simulate(seed, true));
        if first.hash == second.hash {
            return None;
        }
        let mut both = first.trace.iter().zip(&second.trace);
        let apart = both.find(|(a, b)| a != b);
        Some(format!("seed {seed} differs: {apart:?}"))
    });
    differ.collect()
}

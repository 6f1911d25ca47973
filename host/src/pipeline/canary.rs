//! A candidate policy on a share of the traffic: which messages it decides, how it does beside the
//! policy in force, and when that is enough to go on or to stop. Pure but for its counters: who acts
//! on a verdict is `trial`. A recipient stays on its side of the share, whatever the step.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::rehearse::faulted;
use crate::clock::Timestamp;
use crate::domain::{Address, Message, Outcome, SetId};
use crate::plugin::{PolicySet, PolicySpec, Problem};

const STEPS_MAX: usize = 20;
/// Faults before a rate of them means anything.
const FAULTS_MIN: u64 = 3;

/// How a canary goes on, and what stops it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CanarySettings {
    /// Percent of the recipients, rising; after the last one the candidate is in force for all.
    pub steps: Vec<f64>,
    /// Decisions of the candidate that a step takes at least.
    pub step_messages: u64,
    pub step_seconds: u64,
    /// Decisions, receipts or priced segments on either side before they are compared.
    pub min_messages: u64,
    pub guards: Guards,
}

/// What the candidate may not cross.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Guards {
    /// Decisions in which a plugin gave no answer, 0.0 to 1.0.
    pub fault_rate: f64,
    /// Refused, held, dropped or deferred, above the policy in force.
    pub refusal_rate: f64,
    /// Final receipts that are no delivery, above the policy in force.
    pub failed_receipt_rate: f64,
    /// Price of a segment, as a multiple of the policy in force's.
    pub cost_per_segment: f64,
}

impl Default for CanarySettings {
    fn default() -> CanarySettings {
        CanarySettings {
            steps: vec![1.0, 5.0, 25.0, 50.0],
            step_messages: 500,
            step_seconds: 60,
            min_messages: 50,
            guards: Guards::default(),
        }
    }
}

impl Default for Guards {
    fn default() -> Guards {
        Guards {
            fault_rate: 0.01,
            refusal_rate: 0.02,
            failed_receipt_rate: 0.05,
            cost_per_segment: 1.10,
        }
    }
}

impl CanarySettings {
    /// All that is wrong with them.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut add = |pointer: &str, detail: &str| {
            problems.push(Problem {
                pointer: pointer.to_owned(),
                entry: None,
                detail: detail.to_owned(),
                upgrade: None,
            });
        };
        let rising = self.steps.windows(2).all(|w| w[0] < w[1]);
        let within = self.steps.iter().all(|s| *s > 0.0 && *s <= 100.0);
        if self.steps.is_empty() || self.steps.len() > STEPS_MAX || !rising || !within {
            add(
                "/steps",
                "is 1 to 20 rising percentages above 0, at most 100",
            );
        }
        if self.step_messages == 0 || self.min_messages == 0 {
            add("/step_messages", "and min_messages are at least 1");
        }
        let rate = |r: f64| (0.0..=1.0).contains(&r);
        let guards = &self.guards;
        if !rate(guards.fault_rate)
            || !rate(guards.refusal_rate)
            || !rate(guards.failed_receipt_rate)
        {
            add("/guards", "has rates from 0.0 to 1.0");
        }
        if !(guards.cost_per_segment >= 1.0 && guards.cost_per_segment.is_finite()) {
            add("/guards/cost_per_segment", "is a multiple of at least 1.0");
        }
        problems
    }
}

/// A candidate under way.
pub struct Canary {
    pub set: Arc<PolicySet>,
    /// With digests in the place of paths.
    pub spec: PolicySpec,
    pub settings: CanarySettings,
    pub by: String,
    pub since: Timestamp,
    /// The set that it is compared with.
    pub baseline_set: SetId,
    step: Mutex<Step>,
    /// Of 10,000 recipients.
    share: AtomicU32,
    stopped: AtomicBool,
    breach: Mutex<Option<Breach>>,
    /// Told when a guard was crossed.
    pub crossed: Arc<Notify>,
    candidate: Arm,
    baseline: Arm,
}

#[derive(Clone, Copy, Debug)]
struct Step {
    index: usize,
    began: Timestamp,
    /// Decisions of the candidate when it began.
    decisions: u64,
}

/// What came of one side's decisions.
#[derive(Default)]
struct Arm {
    decisions: AtomicU64,
    faults: AtomicU64,
    refusals: AtomicU64,
    receipts: AtomicU64,
    failed_receipts: AtomicU64,
    priced_segments: AtomicU64,
    price_micros: AtomicU64,
}

/// A reading of one side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct ArmReport {
    pub decisions: u64,
    pub faults: u64,
    pub refusals: u64,
    pub receipts: u64,
    pub failed_receipts: u64,
    pub priced_segments: u64,
    pub price_micros: u64,
}

/// The guard that was crossed, with the figures that crossed it.
#[derive(Clone, Debug, PartialEq)]
pub struct Breach {
    pub guard: &'static str,
    pub candidate: f64,
    pub baseline: f64,
    pub limit: f64,
    /// Decisions of the candidate by then.
    pub decisions: u64,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {:.4} after {} decisions (the policy in force {:.4}, guard {:.4})",
            self.guard, self.candidate, self.decisions, self.baseline, self.limit
        )
    }
}

/// What is to be done with a canary now.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    GoOn,
    NextStep,
    Promote,
    RollBack(Breach),
}

impl Canary {
    pub fn new(
        set: Arc<PolicySet>,
        spec: PolicySpec,
        settings: CanarySettings,
        by: &str,
        baseline_set: SetId,
        (since, step, now): (Timestamp, usize, Timestamp),
    ) -> Canary {
        let canary = Canary {
            set,
            spec,
            settings,
            by: by.to_owned(),
            since,
            baseline_set,
            step: Mutex::new(Step {
                index: 0,
                began: now,
                decisions: 0,
            }),
            share: AtomicU32::new(0),
            stopped: AtomicBool::new(false),
            breach: Mutex::new(None),
            crossed: Arc::new(Notify::new()),
            candidate: Arm::default(),
            baseline: Arm::default(),
        };
        canary.enter_step(step, now);
        canary
    }

    fn enter_step(&self, index: usize, now: Timestamp) {
        let last = self.settings.steps.len().saturating_sub(1);
        let index = index.min(last);
        *self.step.lock() = Step {
            index,
            began: now,
            decisions: self.candidate.decisions.load(Relaxed),
        };
        let percent = self.settings.steps.get(index).copied().unwrap_or(0.0);
        // Between 0 and 100 by `problems`.
        let share = (percent * 100.0).round().max(1.0) as u32;
        self.share.store(share, Relaxed);
    }

    /// Whether messages to `recipient` are the candidate's.
    pub fn takes(&self, recipient: &Address) -> bool {
        !self.stopped.load(Relaxed) && bucket(recipient) < self.share.load(Relaxed)
    }

    /// Whether decisions of `set` are this candidate's, and stand.
    pub fn stands(&self, set: SetId) -> bool {
        self.set.id() == set && !self.stopped.load(Relaxed)
    }

    /// Counts a decision of the candidate. False where it must not stand: the policy in force decides.
    pub fn note_candidate(&self, message: &Message, outcome: &Outcome) -> bool {
        let calls = message.decisions.last().map_or(&[][..], |d| &d.calls);
        let faulted = faulted(calls);
        self.candidate.note(message, outcome, faulted);
        self.watch();
        *outcome == Outcome::Send && !faulted
    }

    pub fn note_baseline(&self, message: &Message, outcome: &Outcome) {
        let calls = message.decisions.last().map_or(&[][..], |d| &d.calls);
        self.baseline.note(message, outcome, faulted(calls));
    }

    /// A final receipt of a message that `set` decided.
    pub fn note_receipt(&self, set: SetId, delivered: bool) {
        if set == self.set.id() {
            self.candidate.receipt(delivered);
            self.watch();
        } else if set == self.baseline_set {
            self.baseline.receipt(delivered);
        }
    }

    /// Stops taking messages at once where a guard is crossed.
    fn watch(&self) {
        if self.stopped.load(Relaxed) {
            return;
        }
        if let Some(breach) = self.crossed_guard() {
            let mut held = self.breach.lock();
            if held.is_none() {
                *held = Some(breach);
                self.stopped.store(true, Relaxed);
                self.crossed.notify_one();
            }
        }
    }

    fn crossed_guard(&self) -> Option<Breach> {
        let (ours, theirs) = (self.candidate.read(), self.baseline.read());
        let guards = &self.settings.guards;
        let breach = |guard, candidate, baseline, limit| {
            Some(Breach {
                guard,
                candidate,
                baseline,
                limit,
                decisions: ours.decisions,
            })
        };
        let faults = rate(ours.faults, ours.decisions);
        if ours.faults >= FAULTS_MIN && faults > guards.fault_rate {
            let before = rate(theirs.faults, theirs.decisions);
            return breach("fault_rate", faults, before, guards.fault_rate);
        }
        let enough = |a: u64, b: u64| a.min(b) >= self.settings.min_messages;
        if enough(ours.decisions, theirs.decisions) {
            let (a, b) = (
                rate(ours.refusals, ours.decisions),
                rate(theirs.refusals, theirs.decisions),
            );
            if a - b > guards.refusal_rate {
                return breach("refusal_rate", a, b, guards.refusal_rate);
            }
        }
        if enough(ours.receipts, theirs.receipts) {
            let (a, b) = (
                rate(ours.failed_receipts, ours.receipts),
                rate(theirs.failed_receipts, theirs.receipts),
            );
            if a - b > guards.failed_receipt_rate {
                return breach("failed_receipt_rate", a, b, guards.failed_receipt_rate);
            }
        }
        if enough(ours.priced_segments, theirs.priced_segments) {
            let (a, b) = (
                rate(ours.price_micros, ours.priced_segments),
                rate(theirs.price_micros, theirs.priced_segments),
            );
            if a > b * guards.cost_per_segment {
                return breach("cost_per_segment", a, b, guards.cost_per_segment);
            }
        }
        None
    }

    /// What is to be done at `now`.
    pub fn verdict(&self, now: Timestamp) -> Verdict {
        if let Some(breach) = self.breach.lock().clone() {
            return Verdict::RollBack(breach);
        }
        let step = *self.step.lock();
        let decided = self.candidate.decisions.load(Relaxed) - step.decisions;
        let seconds = now.since(step.began).as_secs();
        if decided < self.settings.step_messages || seconds < self.settings.step_seconds {
            Verdict::GoOn
        } else if step.index + 1 < self.settings.steps.len() {
            Verdict::NextStep
        } else {
            Verdict::Promote
        }
    }

    /// The next share. Returns it, in percent.
    pub fn next_step(&self, now: Timestamp) -> f64 {
        let index = self.step.lock().index + 1;
        self.enter_step(index, now);
        self.percent()
    }

    /// It takes no more messages.
    pub fn stop(&self) {
        self.stopped.store(true, Relaxed);
    }

    pub fn step(&self) -> usize {
        self.step.lock().index
    }

    pub fn percent(&self) -> f64 {
        f64::from(self.share.load(Relaxed)) / 100.0
    }

    /// The candidate's figures, and those of the policy in force over the same time.
    pub fn arms(&self) -> (ArmReport, ArmReport) {
        (self.candidate.read(), self.baseline.read())
    }
}

impl Arm {
    fn note(&self, message: &Message, outcome: &Outcome, faulted: bool) {
        self.decisions.fetch_add(1, Relaxed);
        self.faults.fetch_add(u64::from(faulted), Relaxed);
        match outcome {
            Outcome::Send => {
                let price = message.plan.hops.first().and_then(|h| h.price_micros);
                if let Some(price) = price {
                    let segments = u64::from(message.segments);
                    self.priced_segments.fetch_add(segments, Relaxed);
                    self.price_micros
                        .fetch_add(price.saturating_mul(segments), Relaxed);
                }
            }
            Outcome::Refuse(_) | Outcome::Hold(_) | Outcome::Drop(_) | Outcome::Defer { .. } => {
                self.refusals.fetch_add(1, Relaxed);
            }
            // Counted as the fault that it is; an opt-out is no doing of a policy.
            Outcome::Unavailable(_) | Outcome::OptedOut => {}
        }
    }

    fn receipt(&self, delivered: bool) {
        self.receipts.fetch_add(1, Relaxed);
        self.failed_receipts
            .fetch_add(u64::from(!delivered), Relaxed);
    }

    fn read(&self) -> ArmReport {
        ArmReport {
            decisions: self.decisions.load(Relaxed),
            faults: self.faults.load(Relaxed),
            refusals: self.refusals.load(Relaxed),
            receipts: self.receipts.load(Relaxed),
            failed_receipts: self.failed_receipts.load(Relaxed),
            priced_segments: self.priced_segments.load(Relaxed),
            price_micros: self.price_micros.load(Relaxed),
        }
    }
}

fn rate(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

/// Where of 10,000 a recipient falls: the same at every step, on every server, for every canary.
fn bucket(recipient: &Address) -> u32 {
    // FNV-1a and a mix, because its low bits alone cluster on digits.
    let hash = recipient
        .value
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |h, b| {
            (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    let mixed = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    u32::try_from((mixed >> 32) % 10_000).unwrap_or(0)
}

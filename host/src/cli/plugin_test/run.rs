//! Runs a case on the runtime of production: a policy set of one entry is checked, compiled, linked
//! and configured, the hook is called, and what it did, took and asked for is measured.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::case::Case;
use super::decision::{self, Difference};
use super::input::Input;
use super::world::{ENTRY, Lines, Scripted, Shelf, State};
use crate::domain::{Context, Hook};
use crate::plugin::{
    Called, Engine, Entry, Fault, Host, PluginSpec, PolicySet, PolicySpec, SetError, TableSpec,
    Witness,
};

/// Calls after the first, of which the median is told; fewer where they take longer than this.
const WARM_CALLS: usize = 31;
const WARM_TIME_MAX: Duration = Duration::from_millis(500);
/// Pseudonyms of numbers are the same in every run.
const PSEUDONYM_KEY: [u8; 32] = *b"heliograph plugin test pseudonym";

/// What came of a case.
pub struct Ran {
    pub hook: Option<Hook>,
    pub decision: Value,
    /// For a person, where the decision is a fault or a refusal.
    pub why: Option<String>,
    /// None where the hook was never called.
    pub usage: Option<Usage>,
    /// What is wrong, whatever decision was expected.
    pub problems: Vec<String>,
}

/// What the calls used, each beside its limit.
pub struct Usage {
    pub first_nanos: u32,
    /// The median of the calls that followed on the same instance.
    pub warm_nanos: Option<u32>,
    pub deadline_ms: u32,
    pub memory_bytes: u64,
    pub memory_limit_bytes: u64,
    /// Of one call.
    pub host_calls: Vec<(&'static str, u64)>,
}

/// Must be called on one thread from beginning to end: logs are captured by thread.
pub async fn run(engine: &Engine, component: Arc<Vec<u8>>, case: Arc<Case>) -> Ran {
    let state = Arc::new(State::new(case.now, case.state.clone()));
    let host = Host {
        engine: engine.clone(),
        state: state.clone(),
        http: Arc::new(Scripted(case.clone())),
        pseudonym_key: PSEUDONYM_KEY,
    };
    let shelf = Shelf {
        component,
        case: case.clone(),
    };
    let lines = Lines::default();
    let _captured = tracing_subscriber::registry()
        .with(lines.clone())
        .set_default();
    let set = match PolicySet::build(&policy(&case), Arc::new(shelf), &host, None).await {
        Ok(set) => set,
        Err(error) => return not_deployable(&error),
    };
    let entry = match entry_of(&set, &case) {
        Ok(entry) => entry,
        Err(why) => {
            return Ran {
                hook: case.hook,
                decision: Value::Null,
                why: None,
                usage: None,
                problems: vec![why],
            };
        }
    };
    called(entry, &case, &state, &lines).await
}

/// A policy of one entry, as an operator would write it.
fn policy(case: &Case) -> PolicySpec {
    let mut grants = case.grants.clone();
    for (name, reference) in &mut grants.secrets {
        *reference = Shelf::reference(name);
    }
    let table = |name: &String| {
        let spec = TableSpec {
            file: Some(name.clone()),
            ..TableSpec::default()
        };
        (name.clone(), spec)
    };
    PolicySpec {
        tables: case.tables.keys().map(table).collect(),
        plugins: vec![PluginSpec {
            name: ENTRY.to_owned(),
            path: Some("the component under test".to_owned()),
            config: case.config.clone(),
            grants,
            limits: case.limits.clone(),
            // A case looks at what the plugin does, not at what becomes of its messages.
            ..PluginSpec::default()
        }],
        ..PolicySpec::default()
    }
}

/// The problems with the policy of the test, told as those of the case.
fn not_deployable(error: &SetError) -> Ran {
    let told: Vec<String> = error
        .0
        .iter()
        .map(|problem| {
            let pointer = problem.pointer.as_str();
            let pointer = pointer.strip_prefix("/plugin/0").unwrap_or(pointer);
            format!("{pointer}: {}", problem.detail)
        })
        .collect();
    Ran {
        hook: None,
        why: Some(told.join("\n")),
        decision: json!({ "refused": told }),
        usage: None,
        problems: Vec::new(),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    Message,
    Inbound,
    Either,
}

fn takes(hook: Hook) -> Takes {
    match hook {
        Hook::Enrichment | Hook::ContentFilter | Hook::ComplianceCheck | Hook::RoutingPolicy => {
            Takes::Message
        }
        Hook::CarrierAdapter => Takes::Either,
        Hook::InboundHandler => Takes::Inbound,
    }
}

fn fits(hook: Hook, input: &Input) -> bool {
    match (takes(hook), input) {
        (Takes::Message | Takes::Either, Input::Message { .. })
        | (Takes::Either, Input::Callback(_))
        | (Takes::Inbound, Input::Inbound(_)) => true,
        (Takes::Message, Input::Inbound(_) | Input::Callback(_))
        | (Takes::Either, Input::Inbound(_))
        | (Takes::Inbound, Input::Message { .. } | Input::Callback(_)) => false,
    }
}

/// The hook that the case is for: named, or the only one that takes its input.
fn entry_of<'s>(set: &'s PolicySet, case: &Case) -> Result<&'s Entry, String> {
    let names = |entries: &[&Entry]| {
        let names: Vec<&str> = entries.iter().map(|e| e.hook().name()).collect();
        names.join(" and ")
    };
    let served: Vec<&Entry> = set.all().iter().collect();
    let wanted: Vec<&Entry> = served
        .iter()
        .copied()
        .filter(|entry| match case.hook {
            Some(hook) => entry.hook() == hook,
            None => fits(entry.hook(), &case.input),
        })
        .collect();
    let what = match case.input {
        Input::Message { .. } => "message",
        Input::Inbound(_) => "inbound",
        Input::Callback(_) => "callback",
    };
    match (wanted.as_slice(), case.hook) {
        ([entry], _) if !fits(entry.hook(), &case.input) => {
            Err(format!("{what}: is nothing that {} takes", entry.hook().name()))
        }
        ([entry], _) => match (entry.hook(), &case.input) {
            (Hook::RoutingPolicy, Input::Message { carriers: None, .. }) => Err(
                "carriers: a routing policy chooses from them: list them, as in [\"north\"], or write []"
                    .to_owned(),
            ),
            _ => Ok(entry),
        },
        ([], Some(hook)) => Err(format!(
            "hook: the plugin does not serve {}; it serves {}",
            hook.name(),
            names(&served)
        )),
        ([], None) => Err(format!(
            "{what}: is nothing that the plugin takes; it serves {}",
            names(&served)
        )),
        (several, _) => Err(format!(
            "hook: the plugin serves {}; say which one the case is for",
            names(several)
        )),
    }
}

async fn called(entry: &Entry, case: &Case, state: &State, lines: &Lines) -> Ran {
    // What configuring logged is no part of a decision.
    lines.take();
    let before = host_calls(entry);
    let (answer, first_nanos) = one_call(entry, case).await;
    let after = host_calls(entry);
    let mut problems = Vec::new();
    let (decision, why) = match answer {
        Err(fault) => (decision::fault(&fault), Some(fault.to_string())),
        Ok(answer) => {
            problems.extend(case.http.problem());
            let log = lines.take();
            let http = case.http.asked();
            let whole = decision::with_effects(answer, state.written(), http, log);
            (whole, None)
        }
    };
    let mut warm = Vec::new();
    if why.is_none() {
        match again(entry, case, state, lines, &decision).await {
            Ok(times) => warm = times,
            Err(problem) => problems.push(problem),
        }
    }
    Ran {
        hook: Some(entry.hook()),
        decision,
        why,
        usage: Some(Usage {
            first_nanos,
            warm_nanos: median(warm),
            deadline_ms: entry.deadline_ms(),
            memory_bytes: entry.stats().memory_high_water_bytes,
            memory_limit_bytes: entry.memory_limit_bytes() as u64,
            host_calls: after
                .into_iter()
                .map(|(kind, count)| (kind, count - before.get(kind).copied().unwrap_or_default()))
                .collect(),
        }),
        problems,
    }
}

/// The same call on the same instance, over and over: what a decision hook is asked twice it has to
/// answer twice alike, because decisions are replayed. An adapter may remember what it sent.
async fn again(
    entry: &Entry,
    case: &Case,
    state: &State,
    lines: &Lines,
    first: &Value,
) -> Result<Vec<u32>, String> {
    let start = Instant::now();
    let mut times = Vec::with_capacity(WARM_CALLS);
    for n in 2..WARM_CALLS + 2 {
        state.reset();
        case.http.reset();
        let (answer, nanos) = one_call(entry, case).await;
        let answer = answer.map_err(|fault| format!("call {n} with the same input: {fault}"))?;
        let http = case.http.asked();
        let whole = decision::with_effects(answer, state.written(), http, lines.take());
        if entry.hook() != Hook::CarrierAdapter {
            let changed = decision::differences(first, &whole);
            if let Some(change) = changed.first() {
                return Err(format!(
                    "call {n} with the same input decided otherwise, so it cannot be replayed: {change}"
                ));
            }
        }
        times.push(nanos);
        if start.elapsed() > WARM_TIME_MAX {
            break;
        }
    }
    Ok(times)
}

fn host_calls(entry: &Entry) -> BTreeMap<&'static str, u64> {
    entry.stats().host_calls.into_iter().collect()
}

fn median(mut times: Vec<u32>) -> Option<u32> {
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}

async fn one_call(entry: &Entry, case: &Case) -> Called<Value> {
    let context = Context {
        now: case.now,
        random: case.random,
        phase: case.phase,
    };
    match (&case.input, entry.hook()) {
        (
            Input::Message {
                message,
                carriers,
                recipient,
            },
            hook,
        ) => match hook {
            Hook::Enrichment => {
                let called = entry
                    .enrich(message, &context, &mut Witness::absent())
                    .await;
                told(called, decision::enriched)
            }
            Hook::ContentFilter => told(
                entry
                    .inspect(message, &context, &mut Witness::absent())
                    .await,
                decision::verdict,
            ),
            Hook::ComplianceCheck => {
                let called = entry
                    .check(message, recipient, &context, &mut Witness::absent())
                    .await;
                told(called, decision::ruling)
            }
            Hook::RoutingPolicy => {
                let carriers = carriers.as_deref().unwrap_or_default();
                let called = entry
                    .route(message, carriers, &context, &mut Witness::absent())
                    .await;
                told(called, decision::routing)
            }
            Hook::CarrierAdapter => {
                told(entry.submit(message, &context).await, decision::submitted)
            }
            Hook::InboundHandler => unfit(),
        },
        (Input::Callback(request), _) => told(
            entry.callback(request, &context).await,
            decision::called_back,
        ),
        (Input::Inbound(inbound), _) => {
            let (answer, nanos) = entry
                .receive(inbound, &context, &mut Witness::absent())
                .await;
            (answer.map(|actions| decision::received(&actions)), nanos)
        }
    }
}

fn told<T>((answer, nanos): Called<T>, shown: fn(&T) -> Value) -> Called<Value> {
    (answer.map(|answer| shown(&answer)), nanos)
}

/// [`entry_of`] lets no such case through.
fn unfit() -> Called<Value> {
    let why = "the hook does not take this input".to_owned();
    (Err(Fault::Internal(why)), 0)
}

/// What keeps a case from passing, in lines.
pub fn failures(ran: &Ran, expected: Option<&Value>) -> (Vec<String>, Vec<Difference>) {
    let mut lines = ran.problems.clone();
    let differences = match expected {
        Some(expected) if ran.decision != Value::Null => {
            decision::differences(expected, &ran.decision)
        }
        Some(_) | None => Vec::new(),
    };
    if !differences.is_empty()
        && let Some(why) = &ran.why
    {
        lines.extend(why.lines().map(str::to_owned));
    }
    (lines, differences)
}

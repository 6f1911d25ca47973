//! What plugins answer, by the seed: all that the contract lets them, late answers and every way to fail. And the
//! two policies that take turns, with their fail modes and breakers.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use heliograph::domain::{
    Body, CarrierView, Context, Enriched, Hop, Inbound, InboundAction, Message, Network, Plan,
    RecipientProfile, Refusal, Routing, Ruling, Verdict,
};
use heliograph::pipeline::Policy;
use heliograph::plugin::{
    BreakerSpec, Engine, EngineLimits, Fail, Fault, Played, Player, PluginSpec, PolicySpec,
    PreviousSpec, inspect_component,
};
use serde_json::json;

use super::ledger::number_of;
use super::world::{State, World};
use crate::guests::{Guest, ROUTE_PASS, ZERO};

const DEADLINE_MS: u32 = 10;
const FILE: &str = "guest.wasm";
const ENRICHMENT: &str = "enrichment.wasm";
const OLDER: &str = "older.wasm";
/// What an enrichment adds.
pub const LABEL: &str = "seen-by";

/// Of which policies the server was told, and which one it said is in force.
#[derive(Default)]
pub struct Policies {
    pub ids: Vec<String>,
    in_force: Option<String>,
    /// Asked for, and not answered.
    asked: Option<String>,
}

/// Puts the components where the policies look for them.
pub fn provide(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for (name, component) in components() {
        std::fs::write(folder.join(name), component)?;
    }
    Ok(())
}

fn components() -> &'static [(&'static str, Vec<u8>)] {
    static COMPONENTS: OnceLock<Vec<(&str, Vec<u8>)>> = OnceLock::new();
    COMPONENTS.get_or_init(|| {
        let answer = |at: u32| format!("(i32.const {at})");
        let decisions = |data| Guest {
            hooks: vec![
                ("content-filter", "inspect", answer(ZERO)),
                ("compliance-check", "check", answer(ZERO)),
                ("routing-policy", "route", answer(ROUTE_PASS)),
                ("inbound-handler", "receive", answer(ZERO)),
            ],
            data,
            ..Guest::default()
        };
        let enrichment = Guest {
            contract: "0.2.0",
            hooks: vec![("enrichment", "enrich", answer(ZERO))],
            ..Guest::default()
        };
        vec![
            (FILE, decisions(Vec::new()).build()),
            (OLDER, decisions(vec![1]).build()),
            (ENRICHMENT, enrichment.build()),
        ]
    })
}

/// The components are compiled once for all seeds, and never run.
pub fn engine(world: &World) -> Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    let engine = ENGINE.get_or_init(|| {
        let engine = Engine::new(EngineLimits::default()).expect("an engine");
        let loading = engine.clone();
        // A runtime of its own: time stands still in the one that asks.
        let load = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            let runtime = runtime.expect("a runtime");
            for (_, component) in components() {
                let load = inspect_component(&loading, component.clone());
                runtime.block_on(load).expect("a plugin");
            }
        };
        std::thread::spawn(load).join().expect("a plugin is loaded");
        engine
    });
    engine.played_by(Arc::new(Plugins(world.clone())))
}

fn policies() -> [PolicySpec; 2] {
    let entry = |name: &str, hooks: &[&str]| PluginSpec {
        name: name.to_owned(),
        path: Some(FILE.to_owned()),
        hooks: Some(hooks.iter().map(|h| (*h).to_owned()).collect()),
        config: json!({}),
        ..PluginSpec::default()
    };
    let strict = entry(
        "strict",
        &[
            "content-filter",
            "compliance-check",
            "routing-policy",
            "inbound-handler",
        ],
    );
    let lenient = PluginSpec {
        fail: Some(Fail::Open),
        breaker: BreakerSpec {
            faults: Some(2),
            pause_s: Some(2),
            ..BreakerSpec::default()
        },
        ..entry("lenient", &["content-filter", "inbound-handler"])
    };
    let closed = PluginSpec {
        fail: Some(Fail::Closed),
        ..entry("closed", &["routing-policy"])
    };
    let renewed = PluginSpec {
        fail: Some(Fail::Previous),
        previous: Some(PreviousSpec {
            path: Some(OLDER.to_owned()),
            digest: None,
            config: None,
        }),
        ..entry("renewed", &["compliance-check", "inbound-handler"])
    };
    let enriching = |fail| PluginSpec {
        path: Some(ENRICHMENT.to_owned()),
        fail: Some(fail),
        ..entry("enriching", &["enrichment"])
    };
    let policy = |route: &[&str], plugins| PolicySpec {
        default_route: route.iter().map(|r| (*r).to_owned()).collect(),
        plugins,
        ..PolicySpec::default()
    };
    [
        policy(&["north", "south"], vec![enriching(Fail::Open), strict]),
        policy(
            &["south"],
            vec![enriching(Fail::Closed), lenient, renewed, closed],
        ),
    ]
}

/// The policy of the last life comes back, and both are ready to be swapped: applied anew, or as the history has them.
pub async fn resume(world: &World, policy: &Policy) {
    let resumed = match policy.resume().await {
        Ok(resumed) => resumed.map(|applied| applied.set.to_string()),
        Err(error) => return world.fault(format!("the policy does not come back: {error}")),
    };
    {
        let mut world = world.lock();
        let Policies {
            in_force, asked, ..
        } = &world.policies;
        if resumed != *in_force && resumed != *asked {
            let what = format!("the policy is {resumed:?}, and {in_force:?} was in force");
            world.fault(what);
        }
    }
    let history = policy.history();
    let known = |id: &String| history.iter().any(|entry| entry.set == *id);
    let left_alone = {
        let mut world = world.lock();
        let both = !world.policies.ids.is_empty() && world.policies.ids.iter().all(known);
        let left_alone = both && world.chance(70);
        if left_alone {
            world.policies.in_force = resumed;
            world.policies.asked = None;
        }
        left_alone
    };
    if !left_alone {
        apply(world, policy).await;
    }
    if world.lock().chance(50) {
        swap(world, policy).await;
    }
}

async fn apply(world: &World, policy: &Policy) {
    let mut ids = Vec::new();
    for spec in policies() {
        match policy.apply(&spec, None, "simulation").await {
            Ok(applied) => ids.push(applied.set.to_string()),
            Err(error) => return world.fault(format!("a policy is refused: {error}")),
        }
    }
    let mut world = world.lock();
    world.policies.in_force = ids.last().cloned();
    world.policies.asked = None;
    world.policies.ids = ids;
}

/// The other policy, by one swap of a pointer.
pub async fn swap(world: &World, policy: &Policy) {
    let active = policy.active().id().to_string();
    let to = {
        let mut world = world.lock();
        let to = world.policies.ids.iter().find(|id| **id != active).cloned();
        world.policies.asked.clone_from(&to);
        world.note(format_args!("policy: {to:?} is asked for"));
        to
    };
    let swapped = policy.rollback(to.as_deref(), "simulation").await;
    let mut world = world.lock();
    match swapped {
        Ok(applied) => {
            world.policies.in_force = Some(applied.set.to_string());
            world.policies.asked = None;
            world.note(format_args!("policy: {} is in force", applied.set));
        }
        // It may have been written down or not.
        Err(error) => world.note(format_args!("policy: {error}")),
    }
}

/// Answers for every plugin.
struct Plugins(World);

impl Plugins {
    /// `usual`, or what `other` makes up, or no answer.
    async fn answer<T>(
        &self,
        odd_percent: u64,
        usual: T,
        other: impl FnOnce(&mut State) -> T,
    ) -> Result<T, Fault> {
        let (late, fate) = {
            let mut world = self.0.lock();
            if world.calm {
                return Ok(usual);
            }
            let late = world.chance(15);
            (
                late.then(|| world.pick(1..DEADLINE_MS.into())),
                world.pick(0..100),
            )
        };
        if let Some(ms) = late {
            self.0.sleep(ms).await;
        }
        let fault = {
            let mut world = self.0.lock();
            let sick = world.now_ms() < world.plugins_sick_until;
            let fails = if sick { 90 } else { 3 };
            if fate >= fails {
                return Ok(match fate < fails + odd_percent {
                    true => other(&mut world),
                    false => usual,
                });
            }
            let text = || "simulated".to_owned();
            match world.pick(0..5) {
                0 => Fault::Trap(text()),
                1 => Fault::BadOutput(text()),
                2 => Fault::MemoryLimit { limit_bytes: 1 },
                3 => Fault::HostCallLimit(text()),
                _ => Fault::Timeout {
                    deadline_ms: DEADLINE_MS,
                },
            }
        };
        if matches!(fault, Fault::Timeout { .. }) {
            self.0.sleep(DEADLINE_MS.into()).await;
        }
        Err(fault)
    }
}

/// Another text, of one or two segments.
fn rewrite(world: &mut State, message: &Message) -> Body {
    let long = world.chance(30);
    let Some(n) = number_of(message) else {
        return message.body.clone();
    };
    // Of a part of a reply nothing but its text says whose it is.
    let length = [20, 200][usize::from(long && !world.ledger.entries[n].is_reply)];
    let text = format!("{:y<length$}", format!("{n}:{} ", world.pick(0..1_000_000)));
    world.ledger.entries[n].rewrites.push(text.clone());
    Body::Text(text)
}

fn refusal(world: &mut State, message: &Message) -> Refusal {
    if let Some(n) = number_of(message) {
        world.ledger.entries[n].refused_by_policy = true;
    }
    Refusal {
        code: "simulated".to_owned(),
        reason: "by the seed".to_owned(),
    }
}

fn later(world: &mut State, context: &Context) -> heliograph::clock::Timestamp {
    // Some lie in the past.
    let ms = world.pick(0..300_000);
    context.now.plus(Duration::from_millis(ms))
}

impl Player for Plugins {
    fn enrich<'a>(&'a self, message: &'a Message, _: &'a Context) -> Played<'a, Enriched> {
        Box::pin(self.answer(30, Enriched::Pass, move |world| {
            let found = Network {
                mcc: Some(234),
                mnc: Some(u16::try_from(world.pick(10..30)).unwrap_or(10)),
                ..message.network
            };
            Enriched::Found {
                network: world.chance(50).then_some(found),
                labels: vec![(LABEL.to_owned(), message.id.to_string())],
                reason: "by the seed".to_owned(),
            }
        }))
    }

    fn inspect<'a>(&'a self, message: &'a Message, _: &'a Context) -> Played<'a, Verdict> {
        let why = || "by the seed".to_owned();
        Box::pin(
            self.answer(12, Verdict::Pass, move |world| match world.pick(0..6) {
                0 => Verdict::Refuse(refusal(world, message)),
                1 => Verdict::Hold(why()),
                2 => {
                    refusal(world, message);
                    Verdict::Drop(why())
                }
                _ => Verdict::Replace {
                    body: rewrite(world, message),
                    reason: why(),
                },
            }),
        )
    }

    fn check<'a>(
        &'a self,
        message: &'a Message,
        _: &'a RecipientProfile,
        context: &'a Context,
    ) -> Played<'a, Ruling> {
        let reason = || "by the seed".to_owned();
        Box::pin(
            self.answer(10, Ruling::Allow, move |world| match world.pick(0..4) {
                0 => Ruling::Deny(refusal(world, message)),
                1 => Ruling::Amend {
                    body: rewrite(world, message),
                    reason: reason(),
                },
                _ => Ruling::Defer {
                    until: later(world, context),
                    reason: reason(),
                },
            }),
        )
    }

    fn route<'a>(
        &'a self,
        message: &'a Message,
        carriers: &'a [CarrierView],
        context: &'a Context,
    ) -> Played<'a, Routing> {
        let reason = || "by the seed".to_owned();
        Box::pin(
            self.answer(40, Routing::Pass, move |world| match world.pick(0..12) {
                0 => Routing::Refuse(refusal(world, message)),
                1 => Routing::Defer {
                    until: later(world, context),
                    reason: reason(),
                },
                n => {
                    let mut hops: Vec<Hop> = carriers
                        .iter()
                        .map(|carrier| Hop {
                            carrier: carrier.id.clone(),
                            originator: None,
                            price_micros: None,
                            tlvs: Vec::new(),
                        })
                        .collect();
                    if n % 2 == 0 {
                        hops.reverse();
                    }
                    if n < 7 {
                        hops.truncate(1);
                    }
                    Routing::Send(Plan {
                        hops,
                        reason: reason(),
                        reroute: None,
                    })
                }
            }),
        )
    }

    fn receive<'a>(
        &'a self,
        inbound: &'a Inbound,
        _: &'a Context,
    ) -> Played<'a, Vec<InboundAction>> {
        Box::pin(
            self.answer(20, Vec::new(), move |world| match world.pick(0..3) {
                0 => vec![InboundAction::Label("seen".to_owned())],
                1 => {
                    world.handsets.consumed.insert(inbound.id);
                    vec![InboundAction::Consume]
                }
                _ => vec![InboundAction::Reply(world.replying())],
            }),
        )
    }
}

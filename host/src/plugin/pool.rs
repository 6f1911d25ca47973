//! Warm, configured instances of one component as one entry uses it, and what a call of them costs:
//! deadline, memory, breaker, counters. An instance that misbehaved once is never used again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{PoolConcurrencyLimitError, Store, Trap};

use super::answer::Raised;
use super::breaker::{Breaker, BreakerReport, BreakerState, Settings};
use super::contract::{self, Capability, Exports, Guest};
use super::engine::Engine;
use super::host_calls::{About, CallState, Capabilities, DeadlinePassed, TooMuch};
use super::ledger::Who;
use super::load::Loaded;
use super::meter::now;
use super::player::Player;
use super::spec::Limits;
use super::stats::{EntryStats, Stats};
use super::tenant::Tenant;
use super::view::Disclosure;
use super::wasi::{self, WasiTrap};
use super::witness::{StateView, Witness};
use super::{Called, Fault};
use crate::domain::{CallOutcome, Context, Hook, MessageId, Phase};

/// Bytes that one call may have the host copy out of a plugin.
pub(super) const COPY_BYTES_MAX: usize = 1 << 20;

const DECISION_DEADLINE_MS: u32 = 10;
const ADAPTER_DEADLINE_MS: u32 = 10_000;
const CONFIGURE_MS: u32 = 1_000;
const MEMORY_MIB: u32 = 16;
const CALLS: u32 = 10_000;
const INSTANCES: u32 = 32;
/// How long a message that is queued waits for an instance: nobody waits for its answer.
const QUEUED_WAIT: Duration = Duration::from_secs(5);

/// An entry's limits with the defaults filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    deadline_ms: Option<u32>,
    pub configure_ms: u32,
    pub memory_bytes: usize,
    /// Calls that one instance answers.
    pub calls: u32,
    pub instances: u32,
}

impl Bounds {
    pub fn new(limits: &Limits) -> Bounds {
        let mib = limits.memory_mib.unwrap_or(MEMORY_MIB);
        Bounds {
            deadline_ms: limits.deadline_ms,
            configure_ms: limits.configure_ms.unwrap_or(CONFIGURE_MS),
            memory_bytes: usize::try_from(mib)
                .unwrap_or(usize::MAX)
                .saturating_mul(1 << 20),
            calls: limits.calls.unwrap_or(CALLS),
            instances: limits.instances.unwrap_or(INSTANCES),
        }
    }

    pub fn deadline_ms(&self, hook: Hook) -> u32 {
        self.deadline_ms.unwrap_or(match hook {
            Hook::Enrichment
            | Hook::ContentFilter
            | Hook::ComplianceCheck
            | Hook::RoutingPolicy
            | Hook::InboundHandler => DECISION_DEADLINE_MS,
            Hook::CarrierAdapter => ADAPTER_DEADLINE_MS,
        })
    }
}

/// One component, configured and linked for one entry.
pub(super) struct Pool {
    pub loaded: Arc<Loaded>,
    pub bounds: Bounds,
    pub disclosure: Disclosure,
    grants: Arc<Capabilities>,
    config: String,
    /// What it was linked with: the same goes for better code.
    links: Vec<Capability>,
    linked: Mutex<Arc<Linked>>,
    /// Counts up with `linked`.
    generation: AtomicU32,
    idle: Mutex<Vec<Warm>>,
    permits: Semaphore,
    /// Whoever decides again about what is queued has half of the instances, so that a queue that is decided
    /// anew at once, as after a change of policy, keeps nobody waiting at the door.
    queued_permits: Semaphore,
    /// The account whose own entry it is.
    tenant: Option<Arc<Tenant>>,
    player: Option<Arc<dyn Player>>,
    /// By hook: a filter that works is not skipped because the routing of the same plugin fails.
    hooks: [PerHook; Hook::ALL.len()],
}

struct PerHook {
    serves: bool,
    stats: Arc<Stats>,
    breaker: Breaker,
}

/// On what terms an entry runs its component.
pub(super) struct Terms {
    /// Capabilities that may be imported; `grants` is what is behind them.
    pub linked: Vec<Capability>,
    pub grants: Capabilities,
    pub disclosure: Disclosure,
    /// JSON, valid by the component's schema.
    pub config: String,
    pub bounds: Bounds,
    pub breaker: Settings,
    pub tenant: Option<Arc<Tenant>>,
    /// Whether it answers in place of a newer version.
    pub previous: bool,
    /// The entry's name.
    pub name: String,
}

/// The code that new instances are made of.
struct Linked {
    pre: InstancePre<CallState>,
    exports: Exports,
    generation: u32,
}

/// A configured instance.
pub(super) struct Warm {
    pub store: Store<CallState>,
    /// Boxed: an instance is handed on several times at every call.
    pub guest: Box<Guest>,
    calls_left: u32,
    /// Of [`Linked`].
    generation: u32,
}

/// A call under way. Dropped before [`Pool::end`], it takes the instance with it: a guest that was
/// left in the middle of something is not called again.
pub(super) struct Run<'p> {
    pub warm: Warm,
    _permit: SemaphorePermit<'p>,
    _queued: Option<SemaphorePermit<'p>>,
    _of_account: Option<SemaphorePermit<'p>>,
}

/// Why there is no configured instance.
pub(super) enum NotConfigured {
    /// The plugin's own word on its configuration.
    Refused(String),
    Fault(Fault),
}

impl Pool {
    /// The error is for whoever deploys: what the component lacks or what it may not have.
    pub fn new(
        engine: &Engine,
        loaded: Arc<Loaded>,
        hooks: &[Hook],
        terms: Terms,
    ) -> Result<Pool, String> {
        let Terms {
            linked,
            grants,
            disclosure,
            config,
            bounds,
            breaker,
            tenant,
            previous,
            name,
        } = terms;
        let component = loaded.code.component();
        let code = link(engine, &loaded, &component, &linked, hooks, 0)?;
        let counters = |hook| {
            engine.ledger().stats(Who {
                entry: name.clone(),
                plugin: loaded.manifest.name.clone(),
                version: loaded.manifest.version.clone(),
                hook,
                account: tenant.as_ref().map(|t| t.usage.account.clone()),
                previous,
            })
        };
        let per_hook = Hook::ALL.map(|hook| PerHook {
            serves: hooks.contains(&hook),
            stats: if hooks.contains(&hook) {
                counters(hook)
            } else {
                Arc::new(Stats::new())
            },
            breaker: Breaker::new(breaker),
        });
        Ok(Pool {
            loaded,
            disclosure,
            grants: Arc::new(grants),
            config,
            links: linked,
            linked: Mutex::new(Arc::new(code)),
            generation: AtomicU32::new(0),
            idle: Mutex::new(Vec::new()),
            permits: Semaphore::new(usize::try_from(bounds.instances).unwrap_or(1)),
            queued_permits: Semaphore::new(
                usize::try_from(bounds.instances / 2).unwrap_or(1).max(1),
            ),
            tenant,
            player: engine.player(),
            hooks: per_hook,
            bounds,
        })
    }

    /// Makes the first instance, so that a plugin which does not like its configuration says so
    /// before anything depends on it.
    pub async fn warm_up(&self) -> Result<(), NotConfigured> {
        let warm = self.make().await?;
        self.put_back(warm);
        Ok(())
    }

    /// From now on instances are made of `component`, which is the same compiled better. The first one is made
    /// before anything changes; instances of the old code are let go of as they come back. Counters, breakers,
    /// state and lanes stay what they are.
    pub async fn take_over(&self, engine: &Engine, component: &Component) -> Result<(), String> {
        let generation = self.generation.load(Relaxed).wrapping_add(1);
        let hooks = Hook::ALL.into_iter();
        let hooks: Vec<Hook> = hooks.filter(|h| self.hooks[*h as usize].serves).collect();
        let loaded = &self.loaded;
        let code = link(engine, loaded, component, &self.links, &hooks, generation)?;
        let code = Arc::new(code);
        let warm = match self.make_of(&code).await {
            Ok(warm) => warm,
            Err(NotConfigured::Refused(why)) => return Err(why),
            Err(NotConfigured::Fault(fault)) => return Err(fault.to_string()),
        };
        *self.linked.lock() = code;
        self.generation.store(generation, Relaxed);
        let mut idle = self.idle.lock();
        let old = std::mem::take(&mut *idle);
        // A pool that was cooled stays so.
        if !old.is_empty() {
            idle.push(warm);
        }
        drop(idle);
        drop(old);
        Ok(())
    }

    /// Lets go of all idle instances.
    pub fn cool(&self) {
        let idle = std::mem::take(&mut *self.idle.lock());
        drop(idle);
    }

    pub fn stats(&self, hook: Hook) -> EntryStats {
        self.hooks[hook as usize].stats.counts().read()
    }

    pub fn breaker(&self, hook: Hook) -> BreakerState {
        self.hooks[hook as usize].breaker.state()
    }

    pub fn breaker_report(&self, hook: Hook) -> BreakerReport {
        self.hooks[hook as usize].breaker.report(now())
    }

    pub fn tenant(&self) -> Option<&Tenant> {
        self.tenant.as_deref()
    }

    /// Bytes of state that the entry holds, where the store tells, and how many it may hold.
    pub fn state_used(&self) -> Option<(Option<u64>, u64)> {
        let (store, quota) = self.grants.state.as_ref()?;
        Some((store.used(&self.grants.owner), *quota))
    }

    /// Takes the nanoseconds that a thread worked for a call of `hook`, as they come. Calls that
    /// repeat others are not counted: they are no news of how the plugin does.
    pub fn bill(&self, hook: Hook, counted: bool) -> impl Fn(u64) + Unpin + use<'_> {
        move |nanos| {
            if counted {
                self.hooks[hook as usize].stats.worked(nanos);
                if let Some(tenant) = &self.tenant {
                    tenant.used(nanos);
                }
            }
        }
    }

    /// An instance for one call, warm where there is one.
    pub async fn begin(
        &self,
        hook: Hook,
        context: &Context,
        message: Option<MessageId>,
        witness: &mut Witness,
    ) -> Result<Run<'_>, Fault> {
        let per_hook = &self.hooks[hook as usize];
        // What repeats calls of another time is not held to what the present ones used.
        let tenant = self.tenant.as_ref().filter(|_| !witness.recalls());
        if let Some(tenant) = tenant {
            tenant.admit(now())?;
        }
        if !witness.recalls() && per_hook.breaker.is_troubled() && !per_hook.breaker.admits(now()) {
            return Err(Fault::Skipped);
        }
        let deadline_ms = self.bounds.deadline_ms(hook);
        let is_queued =
            matches!(context.phase, Phase::Dispatch | Phase::Retry) && hook != Hook::CarrierAdapter;
        let longest = match is_queued {
            true => QUEUED_WAIT,
            false => Duration::from_millis(deadline_ms.into()),
        };
        let queued = match is_queued {
            true => Some(self.permit(&self.queued_permits, longest).await?),
            false => None,
        };
        let of_account = match tenant {
            Some(tenant) => Some(tenant.permit(longest).await?),
            None => None,
        };
        let permit = self.permit(&self.permits, longest).await?;
        let idle = self.idle.lock().pop();
        let mut warm = match idle {
            Some(warm) => warm,
            None => {
                if !witness.recalls() {
                    per_hook.stats.instance_made();
                }
                self.make().await.map_err(|e| match e {
                    NotConfigured::Fault(fault) => fault,
                    NotConfigured::Refused(why) => {
                        Fault::Internal(format!("configure refused: {why}"))
                    }
                })?
            }
        };
        let preview = context.phase == Phase::Preview;
        let view = witness.view(&self.grants.owner, hook, preview);
        let about = About {
            hook: Some(hook),
            message,
        };
        warm.begin(deadline_ms, about, view, context);
        Ok(Run {
            warm,
            _permit: permit,
            _queued: queued,
            _of_account: of_account,
        })
    }

    async fn permit<'a>(
        &self,
        permits: &'a Semaphore,
        longest: Duration,
    ) -> Result<SemaphorePermit<'a>, Fault> {
        if let Ok(permit) = permits.try_acquire() {
            return Ok(permit);
        }
        match tokio::time::timeout(longest, permits.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(Fault::Busy {
                instances: self.bounds.instances,
                waited_ms: u64::try_from(longest.as_millis()).unwrap_or(u64::MAX),
            }),
        }
    }

    /// Reads what came of a call; the instance goes back where nothing was wrong with it.
    pub fn end<T>(
        &self,
        hook: Hook,
        mut run: Run<'_>,
        raised: Raised<T>,
        witness: &mut Witness,
    ) -> Result<T, Fault> {
        let state = run.warm.store.data_mut();
        state.end();
        witness.returned(&self.grants.owner, hook, state.take_view());
        if !witness.recalls() {
            let stats = &self.hooks[hook as usize].stats;
            stats.memory_used(state.memory().high_water);
            stats.host_called(state.host_calls());
            let (written, dropped) = state.logged();
            stats.logged(written, dropped);
        }
        match &raised {
            Ok(Ok(_)) => state.answered(),
            Ok(Err(_)) | Err(_) => state.failed(),
        }
        match raised {
            Ok(Ok(answer)) => {
                run.warm.calls_left = run.warm.calls_left.saturating_sub(1);
                if run.warm.calls_left > 0 {
                    self.put_back(run.warm);
                }
                Ok(answer)
            }
            Ok(Err(bad)) => Err(Fault::BadOutput(bad.0)),
            Err(error) => Err(run.warm.fault(&error, self.bounds.deadline_ms(hook))),
        }
    }

    /// Counts a call that began at `started`, whatever came of it and when.
    pub fn count<T>(
        &self,
        hook: Hook,
        started: Instant,
        counted: bool,
        (answer, now): (Result<T, Fault>, Instant),
        outcome: impl FnOnce(&T) -> CallOutcome,
    ) -> Called<T> {
        let PerHook { stats, breaker, .. } = &self.hooks[hook as usize];
        let nanos = u64::try_from(now.duration_since(started).as_nanos()).unwrap_or(u64::MAX);
        let short = u32::try_from(nanos).unwrap_or(u32::MAX);
        if !counted {
            return (answer, short);
        }
        match &answer {
            Ok(answer) => {
                stats.called(nanos);
                stats.answered(outcome(answer));
                if breaker.succeeded(now) {
                    stats.closed();
                }
            }
            // Not called, which says nothing of the plugin.
            Err(fault) if !fault.was_called() => stats.faulted(fault),
            Err(fault) => {
                stats.called(nanos);
                stats.faulted(fault);
                let mut opens = breaker.failed(now, fault);
                let lane = &self.grants.lane;
                if lane.is_broke(now)
                    && let Some(until) = breaker.overspent(now)
                {
                    lane.nothing_before(until);
                    opens = true;
                }
                if opens {
                    stats.opened();
                }
            }
        }
        if let Some(tenant) = &self.tenant {
            tenant.called(&answer);
        }
        (answer, short)
    }

    async fn make(&self) -> Result<Warm, NotConfigured> {
        let linked = self.linked.lock().clone();
        self.make_of(&linked).await
    }

    async fn make_of(&self, linked: &Linked) -> Result<Warm, NotConfigured> {
        let mut store = new_store(
            linked.pre.engine(),
            self.grants.clone(),
            self.bounds.memory_bytes,
        );
        if let Some(player) = &self.player {
            return Ok(Warm {
                store,
                guest: Box::new(Guest::Played(player.clone())),
                calls_left: self.bounds.calls,
                generation: linked.generation,
            });
        }
        let ticks = self.bounds.configure_ms;
        store.data_mut().begin_making(ticks);
        store.set_epoch_deadline(1);
        let made = self.instantiate(linked, &mut store).await;
        let (guest, answer) = match made {
            Ok(made) => made,
            Err(error) => {
                store.data_mut().failed();
                return Err(NotConfigured::Fault(fault_of(&mut store, &error, ticks)));
            }
        };
        match answer {
            Ok(()) => Ok(Warm {
                store,
                guest: Box::new(guest),
                calls_left: self.bounds.calls,
                generation: linked.generation,
            }),
            Err(why) => Err(NotConfigured::Refused(why)),
        }
    }

    async fn instantiate(
        &self,
        linked: &Linked,
        store: &mut Store<CallState>,
    ) -> wasmtime::Result<(Guest, Result<(), String>)> {
        let instance = linked.pre.instantiate_async(&mut *store).await?;
        let guest = linked.exports.load(store, &instance)?;
        let answer = guest.configure(store, &self.config).await?;
        Ok((guest, answer))
    }

    fn put_back(&self, warm: Warm) {
        if warm.generation == self.generation.load(Relaxed) {
            self.idle.lock().push(warm);
        }
    }
}

/// `component` is `loaded`'s code. The error is for whoever deploys.
fn link(
    engine: &Engine,
    loaded: &Loaded,
    component: &Component,
    granted: &[Capability],
    hooks: &[Hook],
    generation: u32,
) -> Result<Linked, String> {
    let text = |e: wasmtime::Error| format!("{e:#}");
    let mut linker = Linker::new(engine.wasm());
    contract::link(loaded.contract, &mut linker, granted).map_err(text)?;
    if loaded.wasi {
        wasi::link(&mut linker, component).map_err(text)?;
    }
    let pre = linker.instantiate_pre(component).map_err(text)?;
    let exports = Exports::find(loaded.contract, &pre, hooks).map_err(text)?;
    Ok(Linked {
        pre,
        exports,
        generation,
    })
}

impl Warm {
    fn begin(&mut self, deadline_ms: u32, about: About, view: StateView, context: &Context) {
        let state = self.store.data_mut();
        state.begin(deadline_ms, about, view);
        state.decide(context);
        self.store.set_epoch_deadline(1);
    }

    fn fault(&mut self, error: &wasmtime::Error, deadline_ms: u32) -> Fault {
        fault_of(&mut self.store, error, deadline_ms)
    }
}

/// A store with the limits that hold for every guest.
pub(super) fn new_store(
    engine: &wasmtime::Engine,
    grants: Arc<Capabilities>,
    memory_bytes: usize,
) -> Store<CallState> {
    let mut store = Store::new(engine, CallState::new(grants, memory_bytes));
    store.limiter(|state| state.memory());
    store.set_hostcall_fuel(COPY_BYTES_MAX);
    store.epoch_deadline_callback(|mut store| store.data_mut().tick());
    store
}

pub(super) fn fault_of(
    store: &mut Store<CallState>,
    error: &wasmtime::Error,
    deadline_ms: u32,
) -> Fault {
    store.data_mut().end();
    if let Some(fault) = error.downcast_ref::<Fault>() {
        return fault.clone();
    }
    if error.downcast_ref::<DeadlinePassed>().is_some() {
        return Fault::Timeout { deadline_ms };
    }
    if let Some(too_much) = error.downcast_ref::<TooMuch>() {
        return Fault::HostCallLimit(too_much.0.clone());
    }
    if let Some(trap) = error.downcast_ref::<WasiTrap>() {
        return Fault::Trap(trap.0.clone());
    }
    let memory = store.data_mut().memory();
    if memory.denied {
        return Fault::MemoryLimit {
            limit_bytes: memory.limit as u64,
        };
    }
    if error.downcast_ref::<PoolConcurrencyLimitError>().is_some() {
        return Fault::Internal(
            "no room for another instance: plugins.instances of them live already".into(),
        );
    }
    match error.downcast_ref::<Trap>() {
        Some(trap) => Fault::Trap(
            trap.to_string()
                .trim_start_matches("wasm trap: ")
                .to_owned(),
        ),
        // Not a trap and not ours: the canonical ABI found that what the guest handed over is no
        // value of its type, or more of it than may be copied.
        None => Fault::BadOutput(format!("{error:#}")),
    }
}

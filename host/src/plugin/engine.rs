//! The wasmtime engine: which WebAssembly is spoken, how much all plugins together may hold, and the
//! thread that ticks the epoch. Knows nothing of what plugins are for.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};
use wasmtime::{Config, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};

use super::child::CompileMode;
use super::ledger::Ledger;
use super::load::Loaded;
use super::player::Player;
use super::signature::Trust;

/// The epoch moves this often: the grain of every deadline, and the longest time for which a
/// plugin keeps a worker thread before it yields.
pub(super) const TICK: Duration = Duration::from_millis(1);

/// Limits over all plugins together.
#[derive(Clone, Debug)]
pub struct EngineLimits {
    /// Plugin instances that live at once, idle ones included.
    pub instances: u32,
    /// The most that `limits.memory_mib` of an entry may ask for.
    pub memory_max_mib: u32,
    /// Where compiled plugins are kept between runs; none: they are compiled at every start.
    pub cache: Option<CodeCache>,
    /// Where plugins are compiled.
    pub compile: CompileMode,
    /// By whom a component must be signed to come into a set; none: by nobody.
    pub trust: Trust,
    /// What a component may be, and what compiling it may cost.
    pub component: ComponentLimits,
}

/// Limits on one component. The defaults take what the JavaScript and Python toolchains make: an interpreter
/// of 10 to 20 MiB and tens of thousands of functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ComponentLimits {
    pub max_mib: u32,
    pub max_functions: u32,
    /// CPU time, all threads of the compiler together.
    pub compile_seconds: u32,
    /// Address space of the compiler.
    pub compile_memory_mib: u32,
}

impl Default for ComponentLimits {
    fn default() -> ComponentLimits {
        ComponentLimits {
            max_mib: 32,
            max_functions: 40_000,
            compile_seconds: 60,
            compile_memory_mib: 2_048,
        }
    }
}

impl ComponentLimits {
    /// No setting lets a larger one in.
    pub const MIB_CEILING: u32 = 64;

    pub fn bytes(&self) -> usize {
        (self.max_mib.min(Self::MIB_CEILING) as usize) << 20
    }
}

/// A folder of native code, and the key that tells our own files from any other.
#[derive(Clone)]
pub struct CodeCache {
    pub folder: PathBuf,
    pub key: [u8; 32],
    /// Of all files together; what is in use is kept beyond it.
    pub octets_max: u64,
}

impl fmt::Debug for CodeCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CodeCache({})", self.folder.display())
    }
}

impl Default for EngineLimits {
    fn default() -> EngineLimits {
        EngineLimits {
            instances: 512,
            memory_max_mib: 128,
            cache: None,
            compile: CompileMode::InProcess,
            trust: Trust::default(),
            component: ComponentLimits::default(),
        }
    }
}

/// The runtime that all plugins share. A clone is the same engine.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    wasm: wasmtime::Engine,
    limits: EngineLimits,
    /// Components in use, by digest: two sets that share a plugin share its code.
    loaded: Mutex<HashMap<[u8; 32], Weak<Loaded>>>,
    /// The last ones, in use or not: what was just uploaded is about to be put into a policy.
    recent: Mutex<VecDeque<Arc<Loaded>>>,
    ledger: Ledger,
    /// A set is in force: compiling goes behind what it decides.
    serving: AtomicBool,
    /// One component at a time is compiled again.
    improving: Semaphore,
    /// Sets that are being built.
    building: AtomicUsize,
    /// What answers in the place of every component.
    player: Option<Arc<dyn Player>>,
}

/// A set is being built for as long as it lives.
pub(super) struct Building(Engine);

impl Drop for Building {
    fn drop(&mut self) {
        self.0.0.building.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The machine refused what the engine needs.
#[derive(Debug)]
pub struct EngineError(String);

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the plugin runtime cannot start: {}", self.0)
    }
}

impl std::error::Error for EngineError {}

/// Stack of a guest. The fibre that it runs on is larger, because host calls run there too.
const WASM_STACK_BYTES: usize = 512 << 10;
const FIBRE_STACK_BYTES: usize = 1 << 20;
/// A component in Rust or C is one module of its own and the shims that `wit-component` adds; one in Python
/// is an interpreter and its libraries. These only count, and what is not used takes no room.
const CORE_INSTANCES_PER_COMPONENT: u32 = 128;
const TABLES_PER_COMPONENT: u32 = 8;
const MEMORIES_PER_COMPONENT: u32 = 4;
/// An interpreter puts most of its functions into a table.
pub(super) const TABLE_ELEMENTS: usize = 40_000;
/// How often who waits for sets to be built looks.
const BUILT_CHECK: Duration = Duration::from_millis(50);
/// Components kept compiled without being in use.
const RECENT_MAX: usize = 8;

impl Engine {
    pub fn new(limits: EngineLimits) -> Result<Engine, EngineError> {
        let mut config = compiler_config();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pooling(&limits)));
        let wasm = wasmtime::Engine::new(&config).map_err(|e| EngineError(format!("{e:#}")))?;
        let weak = wasm.weak();
        std::thread::Builder::new()
            .name("plugin-epoch".into())
            .spawn(move || {
                while let Some(engine) = weak.upgrade() {
                    engine.increment_epoch();
                    drop(engine);
                    std::thread::sleep(TICK);
                }
            })
            .map_err(|e| EngineError(format!("no thread for the epoch: {e}")))?;
        Ok(Engine(Arc::new(Inner {
            wasm,
            limits,
            loaded: Mutex::new(HashMap::new()),
            recent: Mutex::new(VecDeque::new()),
            ledger: Ledger::default(),
            serving: AtomicBool::new(false),
            improving: Semaphore::new(1),
            building: AtomicUsize::new(0),
            player: None,
        })))
    }

    /// For simulations: one that has the same code loaded, runs none of it, and counts by itself. Whatever a
    /// component would be asked, `player` answers.
    pub fn played_by(&self, player: Arc<dyn Player>) -> Engine {
        let recent = self.0.recent.lock().clone();
        let loaded = recent.iter().map(|l| (l.digest, Arc::downgrade(l)));
        Engine(Arc::new(Inner {
            wasm: self.0.wasm.clone(),
            limits: self.0.limits.clone(),
            loaded: Mutex::new(loaded.collect()),
            recent: Mutex::new(recent),
            ledger: Ledger::default(),
            serving: AtomicBool::new(false),
            improving: Semaphore::new(1),
            building: AtomicUsize::new(0),
            player: Some(player),
        }))
    }

    pub(super) fn player(&self) -> Option<Arc<dyn Player>> {
        self.0.player.clone()
    }

    pub fn limits(&self) -> &EngineLimits {
        &self.0.limits
    }

    /// What plugins did and used since the engine started, whatever set they were in.
    pub fn ledger(&self) -> &Ledger {
        &self.0.ledger
    }

    /// The first set is ready: whatever is compiled from now on is compiled beside traffic.
    pub(super) fn begin_serving(&self) {
        self.0.serving.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_serving(&self) -> bool {
        self.0.serving.load(Ordering::Relaxed)
    }

    /// A set begins to be built.
    pub(super) fn begin_building(&self) -> Building {
        self.0.building.fetch_add(1, Ordering::Relaxed);
        Building(self.clone())
    }

    /// The turn of who compiles again what was compiled quickly: one at a time, and while no set waits for the
    /// processor.
    pub(super) async fn improving(&self) -> Option<SemaphorePermit<'_>> {
        // Never closed.
        let turn = self.0.improving.acquire().await.ok();
        while self.0.building.load(Ordering::Relaxed) > 0 {
            tokio::time::sleep(BUILT_CHECK).await;
        }
        turn
    }

    pub(super) fn wasm(&self) -> &wasmtime::Engine {
        &self.0.wasm
    }

    pub(super) fn loaded(&self, digest: &[u8; 32]) -> Option<Arc<Loaded>> {
        self.0.loaded.lock().get(digest).and_then(Weak::upgrade)
    }

    /// Of the components that are in use, or were just uploaded.
    pub(super) fn digests(&self) -> Vec<[u8; 32]> {
        let all = self.0.loaded.lock();
        let alive = all.iter().filter(|(_, known)| known.strong_count() > 0);
        alive.map(|(digest, _)| *digest).collect()
    }

    pub(super) fn remember(&self, loaded: &Arc<Loaded>) {
        let mut all = self.0.loaded.lock();
        all.retain(|_, known| known.strong_count() > 0);
        all.insert(loaded.digest, Arc::downgrade(loaded));
        let mut recent = self.0.recent.lock();
        recent.push_back(loaded.clone());
        let oldest = (recent.len() > RECENT_MAX).then(|| recent.pop_front());
        drop((recent, all));
        // Its code is unmapped after the locks are let go.
        drop(oldest);
    }
}

/// What the compiler needs to know, the same in the server and in the process that compiles for it.
pub(super) fn compiler_config() -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .wasm_simd(true)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        // What joins components within a component copies from one memory to another. A guest's own limit
        // counts all its memories together.
        .wasm_multi_memory(true)
        .wasm_tail_call(false)
        .wasm_custom_page_sizes(false)
        .wasm_wide_arithmetic(false)
        .cranelift_opt_level(OptLevel::Speed)
        // A recorded decision must come out the same on any machine.
        .cranelift_nan_canonicalization(true)
        .epoch_interruption(true)
        .max_wasm_stack(WASM_STACK_BYTES)
        .async_stack_size(FIBRE_STACK_BYTES)
        .wasm_backtrace_max_frames(None)
        .generate_address_map(false)
        .native_unwind_info(false)
        .memory_init_cow(true);
    config
}

fn pooling(limits: &EngineLimits) -> PoolingAllocationConfig {
    let instances = limits.instances;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(16))
        .total_memories(instances.saturating_mul(2))
        .total_tables(instances.saturating_mul(2))
        .total_stacks(instances)
        .max_core_instances_per_component(CORE_INSTANCES_PER_COMPONENT)
        .max_memories_per_component(MEMORIES_PER_COMPONENT)
        .max_memories_per_module(1)
        .max_tables_per_component(TABLES_PER_COMPONENT)
        .table_elements(TABLE_ELEMENTS)
        .max_memory_size(
            usize::try_from(limits.memory_max_mib)
                .unwrap_or(usize::MAX)
                .saturating_mul(1 << 20),
        );
    pool
}

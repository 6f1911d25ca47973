//! What outlives every restart of the simulated server: the one source of all chance, the true time, the
//! machine's clock, the disk's and the network's moods, the trace and the faults found.

use std::fmt;
use std::fs::File;
use std::hash::Hasher as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fs2::FileExt as _;
use heliograph::clock::Times;
use heliograph::store::Probes;
use parking_lot::{Mutex, MutexGuard};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::time::Instant;

use super::super::lost_pages::{torn, whole};
use super::centre::Open;
use super::defect::Defect;
use super::handsets::Handsets;
use super::ledger::Ledger;
use super::plugins::Policies;
use super::smsc::Smsc;

/// 2026-03-01: where every simulation begins.
const START_MS: u64 = 1_772_323_200_000;
/// One life of so many is not told how long nobody sets its clock.
const LIFE_BY_SECONDS: u32 = 5;
pub const PLENTY_OCTETS: u64 = 1 << 40;

/// One simulation. A clone is the same one.
#[derive(Clone)]
pub struct World(Arc<Mutex<State>>);

pub struct State {
    pub rng: StdRng,
    pub defect: Option<Defect>,
    /// What the store's file held at the last sync that was one, where others only pretend.
    covered: Option<Vec<u8>>,
    /// Milliseconds that have truly passed when the present life began.
    base_ms: u64,
    life_began: Option<Instant>,
    pub lives: u32,
    /// How far the machine's clock is off, and whether somebody ever set it ahead.
    pub clock_off_ms: i64,
    pub clock_was_ahead: bool,
    /// Nobody sets it before this moment of the true time.
    pub clock_is_left_until_ms: u64,
    /// A server that starts takes the machine's clock as it is: by so much it was set ahead meanwhile.
    clock_at_start_ms: i64,
    pub taken_over_ms: u64,
    pub free_octets: u64,
    pub power: Power,
    pub sync_fails: bool,
    /// Syncs that came back well.
    pub syncs: u64,
    /// A sync failed: the store of this life takes nothing any more.
    pub stopped: bool,
    /// Since when the store of this life does not write.
    pub store_faulty_since: Option<u64>,
    pub webhooks_fail_until: u64,
    pub plugins_sick_until: u64,
    pub calm: bool,
    pub smscs: Vec<Smsc>,
    pub ledger: Ledger,
    pub handsets: Handsets,
    pub policies: Policies,
    hash: std::hash::DefaultHasher,
    trace: Option<Vec<String>>,
    pub faults: Vec<String>,
}

/// Whether a crash takes with it what no sync has covered.
pub enum Power {
    On,
    /// It fails with the next crash. What the store's file held as the last sync began, if there was one.
    Failing(Option<Vec<u8>>),
}

impl World {
    pub fn new(seed: u64, keep_trace: bool, defect: Option<Defect>) -> World {
        let mut rng = StdRng::seed_from_u64(seed);
        let smscs = (0..2).map(|n| Smsc::new(n, &mut rng)).collect();
        World(Arc::new(Mutex::new(State {
            rng,
            defect,
            covered: None,
            base_ms: 0,
            life_began: None,
            lives: 0,
            clock_off_ms: 0,
            clock_was_ahead: false,
            clock_is_left_until_ms: 0,
            clock_at_start_ms: 0,
            taken_over_ms: 0,
            free_octets: PLENTY_OCTETS,
            power: Power::On,
            sync_fails: false,
            syncs: 0,
            stopped: false,
            store_faulty_since: None,
            webhooks_fail_until: 0,
            plugins_sick_until: 0,
            calm: false,
            smscs,
            ledger: Ledger::default(),
            handsets: Handsets::default(),
            policies: Policies::default(),
            hash: std::hash::DefaultHasher::new(),
            trace: keep_trace.then(Vec::new),
            faults: Vec::new(),
        })))
    }

    /// Never held over an await.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }

    pub fn now_ms(&self) -> u64 {
        self.lock().now_ms()
    }

    pub fn note(&self, what: fmt::Arguments<'_>) {
        self.lock().note(what);
    }

    pub fn fault(&self, what: String) {
        self.lock().fault(what);
    }

    pub async fn sleep(&self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    /// Sleeps a while out of the range.
    pub async fn pause(&self, ms: std::ops::Range<u64>) {
        let ms = self.lock().pick(ms);
        self.sleep(ms).await;
    }

    pub fn probes(&self) -> Probes {
        let (syncing, measuring) = (self.clone(), self.clone());
        Probes {
            sync: Arc::new(move |file| syncing.lock().sync(file)),
            free_octets: Arc::new(move |_| Ok(measuring.lock().free_octets)),
        }
    }

    pub fn hash(&self) -> u64 {
        self.lock().hash.finish()
    }

    pub fn take_trace(&self) -> Vec<String> {
        self.lock().trace.take().unwrap_or_default()
    }
}

impl State {
    pub fn begin_life(&mut self) {
        self.life_began = Some(Instant::now());
        self.lives += 1;
        let ahead = self.clock_off_ms - self.clock_at_start_ms;
        self.taken_over_ms += u64::try_from(ahead).unwrap_or(0);
        self.clock_at_start_ms = self.clock_off_ms;
        self.store_faulty_since = None;
        self.stopped = false;
        self.sync_fails = false;
        self.power = Power::On;
        self.covered = None;
        for smsc in &mut self.smscs {
            smsc.open = Open::default();
        }
    }

    /// Nobody sets the clock for so long. Some lives are told and sleep until something happens; the others
    /// look every second, as they do by a machine's clock.
    pub fn leave_clock_for(&mut self, ms: u64) {
        if !self.lives.is_multiple_of(LIFE_BY_SECONDS) {
            self.clock_is_left_until_ms = self.now_ms() + ms;
        }
    }

    pub fn end_life(&mut self, downtime_ms: u64) {
        self.base_ms = self.now_ms() + downtime_ms;
        self.life_began = None;
    }

    pub fn now_ms(&self) -> u64 {
        let passed = self.life_began.map_or(0, |began| {
            u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
        });
        self.base_ms + passed
    }

    pub fn pick(&mut self, range: std::ops::Range<u64>) -> u64 {
        self.rng.random_range(range)
    }

    /// True in `percent` of all cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.pick(0..100) < percent
    }

    pub fn note(&mut self, what: fmt::Arguments<'_>) {
        let line = format!("{:>9.3}  {what}", self.now_ms() as f64 / 1_000.0);
        self.hash.write(line.as_bytes());
        if let Some(trace) = &mut self.trace {
            trace.push(line);
        }
    }

    pub fn fault(&mut self, what: String) {
        self.note(format_args!("FAULT {what}"));
        let at = self.now_ms();
        self.faults.push(format!("at {at} ms: {what}"));
    }

    fn sync(&mut self, file: &File) -> std::io::Result<()> {
        if std::mem::take(&mut self.sync_fails) {
            let now = self.now_ms();
            self.stopped = true;
            self.store_faulty_since.get_or_insert(now);
            self.note(format_args!("disk: a sync fails"));
            return Err(std::io::Error::other("the disk failed"));
        }
        self.syncs += 1;
        if self.shows(Defect::SyncPretended) {
            self.covered = Some(whole(file)?);
        }
        if let Power::Failing(durable) = &mut self.power {
            *durable = Some(whole(file)?);
        }
        Ok(())
    }

    /// After a crash by which nobody has the store's file any more: of what was written to it since the last
    /// sync, only some is there. sled's own last words are among that.
    pub fn fail_power(&mut self, folder: &Path) -> std::io::Result<()> {
        let Power::Failing(Some(durable)) = std::mem::replace(&mut self.power, Power::On) else {
            return Ok(());
        };
        let durable = self.covered.take().unwrap_or(durable);
        let file = File::options()
            .read(true)
            .write(true)
            .open(folder.join("sled").join("db"))?;
        // sled's threads let go of it when they are done.
        file.lock_exclusive()?;
        let written = whole(&file)?;
        // How long the file is depends on threads, and no other chance may.
        let mut rng = StdRng::seed_from_u64(self.pick(0..u64::MAX));
        let found = torn(durable, &written, &mut rng);
        file.set_len(found.len() as u64)?;
        file.write_all_at(&found, 0)?;
        self.note(format_args!("disk: what was not synced is lost"));
        Ok(())
    }
}

/// The machine's clock in a world, which somebody may set.
pub struct Machine {
    world: World,
    began: Instant,
}

impl Machine {
    pub fn new(world: World) -> Machine {
        Machine {
            world,
            began: Instant::now(),
        }
    }
}

impl Times for Machine {
    fn wall(&self) -> u64 {
        let world = self.world.lock();
        (START_MS + world.now_ms()).saturating_add_signed(world.clock_off_ms)
    }

    fn steady(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn monotonic(&self) -> std::time::Instant {
        Instant::now().into_std()
    }

    fn undisturbed(&self) -> Duration {
        let world = self.world.lock();
        let left = world.clock_is_left_until_ms.saturating_sub(world.now_ms());
        Duration::from_millis(left)
    }
}

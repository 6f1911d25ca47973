//! What an entry's calls came to: counts by outcome and fault, and how long they took. Plain atomics,
//! written on the hot path and read by whoever reports; knows nothing of metrics formats.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use super::Fault;
use super::host_calls::HostCall;
use crate::domain::CallOutcome;

/// Four steps in each power of two of nanoseconds: a percentile is read within 12 %.
const STEPS: usize = 4;
const BUCKETS: usize = 34 * STEPS;

const OUTCOMES: usize = 16;

pub(super) struct Stats {
    calls: AtomicU64,
    faults: [AtomicU64; Fault::KINDS.len()],
    outcomes: [AtomicU64; OUTCOMES],
    latency: [AtomicU64; BUCKETS],
    host_calls: [AtomicU64; HostCall::ALL.len()],
    instances_made: AtomicU64,
    memory_high_water: AtomicUsize,
    total_nanos: AtomicU64,
    cpu_nanos: AtomicU64,
    log_lines: AtomicU64,
    log_lines_dropped: AtomicU64,
    breaker_opened: AtomicU64,
    breaker_closed: AtomicU64,
}

/// The same as plain numbers: readings of several sets of instances add up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Counts {
    calls: u64,
    faults: [u64; Fault::KINDS.len()],
    outcomes: [u64; OUTCOMES],
    latency: [u64; BUCKETS],
    host_calls: [u64; HostCall::ALL.len()],
    instances_made: u64,
    memory_high_water: u64,
    total_nanos: u64,
    cpu_nanos: u64,
    log_lines: u64,
    log_lines_dropped: u64,
    breaker_opened: u64,
    breaker_closed: u64,
}

/// A reading of an entry's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntryStats {
    /// Calls made; those that the breaker skipped are not among them.
    pub calls: u64,
    /// By [`Fault::KINDS`].
    pub faults: Vec<(&'static str, u64)>,
    /// Answers by [`CallOutcome::name`], zeros left out.
    pub outcomes: Vec<(&'static str, u64)>,
    /// Time in the plugin and at its border.
    pub p50_nanos: u64,
    pub p99_nanos: u64,
    pub instances_made: u64,
    pub memory_high_water_bytes: u64,
    /// Sum over all calls of the time that the percentiles are of.
    pub total_nanos: u64,
    /// Time in which a thread worked for it, its configuration included; waits are not in it.
    pub cpu_nanos: u64,
    pub log_lines: u64,
    pub log_lines_dropped: u64,
    /// Times that its breaker opened, and that it closed again.
    pub breaker_opened: u64,
    pub breaker_closed: u64,
    /// Calls of the host by [`HostCall::name`].
    pub host_calls: Vec<(&'static str, u64)>,
}

impl Stats {
    pub fn new() -> Stats {
        Stats {
            calls: AtomicU64::new(0),
            faults: std::array::from_fn(|_| AtomicU64::new(0)),
            outcomes: std::array::from_fn(|_| AtomicU64::new(0)),
            latency: std::array::from_fn(|_| AtomicU64::new(0)),
            host_calls: std::array::from_fn(|_| AtomicU64::new(0)),
            instances_made: AtomicU64::new(0),
            memory_high_water: AtomicUsize::new(0),
            total_nanos: AtomicU64::new(0),
            cpu_nanos: AtomicU64::new(0),
            log_lines: AtomicU64::new(0),
            log_lines_dropped: AtomicU64::new(0),
            breaker_opened: AtomicU64::new(0),
            breaker_closed: AtomicU64::new(0),
        }
    }

    pub fn called(&self, nanos: u64) {
        self.calls.fetch_add(1, Relaxed);
        self.total_nanos.fetch_add(nanos, Relaxed);
        if let Some(bucket) = self.latency.get(bucket(nanos)) {
            bucket.fetch_add(1, Relaxed);
        }
    }

    pub fn host_called(&self, calls: [u32; HostCall::ALL.len()]) {
        for (total, calls) in self.host_calls.iter().zip(calls) {
            // Most calls of most plugins ask for nothing.
            if calls > 0 {
                total.fetch_add(calls.into(), Relaxed);
            }
        }
    }

    pub fn worked(&self, cpu_nanos: u64) {
        self.cpu_nanos.fetch_add(cpu_nanos, Relaxed);
    }

    pub fn logged(&self, written: u32, dropped: u32) {
        // Most calls write nothing.
        if written > 0 {
            self.log_lines.fetch_add(written.into(), Relaxed);
        }
        if dropped > 0 {
            self.log_lines_dropped.fetch_add(dropped.into(), Relaxed);
        }
    }

    pub fn opened(&self) {
        self.breaker_opened.fetch_add(1, Relaxed);
    }

    pub fn closed(&self) {
        self.breaker_closed.fetch_add(1, Relaxed);
    }

    pub fn answered(&self, outcome: CallOutcome) {
        if let Some(count) = self.outcomes.get(outcome as usize) {
            count.fetch_add(1, Relaxed);
        }
    }

    pub fn faulted(&self, fault: &Fault) {
        if let Some(count) = self.faults.get(fault.index()) {
            count.fetch_add(1, Relaxed);
        }
    }

    pub fn instance_made(&self) {
        self.instances_made.fetch_add(1, Relaxed);
    }

    pub fn memory_used(&self, bytes: usize) {
        // Almost always a load alone: memory grows in the first calls.
        if bytes > self.memory_high_water.load(Relaxed) {
            self.memory_high_water.fetch_max(bytes, Relaxed);
        }
    }

    pub fn counts(&self) -> Counts {
        Counts {
            calls: self.calls.load(Relaxed),
            faults: values(&self.faults),
            outcomes: values(&self.outcomes),
            latency: values(&self.latency),
            host_calls: values(&self.host_calls),
            instances_made: self.instances_made.load(Relaxed),
            memory_high_water: self.memory_high_water.load(Relaxed) as u64,
            total_nanos: self.total_nanos.load(Relaxed),
            cpu_nanos: self.cpu_nanos.load(Relaxed),
            log_lines: self.log_lines.load(Relaxed),
            log_lines_dropped: self.log_lines_dropped.load(Relaxed),
            breaker_opened: self.breaker_opened.load(Relaxed),
            breaker_closed: self.breaker_closed.load(Relaxed),
        }
    }
}

fn values<const N: usize>(counters: &[AtomicU64; N]) -> [u64; N] {
    std::array::from_fn(|n| counters[n].load(Relaxed))
}

impl Counts {
    pub fn new() -> Counts {
        Stats::new().counts()
    }

    /// Whether nothing was ever counted.
    pub fn is_blank(&self) -> bool {
        *self == Counts::new()
    }

    pub fn add(&mut self, other: &Counts) {
        fn each<const N: usize>(all: &mut [u64; N], other: &[u64; N]) {
            all.iter_mut().zip(other).for_each(|(a, b)| *a += b);
        }
        self.calls += other.calls;
        each(&mut self.faults, &other.faults);
        each(&mut self.outcomes, &other.outcomes);
        each(&mut self.latency, &other.latency);
        each(&mut self.host_calls, &other.host_calls);
        self.instances_made += other.instances_made;
        self.memory_high_water = self.memory_high_water.max(other.memory_high_water);
        self.total_nanos += other.total_nanos;
        self.cpu_nanos += other.cpu_nanos;
        self.log_lines += other.log_lines;
        self.log_lines_dropped += other.log_lines_dropped;
        self.breaker_opened += other.breaker_opened;
        self.breaker_closed += other.breaker_closed;
    }

    pub fn read(&self) -> EntryStats {
        EntryStats {
            calls: self.calls,
            faults: Fault::KINDS.into_iter().zip(self.faults).collect(),
            outcomes: (0u8..)
                .map_while(CallOutcome::from_u8)
                .zip(self.outcomes)
                .map(|(outcome, count)| (outcome.name(), count))
                .filter(|(_, count)| *count > 0)
                .collect(),
            p50_nanos: percentile(&self.latency, 50),
            p99_nanos: percentile(&self.latency, 99),
            instances_made: self.instances_made,
            memory_high_water_bytes: self.memory_high_water,
            total_nanos: self.total_nanos,
            cpu_nanos: self.cpu_nanos,
            log_lines: self.log_lines,
            log_lines_dropped: self.log_lines_dropped,
            breaker_opened: self.breaker_opened,
            breaker_closed: self.breaker_closed,
            host_calls: HostCall::ALL
                .iter()
                .zip(self.host_calls)
                .map(|(call, count)| (call.name(), count))
                .collect(),
        }
    }
}

fn bucket(nanos: u64) -> usize {
    let nanos = nanos.max(STEPS as u64);
    let octave = nanos.ilog2() as usize;
    let step = (nanos >> (octave - 2)) as usize & (STEPS - 1);
    ((octave - 2) * STEPS + step).min(BUCKETS - 1)
}

/// The middle of a bucket.
fn value(bucket: usize) -> u64 {
    let low = |b: usize| ((STEPS + b % STEPS) as u64) << (b / STEPS);
    (low(bucket) + low(bucket + 1)) / 2
}

fn percentile(latency: &[u64], percent: u64) -> u64 {
    let total: u64 = latency.iter().sum();
    let rank = (total * percent).div_ceil(100).max(1);
    let mut seen = 0;
    for (index, count) in latency.iter().enumerate() {
        seen += count;
        if seen >= rank {
            return value(index);
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_its_own_value() {
        for nanos in [4, 5, 7, 8, 1_000, 4_321, 1_000_000, 10_000_000_000] {
            let read = value(bucket(nanos));
            let off = read.abs_diff(nanos) as f64 / nanos as f64;
            assert!(off <= 0.13, "{nanos} reads as {read}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        assert_eq!(bucket(0), 0);
    }

    #[test]
    fn percentiles_are_of_the_calls_made() {
        let stats = Stats::new();
        (0..98).for_each(|_| stats.called(1_000));
        (0..2).for_each(|_| stats.called(1_000_000));
        let read = stats.counts().read();
        assert_eq!(read.calls, 100);
        assert!((900..1_150).contains(&read.p50_nanos), "{}", read.p50_nanos);
        assert!(
            (900_000..1_150_000).contains(&read.p99_nanos),
            "{}",
            read.p99_nanos
        );
    }

    #[test]
    fn readings_add_up() {
        let (one, two) = (Stats::new(), Stats::new());
        one.called(1_000);
        one.memory_used(10);
        two.called(3_000);
        two.called(3_000);
        two.memory_used(5);
        two.host_called([1, 0, 2, 0]);
        let mut sum = one.counts();
        sum.add(&two.counts());
        let read = sum.read();
        assert_eq!((read.calls, read.total_nanos), (3, 7_000));
        assert_eq!(read.memory_high_water_bytes, 10, "the most, not the sum");
        assert!(read.host_calls.contains(&("tables", 2)));
        assert!((2_600..3_400).contains(&read.p50_nanos));
        assert!(Counts::new().is_blank() && !sum.is_blank());
    }

    #[test]
    fn no_calls_read_as_zero() {
        let read = Stats::new().counts().read();
        assert_eq!(
            (read.p50_nanos, read.p99_nanos, read.outcomes.len()),
            (0, 0, 0)
        );
    }
}

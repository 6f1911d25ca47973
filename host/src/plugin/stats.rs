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
    pub log_lines_dropped: u64,
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
        }
    }

    pub fn called(&self, nanos: u64) {
        self.calls.fetch_add(1, Relaxed);
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

    pub fn read(&self, log_lines_dropped: u64) -> EntryStats {
        let latency: Vec<u64> = self.latency.iter().map(|b| b.load(Relaxed)).collect();
        EntryStats {
            calls: self.calls.load(Relaxed),
            faults: Fault::KINDS
                .iter()
                .zip(&self.faults)
                .map(|(name, count)| (*name, count.load(Relaxed)))
                .collect(),
            outcomes: (0u8..)
                .map_while(CallOutcome::from_u8)
                .zip(&self.outcomes)
                .map(|(outcome, count)| (outcome.name(), count.load(Relaxed)))
                .filter(|(_, count)| *count > 0)
                .collect(),
            p50_nanos: percentile(&latency, 50),
            p99_nanos: percentile(&latency, 99),
            instances_made: self.instances_made.load(Relaxed),
            memory_high_water_bytes: self.memory_high_water.load(Relaxed) as u64,
            log_lines_dropped,
            host_calls: HostCall::ALL
                .iter()
                .zip(&self.host_calls)
                .map(|(call, count)| (call.name(), count.load(Relaxed)))
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
        let read = stats.read(0);
        assert_eq!(read.calls, 100);
        assert!((900..1_150).contains(&read.p50_nanos), "{}", read.p50_nanos);
        assert!(
            (900_000..1_150_000).contains(&read.p99_nanos),
            "{}",
            read.p99_nanos
        );
    }

    #[test]
    fn no_calls_read_as_zero() {
        let read = Stats::new().read(0);
        assert_eq!(
            (read.p50_nanos, read.p99_nanos, read.outcomes.len()),
            (0, 0, 0)
        );
    }
}

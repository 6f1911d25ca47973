//! What the committer tells the rest of the store without being asked: health, counters, queue
//! lengths. Plain atomics, read by anyone, written by their one owner.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use super::records::Ledger;
use super::types::{StoreError, StoreHealth, StoreStats};
use crate::domain::{Lane, MessageId};

/// Records told apart that cannot be read.
const UNREADABLE_MAX: usize = 100_000;

#[derive(Default)]
pub(super) struct Shared {
    stopped: AtomicBool,
    /// No more commands come; what is held in memory is written, whatever the disk says.
    pub closing: AtomicBool,
    reason: Mutex<String>,
    full: AtomicBool,
    free_octets: AtomicU64,
    free_octets_min: AtomicU64,
    pub commits: AtomicU64,
    pub committed_commands: AtomicU64,
    pub journal_octets: AtomicU64,
    sync_us: [AtomicU64; 9],
    sync_us_sum: AtomicU64,
    pub accepted: AtomicU64,
    pub refused_busy: AtomicU64,
    pub live: AtomicU64,
    pub awaiting: AtomicU64,
    pub orphans: AtomicU64,
    pub orphans_dropped: AtomicU64,
    pub outbox: AtomicU64,
    pub dead: AtomicU64,
    pub leased: AtomicU64,
    /// The oldest day that has records, and how many have.
    oldest_day: AtomicU64,
    days: AtomicU64,
    pub days_dropped: AtomicU64,
    pub checkpoints: AtomicU64,
    unreadable: Mutex<HashSet<u128>>,
    /// The last durable commit, and messages accepted up to it.
    pub sequence: AtomicU64,
    queued: RwLock<HashMap<Lane, Arc<AtomicU64>>>,
}

impl Shared {
    /// Stops intake for good: the first reason stays.
    pub fn stop(&self, reason: &str) {
        let mut slot = self.reason.lock();
        if !self.stopped.load(Ordering::Acquire) {
            tracing::error!(reason, "the store stops taking messages; reads go on");
            reason.clone_into(&mut slot);
            self.stopped.store(true, Ordering::Release);
        }
    }

    pub fn check_running(&self) -> Result<(), StoreError> {
        if self.stopped.load(Ordering::Acquire) {
            return Err(StoreError::Stopped(self.reason.lock().clone()));
        }
        Ok(())
    }

    /// Whether a new message may come in.
    pub fn check_intake(&self) -> Result<(), StoreError> {
        self.check_running()?;
        if self.full.load(Ordering::Relaxed) {
            return Err(StoreError::StorageFull {
                free_octets: self.free_octets.load(Ordering::Relaxed),
                needed_octets: self.free_octets_min.load(Ordering::Relaxed),
            });
        }
        Ok(())
    }

    pub fn note_free_space(&self, free_octets: u64, free_octets_min: u64) {
        self.free_octets.store(free_octets, Ordering::Relaxed);
        self.free_octets_min
            .store(free_octets_min, Ordering::Relaxed);
        let full = free_octets < free_octets_min;
        if self.full.swap(full, Ordering::Relaxed) != full {
            if full {
                tracing::warn!(
                    free_octets,
                    free_octets_min,
                    "disk nearly full: new messages are refused"
                );
            } else {
                tracing::info!(
                    free_octets,
                    "disk space is back: new messages are taken again"
                );
            }
        }
    }

    /// A record that cannot be read is left where it is, told once and counted.
    pub fn quarantine(&self, id: u128, why: &dyn std::fmt::Display) {
        let mut unreadable = self.unreadable.lock();
        if unreadable.len() < UNREADABLE_MAX && unreadable.insert(id) {
            let id = MessageId(id);
            tracing::error!(%id, %why, "a record cannot be read; it is left alone, and the others go on");
        }
    }

    /// The same where nobody can tell whose record it was.
    pub fn quarantine_octets(&self, record: &[u8], why: &dyn std::fmt::Display) {
        self.quarantine(crc32fast::hash(record).into(), why);
    }

    pub fn health(&self) -> StoreHealth {
        match self.check_intake() {
            Ok(()) => StoreHealth {
                accepting: true,
                reason: String::new(),
            },
            Err(error) => StoreHealth {
                accepting: false,
                reason: error.to_string(),
            },
        }
    }

    pub fn note_commit(&self, commands: usize, octets: usize, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let slot = StoreStats::SYNC_BOUNDS_US
            .iter()
            .position(|b| us <= *b)
            .unwrap_or(8);
        self.sync_us[slot].fetch_add(1, Ordering::Relaxed);
        self.sync_us_sum.fetch_add(us, Ordering::Relaxed);
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.committed_commands
            .fetch_add(commands as u64, Ordering::Relaxed);
        self.journal_octets
            .fetch_add(octets as u64, Ordering::Relaxed);
    }

    pub fn note_ledger(&self, ledger: &Ledger, lanes: &[Lane]) {
        self.live
            .store(ledger.live.values().sum(), Ordering::Relaxed);
        self.awaiting.store(ledger.awaiting, Ordering::Relaxed);
        self.orphans.store(ledger.orphans, Ordering::Relaxed);
        self.outbox.store(ledger.outbox, Ordering::Relaxed);
        self.dead.store(ledger.dead, Ordering::Relaxed);
        self.accepted.store(ledger.accepted, Ordering::Relaxed);
        self.sequence.store(ledger.sequence, Ordering::Relaxed);
        for (n, lane) in lanes.iter().enumerate() {
            let length = u16::try_from(n)
                .ok()
                .and_then(|n| ledger.queued.get(&n))
                .copied()
                .unwrap_or(0);
            self.set_queued(lane, length);
        }
    }

    pub fn note_days(&self, days: &[u32]) {
        let oldest = days.iter().min().copied().unwrap_or(0);
        self.oldest_day.store(u64::from(oldest), Ordering::Relaxed);
        self.days.store(days.len() as u64, Ordering::Relaxed);
    }

    pub fn queued(&self, lane: &Lane) -> u64 {
        self.queued
            .read()
            .get(lane)
            .map_or(0, |n| n.load(Ordering::Relaxed))
    }

    fn set_queued(&self, lane: &Lane, length: u64) {
        if let Some(gauge) = self.queued.read().get(lane) {
            gauge.store(length, Ordering::Relaxed);
            return;
        }
        self.queued
            .write()
            .insert(lane.clone(), Arc::new(AtomicU64::new(length)));
    }

    pub fn queues(&self) -> Vec<(Lane, u64)> {
        self.queued
            .read()
            .iter()
            .map(|(l, n)| (l.clone(), n.load(Ordering::Relaxed)))
            .collect()
    }

    pub fn stats(&self) -> StoreStats {
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        StoreStats {
            commits: get(&self.commits),
            committed_commands: get(&self.committed_commands),
            journal_octets: get(&self.journal_octets),
            sync_us: std::array::from_fn(|n| get(&self.sync_us[n])),
            sync_us_sum: get(&self.sync_us_sum),
            accepted: get(&self.accepted),
            refused_busy: get(&self.refused_busy),
            live: get(&self.live),
            awaiting: get(&self.awaiting),
            orphans: get(&self.orphans),
            orphans_dropped: get(&self.orphans_dropped),
            outbox: get(&self.outbox),
            dead: get(&self.dead),
            leased: get(&self.leased),
            oldest_day: get(&self.oldest_day),
            days: get(&self.days),
            days_dropped: get(&self.days_dropped),
            checkpoints: get(&self.checkpoints),
            unreadable: self.unreadable.lock().len() as u64,
            ..StoreStats::default()
        }
    }
}

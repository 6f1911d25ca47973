//! What one account's own plugins may use together: processor time out of a bucket that fills over
//! time, and calls at once. Knows no policy and no message; what is used up is counted here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::Fault;
use super::meter::now;
use super::pool::Bounds;
use super::spec::{Limits, PolicySpec};

const CPU_MS_PER_S: u32 = 100;
const CPU_BURST_MS: u32 = 200;
const INSTANCES: u32 = 4;
const MEMORY_MIB: u32 = 256;
const STATE_BYTES: u64 = 16 << 20;

/// An account's quota with the defaults filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    pub cpu_ms_per_s: u32,
    pub cpu_burst_ms: u32,
    pub instances: u32,
    pub memory_mib: u32,
    pub state_bytes: u64,
}

impl Quota {
    pub(super) fn of(spec: &PolicySpec, account: &str) -> Quota {
        let told = spec.accounts.get(account).cloned().unwrap_or_default();
        let rate = told.cpu_ms_per_s.unwrap_or(CPU_MS_PER_S);
        Quota {
            cpu_ms_per_s: rate,
            cpu_burst_ms: told.cpu_burst_ms.unwrap_or(CPU_BURST_MS),
            instances: told.instances.unwrap_or(INSTANCES),
            memory_mib: told.memory_mib.unwrap_or(MEMORY_MIB),
            state_bytes: told.state_bytes.unwrap_or(STATE_BYTES),
        }
    }

    /// An entry's limits within the account's.
    pub(super) fn bounds(&self, limits: &Limits) -> Bounds {
        let mut bounds = Bounds::new(limits);
        bounds.instances = limits
            .instances
            .unwrap_or(self.instances)
            .min(self.instances);
        bounds
    }

    /// Memory that an entry's instances may come to.
    pub(super) fn reserved_mib(&self, limits: &Limits) -> u64 {
        let bounds = self.bounds(limits);
        u64::from(bounds.instances) * (bounds.memory_bytes as u64 >> 20)
    }
}

/// What an account has used. Outlives policy sets: a new policy neither fills its bucket nor
/// forgets what it owes.
pub(super) struct Usage {
    pub account: String,
    /// Nanoseconds left, less than nothing after a call that took more than there was.
    bucket: Mutex<Bucket>,
    cpu_nanos: AtomicU64,
    calls: AtomicU64,
    refused: AtomicU64,
}

struct Bucket {
    left: i64,
    since: Instant,
}

/// An account's usage, held to a quota.
pub(super) struct Tenant {
    pub quota: Quota,
    pub usage: Arc<Usage>,
    permits: Arc<Semaphore>,
}

/// What an account's plugins used since the server started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountUsage {
    pub account: String,
    pub calls: u64,
    pub cpu_nanos: u64,
    /// Calls that were not made because the quota was used up.
    pub refused: u64,
}

impl Usage {
    pub fn new(account: &str) -> Usage {
        Usage {
            account: account.to_owned(),
            bucket: Mutex::new(Bucket {
                left: i64::MAX,
                since: now(),
            }),
            cpu_nanos: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    pub fn read(&self) -> AccountUsage {
        AccountUsage {
            account: self.account.clone(),
            calls: self.calls.load(Relaxed),
            cpu_nanos: self.cpu_nanos.load(Relaxed),
            refused: self.refused.load(Relaxed),
        }
    }
}

impl Tenant {
    pub fn new(quota: Quota, usage: Arc<Usage>, permits: Arc<Semaphore>) -> Tenant {
        Tenant {
            quota,
            usage,
            permits,
        }
    }

    /// Whether another call may begin. A call that began runs to its own deadline and is paid for
    /// afterwards, so the bucket can be overdrawn by no more than the calls that run at once.
    pub fn admit(&self, now: Instant) -> Result<(), Fault> {
        let mut bucket = self.usage.bucket.lock();
        let rate = f64::from(self.quota.cpu_ms_per_s) / 1e3;
        let filled = now.saturating_duration_since(bucket.since).as_nanos() as f64 * rate;
        let burst = i64::from(self.quota.cpu_burst_ms) * 1_000_000;
        bucket.left = bucket.left.saturating_add(filled as i64).min(burst);
        bucket.since = now;
        if bucket.left > 0 {
            return Ok(());
        }
        drop(bucket);
        self.usage.refused.fetch_add(1, Relaxed);
        Err(Fault::Quota(format!(
            "account {} has used up its cpu_ms_per_s = {}",
            self.usage.account, self.quota.cpu_ms_per_s
        )))
    }

    /// One of the account's calls at once, all its entries together.
    pub async fn permit(&self, wait: Duration) -> Result<SemaphorePermit<'_>, Fault> {
        if let Ok(permit) = self.permits.try_acquire() {
            return Ok(permit);
        }
        if let Ok(Ok(permit)) = tokio::time::timeout(wait, self.permits.acquire()).await {
            return Ok(permit);
        }
        self.usage.refused.fetch_add(1, Relaxed);
        Err(Fault::Quota(format!(
            "all instances = {} of account {} were busy for {} ms",
            self.quota.instances,
            self.usage.account,
            wait.as_millis()
        )))
    }

    /// Counts a call that was made.
    pub fn called<T>(&self, answer: &Result<T, Fault>) {
        if answer.as_ref().err().is_none_or(Fault::was_called) {
            self.usage.calls.fetch_add(1, Relaxed);
        }
    }

    /// Pays for what a call took, while it runs: one that is given up in the middle is paid for too.
    pub fn used(&self, nanos: u64) {
        self.usage.cpu_nanos.fetch_add(nanos, Relaxed);
        let mut bucket = self.usage.bucket.lock();
        let nanos = i64::try_from(nanos).unwrap_or(i64::MAX);
        bucket.left = bucket.left.saturating_sub(nanos);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(quota: Quota) -> Tenant {
        Tenant::new(
            quota,
            Arc::new(Usage::new("acme")),
            Arc::new(Semaphore::new(quota.instances as usize)),
        )
    }

    fn quota() -> Quota {
        Quota::of(&PolicySpec::default(), "acme")
    }

    #[test]
    fn a_bucket_is_overdrawn_once_and_fills_at_its_rate() {
        let tenant = tenant(Quota {
            cpu_ms_per_s: 100,
            cpu_burst_ms: 10,
            ..quota()
        });
        let start = Instant::now();
        assert_eq!(tenant.admit(start), Ok(()));
        tenant.used(15_000_000);
        let refused = tenant.admit(start).unwrap_err();
        assert!(
            refused.to_string().contains("cpu_ms_per_s = 100"),
            "{refused}"
        );
        // 5 ms are owed; 100 ms in a second are 1 ms in ten.
        assert!(tenant.admit(start + Duration::from_millis(49)).is_err());
        assert_eq!(tenant.admit(start + Duration::from_millis(51)), Ok(()));
        let read = tenant.usage.read();
        assert_eq!((read.cpu_nanos, read.refused), (15_000_000, 2));
    }

    #[test]
    fn a_pause_saves_no_more_than_the_burst() {
        let tenant = tenant(Quota {
            cpu_burst_ms: 10,
            ..quota()
        });
        let later = Instant::now() + Duration::from_secs(3_600);
        assert_eq!(tenant.admit(later), Ok(()));
        tenant.used(11_000_000);
        assert!(tenant.admit(later).is_err());
    }

    #[tokio::test]
    async fn calls_at_once_are_bounded_over_all_entries() {
        let tenant = tenant(Quota {
            instances: 1,
            ..quota()
        });
        let held = tenant.permit(Duration::ZERO).await.unwrap();
        let busy = tenant.permit(Duration::from_millis(1)).await.unwrap_err();
        assert!(busy.to_string().contains("instances = 1"), "{busy}");
        drop(held);
        assert!(tenant.permit(Duration::ZERO).await.is_ok());
    }
}

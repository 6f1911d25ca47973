//! Which of a carrier's hosts a session goes to, and when: in order or spread, away from those that
//! fail for a time that doubles, back to the better one later. Pure: time and chance are arguments.

use std::time::{Duration, Instant};

use crate::smpp::status;

/// How several hosts share the sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostOrder {
    /// All to the first that works, in the order of the configuration.
    Failover,
    /// Session 0 to the first, session 1 to the second, and so on round; each on to the next that works.
    Spread,
}

/// Why a session ended, or none came about, as far as its host goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// No connection, no TLS, no answer to the bind, or the connection was lost.
    Failed,
    /// The bind was refused with that command_status.
    Refused(u32),
}

/// Where to go, and how long to wait first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    pub host: usize,
    pub wait: Duration,
}

/// All hosts of one carrier, seen by all of its sessions: what one learns the others need not.
#[derive(Debug)]
pub struct Hosts {
    hosts: Vec<Host>,
    order: HostOrder,
    min: Duration,
    max: Duration,
}

#[derive(Clone, Debug)]
struct Host {
    address: String,
    /// In a row. Those of one round, which all sessions make together, are one.
    failures: u32,
    away_until: Option<Instant>,
}

/// A session that lived so long has earned its host a quick reconnect.
pub const STABLE: Duration = Duration::from_secs(10);
/// A refused bind waits for up to that many times the longest reconnect: retries lock accounts.
const REFUSED_FACTOR: u32 = 10;

impl Hosts {
    /// `addresses` are `host:port`, at least one. `min` and `max` bound the time away from a host.
    pub fn new(addresses: &[String], order: HostOrder, min: Duration, max: Duration) -> Hosts {
        let host = |address: &String| Host {
            address: address.clone(),
            failures: 0,
            away_until: None,
        };
        Hosts {
            hosts: addresses.iter().map(host).collect(),
            order,
            min,
            max,
        }
    }

    pub fn address(&self, host: usize) -> &str {
        self.hosts.get(host).map_or("", |h| &h.address)
    }

    /// The first in `session`'s own order that is not to be kept away from; with none, the one that
    /// is free soonest.
    pub fn choose(&self, session: usize, now: Instant) -> Choice {
        let mut best = Choice {
            host: 0,
            wait: Duration::MAX,
        };
        for host in self.in_order(session) {
            let wait = self.hosts[host].away(now);
            if wait < best.wait {
                best = Choice { host, wait };
            }
        }
        best
    }

    /// A host that `session` would rather be at than at `current`, and may go to.
    pub fn better(&self, session: usize, current: usize, now: Instant) -> Option<usize> {
        self.in_order(session)
            .take_while(|host| *host != current)
            .find(|host| self.hosts[*host].away(now).is_zero())
    }

    /// Notes what became of a session that was bound for `lived`, or never was (zero). `unit` is
    /// uniform in [0, 1) and spreads what carriers and sessions do next.
    pub fn trouble(
        &mut self,
        host: usize,
        trouble: Trouble,
        lived: Duration,
        now: Instant,
        unit: f64,
    ) {
        let (min, max) = (self.min, self.max);
        let Some(host) = self.hosts.get_mut(host) else {
            return;
        };
        if lived >= STABLE {
            host.failures = 0;
        }
        // A failure while we keep away already is one of the same round.
        if host.away(now).is_zero() {
            host.failures = host.failures.saturating_add(1);
        }
        let pause = match trouble {
            // Full jitter, so that a restart of the carrier does not bring everybody back at once.
            Trouble::Failed => doubled(min, host.failures, max).mul_f64(unit),
            Trouble::Refused(refusal) if is_passing(refusal) => {
                doubled(min, host.failures, max).mul_f64(0.5 + unit / 2.0)
            }
            Trouble::Refused(_) => {
                let longest = max.saturating_mul(REFUSED_FACTOR);
                doubled(max / 2, host.failures, longest).mul_f64(0.5 + unit / 2.0)
            }
        };
        let until = now + pause.max(Duration::from_millis(1));
        host.away_until = host.away_until.max(Some(until));
    }

    fn in_order(&self, session: usize) -> impl Iterator<Item = usize> + use<> {
        let count = self.hosts.len();
        let first = match self.order {
            HostOrder::Failover => 0,
            HostOrder::Spread => session,
        };
        (0..count).map(move |i| (first + i) % count)
    }
}

impl Host {
    fn away(&self, now: Instant) -> Duration {
        self.away_until
            .map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }
}

fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    first.saturating_mul(1 << times.min(20)).min(longest)
}

/// The message centre's own trouble, over soon; everything else that refuses a bind needs a person,
/// or another session of ours to end (ESME_RALYBND).
fn is_passing(command_status: u32) -> bool {
    matches!(
        command_status,
        status::ESME_RSYSERR
            | status::ESME_RTHROTTLED
            | status::ESME_RMSGQFUL
            | status::ESME_RX_T_APPN
            | status::ESME_RUNKNOWNERR
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn hosts(order: HostOrder) -> Hosts {
        let addresses = ["a:1".to_owned(), "b:1".to_owned(), "c:1".to_owned()];
        Hosts::new(&addresses, order, SECOND, 30 * SECOND)
    }

    fn host(hosts: &Hosts, session: usize, now: Instant) -> usize {
        let choice = hosts.choose(session, now);
        assert!(choice.wait.is_zero(), "{choice:?}");
        choice.host
    }

    #[test]
    fn failover_takes_the_first_that_works_and_comes_back() {
        let now = Instant::now();
        let mut hosts = hosts(HostOrder::Failover);
        assert_eq!((host(&hosts, 0, now), host(&hosts, 1, now)), (0, 0));
        hosts.trouble(0, Trouble::Failed, Duration::ZERO, now, 0.9);
        assert_eq!((host(&hosts, 0, now), host(&hosts, 1, now)), (1, 1));
        assert_eq!(hosts.better(0, 1, now), None);
        let later = now + 3 * SECOND;
        assert_eq!(hosts.better(0, 1, later), Some(0));
        assert_eq!(hosts.better(0, 0, later), None);
        assert_eq!(host(&hosts, 0, later), 0);
    }

    #[test]
    fn spread_sessions_begin_at_different_hosts_and_go_on_round() {
        let now = Instant::now();
        let mut hosts = hosts(HostOrder::Spread);
        let at: Vec<usize> = (0..4).map(|s| host(&hosts, s, now)).collect();
        assert_eq!(at, [0, 1, 2, 0]);
        hosts.trouble(2, Trouble::Failed, Duration::ZERO, now, 0.9);
        assert_eq!(host(&hosts, 2, now), 0);
        assert_eq!(hosts.better(2, 0, now + 60 * SECOND), Some(2));
    }

    #[test]
    fn with_every_host_away_the_soonest_is_waited_for() {
        let now = Instant::now();
        let mut hosts = hosts(HostOrder::Failover);
        for (index, unit) in [(0, 0.9), (1, 0.2), (2, 0.5)] {
            hosts.trouble(index, Trouble::Failed, Duration::ZERO, now, unit);
        }
        let choice = hosts.choose(0, now);
        assert_eq!(choice.host, 1);
        assert_eq!(choice.wait, 2 * SECOND.mul_f64(0.2));
    }

    /// The longest time away after so many failed rounds.
    fn away(rounds: u32, trouble: Trouble) -> Duration {
        let mut now = Instant::now();
        let mut hosts = Hosts::new(
            &["a:1".to_owned()],
            HostOrder::Failover,
            SECOND,
            30 * SECOND,
        );
        for round in 1..=rounds {
            hosts.trouble(0, trouble, Duration::ZERO, now, 1.0);
            if round < rounds {
                now += hosts.choose(0, now).wait;
            }
        }
        hosts.choose(0, now).wait
    }

    #[test]
    fn the_time_away_doubles_and_is_bounded() {
        assert_eq!(away(1, Trouble::Failed), 2 * SECOND);
        assert_eq!(away(3, Trouble::Failed), 8 * SECOND);
        assert_eq!(away(60, Trouble::Failed), 30 * SECOND);
    }

    #[test]
    fn a_refused_bind_is_not_hurried() {
        for refusal in [
            status::ESME_RINVPASWD,
            status::ESME_RALYBND,
            status::ESME_RBINDFAIL,
            0x412,
        ] {
            assert_eq!(away(1, Trouble::Refused(refusal)), 30 * SECOND);
            assert_eq!(away(9, Trouble::Refused(refusal)), 300 * SECOND);
        }
        let passing = Trouble::Refused(status::ESME_RSYSERR);
        assert_eq!(away(1, passing), 2 * SECOND);
    }

    #[test]
    fn many_sessions_that_fail_together_have_failed_once() {
        let now = Instant::now();
        let mut hosts = Hosts::new(
            &["a:1".to_owned()],
            HostOrder::Failover,
            SECOND,
            30 * SECOND,
        );
        for _ in 0..64 {
            hosts.trouble(0, Trouble::Failed, Duration::ZERO, now, 1.0);
        }
        assert_eq!(hosts.choose(0, now).wait, 2 * SECOND);
    }

    #[test]
    fn a_session_that_lived_clears_its_host() {
        let now = Instant::now();
        let mut hosts = Hosts::new(
            &["a:1".to_owned()],
            HostOrder::Failover,
            SECOND,
            30 * SECOND,
        );
        let mut at = now;
        for _ in 0..5 {
            hosts.trouble(0, Trouble::Failed, Duration::ZERO, at, 1.0);
            at += hosts.choose(0, at).wait;
        }
        hosts.trouble(0, Trouble::Failed, STABLE, at, 1.0);
        assert_eq!(hosts.choose(0, at).wait, 2 * SECOND);
    }
}

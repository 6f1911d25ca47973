//! Who may bind. An unknown name, a wrong password, a wrong address and a lock look alike from outside,
//! in answer and in time; only who knows the password is told what else is wrong.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use subtle::ConstantTimeEq;

use super::binds::{Binds, Party};
use super::lockout::{Key, Lockouts};
use super::system::digest;
use crate::pipeline::{EventKind, Events};
use crate::smpp::link::BindLimits;
use crate::smpp::pdu::Bind;
use crate::smpp::server::{Admission, Authenticate, network};
use crate::smpp::session::BindMode;
use crate::smpp::status;

pub struct Gate {
    binds: Arc<Binds>,
    lockouts: Mutex<Lockouts>,
    events: Events,
    /// No new sessions: the server ends.
    closed: AtomicBool,
    pub refused: AtomicU64,
    pub locks: AtomicU64,
}

impl Gate {
    pub fn new(binds: Arc<Binds>, events: Events) -> Gate {
        Gate {
            binds,
            lockouts: Mutex::default(),
            events,
            closed: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            locks: AtomicU64::new(0),
        }
    }

    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    fn judge(
        &self,
        ip: IpAddr,
        mode: BindMode,
        bind: &Bind<'_>,
        now: Instant,
    ) -> Result<(Arc<Party>, super::binds::Place), u32> {
        let party = std::str::from_utf8(bind.system_id)
            .ok()
            .and_then(|id| self.binds.party(id));
        let system = party.map(|p| &p.system);
        let key: Key = (network(ip), system.map(|s| s.id.clone()));
        let presented = digest(bind.password);
        // A name that nobody has is compared too, with what no password has as its digest.
        let known = match system {
            Some(system) => system.has_password(&presented),
            None => bool::from([0; 32].ct_eq(&presented)),
        };
        let locked = self.lockouts.lock().is_locked(&key, now);
        let party = match party {
            Some(party) if known && !locked && party.system.may_come_from(ip) => party,
            _ => {
                if !locked {
                    self.failed(key, now);
                }
                return Err(status::ESME_RBINDFAIL);
            }
        };
        self.lockouts.lock().succeeded(&key);
        let spec = &party.system.spec;
        let system_type = spec.system_type.as_ref();
        if system_type.is_some_and(|wanted| wanted.as_bytes() != bind.system_type) {
            return Err(status::ESME_RINVSYSTYP);
        }
        if !spec.modes.contains(&mode) {
            return Err(status::ESME_RINVBNDSTS);
        }
        let place = party.take_place().ok_or(status::ESME_RALYBND)?;
        Ok((party.clone(), place))
    }

    fn failed(&self, (ip, system_id): Key, now: Instant) {
        let name = system_id.clone();
        let locked = self.lockouts.lock().failed((ip, system_id), now);
        if let Some(locked) = locked {
            self.locks.fetch_add(1, Ordering::Relaxed);
            // Names that nobody has are the other side's invention.
            let name = name.as_deref().unwrap_or("unknown system_ids").to_owned();
            let detail = format!(
                "wrong passwords from {ip}: locked for {} s",
                seconds(locked)
            );
            self.events.emit(EventKind::EsmeLockedOut, name, detail);
        }
    }
}

fn seconds(duration: Duration) -> u64 {
    duration.as_secs()
}

impl Authenticate for Gate {
    fn authenticate(
        &self,
        peer: SocketAddr,
        mode: BindMode,
        bind: &Bind<'_>,
    ) -> Result<Admission, u32> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(status::ESME_RSYSERR);
        }
        let now = tokio::time::Instant::now().into_std();
        match self.judge(peer.ip(), mode, bind, now) {
            Ok((party, place)) => {
                let spec = &party.system.spec;
                Ok(Admission {
                    limits: BindLimits {
                        window: Some(spec.deliver_window),
                        requests: Some(spec.window),
                    },
                    place: Some(Arc::new(place)),
                })
            }
            Err(command_status) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(%peer, status = %status::describe(command_status), "a bind was refused");
                Err(command_status)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests_support::{spec, system};
    use super::*;
    use crate::clock::{Clock, Timestamp};

    const HERE: [u8; 4] = [192, 0, 2, 1];
    const ELSEWHERE: [u8; 4] = [203, 0, 113, 1];

    fn gate() -> Gate {
        let mut acme = spec("acme");
        acme.allowed = vec!["192.0.2.0/24".parse().unwrap()];
        acme.modes = vec![BindMode::Transceiver];
        acme.system_type = Some("VMA".to_owned());
        acme.max_binds = 2;
        let binds = Arc::new(Binds::new([system(acme), system(spec("other"))]));
        Gate::new(binds, Events::new(Clock::manual(Timestamp(1))))
    }

    fn bind<'a>(system_id: &'a str, password: &'a str) -> Bind<'a> {
        Bind {
            system_id: system_id.as_bytes(),
            password: password.as_bytes(),
            system_type: b"VMA",
            ..Bind::default()
        }
    }

    fn answer(gate: &Gate, ip: [u8; 4], bind: &Bind<'_>, now: Instant) -> u32 {
        match gate.judge(ip.into(), BindMode::Transceiver, bind, now) {
            Ok(_) => 0,
            Err(command_status) => command_status,
        }
    }

    #[test]
    fn who_does_not_belong_here_is_told_nothing() {
        let (gate, now) = (gate(), Instant::now());
        assert_eq!(answer(&gate, HERE, &bind("acme", "pw-acme"), now), 0);
        for (ip, system_id, password) in [
            (HERE, "acme", "wrong"),
            (HERE, "acme", ""),
            (HERE, "nobody", "pw-acme"),
            (HERE, "", ""),
            (ELSEWHERE, "acme", "pw-acme"),
        ] {
            let refused = answer(&gate, ip, &bind(system_id, password), now);
            assert_eq!(refused, status::ESME_RBINDFAIL, "{system_id} {password}");
        }
    }

    #[test]
    fn who_knows_the_password_is_told_what_else_is_wrong() {
        let (gate, now) = (gate(), Instant::now());
        let wrong_type = Bind {
            system_type: b"X",
            ..bind("acme", "pw-acme")
        };
        assert_eq!(
            answer(&gate, HERE, &wrong_type, now),
            status::ESME_RINVSYSTYP
        );
        let mode = gate.judge(
            HERE.into(),
            BindMode::Receiver,
            &bind("acme", "pw-acme"),
            now,
        );
        assert_eq!(mode.err(), Some(status::ESME_RINVBNDSTS));
    }

    #[test]
    fn places_are_counted_and_given_back() {
        let (gate, now) = (gate(), Instant::now());
        let enter = || {
            gate.judge(
                HERE.into(),
                BindMode::Transceiver,
                &bind("acme", "pw-acme"),
                now,
            )
        };
        let (first, second) = (enter().ok(), enter().ok());
        assert!(first.is_some() && second.is_some());
        assert_eq!(enter().err(), Some(status::ESME_RALYBND));
        drop(first);
        assert!(enter().is_ok());
    }

    #[test]
    fn five_wrong_passwords_lock_the_name_for_that_address_alone() {
        let (gate, now) = (gate(), Instant::now());
        for _ in 0..5 {
            answer(&gate, HERE, &bind("other", "wrong"), now);
        }
        let good = bind("other", "pw-other");
        assert_eq!(
            answer(&gate, HERE, &good, now),
            status::ESME_RBINDFAIL,
            "locked"
        );
        assert_eq!(answer(&gate, ELSEWHERE, &good, now), 0);
        assert_eq!(answer(&gate, HERE, &bind("acme", "pw-acme"), now), 0);
        let later = now + Duration::from_secs(60);
        assert_eq!(answer(&gate, HERE, &good, later), 0);
        assert_eq!(gate.locks.load(Ordering::Relaxed), 1);
        let events = gate.events.since(0);
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].kind.name(), "esme.locked_out");
    }
}

//! Who is bound: places are counted before a bind is answered, sessions listed once it is, and each
//! that receives takes its turn when there is something to deliver.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::system::System;
use crate::clock::Timestamp;
use crate::smpp::link::Link;
use crate::smpp::session::{BindMode, INTERFACE_VERSION};

/// A bound session.
pub struct Bound {
    /// Counts up from 1 since the server started.
    pub id: u64,
    pub system: Arc<System>,
    pub peer: SocketAddr,
    pub tls: bool,
    pub mode: BindMode,
    pub interface_version: u8,
    pub system_type: String,
    pub since: Timestamp,
    pub link: Link,
    pub submitted: AtomicU64,
    pub delivered: AtomicU64,
    /// deliver_sm under way.
    delivering: AtomicUsize,
    /// It asked for slowness: nothing goes to it until then.
    rests_until: Mutex<Option<Instant>>,
}

impl Bound {
    pub fn delivering(&self) -> usize {
        self.delivering.load(Ordering::Relaxed)
    }

    pub fn rest(&self, until: Instant) {
        *self.rests_until.lock() = Some(until);
    }

    fn receives(&self) -> bool {
        self.mode.receives() && self.link.is_bound()
    }

    /// deliver_sm that it takes at once, under way or not.
    fn window(&self, now: Instant) -> usize {
        let rests = self.rests_until.lock().is_some_and(|until| now < until);
        match self.receives() && !rests {
            true => self.system.spec.deliver_window,
            false => 0,
        }
    }

    fn room(&self, now: Instant) -> usize {
        self.window(now).saturating_sub(self.delivering())
    }
}

/// All sessions of one system_id.
pub struct Party {
    pub system: Arc<System>,
    /// Told when a session comes or goes.
    pub changed: Notify,
    /// Told when a session comes or goes, or has room again.
    pub freed: Notify,
    places: AtomicUsize,
    sessions: Mutex<Sessions>,
}

#[derive(Default)]
struct Sessions {
    all: Vec<Arc<Bound>>,
    /// Whose turn it is.
    next: usize,
}

/// A place among the sessions of a system_id, given back when it is dropped.
pub struct Place(Arc<Party>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.places.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One deliver_sm under way to a session; its room is given back when this is dropped.
pub struct Turn {
    pub bound: Arc<Bound>,
    party: Arc<Party>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.bound.delivering.fetch_sub(1, Ordering::Relaxed);
        self.party.freed.notify_one();
    }
}

impl Party {
    fn new(system: Arc<System>) -> Party {
        Party {
            system,
            changed: Notify::new(),
            freed: Notify::new(),
            places: AtomicUsize::new(0),
            sessions: Mutex::default(),
        }
    }

    pub fn take_place(self: &Arc<Party>) -> Option<Place> {
        let max = self.system.spec.max_binds;
        let more = |taken: usize| (taken < max).then_some(taken + 1);
        self.places
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()?;
        Some(Place(self.clone()))
    }

    /// How many deliver_sm the sessions have room for now.
    pub fn room(&self, now: Instant) -> usize {
        let sessions = self.sessions.lock();
        sessions.all.iter().map(|bound| bound.room(now)).sum()
    }

    /// How many deliver_sm the sessions take at once, whether they are under way or not.
    pub fn window(&self, now: Instant) -> usize {
        let sessions = self.sessions.lock();
        sessions.all.iter().map(|bound| bound.window(now)).sum()
    }

    /// Whether there is a session that deliveries can go to, now or once it has rested.
    pub fn receives(&self) -> bool {
        let sessions = self.sessions.lock();
        sessions.all.iter().any(|bound| bound.receives())
    }

    /// When the first session that rests goes on, where one does.
    pub fn rests_until(&self, now: Instant) -> Option<Instant> {
        let sessions = self.sessions.lock();
        let rests = sessions.all.iter().filter_map(|b| *b.rests_until.lock());
        rests.filter(|until| *until > now).min()
    }

    /// The next session that has room, in turn.
    pub fn take_turn(self: &Arc<Party>, now: Instant) -> Option<Turn> {
        let mut sessions = self.sessions.lock();
        let count = sessions.all.len();
        let start = sessions.next;
        let found = (0..count).map(|n| (start + n) % count).find_map(|at| {
            let bound = &sessions.all[at];
            (bound.room(now) > 0).then(|| (at, bound.clone()))
        });
        let (at, bound) = found?;
        sessions.next = at + 1;
        bound.delivering.fetch_add(1, Ordering::Relaxed);
        Some(Turn {
            bound,
            party: self.clone(),
        })
    }

    /// A session that can be told what has no response, in turn. alert_notification came with SMPP 3.4.
    pub fn listener(&self) -> Option<Arc<Bound>> {
        let mut sessions = self.sessions.lock();
        let count = sessions.all.len();
        let start = sessions.next;
        let hears = |bound: &Bound| {
            bound.mode.receives()
                && bound.interface_version >= INTERFACE_VERSION
                && bound.link.is_bound()
        };
        let mut turns = (0..count).map(|n| (start + n) % count);
        let at = turns.find(|at| hears(&sessions.all[*at]))?;
        sessions.next = at + 1;
        Some(sessions.all[at].clone())
    }

    /// Sessions, and deliver_sm under way over all of them.
    pub fn load(&self) -> (usize, usize) {
        let sessions = self.sessions.lock();
        let delivering = sessions.all.iter().map(|bound| bound.delivering());
        (sessions.all.len(), delivering.sum())
    }

    /// True where it is the only one now.
    pub fn enter(&self, bound: Arc<Bound>) -> bool {
        let mut sessions = self.sessions.lock();
        sessions.all.push(bound);
        let only = sessions.all.len() == 1;
        drop(sessions);
        self.changed.notify_one();
        self.freed.notify_one();
        only
    }

    /// True where none is left.
    pub fn leave(&self, id: u64) -> bool {
        let mut sessions = self.sessions.lock();
        sessions.all.retain(|bound| bound.id != id);
        let none = sessions.all.is_empty();
        drop(sessions);
        self.changed.notify_one();
        self.freed.notify_one();
        none
    }
}

/// Every configured system_id with its sessions.
#[derive(Default)]
pub struct Binds {
    parties: HashMap<Arc<str>, Arc<Party>>,
    ids: AtomicU64,
}

impl Binds {
    pub fn new(systems: impl IntoIterator<Item = System>) -> Binds {
        let party = |system: System| {
            let system = Arc::new(system);
            (system.id.clone(), Arc::new(Party::new(system)))
        };
        Binds {
            parties: systems.into_iter().map(party).collect(),
            ids: AtomicU64::new(0),
        }
    }

    pub fn party(&self, system_id: &str) -> Option<&Arc<Party>> {
        self.parties.get(system_id)
    }

    pub fn parties(&self) -> impl Iterator<Item = &Arc<Party>> {
        self.parties.values()
    }

    /// All sessions, the oldest first.
    pub fn list(&self) -> Vec<Arc<Bound>> {
        let mut all = Vec::new();
        for party in self.parties.values() {
            all.extend(party.sessions.lock().all.iter().cloned());
        }
        all.sort_by_key(|bound| bound.id);
        all
    }

    pub fn find(&self, id: u64) -> Option<Arc<Bound>> {
        self.list().into_iter().find(|bound| bound.id == id)
    }

    #[expect(clippy::too_many_arguments, reason = "what a session is, said once")]
    pub fn bound(
        &self,
        system: Arc<System>,
        peer: SocketAddr,
        tls: bool,
        mode: BindMode,
        interface_version: u8,
        system_type: String,
        since: Timestamp,
        link: Link,
    ) -> Arc<Bound> {
        Arc::new(Bound {
            id: self.ids.fetch_add(1, Ordering::Relaxed) + 1,
            system,
            peer,
            tls,
            mode,
            interface_version,
            system_type,
            since,
            link,
            submitted: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            delivering: AtomicUsize::new(0),
            rests_until: Mutex::new(None),
        })
    }
}

//! Parts that a client submits one by one travel by one way: what the policy chose for the first is
//! kept for a while and holds for the others, because a handset joins only what one SMSC sent it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::Pipeline;
use crate::clock::Timestamp;
use crate::domain::{AccountId, Message, Outcome, Plan, SetId};

/// How long the parts of one message may be apart.
const TOGETHER: Duration = Duration::from_secs(600);

/// Messages of one account whose way is known at once. Of more the newest count, so that nobody's
/// endless first parts cost anybody else.
const ROUTES_MAX: usize = 5_000;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    originator: String,
    recipient: String,
    reference: u16,
    total: u8,
}

struct Route {
    set: Option<SetId>,
    plan: Plan,
    at: Timestamp,
}

#[derive(Default)]
struct Routes {
    known: HashMap<Arc<Key>, Route>,
    /// As they were first known.
    order: VecDeque<Arc<Key>>,
}

impl Routes {
    fn keep(&mut self, key: Key, route: Route) {
        if let Some(known) = self.known.get_mut(&key) {
            *known = route;
            return;
        }
        while let Some(oldest) = self.order.front() {
            let known = self.known.get(oldest);
            let current = known.is_some_and(|k| route.at.since(k.at) < TOGETHER);
            if current && self.known.len() < ROUTES_MAX {
                break;
            }
            self.known.remove(oldest);
            self.order.pop_front();
        }
        let key = Arc::new(key);
        self.order.push_back(key.clone());
        self.known.insert(key, route);
    }
}

#[derive(Default)]
pub(super) struct PartRoutes(parking_lot::Mutex<HashMap<AccountId, Routes>>);

impl PartRoutes {
    /// Gives `message` the plan of the part before it, or keeps its own for those that follow.
    fn follow(&self, message: &mut Message, now: Timestamp) {
        let Some(concat) = message.sm.cut.as_ref().and_then(|cut| cut.concat()) else {
            return;
        };
        let key = Key {
            originator: message.originator.value.clone(),
            recipient: message.recipient.value.clone(),
            reference: concat.reference,
            total: concat.total,
        };
        let set = message.decisions.last().map(|d| d.set);
        let mut accounts = self.0.lock();
        let routes = accounts.entry(message.account.clone()).or_default();
        if let Some(route) = routes.known.get(&key)
            && route.set == set
            && now.since(route.at) < TOGETHER
        {
            message.plan = route.plan.clone();
            message.hop = 0;
            return;
        }
        let plan = message.plan.clone();
        routes.keep(key, Route { set, plan, at: now });
    }
}

impl Pipeline {
    /// After a decision: a part that is to be sent goes the way of the first one.
    pub(super) fn follow_first_part(&self, message: &mut Message, outcome: &Outcome) {
        if message.sm.cut.is_some() && *outcome == Outcome::Send {
            self.part_routes.follow(message, self.clock.now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::message::tests_support::message;
    use crate::domain::{CarrierId, Cut, Hop};

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn part(reference: u8, index: u8, carrier: &str) -> Message {
        let mut part = message(NOW);
        part.sm.cut = Some(Box::new(Cut {
            udh: vec![0, 3, reference, 2, index],
            data_coding: 0,
            octets: b"hello".to_vec(),
        }));
        part.plan = Plan {
            hops: vec![Hop {
                carrier: CarrierId::from(carrier),
                originator: None,
                price_micros: None,
                tlvs: Vec::new(),
            }],
            reason: String::new(),
            reroute: None,
        };
        part
    }

    fn way(part: &Message) -> Option<&str> {
        part.next_hop_carrier().map(|c| c.as_str())
    }

    #[test]
    fn the_second_part_goes_the_way_of_the_first() {
        let routes = PartRoutes::default();
        let (mut first, mut second) = (part(7, 1, "north"), part(7, 2, "south"));
        let (mut other, mut late) = (part(8, 1, "south"), part(7, 2, "south"));
        routes.follow(&mut first, NOW);
        routes.follow(&mut second, NOW);
        routes.follow(&mut other, NOW);
        routes.follow(&mut late, NOW.plus(TOGETHER));
        assert_eq!((way(&first), way(&second)), (Some("north"), Some("north")));
        assert_eq!((way(&other), way(&late)), (Some("south"), Some("south")));
    }

    /// The first parts of `count` messages to as many recipients.
    fn flood(routes: &PartRoutes, account: &str, count: usize) {
        for n in 0..count {
            let mut one = part(7, 1, "north");
            one.account = AccountId::from(account);
            one.recipient.value = n.to_string();
            routes.follow(&mut one, NOW);
        }
    }

    #[test]
    fn the_table_is_bounded_and_old_ways_make_room() {
        let routes = PartRoutes::default();
        flood(&routes, "acme", ROUTES_MAX + 10);
        let known = || routes.0.lock()[&AccountId::from("acme")].known.len();
        assert_eq!(known(), ROUTES_MAX);
        let (mut newest, mut oldest) = (part(7, 2, "south"), part(7, 2, "south"));
        newest.recipient.value = (ROUTES_MAX + 9).to_string();
        oldest.recipient.value = "0".to_owned();
        routes.follow(&mut newest, NOW);
        routes.follow(&mut oldest, NOW);
        assert_eq!((way(&newest), way(&oldest)), (Some("north"), Some("south")));
        routes.follow(&mut part(9, 1, "north"), NOW.plus(TOGETHER));
        assert_eq!(known(), 1);
    }

    #[test]
    fn one_accounts_endless_parts_are_its_own() {
        let routes = PartRoutes::default();
        let (mut first, mut second) = (part(7, 1, "north"), part(7, 2, "south"));
        routes.follow(&mut first, NOW);
        flood(&routes, "greedy", ROUTES_MAX + 10);
        routes.follow(&mut second, NOW);
        assert_eq!(way(&second), Some("north"));
    }
}

//! Parts that a client submits one by one travel by one way: what the policy chose for the first is
//! kept for a while and holds for the others, because a handset joins only what one SMSC sent it.

use std::collections::HashMap;
use std::time::Duration;

use super::Pipeline;
use crate::clock::Timestamp;
use crate::domain::{AccountId, Message, Outcome, Plan, SetId};

/// How long the parts of one message may be apart.
const TOGETHER: Duration = Duration::from_secs(600);

/// Messages whose way is known at once. Beyond it parts go where policy sends each.
const ROUTES_MAX: usize = 20_000;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    account: AccountId,
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
pub(super) struct PartRoutes(parking_lot::Mutex<HashMap<Key, Route>>);

impl PartRoutes {
    /// Gives `message` the plan of the part before it, or keeps its own for those that follow.
    fn follow(&self, message: &mut Message, now: Timestamp) {
        let Some(concat) = message.sm.cut.as_ref().and_then(|cut| cut.concat()) else {
            return;
        };
        let key = Key {
            account: message.account.clone(),
            originator: message.originator.value.clone(),
            recipient: message.recipient.value.clone(),
            reference: concat.reference,
            total: concat.total,
        };
        let set = message.decisions.last().map(|d| d.set);
        let mut routes = self.0.lock();
        if let Some(route) = routes.get(&key)
            && route.set == set
            && now.since(route.at) < TOGETHER
        {
            message.plan = route.plan.clone();
            message.hop = 0;
            return;
        }
        if routes.len() >= ROUTES_MAX {
            routes.retain(|_, route| now.since(route.at) < TOGETHER);
        }
        if routes.len() < ROUTES_MAX {
            let plan = message.plan.clone();
            routes.insert(key, Route { set, plan, at: now });
        }
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

    #[test]
    fn the_table_is_bounded_and_old_ways_make_room() {
        let routes = PartRoutes::default();
        for n in 0..ROUTES_MAX + 10 {
            let mut one = part(7, 1, "north");
            one.recipient.value = n.to_string();
            routes.follow(&mut one, NOW);
        }
        assert_eq!(routes.0.lock().len(), ROUTES_MAX);
        routes.follow(&mut part(9, 1, "north"), NOW.plus(TOGETHER));
        assert_eq!(routes.0.lock().len(), 1);
    }
}

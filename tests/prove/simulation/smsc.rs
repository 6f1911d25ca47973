//! A message centre and the way to it: seeded latency, refusals, throttling, answers and connections that are
//! lost, and receipts early, late, twice, out of order or never. It outlives the server that talks to it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use heliograph::carrier::{
    Ack, BoxFuture, Carrier, CarrierEvent, CarrierStatus, Handed, Outgoing, SendOutcome,
};
use heliograph::domain::receipt::{Evidence, Receipt, ReceiptStyle, Report};
use heliograph::domain::{CarrierId, Message, PartState, State as MessageState};
use rand::Rng as _;
use rand::rngs::StdRng;
use tokio::sync::{Notify, mpsc, oneshot};

use super::ledger::number_of;
use super::world::{State, World};

const RESPONSE_TIMEOUT_MS: u64 = 10_000;
/// An unreachable carrier is down after so long.
const DOWN_AFTER_MS: u64 = 2_000;

/// How the ids of responses and receipts are written.
#[derive(Clone, Copy, Debug)]
enum Ids {
    Decimal,
    HexInResponse,
    Uuid,
}

pub struct Smsc {
    pub up: bool,
    /// Counts connections: what was under way on another one is lost.
    connection: u64,
    pub window: usize,
    ids: Ids,
    last_id: u64,
    refuses: u64,
    loses: u64,
    names_handset: bool,
    receipts: BTreeMap<(u64, u64), Pending>,
    last_receipt: u64,
}

#[derive(Clone)]
struct Pending {
    n: usize,
    copy: usize,
    id: String,
    state: PartState,
    handset: String,
    /// It is the last word on its segment.
    counts: bool,
}

impl Smsc {
    pub fn new(n: u64, rng: &mut StdRng) -> Smsc {
        Smsc {
            up: true,
            connection: 0,
            window: rng.random_range(1..20),
            ids: [Ids::Decimal, Ids::HexInResponse, Ids::Uuid][rng.random_range(0..3)],
            last_id: (n + 1) * 100_000_000 + rng.random_range(0..1_000_000),
            refuses: [0, 5, 25][rng.random_range(0..3)],
            loses: [0, 2, 10][rng.random_range(0..3)],
            names_handset: rng.random_range(0..4) > 0,
            receipts: BTreeMap::new(),
            last_receipt: 0,
        }
    }

    /// An id as the response has it and as the receipt has it.
    fn next_id(&mut self) -> (String, String) {
        self.last_id += 1;
        let id = self.last_id;
        match self.ids {
            Ids::Decimal => (id.to_string(), id.to_string()),
            Ids::HexInResponse => (format!("{id:x}"), id.to_string()),
            Ids::Uuid => {
                let id = format!("5f0c2f4e-9a1b-4c3d-8e7f-{id:012x}");
                (id.clone(), id)
            }
        }
    }
}

/// The server's end of the way.
pub struct SimCarrier {
    id: CarrierId,
    n: usize,
    world: World,
    in_flight: parking_lot::Mutex<usize>,
    changed: Notify,
    /// There is another receipt, or another connection.
    planned: Notify,
}

/// Gives its place in the window back.
struct Place<'a>(&'a SimCarrier);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        *self.0.in_flight.lock() -= 1;
        self.0.changed.notify_waiters();
    }
}

impl SimCarrier {
    pub fn new(n: usize, world: World) -> Arc<SimCarrier> {
        Arc::new(SimCarrier {
            id: CarrierId::from(["north", "south"][n]),
            n,
            world,
            in_flight: parking_lot::Mutex::new(0),
            changed: Notify::new(),
            planned: Notify::new(),
        })
    }

    pub fn set_up(&self, up: bool) {
        let mut world = self.world.lock();
        let id = &self.id;
        world.note(format_args!("{id}: {}", if up { "up" } else { "down" }));
        let smsc = &mut world.smscs[self.n];
        smsc.up = up;
        smsc.connection += 1;
        drop(world);
        self.changed.notify_waiters();
        self.planned.notify_one();
    }

    fn is_up(&self) -> bool {
        self.world.lock().smscs[self.n].up
    }

    fn connection(&self) -> u64 {
        self.world.lock().smscs[self.n].connection
    }

    async fn deliver(&self, outgoing: &Outgoing<'_>) -> SendOutcome {
        let message = outgoing.message;
        let connection = self.connection();
        if !self.is_up() {
            return SendOutcome::Unavailable;
        }
        let Some(n) = number_of(message) else {
            self.world.fault("a message that nobody sent".to_owned());
            return SendOutcome::Unavailable;
        };
        *self.in_flight.lock() += 1;
        let _place = Place(self);
        {
            let mut world = self.world.lock();
            world.note(format_args!("{} <- message {n}", self.id));
            world.on_the_wire(n, message, &self.id);
            // Whatever ends from here on may have been at the carrier.
            world.ledger.entries[n].unanswered += 1;
        }
        self.world.pause(1..300).await;
        if self.connection() != connection {
            return self.lost(n, "request", self.taken_before(outgoing));
        }
        let begun = self.taken_before(outgoing).iter().any(Option::is_some);
        if !begun && let Some(refused) = self.refusal(n) {
            self.world.pause(1..100).await;
            if self.connection() != connection {
                return self.lost(n, "refusal", Vec::new());
            }
            self.world.lock().ledger.entries[n].unanswered -= 1;
            return refused;
        }
        let mut ids = self.taken_before(outgoing);
        let taken = self.take(n, message, &mut ids, connection).await;
        let answered = self.answer(n, taken, &mut ids, connection).await;
        if !answered {
            return self.lost(n, "answer", ids);
        }
        let mut world = self.world.lock();
        world.ledger.entries[n].unanswered -= 1;
        world.note(format_args!("{} -> message {n} is taken", self.id));
        SendOutcome::Sent {
            ids: ids.into_iter().flatten().collect(),
        }
    }

    /// Ids of segments that need not go again, as an SMPP carrier judges that.
    fn taken_before(&self, outgoing: &Outgoing<'_>) -> Vec<Option<String>> {
        let (message, segments) = (outgoing.message, usize::from(outgoing.segmented.count));
        let known = message.state == MessageState::SubmitUnknown && message.parts.len() == segments;
        let id = |index: usize| {
            let part = message.parts.get(index).filter(|_| known)?;
            let taken = part.carrier == self.id && part.state != PartState::Unanswered;
            taken.then(|| part.carrier_message_id.clone())
        };
        (0..segments).map(id).collect()
    }

    /// Takes what is not known to be taken, one segment after the other, for as long as they come.
    async fn take(
        &self,
        n: usize,
        message: &Message,
        ids: &mut [Option<String>],
        connection: u64,
    ) -> Vec<(usize, usize, String)> {
        let segments = ids.len();
        let open: Vec<usize> = (0..segments).filter(|s| ids[*s].is_none()).collect();
        let fate = Fate::drawn(&mut self.world.lock());
        let mut taken = Vec::new();
        for segment in open {
            if !taken.is_empty() {
                self.world.pause(0..60).await;
            }
            if self.connection() != connection {
                break;
            }
            let mut world = self.world.lock();
            let copy = world.taken(n, segment, segments);
            let (response, receipt) = world.smscs[self.n].next_id();
            world.note(format_args!(
                "{}: takes segment {segment} of message {n}, copy {copy}",
                self.id
            ));
            let handset = &message.recipient.value;
            plan_receipts(&mut world, self.n, (n, copy), &receipt, handset, fate);
            taken.push((segment, copy, response));
            drop(world);
            self.planned.notify_one();
        }
        taken
    }

    /// Answers what was taken, for as long as the connection stands. False where an answer is missing.
    async fn answer(
        &self,
        n: usize,
        taken: Vec<(usize, usize, String)>,
        ids: &mut [Option<String>],
        connection: u64,
    ) -> bool {
        let mut known = Vec::new();
        for (segment, copy, id) in taken {
            let lost = {
                let mut world = self.world.lock();
                let loses = world.smscs[self.n].loses;
                !world.calm && world.chance(loses)
            };
            self.world.pause(1..400).await;
            if self.connection() != connection {
                break;
            }
            if !lost {
                known.push(copy);
                ids[segment] = Some(id);
            }
        }
        let whole = ids.iter().all(Option::is_some);
        if !whole && self.connection() == connection {
            self.world.sleep(RESPONSE_TIMEOUT_MS).await;
        }
        // The server hears of all of them at once: before that a crash forgets them.
        let mut world = self.world.lock();
        for copy in known {
            world.answered(n, copy);
        }
        whole
    }

    /// `taken` tells of the segments that an answer is known of.
    fn lost(&self, n: usize, what: &str, taken: Vec<Option<String>>) -> SendOutcome {
        let id = &self.id;
        self.world
            .note(format_args!("{id}: the {what} of message {n} is lost"));
        SendOutcome::Unknown { taken }
    }

    fn refusal(&self, n: usize) -> Option<SendOutcome> {
        let mut world = self.world.lock();
        let refuses = world.smscs[self.n].refuses;
        if world.calm || !world.chance(refuses) {
            return None;
        }
        let refusal = match world.pick(0..10) {
            0 => {
                world.ledger.entries[n].refused = true;
                SendOutcome::Permanent {
                    status: 0x0B,
                    detail: String::new(),
                }
            }
            1..=5 => SendOutcome::Throttled {
                status: 0x58,
                retry_after_ms: None,
            },
            _ => SendOutcome::Temporary {
                status: 0x08,
                detail: String::new(),
                retry_after_ms: None,
            },
        };
        world.note(format_args!("{}: refuses message {n}", self.id));
        Some(refusal)
    }

    /// Hands out the receipts that are due, for as long as the server lives.
    pub async fn report(self: Arc<Self>, events: mpsc::Sender<CarrierEvent>) {
        loop {
            let due = {
                let world = self.world.lock();
                let first = world.smscs[self.n].receipts.first_key_value();
                first.map(|(key, pending)| (*key, pending.clone()))
            };
            let now = self.world.now_ms();
            match due {
                Some((key, pending)) if key.0 <= now && self.is_up() => {
                    self.report_one(key, pending, &events).await;
                }
                Some((key, _)) if key.0 > now => self.planned_within(key.0 - now).await,
                _ => self.planned.notified().await,
            }
        }
    }

    /// Until there is another receipt or connection, or until so much later.
    async fn planned_within(&self, ms: u64) {
        let wait = Duration::from_millis(ms);
        let _ = tokio::time::timeout(wait, self.planned.notified()).await;
    }

    async fn report_one(
        &self,
        key: (u64, u64),
        pending: Pending,
        events: &mpsc::Sender<CarrierEvent>,
    ) {
        let evidence = Evidence {
            addresses: match self.world.lock().smscs[self.n].names_handset {
                true => vec![pending.handset.clone(), "60777".to_owned()],
                false => Vec::new(),
            },
            reference: None,
        };
        let (ack, answer) = oneshot::channel();
        {
            let mut world = self.world.lock();
            let (n, copy, state) = (pending.n, pending.copy, pending.state);
            world.note(format_args!(
                "{} -> receipt of message {n}, copy {copy}: {}",
                self.id,
                state.name()
            ));
            world.receipt_said(n, copy, state);
        }
        let event = CarrierEvent::Receipt {
            carrier: self.id.clone(),
            receipt: Receipt {
                id: pending.id.clone(),
                report: Report::of(pending.state),
                evidence,
            },
            style: ReceiptStyle::default(),
            ack,
        };
        if events.send(event).await.is_err() {
            return std::future::pending().await;
        }
        let answer = tokio::time::timeout(Duration::from_millis(RESPONSE_TIMEOUT_MS), answer).await;
        let mut world = self.world.lock();
        let again = world.now_ms() + world.pick(5_000..60_000);
        let smsc = &mut world.smscs[self.n];
        smsc.receipts.remove(&key);
        if matches!(answer, Ok(Ok(Ack::Taken))) {
            if pending.counts {
                world.ledger.entries[pending.n].copies[pending.copy].reported = true;
            }
        } else {
            smsc.last_receipt += 1;
            let number = smsc.last_receipt;
            smsc.receipts.insert((again, number), pending);
        }
    }
}

/// What becomes of a message at its carrier.
#[derive(Clone, Copy)]
struct Fate {
    /// None: its receipts never come.
    state: Option<PartState>,
    /// They overtake the responses.
    early: bool,
}

impl Fate {
    fn drawn(world: &mut State) -> Fate {
        let state = match world.pick(0..100) {
            0..80 => Some(PartState::Delivered),
            80..92 => Some(PartState::Undeliverable),
            _ => None,
        };
        let early = world.chance(20);
        Fate { state, early }
    }
}

fn plan_receipts(
    world: &mut State,
    smsc: usize,
    (n, copy): (usize, usize),
    id: &str,
    handset: &str,
    fate: Fate,
) {
    let now = world.now_ms();
    let Some(state) = fate.state else { return };
    let delay = match fate.early {
        true => 0,
        false if world.chance(80) => world.pick(200..20_000),
        false => world.pick(20_000..1_200_000),
    };
    let mut all = vec![(delay, state, true)];
    if world.chance(10) {
        all.push((delay / 2, PartState::Enroute, false));
    }
    if world.chance(15) {
        let later = world.pick(0..60_000);
        all.push((delay + later, state, false));
    }
    for (delay, state, counts) in all {
        let smsc = &mut world.smscs[smsc];
        smsc.last_receipt += 1;
        let key = (now + delay, smsc.last_receipt);
        let pending = Pending {
            n,
            copy,
            id: id.to_owned(),
            state,
            handset: handset.to_owned(),
            counts,
        };
        smsc.receipts.insert(key, pending);
    }
}

impl Carrier for SimCarrier {
    fn id(&self) -> &CarrierId {
        &self.id
    }

    fn tags(&self) -> &[String] {
        &[]
    }

    fn status(&self) -> CarrierStatus {
        CarrierStatus {
            connected: self.is_up(),
            in_flight: u32::try_from(*self.in_flight.lock()).unwrap_or(u32::MAX),
            headroom: 100.0,
        }
    }

    fn ready(&self) -> BoxFuture<'_, usize> {
        Box::pin(async {
            loop {
                let changed = self.changed.notified();
                let window = self.world.lock().smscs[self.n].window;
                let free = window.saturating_sub(*self.in_flight.lock());
                if self.is_up() && free > 0 {
                    return free;
                }
                changed.await;
            }
        })
    }

    fn down(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            loop {
                let changed = self.changed.notified();
                if self.is_up() {
                    changed.await;
                    continue;
                }
                self.world.sleep(DOWN_AFTER_MS).await;
                if !self.is_up() {
                    return;
                }
            }
        })
    }

    fn send<'a>(&'a self, outgoing: Outgoing<'a>) -> BoxFuture<'a, Handed> {
        Box::pin(async move { self.deliver(&outgoing).await.into() })
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

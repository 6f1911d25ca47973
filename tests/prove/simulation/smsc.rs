//! A message centre and the way to it: seeded latency, refusals, throttling, answers and connections that are
//! lost, and receipts early, late, twice, out of order or never. It outlives the server that talks to it. Some are
//! spoken to over SMPP (`centre`), the others as an adapter would have it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use heliograph::carrier::smpp::SmppCarrier;
use heliograph::carrier::{
    Ack, BoxFuture, Carrier, CarrierEvent, CarrierStatus, Handed, InboundPart, Outgoing,
    SendOutcome,
};
use heliograph::domain::receipt::{Evidence, Receipt, ReceiptStyle, Report};
use heliograph::domain::text::TextStyle;
use heliograph::domain::{CarrierId, Message, PartState, State as MessageState};
use heliograph::smpp::status::{ESME_RINVDSTADR, ESME_RSYSERR, ESME_RTHROTTLED};
use rand::Rng as _;
use rand::rngs::StdRng;
use tokio::sync::{Notify, mpsc, oneshot};

use super::centre::{Centre, Open};
use super::defect::Defect;
use super::ledger::number_of;
use super::life::HOUR_MS;
use super::world::{State, World};

pub const RESPONSE_TIMEOUT_MS: u64 = 10_000;
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
    pub speaks_smpp: bool,
    /// Its network is up and lets nothing through.
    pub silent_until: u64,
    pub window: usize,
    pub sessions: usize,
    ids: Ids,
    last_id: u64,
    refuses: u64,
    /// Messages of which it takes no segment.
    doomed: BTreeSet<usize>,
    pub loses: u64,
    pub names_handset: bool,
    /// Which copy an answer is of.
    pub answers: BTreeMap<String, (usize, usize)>,
    pub open: Open,
    receipts: BTreeMap<(u64, u64), Pending>,
    last_receipt: u64,
}

#[derive(Clone)]
pub struct Pending {
    n: usize,
    copy: usize,
    pub id: String,
    pub state: PartState,
    pub handset: String,
    /// It is the last word on its segment.
    counts: bool,
}

impl Smsc {
    pub fn new(n: u64, rng: &mut StdRng) -> Smsc {
        Smsc {
            up: true,
            connection: 0,
            speaks_smpp: rng.random_range(0..2) == 0,
            silent_until: 0,
            window: rng.random_range(1..20),
            sessions: rng.random_range(1..3),
            ids: [Ids::Decimal, Ids::HexInResponse, Ids::Uuid][rng.random_range(0..3)],
            last_id: (n + 1) * 100_000_000 + rng.random_range(0..1_000_000),
            refuses: [0, 5, 25][rng.random_range(0..3)],
            doomed: BTreeSet::new(),
            loses: [0, 2, 10][rng.random_range(0..3)],
            names_handset: rng.random_range(0..4) > 0,
            answers: BTreeMap::new(),
            open: Open::default(),
            receipts: BTreeMap::new(),
            last_receipt: 0,
        }
    }

    /// An id as the response has it and as the receipt has it.
    pub fn next_id(&mut self) -> (String, String) {
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
    way: Way,
    /// There is another receipt, or another connection.
    planned: Arc<Notify>,
}

enum Way {
    /// Over SMPP, by the real carrier.
    Smpp(Arc<Centre>, Arc<SmppCarrier>),
    /// As an adapter has it: whole messages, and call-backs.
    Adapter {
        in_flight: parking_lot::Mutex<usize>,
        changed: Notify,
        events: mpsc::Sender<CarrierEvent>,
    },
}

/// Gives its place in the window back.
struct Place<'a>(&'a SimCarrier);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Way::Adapter {
            in_flight, changed, ..
        } = &self.0.way
        {
            *in_flight.lock() -= 1;
            changed.notify_waiters();
        }
    }
}

impl SimCarrier {
    pub fn new(n: usize, world: World, events: mpsc::Sender<CarrierEvent>) -> Arc<SimCarrier> {
        let id = CarrierId::from(["north", "south"][n]);
        let planned = Arc::new(Notify::new());
        let speaks_smpp = world.lock().smscs[n].speaks_smpp;
        let way = match speaks_smpp {
            true => {
                let centre = Centre::new(n, id.clone(), world.clone(), planned.clone());
                let carrier = centre.carrier(events);
                Way::Smpp(centre, carrier)
            }
            false => Way::Adapter {
                in_flight: parking_lot::Mutex::new(0),
                changed: Notify::new(),
                events,
            },
        };
        Arc::new(SimCarrier {
            id,
            n,
            world,
            way,
            planned,
        })
    }

    pub fn set_up(&self, up: bool) {
        let mut world = self.world.lock();
        let id = &self.id;
        world.note(format_args!("{id}: {}", if up { "up" } else { "down" }));
        let smsc = &mut world.smscs[self.n];
        smsc.up = up;
        smsc.silent_until = 0;
        smsc.connection += 1;
        drop(world);
        match &self.way {
            Way::Smpp(centre, _) if !up => centre.cut(),
            Way::Smpp(..) => {}
            Way::Adapter { changed, .. } => changed.notify_waiters(),
        }
        self.planned.notify_one();
    }

    /// Nothing goes through the network, and nobody is told. False where nothing can be silent.
    pub fn fall_silent(&self, ms: u64) -> bool {
        if matches!(self.way, Way::Adapter { .. }) {
            return false;
        }
        let mut world = self.world.lock();
        world.note(format_args!("{}: silent for {ms} ms", self.id));
        world.smscs[self.n].silent_until = world.now_ms() + ms;
        true
    }

    pub fn is_up(&self) -> bool {
        self.world.lock().smscs[self.n].up
    }

    /// Whether the centre can tell the server something.
    pub fn reaches(&self) -> bool {
        match &self.way {
            Way::Smpp(centre, _) => centre.is_bound(),
            Way::Adapter { .. } => self.is_up(),
        }
    }

    fn connection(&self) -> u64 {
        self.world.lock().smscs[self.n].connection
    }

    async fn send(&self, outgoing: Outgoing<'_>) -> Handed {
        let message = outgoing.message;
        let Some(n) = number_of(message) else {
            self.world.fault("a message that nobody sent".to_owned());
            return SendOutcome::Unavailable.into();
        };
        let Way::Smpp(_, carrier) = &self.way else {
            let handed = self.deliver(n, &outgoing).await.into();
            return self.world.lock().spoilt(handed);
        };
        {
            let mut world = self.world.lock();
            world.note(format_args!("{} <- message {n}", self.id));
            world.on_the_wire(n, message, &self.id);
            world.ledger.entries[n].unanswered += 1;
            world.smscs[self.n].open.hand(n);
        }
        let mut handed = carrier.send(outgoing).await;
        if self.world.lock().shows(Defect::PlaceGivenBackEarly) {
            handed.place = None;
            self.world.pause(1..50).await;
        }
        let mut world = self.world.lock();
        let outcome = &handed.outcome;
        world.note(format_args!("{} -> message {n}: {outcome:?}", self.id));
        let known: Vec<&String> = match outcome {
            SendOutcome::Sent { ids } => ids.iter().collect(),
            SendOutcome::Unknown { taken } | SendOutcome::Begun { taken } => {
                taken.iter().flatten().collect()
            }
            _ => Vec::new(),
        };
        for id in known {
            match world.smscs[self.n].answers.get(id).copied() {
                Some((of, copy)) if of == n => world.answered_once(n, copy),
                other => world.fault(format!("message {n} has the id {id:?} of {other:?}")),
            }
        }
        if !matches!(outcome, SendOutcome::Unknown { .. }) {
            world.ledger.entries[n].unanswered -= 1;
        }
        let syncs = world.syncs;
        world.smscs[self.n].open.tell(n, syncs);
        world.spoilt(handed)
    }

    async fn deliver(&self, n: usize, outgoing: &Outgoing<'_>) -> SendOutcome {
        let message = outgoing.message;
        let connection = self.connection();
        let Way::Adapter { in_flight, .. } = &self.way else {
            return SendOutcome::Unavailable;
        };
        if !self.is_up() {
            return SendOutcome::Unavailable;
        }
        *in_flight.lock() += 1;
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
        let status = self.world.lock().refusal(self.n, n)?;
        let (detail, retry_after_ms) = (String::new(), None);
        Some(match status {
            ESME_RINVDSTADR => SendOutcome::Permanent { status, detail },
            ESME_RTHROTTLED => SendOutcome::Throttled {
                status,
                retry_after_ms,
            },
            _ => SendOutcome::Temporary {
                status,
                detail,
                retry_after_ms,
            },
        })
    }

    /// Hands out the receipts that are due, for as long as the server lives.
    pub async fn report(self: Arc<Self>) {
        loop {
            let due = {
                let world = self.world.lock();
                let first = world.smscs[self.n].receipts.first_key_value();
                first.map(|(key, pending)| (*key, pending.clone()))
            };
            let now = self.world.now_ms();
            match due {
                Some((key, pending)) if key.0 <= now && self.reaches() => {
                    self.report_one(key, pending).await;
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

    async fn report_one(&self, key: (u64, u64), mut pending: Pending) {
        {
            let mut world = self.world.lock();
            let (n, copy, state) = (pending.n, pending.copy, pending.state);
            world.note(format_args!(
                "{} -> receipt of message {n}, copy {copy}: {}",
                self.id,
                state.name()
            ));
            world.receipt_said(n, copy, state);
            if world.shows(Defect::ReceiptMisread) {
                pending.state = PartState::Undeliverable;
            }
        }
        let taken = match &self.way {
            Way::Smpp(centre, _) => centre.deliver_receipt(&pending).await,
            Way::Adapter { .. } => self.call_back_receipt(&pending).await,
        };
        let mut world = self.world.lock();
        let again = world.now_ms() + world.pick(5_000..60_000);
        let smsc = &mut world.smscs[self.n];
        smsc.receipts.remove(&key);
        if taken {
            if pending.counts {
                world.ledger.entries[pending.n].copies[pending.copy].reported = true;
            }
        } else {
            smsc.last_receipt += 1;
            let number = smsc.last_receipt;
            smsc.receipts.insert((again, number), pending);
        }
    }

    async fn call_back_receipt(&self, pending: &Pending) -> bool {
        let evidence = Evidence {
            addresses: match self.world.lock().smscs[self.n].names_handset {
                true => vec![pending.handset.clone(), "60777".to_owned()],
                false => Vec::new(),
            },
            reference: None,
        };
        let receipt = Receipt {
            id: pending.id.clone(),
            report: Report::of(pending.state),
            evidence,
        };
        self.call_back(|ack| CarrierEvent::Receipt {
            carrier: self.id.clone(),
            receipt,
            style: ReceiptStyle::default(),
            ack,
        })
        .await
    }

    /// Whether the server says that it has it.
    async fn call_back(&self, event: impl FnOnce(oneshot::Sender<Ack>) -> CarrierEvent) -> bool {
        let Way::Adapter { events, .. } = &self.way else {
            return false;
        };
        let (ack, answer) = oneshot::channel();
        if events.send(event(ack)).await.is_err() {
            return std::future::pending().await;
        }
        let patience = Duration::from_millis(RESPONSE_TIMEOUT_MS);
        let answer = tokio::time::timeout(patience, answer).await;
        matches!(answer, Ok(Ok(Ack::Taken)))
    }

    /// Hands on a part of a text, and says whether the server has it.
    pub async fn deliver_part(&self, part: InboundPart, provider_id: Option<String>) -> bool {
        if self.world.lock().shows(Defect::TextForgotten) {
            return true;
        }
        match &self.way {
            Way::Smpp(centre, _) => centre.deliver_part(&part).await,
            Way::Adapter { .. } => {
                let carrier = self.id.clone();
                self.call_back(|ack| CarrierEvent::Inbound {
                    carrier,
                    part,
                    provider_id,
                    ack,
                })
                .await
            }
        }
    }
}

impl State {
    /// Whether the centre refuses a message or a segment of it, and with which command_status.
    pub fn refusal(&mut self, smsc: usize, n: usize) -> Option<u32> {
        if self.smscs[smsc].doomed.contains(&n) {
            return Some(ESME_RINVDSTADR);
        }
        let refuses = self.smscs[smsc].refuses;
        if self.calm || !self.chance(refuses) {
            return None;
        }
        let entry = &mut self.ledger.entries[n];
        let status = match self.rng.random_range(0..10) {
            // Of a message of which something is taken the rest is taken as well, sooner or later.
            0 if entry.copies.is_empty() => {
                entry.refused = true;
                self.smscs[smsc].doomed.insert(n);
                ESME_RINVDSTADR
            }
            0..=5 => ESME_RTHROTTLED,
            _ => ESME_RSYSERR,
        };
        self.note(format_args!("smsc {smsc}: refuses message {n}"));
        Some(status)
    }
}

/// What becomes of a message at its carrier.
#[derive(Clone, Copy)]
pub struct Fate {
    /// None: its receipts never come.
    state: Option<PartState>,
    /// They overtake the responses.
    early: bool,
}

impl Fate {
    pub fn drawn(world: &mut State) -> Fate {
        let state = match world.pick(0..100) {
            0..80 => Some(PartState::Delivered),
            80..92 => Some(PartState::Undeliverable),
            _ => None,
        };
        let early = world.chance(20);
        Fate { state, early }
    }
}

pub fn plan_receipts(
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
        match &self.way {
            Way::Smpp(_, carrier) => carrier.status(),
            Way::Adapter { in_flight, .. } => CarrierStatus {
                connected: self.is_up(),
                in_flight: u32::try_from(*in_flight.lock()).unwrap_or(u32::MAX),
                headroom: 100.0,
            },
        }
    }

    fn text_style(&self) -> TextStyle {
        match &self.way {
            Way::Smpp(_, carrier) => carrier.text_style(),
            Way::Adapter { .. } => TextStyle::default(),
        }
    }

    fn ready(&self) -> BoxFuture<'_, usize> {
        let (in_flight, changed) = match &self.way {
            Way::Smpp(_, carrier) => return carrier.ready(),
            Way::Adapter {
                in_flight, changed, ..
            } => (in_flight, changed),
        };
        Box::pin(async move {
            loop {
                let changed = changed.notified();
                let window = self.world.lock().smscs[self.n].window;
                let free = window.saturating_sub(*in_flight.lock());
                if self.is_up() && free > 0 {
                    return free;
                }
                changed.await;
            }
        })
    }

    fn down(&self) -> BoxFuture<'_, ()> {
        let changed = match &self.way {
            Way::Smpp(_, carrier) => return carrier.down(),
            Way::Adapter { changed, .. } => changed,
        };
        Box::pin(async move {
            loop {
                let changed = changed.notified();
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
        Box::pin(async move {
            let forgotten = self.world.lock().shows(Defect::LeaseForgotten);
            if forgotten {
                self.world.sleep(10 * HOUR_MS).await;
            }
            SimCarrier::send(self, outgoing).await
        })
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        match &self.way {
            Way::Smpp(_, carrier) => carrier.shutdown(),
            Way::Adapter { .. } => Box::pin(async {}),
        }
    }
}

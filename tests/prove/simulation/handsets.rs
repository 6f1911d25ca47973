//! Texts that handsets write, in parts that come in any order, twice, late or never, under references that come
//! round again; whom they are told to; and the rule that nothing which a carrier was told is taken is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use heliograph::carrier::{Carrier as _, InboundPart};
use heliograph::clock::Clock;
use heliograph::domain::text::Concat;
use heliograph::domain::{Address, Body, MessageId};
use heliograph::pipeline::inbound::INCOMPLETE;
use heliograph::store::{InboundFilter, InboundRecord, Store, StoreError, WebhookOutcome};

use super::life::HOUR_MS;
use super::smsc::SimCarrier;
use super::world::{State, World};

pub const ESME: &str = "esme";
const TEXTS_MAX: usize = 40;

/// When a part is sent, and a number that makes it the only one then.
type Due = (u64, u64);
/// A text, and which of its parts, counted from 1.
type PartOf = (usize, u8);

#[derive(Default)]
pub struct Handsets {
    texts: Vec<Text>,
    /// Parts on their way, by carrier: when they are sent.
    under_way: [BTreeMap<Due, PartOf>; 2],
    last: u64,
    /// Texts that a plugin took for itself.
    pub consumed: BTreeSet<MessageId>,
    /// Whom the webhook and the ESME heard of.
    pub told: BTreeSet<MessageId>,
    told_esme: BTreeSet<MessageId>,
}

struct Text {
    handset: String,
    reference: u16,
    parts: Vec<Fate>,
    has_id: bool,
    /// Its reference is another text's too: nobody can tell whose a part is.
    ambiguous: bool,
}

#[derive(Default)]
struct Fate {
    sent: u32,
    /// The server said so, whether or not its carrier heard it.
    taken: bool,
}

impl Text {
    fn words(n: usize, index: u8) -> String {
        format!("{n}:{index} ")
    }
}

impl State {
    fn write_text(&mut self, carrier: usize) {
        let n = self.handsets.texts.len();
        let total = if self.chance(40) { 1 } else { self.pick(2..6) };
        let before = n.checked_sub(1).filter(|_| self.chance(25));
        let (handset, reference) = match before {
            Some(before) => {
                let before = &self.handsets.texts[before];
                (before.handset.clone(), before.reference)
            }
            None => (
                format!("+4477008{:05}", self.pick(0..100_000)),
                u16::try_from(self.pick(0..65_536)).unwrap_or(0),
            ),
        };
        if let Some(before) = before {
            self.handsets.texts[before].ambiguous = true;
        }
        let text = Text {
            handset,
            reference,
            parts: (0..total).map(|_| Fate::default()).collect(),
            has_id: self.chance(50),
            ambiguous: before.is_some(),
        };
        self.handsets.texts.push(text);
        self.note(format_args!("handset: writes text {n} in {total} parts"));
        for index in 1..=u8::try_from(total).unwrap_or(1) {
            // Some never come, some come twice.
            let copies = match self.pick(0..100) {
                0..6 => 0,
                6..20 => 2,
                _ => 1,
            };
            for _ in 0..copies {
                let most = if self.chance(80) { 10_000 } else { 400_000 };
                let delay = self.pick(0..most);
                self.send_part(carrier, delay, (n, index));
            }
        }
    }

    fn send_part(&mut self, carrier: usize, delay: u64, part: PartOf) {
        self.handsets.last += 1;
        let key = (self.now_ms() + delay, self.handsets.last);
        self.handsets.under_way[carrier].insert(key, part);
    }

    /// The next part, or how long to wait for one.
    fn due_part(&self, carrier: usize) -> Result<(Due, PartOf), u64> {
        let now = self.now_ms();
        match self.handsets.under_way[carrier].first_key_value() {
            Some((key, part)) if key.0 <= now => Ok((*key, *part)),
            Some((key, _)) => Err((key.0 - now).min(5_000)),
            None => Err(5_000),
        }
    }

    /// What the store holds of texts, at any time.
    fn texts_seen(&mut self, records: &[InboundRecord], waiting: &[String]) {
        let mut stored: BTreeMap<PartOf, u32> = BTreeMap::new();
        let mut wrong = Vec::new();
        for record in records {
            let Body::Text(text) = &record.inbound.body else {
                wrong.push(format!("text {} is none", record.inbound.id));
                continue;
            };
            let parts = parts_of(text);
            for part in &parts {
                *stored.entry(*part).or_default() += 1;
            }
            if record.consumed && !self.handsets.consumed.contains(&record.inbound.id) {
                wrong.push(format!("text {text:?} is consumed, and no plugin said so"));
            }
            let Some((n, _)) = parts.first() else {
                wrong.push(format!("text {text:?} is nobody's"));
                continue;
            };
            let Some(written) = self.handsets.texts.get(*n) else {
                wrong.push(format!("text {text:?} was never written"));
                continue;
            };
            if written.ambiguous {
                continue;
            }
            let in_order = parts
                .windows(2)
                .all(|w| w[0].0 == w[1].0 && w[0].1 < w[1].1);
            if !in_order {
                wrong.push(format!("text {text:?} is put together wrongly"));
            }
            let incomplete = record.labels.iter().any(|l| l == INCOMPLETE);
            if incomplete == (parts.len() == written.parts.len()) {
                wrong.push(format!("text {text:?}: incomplete is {incomplete}"));
            }
        }
        for text in waiting {
            for part in parts_of(text) {
                *stored.entry(part).or_default() += 1;
            }
        }
        for (n, text) in self.handsets.texts.iter().enumerate() {
            for (index, fate) in (1..).zip(&text.parts) {
                let there = stored.get(&(n, index)).copied().unwrap_or(0);
                if fate.taken && there == 0 {
                    wrong.push(format!("part {index} of text {n} was taken and is lost"));
                }
                if there > fate.sent {
                    let sent = fate.sent;
                    wrong.push(format!(
                        "part {index} of text {n} was sent {sent} times and is there {there} times"
                    ));
                }
            }
        }
        wrong.into_iter().for_each(|w| self.fault(w));
    }
}

fn parts_of(text: &str) -> Vec<(usize, u8)> {
    let words = text.split_whitespace();
    let part = |word: &str| {
        let (n, index) = word.split_once(':')?;
        Some((n.parse().ok()?, index.parse().ok()?))
    };
    words.filter_map(part).collect()
}

/// Handsets write, and a carrier hands on what they wrote.
pub async fn write(world: World, carrier: usize, way: Arc<SimCarrier>) {
    let writing = async {
        loop {
            world.pause(5_000..400_000).await;
            let mut world = world.lock();
            if world.now_ms() < HOUR_MS && world.handsets.texts.len() < TEXTS_MAX {
                world.write_text(carrier);
            }
        }
    };
    let sending = async {
        loop {
            let due = match way.reaches() {
                true => world.lock().due_part(carrier),
                false => Err(1_000),
            };
            match due {
                Ok((key, part)) => {
                    hand_on(&world, carrier, &way, part).await;
                    world.lock().handsets.under_way[carrier].remove(&key);
                }
                Err(ms) => world.sleep(ms).await,
            }
        }
    };
    tokio::select! {
        biased;
        () = writing => {}
        () = sending => {}
    }
}

async fn hand_on(world: &World, carrier: usize, way: &SimCarrier, (n, index): (usize, u8)) {
    let id = way.id();
    let (part, provider_id) = {
        let mut world = world.lock();
        world.note(format_args!("{id} -> part {index} of text {n}"));
        let text = &mut world.handsets.texts[n];
        text.parts[usize::from(index) - 1].sent += 1;
        let total = u8::try_from(text.parts.len()).unwrap_or(1);
        let part = InboundPart {
            originator: Address::international(&text.handset).expect("a number"),
            recipient: Address::originator("60777").expect("a number"),
            data_coding: 0,
            udh: Vec::new(),
            payload: Text::words(n, index).into_bytes(),
            concat: (total > 1).then_some(Concat {
                reference: text.reference,
                total,
                index,
            }),
        };
        (part, text.has_id.then(|| format!("text-{n}-{index}")))
    };
    let taken = way.deliver_part(part, provider_id).await;
    let mut world = world.lock();
    world.note(format_args!("{id} <- part {index} of text {n}: {taken}"));
    world.handsets.texts[n].parts[usize::from(index) - 1].taken |= taken;
    let answer_lost = !world.calm && world.chance(4);
    if !taken || answer_lost {
        let delay = world.pick(5_000..60_000);
        world.send_part(carrier, delay, (n, index));
    }
}

/// The ESME that texts are delivered to, which is not always well.
pub async fn esme(world: World, store: Store, clock: Clock) {
    let system_id: Arc<str> = ESME.into();
    loop {
        for entry in store.claim_deliveries(&system_id, 4).await {
            world.pause(1..300).await;
            let now = clock.now();
            let outcome = {
                let mut world = world.lock();
                if !world.calm && world.chance(20) {
                    let wait = Duration::from_millis(world.pick(1_000..120_000));
                    WebhookOutcome::RetryAt(now.plus(wait))
                } else {
                    world.note(format_args!("esme: text {}", entry.message));
                    world.handsets.told_esme.insert(entry.message);
                    WebhookOutcome::Done
                }
            };
            if store.settle_owed(entry, outcome).await.is_err() {
                return;
            }
        }
    }
}

/// Compares the texts in the store with those that were written.
pub async fn look(world: &World, store: &Store) -> Result<Vec<InboundRecord>, StoreError> {
    let all = store.list_inbound(InboundFilter::default(), None, 1_000_000);
    let records = all.await?.items;
    let waiting = store.fragments().await;
    let waiting: Vec<String> = waiting
        .iter()
        .map(|f| String::from_utf8_lossy(&f.payload).into_owned())
        .collect();
    world.lock().texts_seen(&records, &waiting);
    Ok(records)
}

/// Texts whose webhook or ESME has heard nothing.
pub fn untold(world: &State, records: &[InboundRecord]) -> usize {
    let owed = records.iter().filter(|r| !r.consumed);
    let missing = owed.map(|r| {
        let id = &r.inbound.id;
        usize::from(!world.handsets.told.contains(id))
            + usize::from(!world.handsets.told_esme.contains(id))
    });
    missing.sum()
}

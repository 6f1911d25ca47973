//! Receipts meet their messages: by id in every form that the carrier may write it in, before the
//! response or long after it, once or many times. What no segment waits for is kept for the message
//! that may still come; what may speak of several messages is applied to none. Runs in the committer;
//! what a report does to a message is the domain's (`domain/receipt/settle.rs`).

use std::sync::atomic::Ordering;

use super::apply::{Before, damage};
use super::commit::{Answer, Committer, Reply};
use super::engine::Value;
use super::keys::{self, Key};
use super::prepared::Prepared;
use super::receipt_book::{CarrierPage, Count};
use super::records::{self, Awaited, Orphan};
use super::types::{OutboxEntry, OutboxKind, OutboxTarget, ReceiptMatch, StoreError};
use crate::clock::Timestamp;
use crate::domain::message::ReceiptEffect;
use crate::domain::receipt::{
    IdForm, Likeness, Per, Receipt, ReceiptStyle, Report, id_candidates, response_key,
};
use crate::domain::{CarrierId, Message, MessageId, PartState, SetId, State};

/// Segments that may wait under one id. Beyond it the oldest are given up: a carrier that answers
/// everything with one id makes no entry without bound.
const SEGMENTS_PER_ID_MAX: usize = 16;
/// SMPP 3.4, 5.2.23: 65 octets with their NUL.
const ID_CHARACTERS_MAX: usize = 64;

/// A receipt on its way through the committer.
pub(super) struct IncomingReceipt {
    carrier: CarrierId,
    receipt: Receipt,
    set: ReceiptStyle,
    candidates: Vec<Candidate>,
}

/// A key to look a receipt up under.
struct Candidate {
    key: Key,
    name: String,
    trust: Trust,
}

/// What a match under a candidate is worth by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// In the form that the carrier is known to have, or as the response had it.
    Sure,
    /// In a form that it may have: the receipt must not name another handset.
    Likely,
    /// In a form that it was never seen to have: the receipt must name this handset.
    Doubtful,
}

impl IncomingReceipt {
    pub fn new(
        carrier: CarrierId,
        receipt: Receipt,
        set: ReceiptStyle,
        page: &CarrierPage,
    ) -> IncomingReceipt {
        let style = page.style(set);
        let mut candidates: Vec<Candidate> = Vec::with_capacity(1);
        let mut add = |key: String, trust: Trust| {
            if candidates.iter().all(|c| c.name != key) {
                candidates.push(Candidate {
                    key: keys::correlation(&carrier, &key),
                    name: key,
                    trust,
                });
            }
        };
        for candidate in id_candidates(&receipt.id, style.id_form) {
            let sure = style.id_form != IdForm::Auto || candidate.form == IdForm::AsIs;
            let trust = if sure { Trust::Sure } else { Trust::Likely };
            add(candidate.key, trust);
        }
        // A carrier that changes its form is believed where its receipt names the handset.
        if set.id_form == IdForm::Auto && style.id_form != IdForm::Auto {
            for candidate in id_candidates(&receipt.id, IdForm::Auto) {
                add(candidate.key, Trust::Doubtful);
            }
        }
        IncomingReceipt {
            carrier,
            receipt,
            set,
            candidates,
        }
    }

    /// Keys under which it waits for its message.
    fn names(&self) -> Vec<String> {
        let kept = self.candidates.iter();
        let kept = kept.filter(|c| c.trust != Trust::Doubtful);
        kept.map(|c| c.name.clone()).collect()
    }
}

/// What became of a receipt.
enum Applied {
    Matched(ReceiptMatch),
    /// Its message is leased: it waits under this candidate.
    Deferred(MessageId, String),
    Ambiguous,
    Unmatched,
}

/// What a look under all candidates found.
enum Found {
    /// A segment that waits for it, and the candidate it was found under.
    Segment(Awaited, usize),
    Ambiguous,
    Nothing,
}

/// A segment that a receipt may speak of, with what speaks for it.
struct Suspect {
    awaited: Awaited,
    candidate: usize,
    likeness: Likeness,
    reference: bool,
    exact: bool,
}

impl Committer {
    pub fn receipt(
        &mut self,
        incoming: IncomingReceipt,
        reply: Answer<ReceiptMatch>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if let Err(error) = self.shared.check_running() {
            let _ = reply.send(Err(error));
            return Ok(());
        }
        let page = self.book.page(&incoming.carrier);
        let answer = match self.try_receipt(&incoming, &page, now)? {
            Applied::Matched(matched) => matched,
            Applied::Deferred(id, name) => {
                let key = keys::correlation(&incoming.carrier, &name);
                if let Some(lease) = self.leases.get_mut(&id) {
                    lease.deferred.push(key);
                }
                self.keep_orphan(&incoming, vec![name], &page, now)?;
                ReceiptMatch::Deferred(id)
            }
            Applied::Ambiguous => {
                page.count(Count::Ambiguous);
                self.keep_orphan(&incoming, incoming.names(), &page, now)?;
                ReceiptMatch::Ambiguous
            }
            Applied::Unmatched => {
                // An intermediate notification that nothing waits for says nothing worth keeping.
                if incoming.receipt.report.state != PartState::Enroute {
                    page.count(Count::Orphaned);
                    self.keep_orphan(&incoming, incoming.names(), &page, now)?;
                }
                ReceiptMatch::Orphaned
            }
        };
        self.replies.push(Reply::Receipt(reply, answer));
        Ok(())
    }

    /// Applies a receipt to the segment it speaks of, if there is one and only one.
    fn try_receipt(
        &mut self,
        incoming: &IncomingReceipt,
        page: &CarrierPage,
        now: Timestamp,
    ) -> Result<Applied, StoreError> {
        match self.find_segment(incoming)? {
            Found::Ambiguous => Ok(Applied::Ambiguous),
            Found::Nothing => self.try_settled(incoming, page, now),
            Found::Segment(awaited, candidate) => {
                if self.leases.contains_key(&awaited.id) {
                    let name = incoming.candidates[candidate].name.clone();
                    return Ok(Applied::Deferred(awaited.id, name));
                }
                let Some(message) = self.load(awaited.id)? else {
                    return Ok(Applied::Unmatched);
                };
                self.apply_to_segment(message, usize::from(awaited.part), incoming, page, now)
            }
        }
    }

    fn find_segment(&self, incoming: &IncomingReceipt) -> Result<Found, StoreError> {
        let mut hits: Vec<(Awaited, usize)> = Vec::new();
        for (n, candidate) in incoming.candidates.iter().enumerate() {
            if candidate.trust == Trust::Doubtful && !hits.is_empty() {
                break;
            }
            if let Some(value) = self.engine.get(&candidate.key)? {
                let waiting = records::decode_awaited(&value).map_err(damage)?;
                hits.extend(waiting.into_iter().map(|awaited| (awaited, n)));
            }
        }
        match hits[..] {
            [] => Ok(Found::Nothing),
            [(awaited, n)] if incoming.candidates[n].trust == Trust::Sure => {
                Ok(Found::Segment(awaited, n))
            }
            _ => self.weigh(hits, incoming),
        }
    }

    /// Decides by the receipt's other evidence which of several segments it speaks of.
    fn weigh(
        &self,
        hits: Vec<(Awaited, usize)>,
        incoming: &IncomingReceipt,
    ) -> Result<Found, StoreError> {
        let evidence = &incoming.receipt.evidence;
        let mut suspects = Vec::with_capacity(hits.len());
        for (awaited, candidate) in hits {
            let Some(message) = self.load(awaited.id)? else {
                continue;
            };
            let likeness = evidence.speaks_of(&message.recipient.value);
            let admitted = match incoming.candidates[candidate].trust {
                Trust::Sure => true,
                Trust::Likely => likeness != Likeness::Other,
                Trust::Doubtful => likeness == Likeness::Same,
            };
            if !admitted {
                continue;
            }
            let part = message.parts.get(usize::from(awaited.part));
            let [.., high, low] = message.id.0.to_be_bytes();
            suspects.push(Suspect {
                awaited,
                candidate,
                likeness,
                reference: evidence.reference == Some(u16::from_be_bytes([high, low])),
                exact: part.is_some_and(|p| p.carrier_message_id == incoming.receipt.id),
            });
        }
        narrow(&mut suspects, |s| s.likeness == Likeness::Same);
        narrow(&mut suspects, |s| s.reference);
        let reading = suspects.first().map(|s| s.candidate);
        if suspects.iter().all(|s| Some(s.candidate) == reading) {
            // Case and leading zeros tell ids apart that share a key.
            narrow(&mut suspects, |s| s.exact);
        }
        // Segments of one message under one id report one after the other.
        suspects.sort_by_key(|s| s.awaited.part);
        Ok(match &suspects[..] {
            [] => Found::Nothing,
            [first, rest @ ..] if rest.iter().all(|s| s.awaited.id == first.awaited.id) => {
                Found::Segment(first.awaited, first.candidate)
            }
            _ => Found::Ambiguous,
        })
    }

    fn apply_to_segment(
        &mut self,
        mut message: Message,
        part: usize,
        incoming: &IncomingReceipt,
        page: &CarrierPage,
        now: Timestamp,
    ) -> Result<Applied, StoreError> {
        let handset = &message.recipient.value;
        if page.doubts(incoming.receipt.evidence.speaks_of(handset)) {
            page.count(Count::WrongHandset);
            return Ok(Applied::Unmatched);
        }
        let before = Before::of(&message);
        let report = &incoming.receipt.report;
        let response = message.parts.get(part);
        let response = response.map(|p| p.carrier_message_id.clone());
        let style = page.style(incoming.set);
        let effect = match style.per {
            Per::Message => message.apply_receipt_to_all(now, report),
            Per::Segment | Per::Auto => message.apply_receipt(now, part, report),
        };
        let matched = self.conclude(before, &message, effect, page, now)?;
        if let Some(response) = response {
            let news = incoming.set.id_form == IdForm::Auto
                && page.ids.lock().note(&response, &incoming.receipt.id);
            if news {
                self.keep_lessons(&incoming.carrier, page);
            }
        }
        if effect.is_final() && message.parts.len() > 1 {
            match style.per {
                Per::Auto => self.learn_per(&message, &incoming.carrier, page, now)?,
                // Learned, not set: it may turn out to be wrong.
                Per::Message if incoming.set.per == Per::Auto => {
                    page.per.lock().spoke_for_all(message.id, part);
                }
                Per::Message | Per::Segment => {}
            }
        }
        Ok(matched)
    }

    /// Writes what a report did, counts it, and owes the client a notification it asked for.
    fn conclude(
        &mut self,
        before: Before,
        message: &Message,
        effect: ReceiptEffect,
        page: &CarrierPage,
        now: Timestamp,
    ) -> Result<Applied, StoreError> {
        page.count(match effect {
            ReceiptEffect::Settled | ReceiptEffect::Progress => Count::Matched,
            ReceiptEffect::Rerouted => Count::Rerouted,
            ReceiptEffect::Intermediate => Count::Intermediate,
            ReceiptEffect::Contradiction => Count::Contradictory,
            ReceiptEffect::None => Count::Duplicate,
        });
        if effect.changed() {
            self.put_message(before, message, now)?;
        }
        if effect == ReceiptEffect::Intermediate && message.sm.receipts.intermediate {
            self.owe_intermediate(message, now);
        }
        Ok(Applied::Matched(matched(message, effect)))
    }

    fn owe_intermediate(&mut self, message: &Message, now: Timestamp) {
        let url = message.receipt_url.clone().map(OutboxTarget::Url);
        let system_id = message.source.system_id();
        let esme = system_id.map(|id| OutboxTarget::Esme(id.into()));
        // Its own event: the id itself is the final state's.
        let event = message.id.0 ^ (u128::from(now.0) << 16 | message.events.len() as u128);
        for (event, target) in [(event, url), (!event, esme)] {
            let Some(target) = target else { continue };
            self.owe(&OutboxEntry {
                event,
                account: message.account.clone(),
                target,
                kind: OutboxKind::Status(State::Enroute),
                message: message.id,
                at: now,
                due: now,
                attempts: 0,
            });
        }
    }

    /// A receipt for a segment that has reported: a repeat, or a contradiction.
    fn try_settled(
        &mut self,
        incoming: &IncomingReceipt,
        page: &CarrierPage,
        now: Timestamp,
    ) -> Result<Applied, StoreError> {
        for candidate in &incoming.candidates {
            let Some(id) = self.settled.find(&candidate.key) else {
                continue;
            };
            let Some(mut message) = self.load(id)? else {
                continue;
            };
            let likeness = incoming
                .receipt
                .evidence
                .speaks_of(&message.recipient.value);
            let Some(place) = place_of(&message, &incoming.carrier, &candidate.name) else {
                continue;
            };
            if likeness == Likeness::Other
                || (candidate.trust == Trust::Doubtful && likeness != Likeness::Same)
            {
                continue;
            }
            if self.leases.contains_key(&id) {
                return Ok(Applied::Deferred(id, candidate.name.clone()));
            }
            let report = &incoming.receipt.report;
            if let (Place::Now(part), true) = (&place, report.state.is_reported())
                && incoming.set.per == Per::Auto
                && page.per.lock().spoke_too(id, *part)
            {
                tracing::info!(carrier = %incoming.carrier, "sends a receipt for each segment after all");
                self.keep_lessons(&incoming.carrier, page);
            }
            let before = Before::of(&message);
            let effect = match place {
                Place::Now(part) => message.apply_receipt(now, part, report),
                Place::Earlier(delivery, part) => {
                    message.apply_late_receipt(now, delivery, part, report)
                }
            };
            return self.conclude(before, &message, effect, page, now);
        }
        Ok(Applied::Unmatched)
    }

    /// Learns whether the carrier sends a receipt for each segment, and ends the wait of messages for
    /// which there was one for all.
    fn learn_per(
        &mut self,
        message: &Message,
        carrier: &CarrierId,
        page: &CarrierPage,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut learner = page.per.lock();
        if reported(message) > 1 {
            if learner.another() {
                drop(learner);
                self.keep_lessons(carrier, page);
            }
            return Ok(());
        }
        learner.first(now, message.id);
        let mut taught = Vec::new();
        for id in learner.overdue(now) {
            let silent = self
                .load(id)?
                .is_some_and(|m| reported(&m) == 1 && m.parts.len() > 1 && !m.state.is_terminal());
            if silent {
                taught.extend(learner.silent(id));
            }
        }
        drop(learner);
        if taught.is_empty() {
            return Ok(());
        }
        tracing::info!(%carrier, "sends one receipt for all segments of a message");
        self.keep_lessons(carrier, page);
        for id in taught {
            self.spread_report(id, page, now)?;
        }
        Ok(())
    }

    /// What one segment reported counts for the others.
    fn spread_report(
        &mut self,
        id: MessageId,
        page: &CarrierPage,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if self.leases.contains_key(&id) {
            return Ok(());
        }
        let Some(mut message) = self.load(id)? else {
            return Ok(());
        };
        let mut parts = message.parts.iter().enumerate();
        let Some((speaker, said)) = parts.find(|(_, p)| p.state.is_reported()) else {
            return Ok(());
        };
        let report = Report {
            state: said.state,
            error: said.error.clone(),
            network_type: said.network_type,
            done_at: said.done_at,
        };
        let before = Before::of(&message);
        if message.apply_receipt_to_all(now, &report).changed() {
            page.per.lock().spoke_for_all(id, speaker);
            self.put_message(before, &message, now)?;
        }
        Ok(())
    }

    fn keep_lessons(&mut self, carrier: &CarrierId, page: &CarrierPage) {
        self.scratch.clear();
        records::encode_lessons(&page.lessons(), &mut self.scratch);
        let value = Value::from(self.scratch.as_slice());
        self.journal.put(keys::lessons(carrier), value, false);
    }

    fn keep_orphan(
        &mut self,
        incoming: &IncomingReceipt,
        names: Vec<String>,
        page: &CarrierPage,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        // Half of the room at most is one carrier's: the early receipts of others still find a place.
        let full = self.ledger.orphans >= self.options.orphans_max
            || page.orphans.load(Ordering::Relaxed) > self.options.orphans_max / 2;
        if full {
            page.count(Count::Dropped);
            self.shared.orphans_dropped.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        let orphan = Orphan {
            receipt: incoming.receipt.clone(),
            style: incoming.set,
            received_at: now,
            keys: names,
        };
        self.scratch.clear();
        records::encode_orphan(&orphan, &mut self.scratch);
        let value = Value::from(self.scratch.as_slice());
        for (n, name) in orphan.keys.iter().enumerate() {
            let key = keys::orphan(&incoming.carrier, name);
            let known = self.engine.get(&key)?.is_some();
            // It counts once, under its first key.
            if n == 0 && !known {
                self.ledger.orphans += 1;
                page.orphans.fetch_add(1, Ordering::Relaxed);
            }
            self.journal.put(key, value.clone(), !known);
        }
        Ok(())
    }

    /// A receipt that came before its message waited for it.
    pub fn apply_orphan(&mut self, correlation: &[u8], now: Timestamp) -> Result<(), StoreError> {
        let key = keys::orphan_of(correlation);
        let Some(value) = self.engine.get(&key)? else {
            return Ok(());
        };
        let Some(carrier) = keys::carrier_of(&key) else {
            return Ok(());
        };
        let orphan = records::decode_orphan(&value).map_err(damage)?;
        let page = self.book.page(&carrier);
        let incoming = IncomingReceipt::new(carrier.clone(), orphan.receipt, orphan.style, &page);
        if let Applied::Matched(_) = self.try_receipt(&incoming, &page, now)? {
            page.count(Count::Adopted);
            orphan
                .keys
                .iter()
                .try_for_each(|name| self.drop_orphan(&keys::orphan(&carrier, name)))?;
        }
        Ok(())
    }

    pub fn drop_orphan(&mut self, key: &[u8]) -> Result<(), StoreError> {
        if let Some(value) = self.engine.get(key)? {
            // What cannot be read counted once when it could.
            let counts = records::decode_orphan(&value).map_or(true, |o| {
                o.keys.first().map(String::as_str) == keys::correlated_id(key)
            });
            if counts {
                self.ledger.orphans = self.ledger.orphans.saturating_sub(1);
            }
            if let Some(carrier) = keys::carrier_of(key).filter(|_| counts) {
                let orphans = &self.book.page(&carrier).orphans;
                let fewer = orphans.load(Ordering::Relaxed).saturating_sub(1);
                orphans.store(fewer, Ordering::Relaxed);
            }
            self.journal.remove(key);
        }
        Ok(())
    }

    /// Segments under this key whose carrier has had its time to report.
    pub fn receipt_overdue(&mut self, key: &[u8], now: Timestamp) -> Result<(), StoreError> {
        let Some(value) = self.engine.get(key)? else {
            return Ok(());
        };
        for awaited in records::decode_awaited(&value).map_err(damage)? {
            if awaited.deadline > now || self.leases.contains_key(&awaited.id) {
                continue;
            }
            if let Some(mut message) = self.load(awaited.id)? {
                let before = Before::of(&message);
                if message.receipts_overdue(now) {
                    self.put_message(before, &message, now)?;
                }
            }
            self.forget_awaited(key, awaited.id, awaited.part)?;
        }
        Ok(())
    }

    /// Brings the correlation entries of a message from what they were to what they are to be.
    pub fn put_awaited(&mut self, before: &[(Key, u8)], new: &Prepared) -> Result<(), StoreError> {
        for (key, part) in before.iter().filter(|a| !new.awaited.contains(a)) {
            if self.forget_awaited(key, new.id, *part)? && !keys::is_deadline(key) {
                let fingerprint = self.settled.note(key, new.id);
                self.journal.note_settled(fingerprint, new.id);
            }
        }
        for (key, part) in new.awaited.iter().filter(|a| !before.contains(a)) {
            let awaited = Awaited {
                id: new.id,
                part: *part,
                deadline: new.receipt_deadline,
            };
            if let (true, Some(carrier)) = (keys::is_deadline(key), &new.carrier) {
                self.book.page(carrier).count(Count::EmptyId);
            }
            self.await_receipt(key, awaited)?;
        }
        Ok(())
    }

    fn await_receipt(&mut self, key: &Key, awaited: Awaited) -> Result<(), StoreError> {
        let old = self.engine.get(key)?;
        let mut all = match &old {
            Some(value) => records::decode_awaited(value).map_err(damage)?,
            None => Vec::new(),
        };
        self.note_response(key, all.iter().any(|a| a.id != awaited.id));
        if all.len() >= SEGMENTS_PER_ID_MAX {
            // No receipt will find it, and its wait still has to end one day.
            let oldest = all.remove(0);
            let key = keys::deadline(oldest.id, oldest.part);
            let value = records::encode_awaited(&[oldest]);
            self.journal.put(key, value.into(), false);
        }
        all.push(awaited);
        self.ledger.awaiting += 1;
        let value = records::encode_awaited(&all);
        self.journal.put(key.clone(), value.into(), old.is_none());
        Ok(())
    }

    /// Counts what a carrier should not have done. The usual response costs nothing here.
    fn note_response(&self, key: &[u8], reused: bool) {
        let Some(id) = keys::correlated_id(key) else {
            return;
        };
        if !reused && id.len() <= ID_CHARACTERS_MAX {
            return;
        }
        if let Some(carrier) = keys::carrier_of(key) {
            let page = self.book.page(&carrier);
            if reused {
                page.count(Count::ReusedId);
            }
            if id.len() > ID_CHARACTERS_MAX {
                page.count(Count::OverlongId);
            }
        }
    }

    /// True where the segment waited under this key.
    fn forget_awaited(&mut self, key: &[u8], id: MessageId, part: u8) -> Result<bool, StoreError> {
        let Some(value) = self.engine.get(key)? else {
            return Ok(false);
        };
        let mut all = records::decode_awaited(&value).map_err(damage)?;
        let count = all.len();
        all.retain(|a| a.id != id || a.part != part);
        if all.len() == count {
            return Ok(false);
        }
        self.ledger.awaiting = self.ledger.awaiting.saturating_sub(1);
        if all.is_empty() {
            self.journal.remove(key);
        } else {
            let value = records::encode_awaited(&all);
            self.journal.put(key.into(), value.into(), false);
        }
        Ok(true)
    }
}

fn matched(message: &Message, effect: ReceiptEffect) -> ReceiptMatch {
    let taken_at = message
        .attempts
        .last()
        .map_or(message.accepted_at, |a| a.at);
    let set: Option<SetId> = message.decisions.last().map(|d| d.set);
    ReceiptMatch::Matched {
        id: message.id,
        effect,
        taken_at,
        set,
        asks_for_alert: message.asks_for_alert(),
    }
}

/// Keeps those that `speaks_for` holds of, where it holds of any.
fn narrow(suspects: &mut Vec<Suspect>, speaks_for: impl Fn(&Suspect) -> bool) {
    if suspects.iter().any(&speaks_for) {
        suspects.retain(speaks_for);
    }
}

fn reported(message: &Message) -> usize {
    let reported = message.parts.iter();
    reported.filter(|p| p.state.is_reported()).count()
}

/// Where in a message the segment of an id stands.
enum Place {
    Now(usize),
    /// With a carrier that had the message before.
    Earlier(usize, usize),
}

fn place_of(message: &Message, carrier: &CarrierId, name: &str) -> Option<Place> {
    let find = |parts: &[crate::domain::Part]| {
        parts.iter().position(|part| {
            part.carrier == *carrier
                && response_key(&part.carrier_message_id).as_deref() == Some(name)
        })
    };
    let earlier = || {
        let mut all = message.failed.iter().enumerate();
        all.find_map(|(n, delivery)| Some(Place::Earlier(n, find(&delivery.parts)?)))
    };
    find(&message.parts).map(Place::Now).or_else(earlier)
}

//! The simulated SMSC without its sockets: sessions and their states, answers, and everything that
//! happens later (delayed answers, receipts, repeats) in one heap. Octets and the time come in,
//! octets go out into each session's buffer; who reads and writes them is no concern of this file.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::behaviour::{Behaviour, Receipt, Submit, Verdict, write_id};
use super::delivery::Scratch;
use super::fates::{Fate, Fates};
use super::quirks::{Again, IdFault, Quirks};
use super::record::{Answer, Record};
use super::script::Program;
use super::session::{Delivery, Session, State};
use super::settings::{Keep, Settings, WindowPolicy};
use super::strict;
use super::timer::{Reply, Timer, Work};
use crate::clock::Timestamp;
use crate::smpp::pdu::{
    self, Bind, BindResp, Body, Framing, Pdu, Sm, SmResp, TlvBuf, command_id, encode, tag,
};
use crate::smpp::status;

/// Most system_ids that are remembered: their receipts wait for them.
const ACCOUNTS_MAX: usize = 1_000;
/// A session whose peer leaves that many octets unread gets no more deliver_sm, and nothing more is
/// read from it.
pub(super) const OUTBOX_MAX: usize = 256 * 1024;
/// Most submit_sm of a session that wait for their answer, whatever its window is.
const UNANSWERED_MAX: u32 = 100_000;
/// How often unanswered deliver_sm are looked for.
const SWEEP_EVERY: Duration = Duration::from_millis(250);
/// Most timers fired under one lock.
const FIRE_MAX: usize = 1_024;
/// What this SMSC calls itself in its bind responses.
const SYSTEM_ID: &[u8] = b"heliograph-smsc";

pub type SessionId = u64;

/// Now, on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Since the start.
    pub at: Duration,
    pub wall: Timestamp,
}

/// What a session's driver is to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// Octets of the buffer that are done with.
    pub consumed: usize,
    /// Send what there is, then close.
    pub close: bool,
    /// Read nothing more for now; the session's signal says when to go on.
    pub stop: bool,
    pub bound: bool,
}

pub struct Engine {
    pub behaviour: Behaviour,
    pub record: Record,
    pub(super) sessions: BTreeMap<SessionId, Session>,
    pub(super) next_session: SessionId,
    pub(super) accounts: Vec<Account>,
    pub(super) account_of: HashMap<Box<[u8]>, usize>,
    pub(super) timers: BinaryHeap<Reverse<Timer>>,
    pub(super) next_timer: u64,
    /// When the driver of the timers wakes by itself; an earlier timer wakes it.
    pub(super) asleep_until: Duration,
    pub(super) wake: Arc<Notify>,
    pub(super) swept_at: Duration,
    pub(super) shuffled: Vec<Delivery>,
    /// Deliveries in `timers`, in `shuffled` and waiting for a session.
    pub(super) pending: usize,
    /// The session whose driver is in [`Engine::receive`] now, and so needs no signal.
    pub(super) current: Option<SessionId>,
    pub(super) scratch: Scratch,
    pub(super) fates: Fates,
    pub(super) program: Program,
}

pub(super) struct Account {
    pub(super) system_id: Arc<str>,
    /// Sessions that take deliver_sm, served in turn.
    pub(super) receivers: Vec<SessionId>,
    pub(super) turn: usize,
    pub(super) waiting: VecDeque<Delivery>,
}

impl Engine {
    pub fn new(program: Program, first_id: u64, wake: Arc<Notify>) -> Engine {
        let mut engine = Engine {
            behaviour: Behaviour::new(program.first.clone(), first_id),
            record: Record::new(),
            sessions: BTreeMap::new(),
            next_session: 1,
            accounts: Vec::new(),
            account_of: HashMap::new(),
            timers: BinaryHeap::new(),
            next_timer: 0,
            asleep_until: Duration::MAX,
            wake,
            swept_at: Duration::ZERO,
            shuffled: Vec::new(),
            pending: 0,
            current: None,
            scratch: Scratch::default(),
            fates: Fates::default(),
            program,
        };
        if !engine.program.steps.is_empty() {
            engine.later(Duration::ZERO, Work::Step(0));
        }
        engine
    }

    /// A new connection; none where there are as many as may be.
    pub fn open(&mut self, signal: Arc<Notify>) -> Option<SessionId> {
        if self.sessions.len() >= self.behaviour.settings().connections_max {
            self.record.counters.connections_refused += 1;
            return None;
        }
        let id = self.next_session;
        self.next_session += 1;
        let session = Session {
            state: State::Open,
            account: 0,
            outbox: Vec::new(),
            signal,
            signalled: false,
            close: false,
            unanswered: 0,
            unbinding: false,
            last_id: 0,
            sent: 0,
            unacked: VecDeque::new(),
            unacked_count: 0,
        };
        self.sessions.insert(id, session);
        self.record.counters.connections += 1;
        Some(id)
    }

    /// The connection is gone: what it did not confirm waits for the ESME's next session.
    pub fn close(&mut self, id: SessionId, now: Now) {
        let Some(session) = self.sessions.remove(&id) else {
            return;
        };
        self.record.counters.connections -= 1;
        if session.state == State::Open {
            return;
        }
        self.record.counters.bound -= 1;
        let Some(account) = self.accounts.get_mut(session.account) else {
            return;
        };
        account.receivers.retain(|r| *r != id);
        for unacked in session.unacked.into_iter().rev().flatten() {
            self.pending += 1;
            account.waiting.push_front(unacked.delivery);
        }
        self.flush(session.account, now.at);
    }

    /// Handles the whole PDUs at the front of `buffer` and moves what is to be sent to `out`.
    pub fn receive(&mut self, id: SessionId, buffer: &[u8], now: Now, out: &mut Vec<u8>) -> Next {
        self.current = Some(id);
        let mut consumed = 0;
        while self.may_read(id) {
            match pdu::frame(&buffer[consumed..]) {
                Framing::Incomplete => break,
                Framing::Frame(length) => {
                    let frame = &buffer[consumed..consumed + length];
                    consumed += length;
                    self.handle(id, frame, now);
                }
                Framing::Bad(_) => {
                    self.record.counters.malformed += 1;
                    self.reply(
                        id,
                        &Pdu::response(0, status::ESME_RINVCMDLEN, Body::GenericNack),
                    );
                    self.end(id);
                }
            }
        }
        self.current = None;
        let Some(session) = self.sessions.get_mut(&id) else {
            return Next {
                consumed,
                close: true,
                stop: true,
                bound: false,
            };
        };
        session.signalled = false;
        let was_full = session.outbox.len() >= OUTBOX_MAX;
        if out.is_empty() {
            std::mem::swap(out, &mut session.outbox);
        } else if out.len() < OUTBOX_MAX {
            out.append(&mut session.outbox);
        }
        let (close, bound, account) =
            (session.close, session.state != State::Open, session.account);
        if was_full {
            self.flush(account, now.at);
        }
        Next {
            consumed,
            close,
            stop: !self.may_read(id),
            bound,
        }
    }

    /// Does what is due and says when to be called again.
    pub fn fire(&mut self, now: Now) -> Duration {
        for _ in 0..FIRE_MAX {
            if self.timers.peek().is_none_or(|t| t.0.due > now.at) {
                break;
            }
            if let Some(Reverse(timer)) = self.timers.pop() {
                self.work(timer.work, now);
            }
        }
        if now.at.saturating_sub(self.swept_at) >= SWEEP_EVERY {
            self.swept_at = now.at;
            self.sweep(now.at);
        }
        let next = self.timers.peek().map_or(Duration::MAX, |t| t.0.due);
        self.asleep_until = next.min(self.swept_at + SWEEP_EVERY);
        self.asleep_until
    }

    /// Changes the settings while it runs.
    pub fn change(&mut self, settings: Settings, now: Now) {
        self.behaviour.change(settings);
        for account in 0..self.accounts.len() {
            self.flush(account, now.at);
        }
        // A wider window lets sessions go on that had stopped reading.
        for session in self.sessions.values_mut() {
            session.wake();
        }
    }

    /// Cuts every connection.
    pub fn drop_connections(&mut self) -> usize {
        for session in self.sessions.values_mut() {
            session.close = true;
            session.wake();
        }
        self.record.counters.dropped += self.sessions.len() as u64;
        self.sessions.len()
    }

    pub fn pending(&self) -> usize {
        self.pending
    }

    fn handle(&mut self, id: SessionId, frame: &[u8], now: Now) {
        let pdu = match pdu::decode(frame) {
            Ok(pdu) => pdu,
            Err(error) => {
                self.record.counters.malformed += 1;
                if let Some(answer) = error.response() {
                    self.reply(id, &answer);
                }
                return;
            }
        };
        let sequence_number = pdu.sequence_number;
        match pdu.body {
            Body::SubmitSm(sm) => self.submit(id, frame, &sm, sequence_number, now),
            Body::DataSm(data_sm) => self.submit(id, frame, &data_sm.as_sm(), sequence_number, now),
            Body::DeliverSmResp(_) => self.acked(id, sequence_number, pdu.command_status, now.at),
            // A nack of a deliver_sm: this ESME will never take it.
            Body::GenericNack => self.acked(id, sequence_number, status::ESME_RX_P_APPN, now.at),
            Body::EnquireLink => {
                self.record.counters.enquire_links += 1;
                self.reply(
                    id,
                    &Pdu::response(sequence_number, 0, Body::EnquireLinkResp),
                );
            }
            Body::BindTransmitter(bind) => {
                self.bind(id, &bind, State::BoundTx, sequence_number, now.at)
            }
            Body::BindReceiver(bind) => {
                self.bind(id, &bind, State::BoundRx, sequence_number, now.at)
            }
            Body::BindTransceiver(bind) => {
                self.bind(id, &bind, State::BoundTrx, sequence_number, now.at)
            }
            Body::Unbind => {
                self.reply(id, &Pdu::response(sequence_number, 0, Body::UnbindResp));
                self.end(id);
            }
            Body::UnbindResp => {
                if self.sessions.get(&id).is_some_and(|s| s.unbinding) {
                    self.end(id);
                }
            }
            Body::EnquireLinkResp => {}
            Body::QuerySm(query) => self.query(id, &query, sequence_number, now.at),
            Body::CancelSm(cancel) => self.cancel(id, &cancel, sequence_number, now),
            Body::ReplaceSm(replace) => self.replace(id, &replace, sequence_number, now.at),
            Body::BindReceiverResp(_)
            | Body::BindTransmitterResp(_)
            | Body::BindTransceiverResp(_)
            | Body::Outbind(_)
            | Body::SubmitSmResp(_)
            | Body::DeliverSm(_)
            | Body::DataSmResp(_)
            | Body::QuerySmResp(_)
            | Body::CancelSmResp
            | Body::ReplaceSmResp
            | Body::AlertNotification(_)
            | Body::Other { .. } => self.misplaced(id, pdu.body.command_id(), sequence_number),
        }
    }

    pub(super) fn misplaced(&mut self, id: SessionId, command: u32, sequence_number: u32) {
        self.record.counters.malformed += 1;
        if !command_id::is_response(command) {
            self.reply(
                id,
                &pdu::reject(command, sequence_number, status::ESME_RINVCMDID),
            );
        }
    }

    fn bind(
        &mut self,
        id: SessionId,
        bind: &Bind<'_>,
        state: State,
        sequence_number: u32,
        now: Duration,
    ) {
        let command = match state {
            State::BoundRx => command_id::BIND_RECEIVER,
            State::BoundTx => command_id::BIND_TRANSMITTER,
            State::Open | State::BoundTrx => command_id::BIND_TRANSCEIVER,
        };
        let (account, command_status) = match self.check_bind(id, bind) {
            Ok(account) => (account, status::ESME_ROK),
            Err(command_status) => {
                self.record.counters.binds_refused += 1;
                self.reply(id, &pdu::reject(command, sequence_number, command_status));
                return;
            }
        };
        let mut tlvs = TlvBuf::new();
        // One octet always fits.
        let _ = tlvs.push(tag::SC_INTERFACE_VERSION, &[0x34]);
        let resp = BindResp {
            system_id: SYSTEM_ID,
            tlvs: tlvs.as_tlvs(),
        };
        let body = match state {
            State::BoundRx => Body::BindReceiverResp(resp),
            State::BoundTx => Body::BindTransmitterResp(resp),
            State::Open | State::BoundTrx => Body::BindTransceiverResp(resp),
        };
        self.reply(id, &Pdu::response(sequence_number, command_status, body));
        self.record.counters.binds += 1;
        self.record.counters.bound += 1;
        if let Some(session) = self.sessions.get_mut(&id) {
            session.state = state;
            session.account = account;
        }
        if state != State::BoundTx {
            self.accounts[account].receivers.push(id);
            self.flush(account, now);
        }
    }

    fn check_bind(&mut self, id: SessionId, bind: &Bind<'_>) -> Result<usize, u32> {
        if self
            .sessions
            .get(&id)
            .is_none_or(|s| s.state != State::Open)
        {
            return Err(status::ESME_RALYBND);
        }
        let settings = self.behaviour.settings();
        if settings.bind_status != status::ESME_ROK {
            return Err(settings.bind_status);
        }
        if !settings.binds.is_empty() {
            let known =
                |c: &&super::settings::Credentials| c.system_id.as_bytes() == bind.system_id;
            let credentials = settings
                .binds
                .iter()
                .find(known)
                .ok_or(status::ESME_RINVSYSID)?;
            if credentials.password.as_bytes() != bind.password {
                return Err(status::ESME_RINVPASWD);
            }
        }
        self.account(bind.system_id).ok_or(status::ESME_RBINDFAIL)
    }

    /// The account of a system_id, made where it is new and there is room.
    pub(super) fn account(&mut self, system_id: &[u8]) -> Option<usize> {
        if let Some(account) = self.account_of.get(system_id) {
            return Some(*account);
        }
        if self.accounts.len() >= ACCOUNTS_MAX {
            return None;
        }
        let account = self.accounts.len();
        self.accounts.push(Account {
            system_id: String::from_utf8_lossy(system_id).into(),
            receivers: Vec::new(),
            turn: 0,
            waiting: VecDeque::new(),
        });
        self.account_of.insert(system_id.into(), account);
        Some(account)
    }

    fn submit(&mut self, id: SessionId, frame: &[u8], sm: &Sm<'_>, sequence_number: u32, now: Now) {
        let Some(session) = self.sessions.get(&id) else {
            return;
        };
        let (state, account, unanswered) = (session.state, session.account, session.unanswered);
        let data_sm = frame[4..8] == command_id::DATA_SM.to_be_bytes();
        let answer = Reply {
            session: id,
            sequence_number,
            data_sm,
        };
        if !matches!(state, State::BoundTx | State::BoundTrx) {
            self.answer(answer, status::ESME_RINVBNDSTS, None, None);
            return;
        }
        let fault = if self.behaviour.settings().strict {
            strict::check(sm).err()
        } else {
            sm.destination_addr
                .is_empty()
                .then_some(status::ESME_RINVDSTADR)
        };
        let verdict = if let Some(status) = fault {
            Verdict::Refuse {
                status,
                after: Duration::ZERO,
            }
        } else {
            let submit = Submit {
                destination: sm.destination_addr,
                registered_delivery: sm.registered_delivery,
                unanswered,
            };
            self.behaviour.judge(now.at, &submit)
        };
        self.note(account, frame, sm, &verdict, now.wall);
        match verdict {
            Verdict::Drop => {
                self.record.counters.dropped += 1;
                self.end(id);
            }
            Verdict::Refuse { status, after } => {
                self.answer_after(answer, status, None, now.at, after, Quirks::default())
            }
            Verdict::Accept {
                id: message,
                after: Some(after),
                receipts,
                fate,
                quirks,
            } => {
                self.remember(account, message, fate, now);
                // What is due at the same time goes in the order in which it is put in.
                let early = receipts.precede(after);
                if early {
                    self.receipts(account, sm, message, receipts, now);
                }
                let ok = status::ESME_ROK;
                self.answer_after(answer, ok, Some(message), now.at, after, quirks);
                if !early {
                    self.receipts(account, sm, message, receipts, now);
                }
            }
            Verdict::Accept {
                id: message,
                after: None,
                receipts,
                fate,
                quirks: _,
            } => {
                self.remember(account, message, fate, now);
                self.record.counters.swallowed += 1;
                self.receipts(account, sm, message, receipts, now);
            }
        }
    }

    fn note(
        &mut self,
        account: usize,
        frame: &[u8],
        sm: &Sm<'_>,
        verdict: &Verdict,
        at: Timestamp,
    ) {
        let answer = match verdict {
            Verdict::Drop => Answer {
                command_status: None,
                swallowed: false,
                id: None,
            },
            Verdict::Refuse { status, .. } => Answer {
                command_status: Some(*status),
                swallowed: false,
                id: None,
            },
            Verdict::Accept { id, after, .. } => Answer {
                command_status: Some(status::ESME_ROK),
                swallowed: after.is_none(),
                id: Some(*id),
            },
        };
        if let Some(account) = self.accounts.get(account) {
            let settings = self.behaviour.settings();
            self.record
                .note(settings, at, &account.system_id, frame, sm, answer);
        }
    }

    fn answer_after(
        &mut self,
        reply: Reply,
        command_status: u32,
        id: Option<u64>,
        now: Duration,
        after: Duration,
        quirks: Quirks,
    ) {
        if after.is_zero() {
            self.answer_oddly(reply, command_status, id, quirks);
            return;
        }
        if let Some(session) = self.sessions.get_mut(&reply.session) {
            session.unanswered += 1;
        }
        let Reply {
            session,
            sequence_number,
            data_sm,
        } = reply;
        self.later(
            now + after,
            Work::Answer {
                session,
                sequence_number,
                command_status,
                id,
                data_sm,
                quirks,
            },
        );
    }

    /// What query_sm, cancel_sm and replace_sm will find.
    fn remember(&mut self, account: usize, message: u64, fate: Receipt, now: Now) {
        let settings = self.behaviour.settings();
        if settings.keep != Keep::Full || !settings.queries {
            return;
        }
        let mut id = std::mem::take(&mut self.scratch.id);
        id.clear();
        write_id(
            &mut id,
            message,
            settings.id_response,
            settings.id_response_width,
        );
        let fate = Fate {
            account,
            number: message,
            end: fate.end,
            at: now.at + fate.after,
            done: now.wall.plus(fate.after),
        };
        self.fates.note(&id, fate);
        self.scratch.id = id;
    }

    fn answer_oddly(&mut self, reply: Reply, command_status: u32, id: Option<u64>, quirks: Quirks) {
        self.answer(reply, command_status, id, quirks.id);
        if quirks.id.is_some() {
            self.record.counters.id_faults += 1;
        }
        if let Some(again) = quirks.again {
            self.record.counters.answered_twice += 1;
            match again {
                Again::Same => self.answer(reply, command_status, id, quirks.id),
                Again::Refusal => self.answer(reply, status::ESME_RSYSERR, None, None),
                Again::Nack => {
                    let nack = status::ESME_RSYSERR;
                    let nack = Pdu::response(reply.sequence_number, nack, Body::GenericNack);
                    self.reply(reply.session, &nack);
                }
            }
        }
        if let Some(garbage) = quirks.garbage {
            self.say_garbage(reply.session, garbage);
        }
    }

    fn answer(
        &mut self,
        reply: Reply,
        command_status: u32,
        id: Option<u64>,
        fault: Option<IdFault>,
    ) {
        let mut text = std::mem::take(&mut self.scratch.id);
        text.clear();
        if let Some(id) = id {
            let settings = self.behaviour.settings();
            let (style, width) = (settings.id_response, settings.id_response_width);
            let session = self.sessions.get_mut(&reply.session);
            let before = session.map_or(0, |s| std::mem::replace(&mut s.last_id, id));
            match fault {
                None => write_id(&mut text, id, style, width),
                Some(IdFault::Previous) => write_id(&mut text, before, style, width),
                Some(IdFault::Zero) => text.push(b'0'),
                Some(IdFault::TooLong) => text.resize(65, b'9'),
                Some(IdFault::Empty) => {}
            }
        }
        let resp = SmResp {
            message_id: &text,
            ..SmResp::default()
        };
        let body = if reply.data_sm {
            Body::DataSmResp(resp)
        } else {
            Body::SubmitSmResp(resp)
        };
        let resp = Pdu::response(reply.sequence_number, command_status, body);
        if fault == Some(IdFault::TooLong) {
            // The codec writes nothing that breaks the specification.
            self.reply_raw(reply.session, &resp, &text);
        } else {
            self.reply(reply.session, &resp);
        }
        self.scratch.id = text;
    }

    fn work(&mut self, work: Work, now: Now) {
        match work {
            Work::Answer {
                session,
                sequence_number,
                command_status,
                id,
                data_sm,
                quirks,
            } => {
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.unanswered = session.unanswered.saturating_sub(1);
                }
                let reply = Reply {
                    session,
                    sequence_number,
                    data_sm,
                };
                self.answer_oddly(reply, command_status, id, quirks);
            }
            Work::Step(number) => self.step(number, now),
            Work::Deliver(delivery) => self.due(delivery, now.at),
            Work::Repeat(delivery) => self.dispatch(delivery, now.at),
            Work::SendShuffled => self.send_shuffled(now.at),
        }
    }

    pub(super) fn later(&mut self, due: Duration, work: Work) {
        self.next_timer += 1;
        let number = self.next_timer;
        self.timers.push(Reverse(Timer { due, number, work }));
        if due < self.asleep_until {
            self.asleep_until = due;
            self.wake.notify_one();
        }
    }

    pub(super) fn reply(&mut self, id: SessionId, pdu: &Pdu<'_>) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if session.close {
            return;
        }
        if let Err(error) = encode(pdu, &mut session.outbox) {
            // Only fields of our own making are ever encoded here.
            tracing::error!(%error, "the simulator made a PDU that cannot be sent");
        }
        if self.current != Some(id) {
            session.wake();
        }
    }

    pub(super) fn end(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.close = true;
        }
    }

    fn may_read(&self, id: SessionId) -> bool {
        let settings = self.behaviour.settings();
        let window = match settings.window_policy {
            WindowPolicy::Stop if settings.window > 0 => settings.window.min(UNANSWERED_MAX),
            WindowPolicy::Stop | WindowPolicy::Refuse => UNANSWERED_MAX,
        };
        let Some(session) = self.sessions.get(&id) else {
            return false;
        };
        !session.close
            && !settings.stalled
            && session.unanswered < window
            && session.outbox.len() < OUTBOX_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Now = Now {
        at: Duration::from_secs(1),
        wall: Timestamp(1_000),
    };

    proptest! {
        #[test]
        fn hostile_octets_never_break_it(
            commands in prop::collection::vec((0_u32..12, any::<u32>(), prop::collection::vec(any::<u8>(), 0..60)), 0..20),
            tail in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut engine = Engine::new(Settings::default().into(), 1, Arc::default());
            let id = engine.open(Arc::default()).unwrap();
            let mut input = Vec::new();
            let bind = Bind { system_id: b"esme", ..Bind::default() };
            encode(&Pdu::request(1, Body::BindTransceiver(bind)), &mut input).unwrap();
            for (command, sequence_number, octets) in &commands {
                // Requests and responses alike, with bodies of any kind.
                let command_id = (command / 2 + 1) | ((command % 2) << 31);
                let body = Body::Other { command_id, octets };
                encode(&Pdu::request(*sequence_number, body), &mut input).unwrap();
            }
            input.extend_from_slice(&tail);
            let mut out = Vec::new();
            let next = engine.receive(id, &input, NOW, &mut out);
            prop_assert!(next.consumed <= input.len());
            prop_assert!(next.bound && !out.is_empty());
            engine.fire(Now { at: Duration::from_secs(2), ..NOW });
            engine.close(id, NOW);
            prop_assert_eq!(engine.record.counters.connections, 0);
        }
    }
}

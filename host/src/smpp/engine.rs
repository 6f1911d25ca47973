//! The task behind a link: owns socket and session, reads and writes many PDUs at a time, and waits
//! on everything at once. All of its queues are bounded; what PDUs mean is the inlet's business.

use std::future::{pending, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;

use super::link::{
    Answer, AnswerTo, BindLimits, Command, Inlet, LinkSettings, LinkState, MESSAGE_ID_KEPT, Order,
    Place, Reaction, Reply, ReplyContent, Responder, Shared, now,
};
use super::pdu::{Body, Framing, SmResp, decode, frame, reject, tag};
use super::session::{CloseReason, Counters, Event, Session};
use super::status;

/// What is to be run for a [`super::link::Link`] to live.
pub struct Driver<S, I: Inlet> {
    pub(super) stream: S,
    pub(super) engine: Engine<I>,
    pub(super) control: Control,
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin, I: Inlet> Driver<S, I> {
    /// Until the session ends. Every request has had its answer by then.
    pub async fn run(self) -> CloseReason {
        let Driver {
            stream,
            mut engine,
            mut control,
        } = self;
        let (mut reader, mut writer) = tokio::io::split(stream);
        let reason = turn(&mut engine, &mut control, &mut reader, &mut writer).await;
        engine.finish(&mut control);
        if !matches!(reason, CloseReason::Io(_) | CloseReason::Aborted) {
            let goodbye = async {
                // The connection is going away: what cannot be written any more is of no use.
                let _ = writer.write_all(engine.session.output()).await;
                let _ = writer.shutdown().await;
            };
            let _ = timeout(engine.settings.linger, goodbye).await;
        }
        engine.state.send_replace(LinkState::Closed(reason));
        reason
    }
}

pub(super) struct Control {
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) order: watch::Receiver<Order>,
    pub(super) replies: mpsc::Receiver<Reply>,
}

pub(super) struct Engine<I: Inlet> {
    session: Session<Token>,
    settings: LinkSettings,
    inlet: I,
    events: mpsc::Sender<I::Event>,
    replies: mpsc::Sender<Reply>,
    permits: Arc<Semaphore>,
    /// Permits in all, taken ones too.
    requests_max: usize,
    /// Octets that unanswered requests may still take up.
    room: Arc<Semaphore>,
    buffer: BytesMut,
    /// Octets to have room for before a read: few while the peer says little.
    read_ahead: usize,
    partial_since: Option<Instant>,
    /// Since when requests have found no place.
    blocked: Option<Instant>,
    /// The PDU that found the events channel full; nothing behind it is looked at.
    stash: Option<Bytes>,
    /// Blocked for too long: refuse until there is place again.
    overloaded: bool,
    sending: Option<Sending>,
    groups: Groups,
    expired: Vec<Token>,
    write_stalled: Option<Instant>,
    /// What the inlet knows already.
    published: Counters,
    /// The stream holds octets that it could not pass on yet.
    unflushed: bool,
    /// The peer will send nothing more.
    input_ended: bool,
    state: watch::Sender<LinkState>,
    shared: Arc<Shared>,
}

/// Requests of which not all fitted the window.
struct Sending {
    octets: Vec<u8>,
    at: usize,
    group: usize,
    index: usize,
}

#[derive(Clone, Copy)]
pub(super) struct Token {
    group: usize,
    index: usize,
}

/// Octets asked of the socket at a time.
const READ_CHUNK: usize = 16 * 1024;
/// The same of a peer that says little: thousands of sessions are idle most of the time.
const READ_IDLE: usize = 1024;
/// With more than this unwritten, the peer is not read: it would make us owe it more answers.
const OUTPUT_HIGH: usize = 256 * 1024;
/// How a message centre of ours names itself in a bind's response (SMPP 3.4, 4.1.2).
const SMSC_SYSTEM_ID: &[u8] = b"heliograph";
const REPLIES_BATCH: usize = 256;
/// With fewer octets than this to write, the write waits for what others have for it already.
const GATHER_OCTETS: usize = 16 * 1024;

/// One turn: deal with what is there, then wait for the next thing to happen.
async fn turn<I: Inlet>(
    engine: &mut Engine<I>,
    control: &mut Control,
    reader: &mut (impl AsyncRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
) -> CloseReason {
    let mut replies = Vec::new();
    let sleep = tokio::time::sleep(Duration::from_secs(1));
    tokio::pin!(sleep);
    let mut gathered = false;
    loop {
        let now = now();
        engine.parse(now);
        engine.pump(now, &mut control.commands);
        engine.publish();
        if let Some(reason) = engine.session.closed() {
            return reason;
        }
        let wake = engine.next_timeout(now).into();
        if wake < sleep.deadline() || sleep.is_elapsed() {
            sleep.as_mut().reset(wake);
        }
        let may_read = engine.may_read();
        let may_send = engine.sending.is_none() && engine.session.window_free() > 0;
        let Engine {
            session,
            buffer,
            events,
            stash,
            unflushed,
            ..
        } = engine;
        let output = session.output();
        let spare = buffer.capacity() - buffer.len();
        let owed = !output.is_empty() || *unflushed;
        if owed && !gathered && output.len() < GATHER_OCTETS {
            // A commit answers many requests and a window opens for many messages, each by a task of its
            // own: those that are ready run first, so that one write carries what they have to say.
            gathered = true;
            tokio::task::yield_now().await;
            while replies.len() < REPLIES_BATCH
                && let Ok(reply) = control.replies.try_recv()
            {
                replies.push(reply);
            }
            engine.reply(&mut replies);
            continue;
        }
        tokio::select! {
            biased;
            written = write(writer, output), if owed => match written {
                Ok(Written { octets: 0, flushed: false }) => engine.session.close(CloseReason::ClosedByPeer),
                Ok(Written { octets, flushed }) => {
                    gathered = false;
                    engine.session.wrote(octets);
                    engine.unflushed = !flushed;
                    engine.write_stalled = None;
                }
                Err(error) => engine.session.close(ended(&error)),
            },
            read = reader.read_buf(buffer), if may_read => match read {
                Ok(0) => engine.input_ends(),
                // There was more to read than room for it.
                Ok(octets) if octets >= spare => engine.read_ahead = READ_CHUNK,
                Ok(_) => {}
                Err(error) => engine.session.close(ended(&error)),
            },
            _ = control.replies.recv_many(&mut replies, REPLIES_BATCH) => engine.reply(&mut replies),
            Some(command) = control.commands.recv(), if may_send => engine.begin(command),
            () = place(events, stash.is_some()) => engine.unstash(),
            Ok(()) = control.order.changed() => {
                let order = *control.order.borrow_and_update();
                engine.obey(order);
            }
            () = &mut sleep => {
                engine.timeout();
                replies.shrink_to(0);
            }
        }
    }
}

struct Written {
    octets: usize,
    flushed: bool,
}

/// Writes what the stream takes at once, and has it passed on: TLS keeps records back that its socket
/// has no place for. With nothing to write it waits until what was kept back is gone.
async fn write(writer: &mut (impl AsyncWrite + Unpin), output: &[u8]) -> io::Result<Written> {
    poll_fn(|cx| {
        let octets = if output.is_empty() {
            0
        } else {
            ready!(Pin::new(&mut *writer).poll_write(cx, output))?
        };
        match Pin::new(&mut *writer).poll_flush(cx)? {
            Poll::Ready(()) => Poll::Ready(Ok(Written {
                octets,
                flushed: octets > 0 || output.is_empty(),
            })),
            Poll::Pending if octets == 0 => Poll::Pending,
            Poll::Pending => Poll::Ready(Ok(Written {
                octets,
                flushed: false,
            })),
        }
    })
    .await
}

/// A TLS peer that closes without a farewell has closed all the same.
fn ended(error: &io::Error) -> CloseReason {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => CloseReason::ClosedByPeer,
        kind => CloseReason::Io(kind),
    }
}

/// Resolves when the events channel has place, if anything waits for it.
async fn place<E>(events: &mpsc::Sender<E>, wanted: bool) {
    if wanted {
        // A closed channel is found out when the event is sent.
        let _ = events.reserve().await;
    } else {
        pending().await
    }
}

impl<I: Inlet> Engine<I> {
    pub(super) fn new(
        session: Session<Token>,
        settings: LinkSettings,
        inlet: I,
        events: mpsc::Sender<I::Event>,
        replies: mpsc::Sender<Reply>,
        state: watch::Sender<LinkState>,
        shared: Arc<Shared>,
    ) -> Engine<I> {
        Engine {
            session,
            settings,
            inlet,
            events,
            permits: Arc::new(Semaphore::new(replies.max_capacity())),
            requests_max: replies.max_capacity(),
            room: Arc::new(Semaphore::new(
                settings.request_octets_max.clamp(1, Semaphore::MAX_PERMITS),
            )),
            replies,
            buffer: BytesMut::with_capacity(READ_IDLE),
            read_ahead: READ_IDLE,
            partial_since: None,
            blocked: None,
            stash: None,
            overloaded: false,
            sending: None,
            groups: Groups::default(),
            expired: Vec::new(),
            write_stalled: None,
            published: Counters::default(),
            unflushed: false,
            input_ended: false,
            state,
            shared,
        }
    }

    /// Takes whole PDUs from the buffer, until none is left or there is no place for a request.
    fn parse(&mut self, now: Instant) {
        loop {
            if self.stash.is_some() || !self.permitted(now) {
                return;
            }
            match frame(&self.buffer) {
                Framing::Frame(length) => {
                    self.partial_since = None;
                    let octets = self.buffer.split_to(length).freeze();
                    self.take(now, &octets);
                }
                Framing::Incomplete => {
                    if self.buffer.is_empty() {
                        self.partial_since = None;
                    } else {
                        self.partial_since.get_or_insert(now);
                    }
                    if self.buffer.capacity() - self.buffer.len() < self.read_ahead / 4 {
                        self.buffer.reserve(self.read_ahead);
                    }
                    return;
                }
                Framing::Bad(command_length) => {
                    self.buffer.advance(self.buffer.len());
                    self.session.unframeable(command_length);
                    return;
                }
            }
            if self.session.closed().is_some() {
                return;
            }
        }
    }

    /// Whether a request may be taken: there is a place, or the overload lasts and it is refused.
    fn permitted(&mut self, now: Instant) -> bool {
        if self.overloaded || self.has_place() {
            return true;
        }
        let since = *self.blocked.get_or_insert(now);
        self.overloaded = now.duration_since(since) >= self.settings.overload;
        self.overloaded
    }

    fn has_place(&self) -> bool {
        self.permits.available_permits() > 0 && self.room.available_permits() > 0
    }

    fn place(&self, octets: usize) -> Option<Place> {
        // The last one may be larger than what is left: every PDU is taken sooner or later.
        let octets = octets.min(self.room.available_permits());
        let octets = u32::try_from(octets).ok().filter(|n| *n > 0)?;
        Some(Place {
            _one: Arc::clone(&self.permits).try_acquire_owned().ok()?,
            _octets: Arc::clone(&self.room).try_acquire_many_owned(octets).ok()?,
        })
    }

    fn take(&mut self, now: Instant, octets: &Bytes) {
        match self.session.handle(now, octets) {
            Event::None => {}
            Event::Bound => {
                self.state.send_replace(LinkState::Bound);
            }
            Event::BindRequest {
                sequence_number,
                mode,
                bind,
            } => match self.inlet.bind(mode, &bind) {
                Ok(limits) => {
                    self.limit(limits);
                    self.session.accept_bind(
                        now,
                        sequence_number,
                        mode,
                        bind.interface_version,
                        SMSC_SYSTEM_ID,
                    );
                    self.state.send_replace(LinkState::Bound);
                }
                Err(command_status) => {
                    self.session
                        .refuse_bind(sequence_number, mode, command_status)
                }
            },
            Event::Request {
                sequence_number,
                body,
            } => self.request(now, sequence_number, octets, &body),
            Event::UnbindRequest => self.let_go(),
            Event::Notice { body } => self.inlet.notice(&body, self.events.try_reserve().ok()),
            Event::Answer {
                token,
                command_status,
                body,
            } => {
                if let Some(state) = congestion_state(&body) {
                    self.shared.congestion.store(state, Ordering::Relaxed);
                }
                let answer = Answer::Answered {
                    command_status,
                    message_id: message_id(&body),
                };
                self.groups.answered(token, answer, octets);
            }
        }
    }

    fn limit(&mut self, limits: BindLimits) {
        if let Some(window) = limits.window {
            self.session.set_window(window);
        }
        if let Some(requests) = limits.requests {
            let unused = self.permits.available_permits();
            let forgotten = self
                .permits
                .forget_permits(unused.saturating_sub(requests.max(1)));
            self.requests_max -= forgotten;
        }
    }

    /// A half-closed connection still takes the answers that it is owed.
    fn input_ends(&mut self) {
        self.input_ended = true;
        self.session.peer_closed(now());
        self.let_go();
    }

    /// A peer that has said goodbye goes when every request of its has had its answer.
    fn let_go(&mut self) {
        let answered = self.permits.available_permits() >= self.requests_max;
        if answered && self.stash.is_none() && self.session.is_leaving() {
            self.session.let_go();
        }
    }

    fn request(&mut self, now: Instant, sequence_number: u32, frame: &Bytes, body: &Body<'_>) {
        let command_id = body.command_id();
        if self.events.is_closed() {
            return self.respond(now, sequence_number, command_id, status::ESME_RX_T_APPN);
        }
        let Ok(slot) = self.events.try_reserve() else {
            return self.no_place(now, sequence_number, command_id, frame);
        };
        let Some(place) = self.place(frame.len()) else {
            drop(slot);
            return self.no_place(now, sequence_number, command_id, frame);
        };
        self.blocked = None;
        self.overloaded = false;
        let responder = Responder {
            sequence_number,
            command_id,
            replies: self.replies.clone(),
            place,
        };
        let answer = match self.inlet.request(frame, body, responder) {
            Reaction::Forward(event) => {
                slot.send(event);
                return;
            }
            Reaction::Respond { command_status } => {
                drop(slot);
                command_status
            }
        };
        self.respond(now, sequence_number, command_id, answer);
    }

    /// Stops here for a while; refuses once that lasts too long.
    fn no_place(&mut self, now: Instant, sequence_number: u32, command_id: u32, frame: &Bytes) {
        if self.overloaded {
            let response = reject(command_id, sequence_number, self.settings.overload_status);
            self.session.refuse_overload(now, &response);
        } else {
            self.blocked.get_or_insert(now);
            self.stash = Some(frame.clone());
        }
    }

    /// Tries the request that found no place once more.
    fn unstash(&mut self) {
        let Some(octets) = self.stash.take() else {
            return;
        };
        if let Ok(pdu) = decode(&octets) {
            self.request(now(), pdu.sequence_number, &octets, &pdu.body);
        }
    }

    fn respond(
        &mut self,
        now: Instant,
        sequence_number: u32,
        command_id: u32,
        command_status: u32,
    ) {
        self.session
            .respond(now, &reject(command_id, sequence_number, command_status));
    }

    fn reply(&mut self, replies: &mut Vec<Reply>) {
        let now = now();
        for reply in replies.drain(..) {
            match &reply.content {
                ReplyContent::Status {
                    command_status,
                    message_id,
                } => {
                    let mut pdu = reject(reply.command_id, reply.sequence_number, *command_status);
                    let resp = SmResp {
                        message_id: message_id.as_bytes(),
                        ..SmResp::default()
                    };
                    match &mut pdu.body {
                        Body::SubmitSmResp(body)
                        | Body::DataSmResp(body)
                        | Body::DeliverSmResp(body) => {
                            *body = resp;
                        }
                        _ => {}
                    }
                    self.session.respond(now, &pdu);
                }
                ReplyContent::Encoded(octets) => {
                    // Our own encoding of a moment ago.
                    if let Ok(pdu) = decode(octets) {
                        self.session.respond(now, &pdu);
                    }
                }
            }
        }
        self.blocked = self.blocked.filter(|_| self.stash.is_some());
        self.let_go();
    }

    /// Takes what is waiting and fits the window.
    fn pump(&mut self, now: Instant, commands: &mut mpsc::Receiver<Command>) {
        loop {
            if !self.send_on(now) || self.session.window_free() == 0 {
                return;
            }
            match commands.try_recv() {
                Ok(command) => self.begin(command),
                Err(_) => return,
            }
        }
    }

    fn begin(&mut self, command: Command) {
        if matches!(command.to, AnswerTo::Nobody) {
            // It is bound: a command is taken only where the window is open.
            let _ = self.session.notify_encoded(now(), &command.requests.octets);
            return;
        }
        let group = self.groups.open(command.requests.count, command.to);
        self.sending = Some(Sending {
            octets: command.requests.octets,
            at: 0,
            group,
            index: 0,
        });
    }

    /// Whether all of the requests begun have been sent.
    fn send_on(&mut self, now: Instant) -> bool {
        let Some(sending) = &mut self.sending else {
            return true;
        };
        while let Framing::Frame(length) = frame(&sending.octets[sending.at..]) {
            let octets = &sending.octets[sending.at..sending.at + length];
            let token = Token {
                group: sending.group,
                index: sending.index,
            };
            if self.session.request_encoded(now, octets, token).is_err() {
                return false;
            }
            sending.at += length;
            sending.index += 1;
        }
        self.sending = None;
        true
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Run => {}
            Order::Unbind => self.session.unbind(now()),
            Order::Abort => self.session.close(CloseReason::Aborted),
        }
    }

    fn may_read(&self) -> bool {
        self.stash.is_none()
            && !self.input_ended
            && (self.overloaded || self.has_place())
            && self.session.output().len() < OUTPUT_HIGH
    }

    fn next_timeout(&mut self, now: Instant) -> Instant {
        if self.session.output().is_empty() && !self.unflushed {
            self.write_stalled = None;
        } else {
            self.write_stalled.get_or_insert(now);
        }
        [
            self.session.next_timeout(),
            self.partial_since.map(|at| at + self.settings.pdu_read),
            self.write_stalled.map(|at| at + self.settings.write_stall),
            self.blocked
                .filter(|_| !self.overloaded)
                .map(|at| at + self.settings.overload),
        ]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(now + IDLE_WAKE)
    }

    fn timeout(&mut self) {
        let now = now();
        let over =
            |since: Option<Instant>, limit: Duration| since.is_some_and(|at| at + limit <= now);
        if over(self.partial_since, self.settings.pdu_read) && self.may_read() {
            self.session.close(CloseReason::PduTimeout);
        }
        if over(self.write_stalled, self.settings.write_stall) {
            self.session.close(CloseReason::WriteTimeout);
        }
        if over(self.blocked, self.settings.overload) {
            self.overloaded = true;
            self.unstash();
        }
        self.shrink();
        self.session.handle_timeout(now, &mut self.expired);
        for token in self.expired.drain(..) {
            self.groups.answer(token, Answer::TimedOut);
        }
    }

    /// Gives back what the last burst needed; timers fire often enough for it, and not while much
    /// is being said.
    fn shrink(&mut self) {
        if self.buffer.is_empty() && self.read_ahead > READ_IDLE {
            self.read_ahead = READ_IDLE;
            self.buffer = BytesMut::with_capacity(READ_IDLE);
        }
        self.session.shrink();
    }

    fn publish(&mut self) {
        let counters = self.session.counters();
        if counters != self.published {
            self.inlet.counted(&counters.since(&self.published));
            self.published = counters;
        }
        let write = |counter: &AtomicU64, value| counter.store(value, Ordering::Relaxed);
        self.shared
            .in_flight
            .store(self.session.in_flight(), Ordering::Relaxed);
        write(&self.shared.pdus_in, counters.pdus_in);
        write(&self.shared.pdus_out, counters.pdus_out);
        write(&self.shared.stray_responses, counters.stray_responses);
        write(&self.shared.malformed, counters.malformed);
        write(&self.shared.refused, counters.refused);
    }

    /// Answers everything that is still open.
    fn finish(&mut self, control: &mut Control) {
        for (token, left) in self.session.abandon() {
            let answer = if left { Answer::Lost } else { Answer::Unsent };
            self.groups.answer(token, answer);
        }
        if let Some(sending) = self.sending.take() {
            self.groups.answer_rest(sending.group, sending.index);
        }
        control.commands.close();
        while let Ok(command) = control.commands.try_recv() {
            command.to.unsent(command.requests.count);
        }
        self.publish();
    }
}

/// A timer has to have some deadline even where nothing is due.
const IDLE_WAKE: Duration = Duration::from_secs(3600);

/// Requests that are answered together.
#[derive(Default)]
struct Groups {
    slots: Vec<Option<Group>>,
    free: Vec<usize>,
}

struct Group {
    answers: Vec<Answer>,
    open: usize,
    /// None: told already.
    to: Option<AnswerTo>,
}

impl Groups {
    fn open(&mut self, count: usize, to: AnswerTo) -> usize {
        let group = Group {
            answers: vec![Answer::Unsent; count],
            open: count,
            to: Some(to),
        };
        match self.free.pop() {
            Some(slot) => {
                self.slots[slot] = Some(group);
                slot
            }
            None => {
                self.slots.push(Some(group));
                self.slots.len() - 1
            }
        }
    }

    /// The peer answered with the PDU `frame`.
    fn answered(&mut self, token: Token, answer: Answer, frame: &Bytes) {
        if let Some(Some(group)) = self.slots.get_mut(token.group)
            && matches!(group.to, Some(AnswerTo::Whole(_)))
            && let Some(AnswerTo::Whole(to)) = group.to.take()
        {
            // Nobody may be waiting any more.
            let _ = to.send(Ok(frame.clone()));
        }
        self.answer(token, answer);
    }

    fn answer(&mut self, token: Token, answer: Answer) {
        let Some(slot) = self.slots.get_mut(token.group) else {
            return;
        };
        let Some(group) = slot else {
            return;
        };
        if let Some(place) = group.answers.get_mut(token.index) {
            *place = answer;
            group.open = group.open.saturating_sub(1);
        }
        if group.open == 0
            && let Some(group) = slot.take()
        {
            self.free.push(token.group);
            let mut answers = group.answers;
            // Nobody may be waiting any more.
            match group.to {
                Some(AnswerTo::All(to)) => drop(to.send(answers)),
                Some(AnswerTo::Whole(to)) => {
                    drop(to.send(Err(answers.pop().unwrap_or(Answer::Unsent))));
                }
                Some(AnswerTo::Nobody) | None => {}
            }
        }
    }

    /// The requests from `index` on were never sent.
    fn answer_rest(&mut self, group: usize, index: usize) {
        let count = match self.slots.get(group) {
            Some(Some(group)) => group.answers.len(),
            Some(None) | None => 0,
        };
        for index in index..count {
            self.answer(Token { group, index }, Answer::Unsent);
        }
    }
}

/// SMPP 5.0, 4.8.4.18. More than 100 is full as well.
fn congestion_state(body: &Body<'_>) -> Option<u8> {
    match body {
        Body::SubmitSmResp(resp) | Body::DataSmResp(resp) => {
            let state = resp.tlvs.integer(tag::CONGESTION_STATE)?;
            Some(u8::try_from(state).unwrap_or(100).min(100))
        }
        _ => None,
    }
}

fn message_id(body: &Body<'_>) -> String {
    match body {
        Body::SubmitSmResp(resp) | Body::DataSmResp(resp) | Body::DeliverSmResp(resp)
            if resp.message_id.len() <= MESSAGE_ID_KEPT =>
        {
            String::from_utf8_lossy(resp.message_id).into_owned()
        }
        _ => String::new(),
    }
}

//! Drives one session over a byte stream: a single task owns both, reads and writes many PDUs at a
//! time, and is spoken to through bounded channels. Serves either role; who listens is `server`'s.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::timeout;

use super::pdu::{
    Bind, Body, EncodeError, Framing, Pdu, SmResp, encode, frame, reject,
};
use super::session::{BindMode, CloseReason, Counters, Event, Role, Session, Settings};
use super::status;

/// Limits of a link beyond those of its session.
#[derive(Clone, Copy, Debug)]
pub struct LinkSettings {
    pub session: Settings,
    /// From a PDU's first octet to its last.
    pub pdu_read: Duration,
    /// How long the peer may leave what we send unread.
    pub write_stall: Duration,
    /// How long a full events channel stops the reading before requests are refused with `overload_status`.
    pub overload: Duration,
    pub overload_status: u32,
    /// Requests of the peer that wait for their answer.
    pub requests_max: usize,
    /// Sends that wait for the window.
    pub commands_max: usize,
    /// Time for the last octets and the peer's goodbye.
    pub linger: Duration,
}

impl Default for LinkSettings {
    fn default() -> LinkSettings {
        LinkSettings {
            session: Settings::default(),
            pdu_read: Duration::from_secs(10),
            write_stall: Duration::from_secs(30),
            overload: Duration::from_secs(1),
            overload_status: status::ESME_RMSGQFUL,
            requests_max: 4096,
            commands_max: 64,
            linger: Duration::from_secs(1),
        }
    }
}

/// What a link asks of its owner. Called on the link's task: may not block.
pub trait Inlet: Send {
    type Event: Send;

    /// As an SMSC: the command_status of a refused bind as an error. An ESME is never asked.
    fn bind(&mut self, mode: BindMode, bind: &Bind<'_>) -> Result<(), u32>;

    /// `frame` is the whole PDU, for those who keep it; `body` is what it says.
    fn request(&mut self, frame: &Bytes, body: &Body<'_>, responder: Responder) -> Reaction<Self::Event>;
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Reaction<E> {
    /// Goes to the events channel; the responder inside answers when its holder knows.
    Forward(E),
    /// Answered at once.
    Respond { command_status: u32 },
}

/// Answers one request of the peer, from any task, whenever its work is durable. Dropped unused, the
/// peer gets no answer and will send the request again.
#[derive(Debug)]
pub struct Responder {
    sequence_number: u32,
    command_id: u32,
    replies: mpsc::Sender<Reply>,
    permit: OwnedSemaphorePermit,
}

#[derive(Debug)]
struct Reply {
    sequence_number: u32,
    command_id: u32,
    content: ReplyContent,
    _permit: OwnedSemaphorePermit,
}

#[derive(Debug)]
enum ReplyContent {
    Status { command_status: u32, message_id: String },
    Encoded(Vec<u8>),
}

impl Responder {
    pub fn command_id(&self) -> u32 {
        self.command_id
    }

    /// The request's own response without a body, or with an empty message_id.
    pub fn status(self, command_status: u32) {
        self.send(ReplyContent::Status {
            command_status,
            message_id: String::new(),
        });
    }

    /// ESME_ROK with a message_id.
    pub fn message_id(self, message_id: String) {
        self.send(ReplyContent::Status {
            command_status: status::ESME_ROK,
            message_id,
        });
    }

    /// Any response body: query_sm_resp, optional parameters.
    pub fn body(self, command_status: u32, body: &Body<'_>) -> Result<(), EncodeError> {
        let mut octets = Vec::new();
        encode(&Pdu::response(self.sequence_number, command_status, *body), &mut octets)?;
        self.send(ReplyContent::Encoded(octets));
        Ok(())
    }

    fn send(self, content: ReplyContent) {
        // The channel holds as many as there are permits, so it is full for no one; a closed one
        // means the link is gone, and the peer will send the request again on its next.
        let _ = self.replies.try_send(Reply {
            sequence_number: self.sequence_number,
            command_id: self.command_id,
            content,
            _permit: self.permit,
        });
    }
}

/// Encoded requests that travel in order on one session and are answered together.
#[derive(Clone, Debug, Default)]
pub struct Requests {
    octets: Vec<u8>,
    count: usize,
}

impl Requests {
    pub fn new() -> Requests {
        Requests::default()
    }

    pub fn push(&mut self, body: &Body<'_>) -> Result<(), EncodeError> {
        encode(&Pdu::request(0, *body), &mut self.octets)?;
        self.count += 1;
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// What came of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// `message_id` is empty where the peer gave none, or one longer than [`MESSAGE_ID_KEPT`].
    Answered { command_status: u32, message_id: String },
    /// Sent, and no answer in the response time.
    TimedOut,
    /// Sent at least in part when the connection ended.
    Lost,
    /// Not one octet left.
    Unsent,
}

/// SMPP 3.4 has 64 (5.2.23); peers send more.
pub const MESSAGE_ID_KEPT: usize = 255;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    Binding,
    Bound,
    Closed(CloseReason),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Run,
    Unbind,
    Abort,
}

/// A handle to a running link; cheap to clone.
#[derive(Clone, Debug)]
pub struct Link {
    commands: mpsc::Sender<Command>,
    order: watch::Sender<Order>,
    state: watch::Receiver<LinkState>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    in_flight: AtomicUsize,
    pdus_in: AtomicU64,
    pdus_out: AtomicU64,
    stray_responses: AtomicU64,
    malformed: AtomicU64,
    refused: AtomicU64,
}

#[derive(Debug)]
struct Command {
    requests: Requests,
    answer: oneshot::Sender<Vec<Answer>>,
}

impl Link {
    /// Sends the requests, in order, as the window opens; one answer each, in the same order.
    pub async fn send(&self, requests: Requests) -> Vec<Answer> {
        let count = requests.len();
        if count == 0 {
            return Vec::new();
        }
        let (answer, answered) = oneshot::channel();
        if self.commands.send(Command { requests, answer }).await.is_err() {
            return vec![Answer::Unsent; count];
        }
        // A link that ends answers all; only one that was torn away leaves us without knowledge.
        answered.await.unwrap_or_else(|_| vec![Answer::Lost; count])
    }

    /// Says goodbye: no further request goes out, answers under way are still taken.
    pub fn unbind(&self) {
        self.order.send_if_modified(|order| {
            let running = *order == Order::Run;
            if running {
                *order = Order::Unbind;
            }
            running
        });
    }

    /// Breaks the connection off.
    pub fn abort(&self) {
        self.order.send_replace(Order::Abort);
    }

    pub fn state(&self) -> LinkState {
        *self.state.borrow()
    }

    pub fn is_bound(&self) -> bool {
        self.state() == LinkState::Bound
    }

    /// For waiting on a change of state.
    pub fn watch(&self) -> watch::Receiver<LinkState> {
        self.state.clone()
    }

    /// Resolves once the link is bound or has ended.
    pub async fn settled(&self) -> LinkState {
        let mut state = self.state.clone();
        match state.wait_for(|s| *s != LinkState::Binding).await {
            Ok(settled) => *settled,
            Err(_) => LinkState::Closed(CloseReason::Aborted),
        }
    }

    /// Resolves once the link has ended.
    pub async fn closed(&self) -> CloseReason {
        let mut state = self.state.clone();
        match state.wait_for(|s| matches!(s, LinkState::Closed(_))).await.map(|s| *s) {
            Ok(LinkState::Closed(reason)) => reason,
            Ok(LinkState::Binding | LinkState::Bound) | Err(_) => CloseReason::Aborted,
        }
    }

    pub fn in_flight(&self) -> usize {
        self.shared.in_flight.load(Ordering::Relaxed)
    }

    pub fn counters(&self) -> Counters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            pdus_in: read(&self.shared.pdus_in),
            pdus_out: read(&self.shared.pdus_out),
            stray_responses: read(&self.shared.stray_responses),
            malformed: read(&self.shared.malformed),
            refused: read(&self.shared.refused),
        }
    }
}

/// The other end of [`Link`]: what is to be run.
pub struct Driver<S, I: Inlet> {
    stream: S,
    engine: Engine<I>,
    control: Control,
}

/// Puts a session on a connected stream. Nothing happens until the driver runs.
pub fn link<S, I: Inlet>(
    stream: S,
    role: Role,
    settings: LinkSettings,
    inlet: I,
    events: mpsc::Sender<I::Event>,
) -> Result<(Link, Driver<S, I>), EncodeError> {
    let now = now();
    let session = Session::new(role, settings.session, now)?;
    let (commands, commands_in) = mpsc::channel(settings.commands_max.max(1));
    let (order, order_in) = watch::channel(Order::Run);
    let (state, state_out) = watch::channel(LinkState::Binding);
    let requests_max = settings.requests_max.clamp(1, Semaphore::MAX_PERMITS);
    let (replies, replies_in) = mpsc::channel(requests_max);
    let shared = Arc::new(Shared::default());
    let link = Link {
        commands,
        order,
        state: state_out,
        shared: Arc::clone(&shared),
    };
    let engine = Engine {
        session,
        settings,
        inlet,
        events,
        replies,
        permits: Arc::new(Semaphore::new(requests_max)),
        buffer: BytesMut::with_capacity(READ_CHUNK),
        partial_since: None,
        blocked: None,
        stash: None,
        overloaded: false,
        sending: None,
        groups: Groups::default(),
        expired: Vec::new(),
        write_stalled: None,
        state,
        shared,
    };
    let control = Control {
        commands: commands_in,
        order: order_in,
        replies: replies_in,
    };
    let driver = Driver {
        stream,
        engine,
        control,
    };
    Ok((link, driver))
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

struct Control {
    commands: mpsc::Receiver<Command>,
    order: watch::Receiver<Order>,
    replies: mpsc::Receiver<Reply>,
}

struct Engine<I: Inlet> {
    session: Session<Token>,
    settings: LinkSettings,
    inlet: I,
    events: mpsc::Sender<I::Event>,
    replies: mpsc::Sender<Reply>,
    permits: Arc<Semaphore>,
    buffer: BytesMut,
    partial_since: Option<Instant>,
    /// Since when requests have found no place.
    blocked: Option<Instant>,
    stash: Option<Stash<I::Event>>,
    /// Blocked for too long: refuse until there is place again.
    overloaded: bool,
    sending: Option<Sending>,
    groups: Groups,
    expired: Vec<Token>,
    write_stalled: Option<Instant>,
    state: watch::Sender<LinkState>,
    shared: Arc<Shared>,
}

/// A request that found the events channel full.
struct Stash<E> {
    event: E,
    sequence_number: u32,
    command_id: u32,
}

/// Requests of which not all fitted the window.
struct Sending {
    octets: Vec<u8>,
    at: usize,
    group: usize,
    index: usize,
}

#[derive(Clone, Copy)]
struct Token {
    group: usize,
    index: usize,
}

/// Octets asked of the socket at a time.
const READ_CHUNK: usize = 16 * 1024;
/// With more than this unwritten, the peer is not read: it would make us owe it more answers.
const OUTPUT_HIGH: usize = 256 * 1024;
const REPLIES_BATCH: usize = 256;

/// One turn: deal with what is there, then wait for the next thing to happen.
async fn turn<I: Inlet>(
    engine: &mut Engine<I>,
    control: &mut Control,
    reader: &mut (impl AsyncRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
) -> CloseReason {
    let mut replies = Vec::with_capacity(REPLIES_BATCH);
    let sleep = tokio::time::sleep(Duration::from_secs(1));
    tokio::pin!(sleep);
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
            ..
        } = engine;
        let output = session.output();
        tokio::select! {
            biased;
            written = writer.write(output), if !output.is_empty() => match written {
                Ok(0) => engine.session.close(CloseReason::ClosedByPeer),
                Ok(octets) => {
                    engine.session.wrote(octets);
                    engine.write_stalled = None;
                }
                Err(error) => engine.session.close(CloseReason::Io(error.kind())),
            },
            read = reader.read_buf(buffer), if may_read => match read {
                Ok(0) => engine.session.close(CloseReason::ClosedByPeer),
                Ok(_) => {}
                Err(error) => engine.session.close(CloseReason::Io(error.kind())),
            },
            _ = control.replies.recv_many(&mut replies, REPLIES_BATCH) => engine.reply(&mut replies),
            Some(command) = control.commands.recv(), if may_send => engine.begin(command),
            () = place(events, stash.is_some()) => engine.unstash(),
            Ok(()) = control.order.changed() => {
                let order = *control.order.borrow_and_update();
                engine.obey(order);
            }
            () = &mut sleep => engine.timeout(),
        }
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
                    if self.buffer.capacity() - self.buffer.len() < READ_CHUNK / 4 {
                        self.buffer.reserve(READ_CHUNK);
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

    /// Whether a request may be taken: there is a permit, or the overload lasts and it is refused.
    fn permitted(&mut self, now: Instant) -> bool {
        if self.overloaded || self.permits.available_permits() > 0 {
            return true;
        }
        let since = *self.blocked.get_or_insert(now);
        self.overloaded = now.duration_since(since) >= self.settings.overload;
        self.overloaded
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
                Ok(()) => {
                    self.session
                        .accept_bind(now, sequence_number, mode, bind.interface_version, bind.system_id);
                    self.state.send_replace(LinkState::Bound);
                }
                Err(command_status) => self.session.refuse_bind(sequence_number, mode, command_status),
            },
            Event::Request { sequence_number, body } => self.request(now, sequence_number, octets, &body),
            Event::Answer {
                token,
                command_status,
                body,
            } => {
                let answer = Answer::Answered {
                    command_status,
                    message_id: message_id(&body),
                };
                self.groups.answer(token, answer);
            }
        }
    }

    fn request(&mut self, now: Instant, sequence_number: u32, frame: &Bytes, body: &Body<'_>) {
        let command_id = body.command_id();
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            return self.refuse(now, sequence_number, command_id, self.settings.overload_status);
        };
        let responder = Responder {
            sequence_number,
            command_id,
            replies: self.replies.clone(),
            permit,
        };
        let event = match self.inlet.request(frame, body, responder) {
            Reaction::Forward(event) => event,
            Reaction::Respond { command_status } => {
                return self.refuse(now, sequence_number, command_id, command_status);
            }
        };
        match self.events.try_send(event) {
            Ok(()) => {
                self.blocked = None;
                self.overloaded = false;
            }
            Err(mpsc::error::TrySendError::Full(_)) if self.overloaded => {
                self.refuse(now, sequence_number, command_id, self.settings.overload_status);
            }
            Err(mpsc::error::TrySendError::Full(event)) => {
                self.blocked.get_or_insert(now);
                self.stash = Some(Stash {
                    event,
                    sequence_number,
                    command_id,
                });
            }
            Err(mpsc::error::TrySendError::Closed(_)) => {
                self.refuse(now, sequence_number, command_id, status::ESME_RX_T_APPN);
            }
        }
    }

    fn unstash(&mut self) {
        let Some(stash) = self.stash.take() else {
            return;
        };
        match self.events.try_send(stash.event) {
            Ok(()) => self.blocked = None,
            // Another link of the same owner was quicker.
            Err(mpsc::error::TrySendError::Full(event)) => self.stash = Some(Stash { event, ..stash }),
            Err(mpsc::error::TrySendError::Closed(_)) => {
                self.refuse(now(), stash.sequence_number, stash.command_id, status::ESME_RX_T_APPN);
            }
        }
    }

    fn refuse(&mut self, now: Instant, sequence_number: u32, command_id: u32, command_status: u32) {
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
                        Body::SubmitSmResp(body) | Body::DataSmResp(body) | Body::DeliverSmResp(body) => {
                            *body = resp;
                        }
                        _ => {}
                    }
                    self.session.respond(now, &pdu);
                }
                ReplyContent::Encoded(octets) => {
                    // Our own encoding of a moment ago.
                    if let Ok(pdu) = super::pdu::decode(octets) {
                        self.session.respond(now, &pdu);
                    }
                }
            }
        }
        self.blocked = self.blocked.filter(|_| self.stash.is_some());
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
        let group = self.groups.open(command.requests.count, command.answer);
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
            && (self.overloaded || self.permits.available_permits() > 0)
            && self.session.output().len() < OUTPUT_HIGH
    }

    fn next_timeout(&mut self, now: Instant) -> Instant {
        if self.session.output().is_empty() {
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
        let over = |since: Option<Instant>, limit: Duration| since.is_some_and(|at| at + limit <= now);
        if over(self.partial_since, self.settings.pdu_read) && self.may_read() {
            self.session.close(CloseReason::PduTimeout);
        }
        if over(self.write_stalled, self.settings.write_stall) {
            self.session.close(CloseReason::WriteTimeout);
        }
        if over(self.blocked, self.settings.overload) {
            self.overloaded = true;
            if let Some(stash) = self.stash.take() {
                self.refuse(now, stash.sequence_number, stash.command_id, self.settings.overload_status);
            }
        }
        self.session.handle_timeout(now, &mut self.expired);
        for token in self.expired.drain(..) {
            self.groups.answer(token, Answer::TimedOut);
        }
    }

    fn publish(&self) {
        let counters = self.session.counters();
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
            // The sender may have gone; nobody is waiting then.
            let _ = command.answer.send(vec![Answer::Unsent; command.requests.count]);
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
    to: oneshot::Sender<Vec<Answer>>,
}

impl Groups {
    fn open(&mut self, count: usize, to: oneshot::Sender<Vec<Answer>>) -> usize {
        let group = Group {
            answers: vec![Answer::Unsent; count],
            open: count,
            to,
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
            // Nobody may be waiting any more.
            let _ = group.to.send(group.answers);
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

/// tokio's clock, which tests can stop.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

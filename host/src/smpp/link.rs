//! A handle on one session over a byte stream, and what travels through it: requests out, requests in
//! with their responders, a state to watch. `engine` is the task behind it; who listens is `server`'s.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

pub use super::engine::Driver;
use super::engine::{Control, Engine};
use super::pdu::{Bind, Body, DecodeError, EncodeError, Pdu, decode, encode};
use super::session::{BindMode, CloseReason, Counters, Role, Session, Settings};
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
    /// Octets of those; the one that passes the bound is the last that is taken.
    pub request_octets_max: usize,
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
            request_octets_max: 4 << 20,
            commands_max: 64,
            linger: Duration::from_secs(1),
        }
    }
}

/// What a link asks of its owner. Called on the link's task: may not block.
pub trait Inlet: Send {
    type Event: Send;

    /// As an SMSC: the command_status of a refused bind as an error. An ESME is never asked.
    fn bind(&mut self, mode: BindMode, bind: &Bind<'_>) -> Result<BindLimits, u32>;

    /// What the session counted since it was told last.
    fn counted(&mut self, _more: &Counters) {}

    /// What has no response: alert_notification. Without a place, because the events channel is full,
    /// it is lost: it cannot be asked for again.
    fn notice(&mut self, _body: &Body<'_>, _place: Option<mpsc::Permit<'_, Self::Event>>) {}

    /// `frame` is the whole PDU, for those who keep it; `body` is what it says.
    fn request(
        &mut self,
        frame: &Bytes,
        body: &Body<'_>,
        responder: Responder,
    ) -> Reaction<Self::Event>;
}

/// Limits that a bind decides, because they are those of who has bound. None leaves the link's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BindLimits {
    /// Our requests without an answer.
    pub window: Option<usize>,
    /// The peer's requests without an answer; not more than the link's `requests_max`.
    pub requests: Option<usize>,
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
    pub(super) sequence_number: u32,
    pub(super) command_id: u32,
    pub(super) replies: mpsc::Sender<Reply>,
    pub(super) place: Place,
}

/// What an unanswered request takes up of its session's bounds, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) _one: OwnedSemaphorePermit,
    pub(super) _octets: OwnedSemaphorePermit,
}

#[derive(Debug)]
pub(super) struct Reply {
    pub(super) sequence_number: u32,
    pub(super) command_id: u32,
    pub(super) content: ReplyContent,
    pub(super) _place: Place,
}

#[derive(Debug)]
pub(super) enum ReplyContent {
    Status {
        command_status: u32,
        message_id: String,
    },
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
        encode(
            &Pdu::response(self.sequence_number, command_status, *body),
            &mut octets,
        )?;
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
            _place: self.place,
        });
    }
}

/// Encoded requests that travel in order on one session and are answered together.
#[derive(Clone, Debug, Default)]
pub struct Requests {
    pub(super) octets: Vec<u8>,
    pub(super) count: usize,
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

    /// Adds copies of `others`, which are encoded already.
    pub fn append(&mut self, others: &Requests) {
        self.octets.extend_from_slice(&others.octets);
        self.count += others.count;
    }

    pub fn len(&self) -> usize {
        self.count
    }

    /// All PDUs, one behind the other.
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// What came of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// `message_id` is empty where the peer gave none, or one longer than [`MESSAGE_ID_KEPT`].
    Answered {
        command_status: u32,
        message_id: String,
    },
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
pub(super) enum Order {
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
pub(super) struct Shared {
    pub(super) in_flight: AtomicUsize,
    pub(super) pdus_in: AtomicU64,
    pub(super) pdus_out: AtomicU64,
    pub(super) stray_responses: AtomicU64,
    pub(super) malformed: AtomicU64,
    pub(super) refused: AtomicU64,
    /// The newest congestion_state of a response; [`NO_CONGESTION_STATE`] where none came.
    pub(super) congestion: AtomicU8,
}

pub(super) const NO_CONGESTION_STATE: u8 = u8::MAX;

#[derive(Debug)]
pub(super) struct Command {
    pub(super) requests: Requests,
    pub(super) to: AnswerTo,
}

/// Who waits for the answers to a command.
#[derive(Debug)]
pub(super) enum AnswerTo {
    All(oneshot::Sender<Vec<Answer>>),
    /// For the one request that the command has: the response as it came.
    Whole(oneshot::Sender<Result<Bytes, Answer>>),
    /// There are no answers.
    Nobody,
}

impl AnswerTo {
    /// Nobody may be waiting any more.
    pub(super) fn unsent(self, count: usize) {
        match self {
            AnswerTo::All(to) => drop(to.send(vec![Answer::Unsent; count])),
            AnswerTo::Whole(to) => drop(to.send(Err(Answer::Unsent))),
            AnswerTo::Nobody => {}
        }
    }
}

/// A response as it came.
#[derive(Clone, Debug)]
pub struct Response {
    frame: Bytes,
}

impl Response {
    /// Only what decodes is handed out.
    pub fn pdu(&self) -> Result<Pdu<'_>, DecodeError> {
        decode(&self.frame)
    }
}

impl Link {
    /// Sends the requests, in order, as the window opens; one answer each, in the same order.
    pub async fn send(&self, requests: Requests) -> Vec<Answer> {
        let count = requests.len();
        if count == 0 {
            return Vec::new();
        }
        let (answer, answered) = oneshot::channel();
        if self
            .commands
            .send(Command {
                requests,
                to: AnswerTo::All(answer),
            })
            .await
            .is_err()
        {
            return vec![Answer::Unsent; count];
        }
        // A link that ends answers all; only one that was torn away leaves us without knowledge.
        answered.await.unwrap_or_else(|_| vec![Answer::Lost; count])
    }

    /// Sends one request and returns its whole response, whatever its status; else how it ended. For
    /// query_sm, cancel_sm and replace_sm; takes a place in the window as all requests do.
    pub async fn ask(&self, body: &Body<'_>) -> Result<Response, Answer> {
        let mut requests = Requests::new();
        if requests.push(body).is_err() {
            return Err(Answer::Unsent);
        }
        let (answer, answered) = oneshot::channel();
        let command = Command {
            requests,
            to: AnswerTo::Whole(answer),
        };
        if self.commands.send(command).await.is_err() {
            return Err(Answer::Unsent);
        }
        let frame = answered.await.unwrap_or(Err(Answer::Lost))?;
        Ok(Response { frame })
    }

    /// Sends what has no response, after what was sent before; false where too much waits already or the
    /// link has ended.
    pub fn notify(&self, body: &Body<'_>) -> Result<bool, EncodeError> {
        let mut requests = Requests::new();
        requests.push(body)?;
        let command = Command {
            requests,
            to: AnswerTo::Nobody,
        };
        Ok(self.commands.try_send(command).is_ok())
    }

    /// The newest congestion_state that the peer told, 0 to 100 (SMPP 5.0, 4.8.4.18).
    pub fn congestion(&self) -> Option<u8> {
        let state = self.shared.congestion.load(Ordering::Relaxed);
        (state != NO_CONGESTION_STATE).then_some(state)
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
        match state
            .wait_for(|s| matches!(s, LinkState::Closed(_)))
            .await
            .map(|s| *s)
        {
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
            ..Counters::default()
        }
    }
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
    let shared = Arc::new(Shared {
        congestion: AtomicU8::new(NO_CONGESTION_STATE),
        ..Shared::default()
    });
    let link = Link {
        commands,
        order,
        state: state_out,
        shared: Arc::clone(&shared),
    };
    let engine = Engine::new(session, settings, inlet, events, replies, state, shared);
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

/// tokio's clock, which tests can stop.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;

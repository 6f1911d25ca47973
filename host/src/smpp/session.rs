//! One SMPP session without socket or clock: octets and time go in, octets and events come out. Both
//! roles share it, because all but who binds is the same. What requests mean is the caller's.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::output::Output;
use super::pdu::{
    self, Bind, BindResp, Body, EncodeError, Pdu, TlvBuf, command_id, decode, reject, tag,
};
use super::status;
pub use super::terms::{
    BindMode, CloseReason, Counters, Credentials, INTERFACE_VERSION, Role, SEQUENCE_NUMBER_MAX,
    Settings,
};

/// What one PDU means to the caller.
#[derive(Debug)]
pub enum Event<'a, T> {
    /// The session dealt with it.
    None,
    /// As an ESME: the bind was accepted.
    Bound,
    /// As an SMSC: answer with [`Session::accept_bind`] or [`Session::refuse_bind`].
    BindRequest {
        sequence_number: u32,
        mode: BindMode,
        bind: Bind<'a>,
    },
    /// Owed an answer by [`Session::respond`].
    Request {
        sequence_number: u32,
        body: Body<'a>,
    },
    /// The peer unbinds: call [`Session::let_go`] once its requests have their answers.
    UnbindRequest,
    /// It has no response: alert_notification.
    Notice { body: Body<'a> },
    /// The answer to the request sent with `token`. A generic_nack is one too.
    Answer {
        token: T,
        command_status: u32,
        body: Body<'a>,
    },
}

/// Why a request was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// Not bound, unbinding, or bound the other way.
    NotBound,
    WindowFull,
    /// Shorter than a header.
    NotAFrame,
    Encode(EncodeError),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nobody has bound yet; `until` is when patience ends.
    Open {
        until: Instant,
    },
    Binding {
        sequence_number: u32,
        until: Instant,
    },
    Bound(BindMode),
    Unbinding {
        mode: BindMode,
        sequence_number: u32,
        until: Instant,
    },
    /// The peer unbinds, or will send nothing more, and is owed answers.
    Leaving {
        farewell: Farewell,
        until: Instant,
    },
    Closed(CloseReason),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Farewell {
    UnbindResp {
        sequence_number: u32,
    },
    /// Its end of the connection is closed.
    None,
}

/// How long a peer that unbinds is kept for the answers it is owed, where they do not come.
const LEAVE_MAX: Duration = Duration::from_secs(15);

struct Pending<T> {
    token: T,
    command_id: u32,
    deadline: Instant,
    /// Position in the stream of its first octet: tells whether any of it ever left.
    begins_at: u64,
}

/// `T` is what the caller wants back with the answer to a request.
pub struct Session<T> {
    role: Role,
    settings: Settings,
    state: State,
    next_sequence: u32,
    pending: HashMap<u32, Pending<T>>,
    /// Not later than the earliest deadline in `pending`.
    expiry_check: Option<Instant>,
    enquiry: Option<(u32, Instant)>,
    last_received: Instant,
    last_message: Instant,
    out: Output,
    counters: Counters,
}

impl<T> Session<T> {
    /// As an ESME this puts the bind into the output at once.
    pub fn new(role: Role, settings: Settings, now: Instant) -> Result<Session<T>, EncodeError> {
        let mut session = Session {
            role,
            settings,
            state: State::Open {
                until: now + settings.bind,
            },
            next_sequence: 1,
            pending: HashMap::new(),
            expiry_check: None,
            enquiry: None,
            last_received: now,
            last_message: now,
            out: Output::default(),
            counters: Counters::default(),
        };
        if let Role::Esme(credentials) = session.role.clone() {
            session.send_bind(&credentials, now)?;
        }
        Ok(session)
    }

    /// Octets to be written. Tell [`Session::wrote`] how many were.
    pub fn output(&self) -> &[u8] {
        self.out.unwritten()
    }

    pub fn wrote(&mut self, octets: usize) {
        self.out.wrote(octets);
    }

    pub fn closed(&self) -> Option<CloseReason> {
        match self.state {
            State::Closed(reason) => Some(reason),
            State::Open { .. }
            | State::Binding { .. }
            | State::Bound(_)
            | State::Unbinding { .. }
            | State::Leaving { .. } => None,
        }
    }

    pub fn is_bound(&self) -> bool {
        matches!(self.state, State::Bound(_))
    }

    pub fn in_flight(&self) -> usize {
        self.pending.len()
    }

    /// Requests that may be sent now.
    pub fn window_free(&self) -> usize {
        match self.state {
            State::Bound(mode) if self.may_send(mode) => {
                self.settings.window.saturating_sub(self.pending.len())
            }
            State::Bound(_)
            | State::Open { .. }
            | State::Binding { .. }
            | State::Unbinding { .. }
            | State::Leaving { .. }
            | State::Closed(_) => 0,
        }
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// What has been sent stays sent.
    pub fn set_window(&mut self, window: usize) {
        self.settings.window = window;
    }

    /// Gives back room that a quiet session does not need.
    pub fn shrink(&mut self) {
        self.out.shrink();
        if self.pending.is_empty() {
            self.pending = HashMap::new();
        }
    }

    /// Encodes and sends a request.
    pub fn request(&mut self, now: Instant, body: Body<'_>, token: T) -> Result<u32, RequestError> {
        self.check_window()?;
        let sequence_number = self.take_sequence();
        let begins_at = self.out.end();
        self.out
            .push(&Pdu::request(sequence_number, body))
            .map_err(RequestError::Encode)?;
        self.sent(now, sequence_number, body.command_id(), begins_at, token);
        Ok(sequence_number)
    }

    /// Sends a request that was encoded before; only its sequence number is written anew.
    pub fn request_encoded(
        &mut self,
        now: Instant,
        frame: &[u8],
        token: T,
    ) -> Result<u32, RequestError> {
        self.check_window()?;
        let Some(header) = pdu::Header::parse(frame) else {
            return Err(RequestError::NotAFrame);
        };
        let sequence_number = self.take_sequence();
        let begins_at = self.out.end();
        self.out.push_encoded(frame, sequence_number);
        self.sent(now, sequence_number, header.command_id, begins_at, token);
        Ok(sequence_number)
    }

    /// Sends what has no response and takes no place in the window: alert_notification.
    pub fn notify_encoded(&mut self, now: Instant, frame: &[u8]) -> Result<(), RequestError> {
        match self.state {
            State::Bound(mode) if self.may_send(mode) => {}
            State::Bound(_)
            | State::Open { .. }
            | State::Binding { .. }
            | State::Unbinding { .. }
            | State::Leaving { .. }
            | State::Closed(_) => return Err(RequestError::NotBound),
        }
        if frame.len() < pdu::HEADER_LEN {
            return Err(RequestError::NotAFrame);
        }
        let sequence_number = self.take_sequence();
        self.out.push_encoded(frame, sequence_number);
        self.counters.pdus_out += 1;
        self.last_message = now;
        Ok(())
    }

    /// Answers a request. A body that may not be sent is our own fault: the peer gets
    /// ESME_RSYSERR, and will ask again.
    pub fn respond(&mut self, now: Instant, response: &Pdu<'_>) {
        self.last_message = now;
        self.push_response(response);
    }

    pub fn accept_bind(
        &mut self,
        now: Instant,
        sequence_number: u32,
        mode: BindMode,
        peer_version: u8,
        system_id: &[u8],
    ) {
        let mut tlvs = TlvBuf::new();
        // Peers before 3.4 know no optional parameters (SMPP 3.4, 3.4.1).
        if peer_version >= INTERFACE_VERSION
            && tlvs
                .push(tag::SC_INTERFACE_VERSION, &[INTERFACE_VERSION])
                .is_err()
        {
            tlvs.clear();
        }
        let resp = BindResp {
            system_id,
            tlvs: tlvs.as_tlvs(),
        };
        let body = match mode {
            BindMode::Transmitter => Body::BindTransmitterResp(resp),
            BindMode::Receiver => Body::BindReceiverResp(resp),
            BindMode::Transceiver => Body::BindTransceiverResp(resp),
        };
        self.state = State::Bound(mode);
        self.last_message = now;
        self.push_response(&Pdu::response(sequence_number, status::ESME_ROK, body));
    }

    /// The peer may try again until the bind time is over.
    pub fn refuse_bind(&mut self, sequence_number: u32, mode: BindMode, command_status: u32) {
        let response = reject(bind_command(mode), sequence_number, command_status);
        self.push_response(&response);
    }

    /// Answers a request that no place could be found for.
    pub fn refuse_overload(&mut self, now: Instant, response: &Pdu<'_>) {
        self.counters.overloaded += 1;
        self.respond(now, response);
    }

    /// Sends unbind: no further request goes out, answers still come in.
    pub fn unbind(&mut self, now: Instant) {
        match self.state {
            State::Bound(mode) => {
                let sequence_number = self.take_sequence();
                self.state = State::Unbinding {
                    mode,
                    sequence_number,
                    until: now + self.settings.response,
                };
                self.push_request(sequence_number, Body::Unbind);
            }
            State::Open { .. } | State::Binding { .. } => self.close(CloseReason::Aborted),
            State::Unbinding { .. } | State::Leaving { .. } | State::Closed(_) => {}
        }
    }

    /// The peer will send nothing more. As an SMSC we owe it answers all the same: call
    /// [`Session::let_go`] when it has them. As an ESME there is nothing to stay for.
    pub fn peer_closed(&mut self, now: Instant) {
        match (&self.role, self.state) {
            (Role::Smsc, State::Bound(_) | State::Unbinding { .. }) => {
                self.leave(now, Farewell::None);
            }
            _ => self.close(CloseReason::ClosedByPeer),
        }
    }

    /// Whether the peer waits for [`Session::let_go`].
    pub fn is_leaving(&self) -> bool {
        matches!(self.state, State::Leaving { .. })
    }

    /// Ends the session of a peer that has said goodbye.
    pub fn let_go(&mut self) {
        let State::Leaving { farewell, .. } = self.state else {
            return;
        };
        match farewell {
            Farewell::UnbindResp { sequence_number } => self.unbound(sequence_number),
            Farewell::None => self.close(CloseReason::ClosedByPeer),
        }
    }

    /// Ends the session; the first reason stands.
    pub fn close(&mut self, reason: CloseReason) {
        if self.closed().is_none() {
            self.state = State::Closed(reason);
        }
    }

    /// The stream cannot be followed any further: says so and ends the session.
    pub fn unframeable(&mut self, command_length: u32) {
        self.counters.malformed += 1;
        self.push_response(&Pdu::response(
            0,
            status::ESME_RINVCMDLEN,
            Body::GenericNack,
        ));
        self.close(CloseReason::BadCommandLength(command_length));
    }

    /// For a session that has ended: every request without an answer, in the order of sending, with
    /// whether any of its octets was written. Those of which none was are taken out of the output, so that "not
    /// sent" stays true.
    pub fn abandon(&mut self) -> Vec<(T, bool)> {
        let written = self.out.written();
        let unsent = self.pending.values().map(|p| p.begins_at);
        self.out
            .take_back(unsent.filter(|at| *at >= written).collect());
        let mut left: Vec<Pending<T>> = self.pending.drain().map(|(_, p)| p).collect();
        left.sort_unstable_by_key(|p| p.begins_at);
        left.into_iter()
            .map(|p| (p.token, p.begins_at < written))
            .collect()
    }

    /// Takes one frame, as [`pdu::frame`] cut it out.
    pub fn handle<'a>(&mut self, now: Instant, frame: &'a [u8]) -> Event<'a, T> {
        if self.closed().is_some() {
            return Event::None;
        }
        self.last_received = now;
        // Whatever arrives shows that the link lives.
        self.enquiry = None;
        self.counters.pdus_in += 1;
        match decode(frame) {
            Ok(pdu) if pdu.is_response() => self.handle_response(now, pdu),
            Ok(pdu) => self.handle_request(now, pdu),
            Err(error) => {
                self.counters.malformed += 1;
                if let Some(response) = error.response() {
                    self.push_response(&response);
                }
                Event::None
            }
        }
    }

    /// When [`Session::handle_timeout`] wants to be called; it may be called at any time.
    pub fn next_timeout(&self) -> Option<Instant> {
        let state = match self.state {
            State::Open { until }
            | State::Binding { until, .. }
            | State::Unbinding { until, .. }
            | State::Leaving { until, .. } => Some(until),
            State::Bound(_) => [self.enquiry_due(), self.inactive_at()]
                .into_iter()
                .flatten()
                .min(),
            State::Closed(_) => return None,
        };
        [state, self.expiry_check].into_iter().flatten().min()
    }

    /// Tokens of requests whose answer did not come go to `expired`, in the order of sending.
    pub fn handle_timeout(&mut self, now: Instant, expired: &mut Vec<T>) {
        if self.expiry_check.is_some_and(|at| at <= now) {
            self.expire(now, expired);
        }
        match self.state {
            State::Open { until } | State::Binding { until, .. } if until <= now => {
                self.close(CloseReason::BindTimeout);
            }
            State::Unbinding { until, .. } if until <= now => {
                self.close(CloseReason::UnbindTimeout)
            }
            State::Leaving { until, .. } if until <= now => self.let_go(),
            State::Bound(_) if self.inactive_at().is_some_and(|at| at <= now) => {
                self.unbind(now);
            }
            State::Bound(_) if self.enquiry_due().is_some_and(|at| at <= now) => self.enquire(now),
            State::Open { .. }
            | State::Binding { .. }
            | State::Bound(_)
            | State::Unbinding { .. }
            | State::Leaving { .. }
            | State::Closed(_) => {}
        }
    }

    fn handle_response<'a>(&mut self, now: Instant, pdu: Pdu<'a>) -> Event<'a, T> {
        let sequence_number = pdu.sequence_number;
        let is_nack = pdu.body == Body::GenericNack;
        // A generic_nack that says "no error" is an error all the same.
        let command_status = if is_nack && pdu.command_status == status::ESME_ROK {
            status::ESME_RUNKNOWNERR
        } else {
            pdu.command_status
        };
        let answers =
            |command_id: u32| is_nack || pdu.command_id() == command_id | command_id::RESPONSE;
        match self.state {
            // One bind is out at a time, so that its response is known whatever number it bears.
            State::Binding {
                sequence_number: ours,
                ..
            } if ours == sequence_number || is_bind_resp(&pdu.body) => {
                return self.bind_answered(now, &pdu, command_status);
            }
            State::Unbinding {
                sequence_number: ours,
                ..
            } if ours == sequence_number && answers(command_id::UNBIND) => {
                self.close(CloseReason::Unbound);
                return Event::None;
            }
            State::Open { .. }
            | State::Binding { .. }
            | State::Bound(_)
            | State::Unbinding { .. }
            | State::Leaving { .. }
            | State::Closed(_) => {}
        }
        if pdu.body == Body::EnquireLinkResp {
            return Event::None;
        }
        if self
            .pending
            .get(&sequence_number)
            .is_some_and(|p| answers(p.command_id))
            && let Some(pending) = self.pending.remove(&sequence_number)
        {
            self.last_message = now;
            return Event::Answer {
                token: pending.token,
                command_status,
                body: pdu.body,
            };
        }
        self.counters.stray_responses += 1;
        Event::None
    }

    fn bind_answered<'a>(
        &mut self,
        now: Instant,
        pdu: &Pdu<'a>,
        command_status: u32,
    ) -> Event<'a, T> {
        let Role::Esme(credentials) = &self.role else {
            return Event::None;
        };
        let mode = credentials.mode;
        match pdu.body {
            Body::BindReceiverResp(_)
            | Body::BindTransmitterResp(_)
            | Body::BindTransceiverResp(_)
                if command_status == status::ESME_ROK =>
            {
                self.state = State::Bound(mode);
                self.last_message = now;
                Event::Bound
            }
            Body::BindReceiverResp(_)
            | Body::BindTransmitterResp(_)
            | Body::BindTransceiverResp(_)
            | Body::GenericNack => {
                self.close(CloseReason::BindRefused(command_status));
                Event::None
            }
            _ => {
                self.counters.stray_responses += 1;
                Event::None
            }
        }
    }

    fn handle_request<'a>(&mut self, now: Instant, pdu: Pdu<'a>) -> Event<'a, T> {
        let sequence_number = pdu.sequence_number;
        let mode = match self.state {
            State::Bound(mode) | State::Unbinding { mode, .. } => Some(mode),
            State::Open { .. }
            | State::Binding { .. }
            | State::Leaving { .. }
            | State::Closed(_) => None,
        };
        let smsc = matches!(self.role, Role::Smsc);
        let allowed = match pdu.body {
            Body::EnquireLink => {
                self.push_response(&Pdu::response(
                    sequence_number,
                    status::ESME_ROK,
                    Body::EnquireLinkResp,
                ));
                return Event::None;
            }
            Body::Unbind => return self.unbind_request(now, sequence_number),
            Body::BindReceiver(bind) => {
                return self.bind_request(sequence_number, BindMode::Receiver, bind);
            }
            Body::BindTransmitter(bind) => {
                return self.bind_request(sequence_number, BindMode::Transmitter, bind);
            }
            Body::BindTransceiver(bind) => {
                return self.bind_request(sequence_number, BindMode::Transceiver, bind);
            }
            // Neither has a response, and neither asks for one.
            Body::AlertNotification(_) if !smsc && mode.is_some() => {
                self.last_message = now;
                return Event::Notice { body: pdu.body };
            }
            Body::Outbind(_) | Body::AlertNotification(_) => return Event::None,
            // An ESME bound as transmitter takes a deliver_sm all the same: refusing loses receipts.
            Body::DeliverSm(_) => !smsc && mode.is_some(),
            Body::DataSm(_) => mode.is_some_and(|m| !smsc || m.transmits()),
            Body::SubmitSm(_)
            | Body::QuerySm(_)
            | Body::CancelSm(_)
            | Body::ReplaceSm(_)
            | Body::Other {
                command_id: command_id::SUBMIT_MULTI,
                ..
            } => smsc && mode.is_some_and(BindMode::transmits),
            _ => {
                self.counters.unknown_commands += 1;
                self.refuse(pdu.command_id(), sequence_number, status::ESME_RINVCMDID);
                return Event::None;
            }
        };
        if !allowed {
            self.refuse(pdu.command_id(), sequence_number, status::ESME_RINVBNDSTS);
            return Event::None;
        }
        self.last_message = now;
        Event::Request {
            sequence_number,
            body: pdu.body,
        }
    }

    fn unbind_request<'a>(&mut self, now: Instant, sequence_number: u32) -> Event<'a, T> {
        match self.state {
            State::Bound(_) | State::Unbinding { .. } => {
                self.leave(now, Farewell::UnbindResp { sequence_number });
                Event::UnbindRequest
            }
            // The first unbind has its answer yet to come.
            State::Leaving { .. } => Event::None,
            State::Open { .. } | State::Binding { .. } | State::Closed(_) => {
                self.unbound(sequence_number);
                Event::None
            }
        }
    }

    fn leave(&mut self, now: Instant, farewell: Farewell) {
        let until = now + self.settings.response.min(LEAVE_MAX);
        self.state = State::Leaving { farewell, until };
    }

    fn unbound(&mut self, sequence_number: u32) {
        self.push_response(&Pdu::response(
            sequence_number,
            status::ESME_ROK,
            Body::UnbindResp,
        ));
        self.close(CloseReason::UnboundByPeer);
    }

    fn bind_request<'a>(
        &mut self,
        sequence_number: u32,
        mode: BindMode,
        bind: Bind<'a>,
    ) -> Event<'a, T> {
        match (&self.role, self.state) {
            (Role::Smsc, State::Open { .. }) => Event::BindRequest {
                sequence_number,
                mode,
                bind,
            },
            (Role::Smsc, _) => {
                let bind = bind_command(mode);
                self.refuse(bind, sequence_number, status::ESME_RALYBND);
                Event::None
            }
            (Role::Esme(_), _) => {
                let bind = bind_command(mode);
                self.refuse(bind, sequence_number, status::ESME_RINVBNDSTS);
                Event::None
            }
        }
    }

    fn send_bind(&mut self, credentials: &Credentials, now: Instant) -> Result<(), EncodeError> {
        let bind = Bind {
            system_id: credentials.system_id.as_bytes(),
            password: credentials.password.as_bytes(),
            system_type: credentials.system_type.as_bytes(),
            interface_version: credentials.interface_version,
            addr_ton: credentials.addr_ton,
            addr_npi: credentials.addr_npi,
            address_range: credentials.address_range.as_bytes(),
        };
        let body = match credentials.mode {
            BindMode::Transmitter => Body::BindTransmitter(bind),
            BindMode::Receiver => Body::BindReceiver(bind),
            BindMode::Transceiver => Body::BindTransceiver(bind),
        };
        let sequence_number = self.take_sequence();
        self.out.push(&Pdu::request(sequence_number, body))?;
        self.counters.pdus_out += 1;
        self.state = State::Binding {
            sequence_number,
            until: now + self.settings.bind,
        };
        Ok(())
    }

    fn check_window(&self) -> Result<(), RequestError> {
        match self.state {
            State::Bound(mode) if self.may_send(mode) => {
                if self.pending.len() >= self.settings.window {
                    return Err(RequestError::WindowFull);
                }
                Ok(())
            }
            State::Bound(_)
            | State::Open { .. }
            | State::Binding { .. }
            | State::Unbinding { .. }
            | State::Leaving { .. }
            | State::Closed(_) => Err(RequestError::NotBound),
        }
    }

    fn may_send(&self, mode: BindMode) -> bool {
        match self.role {
            Role::Esme(_) => mode.transmits(),
            Role::Smsc => mode.receives(),
        }
    }

    fn sent(
        &mut self,
        now: Instant,
        sequence_number: u32,
        command_id: u32,
        begins_at: u64,
        token: T,
    ) {
        let deadline = now + self.settings.response;
        self.counters.pdus_out += 1;
        self.last_message = now;
        self.expiry_check.get_or_insert(deadline);
        self.pending.insert(
            sequence_number,
            Pending {
                token,
                command_id,
                deadline,
                begins_at,
            },
        );
    }

    /// Looks at all requests, but no more than once in a response time: later ones have later deadlines.
    fn expire(&mut self, now: Instant, expired: &mut Vec<T>) {
        let late = self.pending.extract_if(|_, p| p.deadline <= now);
        let mut late: Vec<Pending<T>> = late.map(|(_, p)| p).collect();
        late.sort_unstable_by_key(|p| p.begins_at);
        self.counters.unanswered += late.len() as u64;
        expired.extend(late.into_iter().map(|p| p.token));
        self.expiry_check = self.pending.values().map(|p| p.deadline).min();
    }

    fn enquiry_due(&self) -> Option<Instant> {
        match self.enquiry {
            Some((_, deadline)) => Some(deadline),
            None if self.settings.enquire_link.is_zero() => None,
            None => Some(self.last_received + self.settings.enquire_link),
        }
    }

    fn inactive_at(&self) -> Option<Instant> {
        (!self.settings.inactivity.is_zero()).then(|| self.last_message + self.settings.inactivity)
    }

    fn enquire(&mut self, now: Instant) {
        if self.enquiry.is_some() {
            self.close(CloseReason::EnquireLinkTimeout);
            return;
        }
        let sequence_number = self.take_sequence();
        self.enquiry = Some((sequence_number, now + self.settings.response));
        self.push_request(sequence_number, Body::EnquireLink);
    }

    fn refuse(&mut self, command_id: u32, sequence_number: u32, command_status: u32) {
        self.counters.refused += 1;
        self.push_response(&reject(command_id, sequence_number, command_status));
    }

    fn push_request(&mut self, sequence_number: u32, body: Body<'static>) {
        self.push_response(&Pdu::request(sequence_number, body));
    }

    fn push_response(&mut self, pdu: &Pdu<'_>) {
        self.counters.pdus_out += 1;
        if self.out.push(pdu).is_ok() {
            return;
        }
        let request = pdu.command_id() & !command_id::RESPONSE;
        let fallback = reject(request, pdu.sequence_number, status::ESME_RSYSERR);
        // A PDU without a body always encodes.
        if self.out.push(&fallback).is_err() {
            self.close(CloseReason::Aborted);
        }
    }

    fn take_sequence(&mut self) -> u32 {
        loop {
            let sequence_number = self.next_sequence;
            self.next_sequence = if sequence_number >= SEQUENCE_NUMBER_MAX {
                1
            } else {
                sequence_number + 1
            };
            let enquiring = self
                .enquiry
                .is_some_and(|(ours, _)| ours == sequence_number);
            if !enquiring && !self.pending.contains_key(&sequence_number) {
                return sequence_number;
            }
        }
    }
}

fn bind_command(mode: BindMode) -> u32 {
    match mode {
        BindMode::Transmitter => command_id::BIND_TRANSMITTER,
        BindMode::Receiver => command_id::BIND_RECEIVER,
        BindMode::Transceiver => command_id::BIND_TRANSCEIVER,
    }
}

fn is_bind_resp(body: &Body<'_>) -> bool {
    matches!(
        body,
        Body::BindReceiverResp(_) | Body::BindTransmitterResp(_) | Body::BindTransceiverResp(_)
    )
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;

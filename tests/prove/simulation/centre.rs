//! A message centre that is spoken to over SMPP. The carrier is the real one, with its sessions, windows and
//! places; the network to it delays, falls silent and breaks, between any two octets. The centre is the product's
//! own session in the other role, which `sessions` tries on its own.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use heliograph::carrier::smpp::{ConnectError, Network, Octets, SmppCarrier, SmppConfig};
use heliograph::carrier::{BoxFuture, CarrierEvent, InboundPart};
use heliograph::domain::text::parse_udh;
use heliograph::domain::{CarrierId, PartState, Tlv};
use heliograph::smpp::link::{
    Answer, BindLimits, Inlet, Link, LinkSettings, Reaction, Requests, Responder, link,
};
use heliograph::smpp::pdu::{Bind, Body, Sm, TlvBuf, decode, esm_class, tag};
use heliograph::smpp::session::{BindMode, Role, Settings};
use heliograph::smpp::status;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::{Notify, mpsc};
use tokio::time::Sleep;
use tokio_util::bytes::Bytes;

use super::ledger::number_in;
use super::smsc::{Fate, Pending, RESPONSE_TIMEOUT_MS, plan_receipts};
use super::world::{State, World};

/// Which message a submit_sm is of, says a parameter of the client's. Plugins' answers say it in their text.
const NUMBER_TAG: u16 = 0x1501;
const PIPE_OCTETS: usize = 4_096;
/// One write of so many breaks the connection, somewhere in it.
const WRITES_TO_A_BREAK: u64 = 600;
const ADDRESS: &str = "smsc.example:2775";

pub fn numbered(n: usize) -> Tlv {
    Tlv {
        tag: NUMBER_TAG,
        value: u32::try_from(n).unwrap_or(0).to_be_bytes().to_vec(),
    }
}

/// Messages that were handed to a carrier, and of which nobody knows yet that what became of them is durable.
#[derive(Default)]
pub struct Open {
    handed: BTreeMap<usize, Handed>,
}

struct Handed {
    /// Segments that have come to the centre.
    arrived: BTreeSet<usize>,
    /// Syncs that had been when the carrier said what became of it.
    told: Option<u64>,
}

impl Open {
    pub fn hand(&mut self, n: usize) {
        let handed = Handed {
            arrived: BTreeSet::new(),
            told: None,
        };
        self.handed.insert(n, handed);
    }

    pub fn tell(&mut self, n: usize, syncs: u64) {
        if let Some(handed) = self.handed.get_mut(&n) {
            handed.told = Some(syncs);
        }
    }

    /// Places that are taken at the least: what was told before the last sync may be written down.
    fn arrive(&mut self, n: usize, segment: usize, syncs: u64) -> usize {
        self.handed
            .retain(|_, h| h.told.is_none_or(|at| at == syncs));
        if let Some(handed) = self.handed.get_mut(&n).filter(|h| h.told.is_none()) {
            handed.arrived.insert(segment);
        }
        self.handed.values().map(|h| h.arrived.len()).sum()
    }
}

/// The centre's end, for as long as the server lives.
pub struct Centre {
    id: CarrierId,
    n: usize,
    world: World,
    links: parking_lot::Mutex<Vec<Link>>,
    planned: Arc<Notify>,
}

impl Centre {
    pub fn new(n: usize, id: CarrierId, world: World, planned: Arc<Notify>) -> Arc<Centre> {
        Arc::new(Centre {
            id,
            n,
            world,
            links: parking_lot::Mutex::default(),
            planned,
        })
    }

    /// The real carrier, over this network.
    pub fn carrier(self: &Arc<Self>, events: mpsc::Sender<CarrierEvent>) -> Arc<SmppCarrier> {
        let (seed, window, sessions) = {
            let mut world = self.world.lock();
            let smsc = &world.smscs[self.n];
            let (window, sessions) = (smsc.window, smsc.sessions);
            (world.pick(0..u64::MAX), window, sessions)
        };
        let config = SmppConfig {
            window,
            sessions,
            response_timeout: Duration::from_millis(RESPONSE_TIMEOUT_MS),
            enquire_link: Duration::from_secs(60),
            ..SmppConfig::new(self.id.clone(), ADDRESS, "heliograph", "pw")
        };
        let network = Arc::new(Way(self.clone()));
        SmppCarrier::start_over(network, config, seed, events).expect("a carrier")
    }

    /// All connections break.
    pub fn cut(&self) {
        for link in self.links.lock().drain(..) {
            link.abort();
        }
    }

    /// One that is bound.
    fn link(&self) -> Option<Link> {
        let mut links = self.links.lock();
        links.retain(Link::is_bound);
        let at = self.world.lock().pick(0..links.len().max(1) as u64);
        links.get(usize::try_from(at).unwrap_or(0)).cloned()
    }

    pub fn is_bound(&self) -> bool {
        self.links.lock().iter().any(Link::is_bound)
    }

    /// Whether the server has answered that it has it.
    async fn deliver(&self, sm: Sm<'_>) -> bool {
        let Some(link) = self.link() else {
            return false;
        };
        let mut requests = Requests::new();
        requests.push(&Body::DeliverSm(sm)).expect("a deliver_sm");
        let answers = link.send(requests).await;
        matches!(&answers[..], [Answer::Answered { command_status, .. }] if *command_status == status::ESME_ROK)
    }

    pub async fn deliver_receipt(&self, pending: &Pending) -> bool {
        let (names_handset, by_tlv) = {
            let mut world = self.world.lock();
            (world.smscs[self.n].names_handset, world.chance(30))
        };
        let (word, code) = match pending.state {
            PartState::Delivered => ("DELIVRD", 2),
            PartState::Undeliverable => ("UNDELIV", 5),
            _ => ("ENROUTE", 1),
        };
        let mut tlvs = TlvBuf::new();
        let mut text = String::new();
        if by_tlv {
            let id = [pending.id.as_bytes(), &[0]].concat();
            tlvs.push(tag::RECEIPTED_MESSAGE_ID, &id).expect("an id");
            tlvs.push(tag::MESSAGE_STATE, &[code]).expect("a state");
        } else {
            text = format!(
                "id:{} sub:001 dlvrd:001 submit date:2603010000 done date:2603010001 stat:{word} err:000 text:",
                pending.id
            );
        }
        let (source, destination) = match names_handset {
            true => (&*pending.handset, "60777"),
            false => ("", ""),
        };
        self.deliver(Sm {
            source_addr_ton: 1,
            source_addr_npi: 1,
            source_addr: source.as_bytes(),
            dest_addr_ton: 6,
            destination_addr: destination.as_bytes(),
            esm_class: esm_class::DELIVERY_RECEIPT,
            short_message: text.as_bytes(),
            tlvs: tlvs.as_tlvs(),
            ..Sm::default()
        })
        .await
    }

    pub async fn deliver_part(&self, part: &InboundPart) -> bool {
        let mut short_message = Vec::new();
        let mut class = 0;
        if let Some(concat) = part.concat {
            // 3GPP TS 23.040, 9.2.3.24.8.
            let [high, low] = concat.reference.to_be_bytes();
            short_message = vec![6, 8, 4, high, low, concat.total, concat.index];
            class = esm_class::UDHI;
        }
        short_message.extend_from_slice(&part.payload);
        self.deliver(Sm {
            source_addr_ton: 1,
            source_addr_npi: 1,
            source_addr: part.originator.value.as_bytes(),
            dest_addr_ton: 6,
            destination_addr: part.recipient.value.as_bytes(),
            esm_class: class,
            data_coding: part.data_coding,
            short_message: &short_message,
            ..Sm::default()
        })
        .await
    }

    async fn serve(self: Arc<Self>, wire: Wire, server: Weak<()>) {
        let (events, mut requests) = mpsc::channel(64);
        let settings = LinkSettings {
            session: Settings {
                window: 10,
                response: Duration::from_millis(RESPONSE_TIMEOUT_MS),
                enquire_link: Duration::ZERO,
                ..Settings::default()
            },
            ..LinkSettings::default()
        };
        let desk = Desk(self.clone(), server);
        let Ok((link, driver)) = link(wire, Role::Smsc, settings, desk, events) else {
            return self.world.fault("the centre has no session".to_owned());
        };
        tokio::spawn(driver.run());
        self.links.lock().push(link.clone());
        link.settled().await;
        self.planned.notify_one();
        loop {
            tokio::select! {
                biased;
                Some(submission) = requests.recv() => {
                    tokio::spawn(self.clone().judge(submission));
                }
                _ = link.closed() => return,
            }
        }
    }

    /// Takes a segment or refuses it, and answers or does not.
    async fn judge(self: Arc<Self>, (submission, responder): (Submission, Responder)) {
        self.world.pause(1..300).await;
        if submission.server.strong_count() == 0 {
            let id = &self.id;
            let what = format_args!("{id}: a submit_sm of message {} is lost", submission.n);
            return self.world.note(what);
        }
        let judged = self.judged(&submission);
        let lost = {
            let mut world = self.world.lock();
            let loses = world.smscs[self.n].loses;
            !world.calm && judged.is_ok() && world.chance(loses)
        };
        self.planned.notify_one();
        self.world.pause(1..400).await;
        match judged {
            Ok(_) if lost => drop(responder),
            Ok(id) => responder.message_id(id),
            Err(command_status) => responder.status(command_status),
        }
    }

    fn judged(&self, submission: &Submission) -> Result<String, u32> {
        let mut world = self.world.lock();
        let (n, segment) = (submission.n, submission.segment);
        if let Some(command_status) = world.refusal(self.n, n) {
            return Err(command_status);
        }
        let copy = world.taken(n, segment, submission.segments);
        let (response, receipt) = world.smscs[self.n].next_id();
        world.smscs[self.n]
            .answers
            .insert(response.clone(), (n, copy));
        world.note(format_args!(
            "{}: takes segment {segment} of message {n}, copy {copy}",
            self.id
        ));
        let fate = Fate::drawn(&mut world);
        plan_receipts(
            &mut world,
            self.n,
            (n, copy),
            &receipt,
            &submission.handset,
            fate,
        );
        Ok(response)
    }

    /// It says what somebody wrote, and no more is open than the windows have places.
    fn check(&self, world: &mut State, submission: &Submission) {
        let (n, syncs) = (submission.n, world.syncs);
        let Some(entry) = world.ledger.entries.get(n) else {
            return world.fault(format!("the centre is sent message {n}, which nobody sent"));
        };
        let text = &submission.text;
        let known = entry.text.contains(text) || entry.rewrites.iter().any(|r| r.contains(text));
        if !known {
            world.fault(format!(
                "message {n} arrives as {text:?}, which nobody wrote"
            ));
        }
        let smsc = &mut world.smscs[self.n];
        let window = smsc.window * smsc.sessions;
        let open = smsc.open.arrive(n, submission.segment, syncs);
        if open > window {
            let id = &self.id;
            world.fault(format!(
                "{id}: {open} are open in windows of {window} with message {n}"
            ));
        }
    }
}

/// A submit_sm as the centre reads it.
struct Submission {
    n: usize,
    segment: usize,
    segments: usize,
    text: String,
    handset: String,
    /// Who sent it, while its end of the connection is there.
    server: Weak<()>,
}

impl Submission {
    fn read(sm: &Sm<'_>, server: &Weak<()>) -> Option<Submission> {
        let (text, concat) = match sm.has_udh() {
            false => (sm.short_message, None),
            true => {
                let (udh, text) = parse_udh(sm.short_message).ok()?;
                (text, udh.concat().ok()?)
            }
        };
        let (segment, segments) = concat.map_or((0, 1), |c| {
            (usize::from(c.index.saturating_sub(1)), usize::from(c.total))
        });
        let text = String::from_utf8_lossy(text).into_owned();
        let n = match sm.tlvs.integer(NUMBER_TAG) {
            Some(n) => usize::try_from(n).ok()?,
            None => number_in(&text)?,
        };
        Some(Submission {
            n,
            segment,
            segments,
            text,
            handset: String::from_utf8_lossy(sm.destination_addr).into_owned(),
            server: server.clone(),
        })
    }
}

/// What the centre's sessions ask.
struct Desk(Arc<Centre>, Weak<()>);

impl Inlet for Desk {
    type Event = (Submission, Responder);

    fn bind(&mut self, _: BindMode, bind: &Bind<'_>) -> Result<BindLimits, u32> {
        let mut world = self.0.world.lock();
        if bind.system_id != b"heliograph" || bind.password != b"pw" {
            world.fault("a bind names somebody else".to_owned());
            return Err(status::ESME_RINVPASWD);
        }
        if !world.calm && world.chance(10) {
            return Err(status::ESME_RSYSERR);
        }
        Ok(BindLimits::default())
    }

    fn request(
        &mut self,
        frame: &Bytes,
        body: &Body<'_>,
        responder: Responder,
    ) -> Reaction<(Submission, Responder)> {
        let submission = match body {
            Body::SubmitSm(sm) => Submission::read(sm, &self.1),
            _ => None,
        };
        match submission {
            Some(submission) => {
                self.0.check(&mut self.0.world.lock(), &submission);
                Reaction::Forward((submission, responder))
            }
            None => {
                let what = format!("{:?}", decode(frame).map(|pdu| pdu.command_id()));
                self.0.world.fault(format!("the centre cannot read {what}"));
                Reaction::Respond {
                    command_status: status::ESME_RINVCMDID,
                }
            }
        }
    }
}

/// The network between the two.
struct Way(Arc<Centre>);

impl Network for Way {
    fn connect<'a>(
        &'a self,
        _: &'a SmppConfig,
        _: &'a str,
    ) -> BoxFuture<'a, Result<Box<dyn Octets>, ConnectError>> {
        Box::pin(async move {
            let centre = &self.0;
            centre.world.pause(1..200).await;
            if !centre.world.lock().smscs[centre.n].up {
                let refused = io::ErrorKind::ConnectionRefused.into();
                return Err(ConnectError::Connect(refused));
            }
            let (ours, theirs) = tokio::io::duplex(PIPE_OCTETS);
            let end = |stream| Wire {
                stream,
                world: centre.world.clone(),
                n: centre.n,
                broken: false,
                silence: None,
                alive: Arc::default(),
            };
            let ours = end(ours);
            let server = Arc::downgrade(&ours.alive);
            tokio::spawn(centre.clone().serve(end(theirs), server));
            Ok(Box::new(ours) as Box<dyn Octets>)
        })
    }
}

/// One end of a connection.
struct Wire {
    stream: DuplexStream,
    world: World,
    n: usize,
    broken: bool,
    silence: Option<Pin<Box<Sleep>>>,
    alive: Arc<()>,
}

impl Wire {
    /// While the network is silent nothing goes through it, and what waits then never will.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if let Some(silence) = &mut self.silence {
                ready!(silence.as_mut().poll(cx));
                self.silence = None;
                self.broken = true;
            }
            if self.broken {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            let left = {
                let world = self.world.lock();
                world.smscs[self.n]
                    .silent_until
                    .saturating_sub(world.now_ms())
            };
            if left == 0 {
                return Poll::Ready(Ok(()));
            }
            self.silence = Some(Box::pin(tokio::time::sleep(Duration::from_millis(left))));
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_open(cx))?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(cx))?;
        let through = {
            let mut world = self.world.lock();
            let breaks = !world.calm && world.pick(0..WRITES_TO_A_BREAK) == 0;
            breaks.then(|| world.pick(0..octets.len() as u64 + 1))
        };
        let Some(through) = through else {
            return Pin::new(&mut self.stream).poll_write(cx, octets);
        };
        // It ends somewhere in these.
        self.broken = true;
        let octets = &octets[..usize::try_from(through).unwrap_or(0)];
        if octets.is_empty() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.stream).poll_write(cx, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

//! The clients of a soak: applications over HTTP and over SMPP that submit at a rate which follows the hours of
//! the day, come back when the server went away, and take their receipts.

use std::f64::consts::TAU;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use heliograph::carrier::simulator::message_key;
use heliograph::smpp::pdu::{Bind, Body, Sm};
use rusmpp::{Command, CommandId, CommandStatus, Pdu};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc};

use super::books::{Books, End};
use crate::esme::{encoded, message_id};
use crate::smsc::Session;
use crate::{Connection, KEY, bearer};

/// What is to become of a message, said by its number of a hundred and carried out by its recipient's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// By the good carrier.
    Good,
    /// By the carrier whose receipts come hours later.
    Late,
    /// By the carrier that flaps, or the good one.
    FailOver,
    /// By the carrier that flaps, which is away for hours.
    Waiting,
    /// Nobody is ever there: repeated until its validity ends.
    Away,
    /// For some hours later.
    Scheduled,
    Undeliverable,
    /// Expires at its carrier.
    Expires,
    /// Taken, and never heard of again.
    Mute,
}

const EARLY: &[Fate] = &[
    Fate::Good,
    Fate::Late,
    Fate::FailOver,
    Fate::Waiting,
    Fate::Undeliverable,
];

impl Fate {
    fn of(n: u64, mute: bool) -> Fate {
        match n % 100 {
            0..60 => Fate::Good,
            60..80 => Fate::Late,
            80..90 => Fate::FailOver,
            90..93 => Fate::Waiting,
            93 | 94 => Fate::Away,
            95 | 96 => Fate::Scheduled,
            97 => Fate::Undeliverable,
            98 => Fate::Expires,
            _ if mute => Fate::Mute,
            _ => Fate::Good,
        }
    }

    /// Two digits of its recipients' numbers, after 44770.
    pub fn prefix(self) -> &'static str {
        match self {
            Fate::Good | Fate::Scheduled => "00",
            Fate::Late => "01",
            Fate::FailOver => "02",
            Fate::Waiting => "03",
            Fate::Away => "04",
            Fate::Undeliverable => "05",
            Fate::Expires => "06",
            Fate::Mute => "07",
        }
    }

    pub fn end(self) -> End {
        match self {
            Fate::Good | Fate::Late | Fate::FailOver | Fate::Waiting | Fate::Scheduled => {
                End::Delivered
            }
            Fate::Away | Fate::Expires => End::Expired,
            Fate::Undeliverable => End::Failed,
            Fate::Mute => End::Unknown,
        }
    }
}

struct Submission {
    fate: Fate,
    to: String,
    text: String,
    /// As a carrier counts it; 0 where it has several segments.
    key: u64,
}

impl Submission {
    fn new(n: u64, fate: Fate) -> Submission {
        let to = format!("44770{}{:05}", fate.prefix(), n % 100_000);
        let (text, key) = match n % 23 {
            0 => (format!("{n:<160}{n:<20}"), 0),
            _ => {
                let text = format!("soak {n}");
                let key = message_key(to.as_bytes(), None, text.as_bytes());
                (text, key)
            }
        };
        Submission {
            fate,
            to,
            text,
            key,
        }
    }

    fn json(&self, n: u64) -> Value {
        let mut body = json!({ "to": format!("+{}", self.to), "from": "60777", "text": self.text });
        match self.fate {
            Fate::Away | Fate::Mute => body["validity_seconds"] = json!(3 * 3_600),
            _ => {}
        }
        if n.is_multiple_of(4) {
            body["metadata"] = json!({ "order": n.to_string() });
        }
        body
    }
}

/// What all clients share.
pub struct Clients {
    pub books: Arc<Books>,
    pub http: String,
    pub smpp: String,
    /// Messages that nobody ever hears of again are left out towards the end, and before a restart, in which they
    /// would expire unsent.
    pub mute: AtomicBool,
    /// The receiver is unbound.
    pub receiver_away: AtomicBool,
    /// Time as the server has it.
    pub now_ms: Box<dyn Fn() -> u64 + Send + Sync>,
    pub skipped: AtomicU64,
}

type Feed = Arc<Mutex<mpsc::Receiver<u64>>>;

impl Clients {
    /// What was due and not taken.
    pub fn left_out(&self) -> u64 {
        self.skipped.load(Relaxed) + self.books.refused.load(Relaxed)
    }
}

/// So many that it is the server that sets their speed: each waits for its answer before it submits again.
const HTTP_CLIENTS: usize = 64;
const SMPP_CLIENTS: usize = 16;
/// Submissions that wait for a client, so that a pause of a moment leaves out nothing that is made up for then.
const WAITING_HTTP: usize = 4_000;
const WAITING_SMPP: usize = 1_000;
/// One of so many goes over SMPP.
pub const SMPP_SHARE: u64 = 5;

/// The clients at work, until it is dropped or stopped.
pub struct Load {
    tasks: Vec<tokio::task::JoinHandle<()>>,
    to_http: mpsc::Sender<u64>,
    to_smpp: mpsc::Sender<u64>,
    next: u64,
}

impl Load {
    pub fn start(clients: &Arc<Clients>) -> Load {
        let (to_http, http) = mpsc::channel(WAITING_HTTP);
        let (to_smpp, smpp) = mpsc::channel(WAITING_SMPP);
        let (http, smpp): (Feed, Feed) = (Arc::new(Mutex::new(http)), Arc::new(Mutex::new(smpp)));
        let mut tasks = Vec::new();
        for _ in 0..HTTP_CLIENTS {
            tasks.push(tokio::spawn(http_client(clients.clone(), http.clone())));
        }
        for _ in 0..SMPP_CLIENTS {
            tasks.push(tokio::spawn(smpp_client(clients.clone(), smpp.clone())));
        }
        Load {
            tasks,
            to_http,
            to_smpp,
            next: 1,
        }
    }

    fn feed(&self, n: u64) -> &mpsc::Sender<u64> {
        match n % SMPP_SHARE {
            0 => &self.to_smpp,
            _ => &self.to_http,
        }
    }

    /// As much as it takes, for so long; how many.
    pub async fn flood(&mut self, time: Duration) -> u64 {
        let (first, end) = (self.next, Instant::now() + time);
        while Instant::now() < end {
            let _ = self.feed(self.next).send(self.next).await;
            self.next += 1;
        }
        self.next - first
    }

    /// So many a second until `end`, more at three in the afternoon than at three in the night. What would wait
    /// for more than about a second is skipped.
    pub async fn days(
        &mut self,
        per_second: f64,
        day: Duration,
        until: Duration,
        skipped: &AtomicU64,
    ) {
        let began = Instant::now();
        let mut owed = 0.0;
        let mut last = began;
        while began.elapsed() < until {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let now = Instant::now();
            let of_day = (now - began).as_secs_f64() / day.as_secs_f64();
            // A minimum at 03:00, of a quarter; a maximum at 15:00.
            let share = 1.0 - 0.75 * (TAU * (of_day - 3.0 / 24.0)).cos();
            owed += per_second * share * (now - last).as_secs_f64();
            last = now;
            while owed >= 1.0 {
                owed -= 1.0;
                if self.feed(self.next).try_send(self.next).is_err() {
                    skipped.fetch_add(1, Relaxed);
                }
                self.next += 1;
            }
        }
    }

    /// Nothing more; what is under way is answered first.
    pub async fn stop(self) {
        drop((self.to_http, self.to_smpp));
        for task in self.tasks {
            task.await.expect("a client that does not panic");
        }
    }
}

const RECONNECT: Duration = Duration::from_millis(50);
const ANSWER: Duration = Duration::from_secs(20);

async fn http_client(clients: Arc<Clients>, feed: Feed) {
    let books = &clients.books;
    let mut connection = None;
    loop {
        let Some(n) = feed.lock().await.recv().await else {
            return;
        };
        let submission = Submission::new(n, Fate::of(n, clients.mute.load(Relaxed)));
        let mut body = submission.json(n);
        if submission.fate == Fate::Scheduled {
            let at = (clients.now_ms)() + (1 + n % 4) * 3_600_000;
            let at = jiff::Timestamp::from_millisecond(at.cast_signed()).expect("a time");
            body["send_at"] = json!(at.to_string());
        }
        let body = body.to_string().into_bytes();
        let authorization = bearer(KEY);
        let idempotency = format!("soak-{n}");
        let mut headers = vec![("authorization", authorization.as_str())];
        // These are asked for again where the server went away before it answered.
        let repeats = n % 3 == 0;
        if repeats {
            headers.push(("idempotency-key", idempotency.as_str()));
        }
        loop {
            let Some(open) = &mut connection else {
                match Connection::open(&clients.http).await {
                    Ok(opened) => connection = Some(opened),
                    Err(_) => tokio::time::sleep(RECONNECT).await,
                }
                continue;
            };
            let body = Some(body.clone());
            match open.call("POST", "/v1/messages", body, &headers).await {
                Ok((202, _, answer)) => {
                    let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
                    let id = answer["id"].as_str().unwrap_or_default();
                    books.accept(id, submission.fate, false, submission.key);
                }
                Ok((429 | 503, ..)) => {
                    books.refused.fetch_add(1, Relaxed);
                    tokio::time::sleep(RECONNECT).await;
                }
                // The request before this one is still under way.
                Ok((409, ..)) if repeats => {
                    tokio::time::sleep(RECONNECT).await;
                    continue;
                }
                Ok((status, _, answer)) => {
                    let text = String::from_utf8_lossy(&answer);
                    books.fault(format!("a submission was answered {status} {text}"));
                }
                Err(_) => {
                    connection = None;
                    if repeats {
                        continue;
                    }
                    books.unanswered.fetch_add(1, Relaxed);
                }
            }
            break;
        }
    }
}

async fn bound(address: &str, receiver: bool) -> Option<Session> {
    let stream = TcpStream::connect(address).await.ok()?;
    let mut session = Session::over(Box::new(stream));
    let bind = Bind {
        system_id: b"app",
        password: b"secret",
        interface_version: 0x34,
        ..Bind::default()
    };
    let bind = match receiver {
        true => Body::BindReceiver(bind),
        false => Body::BindTransmitter(bind),
    };
    session.stream.write_all(&encoded(1, &bind)).await.ok()?;
    let answer = tokio::time::timeout(ANSWER, session.hear()).await.ok()??;
    (answer.status == CommandStatus::EsmeRok).then_some(session)
}

/// Waits until it is bound.
async fn bound_again(address: &str, receiver: bool) -> Session {
    loop {
        match bound(address, receiver).await {
            Some(session) => return session,
            None => tokio::time::sleep(RECONNECT).await,
        }
    }
}

/// The answer to `sequence`; enquire_link is answered meanwhile.
async fn answer_to(session: &mut Session, sequence: u32) -> Option<Command> {
    loop {
        let heard = tokio::time::timeout(ANSWER, session.hear()).await.ok()??;
        if heard.sequence_number == sequence && heard.id() == CommandId::SubmitSmResp {
            return Some(heard);
        }
        reply(session, &heard).await?;
    }
}

/// Answers enquire_link and unbind; nothing where the session is over.
async fn reply(session: &mut Session, heard: &Command) -> Option<()> {
    let (resp, last) = match heard.pdu() {
        Some(Pdu::EnquireLink) => (Pdu::EnquireLinkResp, false),
        Some(Pdu::Unbind) => (Pdu::UnbindResp, true),
        _ => return Some(()),
    };
    let resp = Command::new(CommandStatus::EsmeRok, heard.sequence_number, resp);
    session.try_say(resp).await?;
    (!last).then_some(())
}

/// Waits for the next number; a session that is over meanwhile is let go.
async fn next_of(feed: &Feed, session: &mut Option<Session>) -> Option<u64> {
    let next = async { feed.lock().await.recv().await };
    tokio::pin!(next);
    loop {
        let Some(open) = session else {
            return next.await;
        };
        let heard = tokio::select! {
            biased;
            n = &mut next => return n,
            // It gives up after a minute of silence, before which there is an enquire_link.
            heard = open.hear() => heard,
        };
        let goes_on = match heard {
            Some(heard) => reply(open, &heard).await,
            None => None,
        };
        if goes_on.is_none() {
            *session = None;
        }
    }
}

async fn smpp_client(clients: Arc<Clients>, feed: Feed) {
    let books = &clients.books;
    let mut session = None;
    let mut sequence = 1;
    while let Some(n) = next_of(&feed, &mut session).await {
        let fate = EARLY[(n / SMPP_SHARE) as usize % EARLY.len()];
        let submission = Submission::new(n, fate);
        let mut open = match session.take() {
            Some(open) => open,
            None => bound_again(&clients.smpp, false).await,
        };
        sequence += 1;
        let sm = Body::SubmitSm(Sm {
            source_addr: b"60777",
            dest_addr_ton: 1,
            dest_addr_npi: 1,
            destination_addr: submission.to.as_bytes(),
            registered_delivery: 1,
            short_message: submission.text.as_bytes(),
            ..Sm::default()
        });
        let sent = open.stream.write_all(&encoded(sequence, &sm)).await;
        let answer = match sent {
            Ok(()) => answer_to(&mut open, sequence).await,
            Err(_) => None,
        };
        let Some(answer) = answer else {
            books.unanswered.fetch_add(1, Relaxed);
            continue;
        };
        session = Some(open);
        match answer.status {
            CommandStatus::EsmeRok => {
                books.accept(&message_id(&answer), fate, true, submission.key);
            }
            CommandStatus::EsmeRthrottled | CommandStatus::EsmeRmsgqful => {
                books.refused.fetch_add(1, Relaxed);
                tokio::time::sleep(RECONNECT).await;
            }
            // It is about to unbind.
            CommandStatus::EsmeRsyserr | CommandStatus::EsmeRxTAppn => {
                books.refused.fetch_add(1, Relaxed);
                session = None;
            }
            status => books.fault(format!("a submit_sm was answered {status:?}")),
        }
    }
}

/// Takes receipts over SMPP whenever it is not away. Until it is aborted.
pub async fn receiver(clients: Arc<Clients>) {
    loop {
        while clients.receiver_away.load(Relaxed) {
            tokio::time::sleep(RECONNECT).await;
        }
        let mut session = bound_again(&clients.smpp, true).await;
        while !clients.receiver_away.load(Relaxed) {
            let heard = match tokio::time::timeout(RECONNECT, session.hear()).await {
                // Nothing yet.
                Err(_) => continue,
                Ok(None) => break,
                Ok(Some(heard)) => heard,
            };
            let answer = match heard.pdu() {
                Some(Pdu::DeliverSm(sm)) => {
                    let text = String::from_utf8_lossy(sm.short_message().as_ref()).into_owned();
                    clients.books.receipt(&text);
                    rusmpp::pdus::DeliverSmResp::default().into()
                }
                Some(Pdu::EnquireLink) => Pdu::EnquireLinkResp,
                Some(Pdu::Unbind) => Pdu::UnbindResp,
                _ => continue,
            };
            let answer = Command::new(CommandStatus::EsmeRok, heard.sequence_number, answer);
            if session.try_say(answer).await.is_none() {
                break;
            }
        }
    }
}

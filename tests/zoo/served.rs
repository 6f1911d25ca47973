//! A server with its own SMPP listener under siege: a wild account's ESMEs do what their scenario says,
//! while another account goes on submitting over SMPP and over HTTP and must not notice.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use heliograph::smpp::pdu::{Body, Sm};
use heliograph_tests::esme::{Esme, Mode};
use heliograph_tests::{Plan, Rig, Traffic, eventually, free_address, sms};
use rusmpp::pdus::DeliverSm;
use rusmpp::{Command, CommandStatus};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::HANDSET;

/// The key of the wild account over HTTP.
pub const WILD_KEY: &str = "hg_test_key_of_the_wild_00000000000000000000000000000000";
/// Between an answer and the next submission of the ordinary ESME.
const PAUSE: Duration = Duration::from_millis(20);

/// Where the ordinary ESME connects, and how.
pub struct SecureDoor {
    pub address: String,
    pub connector: TlsConnector,
}

/// What a siege is made of.
#[derive(Default)]
pub struct Siege {
    /// Lines of `[smpp]` beside `listen`.
    pub smpp: String,
    /// Lines of the wild system_id.
    pub wild: String,
    pub files: Vec<(String, Vec<u8>)>,
    /// Where the ordinary ESME connects with TLS; none: to `listen`, without.
    pub door: Option<SecureDoor>,
}

impl Siege {
    /// With these lines of the wild system_id.
    pub fn of(wild: &str) -> Siege {
        Siege {
            wild: wild.to_owned(),
            ..Siege::default()
        }
    }
}

pub struct Wild {
    pub rig: Rig,
    /// Of `[smpp] listen`.
    pub address: String,
    /// Messages that a scenario submitted over HTTP besides.
    pub beside: u64,
    traffic: Traffic,
    ordinary: Ordinary,
    rss_before: u64,
}

impl Wild {
    pub async fn open(siege: Siege) -> Wild {
        let address = free_address().await;
        let Siege {
            smpp,
            wild,
            files,
            door,
        } = siege;
        let system = |id: &str, extra: &str| {
            format!(
                "[[accounts.smpp]]\nsystem_id = \"{id}\"\npassword = \"literal:secret\"\n{extra}\n"
            )
        };
        let rig = Rig::start(Plan {
            config_extra: format!(
                "[smpp]\nlisten = \"{address}\"\n{smpp}\n\
                 [[accounts]]\nid = \"wild\"\nkeys = [\"literal:{WILD_KEY}\"]\n{}",
                system("wild", &wild)
            ),
            account_extra: system("good", ""),
            files,
            ..Plan::default()
        })
        .await;
        let traffic = Traffic::start(&rig, 1, |n| sms(HANDSET, &format!("harmless {n}")));
        let wild = Wild {
            ordinary: Ordinary::start(address.clone(), door),
            traffic,
            address,
            beside: 0,
            rss_before: 0,
            rig,
        };
        // What the first messages cost is the server's own.
        wild.traffic_flows().await;
        Wild {
            rss_before: wild.rig.rss_mib(),
            ..wild
        }
    }

    /// A session of the wild ESME.
    pub async fn bound(&self, mode: Mode) -> Esme {
        Esme::bound(&self.address, mode, "wild").await
    }

    pub async fn connect(&self) -> Esme {
        Esme::connect(&self.address).await
    }

    /// The session still works, whatever was sent on it.
    pub async fn goes_on(&self, esme: &mut Esme) {
        esme.submit(&text("still here")).await;
    }

    pub async fn counted(&self, what: &str) -> u64 {
        let what = format!("what=\"{what}\"");
        self.rig
            .metric(&["heliograph_esme_wire_total", &what])
            .await as u64
    }

    /// Waits until `what` has been counted so often.
    pub async fn counts(&self, what: &str, least: u64) {
        eventually(&format!("{least} {what}"), async || {
            (self.counted(what).await >= least).then_some(())
        })
        .await;
    }

    /// What the system_id `id` did.
    pub async fn of(&self, id: &str, what: &str) -> u64 {
        let (id, what) = (format!("system_id=\"{id}\""), format!("what=\"{what}\""));
        self.rig
            .metric(&["heliograph_esme_total", &id, &what])
            .await as u64
    }

    pub fn assert_growth(&self, max_mib: u64) {
        let now = self.rig.rss_mib();
        assert!(
            now <= self.rss_before + max_mib,
            "grew from {} to {now} MiB",
            self.rss_before
        );
    }

    /// The ordinary clients have answers, over SMPP and over HTTP.
    pub async fn traffic_flows(&self) {
        let (http, smpp) = (self.traffic.begun(), self.ordinary.submitted.load(Relaxed));
        eventually("traffic flows", async || {
            let more = self.ordinary.submitted.load(Relaxed) > smpp + 2;
            (self.traffic.begun() > http + 2 && more).then_some(())
        })
        .await;
    }

    /// Nothing of the ordinary clients' was refused, lost or sent twice; its one session never ended;
    /// what the wild ESME was told is taken was sent too; the server is the process that it was.
    pub async fn close(self) {
        self.close_within(48).await;
    }

    pub async fn close_within(mut self, max_mib: u64) {
        self.traffic_flows().await;
        self.assert_growth(max_mib);
        assert_eq!(self.of("good", "binds").await, 1, "its session ended");
        let submitted = self.ordinary.stop().await;
        let sent = self.traffic.stop().await;
        assert!(
            sent.refused.is_empty() && sent.unanswered.is_empty(),
            "{:?} {:?}",
            sent.refused,
            sent.unanswered
        );
        assert!(self.rig.is_running(), "the server ended");
        let metric = [
            "heliograph_esme_total",
            "system_id=\"wild\"",
            "\"accepted\"",
        ];
        let wild = self.rig.metric(&metric).await as u64;
        let taken = sent.accepted.len() as u64 + submitted.len() as u64 + wild + self.beside;
        let simulator = &self.rig.simulators[0];
        eventually("everything that was taken is sent", async || {
            (simulator.counters().accepted >= taken).then_some(())
        })
        .await;
        let counters = simulator.counters();
        assert_eq!((counters.accepted, counters.binds), (taken, 1));
        let log = self.rig.log();
        assert!(!log.contains("panicked"), "{log}");
    }
}

/// An ESME as there are thousands: submits, takes its receipts.
struct Ordinary {
    stop: Arc<AtomicBool>,
    submitted: Arc<AtomicUsize>,
    task: JoinHandle<Vec<String>>,
}

impl Ordinary {
    fn start(address: String, door: Option<SecureDoor>) -> Ordinary {
        let (stop, submitted) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let task = tokio::spawn(ordinary(address, door, stop.clone(), submitted.clone()));
        Ordinary {
            stop,
            submitted,
            task,
        }
    }

    /// The messages that were taken, all of them reported.
    async fn stop(self) -> Vec<String> {
        self.stop.store(true, Relaxed);
        self.task.await.expect("an ESME that loses nothing")
    }
}

async fn ordinary(
    address: String,
    door: Option<SecureDoor>,
    stop: Arc<AtomicBool>,
    submitted: Arc<AtomicUsize>,
) -> Vec<String> {
    let mut esme = match door {
        None => Esme::connect(&address).await,
        Some(door) => secure(&door.address, &door.connector).await,
    };
    let status = esme.bind(Mode::Transceiver, "good", "secret").await;
    assert_eq!(status, CommandStatus::EsmeRok);
    let (mut ids, mut reported) = (Vec::new(), HashSet::new());
    while !stop.load(Relaxed) {
        ids.push(esme.submit(&text("ordinary")).await);
        submitted.fetch_add(1, Relaxed);
        while let Some(receipt) = esme.delivery_at_hand().await {
            reported.insert(delivered(&receipt));
        }
        tokio::time::sleep(PAUSE).await;
    }
    while !ids.iter().all(|id| reported.contains(id)) {
        reported.insert(delivered(&esme.delivery(CommandStatus::EsmeRok).await));
    }
    esme.unbind().await;
    ids
}

/// Over TLS to `localhost` at `address`.
pub async fn secure(address: &str, connector: &TlsConnector) -> Esme {
    let stream = TcpStream::connect(address).await.expect("a connection");
    let name = "localhost".try_into().expect("a name");
    let stream = connector.connect(name, stream).await.expect("a handshake");
    Esme::over(Box::new(stream))
}

/// The id in a receipt that says DELIVRD.
fn delivered(receipt: &DeliverSm) -> String {
    let text = String::from_utf8(receipt.short_message().as_ref().to_vec()).expect("ASCII");
    assert!(text.contains(" stat:DELIVRD "), "{text}");
    text[3..35].to_owned()
}

/// A submission that is good; scenarios change what they are about.
pub fn text(text: &str) -> Sm<'_> {
    Sm {
        source_addr_ton: 5,
        source_addr: b"Acme",
        dest_addr_ton: 1,
        dest_addr_npi: 1,
        destination_addr: b"447700900123",
        registered_delivery: 1,
        short_message: text.as_bytes(),
        ..Sm::default()
    }
}

/// The same, and no receipt for it.
pub fn quiet(words: &str) -> Sm<'_> {
    Sm {
        registered_delivery: 0,
        ..text(words)
    }
}

/// A PDU whose body nobody checks.
pub fn raw(command_id: u32, sequence: u32, body: &[u8]) -> Vec<u8> {
    let mut out = ((16 + body.len()) as u32).to_be_bytes().to_vec();
    for word in [command_id, 0, sequence] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    out.extend_from_slice(body);
    out
}

/// Sends a request that is octets, and returns its answer.
pub async fn answered(esme: &mut Esme, sequence: u32, pdu: &[u8]) -> Command {
    esme.write(pdu).await;
    let answer = esme.response().await;
    assert_eq!(answer.sequence_number, sequence, "{answer:?}");
    answer
}

pub fn status_of(answer: &Command) -> u32 {
    answer.status.into()
}

/// Reads until the server closes; what it said last.
pub async fn last_words(esme: &mut Esme) -> Option<Command> {
    let mut last = None;
    while let Some(command) = esme.session.hear().await {
        last = Some(command);
    }
    last
}

/// Octets of a good submission with another body.
pub fn submission(sequence: u32, sm: Sm<'_>) -> Vec<u8> {
    heliograph_tests::esme::encoded(sequence, &Body::SubmitSm(sm))
}

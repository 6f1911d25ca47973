//! The ledger of a soak: what was acknowledged, what its webhook said became of it, and what its receipt over
//! SMPP said; and the webhook target that writes into it. An entry is a few octets, because there are millions.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use heliograph::carrier::simulator::Keys;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::net::TcpListener;

use super::traffic::Fate;

/// How a message ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Delivered,
    Failed,
    Expired,
    /// Nobody ever said.
    Unknown,
}

impl End {
    fn of_type(kind: &str) -> Option<End> {
        Some(match kind {
            "message.delivered" => End::Delivered,
            "message.undeliverable" | "message.rejected" => End::Failed,
            "message.expired" => End::Expired,
            "message.unknown" => End::Unknown,
            _ => return None,
        })
    }

    fn of_stat(stat: &str) -> Option<End> {
        Some(match stat {
            "DELIVRD" => End::Delivered,
            "UNDELIV" | "REJECTD" => End::Failed,
            "EXPIRED" => End::Expired,
            "UNKNOWN" => End::Unknown,
            _ => return None,
        })
    }
}

#[derive(Clone, Copy, Default)]
struct Entry {
    accepted: Option<Accepted>,
    webhook: Option<End>,
    receipt: Option<End>,
}

#[derive(Clone, Copy)]
struct Accepted {
    fate: Fate,
    by_smpp: bool,
    /// As a carrier would count it; 0 where it has several segments.
    key: u64,
}

#[derive(Default)]
pub struct Books {
    entries: Mutex<HashMap<u128, Entry>>,
    pub accepted: AtomicU64,
    pub refused: AtomicU64,
    /// Cut off: the server may have them or not.
    pub unanswered: AtomicU64,
    pub inbound: AtomicU64,
    /// The target refuses everything.
    pub away: AtomicBool,
    ended: AtomicU64,
    pub again: AtomicU64,
    faults: Mutex<Vec<String>>,
}

const FAULTS_MAX: usize = 1_000;

fn id_of(text: &str) -> Option<u128> {
    u128::from_str_radix(text, 16).ok()
}

impl Books {
    pub fn fault(&self, what: String) {
        let mut faults = self.faults.lock();
        if faults.len() < FAULTS_MAX {
            faults.push(what);
        }
    }

    pub fn faults(&self) -> Vec<String> {
        self.faults.lock().clone()
    }

    /// An acknowledgement; the same id twice is one message, as an Idempotency-Key has it.
    pub fn accept(&self, id: &str, fate: Fate, by_smpp: bool, key: u64) {
        let Some(number) = id_of(id) else {
            return self.fault(format!("{id} is no id"));
        };
        let mut entries = self.entries.lock();
        let entry = entries.entry(number).or_default();
        let accepted = Accepted { fate, by_smpp, key };
        if entry.accepted.replace(accepted).is_none() {
            self.accepted.fetch_add(1, Relaxed);
        }
    }

    fn note(&self, id: &str, end: End, slot: impl Fn(&mut Entry) -> &mut Option<End>) {
        let Some(number) = id_of(id) else {
            return self.fault(format!("{id} is no id"));
        };
        let mut entries = self.entries.lock();
        let before = slot(entries.entry(number).or_default()).replace(end);
        drop(entries);
        match before {
            None => {}
            Some(before) if before == end => {
                self.again.fetch_add(1, Relaxed);
            }
            Some(before) => self.fault(format!("{id} was {before:?} and then {end:?}")),
        }
    }

    fn webhook(&self, body: &[u8]) {
        let json: Value = serde_json::from_slice(body).unwrap_or_default();
        let kind = json["type"].as_str().unwrap_or_default();
        if kind == "message.received" {
            self.inbound.fetch_add(1, Relaxed);
        } else if let (Some(end), Some(id)) = (End::of_type(kind), json["data"]["id"].as_str()) {
            self.ended.fetch_add(1, Relaxed);
            self.note(id, end, |entry| &mut entry.webhook);
        }
    }

    /// The text of a receipt (SMPP 3.4, Appendix B).
    pub fn receipt(&self, text: &str) {
        let field = |name: &str| text.split(' ').find_map(|word| word.strip_prefix(name));
        let end = field("stat:").and_then(End::of_stat);
        if let (Some(id), Some(end)) = (field("id:"), end) {
            self.note(id, end, |entry| &mut entry.receipt);
        }
    }

    /// Webhooks of ends so far.
    pub fn ended(&self) -> u64 {
        self.ended.load(Relaxed)
    }

    /// Messages that something is still missing of.
    pub fn open(&self) -> usize {
        self.entries.lock().values().filter(|e| e.is_open()).count()
    }

    /// How many acknowledged messages never had an end, or went nowhere though they are said to be delivered; and
    /// how many ended as unknown because a window that broke had them.
    pub fn lost(&self, keys: &[Keys], faults: &mut Vec<String>) -> (usize, usize) {
        let (mut lost, mut unknown) = (0, 0);
        for (id, entry) in &*self.entries.lock() {
            let Some(accepted) = entry.accepted else {
                continue;
            };
            let what = format!("{id:032x} ({:?})", accepted.fate);
            if entry.is_open() {
                lost += 1;
                faults.push(format!(
                    "{what} was told as {:?} by webhook and as {:?} by receipt",
                    entry.webhook, entry.receipt
                ));
                continue;
            }
            let nowhere = || !keys.iter().any(|keys| keys.contains_key(&accepted.key));
            if entry.webhook == Some(End::Delivered) && accepted.key != 0 && nowhere() {
                lost += 1;
                faults.push(format!("{what} is delivered and no carrier has it"));
            }
            let ends = || [entry.webhook, entry.receipt].into_iter().flatten();
            if accepted.fate == Fate::Away && ends().all(|end| end == End::Unknown) {
                unknown += 1;
            } else if let Some(end) = ends().find(|end| *end != accepted.fate.end()) {
                faults.push(format!("{what} ended as {end:?}"));
            }
        }
        (lost, unknown)
    }
}

impl Entry {
    fn is_open(&self) -> bool {
        let of = |a: Accepted| self.webhook.is_none() || (a.by_smpp && self.receipt.is_none());
        self.accepted.is_some_and(of)
    }
}

/// Serves the webhook target; returns its URL.
pub async fn target(books: Arc<Books>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let books = books.clone();
            let service = service_fn(move |request| take(request, books.clone()));
            let served = hyper::server::conn::http1::Builder::new();
            tokio::spawn(served.serve_connection(TokioIo::new(stream), service));
        }
    });
    format!("http://{address}/hook")
}

async fn take(
    request: hyper::Request<Incoming>,
    books: Arc<Books>,
) -> Result<hyper::Response<Full<Bytes>>, hyper::Error> {
    let body = request.into_body().collect().await?.to_bytes();
    let mut response = hyper::Response::new(Full::new(Bytes::new()));
    if books.away.load(Relaxed) {
        *response.status_mut() = hyper::StatusCode::SERVICE_UNAVAILABLE;
    } else {
        books.webhook(&body);
    }
    Ok(response)
}

//! Statement 8. Whatever comes in over HTTP has its written outcome and costs nobody else anything: a client that
//! behaves goes on beside it, on the connection it keeps and on new ones, and nothing of its is lost or doubled.

mod connections;
mod keys;
mod requests;
mod targets;
mod tenants;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;

use super::offer::p99;
use super::{Outcome, Part, Statement};
use crate::{Connection, KEY, Rig, bearer, http, sms};

pub const STATEMENT: Statement = Statement {
    number: 8,
    name: "HTTP edge",
    parts: &[
        Part {
            name: "slow heads, slow bodies, silence",
            run: |run| Box::pin(connections::slow(run)),
        },
        Part {
            name: "ten thousand idle connections",
            run: |run| Box::pin(connections::idle(run)),
        },
        Part {
            name: "floods of connections and requests",
            run: |run| Box::pin(connections::floods(run)),
        },
        Part {
            name: "requests that two servers would read in two ways",
            run: |run| Box::pin(requests::smuggled(run)),
        },
        Part {
            name: "deep and huge JSON, on every route that takes it",
            run: |run| Box::pin(requests::json(run)),
        },
        Part {
            name: "guessed keys",
            run: |run| Box::pin(keys::guessed(run)),
        },
        Part {
            name: "another account's ids, on every route that takes one",
            run: |run| Box::pin(tenants::ids(run)),
        },
        Part {
            name: "webhooks into private networks",
            run: |run| Box::pin(targets::private(run)),
        },
    ],
};

const HANDSET: &str = "+447700900123";
/// To whom the neighbour writes.
const ELSEWHERE: &str = "+447700900456";
/// Between two submissions of the neighbour.
const PACE: Duration = Duration::from_millis(25);
/// The neighbour opens a connection of its own for every so many.
const NEW_EVERY: usize = 5;

/// A client that behaves.
struct Neighbour {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Visits>,
}

#[derive(Default)]
struct Visits {
    /// Ids by their texts.
    accepted: BTreeMap<String, String>,
    faults: Vec<String>,
    took: Vec<Duration>,
}

impl Neighbour {
    fn start(rig: &Rig) -> Neighbour {
        let stop = Arc::new(AtomicBool::new(false));
        let (address, stopped) = (rig.address.clone(), stop.clone());
        let task = tokio::spawn(async move {
            let mut visits = Visits::default();
            let mut kept = Connection::open(&address).await.expect("a connection");
            for n in 0.. {
                if stopped.load(Relaxed) {
                    break;
                }
                visits.one(&address, &mut kept, n).await;
                tokio::time::sleep(PACE).await;
            }
            visits
        });
        Neighbour { stop, task }
    }

    /// Ends it, waits for its messages, and tells of it beside the part's own faults.
    async fn outcome(self, rig: &mut Rig, runs: usize, mut faults: Vec<String>) -> Outcome {
        self.stop.store(true, Relaxed);
        let visits = self.task.await.expect("a client that does not panic");
        if !rig.is_running() {
            rig.fail("the server has ended");
        }
        faults.extend(visits.faults.into_iter().map(|f| format!("neighbour: {f}")));
        if visits.accepted.is_empty() {
            faults.push("the neighbour was never served".to_owned());
        }
        for id in visits.accepted.values() {
            rig.wait_for(id, "delivered").await;
        }
        let mut copies: BTreeMap<String, usize> = BTreeMap::new();
        for sm in rig.taken(0) {
            *copies.entry(sm.text.unwrap_or_default()).or_default() += 1;
        }
        let (mut lost, mut duplicated) = (0, 0);
        for text in visits.accepted.keys() {
            match copies.get(text) {
                None => lost += 1,
                Some(n) => duplicated += n - 1,
            }
        }
        if lost + duplicated > 0 {
            faults.push(format!("{lost} lost, {duplicated} doubled"));
        }
        let panics = rig.log().matches("panicked").count();
        if panics > 0 {
            faults.push(format!("{panics} panics in the log"));
        }
        let p99 = p99(visits.took).as_secs_f64() * 1e3;
        Outcome::judged(runs, lost, duplicated, &faults).noted(format!(
            "{} of the neighbour's answered, p99 {p99:.0} ms",
            visits.accepted.len()
        ))
    }
}

impl Visits {
    async fn one(&mut self, address: &str, kept: &mut Connection, n: usize) {
        let text = format!("neighbour {n}");
        let body = Some(sms(ELSEWHERE, &text).to_string().into_bytes());
        let key = bearer(KEY);
        let headers = [("authorization", key.as_str())];
        let began = Instant::now();
        let answer = match n % NEW_EVERY {
            0 => http(address, "POST", "/v1/messages", body, &headers).await,
            _ => kept.call("POST", "/v1/messages", body, &headers).await,
        };
        match answer {
            Ok((202, _, body)) => {
                self.took.push(began.elapsed());
                let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
                let id = answer["id"].as_str().unwrap_or_default();
                self.accepted.insert(text, id.to_owned());
            }
            Ok((status, _, body)) => {
                let body = String::from_utf8_lossy(&body);
                self.faults.push(format!("{text}: {status} {body}"));
            }
            Err(error) => {
                self.faults.push(format!("{text}: {error}"));
                if let Ok(again) = Connection::open(address).await {
                    *kept = again;
                }
            }
        }
    }
}

/// A loopback address for each of a thousand attackers. The neighbour's is 127.0.0.1.
fn attacker(n: usize) -> [u8; 4] {
    [127, 1, (n / 250 % 250) as u8, (n % 250 + 1) as u8]
}

async fn connect_from(address: &str, source: [u8; 4]) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((source, 0)))?;
    let address = address.parse().map_err(std::io::Error::other)?;
    socket.connect(address).await
}

//! Moderate traffic from several clients at once, each on a connection of its own, until it is stopped
//! or the server goes away. Remembers every answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use heliograph::smpp::pdu::{self, Bind, Body, Sm};
use rusmpp::{CommandId, CommandStatus};
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::esme::{encoded, message_id};
use crate::smsc::Session;
use crate::{Connection, KEY, Rig, bearer};

/// Between an answer and the next request of one client.
const PAUSE: Duration = Duration::from_millis(5);

/// What came of the traffic.
#[derive(Default)]
pub struct Sent {
    /// Ids of what was answered 202.
    pub accepted: Vec<String>,
    /// Answers that were not 202.
    pub refused: Vec<String>,
    /// Requests that got no answer: nobody knows whether the server took them.
    pub unanswered: Vec<String>,
}

pub struct Traffic {
    stop: Arc<AtomicBool>,
    next: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Sent>>,
}

impl Traffic {
    /// `submission` makes the body of submission N.
    pub fn start(
        rig: &Rig,
        clients: usize,
        submission: impl Fn(usize) -> Value + Send + Sync + 'static,
    ) -> Traffic {
        let submission = Arc::new(submission);
        let stop = Arc::new(AtomicBool::new(false));
        let next = Arc::new(AtomicUsize::new(0));
        let client = |_| {
            let (stop, next, submission) = (stop.clone(), next.clone(), submission.clone());
            let address = rig.address.clone();
            tokio::spawn(async move {
                let mut sent = Sent::default();
                let Ok(mut connection) = Connection::open(&address).await else {
                    return sent;
                };
                while !stop.load(Relaxed) {
                    let body = submission(next.fetch_add(1, Relaxed));
                    if !send(&mut connection, body, &mut sent).await {
                        break;
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                sent
            })
        };
        let clients = (0..clients).map(client).collect();
        Traffic {
            stop,
            next,
            clients,
        }
    }

    /// How many submissions have been begun.
    pub fn begun(&self) -> usize {
        self.next.load(Relaxed)
    }

    /// No further requests; what is under way is waited for.
    pub async fn stop(self) -> Sent {
        self.stop.store(true, Relaxed);
        self.ended().await
    }

    /// Waits until the server has gone away from every client.
    pub async fn ended(self) -> Sent {
        gathered(self.clients).await
    }
}

async fn gathered(clients: Vec<JoinHandle<Sent>>) -> Sent {
    let mut all = Sent::default();
    for client in clients {
        let sent = client.await.expect("a client that does not panic");
        all.accepted.extend(sent.accepted);
        all.refused.extend(sent.refused);
        all.unanswered.extend(sent.unanswered);
    }
    all
}

/// The same over SMPP: transmitters that keep a window of submit_sm open.
pub struct EsmeTraffic {
    stop: Arc<AtomicBool>,
    next: Arc<AtomicUsize>,
    sessions: Vec<JoinHandle<Sent>>,
}

impl EsmeTraffic {
    /// `text` makes the text of submission N, of 254 octets at most.
    pub fn start(
        address: &str,
        system_id: &'static str,
        sessions: usize,
        window: usize,
        text: impl Fn(usize) -> String + Send + Sync + 'static,
    ) -> EsmeTraffic {
        let text = Arc::new(text);
        let stop = Arc::new(AtomicBool::new(false));
        let next = Arc::new(AtomicUsize::new(0));
        let session = |_| {
            let (stop, next, text) = (stop.clone(), next.clone(), text.clone());
            let address = address.to_owned();
            tokio::spawn(async move {
                let mut sent = Sent::default();
                let mut waiting = HashMap::new();
                let more = || (!stop.load(Relaxed)).then(|| text(next.fetch_add(1, Relaxed)));
                submit_all(&address, system_id, window, more, &mut waiting, &mut sent).await;
                sent.unanswered.extend(waiting.into_values());
                sent
            })
        };
        let sessions = (0..sessions).map(session).collect();
        EsmeTraffic {
            stop,
            next,
            sessions,
        }
    }

    /// How many submissions have been begun.
    pub fn begun(&self) -> usize {
        self.next.load(Relaxed)
    }

    /// No further requests; what is under way is waited for.
    pub async fn stop(self) -> Sent {
        self.stop.store(true, Relaxed);
        self.ended().await
    }

    /// Waits until the server has gone away from every session.
    pub async fn ended(self) -> Sent {
        gathered(self.sessions).await
    }
}

/// One session, until there is no more or the connection is gone; what then waits stays in `waiting`.
async fn submit_all(
    address: &str,
    system_id: &str,
    window: usize,
    more: impl Fn() -> Option<String>,
    waiting: &mut HashMap<u32, String>,
    sent: &mut Sent,
) -> Option<()> {
    let stream = TcpStream::connect(address).await.ok()?;
    let mut session = Session::over(Box::new(stream));
    let bind = Body::BindTransmitter(Bind {
        system_id: system_id.as_bytes(),
        password: b"secret",
        interface_version: 0x34,
        ..Bind::default()
    });
    session.stream.write_all(&encoded(1, &bind)).await.ok()?;
    let bound = session.hear().await?;
    if bound.status != CommandStatus::EsmeRok {
        sent.refused.push(format!("bind: {:?}", bound.status));
        return None;
    }
    let mut sequence = 1;
    let mut told_to_go = false;
    loop {
        while !told_to_go
            && waiting.len() < window
            && let Some(text) = more()
        {
            sequence += 1;
            let sm = Body::SubmitSm(Sm {
                source_addr: b"60777",
                dest_addr_ton: 1,
                dest_addr_npi: 1,
                destination_addr: b"447700900123",
                short_message: text.as_bytes(),
                ..Sm::default()
            });
            let octets = encoded(sequence, &sm);
            waiting.insert(sequence, text);
            session.stream.write_all(&octets).await.ok()?;
        }
        if waiting.is_empty() {
            return Some(());
        }
        let answer = session.hear().await?;
        if answer.id() == CommandId::Unbind {
            told_to_go = true;
            let resp = pdu::Pdu::response(answer.sequence_number, 0, Body::UnbindResp);
            let mut octets = Vec::new();
            pdu::encode(&resp, &mut octets).expect("a PDU");
            session.stream.write_all(&octets).await.ok()?;
            continue;
        }
        if waiting.remove(&answer.sequence_number).is_none() {
            continue;
        }
        match answer.status {
            CommandStatus::EsmeRok => sent.accepted.push(message_id(&answer)),
            status => sent.refused.push(format!("submit_sm: {status:?}")),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// One submission; false where the connection is gone.
async fn send(connection: &mut Connection, body: Value, sent: &mut Sent) -> bool {
    let text = body["text"].as_str().unwrap_or_default().to_owned();
    let headers = [("authorization", &*bearer(KEY))];
    let body = Some(body.to_string().into_bytes());
    match connection
        .call("POST", "/v1/messages", body, &headers)
        .await
    {
        Ok((202, _, body)) => {
            let answer: Value = serde_json::from_slice(&body).expect("JSON");
            sent.accepted
                .push(answer["id"].as_str().expect("an id").to_owned());
            true
        }
        Ok((status, _, body)) => {
            sent.refused
                .push(format!("{status} {}", String::from_utf8_lossy(&body)));
            true
        }
        Err(_) => {
            sent.unanswered.push(text);
            false
        }
    }
}

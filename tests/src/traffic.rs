//! Moderate traffic from several clients at once, each on a connection of its own, until it is stopped
//! or the server goes away. Remembers every answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinHandle;

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
        let mut all = Sent::default();
        for client in self.clients {
            let sent = client.await.expect("a client that does not panic");
            all.accepted.extend(sent.accepted);
            all.refused.extend(sent.refused);
            all.unanswered.extend(sent.unanswered);
        }
        all
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

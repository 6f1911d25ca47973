//! Submissions at a rate that does not wait for answers, and what came of each: for statements about load.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{Connection, bearer};

/// Who submits how much. A connection that still waits for an answer submits late, and what it then submits is
/// timed from when it was due.
#[derive(Clone, Copy)]
pub struct Offer {
    pub key: &'static str,
    pub per_second: f64,
    pub connections: usize,
    pub time: Duration,
}

/// What came back.
#[derive(Default)]
pub struct Answers {
    pub accepted: Vec<Accepted>,
    pub refused: Vec<Refusal>,
    /// No answer, or no connection.
    pub failed: usize,
}

/// How long an acceptance took, from when it was due and from when it was sent.
pub struct Accepted {
    pub since_due: Duration,
    pub since_sent: Duration,
}

pub struct Refusal {
    pub status: u16,
    pub says_when: bool,
    pub since_sent: Duration,
}

impl Answers {
    pub fn due_p99(&self) -> Duration {
        p99(self.accepted.iter().map(|a| a.since_due).collect())
    }

    pub fn accepted_p99(&self) -> Duration {
        p99(self.accepted.iter().map(|a| a.since_sent).collect())
    }

    pub fn refused_p99(&self) -> Duration {
        p99(self.refused.iter().map(|r| r.since_sent).collect())
    }

    /// Refusals that are none of overload's: 429 and 503 with a time to come back.
    pub fn odd(&self) -> Vec<String> {
        let odd = |r: &&Refusal| !matches!(r.status, 429 | 503) || !r.says_when;
        let odd = self.refused.iter().filter(odd);
        odd.map(|r| format!("refused with {} (Retry-After: {})", r.status, r.says_when))
            .collect()
    }
}

pub fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    let place = times.len().saturating_sub(1) * 99 / 100;
    times.get(place).copied().unwrap_or_default()
}

/// Offers for the whole time. `body` makes the body of submission N.
pub async fn offer(
    address: &str,
    offer: Offer,
    body: impl Fn(usize) -> Value + Send + Sync + 'static,
) -> Answers {
    let body = Arc::new(body);
    let start = Instant::now();
    let clients: Vec<_> = (0..offer.connections)
        .map(|client| {
            let (address, body) = (address.to_owned(), body.clone());
            tokio::spawn(async move {
                let mut answers = Answers::default();
                if let Ok(connection) = Connection::open(&address).await {
                    one_client(connection, offer, client, start, &*body, &mut answers).await;
                } else {
                    answers.failed += 1;
                }
                answers
            })
        })
        .collect();
    let mut all = Answers::default();
    for client in clients {
        let answers = client.await.expect("a client that does not panic");
        all.accepted.extend(answers.accepted);
        all.refused.extend(answers.refused);
        all.failed += answers.failed;
    }
    all
}

async fn one_client(
    mut connection: Connection,
    offer: Offer,
    client: usize,
    start: Instant,
    body: &(dyn Fn(usize) -> Value + Send + Sync),
    answers: &mut Answers,
) {
    let key = bearer(offer.key);
    let headers = [("authorization", key.as_str())];
    for turn in 0.. {
        let number = turn * offer.connections + client;
        let due = Duration::from_secs_f64(number as f64 / offer.per_second);
        if due >= offer.time || start.elapsed() >= offer.time {
            return;
        }
        tokio::time::sleep(due.saturating_sub(start.elapsed())).await;
        let sent = Instant::now();
        let octets = body(number).to_string().into_bytes();
        let answer = connection
            .call("POST", "/v1/messages", Some(octets), &headers)
            .await;
        match answer {
            Ok((202, ..)) => answers.accepted.push(Accepted {
                since_due: start.elapsed().saturating_sub(due),
                since_sent: sent.elapsed(),
            }),
            Ok((status, headers, _)) => answers.refused.push(Refusal {
                status,
                says_when: headers.contains_key("retry-after"),
                since_sent: sent.elapsed(),
            }),
            Err(_) => {
                answers.failed += 1;
                return;
            }
        }
    }
}

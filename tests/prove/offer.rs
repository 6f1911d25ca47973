//! Submissions at a rate that does not wait for answers, and what came of each: for statements about load.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::{PATIENCE, bearer};

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
    /// From the first submission to the last answer.
    pub took: Duration,
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

/// Offers for the whole time, once everybody is connected. `body` makes the body of submission N.
pub async fn offer(
    address: &str,
    offer: Offer,
    body: impl Fn(usize) -> Value + Send + Sync + 'static,
) -> Answers {
    let body = Arc::new(body);
    let mut all = Answers::default();
    let opening: Vec<_> = (0..offer.connections)
        .map(|_| {
            let address = address.to_owned();
            tokio::spawn(async move { Client::open(&address, offer.key).await })
        })
        .collect();
    let mut connections = Vec::with_capacity(offer.connections);
    for opened in opening {
        match opened.await.expect("a client that does not panic") {
            Some(connection) => connections.push(connection),
            None => all.failed += 1,
        }
    }
    let start = Instant::now();
    let clients: Vec<_> = connections
        .into_iter()
        .enumerate()
        .map(|(client, connection)| {
            let body = body.clone();
            tokio::spawn(async move {
                let mut answers = Answers::default();
                one_client(connection, offer, client, start, &*body, &mut answers).await;
                answers
            })
        })
        .collect();
    for client in clients {
        let answers = client.await.expect("a client that does not panic");
        all.accepted.extend(answers.accepted);
        all.refused.extend(answers.refused);
        all.failed += answers.failed;
    }
    all.took = start.elapsed();
    all
}

/// A connection whose requests cost next to nothing: who offers more than a server can take must not take its
/// processor.
struct Client {
    stream: TcpStream,
    head: String,
    buffer: Vec<u8>,
}

/// A status, and whether there is a Retry-After.
struct Head {
    status: u16,
    says_when: bool,
}

impl Client {
    async fn open(address: &str, key: &str) -> Option<Client> {
        let stream = TcpStream::connect(address).await.ok()?;
        stream.set_nodelay(true).ok()?;
        let head = format!(
            "POST /v1/messages HTTP/1.1\r\nhost: {address}\r\nauthorization: {}\r\ncontent-type: application/json\r\ncontent-length: ",
            bearer(key)
        );
        Some(Client {
            stream,
            head,
            buffer: Vec::new(),
        })
    }

    /// One exchange; nothing where there is no answer.
    async fn submit(&mut self, body: &str) -> Option<Head> {
        let request = format!("{}{}\r\n\r\n{body}", self.head, body.len());
        let exchange = async {
            self.stream.write_all(request.as_bytes()).await.ok()?;
            self.buffer.clear();
            loop {
                if let Some((head, length)) = read_head(&self.buffer)
                    && self.buffer.len() >= length
                {
                    return Some(head);
                }
                let read = self.stream.read_buf(&mut self.buffer).await.ok()?;
                if read == 0 {
                    return None;
                }
            }
        };
        tokio::time::timeout(PATIENCE, exchange).await.ok()?
    }
}

/// The head of an answer, and how many octets the whole answer has; nothing while it is not all there.
fn read_head(octets: &[u8]) -> Option<(Head, usize)> {
    let end = octets.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&octets[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let (mut says_when, mut length) = (false, 0);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        says_when |= name.eq_ignore_ascii_case("retry-after");
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok()?;
        }
    }
    Some((Head { status, says_when }, end + length))
}

async fn one_client(
    mut connection: Client,
    offer: Offer,
    client: usize,
    start: Instant,
    body: &(dyn Fn(usize) -> Value + Send + Sync),
    answers: &mut Answers,
) {
    for turn in 0.. {
        let number = turn * offer.connections + client;
        let due = Duration::from_secs_f64(number as f64 / offer.per_second);
        if due >= offer.time || start.elapsed() >= offer.time {
            return;
        }
        tokio::time::sleep(due.saturating_sub(start.elapsed())).await;
        let sent = Instant::now();
        match connection.submit(&body(number).to_string()).await {
            Some(head) if head.status == 202 => answers.accepted.push(Accepted {
                since_due: start.elapsed().saturating_sub(due),
                since_sent: sent.elapsed(),
            }),
            Some(head) => answers.refused.push(Refusal {
                status: head.status,
                says_when: head.says_when,
                since_sent: sent.elapsed(),
            }),
            None => {
                answers.failed += 1;
                return;
            }
        }
    }
}

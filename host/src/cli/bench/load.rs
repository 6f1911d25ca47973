//! The load generator: keep-alive HTTP/1.1 connections that submit as fast as they are answered
//! (closed loop) or at a fixed rate whatever the answers (open loop). Hand-written requests: the
//! generator shares two cores with what it measures.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Where and as whom to submit.
#[derive(Clone)]
pub struct Target {
    pub address: String,
    pub key: String,
    /// The key of who sends what has a mark.
    pub marked_key: String,
    /// Every so many submissions one begins with a mark; 0: none.
    pub marked_every: u64,
}

/// First letters of texts at which the neighbours of `--hostile` misbehave, in turn.
pub const MARKS: [char; 4] = ['!', '?', '%', '#'];

impl Target {
    /// The mark of submission `number`.
    pub fn mark(&self, number: u64) -> Option<char> {
        let turn = number.checked_div(self.marked_every)?;
        let marked = number.is_multiple_of(self.marked_every);
        marked.then(|| MARKS[turn as usize % MARKS.len()])
    }
}

/// What one run of the generator saw.
#[derive(Default)]
pub struct Run {
    pub accepted: u64,
    pub refused: u64,
    pub failed: u64,
    /// When the run began, and how long until the last answer.
    pub started_unix_us: u64,
    pub took: Duration,
    /// Of each accepted submission: its number, when it was sent (µs since `started_unix_us`), and
    /// how long the answer took in µs.
    pub samples: Vec<Sample>,
}

#[derive(Clone, Copy)]
pub struct Sample {
    pub number: u64,
    pub sent_us: u64,
    pub took_us: u64,
}

impl Run {
    pub fn submit_percentile_ms(&self, p: f64) -> f64 {
        let mut times: Vec<u64> = self.samples.iter().map(|s| s.took_us).collect();
        percentile_ms(&mut times, p)
    }

    pub fn add(&mut self, other: Run) {
        self.accepted += other.accepted;
        self.refused += other.refused;
        self.failed += other.failed;
        self.samples.extend(other.samples);
    }
}

/// The `p`-th percentile (0 to 100) of microseconds, in milliseconds; 0 without samples.
pub fn percentile_ms(times: &mut [u64], p: f64) -> f64 {
    if times.is_empty() {
        return 0.0;
    }
    times.sort_unstable();
    let index = ((times.len() - 1) as f64 * p / 100.0).round() as usize;
    times[index] as f64 / 1000.0
}

/// How fast.
#[derive(Clone, Copy)]
pub enum Pace {
    Closed,
    /// Submissions per second, all connections together.
    Open(f64),
}

/// Submits for `duration` over `connections`. Messages are numbered from `first`; the number is in
/// the text and in the recipient, so that the simulator's record can be matched.
pub async fn run(
    target: &Target,
    connections: usize,
    duration: Duration,
    pace: Pace,
    first: u64,
) -> Result<Run, String> {
    let next = Arc::new(AtomicU64::new(first));
    let mut streams = Vec::with_capacity(connections);
    for _ in 0..connections {
        streams.push(connect(&target.address).await?);
    }
    let start = Instant::now();
    let mut whole = Run {
        started_unix_us: unix_us(),
        ..Run::default()
    };
    let tasks: Vec<_> = streams
        .into_iter()
        .enumerate()
        .map(|(i, stream)| {
            let worker = Worker {
                stream,
                target: target.clone(),
                next: next.clone(),
                start,
                end: start + duration,
                request: Vec::with_capacity(1024),
                response: Vec::with_capacity(4096),
            };
            let interval = match pace {
                Pace::Closed => None,
                Pace::Open(rate) => Some((
                    Duration::from_secs_f64(connections as f64 / rate),
                    Duration::from_secs_f64(i as f64 / rate),
                )),
            };
            tokio::spawn(worker.run(interval))
        })
        .collect();
    for task in tasks {
        whole.add(task.await.map_err(|e| e.to_string())?);
    }
    whole.took = start.elapsed();
    Ok(whole)
}

pub fn unix_us() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.as_micros() as u64)
}

/// The recipient of submission `number`: a United Kingdom number, different for each.
pub fn recipient(number: u64) -> String {
    format!("4474{:08}", number % 100_000_000)
}

/// The text of submission `number`: what a one-time password or a delivery notice looks like.
pub fn text(number: u64) -> String {
    format!(
        "Your parcel {number:010} leaves the depot today and arrives between 14:00 and 16:00. Reply HELP for help."
    )
}

async fn connect(address: &str) -> Result<TcpStream, String> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|e| format!("{address}: {e}"))?;
    stream.set_nodelay(true).map_err(|e| e.to_string())?;
    Ok(stream)
}

struct Worker {
    stream: TcpStream,
    target: Target,
    next: Arc<AtomicU64>,
    start: Instant,
    end: Instant,
    request: Vec<u8>,
    response: Vec<u8>,
}

impl Worker {
    async fn run(mut self, interval: Option<(Duration, Duration)>) -> Run {
        let mut run = Run::default();
        let mut due = self.start + interval.map_or(Duration::ZERO, |(_, offset)| offset);
        loop {
            if let Some((step, _)) = interval {
                tokio::time::sleep_until(due.into()).await;
                if due >= self.end {
                    return run;
                }
                // Open loop: latency counts from when it should have been sent.
                self.submit(&mut run, due).await;
                due += step;
            } else {
                let now = Instant::now();
                if now >= self.end {
                    return run;
                }
                self.submit(&mut run, now).await;
            }
        }
    }

    async fn submit(&mut self, run: &mut Run, from: Instant) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        match self.exchange(number).await {
            Ok(202) => {
                run.accepted += 1;
                run.samples.push(Sample {
                    number,
                    sent_us: from.duration_since(self.start).as_micros() as u64,
                    took_us: from.elapsed().as_micros() as u64,
                });
            }
            Ok(_) => run.refused += 1,
            Err(_) => {
                run.failed += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
                if let Ok(stream) = connect(&self.target.address).await {
                    self.stream = stream;
                }
            }
        }
    }

    async fn exchange(&mut self, number: u64) -> std::io::Result<u16> {
        use std::io::Write as _;
        let mark = self.target.mark(number);
        let body = format!(
            r#"{{"to":"+{}","from":"Heliograph","text":"{}{}","class":"transactional"}}"#,
            recipient(number),
            mark.map_or(String::new(), |mark| format!("{mark} ")),
            text(number)
        );
        self.request.clear();
        write!(
            self.request,
            "POST /v1/messages HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{}",
            match mark {
                Some(_) => &self.target.marked_key,
                None => &self.target.key,
            },
            body.len(),
            body
        )?;
        self.stream.write_all(&self.request).await?;
        self.response.clear();
        loop {
            if self.stream.read_buf(&mut self.response).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            if let Some((status, length)) = head(&self.response)
                && self.response.len() >= length
            {
                return Ok(status);
            }
        }
    }
}

/// Status and total length of a response whose head has arrived whole.
fn head(bytes: &[u8]) -> Option<(u16, usize)> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..end]).ok()?;
    let status = text.get(9..12)?.parse().ok()?;
    let length = text
        .lines()
        .find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.trim().parse::<usize>().ok())?
        })
        .unwrap_or(0);
    Some((status, end + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_whole_when_its_body_is() {
        let response = b"HTTP/1.1 202 Accepted\r\nContent-Length: 5\r\n\r\nhello";
        assert_eq!(head(response), Some((202, response.len())));
        assert_eq!(head(b"HTTP/1.1 202 Acc"), None);
    }

    #[test]
    fn marks_come_in_turn() {
        let target = |marked_every| Target {
            address: String::new(),
            key: String::new(),
            marked_key: String::new(),
            marked_every,
        };
        let marks: Vec<_> = (0..7).map(|n| target(2).mark(n)).collect();
        let (a, b, c, d) = (Some('!'), Some('?'), Some('%'), Some('#'));
        assert_eq!(marks, [a, None, b, None, c, None, d]);
        assert_eq!(target(0).mark(0), None);
    }

    #[test]
    fn percentiles_are_in_milliseconds() {
        let mut times: Vec<u64> = (1..=100).map(|i| i * 1000).collect();
        assert!((percentile_ms(&mut times, 50.0) - 51.0).abs() < 1.0);
        assert!((percentile_ms(&mut times, 99.0) - 99.0).abs() < 1.0);
    }
}

//! The same load by SMPP: binds of an ESME that keep their window full (closed loop) or submit at a
//! fixed rate (open loop), answer what is delivered to them, and count receipts. Written by hand on
//! the codec alone: the generator shares two cores with what it measures.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::load::{Pace, Run, Sample, recipient, text, unix_us};
use crate::smpp::pdu::{
    Bind, Body, Framing, HEADER_LEN, Header, Pdu, Sm, SmResp, command_id, encode, frame,
};
use crate::smpp::status;

/// Whatever a bind travels on.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A load that one bind is to carry.
struct Order {
    end: Instant,
    start: Instant,
    /// Between submissions, and before the first; none: as fast as the window lets.
    interval: Option<(Duration, Duration)>,
    done: oneshot::Sender<Run>,
}

/// Bound sessions, which answer what is delivered to them for as long as they live.
pub struct Esme {
    orders: Vec<mpsc::Sender<Order>>,
    tasks: Vec<JoinHandle<()>>,
    receipts: Arc<AtomicU64>,
    next: Arc<AtomicU64>,
}

impl Esme {
    /// Binds as transceiver over each of `streams`.
    pub async fn bind(
        streams: Vec<Box<dyn Stream>>,
        system_id: &str,
        password: &str,
        window: usize,
    ) -> Result<Esme, String> {
        let mut esme = Esme {
            orders: Vec::new(),
            tasks: Vec::new(),
            receipts: Arc::default(),
            next: Arc::default(),
        };
        for stream in streams {
            let mut session = Session {
                stream,
                input: Vec::with_capacity(64 * 1024),
                output: Vec::with_capacity(64 * 1024),
                sequence: 1,
                window,
                outstanding: HashMap::with_capacity(window),
                receipts: esme.receipts.clone(),
                next: esme.next.clone(),
            };
            session.bind(system_id, password).await?;
            let (orders, received) = mpsc::channel(1);
            esme.orders.push(orders);
            esme.tasks.push(tokio::spawn(async move {
                if let Err(error) = session.serve(received).await {
                    eprintln!("a bind of the load generator ended: {error}");
                }
            }));
        }
        Ok(esme)
    }

    /// Submits for `duration` over all binds; messages are numbered from `first`.
    pub async fn run(&self, duration: Duration, pace: Pace, first: u64) -> Result<Run, String> {
        self.next.store(first, Ordering::Relaxed);
        let start = Instant::now();
        let mut whole = Run {
            started_unix_us: unix_us(),
            ..Run::default()
        };
        let mut answers = Vec::new();
        for (i, orders) in self.orders.iter().enumerate() {
            let (done, answer) = oneshot::channel();
            let interval = match pace {
                Pace::Closed => None,
                Pace::Open(rate) => Some((
                    Duration::from_secs_f64(self.orders.len() as f64 / rate),
                    Duration::from_secs_f64(i as f64 / rate),
                )),
            };
            let order = Order {
                start,
                end: start + duration,
                interval,
                done,
            };
            orders.send(order).await.map_err(|e| e.to_string())?;
            answers.push(answer);
        }
        for answer in answers {
            whole.add(answer.await.map_err(|_| "a bind ended".to_owned())?);
        }
        whole.took = start.elapsed();
        Ok(whole)
    }

    /// Receipts delivered so far.
    pub fn receipts(&self) -> u64 {
        self.receipts.load(Ordering::Relaxed)
    }

    /// Sessions that are bound still.
    pub fn alive(&self) -> usize {
        self.tasks.iter().filter(|t| !t.is_finished()).count()
    }

    /// Waits for that many receipts, two minutes at most; returns when the last one came.
    pub async fn receipted(&self, messages: u64) -> Instant {
        let end = Instant::now() + Duration::from_secs(120);
        while self.receipts() < messages && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Instant::now()
    }
}

impl Drop for Esme {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

pub async fn connect(address: &str) -> Result<TcpStream, String> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|e| format!("{address}: {e}"))?;
    stream.set_nodelay(true).map_err(|e| e.to_string())?;
    Ok(stream)
}

struct Session {
    stream: Box<dyn Stream>,
    input: Vec<u8>,
    output: Vec<u8>,
    sequence: u32,
    window: usize,
    /// By sequence_number: the message's number and when it was due.
    outstanding: HashMap<u32, (u64, Instant)>,
    receipts: Arc<AtomicU64>,
    next: Arc<AtomicU64>,
}

impl Session {
    async fn bind(&mut self, system_id: &str, password: &str) -> Result<(), String> {
        let bind = Bind {
            system_id: system_id.as_bytes(),
            password: password.as_bytes(),
            interface_version: 0x34,
            ..Bind::default()
        };
        self.push(&Pdu::request(1, Body::BindTransceiver(bind)))?;
        self.sequence = 2;
        self.flush().await?;
        loop {
            self.read().await?;
            if let Framing::Frame(length) = frame(&self.input) {
                let header = Header::parse(&self.input).unwrap_or_default();
                self.input.drain(..length);
                return match header.command_status {
                    status::ESME_ROK => Ok(()),
                    refused => Err(format!(
                        "the bind is refused: {}",
                        status::describe(refused)
                    )),
                };
            }
        }
    }

    async fn serve(&mut self, mut orders: mpsc::Receiver<Order>) -> Result<(), String> {
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.carry(order).await?,
                    None => return Ok(()),
                },
                read = self.stream.read_buf(&mut self.input) => {
                    if read.map_err(|e| e.to_string())? == 0 {
                        return Err("closed by the server".to_owned());
                    }
                    self.take_in(&mut Run::default(), Instant::now())?;
                    self.flush().await?;
                }
            }
        }
    }

    /// One load, to the answer of its last submission.
    async fn carry(&mut self, order: Order) -> Result<(), String> {
        let mut run = Run::default();
        let mut due = order.start + order.interval.map_or(Duration::ZERO, |(_, offset)| offset);
        loop {
            let now = Instant::now();
            while self.outstanding.len() < self.window {
                let from = match order.interval {
                    None if now < order.end => now,
                    // Open loop: latency counts from when it should have been sent.
                    Some((step, _)) if due <= now && due < order.end => {
                        let from = due;
                        due += step;
                        from
                    }
                    None | Some(_) => break,
                };
                self.submit(from)?;
            }
            self.flush().await?;
            let over = match order.interval {
                None => now >= order.end,
                Some(_) => due >= order.end,
            };
            if over && self.outstanding.is_empty() {
                break;
            }
            let wake = match order.interval {
                Some(_) if !over && self.outstanding.len() < self.window => due,
                Some(_) | None => now + Duration::from_secs(60),
            };
            tokio::select! {
                read = self.stream.read_buf(&mut self.input) => {
                    if read.map_err(|e| e.to_string())? == 0 {
                        return Err("closed by the server".to_owned());
                    }
                    self.take_in(&mut run, order.start)?;
                }
                () = tokio::time::sleep_until(wake.into()) => if wake > now + Duration::from_secs(30) {
                    return Err("no answer in a minute".to_owned());
                },
            }
        }
        let _ = order.done.send(run);
        Ok(())
    }

    fn submit(&mut self, from: Instant) -> Result<(), String> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (recipient, text) = (recipient(number), text(number));
        let sm = Sm {
            source_addr_ton: 5,
            source_addr: b"Heliograph",
            dest_addr_ton: 1,
            dest_addr_npi: 1,
            destination_addr: recipient.as_bytes(),
            registered_delivery: 1,
            short_message: text.as_bytes(),
            ..Sm::default()
        };
        let sequence = self.sequence;
        self.sequence = if sequence >= 0x7FFF_FFFF {
            1
        } else {
            sequence + 1
        };
        self.push(&Pdu::request(sequence, Body::SubmitSm(sm)))?;
        self.outstanding.insert(sequence, (number, from));
        Ok(())
    }

    /// Takes every whole PDU of the input.
    fn take_in(&mut self, run: &mut Run, start: Instant) -> Result<(), String> {
        let mut at = 0;
        while let Framing::Frame(length) = frame(&self.input[at..]) {
            let header = Header::parse(&self.input[at..]).unwrap_or_default();
            let esm_class = esm_class_of(&self.input[at..at + length], header.command_id);
            at += length;
            match header.command_id {
                command_id::SUBMIT_SM_RESP => {
                    let Some((number, from)) = self.outstanding.remove(&header.sequence_number)
                    else {
                        run.failed += 1;
                        continue;
                    };
                    if header.command_status != status::ESME_ROK {
                        run.refused += 1;
                        continue;
                    }
                    run.accepted += 1;
                    run.samples.push(Sample {
                        number,
                        sent_us: from.duration_since(start).as_micros() as u64,
                        took_us: from.elapsed().as_micros() as u64,
                    });
                }
                command_id::DELIVER_SM => {
                    if esm_class & 0x04 != 0 {
                        self.receipts.fetch_add(1, Ordering::Relaxed);
                    }
                    let resp = Body::DeliverSmResp(SmResp::default());
                    self.push(&Pdu::response(
                        header.sequence_number,
                        status::ESME_ROK,
                        resp,
                    ))?;
                }
                command_id::ENQUIRE_LINK => {
                    self.push(&Pdu::response(
                        header.sequence_number,
                        status::ESME_ROK,
                        Body::EnquireLinkResp,
                    ))?;
                }
                _ => {}
            }
        }
        self.input.drain(..at);
        Ok(())
    }

    fn push(&mut self, pdu: &Pdu<'_>) -> Result<(), String> {
        encode(pdu, &mut self.output).map_err(|e| format!("{e:?}"))
    }

    async fn flush(&mut self) -> Result<(), String> {
        let written = self.stream.write_all(&self.output).await;
        self.output.clear();
        written.map_err(|e| e.to_string())
    }

    async fn read(&mut self) -> Result<(), String> {
        match self.stream.read_buf(&mut self.input).await {
            Ok(0) => Err("closed by the server".to_owned()),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// esm_class of a deliver_sm: behind service_type and two addresses (SMPP 3.4, 4.6.1). Read so,
/// because decoding what is not looked at further costs the generator more than it is worth.
fn esm_class_of(pdu: &[u8], id: u32) -> u8 {
    if id != command_id::DELIVER_SM {
        return 0;
    }
    let after_string = |at: usize| {
        let nul = pdu.get(at..)?.iter().position(|octet| *octet == 0)?;
        Some(at + nul + 1)
    };
    after_string(HEADER_LEN)
        .and_then(|at| after_string(at + 2))
        .and_then(|at| after_string(at + 2))
        .and_then(|at| pdu.get(at).copied())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn esm_class_is_found_behind_the_addresses() {
        let sm = Sm {
            service_type: b"CMT",
            source_addr: b"447700900123",
            destination_addr: b"Heliograph",
            esm_class: 0x04,
            short_message: b"id:1",
            ..Sm::default()
        };
        let mut octets = Vec::new();
        encode(&Pdu::request(7, Body::DeliverSm(sm)), &mut octets).expect("a valid deliver_sm");
        assert_eq!(esm_class_of(&octets, command_id::DELIVER_SM), 0x04);
        assert_eq!(esm_class_of(&octets[..20], command_id::DELIVER_SM), 0);
    }
}

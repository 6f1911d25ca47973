//! A simulated SMSC: real SMPP over real sockets, with every fault of the field at a settable rate.
//! Serves `heliograph smsc`, the demo, the tests and the benchmark. This file owns the sockets and
//! the clock; what is answered and sent is decided in `engine`, and nothing here knows Heliograph's
//! own side of the conversation.

mod behaviour;
mod control;
mod delivery;
mod engine;
mod fates;
mod grammar;
mod operations;
mod outbound;
mod quirks;
mod record;
mod script;
mod session;
mod settings;
mod strict;
mod timer;

#[cfg(test)]
mod control_tests;
#[cfg(test)]
mod persona_tests;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};

pub use delivery::{Mo, MoError, Multipart};
pub use record::{Counters, Keys, Part, Received, ReceivedTlv, message_key};
pub use script::{Act, PERSONAS, Persona, Program, ProgramStep, Script, ScriptError, Step};
pub use settings::{
    Credentials, ErrorRate, FinalRate, FinalState, IdStyle, Keep, MessageState, Outcome,
    ReceiptShape, Rule, Settings, SettingsError, WindowPolicy, parse_status,
};

use crate::clock::Clock;
use engine::{Engine, Now, SessionId};

/// An unbound connection is closed after this.
const BIND_TIMEOUT: Duration = Duration::from_secs(10);
/// Work that is due within this is done together: one wake-up and one write for many receipts.
const TICK: Duration = Duration::from_millis(2);
/// Octets read at once.
const READ_SIZE: usize = 64 * 1024;
/// Octets that wait to be written before nothing more is read.
const UNWRITTEN_MAX: usize = 256 * 1024;
/// Pause after a failed accept (no descriptors left): long enough for some to come free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why the simulator did not start.
#[derive(Debug)]
pub enum StartError {
    Settings(SettingsError),
    /// The control API takes orders from anyone who reaches it, so it listens on loopback alone.
    NotLoopback(SocketAddr),
    Io(io::Error),
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StartError::Settings(error) => write!(f, "{error}"),
            StartError::NotLoopback(address) => write!(
                f,
                "the control API has no password and cannot listen on {address}; use 127.0.0.1"
            ),
            StartError::Io(error) => write!(f, "the listener is unusable: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// A running simulator. Dropping it ends it too, without waiting.
pub struct Simulator {
    address: SocketAddr,
    control: Option<SocketAddr>,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Simulator {
    /// Serves SMPP on `listener` and, where given, the control API on `control`. Needs a tokio runtime.
    /// Plain settings are a program without steps.
    pub fn start(
        program: impl Into<Program>,
        clock: Clock,
        listener: TcpListener,
        control: Option<TcpListener>,
    ) -> Result<Simulator, StartError> {
        let program = program.into();
        let steps = program.steps.iter().map(|s| &s.settings);
        for settings in std::iter::once(&program.first).chain(steps) {
            settings.validate().map_err(StartError::Settings)?;
        }
        let address = listener.local_addr().map_err(StartError::Io)?;
        let control = control.map(on_loopback).transpose()?;
        let wake = Arc::new(Notify::new());
        // 1,024 ids for each millisecond: a restart repeats none.
        let first_id = clock.now().millis().wrapping_mul(1_024);
        let shared = Arc::new(Shared {
            engine: Mutex::new(Engine::new(program, first_id, Arc::clone(&wake))),
            clock,
            start: Instant::now(),
            wake,
        });
        let (stop, stopped) = watch::channel(false);
        let mut tasks = vec![
            tokio::spawn(accept(Arc::clone(&shared), listener, stopped.clone())),
            tokio::spawn(fire(Arc::clone(&shared), stopped.clone())),
        ];
        let mut control_address = None;
        if let Some((listener, address)) = control {
            control_address = Some(address);
            tasks.push(tokio::spawn(control::serve(
                Arc::clone(&shared),
                listener,
                stopped,
            )));
        }
        Ok(Simulator {
            address,
            control: control_address,
            shared,
            stop,
            tasks,
        })
    }

    /// Where SMPP is served.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn control_address(&self) -> Option<SocketAddr> {
        self.control
    }

    pub fn settings(&self) -> Settings {
        self.shared.engine.lock().behaviour.settings().clone()
    }

    /// Changes the settings while it runs; refused whole where they cannot be.
    pub fn change(&self, settings: Settings) -> Result<(), SettingsError> {
        self.shared.change(settings)
    }

    /// Received messages from index `since`, at most `limit`, oldest first.
    pub fn received(&self, since: u64, limit: usize) -> Vec<Received> {
        self.shared.engine.lock().record.received(since, limit)
    }

    pub fn counters(&self) -> Counters {
        self.shared.counters()
    }

    /// How often each message was taken, by [`message_key`].
    pub fn received_keys(&self) -> Keys {
        self.shared.engine.lock().record.keys().clone()
    }

    /// Forgets what was received and counted.
    pub fn clear(&self) {
        self.shared.engine.lock().record.clear();
    }

    /// Queues a mobile-originated message; says in how many parts.
    pub fn inject(&self, mo: &Mo) -> Result<usize, MoError> {
        self.shared.inject(mo)
    }

    /// Cuts every connection; says how many.
    pub fn drop_connections(&self) -> usize {
        self.shared.engine.lock().drop_connections()
    }

    /// Closes the listeners and all connections.
    pub async fn shutdown(self) {
        let _ = self.stop.send(true);
        for task in self.tasks {
            // A task that panicked has said so already.
            let _ = task.await;
        }
    }
}

/// What all tasks of one simulator share. The lock is held for a batch of PDUs, never across an await.
struct Shared {
    engine: Mutex<Engine>,
    clock: Clock,
    start: Instant,
    wake: Arc<Notify>,
}

impl Shared {
    fn now(&self) -> Now {
        Now {
            at: self.start.elapsed(),
            wall: self.clock.now(),
        }
    }

    fn counters(&self) -> Counters {
        let engine = self.engine.lock();
        Counters {
            deliveries_waiting: engine.pending() as u64,
            ..engine.record.counters.clone()
        }
    }

    fn change(&self, settings: Settings) -> Result<(), SettingsError> {
        settings.validate()?;
        self.engine.lock().change(settings, self.now());
        Ok(())
    }

    /// Changes the named settings alone, under one lock, so that no other change is lost.
    fn patch(&self, patch: serde_json::Value) -> Result<Settings, SettingsError> {
        let mut engine = self.engine.lock();
        let settings = engine.behaviour.settings().patched(patch)?;
        engine.change(settings.clone(), self.now());
        Ok(settings)
    }

    fn inject(&self, mo: &Mo) -> Result<usize, MoError> {
        self.engine.lock().inject(mo, self.now())
    }
}

fn on_loopback(listener: TcpListener) -> Result<(TcpListener, SocketAddr), StartError> {
    let address = listener.local_addr().map_err(StartError::Io)?;
    if !address.ip().is_loopback() {
        return Err(StartError::NotLoopback(address));
    }
    Ok((listener, address))
}

async fn accept(shared: Arc<Shared>, listener: TcpListener, mut stopped: watch::Receiver<bool>) {
    // Dropped at the end, which ends the sessions.
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let signal = Arc::new(Notify::new());
                    let id = shared.engine.lock().open(Arc::clone(&signal));
                    if let Some(id) = id {
                        sessions.spawn(serve(Arc::clone(&shared), id, stream, signal));
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "the simulator cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = sessions.join_next() => {}
            _ = stopped.changed() => break,
        }
    }
}

/// The one task for all that happens later.
async fn fire(shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    loop {
        let now = shared.now();
        let next = shared.engine.lock().fire(now);
        if next <= now.at {
            tokio::task::yield_now().await;
            continue;
        }
        let until = shared.start + next.max(now.at + TICK);
        tokio::select! {
            () = tokio::time::sleep_until(until.into()) => {}
            () = shared.wake.notified() => {}
            _ = stopped.changed() => break,
        }
    }
}

async fn serve(shared: Arc<Shared>, id: SessionId, stream: TcpStream, signal: Arc<Notify>) {
    // Answers are small and somebody waits for them.
    let result = match stream.set_nodelay(true) {
        Ok(()) => converse(&shared, id, &stream, &signal).await,
        Err(error) => Err(error),
    };
    if let Err(error) = result {
        tracing::debug!(session = id, %error, "a connection to the simulator broke");
    }
    shared.engine.lock().close(id, shared.now());
}

/// Reads, lets the engine work, writes; until the peer or the engine ends it.
async fn converse(
    shared: &Shared,
    id: SessionId,
    stream: &TcpStream,
    signal: &Notify,
) -> io::Result<()> {
    let deadline = tokio::time::Instant::now() + BIND_TIMEOUT;
    let mut input = BytesMut::with_capacity(READ_SIZE);
    let mut out = Vec::new();
    let mut written = 0;
    loop {
        let now = shared.now();
        let next = shared.engine.lock().receive(id, &input, now, &mut out);
        input.advance(next.consumed);
        write(stream, &mut out, &mut written)?;
        if next.close {
            return Ok(());
        }
        let may_read = !next.stop && out.len() - written < UNWRITTEN_MAX;
        tokio::select! {
            ready = stream.readable(), if may_read => {
                ready?;
                if !read(stream, &mut input)? {
                    return Ok(());
                }
            }
            ready = stream.writable(), if !out.is_empty() => ready?,
            () = signal.notified() => {}
            () = tokio::time::sleep_until(deadline), if !next.bound => return Ok(()),
        }
    }
}

/// False at the end of the stream.
fn read(stream: &TcpStream, input: &mut BytesMut) -> io::Result<bool> {
    input.reserve(READ_SIZE);
    match stream.try_read_buf(input) {
        Ok(0) => Ok(false),
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(error),
    }
}

/// Writes what the socket takes now.
fn write(stream: &TcpStream, out: &mut Vec<u8>, written: &mut usize) -> io::Result<()> {
    while *written < out.len() {
        match stream.try_write(&out[*written..]) {
            Ok(n) => *written += n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    out.clear();
    *written = 0;
    Ok(())
}

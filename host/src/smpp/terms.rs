//! The words of a session: how it binds, its timers and window, what it counts, why it ended.

use std::fmt;
use std::io;
use std::time::Duration;

use super::{pdu, status};

/// SMPP 3.4, 3.2: sequence numbers are 1 to 0x7FFFFFFF, and begin again.
pub const SEQUENCE_NUMBER_MAX: u32 = 0x7FFF_FFFF;
/// The version that we speak.
pub const INTERFACE_VERSION: u8 = 0x34;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BindMode {
    Transmitter,
    Receiver,
    Transceiver,
}

impl BindMode {
    pub fn name(self) -> &'static str {
        match self {
            BindMode::Transmitter => "transmitter",
            BindMode::Receiver => "receiver",
            BindMode::Transceiver => "transceiver",
        }
    }

    /// The ESME may submit.
    pub fn transmits(self) -> bool {
        match self {
            BindMode::Transmitter | BindMode::Transceiver => true,
            BindMode::Receiver => false,
        }
    }

    /// The SMSC may deliver.
    pub fn receives(self) -> bool {
        match self {
            BindMode::Receiver | BindMode::Transceiver => true,
            BindMode::Transmitter => false,
        }
    }
}

/// What an ESME binds with.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub mode: BindMode,
    pub system_id: String,
    pub password: String,
    pub system_type: String,
    /// The version that is bound with (SMPP 3.4, 5.2.4).
    pub interface_version: u8,
    pub address_range: String,
    pub addr_ton: u8,
    pub addr_npi: u8,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("mode", &self.mode)
            .field("system_id", &self.system_id)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Debug)]
pub enum Role {
    /// Binds to a message centre.
    Esme(Credentials),
    /// Waits to be bound to.
    Smsc,
}

/// A zero duration turns a timer off, save `bind` and `response`.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Requests without an answer at any time (SMPP 3.4, 2.9: 10 is its advice).
    pub window: usize,
    /// From connecting to bound (session_init_timer, SMPP 3.4, 7.2).
    pub bind: Duration,
    /// From a request to its answer (response_timer); enquire_link and unbind have it too.
    pub response: Duration,
    /// Silence of the peer after which it is asked (enquire_link_timer).
    pub enquire_link: Duration,
    /// Time without a message in either direction after which we unbind (inactivity_timer).
    pub inactivity: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            window: 10,
            bind: Duration::from_secs(30),
            response: Duration::from_secs(60),
            enquire_link: Duration::from_secs(30),
            inactivity: Duration::ZERO,
        }
    }
}

/// What a session counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub pdus_in: u64,
    pub pdus_out: u64,
    /// Answers to nothing we asked: late, twice, or invented.
    pub stray_responses: u64,
    /// Bodies that could not be read and were answered with ESME_RINV*, and lengths that no PDU has.
    pub malformed: u64,
    /// Requests refused because the session was in no state for them, or unknown.
    pub refused: u64,
    /// Of those, the ones with a command_id that is nobody's, or not a request's.
    pub unknown_commands: u64,
    /// Requests refused because those before them filled every place for too long.
    pub overloaded: u64,
    /// Our requests that had no answer in the response time.
    pub unanswered: u64,
}

impl Counters {
    /// What was counted after `before`, of the same session.
    pub fn since(&self, before: &Counters) -> Counters {
        Counters {
            pdus_in: self.pdus_in - before.pdus_in,
            pdus_out: self.pdus_out - before.pdus_out,
            stray_responses: self.stray_responses - before.stray_responses,
            malformed: self.malformed - before.malformed,
            refused: self.refused - before.refused,
            unknown_commands: self.unknown_commands - before.unknown_commands,
            overloaded: self.overloaded - before.overloaded,
            unanswered: self.unanswered - before.unanswered,
        }
    }
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// Our unbind was answered.
    Unbound,
    /// The peer sent unbind, and has its answer.
    UnboundByPeer,
    BindRefused(u32),
    BindTimeout,
    EnquireLinkTimeout,
    UnbindTimeout,
    /// A command_length that no PDU can have: what follows cannot be told apart.
    BadCommandLength(u32),
    /// A PDU began and did not end in time.
    PduTimeout,
    /// The peer does not read what we send.
    WriteTimeout,
    ClosedByPeer,
    Io(io::ErrorKind),
    /// We broke it off.
    Aborted,
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CloseReason::Unbound => write!(f, "unbound"),
            CloseReason::UnboundByPeer => write!(f, "the peer sent unbind"),
            CloseReason::BindRefused(status) => {
                write!(
                    f,
                    "the peer refused the bind with {}",
                    status::describe(*status)
                )
            }
            CloseReason::BindTimeout => write!(f, "no bind in time"),
            CloseReason::EnquireLinkTimeout => write!(f, "the peer did not answer enquire_link"),
            CloseReason::UnbindTimeout => write!(f, "the peer did not answer unbind"),
            CloseReason::BadCommandLength(length) => write!(
                f,
                "the peer sent command_length {length}; {} to {} are possible",
                pdu::HEADER_LEN,
                pdu::COMMAND_LENGTH_MAX
            ),
            CloseReason::PduTimeout => {
                write!(f, "the peer began a PDU and did not finish it in time")
            }
            CloseReason::WriteTimeout => write!(f, "the peer does not read what it is sent"),
            CloseReason::ClosedByPeer => write!(f, "the peer closed the connection"),
            CloseReason::Io(kind) => write!(f, "the connection failed: {kind}"),
            CloseReason::Aborted => write!(f, "broken off by us"),
        }
    }
}

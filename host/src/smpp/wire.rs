//! What goes wrong on a server's connections, counted by kind: a closed list, whatever peers think up.

use std::sync::atomic::{AtomicU64, Ordering};

use super::session::{CloseReason, Counters};
use crate::tls::HandshakeError;

/// What went wrong since the server started.
#[derive(Debug, Default)]
pub struct WireFaults {
    /// Connections closed at once: too many that had not bound.
    pub unbound_floods: AtomicU64,
    pub tls_failures: AtomicU64,
    pub tls_timeouts: AtomicU64,
    /// Connections that were not bound in time.
    pub bind_timeouts: AtomicU64,
    /// Of `malformed`, those whose command_length no PDU can have: they ended their session.
    pub bad_lengths: AtomicU64,
    /// PDUs that could not be read.
    pub malformed: AtomicU64,
    /// Requests that the state of their session does not allow.
    pub wrong_state: AtomicU64,
    /// command_ids that are nobody's, or not an ESME's to send.
    pub unknown_commands: AtomicU64,
    /// Responses to nothing that was asked.
    pub stray_responses: AtomicU64,
    /// Requests refused because those before them were not worked off.
    pub overloaded: AtomicU64,
    /// Requests of ours without a response in time.
    pub unanswered: AtomicU64,
    /// Sessions ended because a PDU did not.
    pub pdu_timeouts: AtomicU64,
    /// Sessions ended because what they were sent was not read.
    pub write_timeouts: AtomicU64,
    /// Sessions ended because enquire_link or unbind was not answered.
    pub silent: AtomicU64,
    /// Connections that broke: reset, or TLS records that are none.
    pub broken: AtomicU64,
}

impl WireFaults {
    /// Each kind by its name.
    pub fn figures(&self) -> [(&'static str, u64); 15] {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("unbound_floods", read(&self.unbound_floods)),
            ("tls_failures", read(&self.tls_failures)),
            ("tls_timeouts", read(&self.tls_timeouts)),
            ("bind_timeouts", read(&self.bind_timeouts)),
            ("bad_lengths", read(&self.bad_lengths)),
            ("malformed", read(&self.malformed)),
            ("wrong_state", read(&self.wrong_state)),
            ("unknown_commands", read(&self.unknown_commands)),
            ("stray_responses", read(&self.stray_responses)),
            ("overloaded", read(&self.overloaded)),
            ("unanswered", read(&self.unanswered)),
            ("pdu_timeouts", read(&self.pdu_timeouts)),
            ("write_timeouts", read(&self.write_timeouts)),
            ("silent", read(&self.silent)),
            ("broken", read(&self.broken)),
        ]
    }

    pub(super) fn one(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// What a session counted.
    pub(super) fn counted(&self, more: &Counters) {
        let add = |counter: &AtomicU64, more: u64| {
            if more > 0 {
                counter.fetch_add(more, Ordering::Relaxed);
            }
        };
        add(&self.malformed, more.malformed);
        add(&self.wrong_state, more.refused - more.unknown_commands);
        add(&self.unknown_commands, more.unknown_commands);
        add(&self.stray_responses, more.stray_responses);
        add(&self.overloaded, more.overloaded);
        add(&self.unanswered, more.unanswered);
    }

    pub(super) fn no_tls(&self, error: &HandshakeError) {
        WireFaults::one(match error {
            HandshakeError::Timeout(_) => &self.tls_timeouts,
            HandshakeError::Failed(_) => &self.tls_failures,
        });
    }

    /// How a session ended.
    pub(super) fn ended(&self, reason: CloseReason) {
        let counter = match reason {
            CloseReason::BindTimeout => &self.bind_timeouts,
            CloseReason::BadCommandLength(_) => &self.bad_lengths,
            CloseReason::PduTimeout => &self.pdu_timeouts,
            CloseReason::WriteTimeout => &self.write_timeouts,
            CloseReason::EnquireLinkTimeout | CloseReason::UnbindTimeout => &self.silent,
            CloseReason::Io(_) => &self.broken,
            CloseReason::Unbound
            | CloseReason::UnboundByPeer
            | CloseReason::BindRefused(_)
            | CloseReason::ClosedByPeer
            | CloseReason::Aborted => return,
        };
        WireFaults::one(counter);
    }
}

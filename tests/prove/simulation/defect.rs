//! Defects that are planted where the simulation hands something on. A simulation that does not find them would be
//! green whatever is wrong with the server.

use heliograph::carrier::{Handed, SendOutcome};

use super::world::State;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// The carrier has taken a message, and the server is told that it never left.
    OutcomeForgotten,
    /// A place in a window is given back with the answer, and not when that is durable.
    PlaceGivenBackEarly,
    /// An attempt does not end.
    LeaseForgotten,
    /// Most syncs say that they are done, and are not.
    SyncPretended,
    /// Another state than the carrier's is read out of a receipt.
    ReceiptMisread,
    /// A part of a text is answered as taken, and thrown away.
    TextForgotten,
    /// A webhook is answered as heard, and nobody heard it.
    WebhookForgotten,
}

impl Defect {
    pub const ALL: [Defect; 7] = [
        Defect::OutcomeForgotten,
        Defect::PlaceGivenBackEarly,
        Defect::LeaseForgotten,
        Defect::SyncPretended,
        Defect::ReceiptMisread,
        Defect::TextForgotten,
        Defect::WebhookForgotten,
    ];
}

/// One time of so many.
const SELDOM: u64 = 8;

impl Defect {
    /// A place that is given back too early matters where another message waits for just that one.
    fn is_constant(self) -> bool {
        self == Defect::PlaceGivenBackEarly
    }
}

impl State {
    /// Whether this defect shows now.
    pub fn shows(&mut self, defect: Defect) -> bool {
        self.defect == Some(defect) && (defect.is_constant() || self.pick(0..SELDOM) == 0)
    }

    /// What the server hears in the place of `handed`.
    pub fn spoilt(&mut self, mut handed: Handed) -> Handed {
        let sent = matches!(handed.outcome, SendOutcome::Sent { .. });
        if sent && self.shows(Defect::OutcomeForgotten) {
            handed.outcome = SendOutcome::Unavailable;
        }
        handed
    }
}

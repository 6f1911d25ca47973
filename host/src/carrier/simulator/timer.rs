//! What the simulated SMSC does later, ordered by time. Knows no clock: what is due is asked by
//! comparing times that came in.

use std::time::Duration;

use super::engine::SessionId;
use super::quirks::Quirks;
use super::session::Delivery;

pub(super) struct Timer {
    pub(super) due: Duration,
    /// Equal times go in order of arrival.
    pub(super) number: u64,
    pub(super) work: Work,
}

pub(super) enum Work {
    Answer {
        session: SessionId,
        sequence_number: u32,
        command_status: u32,
        id: Option<u64>,
        data_sm: bool,
        quirks: Quirks,
    },
    /// The script's step of that number begins.
    Step(usize),
    Deliver(Delivery),
    Repeat(Delivery),
    SendShuffled,
}

/// Where an answer goes.
#[derive(Clone, Copy)]
pub(super) struct Reply {
    pub(super) session: SessionId,
    pub(super) sequence_number: u32,
    pub(super) data_sm: bool,
}

impl PartialEq for Timer {
    fn eq(&self, other: &Timer) -> bool {
        (self.due, self.number) == (other.due, other.number)
    }
}

impl Eq for Timer {}

impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Timer) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timer {
    fn cmp(&self, other: &Timer) -> std::cmp::Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

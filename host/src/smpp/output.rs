//! What a session wants written, and how far into the stream that has come.

use super::pdu::{EncodeError, Framing, HEADER_LEN, Pdu, encode, frame};

/// Capacity that is kept between writes.
const KEPT: usize = 64 * 1024;

#[derive(Debug, Default)]
pub struct Output {
    octets: Vec<u8>,
    /// Of `octets`, those that were written.
    done: usize,
    written: u64,
}

impl Output {
    pub fn unwritten(&self) -> &[u8] {
        &self.octets[self.done..]
    }

    pub fn wrote(&mut self, octets: usize) {
        self.done += octets;
        self.written += octets as u64;
        if self.done >= self.octets.len() {
            self.octets.clear();
            self.octets.shrink_to(KEPT);
            self.done = 0;
        } else if self.done > KEPT {
            self.octets.drain(..self.done);
            self.done = 0;
        }
    }

    pub fn push(&mut self, pdu: &Pdu<'_>) -> Result<(), EncodeError> {
        encode(pdu, &mut self.octets)
    }

    /// A whole PDU under another sequence number, which its header ends with.
    pub fn push_encoded(&mut self, frame: &[u8], sequence_number: u32) {
        let (head, body) = frame.split_at(HEADER_LEN.min(frame.len()));
        self.octets.extend_from_slice(&head[..head.len().min(12)]);
        self.octets
            .extend_from_slice(&sequence_number.to_be_bytes());
        self.octets.extend_from_slice(body);
    }

    /// Gives room back that nothing stands in.
    pub fn shrink(&mut self) {
        if self.octets.is_empty() {
            self.octets = Vec::new();
        }
    }

    /// Position in the stream of the last octet written.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Position in the stream of the next octet pushed.
    pub fn end(&self) -> u64 {
        self.written + self.unwritten().len() as u64
    }

    /// Forgets the PDUs that begin at those positions in the stream; not one octet of them was written.
    pub fn take_back(&mut self, mut positions: Vec<u64>) {
        positions.sort_unstable();
        let mut kept = Vec::with_capacity(self.unwritten().len());
        let mut rest = self.unwritten();
        let mut at = self.written;
        for position in positions {
            let ahead = usize::try_from(position.saturating_sub(at)).unwrap_or(usize::MAX);
            let (before, from) = rest.split_at(ahead.min(rest.len()));
            let Framing::Frame(length) = frame(from) else {
                continue;
            };
            kept.extend_from_slice(before);
            rest = &from[length..];
            at = position + length as u64;
        }
        kept.extend_from_slice(rest);
        self.octets = kept;
        self.done = 0;
    }
}

//! What one instance finds in its empty WASI: a wall clock that stands at the decision's time, a monotonic
//! clock that moves only by the guest's own waiting, randomness drawn from the decision's `random`, and two
//! streams that are cut into lines. All of it follows from the decision alone, so that a recorded call which
//! is run again sees the same. Knows nothing of wasmtime.

use sha2::{Digest, Sha256};

use super::super::host_calls::TooMuch;

/// Before a decision, where a guest is instantiated, described and configured: 2020-01-01T00:00:00Z.
const BEFORE_ANY_MS: u64 = 1_577_836_800_000;
const NANOS_PER_MS: u64 = 1_000_000;
const CALLS_MAX: u32 = 10_000;
const TIMERS_MAX: usize = 1_024;
/// A longer line is written in pieces.
const LINE_BYTES_MAX: usize = 1_024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    pub const ALL: [Stream; 2] = [Stream::Stdout, Stream::Stderr];

    pub fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// The decision's time and randomness; the rest is made when a guest first asks for something.
pub struct Wasi {
    now_ms: u64,
    random: u64,
    inside: Option<Box<Inside>>,
}

/// The state of a guest that uses WASI.
pub struct Inside {
    calls_left: u32,
    now_ms: u64,
    monotonic_ns: u64,
    random: u64,
    /// Blocks of randomness drawn in this call, and what is left of the last one.
    blocks: u64,
    block: [u8; 32],
    block_left: usize,
    /// When each timer is over; a free place holds none.
    timers: Vec<Option<u64>>,
    unfinished: [Vec<u8>; Stream::ALL.len()],
}

impl Wasi {
    pub fn new() -> Wasi {
        Wasi {
            now_ms: BEFORE_ANY_MS,
            random: 0,
            inside: None,
        }
    }

    /// The next call is this decision's.
    pub fn decide(&mut self, now_ms: u64, random: u64) {
        (self.now_ms, self.random) = (now_ms, random);
        if let Some(inside) = &mut self.inside {
            inside.begin(now_ms, random);
        }
    }

    /// Counts a call of the guest.
    pub fn call(&mut self) -> Result<&mut Inside, TooMuch> {
        let (now_ms, random) = (self.now_ms, self.random);
        let inside = self
            .inside
            .get_or_insert_with(|| Box::new(Inside::new(now_ms, random)));
        match inside.calls_left.checked_sub(1) {
            None => Err(TooMuch(format!(
                "more than {CALLS_MAX} calls of WASI in one call"
            ))),
            Some(left) => {
                inside.calls_left = left;
                Ok(inside)
            }
        }
    }

    /// Takes bytes that a guest wrote and gives the lines that are whole now.
    pub fn written(&mut self, stream: Stream, bytes: &[u8]) -> Vec<Vec<u8>> {
        let Some(inside) = &mut self.inside else {
            return Vec::new();
        };
        let line = &mut inside.unfinished[stream as usize];
        let mut lines = Vec::new();
        for &byte in bytes {
            if byte == b'\n' {
                lines.push(std::mem::take(line));
                continue;
            }
            if line.len() == LINE_BYTES_MAX {
                lines.push(std::mem::take(line));
            }
            line.push(byte);
        }
        lines
    }

    /// Where a call has ended: lines without an end of line.
    pub fn unfinished(&mut self) -> Vec<(Stream, Vec<u8>)> {
        let Some(inside) = &mut self.inside else {
            return Vec::new();
        };
        Stream::ALL
            .into_iter()
            .map(|s| (s, std::mem::take(&mut inside.unfinished[s as usize])))
            .filter(|(_, line)| !line.is_empty())
            .collect()
    }
}

impl Inside {
    fn new(now_ms: u64, random: u64) -> Inside {
        let mut inside = Inside {
            calls_left: 0,
            now_ms: 0,
            monotonic_ns: 0,
            random: 0,
            blocks: 0,
            block: [0; 32],
            block_left: 0,
            timers: Vec::new(),
            unfinished: [Vec::new(), Vec::new()],
        };
        inside.begin(now_ms, random);
        inside
    }

    fn begin(&mut self, now_ms: u64, random: u64) {
        self.calls_left = CALLS_MAX;
        self.now_ms = now_ms;
        self.monotonic_ns = now_ms.saturating_mul(NANOS_PER_MS);
        self.random = random;
        self.blocks = 0;
        self.block_left = 0;
    }

    pub fn wall_ms(&self) -> u64 {
        self.now_ms
    }

    pub fn monotonic_ns(&self) -> u64 {
        self.monotonic_ns
    }

    /// SHA-256 over the decision's `random` and a counter: the same on every machine and in every version.
    pub fn random_bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            if self.block_left == 0 {
                let mut hash = Sha256::new();
                hash.update(self.random.to_le_bytes());
                hash.update(self.blocks.to_le_bytes());
                self.block = hash.finalize().into();
                self.block_left = self.block.len();
                self.blocks += 1;
            }
            let from = self.block.len() - self.block_left;
            let take = self.block_left.min(len - bytes.len());
            bytes.extend_from_slice(&self.block[from..from + take]);
            self.block_left -= take;
        }
        bytes
    }

    pub fn random_u64(&mut self) -> u64 {
        self.random_bytes(8)
            .iter()
            .rev()
            .fold(0, |value, byte| value << 8 | u64::from(*byte))
    }

    /// A timer that is over at `at`: its number, which is never zero.
    pub fn timer(&mut self, at: u64) -> Result<u32, TooMuch> {
        let free = self.timers.iter().position(Option::is_none);
        let index = match free {
            Some(index) => index,
            None if self.timers.len() < TIMERS_MAX => {
                self.timers.push(None);
                self.timers.len() - 1
            }
            None => return Err(TooMuch(format!("more than {TIMERS_MAX} timers of WASI"))),
        };
        self.timers[index] = Some(at);
        Ok(index as u32 + 1)
    }

    pub fn end_timer(&mut self, number: u32) {
        if let Some(timer) = self.timers.get_mut((number as usize).wrapping_sub(1)) {
            *timer = None;
        }
    }

    /// What is no timer is ready.
    pub fn is_ready(&self, number: u32) -> bool {
        self.due(number).is_none_or(|at| at <= self.monotonic_ns)
    }

    fn due(&self, number: u32) -> Option<u64> {
        let index = (number as usize).checked_sub(1)?;
        self.timers.get(index).copied().flatten()
    }

    /// Nobody waits for real: where none of `numbers` is ready, the monotonic clock goes to the first that will be.
    pub fn wait_for(&mut self, numbers: &[u32]) {
        if numbers.iter().any(|n| self.is_ready(*n)) {
            return;
        }
        let first = numbers.iter().filter_map(|n| self.due(*n)).min();
        self.monotonic_ns = first.map_or(self.monotonic_ns, |at| at.max(self.monotonic_ns));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(random: u64) -> Vec<u8> {
        let mut wasi = Wasi::new();
        wasi.decide(5, random);
        wasi.call().unwrap().random_bytes(100)
    }

    #[test]
    fn randomness_is_the_decisions_own() {
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
        let first = Sha256::digest([7_u64.to_le_bytes(), 0_u64.to_le_bytes()].concat());
        assert_eq!(drawn(7)[..32], first[..]);
    }

    #[test]
    fn a_second_call_of_an_instance_draws_as_if_it_were_the_first() {
        let mut wasi = Wasi::new();
        wasi.decide(5, 7);
        wasi.call().unwrap().random_bytes(33);
        wasi.decide(5, 7);
        assert_eq!(wasi.call().unwrap().random_bytes(100), drawn(7));
    }

    #[test]
    fn before_any_decision_time_and_randomness_are_fixed() {
        let (mut one, mut two) = (Wasi::new(), Wasi::new());
        let (one, two) = (one.call().unwrap(), two.call().unwrap());
        assert_eq!(one.random_u64(), two.random_u64());
        assert_eq!(
            (one.wall_ms(), two.wall_ms()),
            (BEFORE_ANY_MS, BEFORE_ANY_MS)
        );
    }

    #[test]
    fn waiting_moves_the_monotonic_clock_and_not_the_wall_clock() {
        let mut wasi = Wasi::new();
        wasi.decide(1_000, 0);
        let inside = wasi.call().unwrap();
        let start = inside.monotonic_ns();
        let (late, soon) = (inside.timer(start + 50), inside.timer(start + 20));
        let (late, soon) = (late.unwrap(), soon.unwrap());
        assert!(!inside.is_ready(soon));
        inside.wait_for(&[late, soon]);
        assert_eq!(inside.monotonic_ns(), start + 20);
        assert!(inside.is_ready(soon) && !inside.is_ready(late));
        assert_eq!(inside.wall_ms(), 1_000);
        inside.end_timer(soon);
        assert_eq!(inside.timer(0), Ok(soon), "a place is used again");
    }

    #[test]
    fn timers_and_calls_have_their_number() {
        let mut wasi = Wasi::new();
        let inside = wasi.call().unwrap();
        let made = (0..TIMERS_MAX + 1)
            .map(|_| inside.timer(0))
            .filter(Result::is_ok);
        assert_eq!(made.count(), TIMERS_MAX);
        let calls = (0..CALLS_MAX + 1).filter(|_| wasi.call().is_ok()).count();
        assert_eq!(calls, CALLS_MAX as usize - 1);
    }

    #[test]
    fn output_is_cut_into_lines() {
        let mut wasi = Wasi::new();
        wasi.call().unwrap();
        assert!(wasi.written(Stream::Stdout, b"he").is_empty());
        assert!(wasi.written(Stream::Stderr, b"x").is_empty());
        let lines = wasi.written(Stream::Stdout, b"llo\nworld\nre");
        assert_eq!(lines, [b"hello".to_vec(), b"world".to_vec()]);
        let rest = wasi.unfinished();
        assert_eq!(
            rest,
            [
                (Stream::Stdout, b"re".to_vec()),
                (Stream::Stderr, b"x".to_vec())
            ]
        );
        assert!(wasi.unfinished().is_empty());
        let long = wasi.written(Stream::Stdout, &[b'a'; 3 * LINE_BYTES_MAX]);
        assert_eq!(long.len(), 2);
    }
}

//! Decides what becomes of each submit_sm: answered when and with what, confirmed when, how often
//! and with which final state. Pure: time comes in, all randomness comes from one seeded generator,
//! so that the same seed and the same sequence of messages give the same outcomes. Knows no PDU.

use std::time::Duration;

use super::quirks::{Again, Garbage, IdFault, Quirks};
use super::settings::{
    ErrorRate, FinalRate, FinalState, IdStyle, MessageState, Outcome, Rule, Settings, WindowPolicy,
};

/// ESME_RMSGQFUL (SMPP 3.4, 5.1.3).
const QUEUE_FULL: u32 = 0x14;
/// ESME_RTHROTTLED (SMPP 3.4, 5.1.3).
const THROTTLED: u32 = 0x58;
/// How long the response of an early receipt is held back, so that the receipt comes first on
/// another session too.
const EARLY_LEAD: Duration = Duration::from_millis(20);

/// What the decision is about.
#[derive(Clone, Copy, Debug)]
pub struct Submit<'a> {
    /// destination_addr as it came.
    pub destination: &'a [u8],
    pub registered_delivery: u8,
    /// submit_sm of the same session that wait for their answer, this one not counted.
    pub unanswered: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Cut the connection; the message is not taken.
    Drop,
    Refuse {
        status: u32,
        after: Duration,
    },
    Accept {
        id: u64,
        /// None: the answer is swallowed.
        after: Option<Duration>,
        receipts: Receipts,
        /// How the message ends and when, whether a receipt tells or not.
        fate: Receipt,
        quirks: Quirks,
    },
}

/// The receipts of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipts {
    /// None was asked for.
    None,
    /// One was asked for and is lost.
    Lost,
    One(Receipt),
    /// The same receipt twice.
    Two(Receipt, Receipt),
}

impl Receipts {
    /// Whether one comes before a response that comes `response` after the submit_sm.
    pub fn precede(&self, response: Duration) -> bool {
        match self {
            Receipts::None | Receipts::Lost => false,
            Receipts::One(first) | Receipts::Two(first, _) => first.after < response,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub end: FinalState,
    /// From the arrival of the submit_sm.
    pub after: Duration,
}

pub struct Behaviour {
    settings: Settings,
    rng: Rng,
    bucket: Bucket,
    next_id: u64,
}

impl Behaviour {
    /// `first_id` serves where the settings name none.
    pub fn new(settings: Settings, first_id: u64) -> Behaviour {
        let mut behaviour = Behaviour {
            rng: Rng(settings.seed),
            bucket: Bucket::default(),
            next_id: settings.first_id.unwrap_or(first_id),
            settings: Settings::DEFAULT,
        };
        behaviour.set(settings);
        behaviour
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Changes the settings while it runs. A new seed starts the randomness again, a new first_id the ids.
    pub fn change(&mut self, settings: Settings) {
        if settings.seed != self.settings.seed {
            self.rng = Rng(settings.seed);
        }
        if let Some(id) = settings.first_id
            && settings.first_id != self.settings.first_id
        {
            self.next_id = id;
        }
        self.set(settings);
    }

    fn set(&mut self, mut settings: Settings) {
        // The longest prefix wins; among equals the first named.
        settings
            .rules
            .sort_by_key(|rule| std::cmp::Reverse(rule.prefix.len()));
        if settings.throughput != self.settings.throughput {
            self.bucket = Bucket::full(settings.throughput);
        }
        self.settings = settings;
    }

    /// The SMSC's decision about a submit_sm that arrived at `now` (since the start).
    pub fn judge(&mut self, now: Duration, submit: &Submit<'_>) -> Verdict {
        // A limit is checked at the door, so its answer comes at once.
        if let Some(status) = self.over_limit(now, submit.unanswered) {
            return Verdict::Refuse {
                status,
                after: Duration::ZERO,
            };
        }
        let after = self.spread(self.settings.latency_ms, self.settings.latency_jitter_ms);
        let rule = self.rule(submit.destination);
        match rule {
            Some(Outcome::Drop) => return Verdict::Drop,
            Some(Outcome::Status(status)) => return Verdict::Refuse { status, after },
            Some(Outcome::Swallow | Outcome::NoReceipt | Outcome::Final(_)) | None => {}
        }
        if rule.is_none() {
            if self.rng.chance(self.settings.drop_rate) {
                return Verdict::Drop;
            }
            if let Some(status) = self.random_error() {
                return Verdict::Refuse { status, after };
            }
        }
        self.accept(submit, rule, after)
    }

    /// A random order, for receipts that are to be shuffled.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let j = self.rng.below(i as u64 + 1);
            items.swap(i, usize::try_from(j).unwrap_or(i));
        }
    }

    fn accept(
        &mut self,
        submit: &Submit<'_>,
        rule: Option<Outcome>,
        mut after: Duration,
    ) -> Verdict {
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        let swallowed = match rule {
            Some(Outcome::Swallow) => true,
            Some(_) => false,
            None => self.rng.chance(self.settings.swallow_rate),
        };
        let end = match rule {
            Some(Outcome::Final(end)) => end,
            _ => self.random_end(),
        };
        let mut fate = Receipt {
            end,
            after: after + Duration::from_millis(u64::from(self.settings.receipt_delay_ms)),
        };
        let receipts =
            if !self.settings.receipts || !wants_receipt(submit.registered_delivery, end.state) {
                Receipts::None
            } else if rule == Some(Outcome::NoReceipt)
                || self.rng.chance(self.settings.receipt_loss_rate)
            {
                Receipts::Lost
            } else {
                self.receipts(end, &mut after)
            };
        if let Receipts::One(first) | Receipts::Two(first, _) = receipts {
            fate = first;
        }
        Verdict::Accept {
            id,
            after: (!swallowed).then_some(after),
            receipts,
            fate,
            quirks: self.quirks(),
        }
    }

    fn quirks(&mut self) -> Quirks {
        let rates = (
            self.settings.id_fault_rate,
            self.settings.answer_twice_rate,
            self.settings.garbage_rate,
        );
        Quirks {
            id: self.one_of(rates.0, &IdFault::ALL),
            again: self.one_of(rates.1, &Again::ALL),
            garbage: self.one_of(rates.2, &Garbage::ALL),
        }
    }

    /// At that rate one of `all`, each as likely as the others.
    fn one_of<T: Copy>(&mut self, rate: f64, all: &[T]) -> Option<T> {
        self.rng.chance(rate).then(|| self.any_of(all)).flatten()
    }

    fn any_of<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        let index = usize::try_from(self.rng.below(all.len() as u64)).unwrap_or(0);
        all.get(index).copied()
    }

    /// 64 random bits.
    pub fn random(&mut self) -> u64 {
        self.rng.next()
    }

    /// Up to `jitter_ms`, for steps of a script.
    pub fn jitter(&mut self, jitter_ms: u32) -> Duration {
        self.spread(0, jitter_ms)
    }

    /// Some octets out of place.
    pub fn garbage(&mut self) -> Option<Garbage> {
        self.any_of(&Garbage::ALL)
    }

    /// A further receipt for a message whose own is `first`: any state, at any time around it.
    pub fn contradiction(&mut self, first: Receipt) -> Receipt {
        let states = [
            MessageState::Enroute,
            MessageState::Delivered,
            MessageState::Expired,
            MessageState::Undeliverable,
            MessageState::Unknown,
            MessageState::Rejected,
        ];
        let end = FinalState {
            state: self.any_of(&states).unwrap_or(MessageState::Unknown),
            error: *b"000",
        };
        let after = first.after + self.spread(0, self.settings.receipt_jitter_ms);
        Receipt { end, after }
    }

    /// `response` is put off where the receipt is to come first.
    fn receipts(&mut self, end: FinalState, response: &mut Duration) -> Receipts {
        let (delay, jitter) = (
            self.settings.receipt_delay_ms,
            self.settings.receipt_jitter_ms,
        );
        let mut first = Receipt {
            end,
            after: *response + self.spread(delay, jitter),
        };
        if self.rng.chance(self.settings.receipt_early_rate) {
            first.after = Duration::ZERO;
            *response = (*response).max(EARLY_LEAD);
        }
        if !self.rng.chance(self.settings.receipt_duplicate_rate) {
            return Receipts::One(first);
        }
        let second = Receipt {
            end,
            after: first.after + self.spread(delay, jitter),
        };
        Receipts::Two(first, second)
    }

    fn over_limit(&mut self, now: Duration, unanswered: u32) -> Option<u32> {
        let window = self.settings.window;
        if window > 0 && unanswered >= window && self.settings.window_policy == WindowPolicy::Refuse
        {
            return Some(QUEUE_FULL);
        }
        let throughput = self.settings.throughput;
        (throughput > 0 && !self.bucket.take(now, throughput)).then_some(THROTTLED)
    }

    fn rule(&self, destination: &[u8]) -> Option<Outcome> {
        let digits = destination.strip_prefix(b"+").unwrap_or(destination);
        let matches = |rule: &&Rule| digits.starts_with(rule.prefix.as_bytes());
        self.settings
            .rules
            .iter()
            .find(matches)
            .map(|rule| rule.outcome)
    }

    fn random_error(&mut self) -> Option<u32> {
        let rate = |e: &ErrorRate| e.rate;
        let index = self.rng.pick(self.settings.errors.iter().map(rate))?;
        self.settings.errors.get(index).map(|e| e.status)
    }

    fn random_end(&mut self) -> FinalState {
        let rate = |e: &FinalRate| e.rate;
        self.rng
            .pick(self.settings.final_states.iter().map(rate))
            .and_then(|index| self.settings.final_states.get(index))
            .map_or(FinalState::DELIVERED, |e| e.end)
    }

    fn spread(&mut self, fixed_ms: u32, jitter_ms: u32) -> Duration {
        let jitter_us = match u64::from(jitter_ms) * 1000 {
            0 => 0,
            us => self.rng.below(us + 1),
        };
        Duration::from_millis(u64::from(fixed_ms)) + Duration::from_micros(jitter_us)
    }
}

/// Writes a message's id as the settings have it. At most 64 octets (SMPP 3.4, 5.2.23).
pub fn write_id(out: &mut Vec<u8>, id: u64, style: IdStyle, width: u8) {
    let (base, letters): (u64, &[u8; 16]) = match style {
        IdStyle::Decimal => (10, b"0123456789abcdef"),
        IdStyle::HexLower => (16, b"0123456789abcdef"),
        IdStyle::HexUpper => (16, b"0123456789ABCDEF"),
        IdStyle::Opaque => return write_opaque(out, id),
    };
    let mut digits = [b'0'; 64];
    let mut at = digits.len();
    let mut rest = id;
    while rest > 0 {
        at -= 1;
        digits[at] = letters[(rest % base) as usize];
        rest /= base;
    }
    let least = usize::from(width).clamp(1, digits.len());
    out.extend_from_slice(&digits[at.min(digits.len() - least)..]);
}

/// Multiplication by an odd number is one-to-one: different ids stay different.
fn write_opaque(out: &mut Vec<u8>, id: u64) {
    const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut rest = id.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    for i in 0..11 {
        if i == 4 {
            out.push(b'-');
        }
        out.push(LETTERS[(rest % 62) as usize]);
        rest /= 62;
    }
}

/// registered_delivery bits 1 and 0 (SMPP 3.4, 5.2.17). 3 is reserved there and asks for success
/// alone since SMPP 5.0, 4.7.21.
fn wants_receipt(registered_delivery: u8, state: MessageState) -> bool {
    let failed = match state {
        MessageState::Delivered | MessageState::Accepted | MessageState::Enroute => false,
        MessageState::Expired
        | MessageState::Deleted
        | MessageState::Undeliverable
        | MessageState::Unknown
        | MessageState::Rejected => true,
    };
    match registered_delivery & 0b11 {
        0 => false,
        1 => true,
        2 => failed,
        _ => !failed,
    }
}

/// A token bucket that holds one second's worth.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// Millionths of a message.
    tokens: u64,
    at: Duration,
}

impl Bucket {
    const ONE: u64 = 1_000_000;

    fn full(per_second: u32) -> Bucket {
        Bucket {
            tokens: u64::from(per_second) * Bucket::ONE,
            at: Duration::ZERO,
        }
    }

    fn take(&mut self, now: Duration, per_second: u32) -> bool {
        let passed = now.saturating_sub(self.at).min(Duration::from_secs(1));
        self.at = self.at.max(now);
        // Microseconds times messages per second is millionths of a message.
        let gained = u64::try_from(passed.as_micros()).unwrap_or(0) * u64::from(per_second);
        self.tokens = (self.tokens + gained).min(u64::from(per_second) * Bucket::ONE);
        if self.tokens < Bucket::ONE {
            return false;
        }
        self.tokens -= Bucket::ONE;
        true
    }
}

/// SplitMix64: small, quick, and the same on every machine and in every release.
#[derive(Clone, Debug)]
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// 0 to `n` - 1.
    fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }

    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A rate of 0 costs nothing.
    fn chance(&mut self, rate: f64) -> bool {
        rate > 0.0 && self.share() < rate
    }

    /// The index of one of `rates`, or none for what they leave of 1.
    fn pick(&mut self, mut rates: impl ExactSizeIterator<Item = f64>) -> Option<usize> {
        if rates.len() == 0 {
            return None;
        }
        let mut left = self.share();
        rates.position(|rate| {
            left -= rate;
            left < 0.0
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: Duration = Duration::from_secs(10);

    fn behaviour(patch: serde_json::Value) -> Behaviour {
        Behaviour::new(Settings::default().patched(patch).unwrap(), 1)
    }

    fn to(destination: &str) -> Submit<'_> {
        Submit {
            destination: destination.as_bytes(),
            registered_delivery: 1,
            unanswered: 0,
        }
    }

    fn run(behaviour: &mut Behaviour, n: usize) -> Vec<Verdict> {
        (0..n)
            .map(|_| behaviour.judge(NOW, &to("447700900123")))
            .collect()
    }

    fn count(verdicts: &[Verdict], is: impl Fn(&Verdict) -> bool) -> usize {
        verdicts.iter().filter(|v| is(v)).count()
    }

    #[test]
    fn the_same_seed_gives_the_same_outcomes_and_another_seed_others() {
        let settings = |seed: u64| {
            json!({"seed": seed, "latency_jitter_ms": 50, "errors": ["0x08=0.2"], "swallow_rate": 0.2,
                   "receipt_loss_rate": 0.2, "receipt_duplicate_rate": 0.2, "final_states": ["UNDELIV:001=0.3"]})
        };
        let first = run(&mut behaviour(settings(7)), 500);
        assert_eq!(first, run(&mut behaviour(settings(7)), 500));
        assert_ne!(first, run(&mut behaviour(settings(8)), 500));
    }

    #[test]
    fn a_seed_set_again_while_it_runs_starts_the_randomness_again() {
        let mut b = behaviour(json!({"seed": 7, "errors": ["0x08=0.5"], "first_id": 1}));
        let first = run(&mut b, 50);
        let other = b.settings().patched(json!({"seed": 8})).unwrap();
        b.change(other);
        let back = b
            .settings()
            .patched(json!({"seed": 7, "first_id": 2}))
            .unwrap();
        b.change(back);
        let again = run(&mut b, 50);
        let refused = |v: &[Verdict]| {
            v.iter()
                .map(|v| matches!(v, Verdict::Refuse { .. }))
                .collect::<Vec<_>>()
        };
        assert_eq!(refused(&first), refused(&again));
    }

    #[test]
    fn rates_come_out_as_set() {
        let mut b = behaviour(
            json!({"errors": ["0x08=0.1", "0x14=0.2"], "drop_rate": 0.1, "swallow_rate": 0.5}),
        );
        let v = run(&mut b, 20_000);
        let near = |got: usize, expect: usize| {
            assert!(got.abs_diff(expect) < expect / 8, "{got} for {expect}")
        };
        near(count(&v, |v| *v == Verdict::Drop), 2_000);
        near(
            count(&v, |v| matches!(v, Verdict::Refuse { status: 0x08, .. })),
            1_800,
        );
        near(
            count(&v, |v| matches!(v, Verdict::Refuse { status: 0x14, .. })),
            3_600,
        );
        near(
            count(&v, |v| matches!(v, Verdict::Accept { after: None, .. })),
            6_300,
        );
    }

    #[test]
    fn latency_lies_between_its_fixed_part_and_its_jitter() {
        let mut b = behaviour(json!({"latency_ms": 20, "latency_jitter_ms": 10}));
        let after: Vec<Duration> = run(&mut b, 1000)
            .into_iter()
            .filter_map(|v| match v {
                Verdict::Accept { after, .. } => after,
                _ => None,
            })
            .collect();
        let (least, most) = (after.iter().min().unwrap(), after.iter().max().unwrap());
        assert!(*least >= Duration::from_millis(20) && *least < Duration::from_millis(21));
        assert!(*most <= Duration::from_millis(30) && *most > Duration::from_millis(29));
    }

    #[test]
    fn beyond_the_throughput_a_submit_is_throttled_until_time_passes() {
        let mut b = behaviour(json!({"throughput": 50}));
        let throttled = |v: &Verdict| {
            matches!(
                v,
                Verdict::Refuse {
                    status: THROTTLED,
                    ..
                }
            )
        };
        assert_eq!(count(&run(&mut b, 80), throttled), 30);
        let later = NOW + Duration::from_millis(100);
        let v: Vec<Verdict> = (0..10).map(|_| b.judge(later, &to("1"))).collect();
        assert_eq!(count(&v, throttled), 5);
    }

    #[test]
    fn beyond_the_window_the_queue_is_full_unless_reading_stops() {
        let full = Submit {
            unanswered: 10,
            ..to("1")
        };
        let mut b = behaviour(json!({"window": 10}));
        assert_eq!(
            b.judge(NOW, &full),
            Verdict::Refuse {
                status: QUEUE_FULL,
                after: Duration::ZERO
            }
        );
        assert!(matches!(
            b.judge(
                NOW,
                &Submit {
                    unanswered: 9,
                    ..full
                }
            ),
            Verdict::Accept { .. }
        ));
        let mut b = behaviour(json!({"window": 10, "window_policy": "stop"}));
        assert!(matches!(b.judge(NOW, &full), Verdict::Accept { .. }));
    }

    #[test]
    fn the_longest_rule_decides_whatever_the_rates_say() {
        let mut b = behaviour(json!({"errors": ["0x08=1"], "rules": [
            "4477=0x0b", "447700900999=UNDELIV:001", "447700900998=swallow", "447700900997=drop",
            "447700900996=no-receipt"]}));
        let unanswered_never = Some(Duration::ZERO);
        assert!(matches!(
            b.judge(NOW, &to("+447711")),
            Verdict::Refuse { status: 0x0B, .. }
        ));
        let end = FinalState {
            state: MessageState::Undeliverable,
            error: *b"001",
        };
        let receipt = Receipt {
            end,
            after: Duration::from_millis(100),
        };
        assert_eq!(
            b.judge(NOW, &to("447700900999")),
            Verdict::Accept {
                id: 1,
                after: unanswered_never,
                receipts: Receipts::One(receipt),
                fate: receipt,
                quirks: Quirks::default(),
            }
        );
        assert!(matches!(
            b.judge(NOW, &to("447700900998")),
            Verdict::Accept { after: None, .. }
        ));
        assert_eq!(b.judge(NOW, &to("447700900997")), Verdict::Drop);
        assert!(matches!(
            b.judge(NOW, &to("447700900996")),
            Verdict::Accept {
                receipts: Receipts::Lost,
                ..
            }
        ));
        assert!(matches!(
            b.judge(NOW, &to("33612345678")),
            Verdict::Refuse { status: 0x08, .. }
        ));
    }

    #[test]
    fn receipts_come_when_registered_delivery_asks_for_that_outcome() {
        let mut b = behaviour(json!({"rules": ["1=DELIVRD", "2=EXPIRED"]}));
        let mut sent = |destination: &'static str, registered_delivery: u8| {
            let submit = Submit {
                registered_delivery,
                ..to(destination)
            };
            !matches!(
                b.judge(NOW, &submit),
                Verdict::Accept {
                    receipts: Receipts::None,
                    ..
                }
            )
        };
        assert_eq!((sent("1", 0), sent("2", 0)), (false, false));
        assert_eq!((sent("1", 1), sent("2", 1)), (true, true));
        assert_eq!((sent("1", 2), sent("2", 2)), (false, true));
        assert_eq!((sent("1", 3), sent("2", 3)), (true, false));
    }

    #[test]
    fn an_early_receipt_precedes_its_response() {
        let mut b = behaviour(json!({"receipt_early_rate": 1}));
        let Verdict::Accept {
            after: Some(after),
            receipts: Receipts::One(receipt),
            ..
        } = b.judge(NOW, &to("1"))
        else {
            panic!("not accepted with a receipt");
        };
        assert!(receipt.after < after);
    }

    #[test]
    fn ids_are_written_in_every_form() {
        let written = |id: u64, style: IdStyle, width: u8| {
            let mut out = Vec::new();
            write_id(&mut out, id, style, width);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(written(48_879, IdStyle::Decimal, 0), "48879");
        assert_eq!(written(48_879, IdStyle::Decimal, 10), "0000048879");
        assert_eq!(written(48_879, IdStyle::HexLower, 0), "beef");
        assert_eq!(written(48_879, IdStyle::HexUpper, 8), "0000BEEF");
        assert_eq!(written(0, IdStyle::Decimal, 0), "0");
        assert_eq!(written(u64::MAX, IdStyle::Decimal, 64).len(), 64);
        assert_ne!(
            written(1, IdStyle::Opaque, 0),
            written(2, IdStyle::Opaque, 0)
        );
    }

    #[test]
    fn quirks_come_at_their_rates_and_leave_the_other_outcomes_as_they_are() {
        let plain = json!({"seed": 7, "errors": ["0x08=0.2"]});
        let mut odd = plain.clone();
        for rate in ["id_fault_rate", "answer_twice_rate", "garbage_rate"] {
            odd[rate] = json!(0.5);
        }
        let quirks: Vec<Quirks> = run(&mut behaviour(odd), 1000)
            .into_iter()
            .filter_map(|v| match v {
                Verdict::Accept { quirks, .. } => Some(quirks),
                _ => None,
            })
            .collect();
        let half = (quirks.len() / 2 - 60)..(quirks.len() / 2 + 60);
        let share = |is: fn(&Quirks) -> bool| quirks.iter().filter(|q| is(q)).count();
        assert!(half.contains(&share(|q| q.id.is_some())));
        assert!(half.contains(&share(|q| q.again.is_some())));
        assert!(half.contains(&share(|q| q.garbage.is_some())));
        for fault in IdFault::ALL {
            assert!(quirks.iter().any(|q| q.id == Some(fault)), "{fault:?}");
        }
        for garbage in Garbage::ALL {
            assert!(
                quirks.iter().any(|q| q.garbage == Some(garbage)),
                "{garbage:?}"
            );
        }
        assert!(run(&mut behaviour(plain), 100).iter().all(|v| !matches!(
            v,
            Verdict::Accept { quirks, .. } if *quirks != Quirks::default()
        )));
    }

    #[test]
    fn a_shuffle_loses_nothing() {
        let mut items: Vec<u32> = (0..100).collect();
        behaviour(json!({})).shuffle(&mut items);
        assert!(items.windows(2).any(|w| w[0] > w[1]));
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}

//! What the host says to a hook: one list of octets (`wit/README.md`, "Packed calls"), read in the order of the
//! contract. The host wrote it, so what does not fit is no case of its own: the call ends there.

use crate::short::copy;

/// A call that is being read.
pub struct Packed<'a> {
    numbers: &'a [u8],
    text: &'a str,
}

/// What can be read from a call.
pub trait Unpack {
    fn unpack(call: &mut Packed) -> Self;
}

impl<'a> Packed<'a> {
    pub fn new(call: &'a [u8]) -> Self {
        let parts = call.split_first_chunk().and_then(|(begin, _)| {
            let begin = usize::try_from(u32::from_le_bytes(*begin)).ok()?;
            let (numbers, text) = call.split_at_checked(begin)?;
            Some(Self {
                numbers: numbers.get(4..)?,
                text: std::str::from_utf8(text).ok()?,
            })
        });
        parts.unwrap_or_else(|| unreadable())
    }

    /// The next value.
    pub fn read<T: Unpack>(&mut self) -> T {
        T::unpack(self)
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        let Some((taken, rest)) = self.numbers.split_first_chunk() else {
            unreadable()
        };
        self.numbers = rest;
        *taken
    }

    fn length(&mut self) -> usize {
        // 32 bits are what a component's addresses have.
        self.read::<u32>() as usize
    }
}

#[cold]
pub(crate) fn unreadable() -> ! {
    panic!("the host's call is not packed as heliograph:sms@0.3.0 says")
}

macro_rules! numbers {
    ($($number:ty)+) => {
        $(impl Unpack for $number {
            fn unpack(call: &mut Packed) -> Self {
                Self::from_le_bytes(call.take())
            }
        })+
    };
}

numbers!(u8 u16 u32 u64 i16 f32);

impl Unpack for bool {
    fn unpack(call: &mut Packed) -> Self {
        call.read::<u8>() != 0
    }
}

impl Unpack for char {
    fn unpack(call: &mut Packed) -> Self {
        char::from_u32(call.read()).unwrap_or_default()
    }
}

impl Unpack for String {
    fn unpack(call: &mut Packed) -> Self {
        let length = call.length();
        let Some((text, rest)) = call.text.split_at_checked(length) else {
            unreadable()
        };
        call.text = rest;
        copy(text)
    }
}

impl<T: Unpack> Unpack for Option<T> {
    fn unpack(call: &mut Packed) -> Self {
        call.read::<bool>().then(|| call.read())
    }
}

impl<T: Unpack> Unpack for Vec<T> {
    fn unpack(call: &mut Packed) -> Self {
        let length = call.length();
        let mut values = Vec::with_capacity(length.min(call.numbers.len()));
        for _ in 0..length {
            values.push(call.read());
        }
        values
    }
}

impl<A: Unpack, B: Unpack> Unpack for (A, B) {
    fn unpack(call: &mut Packed) -> Self {
        (call.read(), call.read())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::*;

    /// The octets of `call.hex`, without what it says of them.
    fn published() -> Vec<u8> {
        let rows = include_str!("../../wit/v0.3/call.hex").lines();
        let octets = rows.flat_map(|row| row.split('#').next().unwrap_or("").split_whitespace());
        let octet = |text| u8::from_str_radix(text, 16).expect("an octet");
        octets.map(octet).collect()
    }

    #[test]
    fn a_call_is_read_as_it_is_published() {
        let octets = published();
        let mut call = Packed::new(&octets);
        let (message, carriers): (Message, Vec<Carrier>) = call.read();
        let context: Context = call.read();
        assert!(call.numbers.is_empty() && call.text.is_empty());
        let noon = 1_781_524_800_000;
        let mut expect = testing::message("+447700900123", "Voilà");
        expect.id = MessageId(0x0192_f0a1_b2c3_7d4e_8f60_7182_93a4_b5c6);
        expect.account = "acme".to_owned();
        expect.originator = Address {
            ton: TypeOfNumber::Alphanumeric,
            npi: NumberingPlan::Unknown,
            value: "Acme".to_owned(),
            prefix: "".into(),
            withheld: false,
        };
        expect.recipient = Address {
            ton: TypeOfNumber::International,
            npi: NumberingPlan::Isdn,
            value: "447700900123".to_owned(),
            prefix: "44770090".into(),
            withheld: false,
        };
        expect.network = Network {
            country: Country::new("GB"),
            mcc: Some(234),
            mnc: None,
            ported: true,
        };
        expect.alphabet = Alphabet::Gsm7;
        expect.segments = 1;
        expect.traffic = TrafficClass::Transactional;
        (expect.accepted_at, expect.send_at) = (noon, noon);
        expect.expires_at = noon + 86_400_000;
        expect.reference = "r-1".to_owned();
        expect.attempts = vec![Attempt {
            carrier: "north".to_owned(),
            at: noon + 1_000,
            outcome: Outcome::PermanentFailure(0x0b),
        }];
        expect.tlvs = vec![Tlv {
            tag: 0x1400,
            value: vec![1, 2],
        }];
        expect.metadata = vec![("order".to_owned(), "4711".to_owned())];
        assert_eq!(message, expect);
        let carrier = Carrier {
            id: "south".to_owned(),
            connected: true,
            queued: 3,
            in_flight: 2,
            headroom: 100.0,
            delivered_ratio: Some(0.5),
            p50_receipt_ms: None,
            tags: vec!["direct".to_owned()],
        };
        assert_eq!(carriers, [carrier]);
        let expect = Context {
            now: noon + 2_000,
            random: 0x9e37_79b9_7f4a_7c15,
            phase: Phase::Retry,
        };
        assert_eq!(context, expect);
    }

    #[test]
    fn numbers_and_texts_come_back_in_their_order() {
        let octets = [
            &[15, 0, 0, 0][..],
            &[2, 0, 0, 0, 7, 1, 0x34, 0x12, 3, 0, 0],
            "abé".as_bytes(),
        ];
        let octets = octets.concat();
        let mut call = Packed::new(&octets);
        assert_eq!(call.read::<String>(), "ab");
        assert_eq!(call.read::<(u8, Option<u16>)>(), (7, Some(0x1234)));
        let read = std::panic::catch_unwind(move || call.read::<String>());
        assert!(read.is_err(), "three octets of a length are no length");
    }

    #[test]
    fn what_is_cut_short_ends_the_call() {
        for octets in [&[][..], &[1, 0], &[9, 0, 0, 0], &[4, 0, 0, 0, 0xff]] {
            assert!(std::panic::catch_unwind(|| Packed::new(octets).text.len()).is_err());
        }
    }
}

//! Reasons for the trace, written piece by piece. The standard formatter does the same for any type and any
//! width; a router that explains itself at each message spends more on it than on its choice.

use crate::short::push;

/// A line that grows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reason(String);

/// More decimals than an `f32` has.
const PLACES_MAX: u32 = 9;

impl Reason {
    /// A reason of about so many octets.
    pub fn with_capacity(octets: usize) -> Self {
        Self(String::with_capacity(octets))
    }

    // What is literal becomes a store or two where it is written.
    #[inline(always)]
    pub fn text(&mut self, text: &str) -> &mut Self {
        push(&mut self.0, text);
        self
    }

    /// As `{}` writes it.
    pub fn number(&mut self, number: u64) -> &mut Self {
        self.digits(number, 1)
    }

    /// With so many decimals, 9 at most, as `{:.places$}` writes it; what is no number, or beyond 64 bits, as `?`.
    pub fn decimal(&mut self, number: f32, places: u32) -> &mut Self {
        let places = places.min(PLACES_MAX);
        let one = 10u64.pow(places);
        // The product of 24 bits and 30 is exact, so the rounding is the formatter's.
        let scaled = (f64::from(number.abs()) * one as f64).round_ties_even();
        if !scaled.is_finite() || scaled >= u64::MAX as f64 {
            return self.text("?");
        }
        let scaled = scaled as u64;
        if number.is_sign_negative() {
            self.text("-");
        }
        self.number(scaled / one);
        if places > 0 {
            self.text(".").digits(scaled % one, places);
        }
        self
    }

    fn digits(&mut self, number: u64, least: u32) -> &mut Self {
        if number >= 10 || least > 1 {
            self.digits(number / 10, least.saturating_sub(1));
        }
        self.0.push(char::from(b'0' + (number % 10) as u8));
        self
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Reason> for String {
    fn from(reason: Reason) -> String {
        reason.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Reason)) -> String {
        let mut reason = Reason::default();
        write(&mut reason);
        reason.into()
    }

    #[test]
    fn it_reads_as_the_formatter_writes() {
        for number in [0, 7, 10, 4_200, u64::MAX] {
            assert_eq!(
                written(|r| {
                    r.number(number);
                }),
                number.to_string()
            );
        }
        let mut state = 1u32;
        for _ in 0..20_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let of_bits = f32::from_bits(state);
            let share = state as f32 / u32::MAX as f32 * 2.0 - 0.5;
            for number in [share, share * 100.0, of_bits.clamp(-1e9, 1e9)] {
                for places in [0, 1, 3] {
                    let expect = match number.is_nan() {
                        true => "?".to_owned(),
                        false => format!("{number:.*}", places as usize),
                    };
                    assert_eq!(
                        written(|r| {
                            r.decimal(number, places);
                        }),
                        expect
                    );
                }
            }
        }
        for tie in [0.5, 1.5, 2.5, 0.125, -0.0] {
            assert_eq!(
                written(|r| {
                    r.decimal(tie, 0);
                }),
                format!("{tie:.0}")
            );
            assert_eq!(
                written(|r| {
                    r.decimal(tie, 2);
                }),
                format!("{tie:.2}")
            );
        }
        assert_eq!(
            written(|r| {
                r.decimal(f32::INFINITY, 1);
            }),
            "?"
        );
    }

    #[test]
    fn pieces_follow_each_other() {
        let line = written(|r| {
            r.text("best of ")
                .number(3)
                .text(": ")
                .decimal(99.6, 0)
                .text("%");
        });
        assert_eq!(line, "best of 3: 100%");
    }
}

//! One part of a longer message, as its client cut it: a submit_sm with a concatenation header, or
//! with the SAR parameters that say the same; or one whose header or data_coding says what no text
//! would keep. To policy it is the text that a person reads; to the
//! carrier it goes as the octets that it came in, because only all parts together have a meaning
//! that another cut or another alphabet would not lose.

use super::message::Body;
use super::text::{
    Alphabet, Concat, Segment, SegmentPlan, Segmented, TextError, Udh, charset_alphabet,
    decode_payload, encode_ucs2, gsm, parse_udh,
};

/// User data of one short message (3GPP TS 23.040, 9.2.3.24).
const USER_DATA_OCTETS: usize = 140;

/// A part's own octets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// User data header without its length octet; empty where there is none.
    pub udh: Vec<u8>,
    /// As submitted (SMPP 3.4, 5.2.19).
    pub data_coding: u8,
    /// What follows the header, unpacked where it is GSM 7 bit.
    pub octets: Vec<u8>,
}

impl Cut {
    /// Which part of which message this is; none where the header says nothing of it.
    pub fn concat(&self) -> Option<Concat> {
        Udh::new(&self.udh).ok()?.concat().ok().flatten()
    }

    /// A header that says what SAR parameters say: 8-bit where the reference fits.
    pub fn header(concat: Concat) -> Vec<u8> {
        let Concat {
            reference,
            total,
            index,
        } = concat;
        match u8::try_from(reference) {
            Ok(reference) => vec![super::text::IE_CONCAT_8, 3, reference, total, index],
            Err(_) => {
                let [high, low] = reference.to_be_bytes();
                vec![super::text::IE_CONCAT_16, 4, high, low, total, index]
            }
        }
    }

    /// One segment, always. The error: it holds more than one short message can.
    pub fn plan(&self) -> Result<SegmentPlan, TextError> {
        let alphabet = charset_alphabet(self.data_coding);
        let units = match alphabet {
            Alphabet::Ucs2 => self.octets.len().div_ceil(2),
            Alphabet::Gsm7 | Alphabet::Octets => self.octets.len(),
        };
        match self.septets() {
            Some(septets) => self.fits(Alphabet::Gsm7, septets)?,
            None => self.fits(alphabet, units)?,
        }
        Ok(SegmentPlan::one(alphabet, units))
    }

    /// What the message centre makes of IA5 and Latin-1 where the handset's default alphabet has all
    /// of its characters (3GPP TS 23.038, 6.2.1): clients cut such texts to 153 characters.
    fn septets(&self) -> Option<usize> {
        let Alphabet::Octets = charset_alphabet(self.data_coding) else {
            return None;
        };
        let Body::Text(text) = decode_payload(self.data_coding, &self.octets) else {
            return None;
        };
        let mut septets = Vec::with_capacity(self.octets.len());
        gsm::encode(&text, &mut septets).ok()?;
        Some(septets.len())
    }

    /// The same where a hook put another text in the place of the client's.
    pub fn plan_of(&self, text: &str) -> Result<SegmentPlan, TextError> {
        let (alphabet, octets) = self.encode(text);
        let units = match alphabet {
            Alphabet::Ucs2 => octets.len() / 2,
            Alphabet::Gsm7 | Alphabet::Octets => octets.len(),
        };
        self.fits(alphabet, units)?;
        Ok(SegmentPlan::one(alphabet, units))
    }

    /// What the carrier gets. `changed`: a hook's body, in the place of the client's octets.
    pub fn segmented(&self, changed: Option<&Body>) -> Result<Segmented, TextError> {
        let (plan, data_coding, payload) = match changed {
            None => (self.plan()?, self.data_coding, self.octets.clone()),
            Some(Body::Text(text)) => {
                let plan = self.plan_of(text)?;
                (plan, plan.alphabet.data_coding(), self.encode(text).1)
            }
            Some(Body::Binary { data, .. }) => {
                self.fits(Alphabet::Octets, data.len())?;
                let plan = SegmentPlan::one(Alphabet::Octets, data.len());
                (plan, self.data_coding, data.clone())
            }
        };
        let segment = Segment::new(self.udh.clone(), payload);
        Ok(Segmented::ready(
            plan.alphabet,
            data_coding,
            plan.units,
            segment,
        ))
    }

    /// In the alphabet of the other parts, where it can be said in that.
    fn encode(&self, text: &str) -> (Alphabet, Vec<u8>) {
        let mut octets = Vec::new();
        if charset_alphabet(self.data_coding) != Alphabet::Ucs2
            && gsm::encode(text, &mut octets).is_ok()
        {
            return (Alphabet::Gsm7, octets);
        }
        encode_ucs2(text, &mut octets);
        (Alphabet::Ucs2, octets)
    }

    fn fits(&self, alphabet: Alphabet, units: usize) -> Result<(), TextError> {
        let header = match self.udh.len() {
            0 => 0,
            n => 1 + n,
        };
        let room = USER_DATA_OCTETS.saturating_sub(header);
        let max = match alphabet {
            Alphabet::Gsm7 => room * 8 / 7,
            Alphabet::Ucs2 => room / 2,
            Alphabet::Octets => room,
        };
        if units > max {
            return Err(TextError::PartTooLong {
                alphabet,
                units,
                max,
            });
        }
        Ok(())
    }
}

/// Header and content of octets that begin with a user data header.
pub fn cut_of(data_coding: u8, octets: &[u8]) -> Result<Cut, TextError> {
    let (udh, rest) = parse_udh(octets).map_err(TextError::Udh)?;
    udh.concat().map_err(TextError::Udh)?;
    Ok(Cut {
        udh: udh.as_bytes().to_vec(),
        data_coding,
        octets: rest.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(data_coding: u8, octets: &[u8]) -> Cut {
        cut_of(data_coding, &[&[5, 0, 3, 9, 2, 1], octets].concat()).unwrap()
    }

    #[test]
    fn a_part_goes_out_as_it_came() {
        // A surrogate pair cut in two: as text it could not be told again.
        let half = cut(8, &[0x00, 0x61, 0xD8, 0x3D]);
        let out = half.segmented(None).unwrap();
        assert_eq!((out.alphabet, out.data_coding), (Alphabet::Ucs2, 8));
        assert_eq!(out.segments[0].udh, [0, 3, 9, 2, 1]);
        assert_eq!(out.segments[0].payload, [0x00, 0x61, 0xD8, 0x3D]);
        assert_eq!(half.concat().map(|c| (c.reference, c.index)), Some((9, 1)));
    }

    #[test]
    fn a_hooks_text_keeps_the_header_and_the_alphabet_of_the_other_parts() {
        let part = cut(8, &[0x04, 0x1F]);
        let out = part.segmented(Some(&Body::Text("ok".into()))).unwrap();
        assert_eq!(out.data_coding, 8);
        assert_eq!(out.segments[0].payload, [0, b'o', 0, b'k']);
        let part = cut(0, b"hello");
        let out = part.segmented(Some(&Body::Text("ok".into()))).unwrap();
        assert_eq!(
            (out.data_coding, &*out.segments[0].payload),
            (0, &b"ok"[..])
        );
        assert_eq!(out.segments[0].udh, part.udh);
    }

    #[test]
    fn a_part_is_no_longer_than_a_short_message() {
        assert!(cut(0, &[b'a'; 153]).plan().is_ok());
        assert!(cut(0, &[b'a'; 154]).plan().is_err());
        assert!(cut(8, &[0; 134]).plan().is_ok());
        assert!(cut(8, &[0; 136]).plan().is_err());
        assert!(cut(4, &[0; 135]).plan().is_err());
        assert!(cut(0, b"a").plan_of(&"a".repeat(154)).is_err());
        // Of IA5 and Latin-1 as many as there are septets for; of what has none, octets.
        for data_coding in [1, 3] {
            assert!(cut(data_coding, &[b'a'; 153]).plan().is_ok());
            assert!(cut(data_coding, &[b'a'; 154]).plan().is_err());
            assert!(cut(data_coding, &[b'{'; 77]).plan().is_err());
            assert!(cut(data_coding, &[0xEA; 134]).plan().is_ok());
            assert!(cut(data_coding, &[0xEA; 135]).plan().is_err());
        }
    }

    #[test]
    fn sar_parameters_become_a_header() {
        for (reference, header) in [
            (7, vec![0, 3, 7, 3, 2]),
            (0x1234, vec![8, 4, 0x12, 0x34, 3, 2]),
        ] {
            let concat = Concat::new(reference, 3, 2).unwrap();
            assert_eq!(Cut::header(concat), header);
            let cut = Cut {
                udh: header,
                data_coding: 0,
                octets: Vec::new(),
            };
            assert_eq!(cut.concat(), Some(concat));
        }
    }

    #[test]
    fn a_header_that_lies_is_no_part() {
        assert!(cut_of(0, &[50, 0, 3, 9, 2, 1]).is_err());
        assert!(cut_of(0, &[5, 0, 3, 9, 2, 9, b'a']).is_err());
    }
}

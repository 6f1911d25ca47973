//! The user data header (3GPP TS 23.040, 9.2.3.24): information elements read from hostile
//! octets, concatenation found among them. Knows nothing of the text behind the header.

use std::fmt;

/// Concatenated short messages, 8-bit reference (3GPP TS 23.040, 9.2.3.24.1).
pub const IE_CONCAT_8: u8 = 0x00;
/// Concatenated short messages, 16-bit reference (3GPP TS 23.040, 9.2.3.24.8).
pub const IE_CONCAT_16: u8 = 0x08;

/// Application port addressing, 8 bit (3GPP TS 23.040, 9.2.3.24.3).
pub const IE_PORTS_8: u8 = 0x04;
/// Application port addressing, 16 bit (3GPP TS 23.040, 9.2.3.24.4).
pub const IE_PORTS_16: u8 = 0x05;

/// The element that hands a message to a program of the phone: destination port, then originator port.
pub fn ports_element(destination: u16, originator: u16) -> [u8; 6] {
    let [to_high, to_low] = destination.to_be_bytes();
    let [from_high, from_low] = originator.to_be_bytes();
    [IE_PORTS_16, 4, to_high, to_low, from_high, from_low]
}

/// A header whose elements add up, without its length octet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Udh<'a>(&'a [u8]);

/// One information element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element<'a> {
    pub id: u8,
    pub data: &'a [u8],
}

/// Which part of which message this is. `1 <= index <= total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Concat {
    pub reference: u16,
    pub total: u8,
    pub index: u8,
}

/// What is wrong with a header. From a carrier, it is the carrier's or the handset's fault; from
/// a client, the client's. Trying again does not help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UdhError {
    /// There is no length octet.
    Missing,
    /// The length octet announces more than there is.
    Length { announced: usize, present: usize },
    /// An element runs past the header's end.
    Element {
        id: u8,
        announced: usize,
        present: usize,
    },
    /// A concatenation element of the wrong size.
    ConcatLength { id: u8, length: usize },
    /// A part number or a total that cannot be.
    ConcatNumbers { total: u8, index: u8 },
}

impl fmt::Display for UdhError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UdhError::Missing => write!(f, "user data header is announced and missing"),
            UdhError::Length { announced, present } => write!(
                f,
                "user data header announces {announced} octets and {present} are there"
            ),
            UdhError::Element {
                id,
                announced,
                present,
            } => write!(
                f,
                "information element 0x{id:02x} announces {announced} octets and {present} are there"
            ),
            UdhError::ConcatLength { id, length } => write!(
                f,
                "concatenation element 0x{id:02x} has {length} octets; 0x00 has 3, 0x08 has 4"
            ),
            UdhError::ConcatNumbers { total, index } => write!(
                f,
                "concatenation says part {index} of {total}; parts count from 1 to the total"
            ),
        }
    }
}

impl std::error::Error for UdhError {}

/// Reads a header that begins with its length octet, and what follows it.
pub fn parse_udh(octets: &[u8]) -> Result<(Udh<'_>, &[u8]), UdhError> {
    let (length, rest) = octets.split_first().ok_or(UdhError::Missing)?;
    let announced = usize::from(*length);
    let (header, payload) = rest.split_at_checked(announced).ok_or(UdhError::Length {
        announced,
        present: rest.len(),
    })?;
    Ok((Udh::new(header)?, payload))
}

impl<'a> Udh<'a> {
    /// A header without its length octet. Unknown elements are welcome, lying lengths are not.
    pub fn new(header: &'a [u8]) -> Result<Udh<'a>, UdhError> {
        let mut rest = header;
        while let Some((id, after)) = rest.split_first() {
            // An identifier without even a length octet announces nothing and lacks it.
            let announced = after.first().map_or(1, |l| usize::from(*l) + 1);
            if announced > after.len() {
                return Err(UdhError::Element {
                    id: *id,
                    announced: announced - 1,
                    present: after.len().saturating_sub(1),
                });
            }
            rest = &after[announced..];
        }
        Ok(Udh(header))
    }

    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    pub fn elements(&self) -> impl Iterator<Item = Element<'a>> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (id, after) = rest.split_first()?;
            let (length, after) = after.split_first()?;
            let (data, after) = after.split_at_checked(usize::from(*length))?;
            rest = after;
            Some(Element { id: *id, data })
        })
    }

    /// Of several concatenation elements the last good one counts (3GPP TS 23.040, 9.2.3.24); an
    /// error only where there are some and none is good.
    pub fn concat(&self) -> Result<Option<Concat>, UdhError> {
        let mut found = Ok(None);
        for element in self.elements().filter(Element::is_concat) {
            match element.concat() {
                Ok(concat) => found = Ok(Some(concat)),
                Err(error) => found = found.and_then(|f: Option<Concat>| f.map(Some).ok_or(error)),
            }
        }
        found
    }

    /// The header that remains once the parts are joined.
    pub fn without_concat(&self) -> Vec<u8> {
        self.without(|id| id == IE_CONCAT_8 || id == IE_CONCAT_16)
    }

    /// The header without the elements that `drops` names.
    pub fn without(&self, drops: impl Fn(u8) -> bool) -> Vec<u8> {
        let mut rest = Vec::new();
        for element in self.elements().filter(|e| !drops(e.id)) {
            // A length came from one octet, so it fits one.
            rest.extend_from_slice(&[element.id, element.data.len() as u8]);
            rest.extend_from_slice(element.data);
        }
        rest
    }
}

impl Element<'_> {
    fn is_concat(&self) -> bool {
        self.id == IE_CONCAT_8 || self.id == IE_CONCAT_16
    }

    fn concat(&self) -> Result<Concat, UdhError> {
        match (self.id, self.data) {
            (IE_CONCAT_8, &[reference, total, index]) => {
                Concat::new(u16::from(reference), total, index)
            }
            (IE_CONCAT_16, &[high, low, total, index]) => {
                Concat::new(u16::from_be_bytes([high, low]), total, index)
            }
            (id, data) => Err(UdhError::ConcatLength {
                id,
                length: data.len(),
            }),
        }
    }
}

impl Concat {
    /// From a header's element, or from the sar_msg_ref_num, sar_total_segments and
    /// sar_segment_seqnum parameters (SMPP 3.4, 5.3.2.22 to 5.3.2.24).
    pub fn new(reference: u16, total: u8, index: u8) -> Result<Concat, UdhError> {
        if index == 0 || index > total {
            return Err(UdhError::ConcatNumbers { total, index });
        }
        Ok(Concat {
            reference,
            total,
            index,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn eight_and_sixteen_bit_references_are_found() {
        let (udh, rest) = parse_udh(&[5, 0, 3, 0xAB, 3, 2, b'h', b'i']).unwrap();
        assert_eq!(rest, b"hi");
        assert_eq!(
            udh.concat(),
            Ok(Some(Concat {
                reference: 0xAB,
                total: 3,
                index: 2
            }))
        );

        let (udh, rest) = parse_udh(&[6, 8, 4, 0x12, 0x34, 255, 255]).unwrap();
        assert!(rest.is_empty());
        assert_eq!(
            udh.concat(),
            Ok(Some(Concat {
                reference: 0x1234,
                total: 255,
                index: 255
            }))
        );
    }

    #[test]
    fn concatenation_is_found_behind_other_elements_and_taken_out() {
        // Application port addressing, 16 bit (3GPP TS 23.040, 9.2.3.24.4), then concatenation.
        let header = [5, 4, 0x0B, 0x84, 0, 0, 0, 3, 7, 2, 1];
        let udh = Udh::new(&header).unwrap();
        assert_eq!(udh.elements().count(), 2);
        assert_eq!(
            udh.concat(),
            Ok(Some(Concat {
                reference: 7,
                total: 2,
                index: 1
            }))
        );
        assert_eq!(udh.without_concat(), [5, 4, 0x0B, 0x84, 0, 0]);
    }

    #[test]
    fn lying_lengths_are_refused() {
        assert_eq!(parse_udh(&[]), Err(UdhError::Missing));
        assert_eq!(
            parse_udh(&[5, 0, 3]),
            Err(UdhError::Length {
                announced: 5,
                present: 2
            })
        );
        assert_eq!(
            parse_udh(&[3, 0, 9, 1, 2, 3]),
            Err(UdhError::Element {
                id: 0,
                announced: 9,
                present: 1
            })
        );
        assert!(
            parse_udh(&[1, 0]).is_err(),
            "an identifier alone is no element"
        );
    }

    #[test]
    fn impossible_part_numbers_are_refused() {
        for (total, index) in [(0, 0), (3, 0), (3, 4), (0, 1)] {
            let header = [0, 3, 1, total, index];
            assert_eq!(
                Udh::new(&header).unwrap().concat(),
                Err(UdhError::ConcatNumbers { total, index })
            );
        }
        assert_eq!(
            Udh::new(&[0, 2, 1, 1]).unwrap().concat(),
            Err(UdhError::ConcatLength { id: 0, length: 2 })
        );
    }

    #[test]
    fn a_good_element_outweighs_a_bad_one() {
        let good = Ok(Some(Concat {
            reference: 1,
            total: 2,
            index: 2,
        }));
        assert_eq!(Udh::new(&[0, 3, 1, 2, 2, 8, 0]).unwrap().concat(), good);
        assert_eq!(Udh::new(&[8, 0, 0, 3, 1, 2, 2]).unwrap().concat(), good);
    }

    #[test]
    fn an_empty_header_is_a_header() {
        let (udh, rest) = parse_udh(&[0, 1, 2]).unwrap();
        assert_eq!((udh.as_bytes(), rest), (&[][..], &[1, 2][..]));
        assert_eq!(udh.concat(), Ok(None));
    }

    proptest! {
        #[test]
        fn parsing_is_total_and_loses_nothing(octets: Vec<u8>) {
            if let Ok((udh, rest)) = parse_udh(&octets) {
                let elements: usize = udh.elements().map(|e| e.data.len() + 2).sum();
                prop_assert_eq!(1 + elements + rest.len(), octets.len());
                if let Ok(Some(concat)) = udh.concat() {
                    prop_assert!(concat.index >= 1 && concat.index <= concat.total);
                }
                prop_assert!(Udh::new(&udh.without_concat()).is_ok());
            }
        }
    }
}

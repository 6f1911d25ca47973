//! Octets of stored records, the primitives: variable-length integers, strings, lists. A reader is
//! total: on any input it ends with a value or a [`Damage`], never with a panic and never with an
//! allocation that the input did not pay for. Knows no record.

use std::fmt;

/// Why octets are no record. The text goes to an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Ends before it is complete.
    Short,
    /// Goes on after its end.
    Long,
    Checksum,
    /// Written by a newer release.
    Version(u8),
    /// Another kind of record stands here.
    Kind(u8),
    /// A field holds what no release wrote.
    Field(&'static str),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::Short => write!(f, "the record is cut short"),
            Damage::Long => write!(f, "the record goes on after its end"),
            Damage::Checksum => write!(f, "the record's checksum does not match its octets"),
            Damage::Version(v) => write!(
                f,
                "the record has format version {v}, which this release cannot read: run the release that wrote it, or a newer one"
            ),
            Damage::Kind(k) => write!(f, "the record is of kind {k}, another was expected"),
            Damage::Field(name) => write!(f, "the record's field {name} holds no legal value"),
        }
    }
}

impl std::error::Error for Damage {}

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn put_bytes(out: &mut Vec<u8>, value: &[u8]) {
    put_varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

pub(super) fn put_str(out: &mut Vec<u8>, value: &str) {
    put_bytes(out, value.as_bytes());
}

/// A number near `base`, small either side of it.
pub(super) fn put_near(out: &mut Vec<u8>, base: u64, value: u64) {
    let diff = value.wrapping_sub(base) as i64;
    put_varint(out, ((diff << 1) ^ (diff >> 63)) as u64);
}

pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub fn take(&mut self, n: usize) -> Result<&'a [u8], Damage> {
        let (head, tail) = self.rest.split_at_checked(n).ok_or(Damage::Short)?;
        self.rest = tail;
        Ok(head)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Damage> {
        self.take(N)?.try_into().map_err(|_| Damage::Short)
    }

    pub fn u8(&mut self) -> Result<u8, Damage> {
        Ok(self.take(1)?[0])
    }

    pub fn u128(&mut self) -> Result<u128, Damage> {
        Ok(u128::from_be_bytes(self.array()?))
    }

    pub fn varint(&mut self) -> Result<u64, Damage> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7F);
            if shift == 63 && bits > 1 {
                return Err(Damage::Field("varint"));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Damage::Field("varint"))
    }

    pub fn near(&mut self, base: u64) -> Result<u64, Damage> {
        let z = self.varint()?;
        let diff = ((z >> 1) as i64) ^ -((z & 1) as i64);
        Ok(base.wrapping_add(diff as u64))
    }

    /// A length or count: never more than the octets that are left.
    pub fn length(&mut self) -> Result<usize, Damage> {
        let n = usize::try_from(self.varint()?).map_err(|_| Damage::Short)?;
        if n > self.rest.len() {
            return Err(Damage::Short);
        }
        Ok(n)
    }

    pub fn bytes(&mut self) -> Result<&'a [u8], Damage> {
        let n = self.length()?;
        self.take(n)
    }

    pub fn str(&mut self, field: &'static str) -> Result<&'a str, Damage> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Damage::Field(field))
    }

    pub fn string(&mut self, field: &'static str) -> Result<String, Damage> {
        Ok(self.str(field)?.to_owned())
    }

    /// A list whose elements take at least one octet each.
    pub fn list<T>(
        &mut self,
        mut element: impl FnMut(&mut Reader<'a>) -> Result<T, Damage>,
    ) -> Result<Vec<T>, Damage> {
        let n = self.length()?;
        let mut list = Vec::with_capacity(n.min(8));
        for _ in 0..n {
            list.push(element(self)?);
        }
        Ok(list)
    }

    pub fn end(&self) -> Result<(), Damage> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Damage::Long)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_come_back(value: u64, base: u64) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            put_near(&mut out, base, value);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.varint(), Ok(value));
            prop_assert_eq!(reader.near(base), Ok(value));
            prop_assert!(reader.is_empty());
        }
    }

    #[test]
    fn a_number_of_more_than_64_bits_is_refused() {
        let eleven = [0xFF; 11];
        assert_eq!(Reader::new(&eleven).varint(), Err(Damage::Field("varint")));
        let overflow = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x02];
        assert_eq!(
            Reader::new(&overflow).varint(),
            Err(Damage::Field("varint"))
        );
    }

    #[test]
    fn a_length_beyond_the_input_is_refused_before_anything_is_allocated() {
        let mut out = Vec::new();
        put_varint(&mut out, 1 << 40);
        assert_eq!(Reader::new(&out).bytes(), Err(Damage::Short));
    }
}

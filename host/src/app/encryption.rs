//! The keys of encryption at rest, out of what the configuration refers to.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{StartError, failed};
use crate::config::{EncryptionKey, EncryptionSection};
use crate::store::{SealingKey, Seals};

/// None where nothing is to be encrypted.
pub fn seals(section: &EncryptionSection, base: &Path) -> Result<Option<Seals>, StartError> {
    if section.keys.is_empty() {
        return Ok(None);
    }
    let keys = section.keys.iter().enumerate();
    let keys: Result<Vec<SealingKey>, StartError> = keys
        .map(|(n, key)| {
            let at = format!("store.encryption.keys[{n}] ({})", key.id);
            sealing_key(key, base).map_err(|e| failed(&at, e))
        })
        .collect();
    let seals = Seals::new(&keys?).map_err(|e| failed("store.encryption.keys", e))?;
    Ok(Some(seals))
}

fn sealing_key(key: &EncryptionKey, base: &Path) -> Result<SealingKey, String> {
    let text = key.key.resolve(base)?;
    let octets = octets(text.trim()).ok_or(
        "is no key: 32 random octets as 64 hexadecimal digits or in base64, as `openssl rand -hex 32` makes them",
    )?;
    Ok(SealingKey {
        id: key.id.clone(),
        octets,
    })
}

fn octets(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 {
        return STANDARD.decode(text).ok()?.try_into().ok();
    }
    let digit = |octet: u8| char::from(octet).to_digit(16);
    let mut out = [0; 32];
    for (octet, pair) in out.iter_mut().zip(text.as_bytes().chunks(2)) {
        *octet = u8::try_from(digit(pair[0])? << 4 | digit(*pair.get(1)?)?).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_hexadecimal_or_base64_and_nothing_else() {
        let hex = "000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F";
        let base64 = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        let expected: [u8; 32] = std::array::from_fn(|n| n as u8);
        assert_eq!(octets(hex), Some(expected));
        assert_eq!(octets(base64), Some(expected));
        for wrong in ["", "secret", &hex[2..], &hex.replace('a', "g"), "AAEC"] {
            assert_eq!(octets(wrong), None, "{wrong}");
        }
    }
}

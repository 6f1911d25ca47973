//! Carriers that plugins speak to, put together from their sections, and what is told of their
//! call-backs.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{StartError, failed};
use crate::carrier::Carrier as _;
use crate::carrier::adapter::{AdapterCarrier, AdapterConfig};
use crate::carrier::provider_id::IdPlaces;
use crate::carrier::verify::{
    Algorithm, HmacScheme, Piece, Place, Scheme, SignatureEncoding, Verification, VonageMethod,
};
use crate::config::{
    AdapterSection, AlgorithmName, CallbackSection, EncodingName, VerifyName, VonageMethodName,
};
use crate::domain::CarrierId;

/// A shorter secret can be guessed.
const SECRET_OCTETS_MIN: usize = 8;

/// A carrier as its section describes it. `at` names the section in errors.
pub fn carrier(
    section: &AdapterSection,
    base: &Path,
    at: &str,
) -> Result<AdapterConfig, StartError> {
    let ids = IdPlaces::parse(&section.inbound_id);
    let ids = ids.map_err(|rule| failed(&format!("{at}.inbound_id"), rule))?;
    let at = format!("{at}.callback");
    let verification = section.callback.as_ref();
    let verification = verification
        .map(|callback| verification_of(callback, base, &at))
        .transpose()?;
    Ok(AdapterConfig {
        id: CarrierId::from(section.id.as_str()),
        plugin: section.plugin.clone(),
        window: section.window,
        throughput: section.throughput,
        tags: section.tags.clone(),
        inbound_ids: match section.inbound_id[..] {
            [] => IdPlaces::of(verification.as_ref().map(|v| &v.scheme)),
            _ => ids,
        },
        verification,
    })
}

fn verification_of(
    section: &CallbackSection,
    base: &Path,
    at: &str,
) -> Result<Verification, StartError> {
    no_stray_fields(section).map_err(|(field, rule)| failed(&format!("{at}.{field}"), rule))?;
    let mut secrets = Vec::new();
    for (field, secret) in [
        ("secret", Some(&section.secret)),
        ("previous_secret", section.previous_secret.as_ref()),
    ] {
        let Some(secret) = secret else { continue };
        let at = format!("{at}.{field}");
        let secret = secret.resolve(base).map_err(|e| failed(&at, e))?;
        if secret.len() < SECRET_OCTETS_MIN {
            let rule = format!("has less than {SECRET_OCTETS_MIN} octets, which can be guessed");
            return Err(failed(&at, rule));
        }
        secrets.push(secret.into_bytes());
    }
    let url = section.url.clone().unwrap_or_default();
    if !url.is_empty()
        && (!(url.starts_with("https://") || url.starts_with("http://"))
            || url.contains(['?', '#']))
    {
        return Err(failed(
            &format!("{at}.url"),
            "is an http or https URL without a query",
        ));
    }
    Ok(Verification {
        scheme: scheme_of(section)
            .map_err(|(field, rule)| failed(&format!("{at}.{field}"), rule))?,
        secrets,
        url,
        tolerance: Duration::from_secs(section.tolerance_seconds),
    })
}

type Broken = (&'static str, String);

fn scheme_of(section: &CallbackSection) -> Result<Scheme, Broken> {
    let needs = |field: &'static str, what: &str| (field, format!("is missing: {what}"));
    Ok(match section.verify {
        VerifyName::Twilio if section.url.is_none() => {
            return Err(needs("url", "Twilio signs our address as it has it"));
        }
        VerifyName::Twilio => Scheme::Twilio,
        VerifyName::Vonage => Scheme::Vonage(match section.method {
            None | Some(VonageMethodName::Md5Hash) => VonageMethod::Md5Hash,
            Some(VonageMethodName::Md5) => VonageMethod::Md5,
            Some(VonageMethodName::Sha1) => VonageMethod::Sha1,
            Some(VonageMethodName::Sha256) => VonageMethod::Sha256,
            Some(VonageMethodName::Sha512) => VonageMethod::Sha512,
        }),
        VerifyName::Jwt => Scheme::Jwt,
        VerifyName::Basic => Scheme::Basic,
        VerifyName::Secret => Scheme::Shared(match (&section.header, &section.field) {
            (Some(header), None) => Place::Header(header.clone()),
            (None, Some(field)) => Place::Field(field.clone()),
            (None, None) => return Err(needs("header", "or `field`, where the secret stands")),
            (Some(_), Some(_)) => {
                return Err(("field", "stands beside `header`; give one".to_owned()));
            }
        }),
        VerifyName::Hmac => {
            let header = section.header.clone();
            let signed = section.signed.as_deref().unwrap_or("{body}");
            let signed = Piece::parse(signed).map_err(|rule| ("signed", rule))?;
            if signed.contains(&Piece::Timestamp) && section.timestamp_header.is_none() {
                return Err(needs("timestamp_header", "`signed` has a {timestamp}"));
            }
            if section.timestamp_header.is_some() && !signed.contains(&Piece::Timestamp) {
                let rule = "is not in `signed`, so that anybody could change it";
                return Err(("timestamp_header", rule.to_owned()));
            }
            if signed.contains(&Piece::Url) && section.url.is_none() {
                return Err(needs("url", "`signed` has a {url}"));
            }
            Scheme::Hmac(HmacScheme {
                header: header.ok_or_else(|| needs("header", "where the signature stands"))?,
                algorithm: match section.algorithm {
                    Some(AlgorithmName::Sha1) => Algorithm::Sha1,
                    None | Some(AlgorithmName::Sha256) => Algorithm::Sha256,
                    Some(AlgorithmName::Sha512) => Algorithm::Sha512,
                },
                encoding: match section.encoding {
                    None | Some(EncodingName::Hex) => SignatureEncoding::Hex,
                    Some(EncodingName::Base64) => SignatureEncoding::Base64,
                },
                prefix: section.prefix.clone().unwrap_or_default(),
                signed,
                timestamp: section.timestamp_header.clone(),
            })
        }
    })
}

/// A field that its scheme does not read is a misunderstanding, and one about security.
fn no_stray_fields(section: &CallbackSection) -> Result<(), Broken> {
    use VerifyName::{Hmac, Secret, Twilio, Vonage};
    let given: [(&str, bool, &[VerifyName]); 9] = [
        ("url", section.url.is_some(), &[Twilio, Hmac]),
        ("method", section.method.is_some(), &[Vonage]),
        ("header", section.header.is_some(), &[Hmac, Secret]),
        ("field", section.field.is_some(), &[Secret]),
        ("algorithm", section.algorithm.is_some(), &[Hmac]),
        ("encoding", section.encoding.is_some(), &[Hmac]),
        ("prefix", section.prefix.is_some(), &[Hmac]),
        ("signed", section.signed.is_some(), &[Hmac]),
        (
            "timestamp_header",
            section.timestamp_header.is_some(),
            &[Hmac],
        ),
    ];
    match given
        .iter()
        .find(|(_, given, schemes)| *given && !schemes.contains(&section.verify))
    {
        Some((field, _, _)) => {
            let verify = format!("{:?}", section.verify).to_lowercase();
            Err((field, format!("means nothing with verify = {verify:?}")))
        }
        None => Ok(()),
    }
}

/// What became of the carriers' call-backs, in the Prometheus text format.
pub fn metrics(carriers: &[Arc<AdapterCarrier>], out: &mut String) {
    let _ = writeln!(out, "# TYPE heliograph_callbacks_total counter");
    for carrier in carriers {
        let counters = carrier.counters();
        for (result, figure) in [
            ("taken", &counters.taken),
            ("not_verified", &counters.forged),
            ("refused", &counters.refused),
            ("postponed", &counters.postponed),
        ] {
            let id = carrier
                .id()
                .as_str()
                .replace('\\', "\\\\")
                .replace('"', "\\\"");
            let value = figure.load(Ordering::Relaxed);
            let _ = writeln!(
                out,
                "heliograph_callbacks_total{{carrier=\"{id}\",result=\"{result}\"}} {value}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn read(text: &str) -> Result<Verification, String> {
        let section: CallbackSection = toml::from_str(text).unwrap();
        verification_of(&section, Path::new("."), "carriers[0] (x).callback").map_err(|e| e.0)
    }

    #[test]
    fn what_is_missing_or_stray_is_named() {
        let secret = "secret = \"literal:0123456789\"\n";
        for (text, rule) in [
            ("verify = \"twilio\"", ".url: is missing"),
            (
                "verify = \"twilio\"\nurl = \"sms.example.com\"",
                ".url: is an http",
            ),
            (
                "verify = \"twilio\"\nurl = \"https://a/b?c\"",
                ".url: is an http",
            ),
            ("verify = \"hmac\"", ".header: is missing"),
            (
                "verify = \"hmac\"\nheader = \"x\"\nsigned = \"{timestamp}\"",
                ".signed:",
            ),
            (
                "verify = \"hmac\"\nheader = \"x\"\nsigned = \"{timestamp}{body}\"",
                ".timestamp_header: is missing",
            ),
            (
                "verify = \"hmac\"\nheader = \"x\"\ntimestamp_header = \"t\"",
                ".timestamp_header: is not in",
            ),
            (
                "verify = \"hmac\"\nheader = \"x\"\nsigned = \"{url}{body}\"",
                ".url: is missing",
            ),
            ("verify = \"secret\"", ".header: is missing"),
            (
                "verify = \"secret\"\nheader = \"x\"\nfield = \"y\"",
                ".field: stands beside",
            ),
            (
                "verify = \"basic\"\nalgorithm = \"sha1\"",
                ".algorithm: means nothing with verify = \"basic\"",
            ),
        ] {
            let error = read(&format!("{secret}{text}")).unwrap_err();
            assert!(error.contains(rule), "{text}: {error}");
        }
        let error = read("verify = \"jwt\"\nsecret = \"literal:short\"").unwrap_err();
        assert!(error.contains(".secret: has less than 8 octets"), "{error}");
    }

    #[test]
    fn the_defaults_are_the_usual_ones() {
        let text = "verify = \"hmac\"\nheader = \"x-signature\"\nsecret = \"literal:0123456789\"\nprevious_secret = \"literal:9876543210\"";
        let verification = read(text).unwrap();
        assert_eq!(verification.secrets.len(), 2);
        assert_eq!(verification.tolerance, Duration::from_secs(300));
        let Scheme::Hmac(hmac) = verification.scheme else {
            panic!("{verification:?}")
        };
        assert_eq!(hmac.algorithm, Algorithm::Sha256);
        assert_eq!(hmac.signed, [Piece::Body]);
    }
}

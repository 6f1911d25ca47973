//! Whether a call-back is its carrier's: the signatures and shared secrets that HTTP providers use.
//! Judged here and not by the plugin, so that no plugin holds the secret and every comparison takes
//! the same time. Knows the request and the clock; what a call-back says is the plugin's.

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{KeyInit as _, Mac as _};
use md5::Digest as _;
use ring::{digest, hmac as ring_hmac};
use subtle::ConstantTimeEq as _;

use crate::clock::Timestamp;
use crate::plugin::HttpRequest;

/// Fields of a form, a query or a flat JSON object that are read; a call-back with more is refused.
const FIELDS_MAX: usize = 256;

/// How one carrier's call-backs are verified. Its secrets never reach a log.
#[derive(Clone)]
pub struct Verification {
    pub scheme: Scheme,
    /// Any of them will do, so that a secret can be replaced while the carrier still signs with the
    /// old one.
    pub secrets: Vec<Vec<u8>>,
    /// Our address as the carrier has it, without a query: behind a proxy no request tells it.
    pub url: String,
    /// How far a signed time may lie from now, either way.
    pub tolerance: Duration,
}

impl std::fmt::Debug for Verification {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Verification({:?})", self.scheme)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `X-Twilio-Signature`: base64 of HMAC-SHA1 over the URL and the form's fields, sorted. JSON
    /// bodies are covered by their SHA-256 in the query's `bodySHA256`.
    Twilio,
    /// Vonage's `sig` over the sorted fields of a query, a form or a flat JSON object, which have a
    /// `timestamp` among them.
    Vonage(VonageMethod),
    /// `Authorization: Bearer` and a JSON Web Token (RFC 7519) signed with HS256, its `iat` recent and
    /// its `payload_hash` the body's SHA-256, as Vonage's signed webhooks have it.
    Jwt,
    /// HMAC in a header, over text that `signed` puts together.
    Hmac(HmacScheme),
    /// The secret itself, in a header or in a field of the query or the form.
    Shared(Place),
    /// `Authorization: Basic` (RFC 7617); the secret is `user:password`.
    Basic,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VonageMethod {
    /// MD5 over the fields and the secret behind them.
    Md5Hash,
    Md5,
    Sha1,
    Sha256,
    Sha512,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HmacScheme {
    pub header: String,
    pub algorithm: Algorithm,
    pub encoding: SignatureEncoding,
    /// What stands before the signature in the header, as in `sha256=`.
    pub prefix: String,
    pub signed: Vec<Piece>,
    /// Header with the time of signing, in seconds since 1970; `{timestamp}` in what is signed.
    pub timestamp: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Sha1,
    Sha256,
    Sha512,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureEncoding {
    Hex,
    Base64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Header(String),
    Field(String),
}

/// A part of what an HMAC is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    Literal(String),
    Body,
    Method,
    /// The configured address and the request's query.
    Url,
    Timestamp,
    Header(String),
}

impl Piece {
    /// `{timestamp}.{body}` and the like. The error names what is wrong.
    pub fn parse(text: &str) -> Result<Vec<Piece>, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, from)) = rest.split_once('{') {
            if !before.is_empty() {
                pieces.push(Piece::Literal(before.to_owned()));
            }
            let (name, after) = from
                .split_once('}')
                .ok_or_else(|| format!("{text:?} has a '{{' that is not closed"))?;
            pieces.push(match name {
                "body" => Piece::Body,
                "method" => Piece::Method,
                "url" => Piece::Url,
                "timestamp" => Piece::Timestamp,
                _ => match name.strip_prefix("header:") {
                    Some(header) if !header.is_empty() => {
                        Piece::Header(header.to_ascii_lowercase())
                    }
                    _ => {
                        return Err(format!(
                            "{{{name}}} is none of {{body}}, {{method}}, {{url}}, {{timestamp}} and {{header:NAME}}"
                        ));
                    }
                },
            });
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Literal(rest.to_owned()));
        }
        if !pieces.contains(&Piece::Body) {
            return Err(format!(
                "{text:?} has no {{body}}: whoever saw one call-back could sign any other"
            ));
        }
        Ok(pieces)
    }
}

/// Why a call-back is not taken for the carrier's: for the log, without anything of it.
pub type Reason = &'static str;

impl Verification {
    /// Whether two call-backs that are the same to the last octet are one that was sent twice: what a
    /// provider signs has the message's id in it, while a plain request may have none.
    pub fn tells_repeats(&self) -> bool {
        match self.scheme {
            Scheme::Twilio | Scheme::Vonage(_) | Scheme::Jwt | Scheme::Hmac(_) => true,
            Scheme::Shared(_) | Scheme::Basic => false,
        }
    }

    /// `request.url` is a path with its query.
    pub fn verify(&self, request: &HttpRequest, now: Timestamp) -> Result<(), Reason> {
        match &self.scheme {
            Scheme::Twilio => self.twilio(request),
            Scheme::Vonage(method) => self.vonage(*method, request, now),
            Scheme::Jwt => self.jwt(request, now),
            Scheme::Hmac(scheme) => self.hmac(scheme, request, now),
            Scheme::Shared(place) => self.shared(place, request),
            Scheme::Basic => self.basic(request),
        }
    }

    /// <https://www.twilio.com/docs/usage/security#validating-requests>
    fn twilio(&self, request: &HttpRequest) -> Result<(), Reason> {
        let given = header(request, "x-twilio-signature").ok_or("no X-Twilio-Signature")?;
        let given = STANDARD
            .decode(given)
            .map_err(|_| "X-Twilio-Signature is no base64")?;
        let mut covered = String::new();
        let is_form = header(request, "content-type")
            .is_some_and(|t| t.starts_with("application/x-www-form-urlencoded"));
        if is_form {
            // A field that stands twice with one value counts once.
            let fields: BTreeSet<_> = form_fields(&request.body)?.into_iter().collect();
            for (name, value) in fields {
                covered.push_str(&name);
                covered.push_str(&value);
            }
        } else if !request.body.is_empty() {
            let claimed = query_fields(request)?;
            let claimed = claimed.iter().find(|(name, _)| name == "bodySHA256");
            let (_, claimed) = claimed.ok_or("a body that is no form, and no bodySHA256")?;
            if !is_sha256_of(claimed, &request.body) {
                return Err("bodySHA256 is not the body's");
            }
        }
        let good = with_and_without_port(&self.url).into_iter().any(|url| {
            let text = format!("{url}{}{covered}", query_of(request));
            self.hmac_is(
                ring_hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
                text.as_bytes(),
                &given,
            )
        });
        good.then_some(()).ok_or("X-Twilio-Signature is wrong")
    }

    /// <https://developer.vonage.com/en/getting-started/concepts/signing-messages>
    fn vonage(
        &self,
        method: VonageMethod,
        request: &HttpRequest,
        now: Timestamp,
    ) -> Result<(), Reason> {
        let mut fields = query_fields(request)?;
        match request.body.first() {
            None => {}
            Some(b'{') => fields.extend(flat_json(&request.body)?),
            Some(_) => fields.extend(form_fields(&request.body)?),
        }
        let place = fields.iter().position(|(name, _)| name == "sig");
        let (_, given) = fields.swap_remove(place.ok_or("no sig")?);
        let given = from_hex(&given).ok_or("sig is no hexadecimal")?;
        if fields.iter().any(|(name, _)| name == "sig") {
            return Err("sig stands twice");
        }
        let signed_at = fields.iter().find(|(name, _)| name == "timestamp");
        let (_, signed_at) = signed_at.ok_or("no timestamp")?;
        self.recent(signed_at, now)?;
        fields.sort();
        let mut text = String::new();
        for (name, value) in &fields {
            text.push('&');
            text.push_str(name);
            text.push('=');
            text.push_str(&value.replace(['&', '='], "_"));
        }
        let text = text.as_bytes();
        let good = match method {
            VonageMethod::Md5Hash => any_of(&self.secrets, |secret| {
                let hash = md5::Md5::new().chain_update(text).chain_update(secret);
                bool::from(hash.finalize().as_slice().ct_eq(&given))
            }),
            VonageMethod::Md5 => any_of(&self.secrets, |secret| {
                hmac::Hmac::<md5::Md5>::new_from_slice(secret)
                    .is_ok_and(|mac| mac.chain_update(text).verify_slice(&given).is_ok())
            }),
            VonageMethod::Sha1 => {
                self.hmac_is(ring_hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, text, &given)
            }
            VonageMethod::Sha256 => self.hmac_is(ring_hmac::HMAC_SHA256, text, &given),
            VonageMethod::Sha512 => self.hmac_is(ring_hmac::HMAC_SHA512, text, &given),
        };
        good.then_some(()).ok_or("sig is wrong")
    }

    /// RFC 7519 and RFC 7515: `alg` must be HS256, whatever the token says of itself.
    fn jwt(&self, request: &HttpRequest, now: Timestamp) -> Result<(), Reason> {
        let token = header(request, "authorization")
            .and_then(|value| credentials(value, "bearer"))
            .ok_or("no bearer token")?;
        let (signed, signature) = token.rsplit_once('.').ok_or("no JSON Web Token")?;
        let (head, claims) = signed.split_once('.').ok_or("no JSON Web Token")?;
        let signature = URL_SAFE_NO_PAD
            .decode(signature)
            .map_err(|_| "no JSON Web Token")?;
        if !self.hmac_is(ring_hmac::HMAC_SHA256, signed.as_bytes(), &signature) {
            return Err("the token's signature is wrong");
        }
        let object = |part: &str| -> Option<serde_json::Value> {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
        };
        let head = object(head).ok_or("the token's header is no JSON")?;
        if head["alg"] != "HS256" {
            return Err("the token is not signed with HS256");
        }
        let claims = object(claims).ok_or("the token's claims are no JSON")?;
        let issued = claims["iat"].as_u64().ok_or("the token has no iat")?;
        self.recent(&issued.to_string(), now)?;
        let covered = claims["payload_hash"].as_str();
        match covered {
            Some(hash) if is_sha256_of(hash, &request.body) => Ok(()),
            Some(_) => Err("the token's payload_hash is not the body's"),
            None => Err("the token has no payload_hash"),
        }
    }

    fn hmac(
        &self,
        scheme: &HmacScheme,
        request: &HttpRequest,
        now: Timestamp,
    ) -> Result<(), Reason> {
        let given = header(request, &scheme.header).ok_or("no signature header")?;
        let given = given
            .strip_prefix(scheme.prefix.as_str())
            .ok_or("the signature has not the prefix")?;
        let given = match scheme.encoding {
            SignatureEncoding::Hex => from_hex(given),
            SignatureEncoding::Base64 => STANDARD.decode(given).ok(),
        };
        let given = given.ok_or("the signature is not encoded as configured")?;
        let signed_at = match &scheme.timestamp {
            None => "",
            Some(name) => {
                let signed_at = header(request, name).ok_or("no timestamp header")?;
                self.recent(signed_at, now)?;
                signed_at
            }
        };
        let mut text = Vec::with_capacity(request.body.len() + 64);
        for piece in &scheme.signed {
            match piece {
                Piece::Literal(literal) => text.extend_from_slice(literal.as_bytes()),
                Piece::Body => text.extend_from_slice(&request.body),
                Piece::Method => text.extend_from_slice(request.method.as_bytes()),
                Piece::Url => {
                    text.extend_from_slice(self.url.as_bytes());
                    text.extend_from_slice(query_of(request).as_bytes());
                }
                Piece::Timestamp => text.extend_from_slice(signed_at.as_bytes()),
                Piece::Header(name) => {
                    let value =
                        header(request, name).ok_or("a header that is signed is missing")?;
                    text.extend_from_slice(value.as_bytes());
                }
            }
        }
        let algorithm = match scheme.algorithm {
            Algorithm::Sha1 => ring_hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Algorithm::Sha256 => ring_hmac::HMAC_SHA256,
            Algorithm::Sha512 => ring_hmac::HMAC_SHA512,
        };
        self.hmac_is(algorithm, &text, &given)
            .then_some(())
            .ok_or("the signature is wrong")
    }

    fn shared(&self, place: &Place, request: &HttpRequest) -> Result<(), Reason> {
        let given = match place {
            Place::Header(name) => header(request, name).map(str::to_owned),
            Place::Field(name) => {
                let mut fields = query_fields(request)?;
                if header(request, "content-type")
                    .is_some_and(|t| t.starts_with("application/x-www-form-urlencoded"))
                {
                    fields.extend(form_fields(&request.body)?);
                }
                let found = fields.into_iter().find(|(known, _)| known == name);
                found.map(|(_, value)| value)
            }
        };
        let given = given.ok_or("no secret")?;
        self.is_secret(given.as_bytes())
            .then_some(())
            .ok_or("the secret is wrong")
    }

    fn basic(&self, request: &HttpRequest) -> Result<(), Reason> {
        let given = header(request, "authorization")
            .and_then(|value| credentials(value, "basic"))
            .and_then(|text| STANDARD.decode(text).ok())
            .ok_or("no basic authentication")?;
        self.is_secret(&given)
            .then_some(())
            .ok_or("the user or the password is wrong")
    }

    /// Hashes are compared, so that neither length nor content shows in the time taken.
    fn is_secret(&self, given: &[u8]) -> bool {
        let given = digest::digest(&digest::SHA256, given);
        any_of(&self.secrets, |secret| {
            let secret = digest::digest(&digest::SHA256, secret);
            bool::from(given.as_ref().ct_eq(secret.as_ref()))
        })
    }

    fn hmac_is(&self, algorithm: ring_hmac::Algorithm, text: &[u8], given: &[u8]) -> bool {
        any_of(&self.secrets, |secret| {
            let key = ring_hmac::Key::new(algorithm, secret);
            ring_hmac::verify(&key, text, given).is_ok()
        })
    }

    fn recent(&self, seconds: &str, now: Timestamp) -> Result<(), Reason> {
        let at: u64 = seconds
            .parse()
            .map_err(|_| "the time of signing is no number of seconds")?;
        let age = (now.millis() / 1000).abs_diff(at);
        if age > self.tolerance.as_secs() {
            return Err("it was signed too long ago, or in the future");
        }
        Ok(())
    }
}

/// All are tried, whichever fits.
fn any_of(secrets: &[Vec<u8>], fits: impl Fn(&[u8]) -> bool) -> bool {
    secrets
        .iter()
        .fold(false, |found, secret| fits(secret) | found)
}

pub(super) fn header<'a>(request: &'a HttpRequest, name: &str) -> Option<&'a str> {
    let mut all = request
        .headers
        .iter()
        .filter(|(known, _)| known.eq_ignore_ascii_case(name));
    let first = all.next()?;
    // Two of them: which one was meant is not ours to guess.
    all.next().is_none().then(|| first.1.trim())
}

fn credentials<'a>(value: &'a str, scheme: &str) -> Option<&'a str> {
    let (given, rest) = value.split_once(' ')?;
    given.eq_ignore_ascii_case(scheme).then(|| rest.trim())
}

/// `?a=b`, as it was sent; empty where there is none.
fn query_of(request: &HttpRequest) -> &str {
    let at = request.url.find('?').unwrap_or(request.url.len());
    &request.url[at..]
}

pub(super) fn query_fields(request: &HttpRequest) -> Result<Vec<(String, String)>, Reason> {
    form_fields(query_of(request).trim_start_matches('?').as_bytes())
}

/// `application/x-www-form-urlencoded` (WHATWG URL, 5.1).
pub(super) fn form_fields(octets: &[u8]) -> Result<Vec<(String, String)>, Reason> {
    let text = std::str::from_utf8(octets).map_err(|_| "a form that is not UTF-8")?;
    let mut fields = Vec::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        if fields.len() == FIELDS_MAX {
            return Err("too many fields");
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        fields.push((form_decoded(name), form_decoded(value)));
    }
    Ok(fields)
}

fn form_decoded(text: &str) -> String {
    let octets = text.as_bytes();
    let mut out = Vec::with_capacity(octets.len());
    let mut at = 0;
    while at < octets.len() {
        let escaped = match octets[at] {
            b'%' => octets.get(at + 1..at + 3).and_then(|pair| {
                let digit = |b: u8| char::from(b).to_digit(16);
                u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok()
            }),
            _ => None,
        };
        out.push(match (escaped, octets[at]) {
            (Some(octet), _) => octet,
            (None, b'+') => b' ',
            (None, other) => other,
        });
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Members of a JSON object whose values are text, numbers or truths, as text.
fn flat_json(octets: &[u8]) -> Result<Vec<(String, String)>, Reason> {
    use serde_json::Value;
    let object: serde_json::Map<String, Value> =
        serde_json::from_slice(octets).map_err(|_| "a body that is no JSON object")?;
    if object.len() > FIELDS_MAX {
        return Err("too many fields");
    }
    let text = |value: Value| match value {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(truth) => Ok(truth.to_string()),
        Value::Null => Ok(String::new()),
        Value::Array(_) | Value::Object(_) => Err("a member that is no plain value"),
    };
    object
        .into_iter()
        .map(|(name, value)| Ok((name, text(value)?)))
        .collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    let digit = |b: u8| char::from(b).to_digit(16);
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok())
        .collect()
}

fn is_sha256_of(hex: &str, body: &[u8]) -> bool {
    let hash = digest::digest(&digest::SHA256, body);
    from_hex(hex).is_some_and(|given| bool::from(given.as_slice().ct_eq(hash.as_ref())))
}

/// Twilio signs the URL with its port or without it, by ways that it does not tell; both are the URL.
fn with_and_without_port(url: &str) -> Vec<String> {
    let mut urls = vec![url.to_owned()];
    let (scheme, rest) = match url.split_once("://") {
        Some(parts) => parts,
        None => return urls,
    };
    let standard = if scheme == "http" { ":80" } else { ":443" };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    match host.strip_suffix(standard) {
        Some(host) => urls.push(format!("{scheme}://{host}{path}")),
        None if !host.contains(':') => urls.push(format!("{scheme}://{host}{standard}{path}")),
        None => {}
    }
    urls
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;

//! The section of a carrier that a plugin speaks to, and how its call-backs are verified: what its
//! operator writes. What it comes to is `app/adapter.rs`'s.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Secret, smpp};

/// A carrier that a `carrier-adapter` plugin of the policy set speaks to.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdapterSection {
    #[schemars(length(min = 1, max = 64))]
    pub id: String,
    /// The entry's name in the policy file.
    pub plugin: String,
    #[serde(default = "smpp::defaults::window")]
    #[schemars(range(min = 1, max = 10_000))]
    pub window: usize,
    /// Messages per second; 0: no limit.
    #[serde(default)]
    pub throughput: u32,
    #[serde(default)]
    pub tags: Vec<String>,
    /// Where a call-back has the provider's own id of each text from a handset: fields of its query or
    /// form, or JSON pointers, in which `*` is every element. A text whose id came before is stored once.
    /// Where absent, as the provider that `callback.verify` names has it.
    #[serde(default)]
    #[schemars(length(max = 8))]
    pub inbound_id: Vec<String>,
    /// How call-backs are told from anybody's. Without it the plugin has to.
    #[serde(default)]
    pub callback: Option<CallbackSection>,
}

/// How call-backs are verified before the plugin sees them.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CallbackSection {
    pub verify: VerifyName,
    /// The key of the signature, or the shared secret; with `basic`, `user:password`.
    pub secret: Secret,
    /// Taken as well, while the carrier still uses it.
    #[serde(default)]
    pub previous_secret: Option<Secret>,
    /// Our address as the carrier has it, without a query: `twilio` and `{url}` sign it.
    #[serde(default)]
    #[schemars(length(max = 2_048))]
    pub url: Option<String>,
    /// With `vonage`: which of its signature methods.
    #[serde(default)]
    pub method: Option<VonageMethodName>,
    /// With `hmac`: where the signature stands. With `secret`: where the secret stands, unless `field` says.
    #[serde(default)]
    #[schemars(length(min = 1, max = 64))]
    pub header: Option<String>,
    /// With `secret`: the field of the query or the form where it stands.
    #[serde(default)]
    #[schemars(length(min = 1, max = 64))]
    pub field: Option<String>,
    /// With `hmac`; SHA-256 where absent.
    #[serde(default)]
    pub algorithm: Option<AlgorithmName>,
    /// With `hmac`; hexadecimal where absent.
    #[serde(default)]
    pub encoding: Option<EncodingName>,
    /// With `hmac`: what stands before the signature, as in `sha256=`.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub prefix: Option<String>,
    /// With `hmac`: what is signed, of `{body}`, `{method}`, `{url}`, `{timestamp}`, `{header:NAME}`
    /// and text; `{body}` where absent.
    #[serde(default)]
    #[schemars(length(max = 512))]
    pub signed: Option<String>,
    /// With `hmac`: the header that holds the time of signing, in seconds since 1970.
    #[serde(default)]
    #[schemars(length(min = 1, max = 64))]
    pub timestamp_header: Option<String>,
    /// How far a signed time may lie from now.
    #[serde(default = "tolerance")]
    #[schemars(range(min = 1, max = 86_400))]
    pub tolerance_seconds: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum VerifyName {
    /// `X-Twilio-Signature`.
    Twilio,
    /// Vonage's `sig`.
    Vonage,
    /// A JSON Web Token with the body's hash, as in Vonage's signed webhooks.
    Jwt,
    /// HMAC in a header.
    Hmac,
    /// A shared secret in a header or a field.
    Secret,
    /// HTTP's basic authentication.
    Basic,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum VonageMethodName {
    Md5Hash,
    Md5,
    Sha1,
    Sha256,
    Sha512,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AlgorithmName {
    Sha1,
    Sha256,
    Sha512,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EncodingName {
    Hex,
    Base64,
}

fn tolerance() -> u64 {
    300
}

//! A customer's ESME as the configuration knows it: who it is, what it may do, how it likes what it is
//! sent. Holds a digest in the place of the password.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

use crate::domain::{AccountId, Address, TrafficClass};
use crate::pipeline::Account;
use crate::pipeline::account::Limiter;
use crate::smpp::session::BindMode;

/// Submissions in forward mode at once, of one system_id.
const FORWARD_MAX: usize = 64;

/// One `[[accounts.smpp]]` of the configuration, checked.
#[derive(Clone)]
pub struct SystemSpec {
    pub account: AccountId,
    pub system_id: String,
    pub password: String,
    /// Where it may come from; empty: from anywhere.
    pub allowed: Vec<Cidr>,
    pub modes: Vec<BindMode>,
    /// Sessions at once.
    pub max_binds: usize,
    /// Its requests without an answer, of one session.
    pub window: usize,
    /// Our deliver_sm without an answer, of one session.
    pub deliver_window: usize,
    /// Submissions per second, all sessions together; none: the account's alone.
    pub throughput: Option<u32>,
    /// How long a submission in forward mode waits for its carrier.
    pub forward: Duration,
    /// What a bind must name, where it is set.
    pub system_type: Option<String>,
    /// For submissions whose source_addr is empty.
    pub originator: Option<Address>,
    /// The only originators it may use, by their values; empty: any.
    pub originators: Vec<String>,
    pub class: Option<TrafficClass>,
    /// What its data_coding 0 means.
    pub default_alphabet: DefaultAlphabet,
    pub receipts: ReceiptForm,
    pub long_inbound: LongInbound,
    /// The optional parameter that holds an idempotency key, where it sends one.
    pub idempotency_tag: Option<u16>,
    /// sm_default_msg_id to text.
    pub default_messages: BTreeMap<u8, String>,
    /// Distribution lists for submit_multi.
    pub lists: BTreeMap<String, Vec<Address>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultAlphabet {
    Gsm7,
    Latin1,
}

/// How a receipt says what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiptForm {
    TextAndTlvs,
    /// For clients that cannot read TLVs.
    Text,
    /// An empty short_message.
    Tlvs,
}

/// How a mobile-originated message goes out that is longer than a short message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LongInbound {
    /// As several deliver_sm with concatenation headers.
    Udh,
    /// As one, in message_payload.
    Payload,
}

/// A system_id with all that is counted of it.
pub struct System {
    pub spec: SystemSpec,
    pub id: Arc<str>,
    pub account: Arc<Account>,
    password: [u8; 32],
    pub limiter: Option<Limiter>,
    /// Submissions in forward mode that wait for their carriers.
    pub forward: Arc<Semaphore>,
    /// Searches through the account's messages.
    pub searches: Semaphore,
    pub counters: Counters,
}

/// What one system_id did since the server started.
#[derive(Debug, Default)]
pub struct Counters {
    pub binds: AtomicU64,
    pub binds_refused: AtomicU64,
    pub accepted: AtomicU64,
    pub refused: AtomicU64,
    pub throttled: AtomicU64,
    pub receipts: AtomicU64,
    pub intermediate: AtomicU64,
    pub inbound: AtomicU64,
    /// alert_notifications, and those that found no session.
    pub alerts: AtomicU64,
    pub alerts_unheard: AtomicU64,
    pub delivery_retries: AtomicU64,
    pub dead: AtomicU64,
}

impl System {
    pub fn new(mut spec: SystemSpec, account: Arc<Account>) -> System {
        let password = digest(spec.password.as_bytes());
        spec.password = String::new();
        System {
            id: spec.system_id.as_str().into(),
            limiter: spec.throughput.map(Limiter::new),
            forward: Arc::new(Semaphore::new(FORWARD_MAX)),
            searches: Semaphore::new(1),
            counters: Counters::default(),
            account,
            password,
            spec,
        }
    }

    pub fn has_password(&self, digest: &[u8; 32]) -> bool {
        self.password.ct_eq(digest).into()
    }

    pub fn may_come_from(&self, ip: IpAddr) -> bool {
        self.spec.allowed.is_empty() || self.spec.allowed.iter().any(|cidr| cidr.contains(ip))
    }
}

impl fmt::Debug for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "System({})", self.id)
    }
}

pub fn digest(password: &[u8]) -> [u8; 32] {
    Sha256::digest(password).into()
}

/// A block of addresses: `192.0.2.0/24`, `2001:db8::/32`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    base: IpAddr,
    bits: u8,
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Cidr, String> {
        let rule = || {
            format!(
                "{text:?} is neither an address nor a block such as 192.0.2.0/24 or 2001:db8::/32"
            )
        };
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let base: IpAddr = address.parse().map_err(|_| rule())?;
        let width = if base.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => width,
            Some(bits) => bits.parse().ok().filter(|b| *b <= width).ok_or_else(rule)?,
        };
        Ok(Cidr { base, bits })
    }
}

impl Cidr {
    pub fn contains(&self, ip: IpAddr) -> bool {
        // A listener on [::] sees IPv4 clients in mapped form.
        let (width, a, b) = match (self.base, ip.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                (32, u128::from(a.to_bits()), u128::from(b.to_bits()))
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => (128, a.to_bits(), b.to_bits()),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
        };
        let host_bits = width - u32::from(self.bits);
        // A shift by the whole width says that everything is inside.
        a.checked_shr(host_bits) == b.checked_shr(host_bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_hold_what_they_should() {
        let inside = |cidr: &str, ip: &str| {
            let cidr: Cidr = cidr.parse().unwrap();
            cidr.contains(ip.parse().unwrap())
        };
        assert!(inside("192.0.2.0/24", "192.0.2.255"));
        assert!(!inside("192.0.2.0/24", "192.0.3.0"));
        assert!(inside("192.0.2.7", "192.0.2.7"));
        assert!(!inside("192.0.2.7", "192.0.2.8"));
        assert!(inside("0.0.0.0/0", "203.0.113.9"));
        assert!(inside("192.0.2.0/24", "::ffff:192.0.2.9"));
        assert!(inside("2001:db8::/32", "2001:db8:1::1"));
        assert!(!inside("2001:db8::/32", "2001:db9::1"));
        assert!(inside("::/0", "2001:db8::1"));
        assert!(!inside("0.0.0.0/0", "2001:db8::1"));
    }

    #[test]
    fn what_is_no_block_is_refused() {
        for text in [
            "",
            "192.0.2.0/33",
            "192.0.2/24",
            "::1/129",
            "host",
            "1.2.3.4/",
        ] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }
}

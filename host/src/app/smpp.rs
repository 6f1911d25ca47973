//! SMPP carriers put together from their sections, and what is told of them.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{StartError, failed};
use crate::carrier::Carrier;
use crate::carrier::smpp::{Binding, HostOrder, SmppCarrier, SmppConfig, TlsConfig};
use crate::config::{self, Bind, ReceiptId, SmppSection, Tls, TlsSection};
use crate::domain::CarrierId;
use crate::domain::receipt::IdForm;
use crate::smpp::tls::{ClientSettings, Connector, Identity, server_name};

/// An SMPP carrier as its section describes it. `at` names the section in errors.
pub fn carrier(section: &SmppSection, base: &Path, at: &str) -> Result<SmppConfig, StartError> {
    let password = section.password.resolve(base);
    let password = password.map_err(|e| failed(&format!("{at}.password"), e))?;
    let id = CarrierId::from(section.id.as_str());
    let tls = match &section.tls {
        None | Some(Tls::On(false)) => None,
        Some(Tls::On(true)) => Some(tls(&TlsSection::default(), base, at)?),
        Some(Tls::With(section)) => Some(tls(section, base, at)?),
    };
    Ok(SmppConfig {
        addresses: addresses(section, at)?,
        host_order: match section.host_order {
            config::HostOrder::Failover => HostOrder::Failover,
            config::HostOrder::Spread => HostOrder::Spread,
        },
        host_return: Duration::from_secs(section.host_return_seconds),
        tls,
        system_type: section.system_type.clone(),
        interface_version: section.interface_version,
        address_range: section.address_range.clone(),
        addr_ton: section.addr_ton,
        addr_npi: section.addr_npi,
        bind_timeout: Duration::from_millis(section.bind_timeout_ms),
        binding: match section.bind {
            Bind::Transceiver => Binding::Transceiver,
            Bind::Pair => Binding::Pair,
            Bind::Transmitter => Binding::Transmitter,
        },
        sessions: section.sessions,
        window: section.window,
        throughput: section.throughput,
        enquire_link: Duration::from_secs(section.enquire_link_seconds),
        response_timeout: Duration::from_millis(section.response_timeout_ms),
        reconnect_min: Duration::from_millis(section.reconnect_min_ms),
        reconnect_max: Duration::from_millis(section.reconnect_max_ms),
        id_form: match section.receipt_id {
            ReceiptId::Auto => IdForm::Auto,
            ReceiptId::AsIs => IdForm::AsIs,
            ReceiptId::HexInResponse => IdForm::HexInResponse,
            ReceiptId::DecimalInResponse => IdForm::DecimalInResponse,
        },
        tags: section.tags.clone(),
        ..SmppConfig::new(id, "", &section.system_id, &password)
    })
}

fn addresses(section: &SmppSection, at: &str) -> Result<Vec<String>, StartError> {
    match (&section.address, section.addresses.as_slice()) {
        (Some(address), []) => Ok(vec![address.clone()]),
        (None, []) => Err(failed(at, "has no address: give address or addresses")),
        (None, addresses) => Ok(addresses.to_vec()),
        (Some(_), _) => Err(failed(at, "has both address and addresses; give one")),
    }
}

fn tls(section: &TlsSection, base: &Path, at: &str) -> Result<TlsConfig, StartError> {
    let at = format!("{at}.tls");
    let read = |field: &str, path: &Path| {
        let path = base.join(path);
        std::fs::read(&path).map_err(|e| failed(&format!("{at}.{field} {}", path.display()), e))
    };
    let ca = match &section.ca {
        Some(path) => Some(read("ca", path)?),
        None => None,
    };
    let identity = match (&section.certificate, &section.key) {
        (None, None) => None,
        (Some(certificate), Some(key)) => {
            let key = key.resolve(base);
            let key = key.map_err(|e| failed(&format!("{at}.key"), e))?;
            let identity = Identity::from_pem(&read("certificate", certificate)?, key.as_bytes());
            Some(identity.map_err(|e| failed(&at, e))?)
        }
        (Some(_), None) => return Err(failed(&at, "has a certificate and no key")),
        (None, Some(_)) => return Err(failed(&at, "has a key and no certificate")),
    };
    let pins: Result<Vec<_>, _> = section.pin_sha256.iter().map(|p| p.parse()).collect();
    let pins = pins.map_err(|e| failed(&at, e))?;
    if section.insecure && (ca.is_some() || !pins.is_empty()) {
        return Err(failed(
            &at,
            "is insecure, so that ca and pin_sha256 would count for nothing; take one away",
        ));
    }
    let server_name = section.server_name.as_deref().map(server_name).transpose();
    let connector = Connector::new(ClientSettings {
        ca,
        pins,
        identity,
        insecure: section.insecure,
    });
    Ok(TlsConfig {
        connector: connector.map_err(|e| failed(&at, e))?,
        server_name: server_name.map_err(|e| failed(&at, e))?,
    })
}

/// What the sessions of each SMPP carrier counted, in the Prometheus text format.
pub fn metrics(carriers: &[Arc<SmppCarrier>], out: &mut String) {
    let _ = writeln!(out, "# TYPE heliograph_smpp_total counter");
    for carrier in carriers {
        let counters = carrier.counters();
        let figures = [
            ("submitted", &counters.submitted),
            ("sent", &counters.sent),
            ("throttled", &counters.throttled),
            ("temporary", &counters.temporary),
            ("permanent", &counters.permanent),
            ("unknown", &counters.unknown),
            ("unavailable", &counters.unavailable),
            ("receipts", &counters.receipts),
            ("unreadable_receipts", &counters.unreadable_receipts),
            ("inbound", &counters.inbound),
            ("binds", &counters.binds),
            ("bind_failures", &counters.bind_failures),
            ("disconnects", &counters.disconnects),
        ];
        for (what, figure) in figures {
            // A carrier's name comes from the configuration, where quotes and backslashes may stand.
            let id = carrier
                .id()
                .as_str()
                .replace('\\', "\\\\")
                .replace('"', "\\\"");
            let value = figure.load(Ordering::Relaxed);
            let _ = writeln!(
                out,
                "heliograph_smpp_total{{carrier=\"{id}\",what=\"{what}\"}} {value}"
            );
        }
    }
}

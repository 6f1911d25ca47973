//! SMPP carriers put together from their sections, and what is told of them.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::certificates::Certificate;
use super::{StartError, failed};
use crate::carrier::Carrier;
use crate::carrier::smpp::{
    AddressRule, Binding, HostOrder, OutbindConfig, Shape, SmppCarrier, SmppConfig, StatusRule,
    Statuses, SubmitDefaults, Supports, TlsConfig, Validity,
};
use crate::config::{
    self, AddressRuleSection, AddressShape, Bind, Operation, OutbindBind, OutbindSection,
    ReceiptId, ReceiptPer, SmppSection, StatusAction, StatusSection, SubmitSection, Tls,
    TlsSection, TlvSection, ValidityForm,
};
use crate::domain::receipt::{IdForm, Per};
use crate::domain::{CarrierId, Tlv};
use crate::smpp::session::BindMode;
use crate::smpp::status::{self, Class};
use crate::tls::{ClientSettings, Connector, Identity, server_name};

/// An SMPP carrier, and what it greets those with who come to us.
pub struct Made {
    pub config: SmppConfig,
    pub certificate: Option<Certificate>,
}

/// An SMPP carrier as its section describes it. `at` names the section in errors.
pub fn carrier(section: &SmppSection, base: &Path, at: &str) -> Result<Made, StartError> {
    let password = section.password.resolve(base);
    let password = password.map_err(|e| failed(&format!("{at}.password"), e))?;
    let id = CarrierId::from(section.id.as_str());
    let tls = match &section.tls {
        None | Some(Tls::On(false)) => None,
        Some(Tls::On(true)) => Some(tls(&TlsSection::default(), base, at)?),
        Some(Tls::With(section)) => Some(tls(section, base, at)?),
    };
    let certificate = section.outbind.as_ref();
    let certificate = certificate.map(|outbind| certificate_of(outbind, base, at));
    let certificate = certificate.transpose()?.flatten();
    let config = SmppConfig {
        addresses: addresses(section, at)?,
        host_order: match section.host_order {
            config::HostOrder::Failover => HostOrder::Failover,
            config::HostOrder::Spread => HostOrder::Spread,
        },
        host_return: Duration::from_secs(section.host_return_seconds),
        tls,
        submit: submit(section, at)?,
        statuses: statuses(&section.status, at)?,
        supports: Supports {
            data_sm: section.supports.contains(&Operation::DataSm),
            query_sm: section.supports.contains(&Operation::Query),
            cancel_sm: section.supports.contains(&Operation::Cancel),
            replace_sm: section.supports.contains(&Operation::Replace),
        },
        query_after: Duration::from_secs(section.query_after_seconds),
        outbind: match &section.outbind {
            None => None,
            Some(section) => Some(OutbindConfig {
                tls: certificate.as_ref().map(|c| c.acceptor()),
                ..outbind(section, base, at)?
            }),
        },
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
            ReceiptId::DashesInResponse => IdForm::DashesInResponse,
            ReceiptId::DashesInReceipt => IdForm::DashesInReceipt,
        },
        receipt_per: match section.receipt_per {
            ReceiptPer::Auto => Per::Auto,
            ReceiptPer::Segment => Per::Segment,
            ReceiptPer::Message => Per::Message,
        },
        tags: section.tags.clone(),
        text: section.text.style(section.multipart),
        ..SmppConfig::new(id, "", &section.system_id, &password)
    };
    Ok(Made {
        config,
        certificate,
    })
}

fn outbind(section: &OutbindSection, base: &Path, at: &str) -> Result<OutbindConfig, StartError> {
    let password = section.password.resolve(base);
    Ok(OutbindConfig {
        listen: section.listen,
        system_id: section.system_id.clone(),
        password: password.map_err(|e| failed(&format!("{at}.outbind.password"), e))?,
        mode: match section.bind {
            OutbindBind::Receiver => BindMode::Receiver,
            OutbindBind::Transceiver => BindMode::Transceiver,
        },
        sessions: section.sessions,
        tls: None,
    })
}

/// None where outbind comes without TLS.
fn certificate_of(
    section: &OutbindSection,
    base: &Path,
    at: &str,
) -> Result<Option<Certificate>, StartError> {
    let OutbindSection {
        certificate,
        key,
        client_ca,
        ..
    } = section;
    if [certificate, key, client_ca]
        .into_iter()
        .all(Option::is_none)
    {
        return Ok(None);
    }
    let section = format!("{at}.outbind");
    Certificate::open(&section, certificate, key, client_ca.as_deref(), base).map(Some)
}

fn addresses(section: &SmppSection, at: &str) -> Result<Vec<String>, StartError> {
    match (&section.address, section.addresses.as_slice()) {
        (Some(address), []) => Ok(vec![address.clone()]),
        (None, []) if section.outbind.is_some() => Ok(Vec::new()),
        (None, []) => Err(failed(at, "has no address: give address or addresses")),
        (None, addresses) => Ok(addresses.to_vec()),
        (Some(_), _) => Err(failed(at, "has both address and addresses; give one")),
    }
}

fn submit(section: &SmppSection, at: &str) -> Result<SubmitDefaults, StartError> {
    let SubmitSection {
        service_type,
        protocol_id,
        priority,
        registered_delivery,
        replace_if_present,
        sm_default_msg_id,
        validity,
        tlvs,
    } = &section.submit;
    let tlv = |(i, section): (usize, &TlvSection)| {
        tlv(section).map_err(|e| failed(&format!("{at}.submit.tlvs[{i}]"), e))
    };
    Ok(SubmitDefaults {
        service_type: service_type.clone(),
        protocol_id: *protocol_id,
        priority_flag: *priority,
        registered_delivery: *registered_delivery,
        replace_if_present: *replace_if_present,
        sm_default_msg_id: *sm_default_msg_id,
        validity: match validity {
            ValidityForm::Relative => Validity::Relative,
            ValidityForm::Absolute => Validity::Absolute,
            ValidityForm::None => Validity::None,
        },
        tlvs: tlvs.iter().enumerate().map(tlv).collect::<Result<_, _>>()?,
        source: section.source.iter().map(address_rule).collect(),
        destination: section.destination.iter().map(address_rule).collect(),
    })
}

fn tlv(section: &TlvSection) -> Result<Tlv, &'static str> {
    let value = match (&section.text, &section.hex) {
        (Some(text), None) => text.as_bytes().to_vec(),
        (None, Some(hex)) => {
            let digits: Option<Vec<u8>> = hex
                .chars()
                .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
                .collect();
            let digits = digits.filter(|d| d.len() % 2 == 0);
            let digits = digits.ok_or("hex is pairs of hexadecimal digits")?;
            digits
                .chunks(2)
                .map(|pair| pair[0] << 4 | pair[1])
                .collect()
        }
        _ => return Err("has text or hex, and not both"),
    };
    Ok(Tlv {
        tag: section.tag,
        value,
    })
}

fn address_rule(section: &AddressRuleSection) -> AddressRule {
    AddressRule {
        shape: match section.shape {
            AddressShape::Any => Shape::Any,
            AddressShape::International => Shape::International,
            AddressShape::Short => Shape::Short,
            AddressShape::Alphanumeric => Shape::Alphanumeric,
        },
        prefix: section.prefix.clone(),
        min_length: section.min_length,
        max_length: section.max_length,
        replace: section.replace.clone(),
        plus: section.plus,
        ton: section.ton,
        npi: section.npi,
    }
}

fn statuses(sections: &BTreeMap<String, StatusSection>, at: &str) -> Result<Statuses, StartError> {
    let mut rules = HashMap::new();
    for (name, section) in sections {
        let at = format!("{at}.status.{name}");
        let command_status = status::from_name(name)
            .ok_or_else(|| failed(&at, "is no command_status: a number, or a name of SMPP"))?;
        if command_status == status::ESME_ROK {
            return Err(failed(&at, "is success, and nothing else"));
        }
        let (action, retry_after_ms) = match section {
            StatusSection::Plain(action) => (*action, None),
            StatusSection::Delayed(delayed) => (delayed.action, Some(delayed.retry_after_ms)),
        };
        let class = match action {
            StatusAction::Retry => Class::Temporary,
            StatusAction::Throttle => Class::Throttled,
            StatusAction::Reject => Class::Permanent,
            StatusAction::Taken => Class::Ok,
        };
        let rule = StatusRule {
            class,
            retry_after: retry_after_ms.map(|ms| Duration::from_millis(ms.into())),
        };
        rules.insert(command_status, rule);
    }
    Ok(Statuses::new(rules))
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
            ("alerts", &counters.alerts),
            ("alerts_lost", &counters.alerts_lost),
            ("inbound", &counters.inbound),
            ("binds", &counters.binds),
            ("bind_failures", &counters.bind_failures),
            ("disconnects", &counters.disconnects),
            ("malformed", &counters.malformed),
            ("stray_responses", &counters.stray_responses),
            ("refused", &counters.refused),
            ("queries", &counters.queries),
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

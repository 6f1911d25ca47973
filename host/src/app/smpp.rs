//! SMPP carriers put together from their sections, and what is told of them.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{StartError, failed};
use crate::carrier::Carrier;
use crate::carrier::smpp::{Binding, SmppCarrier, SmppConfig};
use crate::config::{Bind, ReceiptId, ReceiptPer, SmppSection};
use crate::domain::CarrierId;
use crate::domain::receipt::{IdForm, Per};

/// An SMPP carrier as its section describes it. `at` names the section in errors.
pub fn carrier(section: &SmppSection, base: &Path, at: &str) -> Result<SmppConfig, StartError> {
    let password = section.password.resolve(base);
    let password = password.map_err(|e| failed(&format!("{at}.password"), e))?;
    let id = CarrierId::from(section.id.as_str());
    Ok(SmppConfig {
        system_type: section.system_type.clone(),
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
        ..SmppConfig::new(id, &section.address, &section.system_id, &password)
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
            ("malformed", &counters.malformed),
            ("stray_responses", &counters.stray_responses),
            ("refused", &counters.refused),
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

//! Tells ESMEs that asked for it (set_dpf) of phones that are back: an alert_notification on one of
//! their receiving sessions (SMPP 3.4, 4.12.1). With none bound the wish stays for the next alert.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use super::binds::Binds;
use crate::carrier::Availability;
use crate::pipeline::Pipeline;
use crate::pipeline::phones::Alert;
use crate::smpp::pdu::{AlertNotification, Body, EncodeError, TlvBuf, tag};

/// Until `stop` turns true.
pub async fn run(pipeline: Arc<Pipeline>, binds: Arc<Binds>, mut stop: watch::Receiver<bool>) {
    let mut alerts = pipeline.phones.alerts();
    loop {
        let alert = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            alert = alerts.recv() => alert,
        };
        match alert {
            Ok(alert) => relay(&pipeline, &binds, &alert).await,
            Err(RecvError::Lagged(lost)) => {
                tracing::warn!(lost, "more phones came back than ESMEs could be told of");
            }
            Err(RecvError::Closed) => return,
        }
    }
}

async fn relay(pipeline: &Pipeline, binds: &Binds, alert: &Alert) {
    let Some(party) = binds.party(&alert.wish.system_id) else {
        return;
    };
    let counters = &party.system.counters;
    let Some(bound) = party.listener() else {
        counters.alerts_unheard.fetch_add(1, Ordering::Relaxed);
        return;
    };
    match notify(&bound.link, alert) {
        Ok(true) => {
            counters.alerts.fetch_add(1, Ordering::Relaxed);
            if alert.availability == Availability::Available {
                pipeline.wish_granted(&alert.wish).await;
            }
        }
        Ok(false) => tracing::debug!(system_id = %party.system.id, "no room for an alert"),
        Err(error) => tracing::warn!(%error, "an alert cannot be put into alert_notification"),
    }
}

fn notify(link: &crate::smpp::link::Link, alert: &Alert) -> Result<bool, EncodeError> {
    let (handset, asker) = (&alert.wish.handset, &alert.wish.asker);
    let mut tlvs = TlvBuf::new();
    // One octet always fits.
    let _ = tlvs.push(tag::MS_AVAILABILITY_STATUS, &[alert.availability.status()]);
    link.notify(&Body::AlertNotification(AlertNotification {
        source_addr_ton: handset.ton as u8,
        source_addr_npi: handset.npi as u8,
        source_addr: handset.value.as_bytes(),
        esme_addr_ton: asker.ton as u8,
        esme_addr_npi: asker.npi as u8,
        esme_addr: asker.value.as_bytes(),
        tlvs: tlvs.as_tlvs(),
    }))
}

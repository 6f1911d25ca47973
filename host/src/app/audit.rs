//! What the server itself does to its policy, noted in the audit log beside what people ask for: a
//! policy file that changed, a canary that stepped or rolled back.

use std::sync::Arc;

use tokio::sync::broadcast::error::RecvError;

use crate::api::time_text;
use crate::pipeline::Pipeline;
use crate::pipeline::events::{EventKind, OperatorEvent};
use crate::store::{Act, AuditLog};

/// Until the server ends.
pub async fn note_events(pipeline: Arc<Pipeline>, log: AuditLog) {
    let (before, mut feed) = pipeline.events.follow(0);
    for event in before {
        note(&log, &event).await;
    }
    loop {
        match feed.recv().await {
            Ok(event) => note(&log, &event).await,
            Err(RecvError::Closed) => return,
            Err(RecvError::Lagged(missed)) => {
                let act = Act {
                    at: time_text(pipeline.clock.now()),
                    by: "server".to_owned(),
                    action: "events.missed".to_owned(),
                    detail: missed.to_string(),
                    outcome: "done".to_owned(),
                    ..Act::default()
                };
                log.append(act).await;
            }
        }
    }
}

async fn note(log: &AuditLog, event: &OperatorEvent) {
    if !is_act(event.kind) {
        return;
    }
    log.append(Act {
        at: time_text(event.at),
        by: "server".to_owned(),
        from: String::new(),
        action: event.kind.name().to_owned(),
        subject: event.subject.clone(),
        detail: event.detail.clone(),
        outcome: "done".to_owned(),
    })
    .await;
}

/// What changes by which rules messages go; what plugins and ESMEs do is no act.
fn is_act(kind: EventKind) -> bool {
    match kind {
        EventKind::PolicyActivated
        | EventKind::PolicyRefused
        | EventKind::PolicyRolledBack
        | EventKind::CanaryStarted
        | EventKind::CanaryStepped
        | EventKind::CanaryPromoted
        | EventKind::CanaryRolledBack
        | EventKind::CanaryAborted
        | EventKind::ShadowStarted
        | EventKind::ShadowStopped
        | EventKind::ComplianceOpened => true,
        EventKind::PluginStaged
        | EventKind::BreakerOpened
        | EventKind::BreakerClosed
        | EventKind::QuotaExceeded
        | EventKind::EsmeBound
        | EventKind::EsmeUnbound
        | EventKind::EsmeLockedOut => false,
    }
}

//! The way back: what carriers bring is taken, each on a task of its own. Receipts settle their
//! message; mobile-originated messages are next door in `inbound.rs`. A carrier hears "taken" only
//! when it is durable.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};

use super::reassembly::Reassembly;
use super::{Pipeline, stopped};
use crate::carrier::{Ack, CarrierEvent};
use crate::domain::message::ReceiptEffect;
use crate::domain::{MessageId, PartState};
use crate::store::{ReceiptMatch, StoreError};

/// How often parts that wait in vain are looked for, at most: the rule is twice in their patience.
const REASSEMBLY_SWEEP: Duration = Duration::from_secs(60);

/// Takes what carriers send until `stop` turns true and the channel is empty.
pub async fn run(
    pipeline: Arc<Pipeline>,
    mut events: mpsc::Receiver<CarrierEvent>,
    mut stop: watch::Receiver<bool>,
) {
    let permits = Arc::new(Semaphore::new(pipeline.limits.max_receiving));
    let assembly = Arc::new(parking_lot::Mutex::new(pipeline.restore_fragments().await));
    pipeline.restore_wishes().await;
    let patience = pipeline.limits.reassembly.patience;
    let every = REASSEMBLY_SWEEP.min(patience / 2);
    let mut sweep = tokio::time::interval(every.max(Duration::from_millis(100)));
    loop {
        let event = tokio::select! {
            biased;
            _ = sweep.tick() => {
                // On a task of its own as well: a panic would end the way back.
                let (pipeline, assembly) = (pipeline.clone(), assembly.clone());
                let passing = async move { pipeline.pass_on_overdue(&assembly).await };
                let _ = tokio::spawn(passing).await;
                continue;
            }
            event = events.recv() => event,
            () = stopped(&mut stop) => None,
        };
        let Some(event) = event else { break };
        // What is said of one phone keeps its order, and waits for nothing.
        if matches!(event, CarrierEvent::Alert { .. }) {
            pipeline.receive(event, &assembly).await;
            continue;
        }
        let Ok(permit) = permits.clone().acquire_owned().await else {
            break;
        };
        let (pipeline, assembly) = (pipeline.clone(), assembly.clone());
        tokio::spawn(async move {
            pipeline.receive(event, &assembly).await;
            drop(permit);
        });
    }
    // What was begun is finished: its carrier waits for an answer.
    let all = u32::try_from(pipeline.limits.max_receiving).unwrap_or(u32::MAX);
    let _ = permits.acquire_many(all).await;
}

impl Pipeline {
    async fn receive(&self, event: CarrierEvent, assembly: &parking_lot::Mutex<Reassembly>) {
        match event {
            CarrierEvent::Receipt {
                carrier,
                receipt,
                style,
                ack,
            } => {
                let state = receipt.report.state;
                let result = self.store.receipt(carrier.clone(), receipt, style).await;
                if let Ok(ReceiptMatch::Matched {
                    taken_at,
                    set,
                    effect,
                    ..
                }) = &result
                    && effect.is_final()
                {
                    let took = self.clock.now().since(*taken_at);
                    let delivered = state == PartState::Delivered;
                    self.carriers.note_receipt(&carrier, delivered, took);
                    if let (Some(canary), Some(set)) = (&self.policy.in_force().canary, set) {
                        canary.note_receipt(*set, delivered);
                    }
                }
                // Before the carrier hears that its receipt was taken, so that what it tells next finds it.
                if let Ok(ReceiptMatch::Matched {
                    id,
                    asks_for_alert: true,
                    effect,
                    ..
                }) = &result
                    && (effect.is_final() && state != PartState::Delivered
                        || *effect == ReceiptEffect::Intermediate)
                {
                    Box::pin(self.note_away(*id, *effect)).await;
                }
                // A carrier that has gone away asks again when it is back.
                let _ = ack.send(ack_of(&result));
            }
            CarrierEvent::Alert {
                carrier,
                handset,
                availability,
            } => self.heard_of_phone(carrier, handset, availability),
            CarrierEvent::Inbound {
                carrier,
                part,
                provider_id,
                ack,
            } => {
                // Boxed: it can lead to hooks and a reply, and a receipt's task should not be as large.
                let result =
                    Box::pin(self.receive_part(carrier, part, provider_id, assembly)).await;
                let _ = ack.send(ack_of(&result));
            }
        }
    }
}

impl Pipeline {
    /// A receipt told that a message did not reach its handset, or not yet.
    async fn note_away(&self, id: MessageId, effect: ReceiptEffect) {
        match self.store.find(id).await {
            Ok(Some(message))
                if effect == ReceiptEffect::Intermediate || message.found_nobody() =>
            {
                self.keep_wish_for_alert(&message).await;
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "a wish to be alerted is not kept"),
        }
    }
}

fn ack_of<T>(result: &Result<T, StoreError>) -> Ack {
    match result {
        Ok(_) => Ack::Taken,
        Err(_) => Ack::RetryLater,
    }
}

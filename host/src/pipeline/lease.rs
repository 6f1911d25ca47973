//! What is leased to whoever works on it: a message, or what a client is owed. What is dropped without being
//! settled (a task that panicked, and all that it had in hand) is given back: were it forgotten, it would wait
//! for the next restart.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use super::Pipeline;
use crate::carrier::Place;
use crate::domain::{Attempt, AttemptOutcome, Lane, Message, MessageId, Reason};
use crate::store::{Held, OutboxEntry, WebhookOutcome};

/// Before a task that ended in a panic begins anew.
const PANIC_PAUSE: Duration = Duration::from_secs(1);
/// Before what ended in a panic is tried again: a decision, or the bringing of what is owed.
const PAUSE: Duration = Duration::from_secs(60);

pub(super) struct Lease {
    pipeline: Arc<Pipeline>,
    message: Box<Message>,
    settled: bool,
}

impl Pipeline {
    /// Messages of `lane` that are due, at most `max`; waits until there is one.
    pub(super) async fn lease(self: &Arc<Self>, lane: &Lane, max: usize) -> Vec<Lease> {
        let claimed = self.store.claim(lane, max).await;
        let lease = |message| Lease {
            pipeline: self.clone(),
            message,
            settled: false,
        };
        claimed.into_iter().map(lease).collect()
    }

    /// As after a crash: what may be on the wire counts as unanswered, and is repeated ever more
    /// rarely, should it be what brings the panic about.
    async fn give_back(self: Arc<Self>, id: MessageId) {
        let found = match self.store.find(id).await {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(message = %id, %error, "cannot be given back; the next restart will");
                return;
            }
        };
        let Some(mut message) = found else { return };
        let now = self.clock.now();
        match message.due.as_ref().map(|due| due.lane.clone()) {
            Some(Lane::Carrier(carrier)) => {
                message.record_attempt(Attempt {
                    carrier,
                    at: now,
                    outcome: AttemptOutcome::TimedOut,
                });
                message.submit_unknown(now, Reason::ResponseTimeout);
            }
            _ => message.wait(Lane::Decide, now.plus(PAUSE).min(message.expires_at)),
        }
        tracing::error!(message = %id, "a task panicked that had this message in hand; it is given back");
        self.store.settle(&message, None).await;
    }
}

impl Lease {
    /// Gives the lease back with what became of the message; durable with the next commit, which gives
    /// back its place at the carrier.
    pub async fn settle(mut self, place: Option<Place>) {
        let (place, notice) = place.map(Place::settle).unzip();
        let held = place.map(|place| -> Held { Box::new(move |durable| place.end(durable)) });
        self.pipeline.store.settle(&self.message, held).await;
        if let Some(notice) = notice {
            notice.give();
        }
        self.settled = true;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        // Without a runtime the process is ending, and the start that follows gives it back.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(self.pipeline.clone().give_back(self.message.id));
        }
    }
}

/// A webhook or a deliver_sm that a client is owed.
pub struct Debt {
    pipeline: Arc<Pipeline>,
    entry: OutboxEntry,
    settled: bool,
}

impl Pipeline {
    /// Webhooks that are due, at most `max`; waits until there is one.
    pub(super) async fn webhooks_due(self: &Arc<Self>, max: usize) -> Vec<Debt> {
        self.debts(self.store.claim_webhooks(max).await)
    }

    /// The same of what waits for an ESME.
    pub async fn deliveries_due(self: &Arc<Self>, system_id: &Arc<str>, max: usize) -> Vec<Debt> {
        self.debts(self.store.claim_deliveries(system_id, max).await)
    }

    fn debts(self: &Arc<Self>, entries: Vec<OutboxEntry>) -> Vec<Debt> {
        let debt = |entry| Debt {
            pipeline: self.clone(),
            entry,
            settled: false,
        };
        entries.into_iter().map(debt).collect()
    }
}

impl Debt {
    /// Counts one more attempt and does as `outcome` says; durable with the next commit.
    pub async fn settle(mut self, outcome: WebhookOutcome) {
        let settled = self.pipeline.store.settle_owed(self.entry.clone(), outcome);
        if let Err(error) = settled.await {
            tracing::warn!(%error, "what came of something owed could not be written; it will be sent again");
        }
        self.settled = true;
    }
}

impl Drop for Debt {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (store, entry) = (self.pipeline.store.clone(), self.entry.clone());
            // Whoever only stops, or is stopped, has done nothing with it: it keeps its place.
            let again = match std::thread::panicking() {
                true => {
                    tracing::error!(message = %entry.message, "a task panicked that brought what a client is owed; it is given back");
                    WebhookOutcome::RetryAt(self.pipeline.clock.now().plus(PAUSE))
                }
                false => WebhookOutcome::Busy(entry.due),
            };
            runtime.spawn(async move { store.settle_owed(entry, again).await });
        }
    }
}

impl Deref for Debt {
    type Target = OutboxEntry;

    fn deref(&self) -> &OutboxEntry {
        &self.entry
    }
}

/// Begins a task anew that ended in a panic: a whole queue would stand still until the next restart. What it had
/// in hand is given back by its leases.
pub async fn lasting<F>(task: impl Fn() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    while let Err(error) = tokio::spawn(task()).await {
        if !error.is_panic() {
            return;
        }
        tracing::error!("a task panicked; it begins anew");
        tokio::time::sleep(PANIC_PAUSE).await;
    }
}

impl Deref for Lease {
    type Target = Message;

    fn deref(&self) -> &Message {
        &self.message
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Message {
        &mut self.message
    }
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;

//! The way back: receipts settle their message, mobile-originated messages are put together, shown
//! to the inbound hooks and stored. A carrier hears "taken" only when it is durable.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};

use super::reassembly::{Added, Reassembly};
use super::{Pipeline, stopped};
use crate::carrier::{Ack, CarrierEvent, InboundPart};
use crate::domain::text;
use crate::domain::{
    AccountId, Body, CarrierId, Context, Hook, Inbound, InboundAction, MessageId, PartState, Phase,
    WishScope,
};
use crate::plugin::Entry;
use crate::store::{Fragment, InboundRecord, OptOutScope, ReceiptMatch, StoreError};

/// How often parts that wait in vain are looked for.
const REASSEMBLY_SWEEP: Duration = Duration::from_secs(60);

/// Labels on one mobile-originated message at most.
const LABELS_MAX: usize = 16;

/// Takes what carriers send until `stop` turns true and the channel is empty.
pub async fn run(
    pipeline: Arc<Pipeline>,
    mut events: mpsc::Receiver<CarrierEvent>,
    mut stop: watch::Receiver<bool>,
) {
    let permits = Arc::new(Semaphore::new(pipeline.limits.max_receiving));
    let assembly = Arc::new(parking_lot::Mutex::new(pipeline.restore_fragments().await));
    let mut sweep = tokio::time::interval(REASSEMBLY_SWEEP);
    loop {
        let event = tokio::select! {
            biased;
            _ = sweep.tick() => {
                pipeline.pass_on_overdue(&assembly).await;
                continue;
            }
            event = events.recv() => event,
            () = stopped(&mut stop) => None,
        };
        let Some(event) = event else { break };
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
                // A carrier that has gone away asks again when it is back.
                let _ = ack.send(ack_of(&result));
            }
            CarrierEvent::Inbound { carrier, part, ack } => {
                // Boxed: it can lead to hooks and a reply, and a receipt's task should not be as large.
                let result = Box::pin(self.receive_part(carrier, part, assembly)).await;
                let _ = ack.send(ack_of(&result));
            }
        }
    }

    async fn receive_part(
        &self,
        carrier: CarrierId,
        part: InboundPart,
        assembly: &parking_lot::Mutex<Reassembly>,
    ) -> Result<(), StoreError> {
        let now = self.clock.now();
        let concat = part.concat.filter(|c| c.total > 1);
        let fragment = match concat {
            Some(concat) => {
                let fragment = Fragment {
                    carrier: carrier.clone(),
                    originator: part.originator.clone(),
                    recipient: part.recipient.clone(),
                    data_coding: part.data_coding,
                    udh: part.udh.clone(),
                    payload: part.payload.clone(),
                    concat,
                    received_at: now,
                };
                self.store.put_fragment(&fragment).await?;
                true
            }
            None => false,
        };
        let key = (
            carrier.clone(),
            part.originator.clone(),
            part.recipient.clone(),
        );
        let added = assembly.lock().add(&carrier, part, now);
        match added {
            Added::Waiting => Ok(()),
            Added::Complete(whole) | Added::Alone(whole) => {
                self.deliver_inbound(&carrier, whole).await?;
                match concat {
                    Some(concat) if fragment => {
                        self.store
                            .remove_fragments(&key.0, &key.1, &key.2, concat)
                            .await
                    }
                    _ => Ok(()),
                }
            }
        }
    }

    fn inbound_of(&self, carrier: &CarrierId, part: &InboundPart) -> Inbound {
        let now = self.clock.now();
        Inbound {
            id: MessageId::new(now, self.random_u128()),
            carrier: carrier.clone(),
            originator: part.originator.clone(),
            recipient: part.recipient.clone(),
            body: body_of(part),
            received_at: now,
            opted_out: false,
        }
    }

    /// Shows the whole message to the inbound hooks, does what they ask, stores it.
    async fn deliver_inbound(
        &self,
        carrier: &CarrierId,
        whole: InboundPart,
    ) -> Result<(), StoreError> {
        let mut inbound = self.inbound_of(carrier, &whole);
        let account = self.accounts.owner_of(&inbound.recipient.value).cloned();
        if let Some(account) = &account {
            inbound.opted_out = self.store.opted_out(
                &account.id,
                &inbound.recipient.value,
                &inbound.originator.value,
            );
        }
        let actions = self
            .ask_inbound_hooks(&inbound, account.as_ref().map(|a| &a.id))
            .await;
        let consumed = actions.contains(&InboundAction::Consume);
        let confirms_wish = actions
            .iter()
            .any(|a| matches!(a, InboundAction::OptOut(_) | InboundAction::OptIn(_)));
        let mut labels = Vec::new();
        // Wishes first: whatever fails later, the wish is kept.
        for action in &actions {
            let (scope, opted_out) = match action {
                InboundAction::OptOut(scope) => (*scope, true),
                InboundAction::OptIn(scope) => (*scope, false),
                InboundAction::Label(label) => {
                    if labels.len() < LABELS_MAX {
                        labels.push(label.clone());
                    }
                    continue;
                }
                InboundAction::Reply(_) | InboundAction::Consume => continue,
            };
            let scope = match scope {
                WishScope::Number => OptOutScope::Number(inbound.recipient.value.clone()),
                WishScope::Account => match &account {
                    Some(account) => OptOutScope::Account(account.id.clone()),
                    None => OptOutScope::Number(inbound.recipient.value.clone()),
                },
                WishScope::Everything => OptOutScope::Everything,
            };
            self.store
                .set_opt_out(
                    scope,
                    &inbound.originator.value,
                    opted_out,
                    inbound.received_at,
                    "inbound",
                )
                .await?;
        }
        let url = account
            .as_ref()
            .filter(|_| !consumed)
            .and_then(|a| a.inbound_url.clone());
        let esme = account
            .as_ref()
            .filter(|_| !consumed)
            .and_then(|a| a.inbound_esme.as_deref().map(str::to_owned));
        self.store
            .insert_inbound(InboundRecord {
                inbound: inbound.clone(),
                account: account.as_ref().map(|a| a.id.clone()),
                labels,
                consumed,
                webhook_url: url,
                system_id: esme,
            })
            .await?;
        let Some(account) = account else {
            return Ok(());
        };
        // One confirmation of a wish, no more: whatever else a plugin says, the phone asked for silence.
        let mut confirms_wish = confirms_wish;
        for action in actions {
            if let InboundAction::Reply(text) = action {
                let (from, to) = (inbound.recipient.clone(), inbound.originator.clone());
                let exempt = std::mem::take(&mut confirms_wish);
                if let Err(error) = self.reply(&account, from, to, text, exempt).await {
                    tracing::warn!(inbound = %inbound.id, ?error, "the reply could not be submitted");
                }
            }
        }
        Ok(())
    }

    /// `owner` is the account whose number was texted.
    async fn ask_inbound_hooks(
        &self,
        inbound: &Inbound,
        owner: Option<&AccountId>,
    ) -> Vec<InboundAction> {
        let set = self.policy.active();
        let context = Context {
            now: inbound.received_at,
            random: self.random_u64(),
            phase: Phase::Admission,
        };
        let mut actions = Vec::new();
        for entry in set.entries_for(Hook::InboundHandler, owner) {
            let mut asked = Some(entry);
            while let Some(entry) = asked {
                match entry.receive(inbound, &context).await.0 {
                    Ok(more) => {
                        actions.extend(more.into_iter().map(|a| within_reach(entry, a)));
                        break;
                    }
                    // Inbound hooks are open by nature: the message is stored whatever they do.
                    Err(fault) => {
                        tracing::warn!(plugin = entry.name(), version = entry.plugin().1, inbound = %inbound.id, %fault, "an inbound hook failed");
                    }
                }
                asked = entry.previous();
            }
        }
        actions
    }

    async fn restore_fragments(&self) -> Reassembly {
        let mut assembly = Reassembly::default();
        for fragment in self.store.fragments().await {
            let (carrier, concat) = (fragment.carrier, fragment.concat);
            let part = InboundPart {
                originator: fragment.originator,
                recipient: fragment.recipient,
                data_coding: fragment.data_coding,
                udh: fragment.udh,
                payload: fragment.payload,
                concat: Some(fragment.concat),
            };
            // A complete set was delivered and not yet removed when the server went down; the
            // carrier has its answer, so delivering it once more is the safe side.
            let whole = match assembly.add(&carrier, part, fragment.received_at) {
                Added::Waiting => continue,
                Added::Complete(whole) | Added::Alone(whole) => whole,
            };
            let (from, to) = (whole.originator.clone(), whole.recipient.clone());
            let done = match self.deliver_inbound(&carrier, whole).await {
                Ok(()) => {
                    self.store
                        .remove_fragments(&carrier, &from, &to, concat)
                        .await
                }
                Err(error) => Err(error),
            };
            if let Err(error) = done {
                tracing::error!(%error, "a mobile-originated message could not be stored");
            }
        }
        assembly
    }

    async fn pass_on_overdue(&self, assembly: &parking_lot::Mutex<Reassembly>) {
        let overdue = assembly.lock().overdue(self.clock.now());
        for (carrier, concat, part) in overdue {
            let (from, to) = (part.originator.clone(), part.recipient.clone());
            let done = match self.deliver_inbound(&carrier, part).await {
                Ok(()) => {
                    self.store
                        .remove_fragments(&carrier, &from, &to, concat)
                        .await
                }
                Err(error) => Err(error),
            };
            if let Err(error) = done {
                tracing::error!(%error, "parts of a mobile-originated message could not be stored");
            }
        }
    }
}

/// What an account's own plugin asks for reaches no further than the account.
fn within_reach(entry: &Entry, action: InboundAction) -> InboundAction {
    match (entry.account(), action) {
        (Some(_), InboundAction::OptOut(WishScope::Everything)) => {
            InboundAction::OptOut(WishScope::Account)
        }
        (Some(_), InboundAction::OptIn(WishScope::Everything)) => {
            InboundAction::OptIn(WishScope::Account)
        }
        (Some(_) | None, action) => action,
    }
}

fn body_of(part: &InboundPart) -> Body {
    text::decode_content(part.data_coding, &part.udh, &part.payload)
}

fn ack_of<T>(result: &Result<T, StoreError>) -> Ack {
    match result {
        Ok(_) => Ack::Taken,
        Err(_) => Ack::RetryLater,
    }
}

//! Mobile-originated messages: put together from their parts, given to the account they are for, shown
//! to the inbound hooks, tied to what they answer, stored. How parts meet is `reassembly.rs`, whose a
//! message is `inbound_routes.rs`, what the hooks ask for `inbound_hooks.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Pipeline;
use super::account::Account;
use super::inbound_hooks;
use super::reassembly::{Added, Joined, Prospect, Reassembly};
use super::submit::SubmitError;
use crate::carrier::InboundPart;
use crate::clock::Timestamp;
use crate::domain::text::{self, Concat};
use crate::domain::{
    AccountId, Asked, Body, CarrierId, Context, Inbound, InboundAction, InboundCaseRef, MessageId,
    Phase, WishScope,
};
use crate::plugin::Witness;
use crate::store::{Fragment, InboundRecord, OptOutScope, StoreError};

/// Labels on one mobile-originated message at most.
const LABELS_MAX: usize = 16;

/// The label of what came without all of its parts.
pub const INCOMPLETE: &str = "incomplete";

/// A label that begins so and goes on with an account's id gives the message to that account: the
/// word of an inbound handler of the operator's.
pub const ROUTE_LABEL: &str = "account:";

/// Incomplete messages that one round passes on.
const OVERDUE_MAX: usize = 500;

/// Mobile-originated messages and parts by what became of them, since the server started.
#[derive(Debug, Default)]
pub struct InboundCounts {
    /// Given to an account.
    pub routed: AtomicU64,
    /// Nobody's.
    pub unrouted: AtomicU64,
    /// Passed on without all of their parts.
    pub incomplete: AtomicU64,
    /// Parts that came again.
    pub repeated: AtomicU64,
    /// Parts for which the table had no room: passed on alone.
    pub alone: AtomicU64,
    /// Messages that wait for parts just now.
    pub waiting: AtomicU64,
}

impl InboundCounts {
    /// By their stable names; the last one is a gauge.
    pub fn read(&self) -> [(&'static str, u64); 6] {
        [
            ("routed", &self.routed),
            ("unrouted", &self.unrouted),
            ("incomplete", &self.incomplete),
            ("repeated", &self.repeated),
            ("alone", &self.alone),
            ("waiting", &self.waiting),
        ]
        .map(|(name, count)| (name, count.load(Ordering::Relaxed)))
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// A mobile-originated message, put together.
struct Whole {
    carrier: CarrierId,
    originator: crate::domain::Address,
    recipient: crate::domain::Address,
    body: Body,
    /// The parts whose copies go once it is stored.
    joined_of: Vec<Concat>,
    complete: bool,
    /// By what a repeat is known.
    provider_id: Option<String>,
}

impl Whole {
    fn of_one(carrier: &CarrierId, part: &InboundPart) -> Whole {
        Whole {
            carrier: carrier.clone(),
            originator: part.originator.clone(),
            recipient: part.recipient.clone(),
            body: body_of(part),
            joined_of: part.concat.into_iter().collect(),
            complete: part.concat.is_none_or(|c| c.total <= 1),
            provider_id: None,
        }
    }

    fn of(joined: &Joined) -> Option<Whole> {
        let whole = joined.whole()?;
        Some(Whole {
            joined_of: joined.concats.clone(),
            complete: joined.complete,
            ..Whole::of_one(&joined.carrier, &whole)
        })
    }
}

impl Pipeline {
    /// Takes a message or a part of one; durable when it returns.
    pub(super) async fn receive_part(
        &self,
        carrier: CarrierId,
        part: InboundPart,
        provider_id: Option<String>,
        assembly: &parking_lot::Mutex<Reassembly>,
    ) -> Result<(), StoreError> {
        let Some(concat) = part.concat.filter(|c| c.total > 1) else {
            let whole = Whole {
                provider_id,
                ..Whole::of_one(&carrier, &part)
            };
            return self.deliver_inbound(whole).await;
        };
        let now = self.clock.now();
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
        // What came before under the same reference is on its way before this part takes its place in the store.
        let before = assembly.lock().before(&carrier, &part, concat);
        if let Some(before) = before
            && let Some(whole) = Whole::of(&before)
            && let Err(error) = self.deliver_inbound(whole).await
        {
            assembly.lock().put_back(before, None);
            return Err(error);
        }
        let prospect = assembly.lock().prospect(&carrier, &part, concat);
        match prospect {
            Prospect::Repeats => {
                count(&self.inbound_counts.repeated);
                return Ok(());
            }
            // Durable before it is seen: whoever completes the message may then take it away.
            Prospect::Waits | Prospect::Renews => self.store.put_fragment(&fragment).await?,
            Prospect::Completes | Prospect::Alone => {}
        }
        let added = {
            let mut assembly = assembly.lock();
            let added = assembly.add(&carrier, part, now);
            let waiting = &self.inbound_counts.waiting;
            waiting.store(assembly.len() as u64, Ordering::Relaxed);
            added
        };
        match added {
            Added::Repeated => Ok(()),
            // Others were quicker meanwhile: it waits after all.
            Added::Waiting if !matches!(prospect, Prospect::Waits | Prospect::Renews) => {
                self.store.put_fragment(&fragment).await
            }
            Added::Waiting => Ok(()),
            Added::Alone(part) => {
                count(&self.inbound_counts.alone);
                self.deliver_inbound(Whole::of_one(&carrier, &part)).await
            }
            Added::Complete(joined) => {
                let Some(whole) = Whole::of(&joined) else {
                    return Ok(());
                };
                let stored = self.deliver_inbound(whole).await;
                if stored.is_err() {
                    assembly.lock().put_back(joined, Some(concat.index));
                }
                stored
            }
            Added::Renewed(before) => {
                let Some(mut whole) = Whole::of(&before) else {
                    return Ok(());
                };
                // The new message's part has taken this one's place already.
                whole.joined_of.retain(|c| c.index != concat.index);
                self.deliver_inbound(whole).await
            }
        }
    }

    /// Shows the whole message to the inbound hooks, does what they ask, stores it.
    async fn deliver_inbound(&self, whole: Whole) -> Result<(), StoreError> {
        // Before the hooks, which would answer it again.
        if let Some(id) = &whole.provider_id
            && self.store.knows_inbound(&whole.carrier, id).await?
        {
            count(&self.inbound_counts.repeated);
            return Ok(());
        }
        let now = self.clock.now();
        let mut inbound = Inbound {
            id: MessageId::new(now, self.random_u128()),
            carrier: whole.carrier,
            originator: whole.originator,
            recipient: whole.recipient,
            body: whole.body,
            received_at: now,
            opted_out: false,
        };
        let mut account = self.accounts.owner_of(&inbound).cloned();
        if let Some(account) = &account {
            inbound.opted_out = self.store.opted_out(
                &account.id,
                &inbound.recipient.value,
                &inbound.originator.value,
            );
        }
        let owner = account.as_ref().map(|a| &a.id);
        let answers = self.ask_inbound_hooks(&inbound, owner).await;
        let mut labels = Vec::new();
        if !whole.complete {
            labels.push(INCOMPLETE.to_owned());
        }
        let mut actions = Vec::with_capacity(answers.len());
        for asked in answers {
            match asked.action {
                InboundAction::Label(label) => {
                    let of_operator = asked.of_operator;
                    let named = label.strip_prefix(ROUTE_LABEL).filter(|_| of_operator);
                    let named = named.and_then(|id| self.accounts.get(&AccountId::from(id)));
                    if let Some(named) = named {
                        account = Some(named.clone());
                    }
                    if labels.len() < LABELS_MAX {
                        labels.push(label);
                    }
                }
                other => actions.push(other),
            }
        }
        // Wishes first: whatever fails later, the wish is kept.
        for action in &actions {
            self.keep_wish(&inbound, account.as_deref(), action).await?;
        }
        let consumed = actions.contains(&InboundAction::Consume);
        let confirms_wish = actions
            .iter()
            .any(|a| matches!(a, InboundAction::OptOut(_) | InboundAction::OptIn(_)));
        let url = account
            .as_ref()
            .filter(|_| !consumed)
            .and_then(|a| a.inbound_url.clone());
        let esme = account
            .as_ref()
            .filter(|_| !consumed)
            .and_then(|a| a.inbound_esme.as_deref().map(str::to_owned));
        let record = InboundRecord {
            in_reply_to: self.answered(&inbound, account.as_deref(), now).await?,
            inbound: inbound.clone(),
            account: account.as_ref().map(|a| a.id.clone()),
            labels,
            consumed,
            webhook_url: url,
            system_id: esme,
        };
        let id = whole.provider_id.as_deref();
        let parts = &whole.joined_of;
        if !self.store.insert_inbound(record, parts, id).await? {
            // It came twice at once, and the other one was quicker.
            count(&self.inbound_counts.repeated);
            return Ok(());
        }
        if !whole.complete {
            count(&self.inbound_counts.incomplete);
        }
        count(match account {
            Some(_) => &self.inbound_counts.routed,
            None => &self.inbound_counts.unrouted,
        });
        if let Some(account) = account {
            self.send_replies(&account, &inbound, actions, confirms_wish)
                .await;
        }
        Ok(())
    }

    /// The message that a text answers: the last one from that number to that handset, while it is
    /// young enough.
    async fn answered(
        &self,
        inbound: &Inbound,
        account: Option<&Account>,
        now: Timestamp,
    ) -> Result<Option<MessageId>, StoreError> {
        let Some(account) = account else {
            return Ok(None);
        };
        let window = u64::try_from(self.limits.reply_window.as_millis()).unwrap_or(u64::MAX);
        let since = Timestamp(now.millis().saturating_sub(window));
        let (number, handset) = (&inbound.recipient.value, &inbound.originator.value);
        self.store
            .last_sent(&account.id, number, handset, since)
            .await
    }

    async fn keep_wish(
        &self,
        inbound: &Inbound,
        account: Option<&Account>,
        action: &InboundAction,
    ) -> Result<(), StoreError> {
        let (scope, opted_out) = match action {
            InboundAction::OptOut(scope) => (*scope, true),
            InboundAction::OptIn(scope) => (*scope, false),
            InboundAction::Reply(_) | InboundAction::Label(_) | InboundAction::Consume => {
                return Ok(());
            }
        };
        let number = || OptOutScope::Number(inbound.recipient.value.clone());
        let scope = match scope {
            WishScope::Number => number(),
            WishScope::Account => {
                account.map_or_else(number, |account| OptOutScope::Account(account.id.clone()))
            }
            WishScope::Everything => OptOutScope::Everything,
        };
        let (handset, at) = (&inbound.originator.value, inbound.received_at);
        self.store
            .set_opt_out(scope, handset, opted_out, at, "inbound")
            .await
    }

    /// One confirmation of a wish, no more: whatever else a plugin says, the phone asked for silence.
    async fn send_replies(
        &self,
        account: &Arc<Account>,
        inbound: &Inbound,
        actions: Vec<InboundAction>,
        mut confirms_wish: bool,
    ) {
        for action in actions {
            if let InboundAction::Reply(text) = action {
                let (from, to) = (inbound.recipient.clone(), inbound.originator.clone());
                let exempt = std::mem::take(&mut confirms_wish);
                if let Err(error) = self.reply(account, from, to, text, exempt).await {
                    // A refusal's words may quote the text.
                    let why = match &error {
                        SubmitError::Refused { refusal, .. } => refusal.code.clone(),
                        other => format!("{other:?}"),
                    };
                    tracing::warn!(inbound = %inbound.id, why, "the reply could not be submitted");
                }
            }
        }
    }

    /// Asks the handlers of the policy in force, and shows what came of it to whoever records.
    async fn ask_inbound_hooks(&self, inbound: &Inbound, owner: Option<&AccountId>) -> Vec<Asked> {
        let set = self.policy.active();
        let context = Context {
            now: inbound.received_at,
            random: self.random_u64(),
            phase: Phase::Admission,
        };
        let mut witness = match self.observers.records() {
            true => Witness::listening(),
            false => Witness::absent(),
        };
        let answered = inbound_hooks::ask(&set, inbound, owner, &context, &mut witness).await;
        for call in answered.calls.iter().filter(|c| !c.why.is_empty()) {
            let entry = set.all().iter().find(|e| e.index() == call.entry);
            let (plugin, fault) = (entry.map_or("", |e| e.name()), call.why.as_str());
            tracing::warn!(plugin, inbound = %inbound.id, fault, "an inbound hook failed");
        }
        if let Some(recorder) = self.observers.recorder() {
            recorder.record_inbound(&InboundCaseRef {
                inbound,
                set: set.id(),
                context,
                owner,
                asked: &answered.asked,
                calls: &answered.calls,
                heard: &witness.into_heard(),
            });
        }
        answered.asked
    }

    /// Parts that waited when the last process ended.
    pub(super) async fn restore_fragments(&self) -> Reassembly {
        let mut assembly = Reassembly::new(self.limits.reassembly.clone());
        for fragment in self.store.fragments().await {
            let carrier = fragment.carrier;
            let part = InboundPart {
                originator: fragment.originator,
                recipient: fragment.recipient,
                data_coding: fragment.data_coding,
                udh: fragment.udh,
                payload: fragment.payload,
                concat: Some(fragment.concat),
            };
            // A clock that was ahead then makes nothing wait for longer.
            let since = fragment.received_at.min(self.clock.now());
            let whole = match assembly.add(&carrier, part, since) {
                Added::Waiting | Added::Repeated => continue,
                // Limits may be narrower than they were.
                Added::Alone(part) => Some(Whole::of_one(&carrier, &part)),
                Added::Complete(joined) | Added::Renewed(joined) => Whole::of(&joined),
            };
            if let Some(whole) = whole
                && let Err(error) = self.deliver_inbound(whole).await
            {
                tracing::error!(%error, "a mobile-originated message could not be stored");
            }
        }
        assembly
    }

    /// What has waited for its other parts for long enough goes on without them.
    pub(super) async fn pass_on_overdue(&self, assembly: &parking_lot::Mutex<Reassembly>) {
        let overdue = assembly.lock().overdue(self.clock.now(), OVERDUE_MAX);
        for joined in overdue {
            let Some(whole) = Whole::of(&joined) else {
                continue;
            };
            if let Err(error) = self.deliver_inbound(whole).await {
                tracing::error!(%error, "parts of a mobile-originated message could not be stored");
                assembly.lock().put_back(joined, None);
            }
        }
    }
}

fn body_of(part: &InboundPart) -> Body {
    text::decode_content(part.data_coding, &part.udh, &part.payload)
}

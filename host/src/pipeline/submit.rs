//! The first step: a submission becomes a message, is decided and made durable. Nothing is
//! answered before that. What is refused is kept too, so that its trace can be shown.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::Pipeline;
use super::account::Account;
use crate::clock::Timestamp;
use crate::domain::text::{self, Segmented, TextError, TextStyle};
use crate::domain::{
    AccountId, Address, Body, Lane, Message, MessageId, OnUnknown, Outcome, Phase, Plan, Reason,
    Refusal, SmParameters, Source, State, Tlv, TrafficClass,
};
use crate::plugin::PolicySet;
use crate::store::{Accepted, Idempotency, StoreError};

/// What a client asks for, its syntax checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Submission {
    pub originator: Address,
    pub recipient: Address,
    pub body: Body,
    pub class: Option<TrafficClass>,
    pub send_at: Option<Timestamp>,
    pub validity_seconds: Option<u64>,
    pub receipt_url: Option<String>,
    pub reference: String,
    pub metadata: Vec<(String, String)>,
    pub tlvs: Vec<Tlv>,
    pub sm: SmParameters,
    pub source: Source,
    pub on_unknown: OnUnknown,
}

/// A durable message; `replayed` where an Idempotency-Key met its first answer.
#[derive(Debug)]
pub struct Submitted {
    pub message: Box<Message>,
    pub replayed: bool,
}

/// Why a submission was not accepted. All but the last three are the client's to mend.
#[derive(Debug)]
pub enum SubmitError {
    /// The text cannot travel.
    Text(TextError),
    TooManySegments {
        segments: u8,
        max: u8,
    },
    /// A message that its phone shows nobody, from an account that may send none.
    Silent,
    SendAtTooFar {
        max_seconds: u64,
    },
    Validity {
        max_seconds: u64,
    },
    /// Policy said no. The message is kept as `rejected`, with its trace.
    Refused {
        id: MessageId,
        refusal: Refusal,
    },
    /// The same Idempotency-Key with another body.
    IdempotencyMismatch,
    /// The same Idempotency-Key is being worked on.
    IdempotencyRunning,
    /// The account sends more than its throughput.
    Throttled {
        retry_after: Duration,
    },
    Store(StoreError),
}

/// What would happen to a submission.
pub struct Preview {
    pub message: Box<Message>,
    /// As the first hop's carrier would get it; under the usual ways where there is none.
    pub segmented: Segmented,
    pub style: TextStyle,
    pub outcome: Outcome,
    pub set: Arc<PolicySet>,
}

/// Idempotency-Keys whose first request is under way.
#[derive(Debug, Default)]
pub(super) struct RunningKeys(parking_lot::Mutex<HashSet<(AccountId, String)>>);

impl Pipeline {
    /// Admits, decides, stores. Durable when it returns.
    pub async fn submit(
        &self,
        account: &Account,
        submission: Submission,
        idempotency: Option<Idempotency>,
    ) -> Result<Submitted, SubmitError> {
        if self.is_full(&account.id) {
            return Err(SubmitError::Store(StoreError::Busy));
        }
        let _running = match &idempotency {
            Some(key) => Some(self.hold_key(account, &key.key)?),
            None => None,
        };
        if let Err(retry_after) = self.accounts.admit(&account.id, self.clock.monotonic()) {
            return Err(SubmitError::Throttled { retry_after });
        }
        let mut message = self.admit(account, submission)?;
        // What is refused before this takes no time, and would say of the rest that it takes none.
        let Some(_pass) = self.gate.enter(&account.id, self.clock.monotonic()) else {
            return Err(SubmitError::Store(StoreError::Busy));
        };
        let outcome = self.decide_admission(&mut message, false).await;
        let refusal = self.apply_decision(&mut message, outcome, true);
        let id = message.id;
        match self
            .store
            .accept(message, idempotency)
            .await
            .map_err(SubmitError::Store)?
        {
            Accepted::Fresh(message) => match refusal {
                Some(refusal) => Err(SubmitError::Refused { id, refusal }),
                None => Ok(Submitted {
                    message,
                    replayed: false,
                }),
            },
            Accepted::Replay(message) => Ok(Submitted {
                message,
                replayed: true,
            }),
            Accepted::Mismatch => Err(SubmitError::IdempotencyMismatch),
        }
    }

    /// The same judgement as [`Pipeline::submit`], of which nothing is kept.
    pub async fn preview(
        &self,
        account: &Account,
        submission: Submission,
    ) -> Result<Preview, SubmitError> {
        let mut message = self.admit(account, submission)?;
        let set = self.policy.active();
        let for_time = message.send_at;
        let outcome = self
            .decide(&set, &mut message, Phase::Preview, for_time, false)
            .await;
        let style = self.next_text_style(&message);
        let reference = super::dispatch::reference_of(&message);
        let segmented = text::render(&message.body, &message.sm.manner(), &style, reference)
            .map_err(SubmitError::Text)?;
        Ok(Preview {
            segmented,
            style,
            message,
            outcome,
            set,
        })
    }

    /// A text back to a handset, on behalf of an inbound handler. `exempt` where it confirms a wish.
    pub(super) async fn reply(
        &self,
        account: &Account,
        originator: Address,
        recipient: Address,
        text: String,
        exempt: bool,
    ) -> Result<MessageId, SubmitError> {
        let submission = Submission {
            originator,
            recipient,
            body: Body::Text(text),
            class: Some(TrafficClass::Transactional),
            send_at: None,
            validity_seconds: None,
            receipt_url: None,
            reference: String::new(),
            metadata: Vec::new(),
            tlvs: Vec::new(),
            sm: SmParameters::default(),
            source: Source::Http,
            on_unknown: OnUnknown::Fail,
        };
        let mut message = self.admit(account, submission)?;
        let outcome = self.decide_admission(&mut message, exempt).await;
        self.apply_decision(&mut message, outcome, true);
        let id = message.id;
        self.store
            .accept(message, None)
            .await
            .map_err(SubmitError::Store)?;
        Ok(id)
    }

    /// Syntax and limits: a submission becomes a message that no policy has seen yet.
    fn admit(
        &self,
        account: &Account,
        submission: Submission,
    ) -> Result<Box<Message>, SubmitError> {
        let now = self.clock.now();
        let limits = &self.limits;
        let mut sm = submission.sm;
        sm.text = sm.text.or(account.text);
        let plan = match &sm.cut {
            Some(cut) => cut.plan(),
            None => text::plan_for(&submission.body, &sm.manner(), &TextStyle::default()),
        };
        let plan = plan.map_err(SubmitError::Text)?;
        if plan.segments > limits.max_segments {
            return Err(SubmitError::TooManySegments {
                segments: plan.segments,
                max: limits.max_segments,
            });
        }
        if sm.protocol_id == Some(SHORT_MESSAGE_TYPE_0) && !account.silent {
            return Err(SubmitError::Silent);
        }
        let send_at = submission.send_at.map_or(now, |at| at.max(now));
        if send_at > now.plus(Duration::from_secs(limits.max_schedule_seconds)) {
            return Err(SubmitError::SendAtTooFar {
                max_seconds: limits.max_schedule_seconds,
            });
        }
        let validity = submission
            .validity_seconds
            .unwrap_or(limits.default_validity_seconds);
        if validity == 0 || validity > limits.max_validity_seconds {
            return Err(SubmitError::Validity {
                max_seconds: limits.max_validity_seconds,
            });
        }
        let network = self.numbers.network(&submission.recipient);
        Ok(Box::new(Message {
            id: MessageId::new(now, self.random_u128()),
            account: account.id.clone(),
            originator: submission.originator,
            recipient: submission.recipient,
            network,
            class: submission.class.unwrap_or(account.default_class),
            body: submission.body,
            submitted_body: None,
            alphabet: plan.alphabet,
            shift: plan.shift,
            segments: plan.segments,
            accepted_at: now,
            send_at,
            expires_at: send_at.plus(Duration::from_secs(validity)),
            reference: submission.reference,
            metadata: submission.metadata,
            tlvs: submission.tlvs,
            sm,
            source: submission.source,
            receipt_url: submission
                .receipt_url
                .or_else(|| account.receipt_url.clone()),
            on_unknown: submission.on_unknown,
            duplicate_risk: false,
            state: State::Queued,
            due: None,
            plan: Plan::default(),
            hop: 0,
            attempts: Vec::new(),
            parts: Vec::new(),
            failed: Vec::new(),
            decisions: Vec::new(),
            events: Vec::new(),
        }))
    }

    async fn decide_admission(&self, message: &mut Message, exempt: bool) -> Outcome {
        // A scheduled message is judged for the time it will be sent.
        let for_time = message.send_at;
        let outcome = self
            .decide_in_force(message, Phase::Admission, for_time, exempt)
            .await;
        self.follow_first_part(message, &outcome);
        outcome
    }

    /// Moves the message where its decision says. Returns the refusal that its client hears.
    pub(super) fn apply_decision(
        &self,
        message: &mut Message,
        outcome: Outcome,
        first: bool,
    ) -> Option<Refusal> {
        let now = self.clock.now();
        match outcome {
            Outcome::Send if message.send_at > now => {
                message.enter(now, State::Scheduled, Reason::ScheduledByClient, "");
                message.wait(Lane::Decide, message.send_at);
                None
            }
            // Carriers that reported a failure of this message do not get it again.
            Outcome::Send if self.nowhere_left(message) => None,
            Outcome::Send => {
                let reason = if first {
                    Reason::Accepted
                } else {
                    Reason::DecidedAgain
                };
                message.enter(now, State::Queued, reason, "");
                let carrier = message.next_hop_carrier().cloned();
                message.wait(carrier.map_or(Lane::Decide, Lane::Carrier), now);
                None
            }
            Outcome::Refuse(refusal) => {
                let reason = match refusal.code.as_str() {
                    "no_route" => Reason::NoRoute,
                    _ => Reason::RefusedByPolicy,
                };
                let detail = format!("{}: {}", refusal.code, refusal.reason);
                message.enter(now, State::Rejected, reason, detail);
                Some(refusal)
            }
            Outcome::OptedOut => {
                message.enter(now, State::Rejected, Reason::OptedOut, "");
                Some(Refusal {
                    code: "opted_out".to_owned(),
                    reason: "the recipient asked for no more messages from this sender".to_owned(),
                })
            }
            Outcome::Drop(detail) => {
                message.enter(now, State::Rejected, Reason::DroppedByPolicy, detail);
                None
            }
            Outcome::Hold(detail) => {
                message.enter(now, State::Held, Reason::HeldByPolicy, detail);
                message.wait(Lane::Decide, message.expires_at);
                None
            }
            Outcome::Defer { until, reason } => {
                message.enter(now, State::Scheduled, Reason::DeferredByPolicy, reason);
                // At least a second: a policy that defers into the past must not spin.
                let until = until
                    .max(now.plus(Duration::from_secs(1)))
                    .min(message.expires_at);
                message.wait(Lane::Decide, until);
                None
            }
            Outcome::Unavailable(detail) => {
                message.enter(now, State::Held, Reason::PolicyUnavailable, detail);
                let again = now.plus(POLICY_RETRY.mul_f64(0.5 + self.random_unit()));
                message.wait(Lane::Decide, again.min(message.expires_at));
                None
            }
        }
    }

    /// Passes over hops that have failed; where none is left, the last failure is the message's end.
    fn nowhere_left(&self, message: &mut Message) -> bool {
        if message.failed.is_empty() {
            return false;
        }
        match message.open_hop(0) {
            Some(hop) => {
                message.hop = hop;
                false
            }
            None => {
                let now = self.clock.now();
                let (state, detail) = message.last_failure();
                message.enter(now, state, Reason::Receipt, detail);
                true
            }
        }
    }

    fn hold_key(&self, account: &Account, key: &str) -> Result<RunningKey<'_>, SubmitError> {
        let entry = (account.id.clone(), key.to_owned());
        if !self.running_keys.0.lock().insert(entry.clone()) {
            return Err(SubmitError::IdempotencyRunning);
        }
        Ok(RunningKey {
            keys: &self.running_keys,
            entry,
        })
    }
}

/// TP-Protocol-Identifier of what a phone acknowledges and drops (3GPP TS 23.040, 9.2.3.9).
const SHORT_MESSAGE_TYPE_0: u8 = 0x40;

/// How long a message waits for a policy that could not be asked.
const POLICY_RETRY: Duration = Duration::from_secs(30);

/// Gives its key back when the request ends, however it ends.
struct RunningKey<'a> {
    keys: &'a RunningKeys,
    entry: (AccountId, String),
}

impl Drop for RunningKey<'_> {
    fn drop(&mut self) {
        self.keys.0.lock().remove(&self.entry);
    }
}

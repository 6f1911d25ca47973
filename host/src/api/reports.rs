//! What clients get beside messages: mobile-originated ones, carriers, opt-outs, dead webhooks, and the
//! bodies of webhooks. `answer.rs` holds the message itself.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::answer::{BodyView, ReceiptView, json, pairs, receipts};
use super::wire::rfc3339;
use crate::domain::receipt::{IdForm, Per};
use crate::domain::{Message, State};
use crate::pipeline::carriers::CarrierReport;
use crate::pipeline::notify::webhook_id;
use crate::store::{
    InboundRecord, OptOut, OptOutScope, OrphanReceipt, OutboxEntry, OutboxKind, OutboxTarget,
    ReceiptReport, Thread, ThreadItem,
};

/// A mobile-originated message.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Inbound")]
pub struct InboundView<'a> {
    pub id: String,
    pub account: Option<&'a str>,
    pub carrier: &'a str,
    pub from: String,
    pub to: String,
    #[serde(flatten)]
    pub body: BodyView<'a>,
    pub received_at: String,
    /// The handset had opted out of `to`.
    pub opted_out: bool,
    pub labels: &'a [String],
    /// A plugin took it: the application is not told.
    pub consumed: bool,
    /// The message that it answers: the last one from that number to that handset.
    pub in_reply_to: Option<String>,
}

impl<'a> InboundView<'a> {
    pub fn of(record: &'a InboundRecord) -> InboundView<'a> {
        let inbound = &record.inbound;
        InboundView {
            id: inbound.id.to_string(),
            account: record.account.as_ref().map(|a| a.as_str()),
            carrier: inbound.carrier.as_str(),
            from: inbound.originator.to_string(),
            to: inbound.recipient.to_string(),
            body: BodyView::of(&inbound.body),
            received_at: rfc3339(inbound.received_at),
            opted_out: inbound.opted_out,
            labels: &record.labels,
            consumed: record.consumed,
            in_reply_to: record.in_reply_to.map(|id| id.to_string()),
        }
    }
}

/// A conversation: one of the account's numbers and a handset that wrote to it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Thread")]
pub struct ThreadView<'a> {
    pub id: String,
    pub number: &'a str,
    /// The handset.
    pub with: String,
    pub last_at: String,
    pub last_inbound: InboundView<'a>,
}

impl<'a> ThreadView<'a> {
    pub fn of(thread: &'a Thread) -> ThreadView<'a> {
        ThreadView {
            id: format!("{}-{}", thread.number, thread.handset),
            number: &thread.number,
            with: thread.last_inbound.inbound.originator.to_string(),
            last_at: rfc3339(thread.last.timestamp()),
            last_inbound: InboundView::of(&thread.last_inbound),
        }
    }
}

/// One message of a conversation.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ThreadItem")]
pub struct ThreadItemView<'a> {
    /// `outbound` or `inbound`.
    pub direction: &'static str,
    pub id: String,
    pub at: String,
    #[serde(flatten)]
    pub body: BodyView<'a>,
    /// Of an outbound message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<&'a str>,
    /// Of an inbound message, where it answers one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_reply_to: Option<String>,
}

impl<'a> ThreadItemView<'a> {
    pub fn of(item: &'a ThreadItem) -> ThreadItemView<'a> {
        match item {
            ThreadItem::Message(message) => ThreadItemView {
                direction: "outbound",
                id: message.id.to_string(),
                at: rfc3339(message.accepted_at),
                body: BodyView::of(&message.body),
                status: Some(message.state.name()),
                reference: Some(message.reference.as_str()).filter(|r| !r.is_empty()),
                in_reply_to: None,
            },
            ThreadItem::Inbound(record) => ThreadItemView {
                direction: "inbound",
                id: record.inbound.id.to_string(),
                at: rfc3339(record.inbound.received_at),
                body: BodyView::of(&record.inbound.body),
                status: None,
                reference: None,
                in_reply_to: record.in_reply_to.map(|id| id.to_string()),
            },
        }
    }
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Carrier")]
pub struct CarrierJson {
    pub id: String,
    pub connected: bool,
    /// Messages that wait for it.
    pub queued: u32,
    pub in_flight: u32,
    /// Submissions per second still allowed now.
    pub headroom: f32,
    /// Over the last receipts; null until enough arrived.
    pub delivered_ratio: Option<f32>,
    pub p50_receipt_ms: Option<u32>,
    pub receipts_seen: usize,
    pub receipts: ReceiptsJson,
    pub tags: Vec<String>,
}

/// How a carrier's receipts are read, and what came of them.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "CarrierReceipts")]
pub struct ReceiptsJson {
    /// In which form the ids of its responses come back; `auto`: not known yet.
    pub id_form: &'static str,
    /// `set` by the operator, `learned` from receipts, `learning`, or `mixed` where they agree on none.
    pub id_form_is: &'static str,
    /// Receipts that have taught so far, of 100, and for which form they speak.
    pub id_pairs: u32,
    pub id_votes: BTreeMap<&'static str, u32>,
    /// For what it sends a receipt: `segment`, `message`, or `auto` where that is not known.
    pub per: &'static str,
    pub per_is: &'static str,
    /// Receipts that wait for their message.
    pub orphans: u64,
    /// Since the server started.
    pub counts: BTreeMap<&'static str, u64>,
}

impl ReceiptsJson {
    fn of(report: ReceiptReport) -> ReceiptsJson {
        let set_form = report.set_form.filter(|f| *f != IdForm::Auto);
        let set_per = report.set_per.filter(|p| *p != Per::Auto);
        ReceiptsJson {
            id_form: set_form
                .or(report.learned_form)
                .unwrap_or(IdForm::Auto)
                .name(),
            id_form_is: match (set_form, report.learned_form, report.undecided) {
                (Some(_), _, _) => "set",
                (None, Some(_), _) => "learned",
                (None, None, 0) => "learning",
                (None, None, _) => "mixed",
            },
            id_pairs: report.pairs,
            id_votes: report
                .votes
                .into_iter()
                .filter(|(_, votes)| *votes > 0)
                .map(|(form, votes)| (form.name(), votes))
                .collect(),
            per: set_per.or(report.learned_per).unwrap_or(Per::Auto).name(),
            per_is: match (set_per, report.learned_per) {
                (Some(_), _) => "set",
                (None, Some(_)) => "learned",
                (None, None) => "learning",
            },
            orphans: report.orphans,
            counts: report.counts.into_iter().collect(),
        }
    }
}

/// A receipt that waits for its message.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "OrphanReceipt")]
pub struct OrphanView {
    pub carrier: String,
    pub carrier_message_id: String,
    /// Ids of responses that it would meet.
    pub matches: Vec<String>,
    pub status: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
    pub done_at: Option<String>,
    /// The addresses that came with it.
    pub addresses: Vec<String>,
    pub received_at: String,
}

impl OrphanView {
    pub fn of(orphan: OrphanReceipt) -> OrphanView {
        let report = orphan.receipt.report;
        OrphanView {
            carrier: orphan.carrier.to_string(),
            carrier_message_id: orphan.receipt.id,
            matches: orphan.keys,
            status: report.state.name(),
            error: report.error,
            done_at: report.done_at.map(rfc3339),
            addresses: orphan.receipt.evidence.addresses,
            received_at: rfc3339(orphan.received_at),
        }
    }
}

impl CarrierJson {
    pub fn of(report: CarrierReport) -> CarrierJson {
        let view = report.view;
        CarrierJson {
            id: view.id.to_string(),
            connected: view.connected,
            queued: view.queued,
            in_flight: view.in_flight,
            headroom: view.headroom,
            delivered_ratio: view.delivered_ratio,
            p50_receipt_ms: view.p50_receipt_ms,
            receipts_seen: report.receipts_seen,
            receipts: ReceiptsJson::of(report.receipts),
            tags: view.tags,
        }
    }
}

/// A webhook, or a deliver_sm to an ESME, that was given up.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "DeadWebhook")]
pub struct DeadView {
    /// The `webhook-id` of all its attempts.
    pub id: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub message_id: String,
    /// The webhook's, or `smpp:` and the system_id of an ESME.
    pub url: String,
    pub at: String,
    pub attempts: u32,
}

impl DeadView {
    pub fn of(entry: &OutboxEntry) -> DeadView {
        DeadView {
            id: webhook_id(entry.event),
            kind: event_type(entry.kind),
            message_id: entry.message.to_string(),
            url: target_of(&entry.target),
            at: rfc3339(entry.at),
            attempts: entry.attempts,
        }
    }
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "OptOut")]
pub struct OptOutView {
    pub recipient: String,
    pub scope: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    pub at: String,
    pub source: String,
}

impl OptOutView {
    pub fn of(opt_out: &OptOut) -> OptOutView {
        let (scope, number, account) = match &opt_out.scope {
            OptOutScope::Number(number) => ("number", Some(number.clone()), None),
            OptOutScope::Account(account) => ("account", None, Some(account.to_string())),
            OptOutScope::Everything => ("everything", None, None),
        };
        OptOutView {
            recipient: format!("+{}", opt_out.recipient),
            scope,
            number,
            account,
            at: rfc3339(opt_out.at),
            source: opt_out.source.clone(),
        }
    }
}

/// Body of a webhook about a message: what it entered, and how it stands.
#[derive(Debug, Serialize)]
struct StatusHook<'a> {
    id: String,
    status: &'static str,
    reason: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    detail: &'a str,
    at: String,
    to: String,
    from: String,
    class: &'static str,
    segments: u8,
    reference: &'a str,
    metadata: BTreeMap<&'a str, &'a str>,
    carrier: Option<&'a str>,
    receipts: Vec<ReceiptView<'a>>,
}

#[derive(Debug, Serialize)]
struct Webhook<T> {
    #[serde(rename = "type")]
    kind: String,
    timestamp: String,
    data: T,
}

/// The body of a webhook about a message that entered a state.
pub fn status_webhook(entry: &OutboxEntry, message: &Message) -> Vec<u8> {
    let state = match entry.kind {
        OutboxKind::Status(state) => state,
        OutboxKind::Inbound => message.state,
    };
    let event = message.events.iter().rev().find(|e| e.state == state);
    let data = StatusHook {
        id: message.id.to_string(),
        status: state.name(),
        reason: event.map_or(message.reason(), |e| e.reason).name(),
        detail: event.map_or("", |e| &e.detail),
        at: rfc3339(event.map_or(entry.at, |e| e.at)),
        to: message.recipient.to_string(),
        from: message.originator.to_string(),
        class: message.class.name(),
        segments: message.segments,
        reference: &message.reference,
        metadata: pairs(&message.metadata),
        carrier: message
            .carrier()
            .filter(|_| reached_a_carrier(message))
            .map(|c| c.as_str()),
        receipts: receipts(&message.parts),
    };
    webhook(entry, data)
}

/// The body of a webhook about a mobile-originated message.
pub fn inbound_webhook(entry: &OutboxEntry, record: &InboundRecord) -> Vec<u8> {
    webhook(entry, InboundView::of(record))
}

fn webhook<T: Serialize>(entry: &OutboxEntry, data: T) -> Vec<u8> {
    json(&Webhook {
        kind: event_type(entry.kind),
        timestamp: rfc3339(entry.at),
        data,
    })
}

fn target_of(target: &OutboxTarget) -> String {
    match target {
        OutboxTarget::Url(url) => url.clone(),
        OutboxTarget::Esme(system_id) => format!("smpp:{system_id}"),
    }
}

fn event_type(kind: OutboxKind) -> String {
    match kind {
        OutboxKind::Status(state) => format!("message.{}", state.name()),
        OutboxKind::Inbound => "message.received".to_owned(),
    }
}

fn reached_a_carrier(message: &Message) -> bool {
    match message.state {
        State::Scheduled | State::Held | State::Rejected | State::Canceled => {
            !message.attempts.is_empty()
        }
        State::Queued
        | State::SubmitUnknown
        | State::Enroute
        | State::Delivered
        | State::Undeliverable
        | State::Expired
        | State::Unknown => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::domain::message::tests_support::message;
    use crate::domain::receipt::Report;
    use crate::domain::{AccountId, CarrierId, Part, PartState, Reason};
    use serde_json::Value;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn delivered() -> Message {
        let mut m = message(NOW);
        m.reference = "order-1".to_owned();
        m.parts = vec![Part {
            carrier: CarrierId::from("north"),
            carrier_message_id: "0A".to_owned(),
            state: PartState::Enroute,
            error: String::new(),
            network_type: None,
            done_at: None,
        }];
        m.enter(NOW, State::Enroute, Reason::TakenByCarrier, "");
        m.apply_receipt(NOW, 0, &Report::of(PartState::Delivered));
        m
    }

    #[test]
    fn a_webhook_tells_the_state_that_was_entered_even_when_it_has_been_left() {
        let m = delivered();
        let entry = OutboxEntry {
            event: 7,
            account: AccountId::from("acme"),
            target: OutboxTarget::Url("http://example.com".to_owned()),
            kind: OutboxKind::Status(State::Enroute),
            message: m.id,
            at: NOW,
            due: NOW,
            attempts: 0,
        };
        let json: Value = serde_json::from_slice(&status_webhook(&entry, &m)).unwrap();
        assert_eq!(json["type"], "message.enroute");
        assert_eq!(json["data"]["status"], "enroute");
        assert_eq!(json["data"]["reason"], "taken_by_carrier");
        assert_eq!(json["data"]["reference"], "order-1");
        assert_eq!(json["data"]["carrier"], "north");
    }
}

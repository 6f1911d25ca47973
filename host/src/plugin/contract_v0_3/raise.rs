//! A plugin's answers, WIT 0.3, raised to domain values. What an answer may hold is in `answer`.

use super::super::answer::{self, Bad, reason};
use super::super::load::Manifest;
use super::super::{
    AdapterEvent, AdapterState, CallbackAnswer, CarrierView, HttpResponse, SubmitError,
};
use super::bindings::exports::heliograph::sms as guest;
use super::bindings::heliograph::sms::types;
use crate::clock::Timestamp;
use crate::domain::{
    Address, Body, Enriched, Hop, InboundAction, Network, NumberingPlan, Plan, Refusal, Routing,
    Ruling, TypeOfNumber, Verdict, WishScope,
};

pub(super) fn manifest(m: guest::plugin::Manifest) -> Result<Manifest, Bad> {
    answer::manifest(Manifest {
        name: m.name,
        version: m.version,
        summary: m.summary,
        config_schema: m.config_schema,
    })
}

pub(super) fn enriched(answer: guest::enrichment::Enriched) -> Result<Enriched, Bad> {
    use guest::enrichment::Enriched as W;
    Ok(match answer {
        W::Pass => Enriched::Pass,
        W::Found(f) => Enriched::Found {
            network: f.network.map(network).transpose()?,
            labels: answer::labels(f.labels)?,
            reason: reason(f.reason),
        },
    })
}

fn network(n: types::Network) -> Result<Network, Bad> {
    let country = n.country.map(|(first, second)| [first, second]);
    answer::network(country, n.mcc, n.mnc, n.ported)
}

pub(super) fn verdict(answer: guest::content_filter::Verdict) -> Result<Verdict, Bad> {
    use guest::content_filter::Verdict as W;
    Ok(match answer {
        W::Pass => Verdict::Pass,
        W::Replace(r) => Verdict::Replace {
            body: body("replace.body", r.body)?,
            reason: reason(r.reason),
        },
        W::Refuse(r) => Verdict::Refuse(refusal("refuse", r)?),
        W::Hold(why) => Verdict::Hold(reason(why)),
        W::Drop(why) => Verdict::Drop(reason(why)),
    })
}

pub(super) fn ruling(answer: guest::compliance_check::Ruling) -> Result<Ruling, Bad> {
    use guest::compliance_check::Ruling as W;
    Ok(match answer {
        W::Allow => Ruling::Allow,
        W::Amend(a) => Ruling::Amend {
            body: body("amend.body", a.body)?,
            reason: reason(a.reason),
        },
        W::Defer(d) => Ruling::Defer {
            until: Timestamp(d.until),
            reason: reason(d.reason),
        },
        W::Deny(r) => Ruling::Deny(refusal("deny", r)?),
    })
}

pub(super) fn routing(
    answer: guest::routing_policy::Routing,
    carriers: &[CarrierView],
) -> Result<Routing, Bad> {
    use guest::routing_policy::Routing as W;
    Ok(match answer {
        W::Pass => Routing::Pass,
        W::Defer(p) => Routing::Defer {
            until: Timestamp(p.until),
            reason: reason(p.reason),
        },
        W::Refuse(r) => Routing::Refuse(refusal("refuse", r)?),
        W::Send(plan) => {
            answer::hop_count(plan.hops.len())?;
            let hops = plan
                .hops
                .into_iter()
                .enumerate()
                .map(|(i, h)| hop(i, h, carriers));
            Routing::Send(Plan {
                hops: hops.collect::<Result<_, _>>()?,
                reason: reason(plan.reason),
                // What the policy says of failed receipts is put in by whoever asked.
                reroute: None,
            })
        }
    })
}

fn hop(
    index: usize,
    hop: guest::routing_policy::Hop,
    carriers: &[CarrierView],
) -> Result<Hop, Bad> {
    let tlvs = match hop.tlvs {
        Some(tlvs) => tlvs.into_iter().map(|t| (t.tag, t.value)).collect(),
        None => Vec::new(),
    };
    Ok(Hop {
        carrier: answer::carrier_at(index, hop.carrier, carriers)?,
        originator: hop.originator.map(|a| originator(index, a)).transpose()?,
        price_micros: hop.price_micros,
        tlvs: answer::tlvs(index, tlvs)?,
    })
}

fn originator(hop: usize, a: types::Sender) -> Result<Address, Bad> {
    let ton = match a.ton {
        types::TypeOfNumber::Unknown => TypeOfNumber::Unknown,
        types::TypeOfNumber::International => TypeOfNumber::International,
        types::TypeOfNumber::National => TypeOfNumber::National,
        types::TypeOfNumber::NetworkSpecific => TypeOfNumber::NetworkSpecific,
        types::TypeOfNumber::Subscriber => TypeOfNumber::Subscriber,
        types::TypeOfNumber::Alphanumeric => TypeOfNumber::Alphanumeric,
        types::TypeOfNumber::Abbreviated => TypeOfNumber::Abbreviated,
    };
    let npi = match a.npi {
        types::NumberingPlan::Unknown => NumberingPlan::Unknown,
        types::NumberingPlan::Isdn => NumberingPlan::Isdn,
        types::NumberingPlan::Data => NumberingPlan::Data,
        types::NumberingPlan::Telex => NumberingPlan::Telex,
        types::NumberingPlan::LandMobile => NumberingPlan::LandMobile,
        types::NumberingPlan::National => NumberingPlan::National,
        types::NumberingPlan::Private => NumberingPlan::Private,
        types::NumberingPlan::Ermes => NumberingPlan::Ermes,
        types::NumberingPlan::Internet => NumberingPlan::Internet,
        types::NumberingPlan::Wap => NumberingPlan::Wap,
    };
    answer::originator(hop, ton, npi, a.value)
}

fn body(field: &str, body: types::Body) -> Result<Body, Bad> {
    match body {
        types::Body::Text(text) => answer::text_body(field, text),
        types::Body::Binary(octets) => {
            answer::binary_body(field, octets.user_data_header, octets.data)
        }
        types::Body::Withheld(_) => answer::withheld_body(field),
    }
}

fn refusal(field: &str, refusal: types::Refusal) -> Result<Refusal, Bad> {
    answer::refusal(field, refusal.code, refusal.reason)
}

pub(super) fn actions(
    answer: Vec<guest::inbound_handler::Action>,
) -> Result<Vec<InboundAction>, Bad> {
    use guest::inbound_handler::{Action as W, Scope};
    answer::action_count(answer.len())?;
    let scope = |s| match s {
        Scope::Number => WishScope::Number,
        Scope::Account => WishScope::Account,
        Scope::Everything => WishScope::Everything,
    };
    answer
        .into_iter()
        .map(|action| {
            Ok(match action {
                W::Reply(text) => InboundAction::Reply(answer::reply(text)?),
                W::OptOut(s) => InboundAction::OptOut(scope(s)),
                W::OptIn(s) => InboundAction::OptIn(scope(s)),
                W::Label(label) => InboundAction::Label(answer::inbound_label(label)),
                W::Consume => InboundAction::Consume,
            })
        })
        .collect()
}

pub(super) fn submit_error(error: guest::carrier_adapter::SubmitError) -> SubmitError {
    use guest::carrier_adapter::SubmitError as W;
    match error {
        W::Throttled(wait_ms) => SubmitError::Throttled(wait_ms),
        W::Temporary(why) => SubmitError::Temporary(reason(why)),
        W::Permanent(why) => SubmitError::Permanent(reason(why)),
        W::Unknown(why) => SubmitError::Unknown(reason(why)),
    }
}

pub(super) fn callback_answer(
    answer: guest::carrier_adapter::CallbackAnswer,
) -> Result<CallbackAnswer, Bad> {
    let response = answer::callback_response(HttpResponse {
        status: answer.response.status,
        headers: answer.response.headers,
        body: answer.response.body,
    })?;
    answer::event_count(answer.events.len())?;
    Ok(CallbackAnswer {
        response,
        events: answer
            .events
            .into_iter()
            .map(event)
            .collect::<Result<_, _>>()?,
    })
}

fn event(event: guest::carrier_adapter::Event) -> Result<AdapterEvent, Bad> {
    use guest::carrier_adapter::{Event as W, MessageState as S};
    Ok(match event {
        W::Receipt(r) => {
            answer::carrier_id("events.receipt", &r.carrier_message_id)?;
            AdapterEvent::Receipt {
                carrier_message_id: r.carrier_message_id,
                state: match r.state {
                    S::Enroute => AdapterState::Enroute,
                    S::Delivered => AdapterState::Delivered,
                    S::Expired => AdapterState::Expired,
                    S::Deleted => AdapterState::Deleted,
                    S::Undeliverable => AdapterState::Undeliverable,
                    S::Accepted => AdapterState::Accepted,
                    S::Unknown => AdapterState::Unknown,
                    S::Rejected => AdapterState::Rejected,
                },
                error: r.error.map(answer::event_error),
                at: r.at.map(Timestamp),
            }
        }
        W::Inbound(m) => {
            answer::event_inbound(&m.originator, &m.recipient, &m.text)?;
            AdapterEvent::Inbound {
                originator: m.originator,
                recipient: m.recipient,
                text: m.text,
                at: m.at.map(Timestamp),
            }
        }
    })
}

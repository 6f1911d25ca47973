//! Octets of the message itself, field by field, within the envelope that `records.rs` puts around
//! every record. The order of the fields is the format: a change of it is a new version.

use std::time::Duration;

use super::bytes::{Damage, Reader, put_bytes, put_near, put_str, put_varint};
use super::records::{address, body, flags, option, put_address, put_body, put_list, put_option};
use crate::clock::Timestamp;
use crate::domain::text::{Alphabet, EncodingWish, Language, Languages, ShiftTables, TextWish};
use crate::domain::{
    AccountId, Attempt, AttemptOutcome, CallOutcome, CarrierId, Cut, Decision, Due, Event,
    FailedDelivery, HookCall, Hop, Lane, Message, MessageId, Network, NetworkSource, OnUnknown,
    Part, PartState, Phase, Plan, Reason, ReceiptsWanted, Reroute, SetId, SmParameters, Source,
    State, Tlv, TrafficClass,
};

/// Names that recur within a record are written once and referred to by number.
#[derive(Default)]
struct Names<'a> {
    carriers: Vec<&'a CarrierId>,
    sets: Vec<SetId>,
}

impl<'a> Names<'a> {
    fn put_carrier(&mut self, out: &mut Vec<u8>, carrier: &'a CarrierId) {
        match self.carriers.iter().position(|c| *c == carrier) {
            Some(n) => put_varint(out, n as u64),
            None => {
                put_varint(out, self.carriers.len() as u64);
                put_str(out, carrier.as_str());
                self.carriers.push(carrier);
            }
        }
    }

    fn put_set(&mut self, out: &mut Vec<u8>, set: SetId) {
        match self.sets.iter().position(|s| *s == set) {
            Some(n) => put_varint(out, n as u64),
            None => {
                put_varint(out, self.sets.len() as u64);
                out.extend_from_slice(&set.0);
                self.sets.push(set);
            }
        }
    }
}

#[derive(Default)]
struct KnownNames {
    carriers: Vec<CarrierId>,
    sets: Vec<SetId>,
}

impl KnownNames {
    fn carrier(&mut self, r: &mut Reader<'_>) -> Result<CarrierId, Damage> {
        let n = usize::try_from(r.varint()?).map_err(|_| Damage::Field("carrier"))?;
        if n == self.carriers.len() {
            self.carriers.push(CarrierId::from(r.str("carrier")?));
        }
        self.carriers
            .get(n)
            .cloned()
            .ok_or(Damage::Field("carrier"))
    }

    fn set(&mut self, r: &mut Reader<'_>) -> Result<SetId, Damage> {
        let n = usize::try_from(r.varint()?).map_err(|_| Damage::Field("set"))?;
        if n == self.sets.len() {
            self.sets.push(SetId(r.array()?));
        }
        self.sets.get(n).copied().ok_or(Damage::Field("set"))
    }
}

pub(super) fn write(m: &Message, out: &mut Vec<u8>) {
    let mut names = Names::default();
    let base = m.accepted_at.0;
    out.extend_from_slice(&m.id.0.to_be_bytes());
    put_str(out, m.account.as_str());
    put_address(out, &m.originator);
    put_address(out, &m.recipient);
    put_network(out, &m.network);
    out.extend_from_slice(&[
        m.class as u8,
        m.alphabet as u8,
        m.segments,
        m.on_unknown as u8,
        m.state as u8,
        m.hop,
    ]);
    let (extras, returns) = (has_extras(m), has_returns(m));
    out.push(u8::from(m.duplicate_risk) | u8::from(extras) << 1 | u8::from(returns) << 2);
    put_body(out, &m.body);
    put_option(out, m.submitted_body.as_ref(), put_body);
    put_varint(out, base);
    put_near(out, base, m.send_at.0);
    put_near(out, base, m.expires_at.0);
    put_str(out, &m.reference);
    put_list(out, &m.metadata, |out, (k, v)| {
        put_str(out, k);
        put_str(out, v);
    });
    put_list(out, &m.tlvs, put_tlv);
    put_option(out, m.receipt_url.as_deref(), put_str);
    put_list(out, &m.plan.hops, |out, hop| {
        names.put_carrier(out, &hop.carrier);
        put_option(out, hop.originator.as_ref(), put_address);
        put_option(out, hop.price_micros.as_ref(), |out, p| put_varint(out, *p));
        put_list(out, &hop.tlvs, put_tlv);
    });
    put_str(out, &m.plan.reason);
    put_option(out, m.due.as_ref(), |out, due| {
        put_near(out, base, due.at.0);
        match &due.lane {
            Lane::Decide => out.push(0),
            Lane::Carrier(carrier) => {
                out.push(1);
                names.put_carrier(out, carrier);
            }
        }
    });
    put_list(out, &m.attempts, |out, attempt| {
        names.put_carrier(out, &attempt.carrier);
        put_near(out, base, attempt.at.0);
        put_outcome(out, &attempt.outcome);
    });
    put_list(out, &m.parts, |out, part| {
        put_part(out, &mut names, base, part);
    });
    put_list(out, &m.decisions, |out, decision| {
        names.put_set(out, decision.set);
        put_near(out, base, decision.at.0);
        out.push(decision.phase as u8);
        put_list(out, &decision.calls, |out, call| {
            out.extend_from_slice(&[call.entry, call.outcome as u8]);
            put_str(out, &call.why);
            put_varint(out, u64::from(call.nanos));
        });
    });
    put_list(out, &m.events, |out, event| {
        put_near(out, base, event.at.0);
        out.extend_from_slice(&[event.state as u8, event.reason as u8]);
        put_option(out, event.carrier.as_ref(), |out, c| {
            names.put_carrier(out, c)
        });
        put_str(out, &event.detail);
        put_option(out, event.set.as_ref(), |out, s| names.put_set(out, *s));
    });
    if extras {
        put_extras(out, m);
    }
    if returns {
        put_returns(out, &mut names, base, m);
    }
}

pub(super) fn read(r: &mut Reader<'_>) -> Result<Message, Damage> {
    let mut names = KnownNames::default();
    let id = MessageId(r.u128()?);
    let account = AccountId::from(r.str("account")?);
    let (originator, recipient, network) = (address(r)?, address(r)?, network(r)?);
    let class = TrafficClass::from_u8(r.u8()?).ok_or(Damage::Field("class"))?;
    let alphabet = Alphabet::from_u8(r.u8()?).ok_or(Damage::Field("alphabet"))?;
    let segments = r.u8()?;
    let on_unknown = OnUnknown::from_u8(r.u8()?).ok_or(Damage::Field("on_unknown"))?;
    let state = State::from_u8(r.u8()?).ok_or(Damage::Field("state"))?;
    let hop = r.u8()?;
    let bits = flags(r, 0b111)?;
    let (duplicate_risk, extras, returns) = (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0);
    let (body_now, submitted_body) = (body(r)?, option(r, body)?);
    let base = r.varint()?;
    let mut message = Message {
        id,
        account,
        originator,
        recipient,
        network,
        class,
        body: body_now,
        submitted_body,
        alphabet,
        shift: ShiftTables::default(),
        segments,
        accepted_at: Timestamp(base),
        send_at: Timestamp(r.near(base)?),
        expires_at: Timestamp(r.near(base)?),
        reference: r.string("reference")?,
        metadata: r.list(|r| Ok((r.string("metadata")?, r.string("metadata")?)))?,
        tlvs: r.list(tlv)?,
        sm: SmParameters::default(),
        source: Source::Http,
        receipt_url: option(r, |r| r.string("receipt_url"))?,
        on_unknown,
        duplicate_risk,
        state,
        hop,
        plan: Plan {
            hops: r.list(|r| read_hop(r, &mut names))?,
            reason: r.string("plan")?,
            reroute: None,
        },
        due: option(r, |r| read_due(r, &mut names, base))?,
        attempts: r.list(|r| {
            let carrier = names.carrier(r)?;
            Ok(Attempt {
                carrier,
                at: Timestamp(r.near(base)?),
                outcome: outcome(r)?,
            })
        })?,
        parts: r.list(|r| read_part(r, &mut names, base))?,
        failed: Vec::new(),
        decisions: r.list(|r| read_decision(r, &mut names, base))?,
        events: r.list(|r| read_event(r, &mut names, base))?,
    };
    if extras {
        read_extras(r, &mut message)?;
    }
    if returns {
        read_returns(r, &mut names, base, &mut message)?;
    }
    Ok(message)
}

fn put_part<'a>(out: &mut Vec<u8>, names: &mut Names<'a>, base: u64, part: &'a Part) {
    names.put_carrier(out, &part.carrier);
    put_str(out, &part.carrier_message_id);
    out.push(part.state as u8);
    put_str(out, &part.error);
    put_option(out, part.done_at.as_ref(), |out, t| {
        put_near(out, base, t.0)
    });
}

fn read_part(r: &mut Reader<'_>, names: &mut KnownNames, base: u64) -> Result<Part, Damage> {
    Ok(Part {
        carrier: names.carrier(r)?,
        carrier_message_id: r.string("carrier_message_id")?,
        state: PartState::from_u8(r.u8()?).ok_or(Damage::Field("part.state"))?,
        error: r.string("part.error")?,
        network_type: None,
        done_at: option(r, |r| Ok(Timestamp(r.near(base)?)))?,
    })
}

/// What few receipts bring: a network's type beside its code, a policy that sends failed messages on,
/// carriers that had the message before.
fn has_returns(m: &Message) -> bool {
    m.plan.reroute.is_some()
        || !m.failed.is_empty()
        || m.parts.iter().any(|p| p.network_type.is_some())
}

fn put_returns<'a>(out: &mut Vec<u8>, names: &mut Names<'a>, base: u64, m: &'a Message) {
    put_option(out, m.plan.reroute.as_ref(), |out, reroute| {
        put_list(out, &reroute.on, |out, state| out.push(*state as u8));
        put_list(out, &reroute.errors, |out, error| put_str(out, error));
        out.push(reroute.max);
        put_option(out, reroute.within.as_ref(), |out, within| {
            put_varint(out, within.as_secs());
        });
    });
    put_network_types(out, &m.parts);
    put_list(out, &m.failed, |out, delivery| {
        put_option(out, delivery.price_micros.as_ref(), |out, p| {
            put_varint(out, *p)
        });
        put_list(out, &delivery.parts, |out, part| {
            put_part(out, names, base, part)
        });
        put_network_types(out, &delivery.parts);
    });
}

/// One for each part.
fn put_network_types(out: &mut Vec<u8>, parts: &[Part]) {
    for part in parts {
        put_option(out, part.network_type.as_ref(), |out, n| out.push(*n));
    }
}

fn read_network_types(r: &mut Reader<'_>, parts: &mut [Part]) -> Result<(), Damage> {
    for part in parts {
        part.network_type = option(r, |r| r.u8())?;
    }
    Ok(())
}

fn read_returns(
    r: &mut Reader<'_>,
    names: &mut KnownNames,
    base: u64,
    m: &mut Message,
) -> Result<(), Damage> {
    m.plan.reroute = option(r, |r| {
        Ok(Reroute {
            on: r.list(|r| State::from_u8(r.u8()?).ok_or(Damage::Field("reroute.on")))?,
            errors: r.list(|r| r.string("reroute.errors"))?,
            max: r.u8()?,
            within: option(r, |r| Ok(Duration::from_secs(r.varint()?)))?,
        })
    })?;
    read_network_types(r, &mut m.parts)?;
    m.failed = r.list(|r| {
        let price_micros = option(r, |r| r.varint())?;
        let mut parts = r.list(|r| read_part(r, names, base))?;
        read_network_types(r, &mut parts)?;
        Ok(FailedDelivery {
            parts,
            price_micros,
        })
    })?;
    Ok(())
}

/// Few messages say how they want to travel; the others spend no octet on it, and their records are
/// those of releases that knew nothing of it.
fn has_extras(m: &Message) -> bool {
    m.sm != SmParameters::default() || m.source != Source::Http || !m.shift.is_default()
}

fn put_extras(out: &mut Vec<u8>, m: &Message) {
    let (sm, shift) = (&m.sm, m.shift);
    put_option(out, m.source.system_id(), put_str);
    out.extend_from_slice(&[
        shift.locking.map_or(0, |l| l as u8),
        shift.single.map_or(0, |l| l as u8),
    ]);
    put_str(out, &sm.service_type);
    for octet in [
        sm.protocol_id,
        sm.priority_flag,
        sm.data_coding,
        sm.message_class,
    ] {
        put_option(out, octet.as_ref(), |out, octet| out.push(*octet));
    }
    out.extend_from_slice(&[
        u8::from(sm.replace_if_present)
            | u8::from(sm.reply_path) << 1
            | (sm.messaging_mode & 3) << 2
            | u8::from(sm.cut.is_some()) << 4,
        sm.sm_default_msg_id,
        sm.receipts.registered_delivery(),
    ]);
    put_wish(out, sm.text);
    if let Some(cut) = &sm.cut {
        out.push(cut.data_coding);
        put_bytes(out, &cut.udh);
        put_bytes(out, &cut.octets);
    }
}

/// An octet of nibbles, in each 0 for what was not said: encoding below, rewriting above. Then the
/// languages, a bit for each code.
fn put_wish(out: &mut Vec<u8>, wish: TextWish) {
    let encoding = wish.encoding.map_or(0, |e| e as u8 + 1);
    let rewrite = wish.transliterate.map_or(0, |t| 1 + u8::from(t));
    out.push(encoding | rewrite << 4);
    out.extend_from_slice(&wish.languages.bits().to_be_bytes());
}

fn read_wish(r: &mut Reader<'_>) -> Result<TextWish, Damage> {
    let said = r.u8()?;
    let encoding = match said & 0xF {
        0 => None,
        n => Some(EncodingWish::from_u8(n - 1).ok_or(Damage::Field("encoding"))?),
    };
    let transliterate = match said >> 4 {
        0 => None,
        1 => Some(false),
        2 => Some(true),
        _ => return Err(Damage::Field("transliterate")),
    };
    Ok(TextWish {
        encoding,
        languages: Languages::from_bits(u16::from_be_bytes(r.array()?)),
        transliterate,
    })
}

fn read_extras(r: &mut Reader<'_>, m: &mut Message) -> Result<(), Damage> {
    m.source = match option(r, |r| r.string("system_id"))? {
        Some(system_id) => Source::Smpp { system_id },
        None => Source::Http,
    };
    let language = |code: u8| match code {
        0 => Ok(None),
        code => Language::from_code(code)
            .map(Some)
            .ok_or(Damage::Field("shift")),
    };
    m.shift = ShiftTables {
        locking: language(r.u8()?)?,
        single: language(r.u8()?)?,
    };
    let service_type = r.string("service_type")?;
    let mut octet = || option(r, |r| r.u8());
    let (protocol_id, priority_flag) = (octet()?, octet()?);
    let (data_coding, message_class) = (octet()?, octet()?);
    let bits = flags(r, 0b1_1111)?;
    m.sm = SmParameters {
        service_type,
        protocol_id,
        priority_flag,
        data_coding,
        message_class,
        replace_if_present: bits & 1 != 0,
        reply_path: bits & 2 != 0,
        messaging_mode: bits >> 2 & 3,
        sm_default_msg_id: r.u8()?,
        receipts: ReceiptsWanted::from_registered_delivery(r.u8()?),
        text: read_wish(r)?,
        cut: match bits & 0b1_0000 {
            0 => None,
            _ => Some(Box::new(Cut {
                data_coding: r.u8()?,
                udh: r.bytes()?.to_vec(),
                octets: r.bytes()?.to_vec(),
            })),
        },
    };
    Ok(())
}

fn read_hop(r: &mut Reader<'_>, names: &mut KnownNames) -> Result<Hop, Damage> {
    Ok(Hop {
        carrier: names.carrier(r)?,
        originator: option(r, address)?,
        price_micros: option(r, |r| r.varint())?,
        tlvs: r.list(tlv)?,
    })
}

fn read_due(r: &mut Reader<'_>, names: &mut KnownNames, base: u64) -> Result<Due, Damage> {
    let at = Timestamp(r.near(base)?);
    let lane = match r.u8()? {
        0 => Lane::Decide,
        1 => Lane::Carrier(names.carrier(r)?),
        _ => return Err(Damage::Field("due.lane")),
    };
    Ok(Due { at, lane })
}

fn read_decision(
    r: &mut Reader<'_>,
    names: &mut KnownNames,
    base: u64,
) -> Result<Decision, Damage> {
    Ok(Decision {
        set: names.set(r)?,
        at: Timestamp(r.near(base)?),
        phase: Phase::from_u8(r.u8()?).ok_or(Damage::Field("phase"))?,
        calls: r.list(|r| {
            Ok(HookCall {
                entry: r.u8()?,
                outcome: CallOutcome::from_u8(r.u8()?).ok_or(Damage::Field("outcome"))?,
                why: r.string("why")?,
                nanos: u32::try_from(r.varint()?).map_err(|_| Damage::Field("nanos"))?,
            })
        })?,
    })
}

fn read_event(r: &mut Reader<'_>, names: &mut KnownNames, base: u64) -> Result<Event, Damage> {
    Ok(Event {
        at: Timestamp(r.near(base)?),
        state: State::from_u8(r.u8()?).ok_or(Damage::Field("event.state"))?,
        reason: Reason::from_u8(r.u8()?).ok_or(Damage::Field("event.reason"))?,
        carrier: option(r, |r| names.carrier(r))?,
        detail: r.string("event.detail")?,
        set: option(r, |r| names.set(r))?,
    })
}

/// Above the four flags of what is there.
const NETWORK_SOURCE_SHIFT: u32 = 4;

pub(super) fn put_network(out: &mut Vec<u8>, network: &Network) {
    out.push(
        u8::from(network.country.is_some())
            | u8::from(network.mcc.is_some()) << 1
            | u8::from(network.mnc.is_some()) << 2
            | u8::from(network.ported) << 3
            | (network.source as u8) << NETWORK_SOURCE_SHIFT,
    );
    if let Some(country) = network.country {
        out.extend_from_slice(&country);
    }
    for code in [network.mcc, network.mnc].into_iter().flatten() {
        out.extend_from_slice(&code.to_be_bytes());
    }
}

pub(super) fn network(r: &mut Reader<'_>) -> Result<Network, Damage> {
    // Records from before the source was kept have zeros there: unknown.
    let present = flags(r, 0b0111_1111)?;
    let source = NetworkSource::from_u8(present >> NETWORK_SOURCE_SHIFT);
    let has = |bit: u8| present & bit != 0;
    Ok(Network {
        country: if has(1) { Some(r.array()?) } else { None },
        mcc: if has(2) {
            Some(u16::from_be_bytes(r.array()?))
        } else {
            None
        },
        mnc: if has(4) {
            Some(u16::from_be_bytes(r.array()?))
        } else {
            None
        },
        ported: has(8),
        source: source.ok_or(Damage::Field("network.source"))?,
    })
}

fn put_outcome(out: &mut Vec<u8>, outcome: &AttemptOutcome) {
    match outcome {
        AttemptOutcome::Sent => out.push(0),
        AttemptOutcome::Throttled => out.push(1),
        AttemptOutcome::TemporaryFailure(status) => {
            out.push(2);
            put_varint(out, u64::from(*status));
        }
        AttemptOutcome::PermanentFailure(status) => {
            out.push(3);
            put_varint(out, u64::from(*status));
        }
        AttemptOutcome::TimedOut => out.push(4),
        AttemptOutcome::Unavailable => out.push(5),
        AttemptOutcome::Undelivered(error) => {
            out.push(6);
            put_str(out, error);
        }
    }
}

fn outcome(r: &mut Reader<'_>) -> Result<AttemptOutcome, Damage> {
    let status = |r: &mut Reader<'_>| {
        u32::try_from(r.varint()?).map_err(|_| Damage::Field("attempt.status"))
    };
    Ok(match r.u8()? {
        0 => AttemptOutcome::Sent,
        1 => AttemptOutcome::Throttled,
        2 => AttemptOutcome::TemporaryFailure(status(r)?),
        3 => AttemptOutcome::PermanentFailure(status(r)?),
        4 => AttemptOutcome::TimedOut,
        5 => AttemptOutcome::Unavailable,
        6 => AttemptOutcome::Undelivered(r.string("attempt.error")?),
        _ => return Err(Damage::Field("attempt.outcome")),
    })
}

fn put_tlv(out: &mut Vec<u8>, tlv: &Tlv) {
    out.extend_from_slice(&tlv.tag.to_be_bytes());
    put_bytes(out, &tlv.value);
}

fn tlv(r: &mut Reader<'_>) -> Result<Tlv, Damage> {
    Ok(Tlv {
        tag: u16::from_be_bytes(r.array()?),
        value: r.bytes()?.to_vec(),
    })
}

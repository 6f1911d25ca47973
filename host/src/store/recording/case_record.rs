//! Octets of recorded decisions. A block holds many; what recurs in it, the carriers' figures of a
//! moment above all, is written once. The order of the fields is the format: a change of it is a new
//! version of a block.

use std::sync::Arc;

use super::super::bytes::{Damage, Reader, put_bytes, put_near, put_str, put_varint};
use super::super::message_record::{self, network, put_network};
use super::super::records::{flags, option, put_list, put_option};
use crate::clock::Timestamp;
use crate::domain::{
    CarrierId, CarrierView, Case, CaseRef, Context, Facts, Heard, Hook, HostAnswer, Outcome, Phase,
    RecipientProfile, Refusal, SetId,
};

/// What earlier cases of a block have said already.
#[derive(Default)]
pub struct Said {
    carriers: Vec<Arc<Vec<CarrierView>>>,
}

impl Said {
    /// The snapshot's number; the number after the last where it is new.
    fn number(&mut self, views: &Arc<Vec<CarrierView>>) -> (usize, bool) {
        // The newest first: a snapshot serves all decisions of its moment.
        match self.carriers.iter().rposition(|v| Arc::ptr_eq(v, views)) {
            Some(n) => (n, false),
            None => {
                self.carriers.push(views.clone());
                (self.carriers.len() - 1, true)
            }
        }
    }
}

pub fn write(case: &CaseRef<'_>, said: &mut Said, out: &mut Vec<u8>) {
    let facts = case.facts;
    let profile = &facts.profile;
    out.push(
        u8::from(facts.released)
            | u8::from(facts.exempt) << 1
            | u8::from(profile.opted_out) << 2
            | u8::from(case.opted_out_after) << 3,
    );
    out.extend_from_slice(&case.set.0);
    put_varint(out, facts.context.now.0);
    out.extend_from_slice(&facts.context.random.to_be_bytes());
    out.push(facts.context.phase as u8);
    put_option(out, profile.utc_offset_minutes.as_ref(), |out, m| {
        out.extend_from_slice(&m.to_be_bytes());
    });
    put_varint(out, u64::from(profile.sent_last_day));
    let (number, new) = said.number(&facts.carriers);
    put_varint(out, number as u64);
    if new {
        put_list(out, facts.carriers.as_slice(), put_carrier);
    }
    put_outcome(out, facts.context.now.0, case.outcome);
    put_network(out, &case.network);
    put_option(out, case.metadata, |out, pairs| {
        put_list(out, pairs, |out, (name, value)| {
            put_str(out, name);
            put_str(out, value);
        });
    });
    put_list(out, case.heard, put_heard);
    message_record::write(case.message, out);
}

pub fn read(r: &mut Reader<'_>, said: &mut Said) -> Result<Case, Damage> {
    let bits = flags(r, 0b1111)?;
    let set = SetId(r.array()?);
    let context = Context {
        now: Timestamp(r.varint()?),
        random: u64::from_be_bytes(r.array()?),
        phase: Phase::from_u8(r.u8()?).ok_or(Damage::Field("phase"))?,
    };
    let utc_offset_minutes = option(r, |r| Ok(i16::from_be_bytes(r.array()?)))?;
    let sent_last_day = u32_of(r, "sent_last_day")?;
    let number = usize::try_from(r.varint()?).map_err(|_| Damage::Field("carriers"))?;
    if number == said.carriers.len() {
        let views = r.list(read_carrier)?;
        said.carriers.push(Arc::new(views));
    }
    let carriers = said.carriers.get(number).cloned();
    let facts = Facts {
        context,
        profile: RecipientProfile {
            opted_out: bits & 4 != 0,
            utc_offset_minutes,
            sent_last_day,
        },
        carriers: carriers.ok_or(Damage::Field("carriers"))?,
        released: bits & 1 != 0,
        exempt: bits & 2 != 0,
    };
    Ok(Case {
        set,
        outcome: read_outcome(r, context.now.0)?,
        facts,
        opted_out_after: bits & 8 != 0,
        network: network(r)?,
        metadata: option(r, |r| {
            r.list(|r| Ok((r.string("metadata")?, r.string("metadata")?)))
        })?,
        heard: r.list(read_heard)?,
        message: message_record::read(r)?,
    })
}

fn u32_of(r: &mut Reader<'_>, field: &'static str) -> Result<u32, Damage> {
    u32::try_from(r.varint()?).map_err(|_| Damage::Field(field))
}

fn put_carrier(out: &mut Vec<u8>, view: &CarrierView) {
    put_str(out, view.id.as_str());
    out.push(u8::from(view.connected));
    put_varint(out, u64::from(view.queued));
    put_varint(out, u64::from(view.in_flight));
    out.extend_from_slice(&view.headroom.to_bits().to_be_bytes());
    put_option(out, view.delivered_ratio.as_ref(), |out, ratio| {
        out.extend_from_slice(&ratio.to_bits().to_be_bytes());
    });
    put_option(out, view.p50_receipt_ms.as_ref(), |out, ms| {
        put_varint(out, u64::from(*ms));
    });
    put_list(out, &view.tags, |out, tag: &String| put_str(out, tag));
}

fn read_carrier(r: &mut Reader<'_>) -> Result<CarrierView, Damage> {
    let float = |r: &mut Reader<'_>| Ok(f32::from_bits(u32::from_be_bytes(r.array()?)));
    Ok(CarrierView {
        id: CarrierId::from(r.str("carrier")?),
        connected: flags(r, 1)? != 0,
        queued: u32_of(r, "queued")?,
        in_flight: u32_of(r, "in_flight")?,
        headroom: float(r)?,
        delivered_ratio: option(r, float)?,
        p50_receipt_ms: option(r, |r| u32_of(r, "p50_receipt_ms"))?,
        tags: r.list(|r| r.string("tag"))?,
    })
}

fn put_outcome(out: &mut Vec<u8>, base: u64, outcome: &Outcome) {
    match outcome {
        Outcome::Send => out.push(0),
        Outcome::Refuse(refusal) => {
            out.push(1);
            put_str(out, &refusal.code);
            put_str(out, &refusal.reason);
        }
        Outcome::OptedOut => out.push(2),
        Outcome::Hold(reason) => {
            out.push(3);
            put_str(out, reason);
        }
        Outcome::Drop(reason) => {
            out.push(4);
            put_str(out, reason);
        }
        Outcome::Defer { until, reason } => {
            out.push(5);
            put_near(out, base, until.0);
            put_str(out, reason);
        }
        Outcome::Unavailable(reason) => {
            out.push(6);
            put_str(out, reason);
        }
    }
}

fn read_outcome(r: &mut Reader<'_>, base: u64) -> Result<Outcome, Damage> {
    Ok(match r.u8()? {
        0 => Outcome::Send,
        1 => Outcome::Refuse(Refusal {
            code: r.string("outcome.code")?,
            reason: r.string("outcome.reason")?,
        }),
        2 => Outcome::OptedOut,
        3 => Outcome::Hold(r.string("outcome")?),
        4 => Outcome::Drop(r.string("outcome")?),
        5 => Outcome::Defer {
            until: Timestamp(r.near(base)?),
            reason: r.string("outcome")?,
        },
        6 => Outcome::Unavailable(r.string("outcome")?),
        _ => return Err(Damage::Field("outcome")),
    })
}

pub fn put_heard(out: &mut Vec<u8>, heard: &Heard) {
    put_str(out, &heard.entry);
    out.push(heard.hook as u8);
    put_list(out, &heard.answers, |out, answer| match answer {
        HostAnswer::Get { key, value } => {
            out.push(0);
            put_str(out, key);
            put_option(out, value.as_deref(), put_bytes);
        }
        HostAnswer::Count { key, by, value } => {
            out.push(1);
            put_str(out, key);
            put_near(out, 0, *by as u64);
            put_near(out, 0, *value as u64);
        }
        HostAnswer::Set { key, taken } => {
            out.extend_from_slice(&[2, u8::from(*taken)]);
            put_str(out, key);
        }
    });
}

pub fn read_heard(r: &mut Reader<'_>) -> Result<Heard, Damage> {
    Ok(Heard {
        entry: r.string("heard.entry")?,
        hook: Hook::from_u8(r.u8()?).ok_or(Damage::Field("heard.hook"))?,
        answers: r.list(|r| {
            Ok(match r.u8()? {
                0 => HostAnswer::Get {
                    key: r.string("heard.key")?,
                    value: option(r, |r| Ok(r.bytes()?.to_vec()))?,
                },
                1 => HostAnswer::Count {
                    key: r.string("heard.key")?,
                    by: r.near(0)? as i64,
                    value: r.near(0)? as i64,
                },
                2 => {
                    let taken = flags(r, 1)? != 0;
                    HostAnswer::Set {
                        key: r.string("heard.key")?,
                        taken,
                    }
                }
                _ => return Err(Damage::Field("heard")),
            })
        })?,
    })
}

//! Octets of recorded decisions about mobile-originated messages. They lie in blocks and files of their own, so
//! that whoever reads the decisions about messages of old needs to know nothing of them. The order of the
//! fields is the format.

use super::super::bytes::{Damage, Reader, put_str, put_varint};
use super::super::records::{
    address, body, flags, option, put_address, put_body, put_list, put_option,
};
use super::case_record::{put_heard, read_heard};
use crate::clock::Timestamp;
use crate::domain::{
    AccountId, Asked, CallOutcome, CarrierId, Context, HookCall, Inbound, InboundAction,
    InboundCase, InboundCaseRef, MessageId, Phase, SetId, WishScope,
};

pub fn write(case: &InboundCaseRef<'_>, out: &mut Vec<u8>) {
    let (inbound, context) = (case.inbound, &case.context);
    out.push(u8::from(inbound.opted_out));
    out.extend_from_slice(&case.set.0);
    put_varint(out, context.now.0);
    out.extend_from_slice(&context.random.to_be_bytes());
    out.push(context.phase as u8);
    put_option(out, case.owner, |out, owner| put_str(out, owner.as_str()));
    out.extend_from_slice(&inbound.id.0.to_be_bytes());
    put_str(out, inbound.carrier.as_str());
    put_address(out, &inbound.originator);
    put_address(out, &inbound.recipient);
    put_body(out, &inbound.body);
    put_varint(out, inbound.received_at.0);
    put_list(out, case.asked, put_asked);
    put_list(out, case.calls, |out, call| {
        out.extend_from_slice(&[call.entry, call.outcome as u8]);
        put_str(out, &call.why);
        put_varint(out, u64::from(call.nanos));
    });
    put_list(out, case.heard, put_heard);
}

pub fn read(r: &mut Reader<'_>) -> Result<InboundCase, Damage> {
    let opted_out = flags(r, 1)? != 0;
    let set = SetId(r.array()?);
    let context = Context {
        now: Timestamp(r.varint()?),
        random: u64::from_be_bytes(r.array()?),
        phase: Phase::from_u8(r.u8()?).ok_or(Damage::Field("phase"))?,
    };
    Ok(InboundCase {
        set,
        context,
        owner: option(r, |r| Ok(AccountId::from(r.str("owner")?)))?,
        inbound: Inbound {
            id: MessageId(r.u128()?),
            carrier: CarrierId::from(r.str("carrier")?),
            originator: address(r)?,
            recipient: address(r)?,
            body: body(r)?,
            received_at: Timestamp(r.varint()?),
            opted_out,
        },
        asked: r.list(read_asked)?,
        calls: r.list(|r| {
            Ok(HookCall {
                entry: r.u8()?,
                outcome: CallOutcome::from_u8(r.u8()?).ok_or(Damage::Field("outcome"))?,
                why: r.string("why")?,
                nanos: u32::try_from(r.varint()?).map_err(|_| Damage::Field("nanos"))?,
            })
        })?,
        heard: r.list(read_heard)?,
    })
}

fn put_asked(out: &mut Vec<u8>, asked: &Asked) {
    out.push(u8::from(asked.of_operator));
    match &asked.action {
        InboundAction::Reply(text) => {
            out.push(0);
            put_str(out, text);
        }
        InboundAction::OptOut(scope) => out.extend_from_slice(&[1, *scope as u8]),
        InboundAction::OptIn(scope) => out.extend_from_slice(&[2, *scope as u8]),
        InboundAction::Label(label) => {
            out.push(3);
            put_str(out, label);
        }
        InboundAction::Consume => out.push(4),
    }
}

fn read_asked(r: &mut Reader<'_>) -> Result<Asked, Damage> {
    let of_operator = flags(r, 1)? != 0;
    let action = match r.u8()? {
        0 => InboundAction::Reply(r.string("asked.reply")?),
        1 => InboundAction::OptOut(scope(r)?),
        2 => InboundAction::OptIn(scope(r)?),
        3 => InboundAction::Label(r.string("asked.label")?),
        4 => InboundAction::Consume,
        _ => return Err(Damage::Field("asked")),
    };
    Ok(Asked {
        action,
        of_operator,
    })
}

fn scope(r: &mut Reader<'_>) -> Result<WishScope, Damage> {
    Ok(match r.u8()? {
        0 => WishScope::Number,
        1 => WishScope::Account,
        2 => WishScope::Everything,
        _ => return Err(Damage::Field("asked.scope")),
    })
}

//! The engine's side doors: query_sm, cancel_sm and replace_sm (SMPP 3.4, 4.8 to 4.10), the steps of a
//! script, and octets that are out of place.

use std::time::Duration;

use serde::Deserialize;

use super::engine::{Engine, Now, SessionId};
use super::quirks::Garbage;
use super::script::Act;
use super::session::{Session, State};
use super::timer::Work;
use crate::smpp::pdu::{
    AlertNotification, Body, CancelSm, HEADER_LEN, Pdu, QuerySm, QuerySmResp, ReplaceSm, TlvBuf,
    command_id, encode, reject, tag,
};
use crate::smpp::{status, time};

/// A handset that is told of with alert_notification (SMPP 3.4, 4.12.1).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alert {
    /// Written as it is to be sent; an international number where it begins with '+', which is left away.
    pub number: String,
    /// Default: not said.
    pub availability: Option<Availability>,
}

/// ms_availability_status (SMPP 3.4, 5.3.2.30).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Availability {
    Available,
    Denied,
    Unavailable,
}

impl Engine {
    /// Tells every session that receives, or the rule that the number breaks; how many were told.
    pub(super) fn alert(&mut self, alert: &Alert) -> Result<usize, String> {
        let (ton, number) = match alert.number.strip_prefix('+') {
            Some(digits) => (1, digits),
            None => (0, alert.number.as_str()),
        };
        let mut tlvs = TlvBuf::default();
        if let Some(availability) = alert.availability {
            let status = [availability as u8];
            tlvs.push(tag::MS_AVAILABILITY_STATUS, &status)
                .map_err(|_| "availability is too long".to_owned())?;
        }
        let body = Body::AlertNotification(AlertNotification {
            source_addr_ton: ton,
            source_addr_npi: ton,
            source_addr: number.as_bytes(),
            tlvs: tlvs.as_tlvs(),
            ..AlertNotification::default()
        });
        // Tried before anybody is told, so that all are or none.
        encode(&Pdu::request(1, body), &mut Vec::new()).map_err(|e| e.to_string())?;
        let bound: Vec<SessionId> = self.bound().collect();
        let mut told = 0;
        for id in bound {
            let receives = |s: &&mut Session| matches!(s.state, State::BoundRx | State::BoundTrx);
            let session = self.sessions.get_mut(&id).filter(receives);
            if let Some(sequence_number) = session.and_then(Session::number_apart) {
                self.reply(id, &Pdu::request(sequence_number, body));
                told += 1;
            }
        }
        Ok(told)
    }

    pub(super) fn query(
        &mut self,
        id: SessionId,
        query: &QuerySm<'_>,
        sequence_number: u32,
        now: Duration,
    ) {
        let Some(account) = self.may_operate(id, command_id::QUERY_SM, sequence_number) else {
            return;
        };
        let Some(fate) = self.fates.get(query.message_id, account).copied() else {
            let failed = status::ESME_RQUERYFAIL;
            self.reply(id, &reject(command_id::QUERY_SM, sequence_number, failed));
            return;
        };
        self.record.counters.queries += 1;
        let done = fate.is_final(now).then_some(fate.done);
        let final_date = done.and_then(time::absolute);
        // error_code is one octet: what the network said, where it is a number (SMPP 3.4, 5.2.33).
        let error = std::str::from_utf8(&fate.end.error).ok();
        let error_code = error.and_then(|e| e.parse().ok()).unwrap_or(0);
        let resp = QuerySmResp {
            message_id: query.message_id,
            final_date: final_date.as_ref().map_or(b"", |d| d.as_slice()),
            message_state: fate.state(now) as u8,
            error_code: if fate.is_final(now) { error_code } else { 0 },
        };
        let body = Body::QuerySmResp(resp);
        self.reply(id, &Pdu::response(sequence_number, status::ESME_ROK, body));
    }

    /// One message, by its id. All of one originator to one recipient, which an empty id means
    /// (SMPP 3.4, 4.9.1), this SMSC does not know.
    pub(super) fn cancel(
        &mut self,
        id: SessionId,
        cancel: &CancelSm<'_>,
        sequence_number: u32,
        now: Now,
    ) {
        let Some(account) = self.may_operate(id, command_id::CANCEL_SM, sequence_number) else {
            return;
        };
        let canceled = self
            .fates
            .cancel(cancel.message_id, account, now.at, now.wall);
        let command_status = match canceled {
            Some(_) => {
                self.record.counters.cancels += 1;
                status::ESME_ROK
            }
            None => status::ESME_RCANCELFAIL,
        };
        let resp = Pdu::response(sequence_number, command_status, Body::CancelSmResp);
        self.reply(id, &resp);
    }

    pub(super) fn replace(
        &mut self,
        id: SessionId,
        replace: &ReplaceSm<'_>,
        sequence_number: u32,
        now: Duration,
    ) {
        let Some(account) = self.may_operate(id, command_id::REPLACE_SM, sequence_number) else {
            return;
        };
        let fate = self.fates.get(replace.message_id, account).copied();
        let command_status = match fate {
            Some(fate) if !fate.is_final(now) => {
                self.record.counters.replaces += 1;
                self.record.replaced(fate.number, replace.short_message);
                status::ESME_ROK
            }
            Some(_) | None => status::ESME_RREPLACEFAIL,
        };
        let resp = Pdu::response(sequence_number, command_status, Body::ReplaceSmResp);
        self.reply(id, &resp);
    }

    /// The account of a session that may ask about messages; others are answered here.
    fn may_operate(&mut self, id: SessionId, command: u32, sequence_number: u32) -> Option<usize> {
        if !self.behaviour.settings().queries {
            self.misplaced(id, command, sequence_number);
            return None;
        }
        let session = self.sessions.get(&id)?;
        if matches!(session.state, State::BoundTx | State::BoundTrx) {
            return Some(session.account);
        }
        let wrong = status::ESME_RINVBNDSTS;
        self.reply(id, &reject(command, sequence_number, wrong));
        None
    }

    /// Begins a step of the script, and sees to it that the next one follows.
    pub(super) fn step(&mut self, number: usize, now: Now) {
        let Some(step) = self.program.steps.get(number).cloned() else {
            return;
        };
        self.record.counters.steps += 1;
        self.change(step.settings, now);
        match step.act {
            Some(Act::Drop) => {
                self.drop_connections();
            }
            Some(Act::Unbind) => self.unbind_all(),
            Some(Act::Garbage) => self.garbage_to_all(),
            None => {}
        }
        let last = number + 1 == self.program.steps.len();
        let next = match (last, self.program.repeat) {
            (true, false) => return,
            (true, true) => 0,
            (false, _) => number + 1,
        };
        let lasts = step.lasts + self.behaviour.jitter(step.jitter_ms);
        self.later(now.at + lasts, Work::Step(next));
    }

    fn unbind_all(&mut self) {
        let bound: Vec<SessionId> = self.bound().collect();
        for id in bound {
            if let Some(session) = self.sessions.get_mut(&id) {
                session.unbinding = true;
                if let Some(sequence_number) = session.number_apart() {
                    self.reply(id, &Pdu::request(sequence_number, Body::Unbind));
                }
            }
        }
    }

    fn garbage_to_all(&mut self) {
        let bound: Vec<SessionId> = self.bound().collect();
        for id in bound {
            if let Some(garbage) = self.behaviour.garbage() {
                self.say_garbage(id, garbage);
            }
        }
    }

    fn bound(&self) -> impl Iterator<Item = SessionId> {
        let bound = self.sessions.iter().filter(|(_, s)| s.state != State::Open);
        bound.map(|(id, _)| *id)
    }

    pub(super) fn say_garbage(&mut self, id: SessionId, garbage: Garbage) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if session.close {
            return;
        }
        self.record.counters.garbage += 1;
        garbage.write(&mut session.outbox, || self.behaviour.random());
        if self.current != Some(id) {
            session.wake();
        }
    }

    /// A submit_sm_resp or data_sm_resp whose message_id no codec would write.
    pub(super) fn reply_raw(&mut self, id: SessionId, resp: &Pdu<'_>, message_id: &[u8]) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let length = (HEADER_LEN + message_id.len() + 1) as u32;
        let header = [
            length,
            resp.command_id(),
            resp.command_status,
            resp.sequence_number,
        ];
        for word in header {
            session.outbox.extend_from_slice(&word.to_be_bytes());
        }
        session.outbox.extend_from_slice(message_id);
        session.outbox.push(0);
        if self.current != Some(id) {
            session.wake();
        }
    }
}

//! Receipts that are overdue, at carriers that answer query_sm: who is waited for, when to ask, and
//! the asking. What is waited for is kept in memory, bounded; a receipt that comes all the same is
//! as good as ever.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tracing::debug;

use super::smpp::{Inner, SmppCounters};
use super::smpp_parameters::WireAddress;
use super::smpp_seat::told_to_stop;
use super::{Ack, CarrierEvent};
use crate::domain::PartState;
use crate::domain::receipt::{
    Evidence, IdForm, Receipt, ReceiptStyle, Report, response_key, state_of_code,
};
use crate::smpp::pdu::{Body, QuerySm, QuerySmResp};
use crate::smpp::status;
use crate::smpp::time::{self, SmppTime};

/// Messages waited for at one carrier. Beyond it the newest are left to their receipts.
const WAITING_MAX: usize = 100_000;
/// Each wait is twice the one before, up to this.
const WAIT_MAX: Duration = Duration::from_secs(6 * 3600);
/// Questions about one message.
const QUESTIONS_MAX: u32 = 10;
/// How often it is looked who is due.
const TICK: Duration = Duration::from_millis(250);

/// A segment that the carrier took and has told nothing of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Silent {
    /// As the carrier's response had it.
    message_id: String,
    source: WireAddress<'static>,
    wait: Duration,
    questions: u32,
}

/// Who is waited for, by the time to ask.
#[derive(Debug)]
pub(super) struct Overdue {
    after: Duration,
    waiting: BTreeMap<(Instant, u64), Silent>,
    by_key: HashMap<String, (Instant, u64)>,
    serial: u64,
}

impl Overdue {
    /// A receipt is overdue `after` so long.
    pub(super) fn new(after: Duration) -> Overdue {
        Overdue {
            after,
            waiting: BTreeMap::new(),
            by_key: HashMap::new(),
            serial: 0,
        }
    }

    pub(super) fn sent(&mut self, now: Instant, message_id: &str, source: WireAddress<'static>) {
        self.wait_for(
            now,
            Silent {
                message_id: message_id.to_owned(),
                source,
                wait: self.after,
                questions: 0,
            },
        );
    }

    /// A final receipt came for one of `keys`.
    pub(super) fn received(&mut self, keys: impl Iterator<Item = String>) {
        for key in keys {
            if let Some(place) = self.by_key.remove(&key) {
                self.waiting.remove(&place);
                return;
            }
        }
    }

    pub(super) fn due(&mut self, now: Instant) -> Option<Silent> {
        let first = self.waiting.first_entry()?;
        if first.key().0 > now {
            return None;
        }
        let silent = first.remove();
        if let Some(key) = response_key(&silent.message_id) {
            self.by_key.remove(&key);
        }
        Some(silent)
    }

    /// It was asked about and is not at its end.
    pub(super) fn again(&mut self, now: Instant, mut silent: Silent) {
        silent.questions += 1;
        silent.wait = (silent.wait * 2).min(WAIT_MAX);
        if silent.questions < QUESTIONS_MAX {
            self.wait_for(now, silent);
        }
    }

    fn wait_for(&mut self, now: Instant, silent: Silent) {
        let Some(key) = response_key(&silent.message_id) else {
            return;
        };
        if self.waiting.len() >= WAITING_MAX {
            return;
        }
        self.serial += 1;
        let place = (now + silent.wait, self.serial);
        if let Some(older) = self.by_key.insert(key, place) {
            // An id that the carrier gave twice.
            self.waiting.remove(&older);
        }
        self.waiting.insert(place, silent);
    }
}

/// Asks about whom it is time to ask, one after the other, until the carrier stops.
pub(super) async fn ask_overdue(
    inner: Arc<Inner>,
    events: mpsc::Sender<CarrierEvent>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(TICK) => {}
            () = told_to_stop(&mut stop) => return,
        }
        loop {
            let due = inner.overdue().due(now());
            let Some(silent) = due else {
                break;
            };
            let told = tokio::select! {
                told = ask(&inner, &silent, &events) => told,
                () = told_to_stop(&mut stop) => return,
            };
            if !told {
                inner.overdue().again(now(), silent);
            }
        }
    }
}

/// Whether the message was at its end, and that is taken note of.
async fn ask(inner: &Inner, silent: &Silent, events: &mpsc::Sender<CarrierEvent>) -> bool {
    let query = Body::QuerySm(QuerySm {
        message_id: silent.message_id.as_bytes(),
        source_addr_ton: silent.source.ton,
        source_addr_npi: silent.source.npi,
        source_addr: silent.source.value.as_bytes(),
    });
    let Some(response) = inner.ask(&query).await else {
        return false;
    };
    SmppCounters::count(&inner.counters.queries);
    let (event, taken) = match response.pdu() {
        Ok(pdu) => match pdu.body {
            Body::QuerySmResp(resp) if pdu.command_status == status::ESME_ROK => {
                match receipt(inner, silent, &resp) {
                    Some(told) => told,
                    None => return false,
                }
            }
            _ => {
                debug!(
                    carrier = %inner.config.id,
                    status = status::describe(pdu.command_status),
                    "query_sm was refused"
                );
                return false;
            }
        },
        Err(_) => return false,
    };
    if events.send(event).await.is_err() {
        return false;
    }
    matches!(taken.await, Ok(Ack::Taken))
}

/// The answer in the shape of a receipt; none where the message is still on its way.
fn receipt(
    inner: &Inner,
    silent: &Silent,
    resp: &QuerySmResp<'_>,
) -> Option<(CarrierEvent, oneshot::Receiver<Ack>)> {
    let state = state_of_code(resp.message_state).filter(|s| *s != PartState::Enroute)?;
    let done_at = match time::parse(resp.final_date) {
        Ok(SmppTime::Absolute(at)) => Some(at),
        Ok(SmppTime::Relative(_) | SmppTime::Default) | Err(_) => None,
    };
    let (ack, taken) = oneshot::channel();
    let event = CarrierEvent::Receipt {
        carrier: inner.config.id.clone(),
        receipt: Receipt {
            id: silent.message_id.clone(),
            report: Report {
                state,
                error: match resp.error_code {
                    0 => String::new(),
                    code => format!("{code:03}"),
                },
                network_type: None,
                done_at,
            },
            evidence: Evidence::default(),
        },
        // The very id that we asked with, so that there is nothing to learn of its form.
        style: ReceiptStyle {
            id_form: IdForm::AsIs,
            per: inner.config.receipt_per,
        },
        ack,
    };
    Some((event, taken))
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn source() -> WireAddress<'static> {
        WireAddress {
            ton: 5,
            npi: 0,
            value: Cow::Borrowed("Acme"),
        }
    }

    fn due(overdue: &mut Overdue, at: Instant) -> Vec<String> {
        std::iter::from_fn(|| overdue.due(at))
            .map(|s| s.message_id)
            .collect()
    }

    #[test]
    fn only_those_without_a_receipt_are_due_in_their_order() {
        let now = Instant::now();
        let mut overdue = Overdue::new(60 * SECOND);
        for id in ["1", "2", "3"] {
            overdue.sent(now, id, source());
        }
        overdue.sent(now + SECOND, "4", source());
        overdue.received(response_key("2").into_iter());
        assert_eq!(due(&mut overdue, now + 59 * SECOND), [""; 0]);
        assert_eq!(due(&mut overdue, now + 60 * SECOND), ["1", "3"]);
        assert_eq!(due(&mut overdue, now + 600 * SECOND), ["4"]);
        assert!(overdue.by_key.is_empty() && overdue.waiting.is_empty());
    }

    #[test]
    fn questions_become_rare_and_end() {
        let mut now = Instant::now();
        let mut overdue = Overdue::new(60 * SECOND);
        overdue.sent(now, "1", source());
        let mut waits = Vec::new();
        while let Some((at, _)) = overdue.waiting.keys().next().copied() {
            waits.push(at.duration_since(now).as_secs());
            now = at;
            let silent = overdue.due(now).unwrap();
            overdue.again(now, silent);
        }
        assert_eq!(waits[..4], [60, 120, 240, 480]);
        assert_eq!(waits.len(), QUESTIONS_MAX as usize);
        assert_eq!(waits.last(), Some(&WAIT_MAX.as_secs()));
    }

    #[test]
    fn an_id_given_twice_and_ids_without_end_are_no_leak() {
        let now = Instant::now();
        let mut overdue = Overdue::new(60 * SECOND);
        for _ in 0..10 {
            overdue.sent(now, "same", source());
        }
        assert_eq!(overdue.waiting.len(), 1);
        for n in 0..WAITING_MAX + 10 {
            overdue.sent(now, &n.to_string(), source());
        }
        assert_eq!(overdue.waiting.len(), WAITING_MAX);
        overdue.sent(now, "", source());
        assert_eq!(overdue.by_key.len(), WAITING_MAX);
    }
}

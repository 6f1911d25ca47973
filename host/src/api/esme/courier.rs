//! Brings receipts and mobile-originated messages to their ESME: claims what is owed while there is a
//! session, sends in turn over all of them as they have room, and settles each by its deliver_sm_resp.
//! With no session it sleeps; what is owed stays in the store.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::futures::Notified;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::binds::{Party, Turn};
use super::{inbound, receipt};
use crate::clock::Timestamp;
use crate::domain::{Message, State};
use crate::pipeline::{Debt, Pipeline};
use crate::smpp::link::{Answer, Requests};
use crate::smpp::status::{self, Class};
use crate::store::{OutboxKind, StoreError, WebhookOutcome};

/// Entries claimed at once, where the sessions' windows are that large: a claim is answered with a
/// commit, so small ones would bound the rate. As many wait at most for a session to have room.
const CLAIM_MAX: usize = 512;
/// Waits between the attempts of one delivery; the last one repeats until it is given up.
const SCHEDULE: [Duration; 6] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(60),
    Duration::from_secs(120),
    Duration::from_secs(300),
];
/// How long a session gets nothing that answered ESME_RTHROTTLED or ESME_RMSGQFUL.
const THROTTLED: Duration = Duration::from_secs(1);
/// How long the courier rests when the store cannot be read.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// One system_id's courier, until `stop` turns true; what is under way is finished.
pub async fn run(
    pipeline: Arc<Pipeline>,
    party: Arc<Party>,
    give_up: Duration,
    mut stop: watch::Receiver<bool>,
) {
    let courier = Arc::new(Courier {
        pipeline,
        party,
        give_up,
    });
    let mut under_way = JoinSet::new();
    let mut held = VecDeque::new();
    let mut batch = pin!(courier.batch());
    loop {
        while under_way.try_join_next().is_some() {}
        courier.send(&mut held, &mut under_way);
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            // A claim is answered with a commit: what is held meanwhile keeps the sessions busy.
            more = &mut batch, if held.len() < CLAIM_MAX => {
                courier.take_in(more, &mut held, &mut under_way);
                batch.set(courier.batch());
            }
            () = courier.room_or_nobody(), if !held.is_empty() => {}
        }
    }
    put_all_back(&mut held, &mut under_way);
    while under_way.join_next().await.is_some() {}
}

struct Courier {
    pipeline: Arc<Pipeline>,
    party: Arc<Party>,
    give_up: Duration,
}

/// What one entry comes to.
enum Parcel {
    Send(Requests),
    /// Its message is gone, retention took it.
    Nothing,
    /// It will never fit a deliver_sm.
    Unsendable,
}

fn now() -> std::time::Instant {
    tokio::time::Instant::now().into_std()
}

impl Courier {
    /// Waits for a session and for something to deliver.
    async fn batch(&self) -> Vec<(Debt, Parcel)> {
        loop {
            let entries = self.claim().await;
            match self.parcels(&entries).await {
                Ok(parcels) => return entries.into_iter().zip(parcels).collect(),
                Err(error) => {
                    tracing::warn!(system_id = %self.party.system.id, %error, "deliveries cannot be read");
                    for entry in entries {
                        put_back(entry).await;
                    }
                    tokio::time::sleep(STORE_PAUSE).await;
                }
            }
        }
    }

    async fn claim(&self) -> Vec<Debt> {
        let party = &self.party;
        loop {
            let changed = party.changed.notified();
            let window = party.window(now());
            if window == 0 {
                self.changed_or_rested(changed).await;
                continue;
            }
            let max = window.min(CLAIM_MAX);
            let claimed = self.pipeline.deliveries_due(&party.system.id, max);
            tokio::pin!(changed, claimed);
            loop {
                tokio::select! {
                    entries = &mut claimed => return entries,
                    // What nobody is there for is not to be claimed.
                    () = &mut changed => {
                        if !party.receives() {
                            break;
                        }
                        changed.set(party.changed.notified());
                    }
                }
            }
        }
    }

    /// Waits until a session has room, or until there is none at all.
    async fn room_or_nobody(&self) {
        loop {
            let freed = self.party.freed.notified();
            if self.party.room(now()) > 0 || !self.party.receives() {
                return;
            }
            self.changed_or_rested(freed).await;
        }
    }

    async fn changed_or_rested(&self, changed: Notified<'_>) {
        match self.party.rests_until(now()) {
            None => changed.await,
            Some(until) => tokio::select! {
                () = changed => {}
                () = tokio::time::sleep_until(until.into()) => {}
            },
        }
    }

    fn take_in(
        self: &Arc<Courier>,
        batch: Vec<(Debt, Parcel)>,
        held: &mut VecDeque<(Debt, Requests)>,
        under_way: &mut JoinSet<()>,
    ) {
        for (entry, parcel) in batch {
            match parcel {
                Parcel::Send(requests) => held.push_back((entry, requests)),
                Parcel::Nothing => {
                    under_way.spawn(entry.settle(WebhookOutcome::Done));
                }
                Parcel::Unsendable => {
                    let courier = self.clone();
                    under_way.spawn(async move { courier.bury(entry).await });
                }
            }
        }
    }

    /// Sends what the sessions have room for. Without a session, what is held goes back.
    fn send(
        self: &Arc<Courier>,
        held: &mut VecDeque<(Debt, Requests)>,
        under_way: &mut JoinSet<()>,
    ) {
        while !held.is_empty()
            && let Some(turn) = self.party.take_turn(now())
            && let Some((entry, requests)) = held.pop_front()
        {
            let courier = self.clone();
            under_way.spawn(async move { courier.deliver(entry, requests, turn).await });
        }
        if !self.party.receives() {
            put_all_back(held, under_way);
        }
    }

    async fn parcels(&self, entries: &[Debt]) -> Result<Vec<Parcel>, StoreError> {
        let store = &self.pipeline.store;
        let status = |e: &&Debt| matches!(e.kind, OutboxKind::Status(_));
        let ids = entries.iter().filter(status).map(|e| e.message).collect();
        let mut messages = store.find_many(ids).await?.into_iter();
        let at = self.pipeline.clock.now();
        let mut parcels = Vec::with_capacity(entries.len());
        for entry in entries {
            parcels.push(match entry.kind {
                OutboxKind::Status(state) => match messages.next().flatten() {
                    Some(message) => self.receipt(&message, state, at),
                    None => Parcel::Nothing,
                },
                OutboxKind::Inbound => match store.find_inbound(entry.message).await? {
                    Some(record) => {
                        let mut requests = Requests::new();
                        let spec = &self.party.system.spec;
                        match inbound::push(&mut requests, &record.inbound, spec) {
                            Ok(()) => Parcel::Send(requests),
                            Err(_) => Parcel::Unsendable,
                        }
                    }
                    None => Parcel::Nothing,
                },
            });
        }
        Ok(parcels)
    }

    fn receipt(&self, message: &Message, state: State, at: Timestamp) -> Parcel {
        let mut requests = Requests::new();
        let form = self.party.system.spec.receipts;
        match receipt::push(&mut requests, message, state, form, at) {
            Ok(()) => Parcel::Send(requests),
            Err(error) => {
                tracing::warn!(message = %message.id, %error, "a receipt cannot be put into deliver_sm");
                Parcel::Unsendable
            }
        }
    }

    /// Sends one delivery, all of its deliver_sm on one session, and settles it.
    async fn deliver(&self, entry: Debt, requests: Requests, turn: Turn) {
        let count = requests.len() as u64;
        let answers = turn.bound.link.send(requests).await;
        let bound = turn.bound.clone();
        let worst = answers.into_iter().max_by_key(rank);
        let counters = &self.party.system.counters;
        match worst {
            Some(Answer::Answered { command_status, .. }) => match status::class(command_status) {
                Class::Ok => {
                    let counter = match entry.kind {
                        OutboxKind::Inbound => &counters.inbound,
                        OutboxKind::Status(state) if state.is_terminal() => &counters.receipts,
                        OutboxKind::Status(_) => &counters.intermediate,
                    };
                    counter.fetch_add(1, Ordering::Relaxed);
                    bound.delivered.fetch_add(count, Ordering::Relaxed);
                    drop(turn);
                    entry.settle(WebhookOutcome::Done).await;
                }
                Class::Throttled => {
                    bound.rest(now() + THROTTLED);
                    self.later(entry).await;
                }
                Class::Temporary => self.later(entry).await,
                Class::Permanent => {
                    tracing::info!(system_id = %self.party.system.id, status = %status::describe(command_status), "a delivery was refused for good");
                    self.bury(entry).await;
                }
            },
            Some(Answer::TimedOut | Answer::Lost) => self.later(entry).await,
            Some(Answer::Unsent) | None => put_back(entry).await,
        }
    }

    async fn later(&self, entry: Debt) {
        let at = self.pipeline.clock.now();
        let step = usize::try_from(entry.attempts).unwrap_or(usize::MAX);
        let wait = SCHEDULE[step.min(SCHEDULE.len() - 1)];
        let counters = &self.party.system.counters;
        if at.plus(wait) > entry.at.plus(self.give_up) {
            self.bury(entry).await;
        } else {
            counters.delivery_retries.fetch_add(1, Ordering::Relaxed);
            entry.settle(WebhookOutcome::RetryAt(at.plus(wait))).await;
        }
    }

    async fn bury(&self, entry: Debt) {
        let counters = &self.party.system.counters;
        counters.dead.fetch_add(1, Ordering::Relaxed);
        entry.settle(WebhookOutcome::Dead).await;
    }
}

/// Nothing of it was sent: it keeps its place in the queue.
async fn put_back(entry: Debt) {
    let due = entry.due;
    entry.settle(WebhookOutcome::Busy(due)).await;
}

fn put_all_back(held: &mut VecDeque<(Debt, Requests)>, under_way: &mut JoinSet<()>) {
    for (entry, _) in held.drain(..) {
        under_way.spawn(put_back(entry));
    }
}

/// Of the answers to the parts of one delivery, the highest says what becomes of all: a part that was
/// refused for good will be so again, one that is put off has all of them sent once more.
fn rank(answer: &Answer) -> u8 {
    match answer {
        Answer::Answered { command_status, .. } => match status::class(*command_status) {
            Class::Ok => 0,
            Class::Temporary => 3,
            Class::Throttled => 4,
            Class::Permanent => 5,
        },
        Answer::Unsent => 1,
        Answer::TimedOut | Answer::Lost => 2,
    }
}

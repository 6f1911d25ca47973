//! A store that was written under a clock far ahead of the present one. What waits in it would wait until
//! that time comes: it is brought back by as much as the clock was wrong, once for each time that the clock was
//! set back. Only what was accepted under the wrong clock is touched; its history stays as it was written, and
//! so does its id. What the clock said last is noted in the store, for ids cannot tell: that of a message which
//! was brought back is of the wrong clock for ever.

use std::time::Duration;

use super::apply::{Before, damage};
use super::commit::Committer;
use super::engine::Engine;
use super::keys;
use super::records;
use super::types::StoreError;
use crate::clock::{Clock, Timestamp};
use crate::domain::MessageId;

/// Entries between two commits.
const CHUNK: usize = 1_000;
/// What was accepted later than this after the time to which it is brought back is of the wrong clock: no
/// right one is corrected by so much.
const HOUR: Duration = Duration::from_secs(3_600);
/// How exactly the store knows what the clock said last.
const NOTE_EVERY_MS: u64 = 1_000;
/// What the clock said.
const TIME: &str = "\0time";
/// Something is being brought back, to this time.
const TO: &str = "\0time_to";

/// What waits is in the terms of a clock that said `from` when one that is right said `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Correction {
    from: Timestamp,
    to: Timestamp,
}

/// Tells the clock what the store knows of the time. What is to be corrected before anything is handed out: what
/// an earlier start began with goes first, and by as much as that one found, for a part of it is done.
pub(super) fn corrections(engine: &Engine, clock: &Clock) -> Result<Vec<Correction>, StoreError> {
    let noted = time(engine, TIME)?;
    let begun = noted.zip(time(engine, TO)?);
    let begun = begun.map(|(from, to)| Correction { from, to });
    let known = match begun {
        Some(begun) => Some(begun.to),
        None => latest(noted, newest(engine)?),
    };
    let further = known.and_then(|from| {
        let by = clock.not_before(from)?;
        let to = earlier(from, by);
        Some(Correction { from, to })
    });
    Ok(begun.into_iter().chain(further).collect())
}

fn time(engine: &Engine, name: &str) -> Result<Option<Timestamp>, StoreError> {
    let value = engine.get(&keys::meta(name))?;
    Ok(value.and_then(|value| records::decode_time(&value)))
}

fn newest(engine: &Engine) -> Result<Option<Timestamp>, StoreError> {
    let newest = engine.records_before(MessageId(u128::MAX), MessageId(0), 1)?;
    Ok(newest.first().map(|(id, _)| id.timestamp()))
}

/// What was accepted since the last note is a little later than that. Stores of earlier releases have none.
fn latest(noted: Option<Timestamp>, newest: Option<Timestamp>) -> Option<Timestamp> {
    let Some(noted) = noted else { return newest };
    let since = newest.filter(|n| n.0 <= noted.0.saturating_add(2 * NOTE_EVERY_MS));
    since.max(Some(noted))
}

impl Committer {
    /// With a commit, where the last note is old. Not before all that waits is in the terms of this clock.
    pub fn note_time(&mut self) {
        let now = self.clock.now();
        if self.corrections.is_empty() && now.0.abs_diff(self.time_noted.0) >= NOTE_EVERY_MS {
            self.time_noted = now;
            self.put_time(TIME, now);
        }
    }

    fn put_time(&mut self, name: &str, at: Timestamp) {
        let octets = records::encode_time(at);
        self.journal.put(keys::meta(name), octets.into(), false);
    }

    /// Before anything is handed out.
    pub fn correct(&mut self) -> Result<(), StoreError> {
        while let Some(correction) = self.corrections.first().copied() {
            bring_back(self, correction)?;
            self.corrections.remove(0);
        }
        Ok(())
    }
}

/// Where this ends in the middle, the next start goes on with it: what is done has been accepted before `to`.
fn bring_back(committer: &mut Committer, correction: Correction) -> Result<(), StoreError> {
    committer.put_time(TIME, correction.from);
    committer.put_time(TO, correction.to);
    committer.commit(0);
    let messages = bring_back_messages(committer, correction)?;
    let owed = bring_back_owed(committer, correction)?;
    committer.put_time(TIME, correction.to);
    committer.journal.remove(&keys::meta(TO));
    committer.commit(0);
    tracing::warn!(
        messages,
        owed,
        "brought back to the present clock what waited for a later one"
    );
    committer.shared.check_running()
}

impl Correction {
    fn by(self) -> Duration {
        self.from.since(self.to)
    }

    /// Whether that time is one of the wrong clock's.
    fn concerns(self, at: Timestamp) -> bool {
        at > self.to.plus(HOUR)
    }
}

fn bring_back_messages(
    committer: &mut Committer,
    correction: Correction,
) -> Result<u64, StoreError> {
    let mut brought = 0;
    for lane in 0..committer.lanes.len() {
        let prefix = keys::lane_prefix(u16::try_from(lane).unwrap_or(u16::MAX));
        let mut after = None;
        loop {
            let entries = committer.read_queue(&prefix, after, CHUNK)?;
            after = entries.last().map(|(last, _)| *last);
            let last = entries.len() < CHUNK;
            for ((_, id), _) in entries {
                let id = MessageId(id);
                if correction.concerns(id.timestamp()) {
                    brought += u64::from(bring_back_message(committer, id, correction)?);
                }
            }
            committer.commit(0);
            committer.close_generation();
            committer.shared.check_running()?;
            if last {
                break;
            }
        }
    }
    Ok(brought)
}

fn bring_back_message(
    committer: &mut Committer,
    id: MessageId,
    correction: Correction,
) -> Result<bool, StoreError> {
    let loaded = match committer.load(id) {
        // It is left as it is, and is met again where it is asked for.
        Err(StoreError::Corrupt(why)) => {
            committer.shared.quarantine(id.0, &why);
            return Ok(false);
        }
        other => other?,
    };
    // One that was brought back before has a right time beside its wrong id.
    let Some(mut message) = loaded.filter(|m| correction.concerns(m.accepted_at)) else {
        return Ok(false);
    };
    let before = Before::of(&message);
    let by = correction.by();
    message.accepted_at = earlier(message.accepted_at, by);
    message.send_at = earlier(message.send_at, by);
    message.expires_at = earlier(message.expires_at, by);
    // What was found on its way when the store was opened waits by the present clock already.
    if let Some(due) = message
        .due
        .as_mut()
        .filter(|due| correction.concerns(due.at))
    {
        due.at = earlier(due.at, by);
    }
    let now = committer.clock.now();
    committer.put_message(before, &message, now)?;
    Ok(true)
}

fn bring_back_owed(committer: &mut Committer, correction: Correction) -> Result<u64, StoreError> {
    let mut brought = 0;
    for prefix in [keys::WEBHOOK, keys::DELIVERY] {
        let end = keys::after_prefix(prefix).unwrap_or_default();
        let mut start = prefix.to_vec();
        loop {
            let entries = committer.engine.scan(&start, &end, CHUNK)?;
            for (key, value) in &entries {
                let mut entry = records::decode_outbox(value).map_err(damage)?;
                if correction.concerns(entry.at) {
                    entry.due = earlier(entry.due, correction.by());
                    entry.at = earlier(entry.at, correction.by());
                    committer.refile(key, &entry);
                    brought += 1;
                }
            }
            committer.commit(0);
            committer.close_generation();
            committer.shared.check_running()?;
            match entries.last() {
                Some((last, _)) if entries.len() == CHUNK => start = [&**last, &[0]].concat(),
                _ => break,
            }
        }
    }
    Ok(brought)
}

fn earlier(at: Timestamp, by: Duration) -> Timestamp {
    let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
    Timestamp(at.0.saturating_sub(by))
}

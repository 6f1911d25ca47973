//! A store that was written under a clock far ahead of the present one. What waits in it would wait until
//! that time comes: it is brought back by as much as the clock was wrong. Only what was accepted under the
//! wrong clock is touched; its history stays as it was written.

use std::time::Duration;

use super::apply::{Before, damage};
use super::commit::Committer;
use super::keys;
use super::records;
use super::types::StoreError;
use crate::clock::Timestamp;
use crate::domain::MessageId;

/// Entries between two commits.
const CHUNK: usize = 1_000;
/// An entry of later than this from now is of the wrong clock.
const DAY: Duration = Duration::from_secs(86_400);

/// Before anything is handed out.
pub(super) fn bring_back(committer: &mut Committer, by: Duration) -> Result<(), StoreError> {
    let messages = bring_back_messages(committer, by)?;
    let owed = bring_back_owed(committer, by)?;
    tracing::warn!(
        messages,
        owed,
        "brought back to the present clock what waited for a later one"
    );
    Ok(())
}

fn bring_back_messages(committer: &mut Committer, by: Duration) -> Result<u64, StoreError> {
    let now = committer.clock.now();
    let wrong = now.plus(DAY);
    let mut brought = 0;
    for lane in 0..committer.lanes.len() {
        let prefix = keys::lane_prefix(u16::try_from(lane).unwrap_or(u16::MAX));
        let mut after = Some((wrong, 0));
        while let Some(slot) = after {
            let entries = committer.read_queue(&prefix, Some(slot), CHUNK)?;
            after = entries
                .last()
                .map(|(last, _)| *last)
                .filter(|_| entries.len() == CHUNK);
            for ((_, id), _) in entries {
                let id = MessageId(id);
                if id.timestamp() > wrong {
                    brought += u64::from(bring_back_message(committer, id, by, now)?);
                }
            }
            committer.commit(0);
            committer.close_generation();
        }
    }
    Ok(brought)
}

fn bring_back_message(
    committer: &mut Committer,
    id: MessageId,
    by: Duration,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let loaded = match committer.load(id) {
        // It is left as it is, and is met again where it is asked for.
        Err(StoreError::Corrupt(why)) => {
            committer.shared.quarantine(id.0, &why);
            return Ok(false);
        }
        other => other?,
    };
    let Some(mut message) = loaded else {
        return Ok(false);
    };
    let before = Before::of(&message);
    if let Some(due) = &mut message.due {
        due.at = earlier(due.at, by);
    }
    message.expires_at = earlier(message.expires_at, by);
    committer.put_message(before, &message, now)?;
    Ok(true)
}

fn bring_back_owed(committer: &mut Committer, by: Duration) -> Result<u64, StoreError> {
    let wrong = committer.clock.now().plus(DAY);
    let mut brought = 0;
    for prefix in [keys::WEBHOOK, keys::DELIVERY] {
        let end = keys::after_prefix(prefix).unwrap_or_default();
        let mut start = prefix.to_vec();
        loop {
            let entries = committer.engine.scan(&start, &end, CHUNK)?;
            for (key, value) in &entries {
                let mut entry = records::decode_outbox(value).map_err(damage)?;
                if entry.due > wrong && entry.at > wrong {
                    entry.due = earlier(entry.due, by);
                    entry.at = earlier(entry.at, by);
                    committer.refile(key, &entry);
                    brought += 1;
                }
            }
            committer.commit(0);
            committer.close_generation();
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

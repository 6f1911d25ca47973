//! Forgetting a number, a bounded piece at a time: first what the store has of it, then what was
//! recorded. Opt-outs stay: they are the recipient's own wish, and hold for as long as nothing else is
//! known.

use super::Pipeline;
use crate::domain::MessageId;
use crate::store::{EraseFrom, Erased, StoreError};

/// What one piece came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    pub stored: Erased,
    /// Recorded decisions.
    pub recorded: u64,
}

/// Where the work goes on: octets for a cursor, and back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    Stored(EraseFrom),
    /// Behind this file.
    Recorded(String),
}

impl Stage {
    pub fn first() -> Stage {
        Stage::Stored(EraseFrom::Records(MessageId(u128::MAX)))
    }

    pub fn octets(&self) -> Vec<u8> {
        match self {
            Stage::Stored(EraseFrom::Records(before)) => {
                [&b"m"[..], &before.0.to_be_bytes()].concat()
            }
            Stage::Stored(EraseFrom::Waiting(key)) => [&b"i"[..], key].concat(),
            Stage::Recorded(file) => [&b"r"[..], file.as_bytes()].concat(),
        }
    }

    pub fn from_octets(octets: &[u8]) -> Option<Stage> {
        let (letter, rest) = octets.split_first()?;
        match letter {
            b'm' => {
                let id = u128::from_be_bytes(rest.try_into().ok()?);
                Some(Stage::Stored(EraseFrom::Records(MessageId(id))))
            }
            b'i' => Some(Stage::Stored(EraseFrom::Waiting(rest.to_vec()))),
            b'r' => Some(Stage::Recorded(String::from_utf8(rest.to_vec()).ok()?)),
            _ => None,
        }
    }
}

impl Pipeline {
    /// One piece: durable on return. The second value goes on from there; none at the end. `number`
    /// is an address's value.
    pub async fn forget(
        &self,
        number: &str,
        stage: Stage,
    ) -> Result<(Forgotten, Option<Stage>), StoreError> {
        let mut forgotten = Forgotten::default();
        let next = match stage {
            Stage::Stored(from) => {
                let (stored, next) = self.store.erase(number, from).await?;
                if next.is_none() {
                    self.forget_wishes_about(number).await;
                }
                forgotten.stored = stored;
                Some(next.map_or_else(|| Stage::Recorded(String::new()), Stage::Stored))
            }
            Stage::Recorded(after) => match self.observers.recorder() {
                None => None,
                Some(recorder) => {
                    let turn = recorder.forget(&after, number).await;
                    let turn = turn.map_err(|e| StoreError::Io(format!("the recording: {e}")))?;
                    forgotten.recorded = turn.decisions;
                    turn.file.map(Stage::Recorded)
                }
            },
        };
        Ok((forgotten, next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_read_as_it_was_written() {
        for stage in [
            Stage::first(),
            Stage::Stored(EraseFrom::Waiting(b"g\x00key".to_vec())),
            Stage::Recorded("0001-000.rec".to_owned()),
        ] {
            assert_eq!(Stage::from_octets(&stage.octets()), Some(stage));
        }
        for wrong in [&b""[..], b"m123", b"x", b"r\xff"] {
            assert_eq!(Stage::from_octets(wrong), None);
        }
    }
}

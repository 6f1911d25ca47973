//! What one carrier means by its command_status values: the specification's meaning, changed where
//! its operator knows better.

use std::collections::HashMap;
use std::time::Duration;

use crate::smpp::status::{self, Class};

/// What to do on a command_status, by the operator's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRule {
    pub class: Class,
    /// For `Throttled` and `Temporary`: the message rests at least that long.
    pub retry_after: Option<Duration>,
}

/// A carrier's own rules over [`status::class`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statuses {
    rules: HashMap<u32, StatusRule>,
}

impl Statuses {
    pub fn new(rules: HashMap<u32, StatusRule>) -> Statuses {
        Statuses { rules }
    }

    pub fn class(&self, command_status: u32) -> Class {
        match self.rules.get(&command_status) {
            Some(rule) => rule.class,
            None => status::class(command_status),
        }
    }

    pub fn retry_after_ms(&self, command_status: u32) -> Option<u32> {
        let after = self.rules.get(&command_status)?.retry_after?;
        Some(u32::try_from(after.as_millis()).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operator_knows_better() {
        let rule = StatusRule {
            class: Class::Temporary,
            retry_after: Some(Duration::from_secs(30)),
        };
        let statuses = Statuses::new(HashMap::from([(status::ESME_RINVDSTADR, rule)]));
        assert_eq!(statuses.class(status::ESME_RINVDSTADR), Class::Temporary);
        assert_eq!(
            statuses.retry_after_ms(status::ESME_RINVDSTADR),
            Some(30_000)
        );
        assert_eq!(statuses.class(status::ESME_RTHROTTLED), Class::Throttled);
        assert_eq!(statuses.retry_after_ms(status::ESME_RTHROTTLED), None);
        assert_eq!(statuses.class(status::ESME_ROK), Class::Ok);
    }
}

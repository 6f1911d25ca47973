//! From what went wrong to a command_status (SMPP 3.4, 5.1.3): one table, so that a client's developer
//! finds in one place why a submission was refused and whether trying again helps.

use crate::domain::text::TextError;
use crate::pipeline::SubmitError;
use crate::smpp::status;
use crate::store::StoreError;

/// A refused request: what the peer is answered, and a text for its people where a version of the
/// protocol has room for one. The text holds neither message text nor numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub command_status: u32,
    pub why: String,
}

impl Refused {
    pub fn new(command_status: u32, why: impl Into<String>) -> Refused {
        Refused {
            command_status,
            why: why.into(),
        }
    }
}

/// What a submission that the pipeline did not take is answered.
pub fn refused(error: &SubmitError) -> Refused {
    match error {
        SubmitError::Text(error) => Refused::new(of_text(error), error.to_string()),
        SubmitError::TooManySegments { segments, max } => Refused::new(
            status::ESME_RINVMSGLEN,
            format!("needs {segments} segments; at most {max} are taken"),
        ),
        SubmitError::Silent => Refused::new(
            status::ESME_RPROHIBITED,
            "the account may not send what its phone shows nobody",
        ),
        SubmitError::SendAtTooFar { max_seconds } => Refused::new(
            status::ESME_RINVSCHED,
            format!("lies more than {max_seconds} s ahead"),
        ),
        SubmitError::Validity { max_seconds } => Refused::new(
            status::ESME_RINVEXPIRY,
            format!("is not within 1 to {max_seconds} s"),
        ),
        SubmitError::Refused { refusal, .. } => Refused::new(
            of_policy(&refusal.code),
            format!("{}: {}", refusal.code, refusal.reason),
        ),
        SubmitError::IdempotencyMismatch => Refused::new(
            status::ESME_RINVOPTPARAMVAL,
            "this idempotency key came with another message within 24 hours",
        ),
        SubmitError::IdempotencyRunning => Refused::new(
            status::ESME_RTHROTTLED,
            "a submission with this idempotency key is being worked on",
        ),
        SubmitError::Throttled { .. } => Refused::new(
            status::ESME_RTHROTTLED,
            "the account sends more than its throughput",
        ),
        SubmitError::Store(error) => of_store(error),
    }
}

/// The refusal of an earlier submission, by the code that its message keeps.
pub fn of_policy_code(code: &str, why: &str) -> Refused {
    Refused::new(of_policy(code), why)
}

fn of_text(error: &TextError) -> u32 {
    match error {
        // UDHI is set and there is no header that could be meant.
        TextError::Udh(_) => status::ESME_RINVESMCLASS,
        _ => status::ESME_RINVMSGLEN,
    }
}

/// A policy's refusal is final: none of these is a status that clients send again on, but for the
/// one that says so itself.
fn of_policy(code: &str) -> u32 {
    let about = |words: &[&str]| words.iter().any(|word| code.starts_with(word));
    match code {
        "no_carrier_available" => status::ESME_RSUBMITFAIL,
        "no_route" | "no_carrier_for_class" => status::ESME_RINVDSTADR,
        _ if about(&["destination_", "recipient_", "country_"]) => status::ESME_RINVDSTADR,
        _ if about(&["sender_", "originator_"]) => status::ESME_RINVSRCADR,
        // opted_out, content and all else: ESME_RPROHIBITED is of SMPP 5.0 and known to peers of 3.4.
        _ => status::ESME_RPROHIBITED,
    }
}

pub fn of_store(error: &StoreError) -> Refused {
    let command_status = match error {
        StoreError::Busy | StoreError::StorageFull { .. } => status::ESME_RMSGQFUL,
        StoreError::Stopped(_)
        | StoreError::Io(_)
        | StoreError::Corrupt(_)
        | StoreError::Lost(_)
        | StoreError::Format(_)
        | StoreError::Limit(_) => status::ESME_RSYSERR,
    };
    Refused::new(command_status, "the message could not be stored; try again")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::text::UdhError;
    use crate::domain::{MessageId, Refusal};

    #[test]
    fn every_reason_has_its_status() {
        let policy = |code: &str| SubmitError::Refused {
            id: MessageId(1),
            refusal: Refusal {
                code: code.to_owned(),
                reason: "why".to_owned(),
            },
        };
        let full = StoreError::StorageFull {
            free_octets: 0,
            needed_octets: 1,
        };
        for (error, expect) in [
            (SubmitError::Text(TextError::Empty), status::ESME_RINVMSGLEN),
            (
                SubmitError::Text(TextError::Udh(UdhError::Missing)),
                status::ESME_RINVESMCLASS,
            ),
            (
                SubmitError::TooManySegments {
                    segments: 11,
                    max: 10,
                },
                status::ESME_RINVMSGLEN,
            ),
            (
                SubmitError::SendAtTooFar { max_seconds: 1 },
                status::ESME_RINVSCHED,
            ),
            (
                SubmitError::Validity { max_seconds: 1 },
                status::ESME_RINVEXPIRY,
            ),
            (policy("no_route"), status::ESME_RINVDSTADR),
            (policy("no_carrier_available"), status::ESME_RSUBMITFAIL),
            (policy("recipient_daily_cap"), status::ESME_RINVDSTADR),
            (policy("destination_denied"), status::ESME_RINVDSTADR),
            (policy("sender_not_registered"), status::ESME_RINVSRCADR),
            (policy("opted_out"), status::ESME_RPROHIBITED),
            (policy("content_withheld"), status::ESME_RPROHIBITED),
            (
                SubmitError::Throttled {
                    retry_after: Duration::from_secs(1),
                },
                status::ESME_RTHROTTLED,
            ),
            (SubmitError::IdempotencyRunning, status::ESME_RTHROTTLED),
            (
                SubmitError::IdempotencyMismatch,
                status::ESME_RINVOPTPARAMVAL,
            ),
            (SubmitError::Store(StoreError::Busy), status::ESME_RMSGQFUL),
            (SubmitError::Store(full), status::ESME_RMSGQFUL),
            (
                SubmitError::Store(StoreError::Stopped("disk".to_owned())),
                status::ESME_RSYSERR,
            ),
        ] {
            assert_eq!(refused(&error).command_status, expect, "{error:?}");
        }
    }

    #[test]
    fn what_passes_by_itself_and_nothing_else_is_worth_another_try() {
        let again = |status| status::class(status) != status::Class::Permanent;
        assert!(again(
            refused(&SubmitError::Store(StoreError::Busy)).command_status
        ));
        assert!(again(of_policy("no_carrier_available")));
        for code in ["opted_out", "no_route", "sender_x", "spam"] {
            assert!(!again(of_policy(code)), "{code}");
        }
    }
}

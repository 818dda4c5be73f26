//! What a failed attempt of a call means: repeat it, give up, or find that it worked.
//!
//! An attempt whose answer got lost may have been carried out. Its repetition then meets what it
//! has made, and a refusal like "exists already" is the answer that got lost.

use highwater_base::ErrorCode;

use super::Call;
use crate::error::{ClientError, ErrorKind};

/// What to do after an attempt failed.
#[derive(Debug, PartialEq, Eq)]
pub enum AfterFailure<A> {
    /// An earlier attempt had done it.
    Done(A),
    /// The same call may succeed, perhaps after renewed metadata.
    Repeat(ClientError),
    /// It will not.
    GiveUp(ClientError),
}

/// The attempts of one call so far.
#[derive(Debug, Default)]
pub struct Attempts {
    answer_lost: bool,
}

impl Attempts {
    /// Whether an attempt was sent whose outcome is not known.
    #[must_use]
    pub fn may_have_worked(&self) -> bool {
        self.answer_lost
    }

    /// Takes in a failure and says what follows.
    pub fn failed<C: Call>(&mut self, call: &C, error: ClientError) -> AfterFailure<C::Answer> {
        let found_done = error.code().filter(|_| self.answer_lost);
        if let Some(answer) = found_done.and_then(|code| call.found_done(code)) {
            return AfterFailure::Done(answer);
        }
        // The broker goes on after it said REQUEST_TIMED_OUT.
        self.answer_lost |= matches!(
            error,
            ClientError::Disconnected { .. }
                | ClientError::Timeout { .. }
                | ClientError::Broker {
                    code: ErrorCode::RequestTimedOut,
                    ..
                }
        );
        let passes = match error {
            // Nobody waits for a broker that cannot be reached, unless it owes an answer.
            ClientError::Connect { .. } | ClientError::UnknownBroker { .. } => self.answer_lost,
            // The topic a call names is missing for good, not for a moment.
            _ => {
                error.kind() == ErrorKind::Retriable
                    && error.code() != Some(ErrorCode::UnknownTopicOrPartition)
            }
        };
        match passes {
            true => AfterFailure::Repeat(error),
            false => AfterFailure::GiveUp(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::{CreateTopic, DeleteTopic};

    fn refused(code: ErrorCode) -> ClientError {
        ClientError::from_code("topic \"t\"", code.code(), None).expect("an error")
    }

    fn lost() -> ClientError {
        ClientError::Disconnected {
            address: "h:9092".to_string(),
            reason: "reset".to_string(),
        }
    }

    fn unreachable() -> ClientError {
        ClientError::Connect {
            address: "h:9092".to_string(),
            reason: "refused".to_string(),
        }
    }

    #[test]
    fn a_change_whose_answer_was_lost_is_found_done() {
        let create = CreateTopic {
            name: "t".to_string(),
            ..CreateTopic::default()
        };
        for first in [lost(), refused(ErrorCode::RequestTimedOut)] {
            let mut attempts = Attempts::default();
            let repeated = attempts.failed(&create, first.clone());
            assert_eq!(repeated, AfterFailure::Repeat(first));
            let down = attempts.failed(&create, unreachable());
            assert_eq!(down, AfterFailure::Repeat(unreachable()));
            let found = attempts.failed(&create, refused(ErrorCode::TopicAlreadyExists));
            assert!(matches!(found, AfterFailure::Done(_)), "{found:?}");
        }

        let delete = DeleteTopic {
            name: "t".to_string(),
        };
        let mut attempts = Attempts::default();
        attempts.failed(&delete, lost());
        let found = attempts.failed(&delete, refused(ErrorCode::UnknownTopicOrPartition));
        assert_eq!(found, AfterFailure::Done(()));
    }

    #[test]
    fn a_refusal_that_no_lost_attempt_explains_stays_one() {
        let exists = refused(ErrorCode::TopicAlreadyExists);
        let create = CreateTopic::default();
        let mut attempts = Attempts::default();
        let first = attempts.failed(&create, exists.clone());
        assert_eq!(first, AfterFailure::GiveUp(exists.clone()));
        // An attempt that was refused for sure made nothing.
        let moved = attempts.failed(&create, refused(ErrorCode::NotController));
        assert!(matches!(moved, AfterFailure::Repeat(_)), "{moved:?}");
        let second = attempts.failed(&create, exists.clone());
        assert_eq!(second, AfterFailure::GiveUp(exists));
        let down = attempts.failed(&create, unreachable());
        assert_eq!(down, AfterFailure::GiveUp(unreachable()));
    }
}

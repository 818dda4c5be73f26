//! What can go wrong, in words that say what to do.
//!
//! One error type for the whole crate: whoever embeds the client decides by [`ClientError::kind`],
//! whoever reads a terminal reads the sentence and its remedy.

use highwater_base::ErrorCode;

/// An operation that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// No connection to any of the servers that were tried.
    #[error(
        "cannot connect to {address}: {reason}; start the broker or name another one with \
         --bootstrap-server"
    )]
    Connect { address: String, reason: String },
    /// A broker the cluster does not have now.
    #[error("the cluster has no broker {id}; `highwater cluster describe` lists them")]
    UnknownBroker { id: i32 },
    /// The connection ended while something was outstanding.
    #[error(
        "the connection to {address} was lost: {reason}; the broker may be restarting, try again"
    )]
    Disconnected { address: String, reason: String },
    /// No answer in time.
    #[error(
        "{what} got no answer within {timeout_ms} ms; check the broker's load or allow more time"
    )]
    Timeout { what: &'static str, timeout_ms: u64 },
    /// Bytes that are not what the protocol allows.
    #[error("{address} does not speak the Kafka protocol as expected: {reason}; check the address")]
    Protocol { address: String, reason: String },
    /// No version of a request that both sides know.
    #[error(
        "the broker answers {api} in versions {broker}, this client needs {client}; \
         upgrade the older of the two"
    )]
    NoCommonVersion {
        api: String,
        broker: String,
        client: String,
    },
    /// A topic the cluster does not have.
    #[error(
        "there is no topic {topic:?}; `highwater topic list` shows what exists, \
         `highwater topic create {topic}` makes it"
    )]
    UnknownTopic { topic: String },
    /// A partition its topic does not have.
    #[error("topic {topic:?} has no partition {partition}; it has partitions 0 to {last}")]
    UnknownPartition {
        topic: String,
        partition: i32,
        last: i32,
    },
    /// A partition without a leader.
    #[error("partition {topic}-{partition} has no leader now; wait for one or check the brokers")]
    NoLeader { topic: String, partition: i32 },
    /// Offsets that are not the caller's to commit any more.
    #[error(
        "the consumer has left the generation of group {group:?} in which it read these records \
         and cannot commit them; who has the partitions now reads them again, from the last commit"
    )]
    NotMember { group: String },
    /// The broker refused, for `subject` (a topic, a partition, a key).
    #[error("{subject}: {}{}", .code.message(), remedy(*.code, .detail.as_deref()))]
    Broker {
        subject: String,
        code: ErrorCode,
        detail: Option<String>,
    },
    /// A code that this client has no name for.
    #[error("{subject}: the broker answered with the unknown error code {code}")]
    UnknownCode { subject: String, code: i16 },
    /// A record that can never be sent.
    #[error("the record has {bytes} bytes, batch_bytes_max is {max}; raise it or send less")]
    RecordTooLarge { bytes: usize, max: usize },
    /// The producer's memory is full.
    #[error("{max} bytes of records wait to be sent; wait for deliveries before sending more")]
    BufferFull { max: usize },
    /// A record was not acknowledged in time; it may or may not be in the log.
    #[error("the batch was not acknowledged within {timeout_ms} ms; it may have been written")]
    DeliveryTimeout { timeout_ms: u64 },
    /// Data that cannot be unpacked.
    #[error(
        "the batch at {subject} offset {offset} is unreadable: {reason}; \
         start behind it with an explicit offset"
    )]
    CorruptBatch {
        subject: String,
        offset: i64,
        reason: String,
    },
    /// The thread behind a `threaded` handle is gone.
    #[error("the client has ended: its thread is gone; connect a new one")]
    Ended,
    /// An argument that makes no sense.
    #[error("{0}")]
    Usage(String),
}

/// What a caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The same request may succeed later, perhaps after renewed metadata.
    Retriable,
    /// It will fail again until somebody changes something.
    Fatal,
}

impl ClientError {
    /// The error for an error code of an answer, or `None` when the code says success.
    #[must_use]
    pub fn from_code(subject: &str, code: i16, detail: Option<&str>) -> Option<ClientError> {
        match ErrorCode::from_code(code) {
            Some(ErrorCode::None) => None,
            Some(code) => Some(ClientError::Broker {
                subject: subject.to_string(),
                code,
                detail: detail.filter(|text| !text.is_empty()).map(String::from),
            }),
            None => Some(ClientError::UnknownCode {
                subject: subject.to_string(),
                code,
            }),
        }
    }

    /// `Ok` when the code says success.
    ///
    /// # Errors
    /// Every other code, with `subject` and the broker's own message.
    pub fn check(subject: &str, code: i16, detail: Option<&str>) -> Result<(), ClientError> {
        Self::from_code(subject, code, detail).map_or(Ok(()), Err)
    }

    /// Whether trying again can help.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            ClientError::Connect { .. }
            | ClientError::UnknownBroker { .. }
            | ClientError::Disconnected { .. }
            | ClientError::Timeout { .. }
            | ClientError::NoLeader { .. }
            | ClientError::BufferFull { .. } => ErrorKind::Retriable,
            ClientError::Broker { code, .. } if is_retriable(*code) => ErrorKind::Retriable,
            ClientError::Broker { .. }
            | ClientError::Protocol { .. }
            | ClientError::NoCommonVersion { .. }
            | ClientError::UnknownTopic { .. }
            | ClientError::UnknownPartition { .. }
            | ClientError::NotMember { .. }
            | ClientError::UnknownCode { .. }
            | ClientError::RecordTooLarge { .. }
            | ClientError::DeliveryTimeout { .. }
            | ClientError::CorruptBatch { .. }
            | ClientError::Ended
            | ClientError::Usage(_) => ErrorKind::Fatal,
        }
    }

    /// The broker's error code, where there is one.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            ClientError::Broker { code, .. } => Some(*code),
            _ => None,
        }
    }
}

/// Codes after which the same request may succeed, as the protocol guide marks them.
#[must_use]
pub fn is_retriable(code: ErrorCode) -> bool {
    needs_metadata(code)
        || matches!(
            code,
            ErrorCode::CorruptMessage
                | ErrorCode::RequestTimedOut
                | ErrorCode::NetworkException
                | ErrorCode::CoordinatorLoadInProgress
                | ErrorCode::CoordinatorNotAvailable
                | ErrorCode::NotCoordinator
                | ErrorCode::NotEnoughReplicas
                | ErrorCode::NotController
                | ErrorCode::OffsetNotAvailable
                | ErrorCode::ThrottlingQuotaExceeded
                | ErrorCode::FetchSessionIdNotFound
                | ErrorCode::InvalidFetchSessionEpoch
        )
}

/// Codes that say the client's picture of leaders and topics is old.
#[must_use]
pub fn needs_metadata(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::UnknownTopicOrPartition
            | ErrorCode::LeaderNotAvailable
            | ErrorCode::NotLeaderOrFollower
            | ErrorCode::KafkaStorageError
            | ErrorCode::FencedLeaderEpoch
            | ErrorCode::UnknownLeaderEpoch
            | ErrorCode::UnknownTopicId
            | ErrorCode::InconsistentTopicId
    )
}

/// The tail of a broker error's sentence: its own words where it has any, and what to do.
fn remedy(code: ErrorCode, detail: Option<&str>) -> String {
    let advice = match code {
        ErrorCode::TopicAlreadyExists => "; choose another name or pass --if-not-exists",
        ErrorCode::UnknownTopicOrPartition => "; `highwater topic list` shows what exists",
        ErrorCode::OffsetOutOfRange => "; `highwater topic describe` shows the offsets it has",
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge => {
            "; send smaller records or raise max.message.bytes of the topic"
        }
        ErrorCode::NotEnoughReplicas => "; bring brokers back or lower min.insync.replicas",
        ErrorCode::InvalidConfig => {
            "; `highwater config describe TOPIC --all` shows every key and its value"
        }
        ErrorCode::InvalidReplicationFactor => "; `highwater cluster describe` counts the brokers",
        ErrorCode::InvalidProducerEpoch => {
            "; another producer with this id took over, stop this one"
        }
        ErrorCode::NonEmptyGroup => {
            "; stop its members (`highwater group describe GROUP --members` shows them), or wait \
             until the session of those that crashed has ended, and try again"
        }
        ErrorCode::GroupSubscribedToTopic => {
            "; stop the members that read the topic (`highwater group describe GROUP --members` \
             shows them) and try again"
        }
        ErrorCode::GroupIdNotFound => "; `highwater group list` shows what exists",
        ErrorCode::UnstableOffsetCommit => {
            "; a later commit may be lost with part of the log of offsets: `highwater group \
             accept-loss` shows what is known"
        }
        ErrorCode::GroupMaxSizeReached => {
            "; run fewer members or raise group_members_max of the broker"
        }
        ErrorCode::InconsistentGroupProtocol => {
            "; let all members of the group share an assignor (--assignor)"
        }
        ErrorCode::FencedInstanceId => {
            "; another member runs under the same instance id, stop one of them or rename it"
        }
        ErrorCode::TopicAuthorizationFailed | ErrorCode::ClusterAuthorizationFailed => {
            "; ask whoever runs the cluster for the permission"
        }
        _ if is_retriable(code) => "; try again",
        _ => "",
    };
    match detail {
        Some(detail) => format!(" ({detail}){advice}"),
        None => advice.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_to_do() {
        let exists = ClientError::from_code("topic \"a\"", 36, Some("it is there")).expect("error");
        assert_eq!(
            exists.to_string(),
            "topic \"a\": a topic with this name exists (it is there); \
             choose another name or pass --if-not-exists"
        );
        assert_eq!(exists.kind(), ErrorKind::Fatal);
        let moved = ClientError::from_code("a-0", 6, None).expect("error");
        assert_eq!(moved.kind(), ErrorKind::Retriable);
        let busy = ClientError::from_code("group \"g\"", 68, None).expect("error");
        assert!(busy.to_string().contains("; stop its members"), "{busy}");
        assert!(ClientError::from_code("a-0", 0, None).is_none());
        assert!(ClientError::from_code("a-0", 999, None).is_some());
    }
}

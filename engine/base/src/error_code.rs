//! Kafka's protocol error codes (the table in the Kafka protocol guide), the one place where a
//! number meets its name.

macro_rules! error_codes {
    ($($name:ident = $code:literal, $text:literal, $kafka:literal;)*) => {
        /// A Kafka error code as it goes on the wire.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ErrorCode { $(#[doc = $text] $name = $code,)* }

        impl ErrorCode {
            /// Every code of the table.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$name,)*];

            /// What went wrong, in words.
            #[must_use]
            pub fn message(self) -> &'static str {
                match self { $(ErrorCode::$name => $text,)* }
            }

            /// Kafka's name, for example `NOT_LEADER_OR_FOLLOWER`.
            #[must_use]
            pub fn kafka_name(self) -> &'static str {
                match self { $(ErrorCode::$name => $kafka,)* }
            }

            /// The code with this number, if the table has it.
            #[must_use]
            pub fn from_code(code: i16) -> Option<ErrorCode> {
                match code { $($code => Some(ErrorCode::$name),)* _ => None }
            }
        }
    };
}

error_codes! {
    UnknownServerError = -1, "unexpected server error", "UNKNOWN_SERVER_ERROR";
    None = 0, "no error", "NONE";
    OffsetOutOfRange = 1, "the offset lies outside the partition's log", "OFFSET_OUT_OF_RANGE";
    CorruptMessage = 2, "the record batch is corrupt or its CRC does not match", "CORRUPT_MESSAGE";
    UnknownTopicOrPartition = 3,
        "this server does not host this topic-partition",
        "UNKNOWN_TOPIC_OR_PARTITION";
    InvalidFetchSize = 4, "the fetch size is invalid", "INVALID_FETCH_SIZE";
    LeaderNotAvailable = 5,
        "there is no leader for this topic-partition yet",
        "LEADER_NOT_AVAILABLE";
    NotLeaderOrFollower = 6,
        "this broker is not the leader of this topic-partition",
        "NOT_LEADER_OR_FOLLOWER";
    RequestTimedOut = 7, "the request timed out", "REQUEST_TIMED_OUT";
    MessageTooLarge = 10,
        "the record batch is larger than max.message.bytes allows",
        "MESSAGE_TOO_LARGE";
    OffsetMetadataTooLarge = 12,
        "the metadata of the committed offset is longer than offset.metadata.max.bytes",
        "OFFSET_METADATA_TOO_LARGE";
    NetworkException = 13, "the connection was lost before a response came", "NETWORK_EXCEPTION";
    CoordinatorLoadInProgress = 14, "the coordinator is loading", "COORDINATOR_LOAD_IN_PROGRESS";
    CoordinatorNotAvailable = 15, "the coordinator is not available", "COORDINATOR_NOT_AVAILABLE";
    NotCoordinator = 16, "this is not the right coordinator", "NOT_COORDINATOR";
    InvalidTopicException = 17, "the topic name is invalid", "INVALID_TOPIC_EXCEPTION";
    RecordListTooLarge = 18,
        "the request holds a larger batch than a segment can",
        "RECORD_LIST_TOO_LARGE";
    NotEnoughReplicas = 19, "too few replicas are in sync", "NOT_ENOUGH_REPLICAS";
    InvalidRequiredAcks = 21, "acks must be -1, 0 or 1", "INVALID_REQUIRED_ACKS";
    IllegalGeneration = 22,
        "the generation is not the group's current one",
        "ILLEGAL_GENERATION";
    InconsistentGroupProtocol = 23,
        "the member's protocol type or protocols do not match those of the group",
        "INCONSISTENT_GROUP_PROTOCOL";
    InvalidGroupId = 24, "the group id is invalid", "INVALID_GROUP_ID";
    UnknownMemberId = 25, "the group has no such member", "UNKNOWN_MEMBER_ID";
    InvalidSessionTimeout = 26, "the session timeout is out of range", "INVALID_SESSION_TIMEOUT";
    RebalanceInProgress = 27, "the group is rebalancing, join it again", "REBALANCE_IN_PROGRESS";
    InvalidCommitOffsetSize = 28,
        "the commit is too large for the log of offsets",
        "INVALID_COMMIT_OFFSET_SIZE";
    TopicAuthorizationFailed = 29, "topic authorisation failed", "TOPIC_AUTHORIZATION_FAILED";
    GroupAuthorizationFailed = 30, "group authorisation failed", "GROUP_AUTHORIZATION_FAILED";
    ClusterAuthorizationFailed = 31, "cluster authorisation failed", "CLUSTER_AUTHORIZATION_FAILED";
    InvalidTimestamp = 32,
        "the timestamp lies outside the range the topic accepts",
        "INVALID_TIMESTAMP";
    UnsupportedVersion = 35, "this version of the request is not supported", "UNSUPPORTED_VERSION";
    TopicAlreadyExists = 36, "a topic with this name exists", "TOPIC_ALREADY_EXISTS";
    InvalidPartitions = 37, "the number of partitions is invalid", "INVALID_PARTITIONS";
    InvalidReplicationFactor = 38,
        "the replication factor is below 1 or above the number of brokers",
        "INVALID_REPLICATION_FACTOR";
    InvalidReplicaAssignment = 39,
        "the replica assignment is invalid",
        "INVALID_REPLICA_ASSIGNMENT";
    InvalidConfig = 40, "the configuration is invalid", "INVALID_CONFIG";
    NotController = 41, "this is not the controller", "NOT_CONTROLLER";
    InvalidRequest = 42, "the request is malformed or contradicts itself", "INVALID_REQUEST";
    UnsupportedForMessageFormat = 43,
        "the message format does not support this request",
        "UNSUPPORTED_FOR_MESSAGE_FORMAT";
    PolicyViolation = 44, "the request violates a policy", "POLICY_VIOLATION";
    OutOfOrderSequenceNumber = 45,
        "the producer's sequence number is out of order",
        "OUT_OF_ORDER_SEQUENCE_NUMBER";
    DuplicateSequenceNumber = 46,
        "the producer's sequence number was seen before",
        "DUPLICATE_SEQUENCE_NUMBER";
    InvalidProducerEpoch = 47,
        "the producer's epoch is older than a later one",
        "INVALID_PRODUCER_EPOCH";
    InvalidTxnState = 48, "the transaction is in the wrong state for this", "INVALID_TXN_STATE";
    InvalidProducerIdMapping = 49,
        "the producer id does not belong to this transactional id",
        "INVALID_PRODUCER_ID_MAPPING";
    InvalidTransactionTimeout = 50,
        "the transaction timeout exceeds what the broker allows",
        "INVALID_TRANSACTION_TIMEOUT";
    TransactionalIdAuthorizationFailed = 53,
        "transactional id authorisation failed", "TRANSACTIONAL_ID_AUTHORIZATION_FAILED";
    OperationNotAttempted = 55,
        "the operation was not attempted because another of the request failed",
        "OPERATION_NOT_ATTEMPTED";
    KafkaStorageError = 56, "the disk cannot take this request now", "KAFKA_STORAGE_ERROR";
    LogDirNotFound = 57, "the broker has no such log directory", "LOG_DIR_NOT_FOUND";
    UnknownProducerId = 59, "the producer id is unknown", "UNKNOWN_PRODUCER_ID";
    NonEmptyGroup = 68, "the group has members", "NON_EMPTY_GROUP";
    GroupIdNotFound = 69, "there is no such group", "GROUP_ID_NOT_FOUND";
    FetchSessionIdNotFound = 70, "the fetch session is unknown", "FETCH_SESSION_ID_NOT_FOUND";
    InvalidFetchSessionEpoch = 71,
        "the fetch session epoch is out of order",
        "INVALID_FETCH_SESSION_EPOCH";
    FencedLeaderEpoch = 74,
        "the leader epoch in the request is older than the broker's",
        "FENCED_LEADER_EPOCH";
    UnknownLeaderEpoch = 75,
        "the leader epoch in the request is newer than the broker's",
        "UNKNOWN_LEADER_EPOCH";
    UnsupportedCompressionType = 76,
        "the compression type is not supported",
        "UNSUPPORTED_COMPRESSION_TYPE";
    OffsetNotAvailable = 78, "the offset is not known yet", "OFFSET_NOT_AVAILABLE";
    MemberIdRequired = 79,
        "the member has to join again with the id it was given",
        "MEMBER_ID_REQUIRED";
    GroupMaxSizeReached = 81,
        "the group has as many members as group.max.size allows",
        "GROUP_MAX_SIZE_REACHED";
    FencedInstanceId = 82,
        "another member with the same group.instance.id has replaced this one",
        "FENCED_INSTANCE_ID";
    GroupSubscribedToTopic = 86,
        "the group is subscribed to the topic",
        "GROUP_SUBSCRIBED_TO_TOPIC";
    InvalidRecord = 87, "the record was refused by validation", "INVALID_RECORD";
    UnstableOffsetCommit = 88,
        "there are commits to the offset that are not settled, ask again",
        "UNSTABLE_OFFSET_COMMIT";
    ThrottlingQuotaExceeded = 89, "the quota is exceeded", "THROTTLING_QUOTA_EXCEEDED";
    UnknownTopicId = 100, "this server does not host this topic id", "UNKNOWN_TOPIC_ID";
    InconsistentTopicId = 103,
        "the topic id does not match the topic's name",
        "INCONSISTENT_TOPIC_ID";
    FetchSessionTopicIdError = 106,
        "the fetch session mixes topic ids and names",
        "FETCH_SESSION_TOPIC_ID_ERROR";
    StaleMemberEpoch = 113,
        "the member's epoch is older than the group's",
        "STALE_MEMBER_EPOCH";
    MismatchedEndpointType = 114,
        "the request is meant for another type of endpoint",
        "MISMATCHED_ENDPOINT_TYPE";
    UnsupportedEndpointType = 115,
        "this type of endpoint is not known",
        "UNSUPPORTED_ENDPOINT_TYPE";
}

impl ErrorCode {
    /// The number on the wire.
    #[must_use]
    pub fn code(self) -> i16 {
        self as i16
    }
}

#[cfg(test)]
mod tests {
    use super::ErrorCode;

    #[test]
    fn numbers_round_trip() {
        for &code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_code(code.code()), Some(code));
        }
        assert_eq!(ErrorCode::from_code(12_345), None);
    }
}

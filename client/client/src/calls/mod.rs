//! Requests with one owned answer each: what to encode, how to read the answer.
//!
//! A [`Call`] hides versions and wire types from its caller. Produce and Fetch are not calls: their
//! bytes belong to the producer's and the consumer's state machines.

mod attempts;
mod cluster;
mod configs;
mod group_admin;
mod group_membership;
mod group_offsets;
mod group_standing;
mod log_dirs;
mod metadata;
mod offsets;
mod producer_id;
mod topics;
mod versions;

pub use attempts::{AfterFailure, Attempts};
pub use cluster::{ClusterDescription, DescribeCluster, DescribedBroker};
pub use configs::{
    AlterConfig, AlterConfigs, ConfigEntry, ConfigOperation, ConfigResource, ConfigSource,
    DescribeConfigs,
};
pub use group_admin::{
    DeleteGroup, DescribeGroup, DescribedGroup, DescribedMember, GroupList, ListGroups, ListedGroup,
};
pub use group_membership::{
    Coordinator, FindCoordinator, Heartbeat, JoinGroup, JoinOutcome, JoinedGroup, JoinedMember,
    LeaveGroup, PROTOCOL_TYPE, SyncGroup,
};
pub use group_offsets::{
    CommittedOffset, GENERATION_NONE, OffsetCommit, OffsetDelete, OffsetFetch, PartitionResults,
};
pub use group_standing::{FetchStanding, GroupStanding, Standing};
pub use log_dirs::{DescribeLogDirs, PartitionOnDisk};
pub use metadata::FetchMetadata;
pub use offsets::{DeleteRecords, ListOffsets, OffsetAt, OffsetSpec};
pub use producer_id::{InitProducerId, ProducerIdentity};
pub use topics::{CreatePartitions, CreateTopic, CreatedTopic, DeleteTopic};
pub use versions::{ApiVersions, BrokerVersions};

use highwater_base::ErrorCode;
use highwater_wire::{ApiKey, DecodeError, EncodeError};

use crate::error::ClientError;

/// How long the broker may take for a change of topics, in ms.
pub(crate) const CHANGE_TIMEOUT_MS: i32 = 30_000;

/// Why an answer is an error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// Bytes that do not decode.
    #[error("{0}")]
    Decode(#[from] DecodeError),
    /// An answer that leaves out what was asked for.
    #[error("the answer does not mention {0}")]
    Missing(String),
    /// The broker refused.
    #[error("{0}")]
    Refused(#[from] ClientError),
}

/// A request and how to read its answer.
pub trait Call {
    /// The API it uses.
    const API: ApiKey;
    /// Highest version this implementation speaks; the wire crate's table bounds it further.
    const VERSION_MAX: i16 = i16::MAX;
    /// What comes back.
    type Answer;

    /// Appends the body.
    ///
    /// # Errors
    /// A field that does not fit its length prefix.
    fn encode(&self, version: i16, out: &mut Vec<u8>) -> Result<(), EncodeError>;

    /// Reads the answer's body.
    ///
    /// # Errors
    /// Bytes that do not decode, or the broker's refusal.
    fn decode(&self, version: i16, body: &[u8]) -> Result<Self::Answer, AnswerError>;

    /// The answer, where a refusal with `code` says that what is asked for is already so. It counts
    /// only after an attempt whose answer was lost: that one did it.
    fn found_done(&self, _code: ErrorCode) -> Option<Self::Answer> {
        None
    }

    /// The topic that success makes. Brokers may not know it at once, so it is waited for.
    fn made_topic(&self) -> Option<&str> {
        None
    }
}

/// Which broker answers a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Any broker there is a connection to.
    Any,
    /// The broker that takes changes.
    Controller,
    /// This one.
    Broker(i32),
}

/// The owned form of a nullable string.
pub(crate) fn owned(text: Option<&str>) -> Option<String> {
    text.map(String::from)
}

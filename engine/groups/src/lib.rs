//! Consumer groups: membership, rebalances and committed offsets of the classic protocol, as state
//! machines without I/O.
//!
//! One [`Coordinator`] serves the partitions of `__consumer_offsets` that its core owns, and with
//! them the groups whose ids hash there. Everything that gates an answer is first a record in that
//! partition, in Kafka's own key and value format; the host appends what the [`Outbox`] holds, says
//! when it is durable, and hands the log back at a start.
//!
//! It does not know connections, API versions or cores: the host turns requests of the wire into
//! [`GroupRequest`] and answers into frames.

#![forbid(unsafe_code)]

mod answer;
mod coordinator;
mod damage;
mod describe;
mod expiry;
mod group;
mod join;
mod load;
mod log_records;
mod member;
mod offsets;
mod partition;
mod partitioning;
mod rebalance;
mod request;
mod slot;
mod snapshot;
mod subscription;
mod sync;
mod timers;
mod turn;

pub use answer::{
    DescribedGroup, DescribedMember, FetchedOffset, GroupAnswer, GroupOffsets, JoinAnswer,
    JoinedMember, LeftMember, ListedGroup, PartitionResults, SyncAnswer,
};
pub use coordinator::{Coordinator, GroupConfig, Outbox, Output, Ticket, WriteId};
pub use damage::DamagedPartition;
pub use describe::{CommittedEntry, GroupSummary, GroupView, MemberSummary};
pub use group::GroupState;
pub use log_records::decode_key as decode_log_key;
pub use log_records::{Key as LogKey, StoredGroup, StoredMember, StoredOffset};
pub use partitioning::offsets_partition;
pub use request::{
    CommitRequest, CommittedOffset, GroupRequest, JoinRequest, LeavingMember, MemberIdentity,
    Protocol, SyncRequest,
};
pub use turn::GroupCounters;

/// Name of the topic that holds group metadata and committed offsets.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

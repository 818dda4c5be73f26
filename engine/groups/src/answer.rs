//! What a coordinator answers, free of API versions.

use std::sync::Arc;

use highwater_base::ErrorCode;

use crate::request::CommittedOffset;

/// The answer to one [`crate::GroupRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupAnswer {
    Join(JoinAnswer),
    Sync(SyncAnswer),
    Heartbeat(ErrorCode),
    /// `error` is about the group; each member has its own besides.
    Leave {
        error: ErrorCode,
        members: Vec<LeftMember>,
    },
    /// One code per partition, in the order of the request.
    Commit(Vec<PartitionResults>),
    FetchOffsets(GroupOffsets),
    DeleteOffsets {
        error: ErrorCode,
        topics: Vec<PartitionResults>,
    },
    List {
        error: ErrorCode,
        groups: Vec<ListedGroup>,
    },
    Describe(DescribedGroup),
    Delete(ErrorCode),
}

/// Codes of the partitions of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionResults {
    pub topic: Arc<str>,
    pub partitions: Vec<(i32, ErrorCode)>,
}

/// JoinGroup: a member of the new generation, or why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinAnswer {
    pub error: ErrorCode,
    pub generation: i32,
    pub protocol_type: Option<String>,
    pub protocol_name: Option<String>,
    pub leader: String,
    pub skip_assignment: bool,
    pub member: String,
    /// For the leader: everyone with the metadata of the chosen protocol. Empty for the others.
    pub members: Vec<JoinedMember>,
}

/// One member as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    pub member: String,
    pub instance: Option<String>,
    pub metadata: Vec<u8>,
}

/// SyncGroup: the member's share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncAnswer {
    pub error: ErrorCode,
    pub protocol_type: Option<String>,
    pub protocol_name: Option<String>,
    pub assignment: Vec<u8>,
}

/// LeaveGroup: what became of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftMember {
    pub member: String,
    pub instance: Option<String>,
    pub error: ErrorCode,
}

/// OffsetFetch of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOffsets {
    pub error: ErrorCode,
    /// In the order of the request, or by name when all were asked for.
    pub topics: Vec<(Arc<str>, Vec<FetchedOffset>)>,
}

/// One partition of it. Without a commit the offset is -1, the epoch -1, the metadata empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedOffset {
    pub error: ErrorCode,
    pub committed: CommittedOffset,
}

/// ListGroups: one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGroup {
    pub group: String,
    pub protocol_type: String,
    /// Kafka's name: `Empty`, `PreparingRebalance`, `CompletingRebalance`, `Stable` or `Dead`.
    pub state: &'static str,
    /// `classic`.
    pub group_type: &'static str,
}

/// DescribeGroups: one group. One that does not exist is `Dead` (before version 6 without an error;
/// from 6 on the host answers GROUP_ID_NOT_FOUND).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedGroup {
    pub error: ErrorCode,
    pub group: String,
    pub state: &'static str,
    pub protocol_type: String,
    /// The protocol in force; empty unless the group is stable.
    pub protocol: String,
    pub members: Vec<DescribedMember>,
}

/// One member of it. Metadata and assignment are empty unless the group is stable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedMember {
    pub member: String,
    pub instance: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub metadata: Vec<u8>,
    pub assignment: Vec<u8>,
}

//! What a client asks of a group, free of API versions. Where older versions lack a field, the host
//! fills in what Kafka's documentation gives as its default.

use std::sync::Arc;

use highwater_base::ErrorCode;

use crate::answer::PartitionResults;

/// One request to the coordinator of one group. Each gets exactly one answer, of the variant with
/// the matching name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupRequest {
    /// JoinGroup (key 11).
    Join(JoinRequest),
    /// SyncGroup (key 14).
    Sync(SyncRequest),
    /// Heartbeat (key 12).
    Heartbeat(MemberIdentity),
    /// LeaveGroup (key 13); one member before version 3.
    Leave {
        group: String,
        members: Vec<LeavingMember>,
    },
    /// OffsetCommit (key 8). The host has already refused topics that do not exist.
    Commit(CommitRequest),
    /// OffsetFetch (key 9) of one group; `None` asks for all its topics. `member` is empty and
    /// `member_epoch` -1 for classic groups.
    FetchOffsets {
        group: String,
        member: String,
        member_epoch: i32,
        topics: Option<Vec<(Arc<str>, Vec<i32>)>>,
        require_stable: bool,
    },
    /// OffsetDelete (key 47).
    DeleteOffsets {
        group: String,
        topics: Vec<(Arc<str>, Vec<i32>)>,
    },
    /// ListGroups (key 16): the groups of every partition of this coordinator that is loaded. Empty
    /// filters let everything pass; names compare without regard to case.
    List {
        states: Vec<String>,
        types: Vec<String>,
        protocol_types: Vec<String>,
    },
    /// DescribeGroups (key 15) of one group.
    Describe { group: String },
    /// DeleteGroups (key 42) of one group.
    Delete { group: String },
}

impl GroupRequest {
    /// The group it is about; empty for List.
    #[must_use]
    pub fn group(&self) -> &str {
        match self {
            GroupRequest::Join(join) => &join.group,
            GroupRequest::Sync(sync) => &sync.identity.group,
            GroupRequest::Heartbeat(identity) => &identity.group,
            GroupRequest::Commit(commit) => &commit.identity.group,
            GroupRequest::Leave { group, .. }
            | GroupRequest::FetchOffsets { group, .. }
            | GroupRequest::DeleteOffsets { group, .. }
            | GroupRequest::Describe { group }
            | GroupRequest::Delete { group } => group,
            GroupRequest::List { .. } => "",
        }
    }

    /// Membership needs a group with a name; offsets may belong to the one without, which old
    /// clients used.
    pub(crate) fn needs_group_id(&self) -> bool {
        matches!(
            self,
            GroupRequest::Join(_)
                | GroupRequest::Sync(_)
                | GroupRequest::Heartbeat(_)
                | GroupRequest::Leave { .. }
        )
    }
}

impl CommitRequest {
    /// The same code for each of its partitions.
    pub(crate) fn results(&self, error: ErrorCode) -> Vec<PartitionResults> {
        let topics = self.offsets.iter();
        let results = topics.map(|(topic, offsets)| PartitionResults {
            topic: Arc::clone(topic),
            partitions: offsets.iter().map(|o| (o.partition, error)).collect(),
        });
        results.collect()
    }
}

/// Who a request says it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberIdentity {
    pub group: String,
    pub generation: i32,
    pub member: String,
    /// `group.instance.id` of a static member (KIP-345).
    pub instance: Option<String>,
}

/// A protocol a member supports: an assignor's name and its opaque subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protocol {
    pub name: String,
    pub metadata: Vec<u8>,
}

/// JoinGroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinRequest {
    pub group: String,
    /// Empty for a member that has no id yet.
    pub member: String,
    pub instance: Option<String>,
    pub client_id: String,
    /// As Kafka shows it: `/127.0.0.1`.
    pub client_host: String,
    pub session_timeout_ms: i32,
    pub rebalance_timeout_ms: i32,
    /// Opaque: `consumer`, `connect` and others.
    pub protocol_type: String,
    /// In the member's order of preference.
    pub protocols: Vec<Protocol>,
    /// Version 4 and later: a member without an id is first told one (KIP-394).
    pub require_known_member: bool,
    /// Version 9 and later: a static leader that comes back may be told to skip the assignment
    /// (KIP-814).
    pub supports_skipping_assignment: bool,
    pub reason: Option<String>,
}

/// SyncGroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncRequest {
    pub identity: MemberIdentity,
    /// Version 5 and later (KIP-559).
    pub protocol_type: Option<String>,
    pub protocol_name: Option<String>,
    /// From the leader: member id and opaque assignment.
    pub assignments: Vec<(String, Vec<u8>)>,
}

/// A member that leaves, by id or by `group.instance.id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeavingMember {
    pub member: String,
    pub instance: Option<String>,
    pub reason: Option<String>,
}

/// OffsetCommit. Generation -1 and an empty member are a consumer that manages its partitions itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitRequest {
    pub identity: MemberIdentity,
    pub offsets: Vec<(Arc<str>, Vec<CommittedOffset>)>,
}

/// One partition of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    pub partition: i32,
    pub offset: i64,
    /// -1 for none.
    pub leader_epoch: i32,
    pub metadata: String,
}

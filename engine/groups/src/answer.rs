//! What a coordinator answers, free of API versions.

use std::sync::Arc;

use highwater_base::ErrorCode;

use crate::request::{CommittedOffset, GroupRequest, LeavingMember};

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

impl GroupAnswer {
    pub(crate) fn join_failed(member: &str, error: ErrorCode) -> GroupAnswer {
        GroupAnswer::Join(JoinAnswer::failed(member, error))
    }

    pub(crate) fn sync_failed(error: ErrorCode) -> GroupAnswer {
        GroupAnswer::Sync(SyncAnswer::failed(error))
    }

    /// What a request gets that is not looked at further.
    pub(crate) fn refusal(request: &GroupRequest, error: ErrorCode) -> GroupAnswer {
        match request {
            GroupRequest::Join(join) => GroupAnswer::join_failed(&join.member, error),
            GroupRequest::Sync(_) => GroupAnswer::sync_failed(error),
            GroupRequest::Heartbeat(_) => GroupAnswer::Heartbeat(error),
            GroupRequest::Leave { members, .. } => GroupAnswer::left_nothing(members, error),
            GroupRequest::Commit(commit) => GroupAnswer::Commit(commit.results(error)),
            GroupRequest::FetchOffsets { .. } => GroupAnswer::FetchOffsets(GroupOffsets {
                error,
                topics: Vec::new(),
            }),
            GroupRequest::DeleteOffsets { .. } => GroupAnswer::DeleteOffsets {
                error,
                topics: Vec::new(),
            },
            GroupRequest::List { .. } => GroupAnswer::List {
                error,
                groups: Vec::new(),
            },
            GroupRequest::Describe { group } => {
                GroupAnswer::Describe(DescribedGroup::without_members(group, "", error))
            }
            GroupRequest::Delete { .. } => GroupAnswer::Delete(error),
        }
    }

    /// A group that does not exist has no members to leave it; any other error is the group's.
    fn left_nothing(members: &[LeavingMember], error: ErrorCode) -> GroupAnswer {
        if error != ErrorCode::UnknownMemberId {
            return GroupAnswer::Leave {
                error,
                members: Vec::new(),
            };
        }
        let members = members.iter().map(|member| LeftMember {
            member: member.member.clone(),
            instance: member.instance.clone(),
            error,
        });
        GroupAnswer::Leave {
            error: ErrorCode::None,
            members: members.collect(),
        }
    }

    /// What was to be written was not: everything that would have succeeded has failed.
    pub(crate) fn fail(&mut self, error: ErrorCode) {
        match self {
            GroupAnswer::Commit(topics) => fail_partitions(topics, error),
            GroupAnswer::DeleteOffsets {
                error: of_group,
                topics,
            } => {
                *of_group = error;
                fail_partitions(topics, error);
            }
            GroupAnswer::Delete(code) | GroupAnswer::Heartbeat(code) => *code = error,
            GroupAnswer::Join(join) => *join = JoinAnswer::failed(&join.member, error),
            GroupAnswer::Sync(sync) => *sync = SyncAnswer::failed(error),
            GroupAnswer::Leave { error: code, .. } | GroupAnswer::List { error: code, .. } => {
                *code = error;
            }
            GroupAnswer::FetchOffsets(offsets) => offsets.error = error,
            GroupAnswer::Describe(group) => group.error = error,
        }
    }
}

fn fail_partitions(topics: &mut [PartitionResults], error: ErrorCode) {
    for (_, code) in topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
        if *code == ErrorCode::None {
            *code = error;
        }
    }
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

impl JoinAnswer {
    /// A join that was refused.
    #[must_use]
    pub fn failed(member: &str, error: ErrorCode) -> JoinAnswer {
        JoinAnswer {
            error,
            generation: -1,
            protocol_type: None,
            protocol_name: None,
            leader: String::new(),
            skip_assignment: false,
            member: member.to_owned(),
            members: Vec::new(),
        }
    }
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

impl SyncAnswer {
    /// A sync that was refused.
    #[must_use]
    pub fn failed(error: ErrorCode) -> SyncAnswer {
        SyncAnswer {
            error,
            protocol_type: None,
            protocol_name: None,
            assignment: Vec::new(),
        }
    }
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

impl DescribedGroup {
    pub(crate) fn without_members(
        group: &str,
        state: &'static str,
        error: ErrorCode,
    ) -> DescribedGroup {
        DescribedGroup {
            error,
            group: group.to_owned(),
            state,
            protocol_type: String::new(),
            protocol: String::new(),
            members: Vec::new(),
        }
    }
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

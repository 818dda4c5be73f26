//! Groups from outside: which there are, who is in them, and removing them.

use highwater_base::ErrorCode;
use highwater_wire::delete_groups::{DeleteGroupsRequest, DeleteGroupsResponse};
use highwater_wire::describe_groups::{
    DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroupMember,
};
use highwater_wire::list_groups::{ListGroupsRequest, ListGroupsResponse};
use highwater_wire::{ApiKey, Array, EncodeError};

use super::group_membership::{PROTOCOL_TYPE, group_subject};
use super::{AnswerError, Call, owned};
use crate::error::ClientError;
use crate::group::{Assignment, TopicPartition};

/// Lists the groups that one broker coordinates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListGroups {
    /// Only groups in one of these states; empty for all. Brokers before version 4 do not filter.
    pub states: Vec<String>,
}

/// A group in a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListedGroup {
    pub group: String,
    /// "consumer" for consumer groups.
    pub protocol_type: String,
    /// Empty when the broker's version does not tell.
    pub state: String,
    /// "classic" or "consumer"; empty when the broker's version does not tell.
    pub kind: String,
}

/// What one broker tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupList {
    pub groups: Vec<ListedGroup>,
    /// False when there may be more, because part of the broker's log of offsets is lost.
    pub is_complete: bool,
}

impl Call for ListGroups {
    const API: ApiKey = ApiKey::ListGroups;
    type Answer = GroupList;

    fn encode(&self, version: i16, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let states: Vec<&str> = self.states.iter().map(String::as_str).collect();
        ListGroupsRequest {
            states_filter: Array::from(&states),
            ..Default::default()
        }
        .encode(version, out)
    }

    fn decode(&self, version: i16, body: &[u8]) -> Result<GroupList, AnswerError> {
        let response = ListGroupsResponse::parse(version, body)?;
        let is_complete = response.error_code != ErrorCode::KafkaStorageError.code();
        if is_complete {
            ClientError::check("the list of groups", response.error_code, None)?;
        }
        let groups = response.groups.iter().map(|group| ListedGroup {
            group: group.group_id.to_string(),
            protocol_type: group.protocol_type.to_string(),
            state: group.group_state.to_string(),
            kind: group.group_type.to_string(),
        });
        Ok(GroupList {
            groups: groups.collect(),
            is_complete,
        })
    }
}

/// Describes one group; ask its coordinator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DescribeGroup {
    pub group: String,
}

/// A group and its members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DescribedGroup {
    /// "Stable", "Empty", "PreparingRebalance", "CompletingRebalance" or "Dead".
    pub state: String,
    pub protocol_type: String,
    /// The assignor of the present generation.
    pub protocol: String,
    pub members: Vec<DescribedMember>,
}

/// A member of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DescribedMember {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    /// What it works on; empty where the group is not one of consumers.
    pub assigned: Vec<TopicPartition>,
}

impl DescribedGroup {
    /// Whether the coordinator does not know the group.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.state == "Dead"
    }
}

fn described_member(member: &DescribedGroupMember<'_>, is_consumer: bool) -> DescribedMember {
    // Bytes that are no assignment are another kind of client's: it works on no partition we know.
    let assignment = match is_consumer {
        true => Assignment::decode(member.member_assignment).unwrap_or_default(),
        false => Assignment::default(),
    };
    DescribedMember {
        member_id: member.member_id.to_string(),
        instance_id: owned(member.group_instance_id),
        client_id: member.client_id.to_string(),
        client_host: member.client_host.to_string(),
        assigned: assignment.partitions,
    }
}

impl Call for DescribeGroup {
    const API: ApiKey = ApiKey::DescribeGroups;
    type Answer = DescribedGroup;

    fn encode(&self, version: i16, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let groups = [self.group.as_str()];
        DescribeGroupsRequest {
            groups: Array::from(&groups),
            include_authorized_operations: false,
        }
        .encode(version, out)
    }

    fn decode(&self, version: i16, body: &[u8]) -> Result<DescribedGroup, AnswerError> {
        let response = DescribeGroupsResponse::parse(version, body)?;
        let subject = group_subject(&self.group);
        let group = response
            .groups
            .iter()
            .find(|one| one.group_id == self.group);
        let group = group.ok_or_else(|| AnswerError::Missing(subject.clone()))?;
        // From version 6 on a group that does not exist is an error, before it was a dead one.
        if group.error_code != ErrorCode::GroupIdNotFound.code() {
            ClientError::check(&subject, group.error_code, None)?;
        }
        let is_consumer = group.protocol_type == PROTOCOL_TYPE;
        let members = group.members.iter();
        Ok(DescribedGroup {
            state: group.group_state.to_string(),
            protocol_type: group.protocol_type.to_string(),
            protocol: group.protocol_data.to_string(),
            members: members
                .map(|one| described_member(&one, is_consumer))
                .collect(),
        })
    }
}

/// Deletes one group that has no members, with all its committed offsets; ask its coordinator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteGroup {
    pub group: String,
}

impl Call for DeleteGroup {
    const API: ApiKey = ApiKey::DeleteGroups;
    type Answer = ();

    fn encode(&self, version: i16, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let names = [self.group.as_str()];
        DeleteGroupsRequest {
            groups_names: Array::from(&names),
        }
        .encode(version, out)
    }

    fn decode(&self, version: i16, body: &[u8]) -> Result<(), AnswerError> {
        let response = DeleteGroupsResponse::parse(version, body)?;
        let subject = group_subject(&self.group);
        let result = response
            .results
            .iter()
            .find(|one| one.group_id == self.group);
        let result = result.ok_or_else(|| AnswerError::Missing(subject.clone()))?;
        ClientError::check(&subject, result.error_code, None)?;
        Ok(())
    }

    fn found_done(&self, code: ErrorCode) -> Option<()> {
        (code == ErrorCode::GroupIdNotFound).then_some(())
    }
}

//! The requests of a group's member: find the coordinator, join, synchronise, heartbeat, leave.

use highwater_base::ErrorCode;
use highwater_wire::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use highwater_wire::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use highwater_wire::join_group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse, JoinGroupResponseMember,
};
use highwater_wire::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberIdentity};
use highwater_wire::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse};
use highwater_wire::{ApiKey, Array, EncodeError};

use super::{AnswerError, Call, owned};
use crate::error::ClientError;

/// What all members of a consumer group say they are.
pub const PROTOCOL_TYPE: &str = "consumer";

/// The key type of groups in FindCoordinator.
const KEY_TYPE_GROUP: i8 = 0;

/// How errors call a group.
pub(crate) fn group_subject(group: &str) -> String {
    format!("group {group:?}")
}

/// Asks which broker coordinates a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FindCoordinator {
    pub group: String,
}

/// The broker that coordinates a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coordinator {
    pub id: i32,
    pub host: String,
    pub port: u16,
}

impl Coordinator {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl Call for FindCoordinator {
    const API: ApiKey = ApiKey::FindCoordinator;
    type Answer = Coordinator;

    fn encode(&self, version: i16, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let keys = [self.group.as_str()];
        FindCoordinatorRequest {
            key: &self.group,
            key_type: KEY_TYPE_GROUP,
            coordinator_keys: Array::from(&keys),
        }
        .encode(version, out)
    }

    fn decode(&self, version: i16, body: &[u8]) -> Result<Coordinator, AnswerError> {
        let response = FindCoordinatorResponse::parse(version, body)?;
        let subject = group_subject(&self.group);
        let found = response
            .coordinators
            .iter()
            .find(|one| one.key == self.group);
        let (code, message, id, host, port) = match found {
            Some(one) => (
                one.error_code,
                one.error_message,
                one.node_id,
                one.host,
                one.port,
            ),
            None if version < 4 => (
                response.error_code,
                response.error_message,
                response.node_id,
                response.host,
                response.port,
            ),
            None => return Err(AnswerError::Missing(subject)),
        };
        ClientError::check(&subject, code, message)?;
        let port = u16::try_from(port)
            .map_err(|_| AnswerError::Missing(format!("a port of the coordinator of {subject}")))?;
        let host = host.to_string();
        Ok(Coordinator { id, host, port })
    }
}

/// Joins a group, or joins it again for a rebalance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JoinGroup {
    pub group: String,
    /// Empty the first time.
    pub member_id: String,
    pub instance_id: Option<String>,
    pub session_timeout_ms: i32,
    pub rebalance_timeout_ms: i32,
    /// Name of each supported assignor, best first, and the subscription for it.
    pub protocols: Vec<(String, Vec<u8>)>,
    /// Why, for the broker's log.
    pub reason: Option<String>,
}

/// What JoinGroup came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinOutcome {
    /// The id to join with.
    MemberIdRequired {
        member_id: String,
    },
    Joined(JoinedGroup),
}

/// A generation of a group, as a member sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JoinedGroup {
    pub generation: i32,
    /// The assignor that all members support.
    pub protocol: String,
    pub leader: String,
    pub member_id: String,
    /// All members; empty for all but the leader.
    pub members: Vec<JoinedMember>,
    /// The leader keeps the group's assignment: a static one came back (KIP-814).
    pub skip_assignment: bool,
}

/// A member as the leader is told of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JoinedMember {
    pub member_id: String,
    pub instance_id: Option<String>,
    /// Its subscription.
    pub metadata: Vec<u8>,
}

fn joined_member(member: JoinGroupResponseMember<'_>) -> JoinedMember {
    JoinedMember {
        member_id: member.member_id.to_string(),
        instance_id: owned(member.group_instance_id),
        metadata: member.metadata.to_vec(),
    }
}

impl Call for JoinGroup {
    const API: ApiKey = ApiKey::JoinGroup;
    type Answer = JoinOutcome;

    fn encode(&self, version: i16, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let protocols: Vec<JoinGroupRequestProtocol<'_>> = self
            .protocols
            .iter()
            .map(|(name, metadata)| JoinGroupRequestProtocol { name, metadata })
            .collect();
        JoinGroupRequest {
            group_id: &self.group,
            session_timeout_ms: self.session_timeout_ms,
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            member_id: &self.member_id,
            group_instance_id: self.instance_id.as_deref(),
            protocol_type: PROTOCOL_TYPE,
            protocols: Array::from(&protocols),
            reason: self.reason.as_deref(),
        }
        .encode(version, out)
    }

    fn decode(&self, version: i16, body: &[u8]) -> Result<JoinOutcome, AnswerError> {
        let response = JoinGroupResponse::parse(version, body)?;
        let member_id = response.member_id.to_string();
        if response.error_code == ErrorCode::MemberIdRequired.code() {
            return Ok(JoinOutcome::MemberIdRequired { member_id });
        }
        ClientError::check(&group_subject(&self.group), response.error_code, None)?;
        Ok(JoinOutcome::Joined(JoinedGroup {
            generation: response.generation_id,
            protocol: response.protocol_name.unwrap_or_default().to_string(),
            leader: response.leader.to_string(),
            member_id,
            members: response.members.iter().map(joined_member).collect(),
            skip_assignment: response.skip_assignment,
        }))
    }
}

/// Hands in everybody's assignment (the leader) and gets one's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncGroup {
    pub group: String,
    pub generation: i32,
    pub member_id: String,
    pub instance_id: Option<String>,
    /// The assignor of this generation.
    pub protocol: String,
    /// By member id; empty for all but the leader.
    pub assignments: Vec<(String, Vec<u8>)>,
}

impl Call for SyncGroup {
    const API: ApiKey = ApiKey::SyncGroup;
    /// The bytes of the member's assignment.
    type Answer = Vec<u8>;

    fn encode(&self, version: i16, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let assignments: Vec<SyncGroupRequestAssignment<'_>> = self
            .assignments
            .iter()
            .map(|(member_id, assignment)| SyncGroupRequestAssignment {
                member_id,
                assignment,
            })
            .collect();
        SyncGroupRequest {
            group_id: &self.group,
            generation_id: self.generation,
            member_id: &self.member_id,
            group_instance_id: self.instance_id.as_deref(),
            protocol_type: Some(PROTOCOL_TYPE),
            protocol_name: Some(&self.protocol),
            assignments: Array::from(&assignments),
        }
        .encode(version, out)
    }

    fn decode(&self, version: i16, body: &[u8]) -> Result<Vec<u8>, AnswerError> {
        let response = SyncGroupResponse::parse(version, body)?;
        ClientError::check(&group_subject(&self.group), response.error_code, None)?;
        Ok(response.assignment.to_vec())
    }
}

/// Tells the coordinator that a member lives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heartbeat {
    pub group: String,
    pub generation: i32,
    pub member_id: String,
    pub instance_id: Option<String>,
}

impl Call for Heartbeat {
    const API: ApiKey = ApiKey::Heartbeat;
    type Answer = ();

    fn encode(&self, version: i16, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        HeartbeatRequest {
            group_id: &self.group,
            generation_id: self.generation,
            member_id: &self.member_id,
            group_instance_id: self.instance_id.as_deref(),
        }
        .encode(version, out)
    }

    fn decode(&self, version: i16, body: &[u8]) -> Result<(), AnswerError> {
        let response = HeartbeatResponse::parse(version, body)?;
        ClientError::check(&group_subject(&self.group), response.error_code, None)?;
        Ok(())
    }
}

/// Takes a member out of its group at once, instead of after its session timeout.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaveGroup {
    pub group: String,
    pub member_id: String,
    pub instance_id: Option<String>,
    /// For the broker's log.
    pub reason: String,
}

impl Call for LeaveGroup {
    const API: ApiKey = ApiKey::LeaveGroup;
    type Answer = ();

    fn encode(&self, version: i16, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let members = [MemberIdentity {
            member_id: &self.member_id,
            group_instance_id: self.instance_id.as_deref(),
            reason: Some(&self.reason),
        }];
        LeaveGroupRequest {
            group_id: &self.group,
            member_id: &self.member_id,
            members: Array::from(&members),
        }
        .encode(version, out)
    }

    fn decode(&self, version: i16, body: &[u8]) -> Result<(), AnswerError> {
        let response = LeaveGroupResponse::parse(version, body)?;
        let subject = group_subject(&self.group);
        ClientError::check(&subject, response.error_code, None)?;
        for member in response.members.iter() {
            ClientError::check(&subject, member.error_code, None)?;
        }
        Ok(())
    }
}

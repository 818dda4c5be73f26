//! JoinGroup (key 11): becoming a member, or staying one, of the group's next generation.

use std::net::{IpAddr, Ipv4Addr};

use highwater_base::{ErrorCode, Now};
use highwater_groups::{GroupAnswer, GroupRequest, JoinAnswer, JoinRequest, Protocol};
use highwater_reactor::Outbox;
use highwater_wire::header::RequestHeader;
use highwater_wire::join_group::{JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember};
use highwater_wire::{Array, DecodeError};

use super::group_requests::mismatched;
use super::{Request, as_code};
use crate::message::Message;
use crate::shard::Shard;

/// First version in which a new member is told its id before it joins (KIP-394).
const KNOWN_MEMBER_FROM: i16 = 4;
/// First version with a protocol name that may be null, and with the protocol type (KIP-559).
const PROTOCOL_NAME_NULL_FROM: i16 = 7;
/// First version whose leader can be told to skip the assignment (KIP-814).
const SKIP_ASSIGNMENT_FROM: i16 = 9;

impl Shard {
    pub(super) fn handle_join_group(
        &mut self,
        now: Now,
        request: &Request,
        frame: &[u8],
        body: &[u8],
        out: &mut Outbox<Message>,
    ) -> Result<(), DecodeError> {
        let decoded = JoinGroupRequest::parse(request.version, body)?;
        let (header, _) = RequestHeader::parse(frame)?;
        let connection = self.connections.get(&request.connection);
        let peer = connection.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |state| state.peer);
        let asked = GroupRequest::Join(JoinRequest {
            group: decoded.group_id.to_string(),
            member: decoded.member_id.to_string(),
            instance: decoded.group_instance_id.map(String::from),
            client_id: header.client_id.unwrap_or_default().to_string(),
            client_host: format!("/{peer}"),
            session_timeout_ms: decoded.session_timeout_ms,
            // Version 0 has one timeout for both.
            rebalance_timeout_ms: match request.version {
                0 => decoded.session_timeout_ms,
                _ => decoded.rebalance_timeout_ms,
            },
            protocol_type: decoded.protocol_type.to_string(),
            protocols: decoded
                .protocols
                .iter()
                .map(|protocol| Protocol {
                    name: protocol.name.to_string(),
                    metadata: protocol.metadata.to_vec(),
                })
                .collect(),
            require_known_member: request.version >= KNOWN_MEMBER_FROM,
            supports_skipping_assignment: request.version >= SKIP_ASSIGNMENT_FROM,
            reason: decoded.reason.map(String::from),
        });
        self.ask_group(now, request.group_gather(&[]), decoded.group_id, asked, out);
        Ok(())
    }

    pub(super) fn answer_join_group(
        &mut self,
        request: &Request,
        answers: &[Option<GroupAnswer>],
        out: &mut Outbox<Message>,
    ) {
        let [Some(GroupAnswer::Join(answer))] = answers else {
            let error_code = as_code(mismatched(answers));
            let response = JoinGroupResponse {
                error_code,
                protocol_name: Some(""),
                ..Default::default()
            };
            self.respond(request, out, |version, bytes| {
                response.encode(version, bytes)
            });
            return;
        };
        let members: Vec<JoinGroupResponseMember<'_>> = answer
            .members
            .iter()
            .map(|member| JoinGroupResponseMember {
                member_id: &member.member,
                group_instance_id: member.instance.as_deref(),
                metadata: &member.metadata,
            })
            .collect();
        let response = JoinGroupResponse {
            error_code: as_code(answer.error),
            generation_id: answer.generation,
            protocol_type: answer.protocol_type.as_deref(),
            protocol_name: protocol_name(request.version, answer),
            leader: &answer.leader,
            skip_assignment: answer.skip_assignment,
            member_id: &answer.member,
            members: Array::from(&members),
            ..Default::default()
        };
        self.respond(request, out, |version, bytes| {
            response.encode(version, bytes)
        });
    }
}

/// Older versions know no null: no protocol is the empty one there.
fn protocol_name(version: i16, answer: &JoinAnswer) -> Option<&str> {
    match answer.protocol_name.as_deref() {
        None if version < PROTOCOL_NAME_NULL_FROM => Some(""),
        None if answer.error == ErrorCode::None => Some(""),
        name => name,
    }
}

//! SyncGroup (key 14): the leader hands in the assignments, every member gets its own.

use highwater_base::{ErrorCode, Now};
use highwater_groups::{GroupAnswer, GroupRequest, MemberIdentity, SyncAnswer, SyncRequest};
use highwater_reactor::Outbox;
use highwater_wire::DecodeError;
use highwater_wire::sync_group::{SyncGroupRequest, SyncGroupResponse};

use super::group_requests::{check_group_entries, mismatched};
use super::{Request, as_code};
use crate::message::Message;
use crate::shard::Shard;

/// First version that has to name the protocol and its type (KIP-559).
const PROTOCOL_FROM: i16 = 5;

impl Shard {
    pub(super) fn handle_sync_group(
        &mut self,
        now: Now,
        request: &Request,
        body: &[u8],
        out: &mut Outbox<Message>,
    ) -> Result<(), DecodeError> {
        let decoded = SyncGroupRequest::parse(request.version, body)?;
        check_group_entries([decoded.assignments.len()].into_iter())?;
        let mut gather = request.group_gather(&[]);
        let is_named = decoded.protocol_type.is_some() && decoded.protocol_name.is_some();
        if request.version >= PROTOCOL_FROM && !is_named {
            gather.answers.push(Some(GroupAnswer::Sync(SyncAnswer {
                error: ErrorCode::InconsistentGroupProtocol,
                protocol_type: None,
                protocol_name: None,
                assignment: Vec::new(),
            })));
            self.answer_groups(gather, out);
            return Ok(());
        }
        let asked = GroupRequest::Sync(SyncRequest {
            identity: MemberIdentity {
                group: decoded.group_id.to_string(),
                generation: decoded.generation_id,
                member: decoded.member_id.to_string(),
                instance: decoded.group_instance_id.map(String::from),
            },
            protocol_type: decoded.protocol_type.map(String::from),
            protocol_name: decoded.protocol_name.map(String::from),
            assignments: decoded
                .assignments
                .iter()
                .map(|one| (one.member_id.to_string(), one.assignment.to_vec()))
                .collect(),
        });
        self.ask_group(now, gather, decoded.group_id, asked, out);
        Ok(())
    }

    pub(super) fn answer_sync_group(
        &mut self,
        request: &Request,
        answers: &[Option<GroupAnswer>],
        out: &mut Outbox<Message>,
    ) {
        let response = match answers {
            [Some(GroupAnswer::Sync(answer))] => SyncGroupResponse {
                error_code: as_code(answer.error),
                protocol_type: answer.protocol_type.as_deref(),
                protocol_name: answer.protocol_name.as_deref(),
                assignment: &answer.assignment,
                ..Default::default()
            },
            other => SyncGroupResponse {
                error_code: as_code(mismatched(other)),
                ..Default::default()
            },
        };
        self.respond(request, out, |version, bytes| {
            response.encode(version, bytes)
        });
    }
}

//! Heartbeat (key 12): a member lives, and learns whether its group rebalances.

use highwater_base::Now;
use highwater_groups::{GroupAnswer, GroupRequest, MemberIdentity};
use highwater_reactor::Outbox;
use highwater_wire::DecodeError;
use highwater_wire::heartbeat::{HeartbeatRequest, HeartbeatResponse};

use super::group_requests::mismatched;
use super::{Request, as_code};
use crate::message::Message;
use crate::shard::Shard;

impl Shard {
    pub(super) fn handle_heartbeat(
        &mut self,
        now: Now,
        request: &Request,
        body: &[u8],
        out: &mut Outbox<Message>,
    ) -> Result<(), DecodeError> {
        let decoded = HeartbeatRequest::parse(request.version, body)?;
        let asked = GroupRequest::Heartbeat(MemberIdentity {
            group: decoded.group_id.to_string(),
            generation: decoded.generation_id,
            member: decoded.member_id.to_string(),
            instance: decoded.group_instance_id.map(String::from),
        });
        self.ask_group(now, request.group_gather(&[]), decoded.group_id, asked, out);
        Ok(())
    }

    pub(super) fn answer_heartbeat(
        &mut self,
        request: &Request,
        answers: &[Option<GroupAnswer>],
        out: &mut Outbox<Message>,
    ) {
        let code = match answers {
            [Some(GroupAnswer::Heartbeat(code))] => *code,
            other => mismatched(other),
        };
        let response = HeartbeatResponse {
            error_code: as_code(code),
            ..Default::default()
        };
        self.respond(request, out, |version, bytes| {
            response.encode(version, bytes)
        });
    }
}

//! LeaveGroup (key 13): members go, several at once from version 3 on (KIP-345).

use highwater_base::{ErrorCode, Now};
use highwater_groups::{GroupAnswer, GroupRequest, LeavingMember, LeftMember};
use highwater_reactor::Outbox;
use highwater_wire::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberResponse};
use highwater_wire::{Array, DecodeError};

use super::group_requests::{check_group_entries, mismatched};
use super::{Request, as_code};
use crate::message::Message;
use crate::shard::Shard;

/// First version with a list of members.
const MEMBERS_FROM: i16 = 3;

impl Shard {
    pub(super) fn handle_leave_group(
        &mut self,
        now: Now,
        request: &Request,
        body: &[u8],
        out: &mut Outbox<Message>,
    ) -> Result<(), DecodeError> {
        let decoded = LeaveGroupRequest::parse(request.version, body)?;
        check_group_entries([decoded.members.len()].into_iter())?;
        let members = if request.version < MEMBERS_FROM {
            vec![LeavingMember {
                member: decoded.member_id.to_string(),
                instance: None,
                reason: None,
            }]
        } else {
            let members = decoded.members.iter().map(|member| LeavingMember {
                member: member.member_id.to_string(),
                instance: member.group_instance_id.map(String::from),
                reason: member.reason.map(String::from),
            });
            members.collect()
        };
        let asked = GroupRequest::Leave {
            group: decoded.group_id.to_string(),
            members,
        };
        self.ask_group(now, request.group_gather(&[]), decoded.group_id, asked, out);
        Ok(())
    }

    pub(super) fn answer_leave_group(
        &mut self,
        request: &Request,
        answers: &[Option<GroupAnswer>],
        out: &mut Outbox<Message>,
    ) {
        let (error, left): (ErrorCode, &[LeftMember]) = match answers {
            [Some(GroupAnswer::Leave { error, members })] => (*error, members),
            other => (mismatched(other), &[]),
        };
        let members: Vec<MemberResponse<'_>> = left
            .iter()
            .map(|member| MemberResponse {
                member_id: &member.member,
                group_instance_id: member.instance.as_deref(),
                error_code: as_code(member.error),
            })
            .collect();
        let response = LeaveGroupResponse {
            error_code: as_code(overall(request.version, error, left)),
            members: Array::from(&members),
            ..Default::default()
        };
        self.respond(request, out, |version, bytes| {
            response.encode(version, bytes)
        });
    }
}

/// Versions without a list say what became of their one member.
fn overall(version: i16, error: ErrorCode, members: &[LeftMember]) -> ErrorCode {
    match members {
        [member] if version < MEMBERS_FROM && error == ErrorCode::None => member.error,
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_list_the_members_error_is_the_answers() {
        let left = [LeftMember {
            member: "a".to_string(),
            instance: None,
            error: ErrorCode::UnknownMemberId,
        }];
        assert_eq!(
            overall(2, ErrorCode::None, &left),
            ErrorCode::UnknownMemberId
        );
        assert_eq!(overall(3, ErrorCode::None, &left), ErrorCode::None);
        let refused = ErrorCode::NotCoordinator;
        assert_eq!(overall(2, refused, &left), refused);
    }
}

//! What the handlers of group requests share: their dispatch, their bounds, and the way from a
//! request to the answers of coordinators and back.

use highwater_base::{ErrorCode, Now};
use highwater_groups::{GroupAnswer, GroupRequest};
use highwater_reactor::Outbox;
use highwater_wire::{ApiKey, DecodeError};

use super::Request;
use crate::groups::GroupGather;
use crate::message::Message;
use crate::shard::Shard;

/// Groups, or partitions, in one request. No client comes near it.
const GROUP_ENTRIES_MAX: usize = 500_000;

/// Bounds the entries of a request, each of which is held several times over until it is answered.
pub(super) fn check_group_entries(entries: impl Iterator<Item = usize>) -> Result<(), DecodeError> {
    let found = entries.fold(0usize, usize::saturating_add);
    if found <= GROUP_ENTRIES_MAX {
        return Ok(());
    }
    Err(DecodeError::Invalid {
        field: "number of entries",
        found: found as i64,
        allowed: "at most 500000 in one request about groups",
    })
}

/// What a coordinator never does.
pub(super) fn mismatched(answers: &[Option<GroupAnswer>]) -> ErrorCode {
    tracing::error!(?answers, "a coordinator answered another question");
    ErrorCode::UnknownServerError
}

impl Request {
    /// A request that coordinators answer. The body is kept only where the answer repeats it.
    pub(super) fn group_gather(&self, body: &[u8]) -> GroupGather {
        GroupGather {
            connection: self.connection,
            sequence: self.sequence,
            api_key: self.api_key,
            version: self.version,
            correlation_id: self.correlation_id,
            body: body.to_vec(),
            refused: Vec::new(),
            answers: Vec::new(),
            remaining: 0,
            cores: Vec::new(),
        }
    }
}

impl Shard {
    /// Asks the coordinator of a single group.
    pub(super) fn ask_group(
        &mut self,
        now: Now,
        gather: GroupGather,
        group: &str,
        request: GroupRequest,
        out: &mut Outbox<Message>,
    ) {
        self.ask_groups(now, gather, vec![(group.to_string(), request)], out);
    }

    /// Runs the handler of a request about groups.
    ///
    /// # Errors
    /// A body that does not decode.
    pub(super) fn handle_group_request(
        &mut self,
        now: Now,
        request: &Request,
        frame: &[u8],
        body: &[u8],
        out: &mut Outbox<Message>,
    ) -> Result<(), DecodeError> {
        match request.api_key {
            ApiKey::OffsetCommit => self.handle_offset_commit(now, request, body, out),
            ApiKey::OffsetFetch => self.handle_offset_fetch(now, request, body, out),
            ApiKey::JoinGroup => self.handle_join_group(now, request, frame, body, out),
            ApiKey::Heartbeat => self.handle_heartbeat(now, request, body, out),
            ApiKey::LeaveGroup => self.handle_leave_group(now, request, body, out),
            ApiKey::SyncGroup => self.handle_sync_group(now, request, body, out),
            ApiKey::DescribeGroups => self.handle_describe_groups(now, request, body, out),
            ApiKey::ListGroups => self.handle_list_groups(now, request, body, out),
            ApiKey::DeleteGroups => self.handle_delete_groups(now, request, body, out),
            ApiKey::OffsetDelete => self.handle_offset_delete(now, request, body, out),
            other => unreachable!("{other:?} is not about groups"),
        }
    }

    /// All coordinators asked have answered.
    pub(crate) fn answer_groups(&mut self, gather: GroupGather, out: &mut Outbox<Message>) {
        let request = Request {
            connection: gather.connection,
            sequence: gather.sequence,
            api_key: gather.api_key,
            version: gather.version,
            correlation_id: gather.correlation_id,
        };
        let (request, answers) = (&request, &gather.answers);
        let answered = match gather.api_key {
            ApiKey::OffsetCommit => self.answer_offset_commit(request, &gather, out),
            ApiKey::OffsetFetch => self.answer_offset_fetch(request, &gather, out),
            ApiKey::OffsetDelete => self.answer_offset_delete(request, &gather, out),
            ApiKey::DeleteGroups => self.answer_delete_groups(request, &gather, out),
            ApiKey::JoinGroup => {
                self.answer_join_group(request, answers, out);
                Ok(())
            }
            ApiKey::Heartbeat => {
                self.answer_heartbeat(request, answers, out);
                Ok(())
            }
            ApiKey::LeaveGroup => {
                self.answer_leave_group(request, answers, out);
                Ok(())
            }
            ApiKey::SyncGroup => {
                self.answer_sync_group(request, answers, out);
                Ok(())
            }
            ApiKey::DescribeGroups => {
                self.answer_describe_groups(request, answers, out);
                Ok(())
            }
            ApiKey::ListGroups => {
                self.answer_list_groups(request, answers, out);
                Ok(())
            }
            other => unreachable!("{other:?} asks no coordinator"),
        };
        answered.expect("the body decoded when the request came");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_full_of_groups_is_refused() {
        assert!(check_group_entries([GROUP_ENTRIES_MAX].into_iter()).is_ok());
        assert!(check_group_entries([GROUP_ENTRIES_MAX, 1].into_iter()).is_err());
    }
}

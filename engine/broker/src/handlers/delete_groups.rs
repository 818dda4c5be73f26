//! DeleteGroups (key 42): groups without members go, with their offsets (KIP-229). A group named
//! twice is deleted and answered once, as in Kafka.

use std::collections::BTreeSet;

use highwater_base::Now;
use highwater_groups::{GroupAnswer, GroupRequest};
use highwater_reactor::Outbox;
use highwater_wire::delete_groups::{
    DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse,
};
use highwater_wire::{Array, DecodeError};

use super::group_requests::{check_group_entries, mismatched};
use super::{Request, as_code};
use crate::groups::GroupGather;
use crate::message::Message;
use crate::shard::Shard;

fn named<'a>(decoded: &DeleteGroupsRequest<'a>) -> Vec<&'a str> {
    let mut seen = BTreeSet::new();
    let groups = decoded.groups_names.iter();
    groups.filter(|group| seen.insert(*group)).collect()
}

impl Shard {
    pub(super) fn handle_delete_groups(
        &mut self,
        now: Now,
        request: &Request,
        body: &[u8],
        out: &mut Outbox<Message>,
    ) -> Result<(), DecodeError> {
        let decoded = DeleteGroupsRequest::parse(request.version, body)?;
        check_group_entries([decoded.groups_names.len()].into_iter())?;
        let parts = named(&decoded)
            .into_iter()
            .map(|group| {
                let group = group.to_string();
                (group.clone(), GroupRequest::Delete { group })
            })
            .collect();
        self.ask_groups(now, request.group_gather(body), parts, out);
        Ok(())
    }

    pub(super) fn answer_delete_groups(
        &mut self,
        request: &Request,
        gather: &GroupGather,
        out: &mut Outbox<Message>,
    ) -> Result<(), DecodeError> {
        let decoded = DeleteGroupsRequest::parse(request.version, &gather.body)?;
        let results: Vec<DeletableGroupResult<'_>> = named(&decoded)
            .into_iter()
            .zip(&gather.answers)
            .map(|(group_id, answer)| DeletableGroupResult {
                group_id,
                error_code: as_code(match answer {
                    Some(GroupAnswer::Delete(code)) => *code,
                    _ => mismatched(&gather.answers),
                }),
            })
            .collect();
        let response = DeleteGroupsResponse {
            results: Array::from(&results),
            ..Default::default()
        };
        self.respond(request, out, |version, bytes| {
            response.encode(version, bytes)
        });
        Ok(())
    }
}

//! DescribeGroups (key 15): state and members of groups. A group has one row however often it is
//! named: a small request repeating a large group would ask for gigabytes.

use std::collections::BTreeSet;

use highwater_base::{ErrorCode, Now};
use highwater_groups::{DescribedGroup, GroupAnswer, GroupRequest};
use highwater_reactor::Outbox;
use highwater_wire::describe_groups::{
    self, DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroupMember,
};
use highwater_wire::{Array, DecodeError};

use super::group_requests::{check_group_entries, mismatched};
use super::metadata::NO_OPERATIONS;
use super::{Request, as_code};
use crate::message::Message;
use crate::shard::Shard;

/// First version that says so when there is no such group (KIP-1043).
const NOT_FOUND_FROM: i16 = 6;

impl Shard {
    pub(super) fn handle_describe_groups(
        &mut self,
        now: Now,
        request: &Request,
        body: &[u8],
        out: &mut Outbox<Message>,
    ) -> Result<(), DecodeError> {
        let decoded = DescribeGroupsRequest::parse(request.version, body)?;
        check_group_entries([decoded.groups.len()].into_iter())?;
        let mut named = BTreeSet::new();
        let parts = decoded
            .groups
            .iter()
            .filter(|group| named.insert(*group))
            .map(|group| {
                let group = group.to_string();
                (group.clone(), GroupRequest::Describe { group })
            })
            .collect();
        self.ask_groups(now, request.group_gather(&[]), parts, out);
        Ok(())
    }

    pub(super) fn answer_describe_groups(
        &mut self,
        request: &Request,
        answers: &[Option<GroupAnswer>],
        out: &mut Outbox<Message>,
    ) {
        let mut found: Vec<&DescribedGroup> = Vec::new();
        for answer in answers {
            match answer {
                Some(GroupAnswer::Describe(group)) => found.push(group),
                _ => drop(mismatched(answers)),
            }
        }
        let members: Vec<Vec<DescribedGroupMember<'_>>> = found
            .iter()
            .map(|group| {
                let members = group.members.iter().map(|member| DescribedGroupMember {
                    member_id: &member.member,
                    group_instance_id: member.instance.as_deref(),
                    client_id: &member.client_id,
                    client_host: &member.client_host,
                    member_metadata: &member.metadata,
                    member_assignment: &member.assignment,
                });
                members.collect()
            })
            .collect();
        let groups: Vec<describe_groups::DescribedGroup<'_>> = found
            .iter()
            .zip(&members)
            .map(|(group, members)| {
                let error = error_of(request.version, group);
                describe_groups::DescribedGroup {
                    error_code: as_code(error),
                    error_message: (error != ErrorCode::None).then(|| error.message()),
                    group_id: &group.group,
                    group_state: group.state,
                    protocol_type: &group.protocol_type,
                    protocol_data: &group.protocol,
                    members: Array::from(members),
                    authorized_operations: NO_OPERATIONS,
                }
            })
            .collect();
        let response = DescribeGroupsResponse {
            groups: Array::from(&groups),
            ..Default::default()
        };
        self.respond(request, out, |version, bytes| {
            response.encode(version, bytes)
        });
    }
}

fn error_of(version: i16, group: &DescribedGroup) -> ErrorCode {
    match group.error {
        ErrorCode::None if group.state == "Dead" && version >= NOT_FOUND_FROM => {
            ErrorCode::GroupIdNotFound
        }
        error => error,
    }
}

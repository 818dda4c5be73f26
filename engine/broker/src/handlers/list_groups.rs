//! ListGroups (key 16): the groups of all cores.

use highwater_base::{CoreId, ErrorCode, Now};
use highwater_groups::{GroupAnswer, GroupRequest, OFFSETS_TOPIC};
use highwater_reactor::Outbox;
use highwater_wire::list_groups::{ListGroupsRequest, ListGroupsResponse, ListedGroup};
use highwater_wire::{Array, DecodeError};

use super::group_requests::{check_group_entries, mismatched};
use super::{Request, as_code};
use crate::message::Message;
use crate::shard::Shard;

fn texts<'a>(array: Array<'a, &'a str>) -> Vec<String> {
    array.iter().map(String::from).collect()
}

impl Shard {
    pub(super) fn handle_list_groups(
        &mut self,
        now: Now,
        request: &Request,
        body: &[u8],
        out: &mut Outbox<Message>,
    ) -> Result<(), DecodeError> {
        let decoded = ListGroupsRequest::parse(request.version, body)?;
        check_group_entries([decoded.states_filter.len(), decoded.types_filter.len()].into_iter())?;
        let cores = match self.image.topic_by_name(OFFSETS_TOPIC) {
            Some(_) => self.cores,
            None => 0,
        };
        let parts = (0..cores as u16)
            .map(|core| {
                let request = GroupRequest::List {
                    states: texts(decoded.states_filter),
                    types: texts(decoded.types_filter),
                    protocol_types: Vec::new(),
                };
                (Ok(CoreId(core)), request)
            })
            .collect();
        self.ask_cores(now, request.group_gather(&[]), parts, out);
        Ok(())
    }

    pub(super) fn answer_list_groups(
        &mut self,
        request: &Request,
        answers: &[Option<GroupAnswer>],
        out: &mut Outbox<Message>,
    ) {
        let (mut groups, mut first_error) = (Vec::new(), ErrorCode::None);
        for answer in answers {
            let error = match answer {
                Some(GroupAnswer::List {
                    error,
                    groups: found,
                }) => {
                    groups.extend(found.iter().map(|group| ListedGroup {
                        group_id: &group.group,
                        protocol_type: &group.protocol_type,
                        group_state: group.state,
                        group_type: group.group_type,
                    }));
                    *error
                }
                _ => mismatched(answers),
            };
            if first_error == ErrorCode::None {
                first_error = error;
            }
        }
        let response = ListGroupsResponse {
            error_code: as_code(first_error),
            groups: Array::from(&groups),
            ..Default::default()
        };
        self.respond(request, out, |version, bytes| {
            response.encode(version, bytes)
        });
    }
}

//! OffsetFetch (key 9): committed offsets, of one group, or from version 8 on of several (KIP-709);
//! by topic id from version 10 on.

use std::sync::Arc;

use highwater_base::{ErrorCode, Now, TopicId};
use highwater_groups::{CommittedOffset, FetchedOffset, GroupAnswer, GroupOffsets, GroupRequest};
use highwater_reactor::Outbox;
use highwater_wire::offset_fetch::{
    OffsetFetchRequest, OffsetFetchResponse, OffsetFetchResponseGroup,
    OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use highwater_wire::{Array, DecodeError};

use super::group_requests::{check_group_entries, mismatched};
use super::offset_commit::TOPIC_ID_FROM;
use super::{Request, as_code};
use crate::groups::GroupGather;
use crate::message::Message;
use crate::shard::Shard;

/// First version with several groups.
const GROUPS_FROM: i16 = 8;
/// First version with an error of the whole group.
const GROUP_ERROR_FROM: i16 = 2;

/// A topic as it is asked for: by name, or by id.
type AskedTopic<'a> = (&'a str, TopicId, Array<'a, i32>);

/// A group as it is asked for, in any version.
struct AskedGroup<'a> {
    group: &'a str,
    member: &'a str,
    member_epoch: i32,
    topics: Option<Vec<AskedTopic<'a>>>,
}

/// A topic of the answer.
struct TopicRow<'a> {
    name: &'a str,
    id: TopicId,
    partitions: Vec<FetchedOffset>,
}

/// A group of the answer.
struct GroupRow<'a> {
    group: &'a str,
    error: ErrorCode,
    topics: Vec<TopicRow<'a>>,
}

fn asked_groups<'a>(version: i16, decoded: &OffsetFetchRequest<'a>) -> Vec<AskedGroup<'a>> {
    if version < GROUPS_FROM {
        let topics = decoded.topics.map(|topics| {
            let topics = topics.iter();
            let topics = topics.map(|it| (it.name, TopicId::ZERO, it.partition_indexes));
            topics.collect()
        });
        return vec![AskedGroup {
            group: decoded.group_id,
            member: "",
            member_epoch: -1,
            topics,
        }];
    }
    let groups = decoded.groups.iter().map(|group| AskedGroup {
        group: group.group_id,
        member: group.member_id.unwrap_or_default(),
        member_epoch: group.member_epoch,
        topics: group.topics.map(|topics| {
            let topics = topics.iter();
            let topics = topics.map(|it| (it.name, it.topic_id, it.partition_indexes));
            topics.collect()
        }),
    });
    groups.collect()
}

/// Nothing is known of these partitions but an error.
fn failed(partitions: Array<'_, i32>, error: ErrorCode) -> Vec<FetchedOffset> {
    let partitions = partitions.iter().map(|partition| FetchedOffset {
        error,
        committed: CommittedOffset {
            partition,
            offset: -1,
            leader_epoch: -1,
            metadata: String::new(),
        },
    });
    partitions.collect()
}

impl Shard {
    pub(super) fn handle_offset_fetch(
        &mut self,
        now: Now,
        request: &Request,
        body: &[u8],
        out: &mut Outbox<Message>,
    ) -> Result<(), DecodeError> {
        let decoded = OffsetFetchRequest::parse(request.version, body)?;
        let groups = asked_groups(request.version, &decoded);
        check_group_entries(groups.iter().map(|group| {
            let topics = group.topics.iter().flatten();
            1 + topics
                .map(|(.., partitions)| 1 + partitions.len())
                .sum::<usize>()
        }))?;
        let mut gather = request.group_gather(body);
        let by_id = request.version >= TOPIC_ID_FROM;
        let mut parts = Vec::new();
        for asked in groups {
            let topics = asked.topics.map(|topics| {
                let mut known = Vec::new();
                for (name, id, partitions) in topics {
                    let name: Option<Arc<str>> = match by_id {
                        true => self.table.by_id(id).map(|entry| Arc::clone(&entry.name)),
                        false => Some(Arc::from(name)),
                    };
                    gather.refused.push(match name {
                        Some(_) => ErrorCode::None,
                        None => ErrorCode::UnknownTopicId,
                    });
                    known.extend(name.map(|name| (name, partitions.iter().collect())));
                }
                known
            });
            let fetch = GroupRequest::FetchOffsets {
                group: asked.group.to_string(),
                member: asked.member.to_string(),
                member_epoch: asked.member_epoch,
                topics,
                require_stable: decoded.require_stable,
            };
            parts.push((asked.group.to_string(), fetch));
        }
        self.ask_groups(now, gather, parts, out);
        Ok(())
    }

    pub(super) fn answer_offset_fetch(
        &mut self,
        request: &Request,
        gather: &GroupGather,
        out: &mut Outbox<Message>,
    ) -> Result<(), DecodeError> {
        let decoded = OffsetFetchRequest::parse(request.version, &gather.body)?;
        let mut refused = gather.refused.iter().copied();
        let groups: Vec<GroupRow<'_>> = asked_groups(request.version, &decoded)
            .into_iter()
            .zip(&gather.answers)
            .map(|(asked, answer)| match answer {
                Some(GroupAnswer::FetchOffsets(found)) => {
                    self.group_row(request.version, asked, found, &mut refused)
                }
                _ => GroupRow {
                    group: asked.group,
                    error: mismatched(&gather.answers),
                    topics: Vec::new(),
                },
            })
            .collect();
        let mut bytes = Vec::new();
        let encoded = match (request.version < GROUPS_FROM, &groups[..]) {
            (true, [group]) => encode_group(group, request.version, &mut bytes),
            _ => encode_groups(&groups, request.version, &mut bytes),
        };
        self.respond(request, out, |_, out| {
            out.extend_from_slice(&bytes);
            encoded
        });
        Ok(())
    }

    /// What a group's coordinator found, and what was refused before it was asked, in the order of
    /// the request.
    fn group_row<'a>(
        &self,
        version: i16,
        asked: AskedGroup<'a>,
        found: &'a GroupOffsets,
        refused: &mut impl Iterator<Item = ErrorCode>,
    ) -> GroupRow<'a> {
        let mut answered = found.topics.iter();
        let error = found.error;
        let mut row = GroupRow {
            group: asked.group,
            error,
            topics: Vec::new(),
        };
        let Some(topics) = asked.topics else {
            for (name, partitions) in answered {
                let entry = self.table.by_name(name);
                if version < TOPIC_ID_FROM || entry.is_some() {
                    row.topics.push(TopicRow {
                        name,
                        id: entry.map_or(TopicId::ZERO, |entry| entry.id),
                        partitions: partitions.clone(),
                    });
                }
            }
            return row;
        };
        for (name, id, partitions) in topics {
            let code = refused.next().unwrap_or(ErrorCode::UnknownServerError);
            let partitions = match (error, code) {
                (ErrorCode::None, ErrorCode::None) => match answered.next() {
                    Some((_, partitions)) => partitions.clone(),
                    None => failed(partitions, ErrorCode::UnknownServerError),
                },
                (ErrorCode::None, code) => failed(partitions, code),
                // The oldest version has no other place for it.
                (error, _) if version < GROUP_ERROR_FROM => failed(partitions, error),
                _ => continue,
            };
            row.topics.push(TopicRow {
                name,
                id,
                partitions,
            });
        }
        row
    }
}

fn encode_group(
    group: &GroupRow<'_>,
    version: i16,
    bytes: &mut Vec<u8>,
) -> Result<(), highwater_wire::EncodeError> {
    let partitions: Vec<Vec<OffsetFetchResponsePartition<'_>>> = group
        .topics
        .iter()
        .map(|topic| {
            let rows = topic.partitions.iter();
            rows.map(|row| OffsetFetchResponsePartition {
                partition_index: row.committed.partition,
                committed_offset: row.committed.offset,
                committed_leader_epoch: row.committed.leader_epoch,
                metadata: Some(&row.committed.metadata),
                error_code: as_code(row.error),
            })
            .collect()
        })
        .collect();
    let topics: Vec<OffsetFetchResponseTopic<'_>> = group
        .topics
        .iter()
        .zip(&partitions)
        .map(|(topic, partitions)| OffsetFetchResponseTopic {
            name: topic.name,
            partitions: Array::from(partitions),
        })
        .collect();
    let response = OffsetFetchResponse {
        topics: Array::from(&topics),
        error_code: as_code(group.error),
        ..Default::default()
    };
    response.encode(version, bytes)
}

fn encode_groups(
    groups: &[GroupRow<'_>],
    version: i16,
    bytes: &mut Vec<u8>,
) -> Result<(), highwater_wire::EncodeError> {
    let partitions: Vec<Vec<Vec<OffsetFetchResponsePartitions<'_>>>> = groups
        .iter()
        .map(|group| group.topics.iter().map(partitions_of).collect())
        .collect();
    let topics: Vec<Vec<OffsetFetchResponseTopics<'_>>> = groups
        .iter()
        .zip(&partitions)
        .map(|(group, partitions)| {
            let rows = group.topics.iter().zip(partitions);
            rows.map(|(topic, partitions)| OffsetFetchResponseTopics {
                name: topic.name,
                topic_id: topic.id,
                partitions: Array::from(partitions),
            })
            .collect()
        })
        .collect();
    let groups: Vec<OffsetFetchResponseGroup<'_>> = groups
        .iter()
        .zip(&topics)
        .map(|(group, topics)| OffsetFetchResponseGroup {
            group_id: group.group,
            topics: Array::from(topics),
            error_code: as_code(group.error),
        })
        .collect();
    let response = OffsetFetchResponse {
        groups: Array::from(&groups),
        ..Default::default()
    };
    response.encode(version, bytes)
}

fn partitions_of<'a>(topic: &'a TopicRow<'_>) -> Vec<OffsetFetchResponsePartitions<'a>> {
    let rows = topic.partitions.iter();
    rows.map(|row| OffsetFetchResponsePartitions {
        partition_index: row.committed.partition,
        committed_offset: row.committed.offset,
        committed_leader_epoch: row.committed.leader_epoch,
        metadata: Some(&row.committed.metadata),
        error_code: as_code(row.error),
    })
    .collect()
}

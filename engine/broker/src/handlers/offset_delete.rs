//! OffsetDelete (key 47): committed offsets of topics a group no longer reads (KIP-496).

use std::sync::Arc;

use highwater_base::{ErrorCode, Now};
use highwater_groups::{GroupAnswer, GroupRequest, PartitionResults};
use highwater_reactor::Outbox;
use highwater_wire::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
};
use highwater_wire::{Array, DecodeError};

use super::group_requests::{check_group_entries, mismatched};
use super::offset_commit::merged;
use super::{Request, as_code};
use crate::groups::GroupGather;
use crate::message::Message;
use crate::shard::Shard;

impl Shard {
    pub(super) fn handle_offset_delete(
        &mut self,
        now: Now,
        request: &Request,
        body: &[u8],
        out: &mut Outbox<Message>,
    ) -> Result<(), DecodeError> {
        let decoded = OffsetDeleteRequest::parse(request.version, body)?;
        check_group_entries(decoded.topics.iter().map(|topic| topic.partitions.len()))?;
        let mut gather = request.group_gather(body);
        let mut topics = Vec::new();
        for topic in decoded.topics.iter() {
            let entry = self.table.by_name(topic.name);
            let mut partitions = Vec::new();
            for asked in topic.partitions.iter() {
                let exists = entry.is_some_and(|entry| entry.has_partition(asked.partition_index));
                gather.refused.push(match exists {
                    true => ErrorCode::None,
                    false => ErrorCode::UnknownTopicOrPartition,
                });
                if exists {
                    partitions.push(asked.partition_index);
                }
            }
            if let Some(entry) = entry.filter(|_| !partitions.is_empty()) {
                topics.push((Arc::clone(&entry.name), partitions));
            }
        }
        if topics.is_empty() {
            self.answer_groups(gather, out);
            return Ok(());
        }
        let asked = GroupRequest::DeleteOffsets {
            group: decoded.group_id.to_string(),
            topics,
        };
        self.ask_group(now, gather, decoded.group_id, asked, out);
        Ok(())
    }

    pub(super) fn answer_offset_delete(
        &mut self,
        request: &Request,
        gather: &GroupGather,
        out: &mut Outbox<Message>,
    ) -> Result<(), DecodeError> {
        let decoded = OffsetDeleteRequest::parse(request.version, &gather.body)?;
        let (error, results): (ErrorCode, &[PartitionResults]) = match &gather.answers[..] {
            [] => (ErrorCode::None, &[]),
            [Some(GroupAnswer::DeleteOffsets { error, topics })] => (*error, topics),
            other => (mismatched(other), &[]),
        };
        let mut codes = merged(&gather.refused, results, || ErrorCode::UnknownServerError);
        let partitions: Vec<Vec<OffsetDeleteResponsePartition>> = decoded
            .topics
            .iter()
            .map(|topic| {
                let rows = topic.partitions.iter().zip(&mut codes);
                rows.map(|(asked, code)| OffsetDeleteResponsePartition {
                    partition_index: asked.partition_index,
                    error_code: as_code(code),
                })
                .collect()
            })
            .collect();
        // An error about the group is all there is to say.
        let topics: Vec<OffsetDeleteResponseTopic<'_>> = decoded
            .topics
            .iter()
            .zip(&partitions)
            .filter(|_| error == ErrorCode::None)
            .map(|(topic, partitions)| OffsetDeleteResponseTopic {
                name: topic.name,
                partitions: Array::from(partitions),
            })
            .collect();
        let response = OffsetDeleteResponse {
            error_code: as_code(error),
            topics: Array::from(&topics),
            ..Default::default()
        };
        self.respond(request, out, |version, bytes| {
            response.encode(version, bytes)
        });
        Ok(())
    }
}

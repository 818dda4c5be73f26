//! OffsetCommit (key 8): where a group has got to, topic by topic; by topic id from version 10 on.
//!
//! Topics and partitions that do not exist are refused here, one by one; the rest is one write of
//! the coordinator.

use std::sync::Arc;

use highwater_base::{ErrorCode, Now};
use highwater_groups::{
    CommitRequest, CommittedOffset, GroupAnswer, GroupRequest, MemberIdentity, PartitionResults,
};
use highwater_reactor::Outbox;
use highwater_wire::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestTopic, OffsetCommitResponse,
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use highwater_wire::{Array, DecodeError};

use super::group_requests::{check_group_entries, mismatched};
use super::{Request, as_code};
use crate::groups::GroupGather;
use crate::message::Message;
use crate::shard::Shard;

/// First version that names topics by id.
pub(super) const TOPIC_ID_FROM: i16 = 10;

/// First version whose clients know GROUP_ID_NOT_FOUND as an answer; older ones get
/// ILLEGAL_GENERATION, as from Kafka.
const UNKNOWN_GROUP_FROM: i16 = 9;

impl Shard {
    pub(super) fn handle_offset_commit(
        &mut self,
        now: Now,
        request: &Request,
        body: &[u8],
        out: &mut Outbox<Message>,
    ) -> Result<(), DecodeError> {
        let decoded = OffsetCommitRequest::parse(request.version, body)?;
        let partitions = decoded.topics.iter().map(|topic| topic.partitions.len());
        check_group_entries(partitions)?;
        let mut gather = request.group_gather(body);
        let mut offsets = Vec::new();
        for topic in decoded.topics.iter() {
            let committed = self.committable(request.version, &topic, &mut gather.refused);
            offsets.extend(committed);
        }
        if offsets.is_empty() {
            self.answer_groups(gather, out);
            return Ok(());
        }
        let asked = GroupRequest::Commit(CommitRequest {
            identity: MemberIdentity {
                group: decoded.group_id.to_string(),
                generation: decoded.generation_id_or_member_epoch,
                member: decoded.member_id.to_string(),
                instance: decoded.group_instance_id.map(String::from),
            },
            offsets,
        });
        self.ask_group(now, gather, decoded.group_id, asked, out);
        Ok(())
    }

    /// The partitions of a topic that exist; a code for each is added to `refused`.
    fn committable(
        &self,
        version: i16,
        topic: &OffsetCommitRequestTopic<'_>,
        refused: &mut Vec<ErrorCode>,
    ) -> Option<(Arc<str>, Vec<CommittedOffset>)> {
        let (entry, unknown) = match version >= TOPIC_ID_FROM {
            true => (self.table.by_id(topic.topic_id), ErrorCode::UnknownTopicId),
            false => (
                self.table.by_name(topic.name),
                ErrorCode::UnknownTopicOrPartition,
            ),
        };
        let Some(entry) = entry else {
            refused.extend(topic.partitions.iter().map(|_| unknown));
            return None;
        };
        let mut offsets = Vec::new();
        for asked in topic.partitions.iter() {
            if !entry.has_partition(asked.partition_index) {
                refused.push(ErrorCode::UnknownTopicOrPartition);
                continue;
            }
            refused.push(ErrorCode::None);
            offsets.push(CommittedOffset {
                partition: asked.partition_index,
                offset: asked.committed_offset,
                leader_epoch: asked.committed_leader_epoch,
                metadata: asked.committed_metadata.unwrap_or_default().to_string(),
            });
        }
        (!offsets.is_empty()).then(|| (Arc::clone(&entry.name), offsets))
    }

    pub(super) fn answer_offset_commit(
        &mut self,
        request: &Request,
        gather: &GroupGather,
        out: &mut Outbox<Message>,
    ) -> Result<(), DecodeError> {
        let decoded = OffsetCommitRequest::parse(request.version, &gather.body)?;
        let results: &[PartitionResults] = match &gather.answers[..] {
            [Some(GroupAnswer::Commit(results))] => results,
            _ => &[],
        };
        let told = |code| match code {
            ErrorCode::GroupIdNotFound if request.version < UNKNOWN_GROUP_FROM => {
                ErrorCode::IllegalGeneration
            }
            code => code,
        };
        let codes = merged(&gather.refused, results, || mismatched(&gather.answers));
        let mut codes = codes.map(told);
        let partitions: Vec<Vec<OffsetCommitResponsePartition>> = decoded
            .topics
            .iter()
            .map(|topic| {
                let rows = topic.partitions.iter().zip(&mut codes);
                rows.map(|(asked, code)| OffsetCommitResponsePartition {
                    partition_index: asked.partition_index,
                    error_code: as_code(code),
                })
                .collect()
            })
            .collect();
        let topics: Vec<OffsetCommitResponseTopic<'_>> = decoded
            .topics
            .iter()
            .zip(&partitions)
            .map(|(topic, partitions)| OffsetCommitResponseTopic {
                name: topic.name,
                topic_id: topic.topic_id,
                partitions: Array::from(partitions),
            })
            .collect();
        let response = OffsetCommitResponse {
            topics: Array::from(&topics),
            ..Default::default()
        };
        self.respond(request, out, |version, bytes| {
            response.encode(version, bytes)
        });
        Ok(())
    }
}

/// One code per partition of the request: that of the host, or else the coordinator's next.
pub(super) fn merged<'a>(
    refused: &'a [ErrorCode],
    results: &'a [PartitionResults],
    missing: impl Fn() -> ErrorCode + 'a,
) -> impl Iterator<Item = ErrorCode> + 'a {
    let mut answered = results.iter().flat_map(|topic| &topic.partitions);
    refused.iter().map(move |code| match code {
        ErrorCode::None => answered
            .next()
            .map_or_else(&missing, |(_, answered)| *answered),
        refused => *refused,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_host_and_coordinator_are_merged_in_the_order_of_the_request() {
        let (unknown, large) = (
            ErrorCode::UnknownTopicOrPartition,
            ErrorCode::OffsetMetadataTooLarge,
        );
        let result = |topic: &str, codes: &[(i32, ErrorCode)]| PartitionResults {
            topic: Arc::from(topic),
            partitions: codes.to_vec(),
        };
        let results = [
            result("a", &[(0, ErrorCode::None)]),
            result("b", &[(3, large)]),
        ];
        let refused = [ErrorCode::None, unknown, ErrorCode::None, ErrorCode::None];
        let codes: Vec<ErrorCode> =
            merged(&refused, &results, || ErrorCode::UnknownServerError).collect();
        let lost = ErrorCode::UnknownServerError;
        assert_eq!(codes, [ErrorCode::None, unknown, large, lost]);
    }
}

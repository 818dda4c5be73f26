//! OffsetForLeaderEpoch (key 23): where an epoch ended, so that a consumer notices that its log was
//! cut (KIP-320).

use highwater_base::{ErrorCode, Now};
use highwater_reactor::Outbox;
use highwater_wire::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    OffsetForLeaderTopicResult,
};
use highwater_wire::{Array, DecodeError};

use super::{Request, as_code};
use crate::message::{Message, Query, QueryResult};
use crate::shard::Shard;

impl Shard {
    pub(crate) fn handle_offset_for_leader_epoch(
        &mut self,
        now: Now,
        request: &Request,
        body: &[u8],
        out: &mut Outbox<Message>,
    ) -> Result<(), DecodeError> {
        let decoded = OffsetForLeaderEpochRequest::parse(request.version, body)?;
        let mut parts = Vec::new();
        for topic in decoded.topics.iter() {
            let id = self.topic_id_of(topic.topic);
            for partition in topic.partitions.iter() {
                let query = Query::EpochEnd {
                    epoch: partition.leader_epoch,
                    current_epoch: partition.current_leader_epoch,
                };
                parts.push((id, partition.partition, query));
            }
        }
        self.gather(now, request.gather(body), parts, out);
        Ok(())
    }

    pub(crate) fn answer_offset_for_leader_epoch(
        &mut self,
        request: &Request,
        body: &[u8],
        results: &[QueryResult],
        out: &mut Outbox<Message>,
    ) -> Result<(), DecodeError> {
        let decoded = OffsetForLeaderEpochRequest::parse(request.version, body)?;
        let mut results = results.iter();
        let partitions: Vec<Vec<EpochEndOffset>> = decoded
            .topics
            .iter()
            .map(|topic| {
                topic
                    .partitions
                    .iter()
                    .zip(&mut results)
                    .map(|(asked, result)| epoch_end(asked.partition, result))
                    .collect()
            })
            .collect();
        let topics: Vec<OffsetForLeaderTopicResult<'_>> = decoded
            .topics
            .iter()
            .zip(&partitions)
            .map(|(topic, partitions)| OffsetForLeaderTopicResult {
                topic: topic.topic,
                partitions: Array::from(partitions),
                ..Default::default()
            })
            .collect();
        let response = OffsetForLeaderEpochResponse {
            topics: Array::from(&topics),
            ..Default::default()
        };
        self.respond(request, out, |version, bytes| {
            response.encode(version, bytes)
        });
        Ok(())
    }
}

fn epoch_end(partition: i32, result: &QueryResult) -> EpochEndOffset {
    let mut answer = EpochEndOffset {
        partition,
        leader_epoch: -1,
        end_offset: -1,
        ..Default::default()
    };
    match *result {
        QueryResult::EpochEnd { epoch, end } => {
            (answer.leader_epoch, answer.end_offset) = (epoch, end);
        }
        QueryResult::Error(code) => answer.error_code = as_code(code),
        QueryResult::Offset { .. }
        | QueryResult::LogStart(_)
        | QueryResult::LogSize { .. }
        | QueryResult::Offline(_) => {
            answer.error_code = as_code(ErrorCode::UnknownServerError);
        }
    }
    answer
}

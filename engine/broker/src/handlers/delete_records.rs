//! DeleteRecords (key 21): moves the log start; answered once the new start is durable (KIP-107). In
//! topics of the broker's own it is refused, but for what `groups::damage` says.

use highwater_base::{ErrorCode, Now};
use highwater_reactor::Outbox;
use highwater_wire::delete_records::{
    DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse,
    DeleteRecordsTopicResult,
};
use highwater_wire::{Array, DecodeError};

use super::{Request, as_code};
use crate::message::{Message, Query, QueryResult};
use crate::metadata::image::is_internal;
use crate::shard::Shard;

/// The offset that stands for the high-water mark.
const ALL: i64 = -1;

impl Shard {
    pub(crate) fn handle_delete_records(
        &mut self,
        now: Now,
        request: &Request,
        body: &[u8],
        out: &mut Outbox<Message>,
    ) -> Result<(), DecodeError> {
        let decoded = DeleteRecordsRequest::parse(request.version, body)?;
        let mut parts = Vec::new();
        for topic in decoded.topics.iter() {
            let is_internal = is_internal(topic.name);
            let id = self.topic_id_of(topic.name);
            for partition in topic.partitions.iter() {
                let (id, query) = match partition.offset {
                    ALL if is_internal => (id, Query::AcceptLoss),
                    offset if is_internal => {
                        let refused = Err(ErrorCode::PolicyViolation);
                        (refused, Query::DeleteRecords { offset })
                    }
                    offset => (id, Query::DeleteRecords { offset }),
                };
                parts.push((id, partition.partition_index, query));
            }
        }
        self.gather(now, request.gather(body), parts, out);
        Ok(())
    }

    pub(crate) fn answer_delete_records(
        &mut self,
        request: &Request,
        body: &[u8],
        results: &[QueryResult],
        out: &mut Outbox<Message>,
    ) -> Result<(), DecodeError> {
        let decoded = DeleteRecordsRequest::parse(request.version, body)?;
        let mut results = results.iter();
        let partitions: Vec<Vec<DeleteRecordsPartitionResult>> = decoded
            .topics
            .iter()
            .map(|topic| {
                topic
                    .partitions
                    .iter()
                    .zip(&mut results)
                    .map(|(asked, result)| low_watermark(asked.partition_index, result))
                    .collect()
            })
            .collect();
        let topics: Vec<DeleteRecordsTopicResult<'_>> = decoded
            .topics
            .iter()
            .zip(&partitions)
            .map(|(topic, partitions)| DeleteRecordsTopicResult {
                name: topic.name,
                partitions: Array::from(partitions),
                ..Default::default()
            })
            .collect();
        let response = DeleteRecordsResponse {
            topics: Array::from(&topics),
            ..Default::default()
        };
        self.respond(request, out, |version, bytes| {
            response.encode(version, bytes)
        });
        Ok(())
    }
}

fn low_watermark(partition_index: i32, result: &QueryResult) -> DeleteRecordsPartitionResult {
    let mut answer = DeleteRecordsPartitionResult {
        partition_index,
        low_watermark: -1,
        ..Default::default()
    };
    match *result {
        QueryResult::LogStart(offset) => answer.low_watermark = offset.0,
        QueryResult::Error(code) => answer.error_code = as_code(code),
        QueryResult::Offset { .. }
        | QueryResult::EpochEnd { .. }
        | QueryResult::LogSize { .. }
        | QueryResult::Offline(_) => {
            answer.error_code = as_code(ErrorCode::UnknownServerError);
        }
    }
    answer
}

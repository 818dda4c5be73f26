//! ListOffsets (key 2): earliest, latest, by timestamp, by largest timestamp.

use highwater_base::{ErrorCode, Now};
use highwater_reactor::Outbox;
use highwater_wire::list_offsets::{
    ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use highwater_wire::{Array, DecodeError};

use super::{Request, as_code};
use crate::message::{Message, Query, QueryResult};
use crate::shard::Shard;

impl Shard {
    pub(crate) fn handle_list_offsets(
        &mut self,
        now: Now,
        request: &Request,
        body: &[u8],
        out: &mut Outbox<Message>,
    ) -> Result<(), DecodeError> {
        let decoded = ListOffsetsRequest::parse(request.version, body)?;
        let mut parts = Vec::new();
        for topic in decoded.topics.iter() {
            let id = self.topic_id_of(topic.name);
            for partition in topic.partitions.iter() {
                let query = Query::ListOffset {
                    timestamp: partition.timestamp,
                    leader_epoch: partition.current_leader_epoch,
                };
                parts.push((id, partition.partition_index, query));
            }
        }
        self.gather(now, request.gather(body), parts, out);
        Ok(())
    }

    pub(crate) fn answer_list_offsets(
        &mut self,
        request: &Request,
        body: &[u8],
        results: &[QueryResult],
        out: &mut Outbox<Message>,
    ) -> Result<(), DecodeError> {
        let decoded = ListOffsetsRequest::parse(request.version, body)?;
        let mut results = results.iter();
        let partitions: Vec<Vec<ListOffsetsPartitionResponse>> = decoded
            .topics
            .iter()
            .map(|topic| {
                topic
                    .partitions
                    .iter()
                    .zip(&mut results)
                    .map(|(asked, result)| partition_response(asked.partition_index, result))
                    .collect()
            })
            .collect();
        let topics: Vec<ListOffsetsTopicResponse<'_>> = decoded
            .topics
            .iter()
            .zip(&partitions)
            .map(|(topic, partitions)| ListOffsetsTopicResponse {
                name: topic.name,
                partitions: Array::from(partitions),
                ..Default::default()
            })
            .collect();
        let response = ListOffsetsResponse {
            topics: Array::from(&topics),
            ..Default::default()
        };
        self.respond(request, out, |version, bytes| {
            response.encode(version, bytes)
        });
        Ok(())
    }
}

fn partition_response(partition_index: i32, result: &QueryResult) -> ListOffsetsPartitionResponse {
    let mut response = ListOffsetsPartitionResponse {
        partition_index,
        offset: -1,
        timestamp: -1,
        leader_epoch: -1,
        ..Default::default()
    };
    match *result {
        QueryResult::Offset {
            offset,
            timestamp,
            leader_epoch,
        } => {
            (response.offset, response.timestamp) = (offset, timestamp);
            response.leader_epoch = leader_epoch;
        }
        QueryResult::Error(code) => response.error_code = as_code(code),
        QueryResult::EpochEnd { .. }
        | QueryResult::LogStart(_)
        | QueryResult::LogSize { .. }
        | QueryResult::Offline(_) => {
            response.error_code = as_code(ErrorCode::UnknownServerError);
        }
    }
    response
}

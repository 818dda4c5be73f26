//! CreatePartitions (key 37): more partitions for existing topics (KIP-195).

use highwater_base::Now;
use highwater_reactor::Outbox;
use highwater_wire::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopicResult,
};
use highwater_wire::{Array, DecodeError};

use super::{Request, as_code, check_entries};
use crate::message::Message;
use crate::metadata::controller::{Change, ChangeOutcome};
use crate::shard::Shard;

impl Shard {
    pub(crate) fn handle_create_partitions(
        &mut self,
        now: Now,
        request: &Request,
        body: &[u8],
        out: &mut Outbox<Message>,
    ) -> Result<(), DecodeError> {
        let decoded = CreatePartitionsRequest::parse(request.version, body)?;
        check_entries(decoded.topics.iter().map(|topic| {
            let assignments = topic.assignments.unwrap_or_default();
            let brokers = assignments.iter().map(|one| one.broker_ids.len());
            1 + assignments.len() + brokers.sum::<usize>()
        }))?;
        let topics = decoded
            .topics
            .iter()
            .map(|topic| {
                let assignments = topic.assignments.map(|assignments| {
                    assignments
                        .iter()
                        .map(|one| one.broker_ids.iter().collect())
                        .collect()
                });
                (topic.name.to_string(), topic.count, assignments)
            })
            .collect();
        let change = Change::CreatePartitions {
            topics,
            validate_only: decoded.validate_only,
        };
        self.request_change(now, request.pending_change(body), change, out);
        Ok(())
    }

    pub(crate) fn answer_create_partitions(
        &mut self,
        request: &Request,
        body: &[u8],
        outcome: &ChangeOutcome,
        out: &mut Outbox<Message>,
    ) -> Result<(), DecodeError> {
        let decoded = CreatePartitionsRequest::parse(request.version, body)?;
        let results: Vec<CreatePartitionsTopicResult<'_>> = decoded
            .topics
            .iter()
            .zip(outcome)
            .map(|(topic, result)| CreatePartitionsTopicResult {
                name: topic.name,
                error_code: result
                    .as_ref()
                    .map_or_else(|error| as_code(error.code), |_| 0),
                error_message: result.as_ref().err().map(|error| error.message.as_str()),
                ..Default::default()
            })
            .collect();
        let response = CreatePartitionsResponse {
            results: Array::from(&results),
            ..Default::default()
        };
        self.respond(request, out, |version, bytes| {
            response.encode(version, bytes)
        });
        Ok(())
    }
}

//! CreateTopics (key 19): new topics, each entry succeeding or failing by itself (KIP-4, KIP-464).

use highwater_base::{ErrorCode, Now};
use highwater_reactor::Outbox;
use highwater_wire::create_topics::{
    CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest, CreateTopicsResponse,
};
use highwater_wire::{Array, DecodeError};

use super::describe_configs::SOURCE_TOPIC;
use super::{Request, as_code, check_entries};
use crate::config::topic::KEYS;
use crate::message::Message;
use crate::metadata::controller::{Change, ChangeOutcome, Changed, NewTopic};
use crate::shard::Shard;

impl Shard {
    pub(crate) fn handle_create_topics(
        &mut self,
        now: Now,
        request: &Request,
        body: &[u8],
        out: &mut Outbox<Message>,
    ) -> Result<(), DecodeError> {
        let decoded = CreateTopicsRequest::parse(request.version, body)?;
        check_entries(decoded.topics.iter().map(|topic| {
            let brokers = topic.assignments.iter().map(|one| one.broker_ids.len());
            1 + topic.assignments.len() + topic.configs.len() + brokers.sum::<usize>()
        }))?;
        let topics = decoded
            .topics
            .iter()
            .map(|topic| NewTopic {
                name: topic.name.to_string(),
                partitions: topic.num_partitions,
                replication_factor: i32::from(topic.replication_factor),
                assignments: topic
                    .assignments
                    .iter()
                    .map(|one| (one.partition_index, one.broker_ids.iter().collect()))
                    .collect(),
                configs: topic
                    .configs
                    .iter()
                    .map(|config| (config.name.to_string(), config.value.map(String::from)))
                    .collect(),
            })
            .collect();
        let change = Change::CreateTopics {
            topics,
            validate_only: decoded.validate_only,
        };
        self.request_change(now, request.pending_change(body), change, out);
        Ok(())
    }

    pub(crate) fn answer_create_topics(
        &mut self,
        request: &Request,
        body: &[u8],
        outcome: &ChangeOutcome,
        out: &mut Outbox<Message>,
    ) -> Result<(), DecodeError> {
        let decoded = CreateTopicsRequest::parse(request.version, body)?;
        let names: Vec<&str> = decoded.topics.iter().map(|topic| topic.name).collect();
        let values: Vec<Vec<(String, i8)>> = outcome
            .iter()
            .map(|result| match result {
                Ok(Changed::Created { overrides, .. }) => self.effective_values(overrides),
                _ => Vec::new(),
            })
            .collect();
        let configs: Vec<Vec<CreatableTopicConfigs<'_>>> =
            values.iter().map(|values| config_entries(values)).collect();
        let topics: Vec<CreatableTopicResult<'_>> = names
            .iter()
            .zip(outcome)
            .zip(&configs)
            .map(|((name, result), configs)| match result {
                Ok(Changed::Created {
                    topic_id,
                    partitions,
                    ..
                }) => CreatableTopicResult {
                    name,
                    topic_id: *topic_id,
                    num_partitions: *partitions as i32,
                    replication_factor: 1,
                    configs: Some(Array::from(configs)),
                    ..Default::default()
                },
                Ok(_) => CreatableTopicResult {
                    name,
                    ..Default::default()
                },
                Err(error) => CreatableTopicResult {
                    name,
                    error_code: as_code(error.code),
                    error_message: Some(&error.message),
                    topic_config_error_code: as_code(ErrorCode::None),
                    num_partitions: -1,
                    replication_factor: -1,
                    configs: None,
                    ..Default::default()
                },
            })
            .collect();
        let response = CreateTopicsResponse {
            topics: Array::from(&topics),
            ..Default::default()
        };
        self.respond(request, out, |version, bytes| {
            response.encode(version, bytes)
        });
        Ok(())
    }

    /// The value of every key for a topic with these overrides, and the number of its source.
    fn effective_values(&self, overrides: &[(String, String)]) -> Vec<(String, i8)> {
        KEYS.iter()
            .map(
                |key| match overrides.iter().find(|(name, _)| name == key.name) {
                    Some((_, value)) => (value.clone(), SOURCE_TOPIC),
                    None => (self.image.defaults().value(key), self.default_source(key)),
                },
            )
            .collect()
    }
}

fn config_entries(values: &[(String, i8)]) -> Vec<CreatableTopicConfigs<'_>> {
    KEYS.iter()
        .zip(values)
        .map(|(key, (value, source))| CreatableTopicConfigs {
            name: key.name,
            value: Some(value),
            config_source: *source,
            ..Default::default()
        })
        .collect()
}

//! Creating, growing and deleting topics.

use highwater_base::{ErrorCode, TopicId};
use highwater_wire::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
};
use highwater_wire::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse,
};
use highwater_wire::delete_topics::{DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse};
use highwater_wire::{ApiKey, Array, EncodeError};

use super::{AnswerError, CHANGE_TIMEOUT_MS, Call};
use crate::error::ClientError;

fn subject(name: &str) -> String {
    format!("topic {name:?}")
}

/// Creates one topic.
#[derive(Clone, Debug, Default)]
pub struct CreateTopic {
    pub name: String,
    /// -1 takes the broker's default.
    pub partitions: i32,
    /// -1 takes the broker's default.
    pub replication_factor: i16,
    /// Overridden configuration.
    pub configs: Vec<(String, String)>,
}

/// A topic that was created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Zero when the broker's version does not tell, or an attempt without an answer made it.
    pub id: TopicId,
    /// -1 when the broker's version does not tell.
    pub partitions: i32,
    pub replication_factor: i16,
}

impl Call for CreateTopic {
    const API: ApiKey = ApiKey::CreateTopics;
    type Answer = CreatedTopic;

    fn made_topic(&self) -> Option<&str> {
        Some(&self.name)
    }

    fn encode(&self, version: i16, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let configs: Vec<CreatableTopicConfig<'_>> = self
            .configs
            .iter()
            .map(|(name, value)| CreatableTopicConfig {
                name,
                value: Some(value),
            })
            .collect();
        let topics = [CreatableTopic {
            name: &self.name,
            num_partitions: self.partitions,
            replication_factor: self.replication_factor,
            configs: Array::from(&configs),
            ..Default::default()
        }];
        CreateTopicsRequest {
            topics: Array::from(&topics),
            timeout_ms: CHANGE_TIMEOUT_MS,
            validate_only: false,
        }
        .encode(version, out)
    }

    fn decode(&self, version: i16, body: &[u8]) -> Result<CreatedTopic, AnswerError> {
        let response = CreateTopicsResponse::parse(version, body)?;
        let result = response.topics.iter().find(|topic| topic.name == self.name);
        let result = result.ok_or_else(|| AnswerError::Missing(subject(&self.name)))?;
        ClientError::check(
            &subject(&self.name),
            result.error_code,
            result.error_message,
        )?;
        Ok(CreatedTopic {
            id: result.topic_id,
            partitions: result.num_partitions,
            replication_factor: result.replication_factor,
        })
    }

    fn found_done(&self, code: ErrorCode) -> Option<CreatedTopic> {
        (code == ErrorCode::TopicAlreadyExists).then_some(CreatedTopic {
            id: TopicId([0; 16]),
            partitions: -1,
            replication_factor: -1,
        })
    }
}

/// Deletes one topic by its name.
#[derive(Clone, Debug, Default)]
pub struct DeleteTopic {
    pub name: String,
}

impl Call for DeleteTopic {
    const API: ApiKey = ApiKey::DeleteTopics;
    type Answer = ();

    fn encode(&self, version: i16, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let topics = [DeleteTopicState {
            name: Some(&self.name),
            ..Default::default()
        }];
        let names = [self.name.as_str()];
        DeleteTopicsRequest {
            topics: Array::from(&topics),
            topic_names: Array::from(&names),
            timeout_ms: CHANGE_TIMEOUT_MS,
        }
        .encode(version, out)
    }

    fn decode(&self, version: i16, body: &[u8]) -> Result<(), AnswerError> {
        let response = DeleteTopicsResponse::parse(version, body)?;
        let result = response
            .responses
            .iter()
            .find(|topic| topic.name == Some(&self.name));
        let result = result.ok_or_else(|| AnswerError::Missing(subject(&self.name)))?;
        ClientError::check(
            &subject(&self.name),
            result.error_code,
            result.error_message,
        )?;
        Ok(())
    }

    fn found_done(&self, code: ErrorCode) -> Option<()> {
        (code == ErrorCode::UnknownTopicOrPartition).then_some(())
    }
}

/// Raises a topic's number of partitions to `total`.
#[derive(Clone, Debug, Default)]
pub struct CreatePartitions {
    pub topic: String,
    pub total: i32,
}

impl Call for CreatePartitions {
    const API: ApiKey = ApiKey::CreatePartitions;
    type Answer = ();

    fn encode(&self, version: i16, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let topics = [CreatePartitionsTopic {
            name: &self.topic,
            count: self.total,
            assignments: None,
        }];
        CreatePartitionsRequest {
            topics: Array::from(&topics),
            timeout_ms: CHANGE_TIMEOUT_MS,
            validate_only: false,
        }
        .encode(version, out)
    }

    fn decode(&self, version: i16, body: &[u8]) -> Result<(), AnswerError> {
        let response = CreatePartitionsResponse::parse(version, body)?;
        let result = response
            .results
            .iter()
            .find(|topic| topic.name == self.topic);
        let result = result.ok_or_else(|| AnswerError::Missing(subject(&self.topic)))?;
        ClientError::check(
            &subject(&self.topic),
            result.error_code,
            result.error_message,
        )?;
        Ok(())
    }
}

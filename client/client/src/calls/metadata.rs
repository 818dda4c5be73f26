//! Metadata: brokers, topics, partitions and leaders.

use highwater_wire::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseTopic,
};
use highwater_wire::{ApiKey, Array, EncodeError};

use super::{AnswerError, Call, owned};
use crate::metadata::{Broker, MetadataAnswer, PartitionMetadata, TopicMetadata};

/// Asks for the brokers and for some or all topics. Never creates a topic.
#[derive(Clone, Debug, Default)]
pub struct FetchMetadata {
    /// Names of topics; `None` asks for all, an empty list for none.
    pub topics: Option<Vec<String>>,
}

impl Call for FetchMetadata {
    const API: ApiKey = ApiKey::Metadata;
    type Answer = MetadataAnswer;

    fn encode(&self, version: i16, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let topics: Option<Vec<MetadataRequestTopic<'_>>> = self.topics.as_ref().map(|names| {
            names
                .iter()
                .map(|name| MetadataRequestTopic {
                    name: Some(name),
                    ..Default::default()
                })
                .collect()
        });
        MetadataRequest {
            topics: topics.as_ref().map(Array::from),
            allow_auto_topic_creation: false,
            ..Default::default()
        }
        .encode(version, out)
    }

    fn decode(&self, version: i16, body: &[u8]) -> Result<MetadataAnswer, AnswerError> {
        let response = MetadataResponse::parse(version, body)?;
        let brokers = response.brokers.iter().filter_map(|broker| {
            Some(Broker {
                id: broker.node_id,
                host: broker.host.to_string(),
                port: u16::try_from(broker.port).ok()?,
                rack: owned(broker.rack),
            })
        });
        Ok(MetadataAnswer {
            brokers: brokers.collect(),
            cluster_id: owned(response.cluster_id),
            controller_id: Some(response.controller_id).filter(|id| *id >= 0),
            topics: response
                .topics
                .iter()
                .filter_map(|topic| topic_of(&topic))
                .collect(),
        })
    }
}

fn topic_of(topic: &MetadataResponseTopic<'_>) -> Option<TopicMetadata> {
    let mut partitions: Vec<PartitionMetadata> = topic
        .partitions
        .iter()
        .map(|partition| PartitionMetadata {
            index: partition.partition_index,
            leader: Some(partition.leader_id).filter(|leader| *leader >= 0),
            leader_epoch: partition.leader_epoch,
            replicas: partition.replica_nodes.iter().collect(),
            in_sync: partition.isr_nodes.iter().collect(),
        })
        .collect();
    partitions.sort_by_key(|partition| partition.index);
    // Partitions are looked up by position: what does not count up from zero cannot be used.
    let gapless = partitions
        .iter()
        .enumerate()
        .all(|(at, one)| usize::try_from(one.index) == Ok(at));
    if !gapless {
        partitions.clear();
    }
    Some(TopicMetadata {
        name: topic.name?.to_string(),
        id: topic.topic_id,
        error_code: topic.error_code,
        is_internal: topic.is_internal,
        partitions,
    })
}

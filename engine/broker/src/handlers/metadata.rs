//! Metadata (key 3): brokers, topics, partitions, leaders; creates missing topics where both the
//! request and the broker allow it.

use highwater_base::{ErrorCode, Now, TopicId};
use highwater_reactor::Outbox;
use highwater_wire::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic,
};
use highwater_wire::{Array, DecodeError};

use super::{Request, as_code};
use crate::message::Message;
use crate::metadata::Topic;
use crate::metadata::controller::{Change, NewTopic, check_topic_name};
use crate::shard::{INITIAL_EPOCH, Shard};

/// "Not asked for" in fields of authorised operations (KIP-430).
pub(crate) const NO_OPERATIONS: i32 = i32::MIN;

impl Shard {
    /// `may_create` is false when the request comes back after its topics were created.
    pub(crate) fn handle_metadata(
        &mut self,
        now: Now,
        request: &Request,
        body: &[u8],
        may_create: bool,
        out: &mut Outbox<Message>,
    ) -> Result<(), DecodeError> {
        let decoded = MetadataRequest::parse(request.version, body)?;
        // Version 0 asks for all topics with an empty list, later ones with null.
        let named = decoded
            .topics
            .filter(|topics| request.version > 0 || !topics.is_empty());
        let allowed = request.version < 4 || decoded.allow_auto_topic_creation;
        if may_create
            && allowed
            && self.node.config.auto_create_topics
            && let Some(topics) = &named
        {
            let missing = self.missing_topics(topics.iter());
            if !missing.is_empty() {
                let change = Change::CreateTopics {
                    topics: missing,
                    validate_only: false,
                };
                self.request_change(now, request.pending_change(body), change, out);
                return Ok(());
            }
        }
        self.answer_metadata(request, named, out);
        Ok(())
    }

    fn missing_topics<'a>(
        &self,
        topics: impl Iterator<Item = MetadataRequestTopic<'a>>,
    ) -> Vec<NewTopic> {
        let mut missing: Vec<NewTopic> = Vec::new();
        for name in topics.filter_map(|topic| topic.name) {
            let known = self.image.topic_by_name(name).is_some();
            if known || check_topic_name(name).is_err() || missing.iter().any(|t| t.name == name) {
                continue;
            }
            missing.push(NewTopic {
                name: name.to_string(),
                partitions: -1,
                replication_factor: -1,
                ..NewTopic::default()
            });
        }
        missing
    }

    fn answer_metadata(
        &mut self,
        request: &Request,
        named: Option<Array<'_, MetadataRequestTopic<'_>>>,
        out: &mut Outbox<Message>,
    ) {
        let cluster_id = self.node.cluster_id.to_string();
        let advertised = self.node.brokers();
        let brokers: Vec<MetadataResponseBroker<'_>> = advertised
            .iter()
            .map(|broker| MetadataResponseBroker {
                node_id: broker.id,
                host: &broker.host,
                port: i32::from(broker.port),
                ..Default::default()
            })
            .collect();
        let rows = self.metadata_rows(named);
        // One list per leader is enough for all partitions: there is a single replica.
        let replicas: Vec<[i32; 1]> = advertised.iter().map(|broker| [broker.id]).collect();
        let partitions: Vec<Vec<MetadataResponsePartition<'_>>> = rows
            .iter()
            .map(|row| self.partition_rows(row.topic, &replicas))
            .collect();
        let topics: Vec<MetadataResponseTopic<'_>> = rows
            .iter()
            .zip(&partitions)
            .map(|(row, partitions)| MetadataResponseTopic {
                error_code: as_code(row.error),
                name: row.name,
                topic_id: row.id,
                is_internal: false,
                partitions: Array::from(partitions),
                topic_authorized_operations: NO_OPERATIONS,
            })
            .collect();
        let response = MetadataResponse {
            brokers: Array::from(&brokers),
            cluster_id: Some(&cluster_id),
            controller_id: self.node.controller_id(),
            topics: Array::from(&topics),
            cluster_authorized_operations: NO_OPERATIONS,
            ..Default::default()
        };
        let mut bytes = Vec::new();
        let encoded = response.encode(request.version, &mut bytes);
        self.respond(request, out, |_, out| {
            out.extend_from_slice(&bytes);
            encoded
        });
    }

    fn metadata_rows<'a>(
        &'a self,
        named: Option<Array<'a, MetadataRequestTopic<'a>>>,
    ) -> Vec<TopicRow<'a>> {
        let Some(named) = named else {
            return self.image.topics_by_name().map(TopicRow::known).collect();
        };
        named
            .iter()
            .map(|asked| match asked.name {
                Some(name) => match self.image.topic_by_name(name) {
                    Some(topic) => TopicRow::known(topic),
                    None => {
                        let error = match check_topic_name(name) {
                            Ok(()) => ErrorCode::UnknownTopicOrPartition,
                            Err(error) => error.code,
                        };
                        TopicRow {
                            error,
                            name: Some(name),
                            id: TopicId::ZERO,
                            topic: None,
                        }
                    }
                },
                None => match self.image.topic(asked.topic_id) {
                    Some(topic) => TopicRow::known(topic),
                    None => TopicRow {
                        error: ErrorCode::UnknownTopicId,
                        name: None,
                        id: asked.topic_id,
                        topic: None,
                    },
                },
            })
            .collect()
    }

    fn partition_rows<'a>(
        &self,
        topic: Option<&Topic>,
        replicas: &'a [[i32; 1]],
    ) -> Vec<MetadataResponsePartition<'a>> {
        let Some(topic) = topic else {
            return Vec::new();
        };
        (0..topic.partitions)
            .map(|partition| {
                let leader = self.node.broker_of(topic.core_of(partition, self.cores));
                let nodes: &[i32] = replicas
                    .iter()
                    .find(|replica| replica[0] == leader)
                    .map_or(&[], |replica| replica.as_slice());
                MetadataResponsePartition {
                    partition_index: partition as i32,
                    leader_id: leader,
                    leader_epoch: INITIAL_EPOCH.as_leader_epoch(),
                    replica_nodes: Array::from(nodes),
                    isr_nodes: Array::from(nodes),
                    ..Default::default()
                }
            })
            .collect()
    }
}

/// One topic of the answer.
struct TopicRow<'a> {
    error: ErrorCode,
    name: Option<&'a str>,
    id: TopicId,
    topic: Option<&'a Topic>,
}

impl<'a> TopicRow<'a> {
    fn known(topic: &'a Topic) -> TopicRow<'a> {
        TopicRow {
            error: ErrorCode::None,
            name: Some(&topic.name),
            id: topic.id,
            topic: Some(topic),
        }
    }
}

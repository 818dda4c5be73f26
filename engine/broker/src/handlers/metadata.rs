//! Metadata (key 3): brokers, topics, partitions, leaders; creates missing topics where both the
//! request and the broker allow it.

use std::collections::BTreeSet;

use highwater_base::{ErrorCode, Now, TopicId};
use highwater_reactor::Outbox;
use highwater_wire::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic,
};
use highwater_wire::{Array, DecodeError};

use super::{CHANGE_ENTRIES_MAX, Request, as_code};
use crate::message::Message;
use crate::metadata::controller::{Change, NewTopic, is_topic_name};
use crate::metadata::image::is_internal;
use crate::metadata::{Image, Topic};
use crate::offline::{Leader, NO_LEADER};
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
            let change = missing_topics(&self.image, topics.iter());
            if let Some(change) = change {
                self.request_change(now, request.pending_change(body), change, out);
                return Ok(());
            }
        }
        self.answer_metadata(request, named, out);
        Ok(())
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
        let rows = topic_rows(&self.image, named);
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
                is_internal: row.name.is_some_and(is_internal),
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
                let leader = self.leader_of(topic, partition);
                let (Leader::Online(broker) | Leader::Offline(broker)) = leader;
                let nodes: &[i32] = replicas
                    .iter()
                    .find(|replica| replica[0] == broker)
                    .map_or(&[], |replica| replica.as_slice());
                let online = MetadataResponsePartition {
                    partition_index: partition as i32,
                    leader_id: broker,
                    leader_epoch: INITIAL_EPOCH.as_leader_epoch(),
                    replica_nodes: Array::from(nodes),
                    isr_nodes: Array::from(nodes),
                    ..Default::default()
                };
                match leader {
                    Leader::Online(_) => online,
                    Leader::Offline(_) => MetadataResponsePartition {
                        error_code: as_code(ErrorCode::LeaderNotAvailable),
                        leader_id: NO_LEADER,
                        offline_replicas: Array::from(nodes),
                        ..online
                    },
                }
            })
            .collect()
    }
}

/// What creates topics asked for by name that do not exist and may, each once, up to the bound of
/// one change. The topic of offsets has a configuration of its own and so comes alone; who asked
/// for others too asks again.
fn missing_topics<'a>(
    image: &Image,
    topics: impl Iterator<Item = MetadataRequestTopic<'a>>,
) -> Option<Change> {
    let names: BTreeSet<&str> = topics
        .filter(|topic| topic.topic_id == TopicId::ZERO)
        .filter_map(|topic| topic.name)
        .filter(|name| is_topic_name(name))
        .filter(|name| image.topic_by_name(name).is_none())
        .collect();
    if names.iter().any(|name| is_internal(name)) {
        return Some(Change::CreateOffsetsTopic);
    }
    let topics: Vec<NewTopic> = names
        .into_iter()
        .take(CHANGE_ENTRIES_MAX)
        .map(|name| NewTopic {
            name: name.to_string(),
            partitions: -1,
            replication_factor: -1,
            ..NewTopic::default()
        })
        .collect();
    (!topics.is_empty()).then_some(Change::CreateTopics {
        topics,
        validate_only: false,
    })
}

/// What the answer says of the topics asked for. A topic has one row however often it is named, as
/// in Kafka: a small request repeating a topic of many partitions would ask for gigabytes.
fn topic_rows<'a>(
    image: &'a Image,
    named: Option<Array<'a, MetadataRequestTopic<'a>>>,
) -> Vec<TopicRow<'a>> {
    let Some(named) = named else {
        return image.topics_by_name().map(TopicRow::known).collect();
    };
    let mut answered = BTreeSet::new();
    named
        .iter()
        .map(|asked| TopicRow::of(image, &asked))
        .filter(|row| answered.insert((row.id, row.name)))
        .collect()
}

/// One topic of the answer.
struct TopicRow<'a> {
    error: ErrorCode,
    name: Option<&'a str>,
    id: TopicId,
    topic: Option<&'a Topic>,
}

impl<'a> TopicRow<'a> {
    /// An id counts before a name: who asks by id may leave the name empty instead of null.
    fn of(image: &'a Image, asked: &MetadataRequestTopic<'a>) -> TopicRow<'a> {
        let named = asked.name.filter(|_| asked.topic_id == TopicId::ZERO);
        let (topic, error) = match named {
            Some(name) if !is_topic_name(name) => (None, ErrorCode::InvalidTopicException),
            Some(name) => (
                image.topic_by_name(name),
                ErrorCode::UnknownTopicOrPartition,
            ),
            None => (image.topic(asked.topic_id), ErrorCode::UnknownTopicId),
        };
        match topic {
            Some(topic) => TopicRow::known(topic),
            None => TopicRow {
                error,
                name: named,
                id: asked.topic_id,
                topic: None,
            },
        }
    }

    fn known(topic: &'a Topic) -> TopicRow<'a> {
        TopicRow {
            error: ErrorCode::None,
            name: Some(&topic.name),
            id: topic.id,
            topic: Some(topic),
        }
    }
}

#[cfg(test)]
mod tests {
    use highwater_groups::OFFSETS_TOPIC;

    use super::*;
    use crate::config::TopicConfig;
    use crate::metadata::MetadataRecord;

    fn image() -> Image {
        let mut image = Image::new(1, TopicConfig::default());
        image.apply(&MetadataRecord::Topic {
            topic_id: [7; 16],
            name: "known".to_string(),
            partitions: 10_000,
            core_slot_base: 0,
            config: Vec::new(),
        });
        image
    }

    fn by_name(name: &str) -> MetadataRequestTopic<'_> {
        MetadataRequestTopic {
            name: Some(name),
            ..Default::default()
        }
    }

    fn by_id(id: u8) -> MetadataRequestTopic<'static> {
        MetadataRequestTopic {
            topic_id: TopicId([id; 16]),
            name: None,
        }
    }

    #[test]
    fn a_topic_named_often_has_one_row() {
        let image = image();
        let asked = [
            by_name("known"),
            by_name("unknown"),
            by_name("known"),
            by_id(7),
            by_name("b/d"),
            by_id(8),
            by_name("unknown"),
            by_id(8),
            by_name("b/d"),
        ];
        let rows = topic_rows(&image, Some(Array::from(&asked)));
        let rows: Vec<_> = rows
            .iter()
            .map(|row| (row.name, row.id.0[0], row.error))
            .collect();
        assert_eq!(
            rows,
            [
                (Some("known"), 7, ErrorCode::None),
                (Some("unknown"), 0, ErrorCode::UnknownTopicOrPartition),
                (Some("b/d"), 0, ErrorCode::InvalidTopicException),
                (None, 8, ErrorCode::UnknownTopicId),
            ]
        );
    }

    #[test]
    fn a_topic_asked_for_by_id_is_found_though_its_name_is_empty_instead_of_null() {
        // So asks Java's admin client; it takes a row without id for a broken answer.
        let image = image();
        let unnamed = |id: u8| MetadataRequestTopic {
            name: Some(""),
            ..by_id(id)
        };
        let asked = [unnamed(7), unnamed(8)];
        let rows = topic_rows(&image, Some(Array::from(&asked)));
        let rows: Vec<_> = rows
            .iter()
            .map(|row| (row.name, row.id.0[0], row.error))
            .collect();
        assert_eq!(
            rows,
            [
                (Some("known"), 7, ErrorCode::None),
                (None, 8, ErrorCode::UnknownTopicId),
            ]
        );
        let named = MetadataRequestTopic {
            name: Some("new"),
            ..by_id(8)
        };
        assert_eq!(missing_topics(&image, [named].into_iter()), None);
    }

    #[test]
    fn the_topic_of_offsets_is_created_by_asking_for_it_with_its_own_configuration() {
        let asked = [by_name("new"), by_name(OFFSETS_TOPIC)];
        assert_eq!(
            missing_topics(&image(), asked.into_iter()),
            Some(Change::CreateOffsetsTopic)
        );
    }

    #[test]
    fn a_million_missing_topics_are_found_in_little_time() {
        // Looking each name up among all missing ones so far would not come to an end here.
        const NAMES: usize = 2 * CHANGE_ENTRIES_MAX;
        let image = image();
        let names: Vec<String> = (0..NAMES / 2).map(|at| format!("{at:0100}")).collect();
        let twice = names.iter().chain(&names).map(|name| by_name(name));
        let missing = missing_topics(&image, twice.chain([by_name("known"), by_name("b/d")]));
        let Some(Change::CreateTopics { topics, .. }) = missing else {
            panic!("topics are missing, got {missing:?}");
        };
        assert_eq!(topics.len(), NAMES / 2);
    }
}

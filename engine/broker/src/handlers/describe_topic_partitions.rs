//! DescribeTopicPartitions (key 75): topics in name order, page by page (KIP-966).

use std::collections::BTreeSet;

use highwater_base::ErrorCode;
use highwater_reactor::Outbox;
use highwater_wire::describe_topic_partitions::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic, NextCursor,
};
use highwater_wire::{Array, DecodeError};

use super::metadata::NO_OPERATIONS;
use super::{Request, as_code};
use crate::message::Message;
use crate::metadata::controller::is_topic_name;
use crate::metadata::image::is_internal;
use crate::metadata::{Image, Topic};
use crate::offline::{Leader, NO_LEADER};
use crate::shard::{INITIAL_EPOCH, Shard};

/// Partitions in one answer, whatever the client asks for (Kafka's default bound).
const PARTITIONS_PER_ANSWER_MAX: usize = 2000;

/// A topic of the page: what is asked of it and the partitions of it that fit.
struct PageTopic<'a> {
    name: &'a str,
    topic: Option<&'a Topic>,
    from: u32,
    to: u32,
}

impl PageTopic<'_> {
    fn error(&self) -> ErrorCode {
        match self.topic {
            Some(_) => ErrorCode::None,
            None if !is_topic_name(self.name) => ErrorCode::InvalidTopicException,
            None => ErrorCode::UnknownTopicOrPartition,
        }
    }
}

/// The page of `names`, which ascend, that starts at the cursor, and where the next one starts.
fn page_of<'a>(
    image: &'a Image,
    names: impl Iterator<Item = &'a str>,
    cursor: Option<(&str, u32)>,
    limit: usize,
) -> (Vec<PageTopic<'a>>, Option<(&'a str, u32)>) {
    let mut page = Vec::new();
    let mut left = limit as u32;
    for name in names {
        let from = match cursor {
            Some((start, _)) if name < start => continue,
            Some((start, partition)) if name == start => partition,
            _ => 0,
        };
        let topic = image.topic_by_name(name);
        let total = topic.map_or(0, |topic| topic.partitions);
        if left == 0 {
            return (page, Some((name, from)));
        }
        let to = total.min(from.saturating_add(left));
        left -= to.saturating_sub(from);
        page.push(PageTopic {
            name,
            topic,
            from,
            to,
        });
        if to < total {
            return (page, Some((name, to)));
        }
    }
    (page, None)
}

impl Shard {
    pub(crate) fn handle_describe_topic_partitions(
        &mut self,
        request: &Request,
        body: &[u8],
        out: &mut Outbox<Message>,
    ) -> Result<(), DecodeError> {
        let decoded = DescribeTopicPartitionsRequest::parse(request.version, body)?;
        let asked = usize::try_from(decoded.response_partition_limit).unwrap_or(0);
        let limit = asked.clamp(1, PARTITIONS_PER_ANSWER_MAX);
        let cursor = decoded
            .cursor
            .map(|cursor| (cursor.topic_name, cursor.partition_index.max(0) as u32));
        let (page, next) = if decoded.topics.is_empty() {
            let start = cursor.map_or("", |(name, _)| name);
            let names = self.image.topics_from(start).map(|topic| &*topic.name);
            page_of(&self.image, names, cursor, limit)
        } else {
            let names: BTreeSet<&str> = decoded.topics.iter().map(|topic| topic.name).collect();
            page_of(&self.image, names.into_iter(), cursor, limit)
        };
        let mut bytes = Vec::new();
        let encoded = self.encode_page(&page, next, request.version, &mut bytes);
        self.respond(request, out, |_, out| {
            out.extend_from_slice(&bytes);
            encoded
        });
        Ok(())
    }

    fn encode_page(
        &self,
        page: &[PageTopic<'_>],
        next: Option<(&str, u32)>,
        version: i16,
        bytes: &mut Vec<u8>,
    ) -> Result<(), highwater_wire::EncodeError> {
        let brokers = self.node.brokers();
        let replicas: Vec<[i32; 1]> = brokers.iter().map(|broker| [broker.id]).collect();
        let partitions: Vec<Vec<DescribeTopicPartitionsResponsePartition<'_>>> = page
            .iter()
            .map(|entry| {
                let Some(topic) = entry.topic else {
                    return Vec::new();
                };
                (entry.from..entry.to)
                    .map(|at| self.partition_row(topic, at, &replicas))
                    .collect()
            })
            .collect();
        let topics: Vec<DescribeTopicPartitionsResponseTopic<'_>> = page
            .iter()
            .zip(&partitions)
            .map(|(entry, partitions)| DescribeTopicPartitionsResponseTopic {
                error_code: as_code(entry.error()),
                name: Some(entry.name),
                topic_id: entry.topic.map(|topic| topic.id).unwrap_or_default(),
                is_internal: is_internal(entry.name),
                partitions: Array::from(partitions),
                topic_authorized_operations: NO_OPERATIONS,
                ..Default::default()
            })
            .collect();
        let response = DescribeTopicPartitionsResponse {
            topics: Array::from(&topics),
            next_cursor: next.map(|(topic_name, partition)| NextCursor {
                topic_name,
                partition_index: partition as i32,
            }),
            ..Default::default()
        };
        response.encode(version, bytes)
    }

    fn partition_row<'a>(
        &self,
        topic: &Topic,
        partition: u32,
        replicas: &'a [[i32; 1]],
    ) -> DescribeTopicPartitionsResponsePartition<'a> {
        let leader = self.leader_of(topic, partition);
        let (Leader::Online(broker) | Leader::Offline(broker)) = leader;
        let nodes: &[i32] = replicas
            .iter()
            .find(|replica| replica[0] == broker)
            .map_or(&[], |replica| replica.as_slice());
        let online = DescribeTopicPartitionsResponsePartition {
            partition_index: partition as i32,
            leader_id: broker,
            leader_epoch: INITIAL_EPOCH.as_leader_epoch(),
            replica_nodes: Array::from(nodes),
            isr_nodes: Array::from(nodes),
            // The Java client takes no null here.
            eligible_leader_replicas: Some(Array::default()),
            last_known_elr: Some(Array::default()),
            ..Default::default()
        };
        match leader {
            Leader::Online(_) => online,
            Leader::Offline(_) => DescribeTopicPartitionsResponsePartition {
                error_code: as_code(ErrorCode::LeaderNotAvailable),
                leader_id: NO_LEADER,
                offline_replicas: Array::from(nodes),
                ..online
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TopicConfig;
    use crate::metadata::MetadataRecord;

    #[test]
    fn pages_follow_each_other_until_every_partition_was_told() {
        let mut image = Image::new(1, TopicConfig::default());
        for (id, name, partitions) in [(1, "a", 3), (2, "b", 1), (3, "c", 5)] {
            image.apply(&MetadataRecord::Topic {
                topic_id: [id; 16],
                name: name.to_string(),
                partitions,
                core_slot_base: 0,
                config: Vec::new(),
            });
        }
        let names = ["a", "b", "b/d", "c", "unknown"];
        let (mut told, mut cursor) = (Vec::new(), None);
        loop {
            let (page, next) = page_of(&image, names.into_iter(), cursor, 2);
            for entry in &page {
                let partitions = entry.from..entry.to;
                told.extend(partitions.map(|at| (entry.name, at)));
                match entry.name {
                    "b/d" => assert_eq!(entry.error(), ErrorCode::InvalidTopicException),
                    "unknown" => assert_eq!(entry.error(), ErrorCode::UnknownTopicOrPartition),
                    _ => assert_eq!(entry.error(), ErrorCode::None),
                }
            }
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        let whole = [("a", 3), ("b", 1), ("c", 5)];
        let expected: Vec<(&str, u32)> = whole
            .into_iter()
            .flat_map(|(name, partitions)| (0..partitions).map(move |at| (name, at)))
            .collect();
        assert_eq!(told, expected);
    }
}

//! What the cluster looks like: brokers, topics, partitions and their leaders, as last heard.
//!
//! The cache only ever replaces what a newer answer names. A leader epoch never goes back: an
//! answer from a broker that lags behind must not send producers to a deposed leader.

use std::collections::BTreeMap;

use highwater_base::{ErrorCode, TopicId};

use crate::error::ClientError;

/// A broker as it advertises itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    pub id: i32,
    pub host: String,
    pub port: u16,
    pub rack: Option<String>,
}

/// A partition: who leads it and who follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionMetadata {
    pub index: i32,
    /// `None` while there is no leader.
    pub leader: Option<i32>,
    /// -1 when the broker's version of Metadata does not tell.
    pub leader_epoch: i32,
    pub replicas: Vec<i32>,
    pub in_sync: Vec<i32>,
}

/// A topic, or why there is nothing to say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicMetadata {
    pub name: String,
    /// Zero when the broker's version of Metadata does not tell.
    pub id: TopicId,
    /// The answer's error code for this topic; 0 for none.
    pub error_code: i16,
    pub is_internal: bool,
    /// Ascending by index, without gaps.
    pub partitions: Vec<PartitionMetadata>,
}

/// One answer to a Metadata request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetadataAnswer {
    pub brokers: Vec<Broker>,
    pub cluster_id: Option<String>,
    pub controller_id: Option<i32>,
    pub topics: Vec<TopicMetadata>,
}

/// The newest known picture.
#[derive(Clone, Debug, Default)]
pub struct MetadataCache {
    brokers: BTreeMap<i32, Broker>,
    cluster_id: Option<String>,
    controller_id: Option<i32>,
    topics: BTreeMap<String, TopicMetadata>,
}

impl MetadataCache {
    /// Takes in an answer; topics it does not name stay as they were.
    pub fn update(&mut self, answer: MetadataAnswer) {
        self.brokers = answer
            .brokers
            .into_iter()
            .map(|broker| (broker.id, broker))
            .collect();
        self.cluster_id = answer.cluster_id;
        self.controller_id = answer.controller_id;
        for mut topic in answer.topics {
            match ErrorCode::from_code(topic.error_code) {
                Some(ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId) => {
                    self.topics.remove(&topic.name);
                    continue;
                }
                // No news about the topic itself: what was known stays the best guess.
                Some(ErrorCode::None) => {}
                _ if self.topics.contains_key(&topic.name) => continue,
                _ => {}
            }
            if let Some(known) = self.topics.remove(&topic.name) {
                keep_newer_leaders(known, &mut topic);
            }
            self.topics.insert(topic.name.clone(), topic);
        }
    }

    /// All brokers, ascending by id.
    pub fn brokers(&self) -> impl Iterator<Item = &Broker> {
        self.brokers.values()
    }

    /// A broker by its id.
    #[must_use]
    pub fn broker(&self, id: i32) -> Option<&Broker> {
        self.brokers.get(&id)
    }

    /// The broker that takes changes, where the cluster tells.
    #[must_use]
    pub fn controller_id(&self) -> Option<i32> {
        self.controller_id
            .filter(|id| self.brokers.contains_key(id))
    }

    /// The cluster's name for itself.
    #[must_use]
    pub fn cluster_id(&self) -> Option<&str> {
        self.cluster_id.as_deref()
    }

    /// A topic that was asked for and exists.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<&TopicMetadata> {
        self.topics.get(name)
    }

    /// All topics that were asked for and exist, by name.
    pub fn topics(&self) -> impl Iterator<Item = &TopicMetadata> {
        self.topics.values()
    }

    /// Partitions of a topic that may be used.
    ///
    /// # Errors
    /// The topic is unknown, or the broker said what is wrong with it.
    pub fn partition_count(&self, name: &str) -> Result<i32, ClientError> {
        let topic = self
            .topics
            .get(name)
            .ok_or_else(|| ClientError::UnknownTopic {
                topic: name.to_string(),
            })?;
        ClientError::check(&format!("topic {name:?}"), topic.error_code, None)?;
        match i32::try_from(topic.partitions.len()) {
            Ok(count) if count > 0 => Ok(count),
            _ => Err(ClientError::UnknownTopic {
                topic: name.to_string(),
            }),
        }
    }

    /// The leader of a partition.
    ///
    /// # Errors
    /// The topic, the partition or the leader is unknown.
    pub fn leader(&self, name: &str, partition: i32) -> Result<(i32, i32), ClientError> {
        let count = self.partition_count(name)?;
        let known = self.topics.get(name).and_then(|topic| {
            usize::try_from(partition)
                .ok()
                .and_then(|index| topic.partitions.get(index))
        });
        let Some(known) = known else {
            let topic = name.to_string();
            return Err(ClientError::UnknownPartition {
                topic,
                partition,
                last: count - 1,
            });
        };
        match known
            .leader
            .filter(|leader| self.brokers.contains_key(leader))
        {
            Some(leader) => Ok((leader, known.leader_epoch)),
            None => Err(ClientError::NoLeader {
                topic: name.to_string(),
                partition,
            }),
        }
    }

    /// Forgets a topic, so that its next use asks again.
    pub fn forget(&mut self, name: &str) {
        self.topics.remove(name);
    }
}

/// Where the older answer knows a later leader epoch of the same topic, it wins.
fn keep_newer_leaders(known: TopicMetadata, fresh: &mut TopicMetadata) {
    if known.id != fresh.id {
        return;
    }
    for (old, new) in known.partitions.into_iter().zip(&mut fresh.partitions) {
        if old.index == new.index && old.leader_epoch > new.leader_epoch && new.leader_epoch >= 0 {
            *new = old;
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A cluster of the brokers 1 and 2 with one topic, its partitions led as listed.
    pub(crate) fn answer(topic: &str, leaders: &[(i32, i32)]) -> MetadataAnswer {
        let broker = |id| Broker {
            id,
            host: "h".to_string(),
            port: 9092,
            rack: None,
        };
        let partitions = leaders
            .iter()
            .enumerate()
            .map(|(index, (leader, leader_epoch))| PartitionMetadata {
                index: index as i32,
                leader: (*leader >= 0).then_some(*leader),
                leader_epoch: *leader_epoch,
                replicas: vec![1, 2],
                in_sync: vec![1, 2],
            });
        MetadataAnswer {
            brokers: vec![broker(1), broker(2)],
            cluster_id: Some("c".to_string()),
            controller_id: Some(1),
            topics: vec![TopicMetadata {
                name: topic.to_string(),
                id: TopicId([1; 16]),
                error_code: 0,
                is_internal: false,
                partitions: partitions.collect(),
            }],
        }
    }

    #[test]
    fn a_leader_epoch_never_goes_back() {
        let mut cache = MetadataCache::default();
        cache.update(answer("t", &[(1, 5), (1, 5)]));
        cache.update(answer("t", &[(2, 6), (2, 4)]));
        assert_eq!(cache.leader("t", 0), Ok((2, 6)));
        assert_eq!(
            cache.leader("t", 1),
            Ok((1, 5)),
            "the laggard's answer is ignored"
        );
        let mut recreated = answer("t", &[(2, 0), (2, 0)]);
        recreated.topics[0].id = TopicId([9; 16]);
        cache.update(recreated);
        assert_eq!(
            cache.leader("t", 0),
            Ok((2, 0)),
            "another topic of the same name"
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let mut cache = MetadataCache::default();
        let unknown = ClientError::UnknownTopic {
            topic: "t".to_string(),
        };
        assert_eq!(cache.leader("t", 0), Err(unknown.clone()));
        cache.update(answer("t", &[(-1, 0)]));
        let topic = "t".to_string();
        assert_eq!(
            cache.leader("t", 0),
            Err(ClientError::NoLeader {
                topic,
                partition: 0
            })
        );
        let topic = "t".to_string();
        let expected = ClientError::UnknownPartition {
            topic,
            partition: 3,
            last: 0,
        };
        assert_eq!(cache.leader("t", 3), Err(expected));
        let mut gone = answer("t", &[]);
        gone.topics[0].error_code = 3;
        cache.update(gone);
        assert_eq!(cache.leader("t", 0), Err(unknown));
    }
}

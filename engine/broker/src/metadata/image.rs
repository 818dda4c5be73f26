//! The metadata image: a pure fold of the metadata records, held by every core for itself.
//!
//! `apply` is the only way to change it. It also says what the core that holds the image has to do
//! about the change: open partitions, drop them, hand a new configuration to the store.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use highwater_base::{CoreId, TopicId};
use highwater_groups::OFFSETS_TOPIC;
use rustc_hash::FxBuildHasher;

use super::record::MetadataRecord;
use crate::config::TopicConfig;
use crate::config::broker::{DynamicConfig, Layer};

/// A map for look-ups only; its order means nothing and is never walked. Its hash is the same in every
/// process, so that the simulation repeats itself; how many keys clients can make is bounded.
pub type LookupMap<K, V> = HashMap<K, V, FxBuildHasher>;

/// Whether a topic is the broker's own: clients read it and nothing else.
#[must_use]
pub fn is_internal(topic: &str) -> bool {
    topic == OFFSETS_TOPIC
}

/// One topic.
#[derive(Clone, Debug)]
pub struct Topic {
    pub id: TopicId,
    pub name: Arc<str>,
    pub partitions: u32,
    pub core_slot_base: u32,
    pub config: Arc<TopicConfig>,
    pub overrides: Vec<(String, String)>,
}

impl Topic {
    /// The core that owns a partition, on a node with `cores` cores.
    #[must_use]
    pub fn core_of(&self, partition: u32, cores: usize) -> CoreId {
        CoreId((self.core_slot_base.wrapping_add(partition) as usize % cores) as u16)
    }
}

/// What a core has to do after a record was applied.
#[derive(Debug)]
pub enum Effect {
    /// Partitions `from..to` of a topic exist now.
    Open { topic: TopicId, from: u32, to: u32 },
    /// The topic is gone; this is what it was.
    Drop { topic: Topic },
    /// The topic's configuration changed.
    Reconfigure { topic: TopicId },
    /// The broker's configuration changed, and with it perhaps that of every topic.
    ReconfigureBroker,
    /// Nothing.
    None,
}

/// Names of deleted topics that are remembered. What was committed for others goes when a topic of
/// their name is created.
const DELETED_NAMES_MAX: usize = 100_000;

/// All topics and counters.
#[derive(Clone, Debug)]
pub struct Image {
    node_id: i32,
    file_defaults: TopicConfig,
    dynamic: DynamicConfig,
    /// The file's defaults with what was changed at run time over them.
    defaults: TopicConfig,
    topics: BTreeMap<TopicId, Topic>,
    by_name: BTreeMap<Arc<str>, TopicId>,
    lookup: LookupMap<Arc<str>, TopicId>,
    /// Names of topics whose deletion was read and that were not created again.
    deleted: BTreeSet<Arc<str>>,
    partitions: usize,
    next_core_slot: u32,
    next_producer_id: i64,
    version: u64,
}

impl Image {
    /// The empty image of a node; `defaults` is where every topic's configuration starts from
    /// unless that is changed at run time.
    #[must_use]
    pub fn new(node_id: i32, defaults: TopicConfig) -> Image {
        Image {
            node_id,
            file_defaults: defaults.clone(),
            dynamic: DynamicConfig::default(),
            defaults,
            topics: BTreeMap::new(),
            by_name: BTreeMap::new(),
            lookup: LookupMap::default(),
            deleted: BTreeSet::new(),
            partitions: 0,
            next_core_slot: 0,
            next_producer_id: 1,
            version: 0,
        }
    }

    /// Folds one record in.
    pub fn apply(&mut self, record: &MetadataRecord) -> Effect {
        self.version += 1;
        match record {
            MetadataRecord::Topic {
                topic_id,
                name,
                partitions,
                core_slot_base,
                config,
            } => self.add_topic(
                TopicId(*topic_id),
                name,
                *partitions,
                *core_slot_base,
                config,
            ),
            MetadataRecord::Partitions { topic_id, total } => {
                let Some(topic) = self.topics.get_mut(&TopicId(*topic_id)) else {
                    return Effect::None;
                };
                let from = topic.partitions;
                topic.partitions = from.max(*total);
                self.partitions += (topic.partitions - from) as usize;
                self.next_core_slot = self
                    .next_core_slot
                    .max(topic.core_slot_base.saturating_add(topic.partitions));
                Effect::Open {
                    topic: topic.id,
                    from,
                    to: topic.partitions,
                }
            }
            MetadataRecord::TopicDeleted { topic_id } => {
                let Some(topic) = self.topics.remove(&TopicId(*topic_id)) else {
                    return Effect::None;
                };
                self.by_name.remove(&topic.name);
                self.lookup.remove(&topic.name);
                self.partitions -= topic.partitions as usize;
                if self.deleted.len() < DELETED_NAMES_MAX {
                    self.deleted.insert(Arc::clone(&topic.name));
                }
                Effect::Drop { topic }
            }
            MetadataRecord::TopicConfig { topic_id, config } => {
                let Some(topic) = self.topics.get(&TopicId(*topic_id)) else {
                    return Effect::None;
                };
                let parsed = self.parse_config(&topic.name, config);
                let Some(topic) = self.topics.get_mut(&TopicId(*topic_id)) else {
                    return Effect::None;
                };
                topic.config = Arc::new(parsed);
                topic.overrides = config.clone();
                Effect::Reconfigure { topic: topic.id }
            }
            MetadataRecord::ProducerIds { next } => {
                self.next_producer_id = self.next_producer_id.max(*next);
                Effect::None
            }
            MetadataRecord::SnapshotBegin | MetadataRecord::SnapshotEnd => Effect::None,
            MetadataRecord::BrokerConfig { node_id, config } => {
                let layer = node_id.map_or(Layer::Cluster, Layer::Node);
                self.dynamic.put(layer, config);
                self.follow_dynamic_config();
                Effect::ReconfigureBroker
            }
        }
    }

    /// Every topic's configuration starts from the new defaults.
    fn follow_dynamic_config(&mut self) {
        self.defaults = self
            .dynamic
            .topic_defaults(&self.file_defaults, self.node_id);
        let configs: Vec<TopicConfig> = self
            .topics
            .values()
            .map(|topic| self.parse_config(&topic.name, &topic.overrides))
            .collect();
        for (topic, config) in self.topics.values_mut().zip(configs) {
            topic.config = Arc::new(config);
        }
    }

    fn add_topic(
        &mut self,
        id: TopicId,
        name: &str,
        partitions: u32,
        core_slot_base: u32,
        config: &[(String, String)],
    ) -> Effect {
        if self.topics.contains_key(&id) {
            return Effect::None;
        }
        let name: Arc<str> = Arc::from(name);
        let topic = Topic {
            id,
            name: Arc::clone(&name),
            partitions,
            core_slot_base,
            config: Arc::new(self.parse_config(&name, config)),
            overrides: config.to_vec(),
        };
        self.partitions += partitions as usize;
        self.next_core_slot = self
            .next_core_slot
            .max(core_slot_base.saturating_add(partitions));
        self.topics.insert(id, topic);
        self.deleted.remove(&name);
        self.by_name.insert(Arc::clone(&name), id);
        self.lookup.insert(name, id);
        Effect::Open {
            topic: id,
            from: 0,
            to: partitions,
        }
    }

    /// Overrides were checked before they were logged; a key that a later version no longer knows
    /// falls back to its default rather than keeping the node down.
    fn parse_config(&self, topic: &str, overrides: &[(String, String)]) -> TopicConfig {
        let mut config = self.defaults.clone();
        if is_internal(topic) {
            config.set_offsets_topic();
            return config;
        }
        for (key, value) in overrides {
            if let Err(error) = config.set(key, value) {
                tracing::warn!(%error, "topic configuration override ignored");
            }
        }
        config
    }

    /// Whether a topic was here and its deletion was read. One that is only not known may have been
    /// lost with metadata, and come back.
    #[must_use]
    pub fn was_deleted(&self, name: &str) -> bool {
        self.deleted.contains(name)
    }

    /// The records that rebuild this image from nothing.
    #[must_use]
    pub fn snapshot(&self) -> Vec<MetadataRecord> {
        let mut records = vec![MetadataRecord::SnapshotBegin];
        for (layer, config) in self.dynamic.layers() {
            records.push(MetadataRecord::BrokerConfig {
                node_id: match layer {
                    Layer::Cluster => None,
                    Layer::Node(node_id) => Some(node_id),
                },
                config: config.to_vec(),
            });
        }
        for topic in self.topics.values() {
            records.push(MetadataRecord::Topic {
                topic_id: topic.id.0,
                name: topic.name.to_string(),
                partitions: topic.partitions,
                core_slot_base: topic.core_slot_base,
                config: topic.overrides.clone(),
            });
        }
        records.push(MetadataRecord::ProducerIds {
            next: self.next_producer_id,
        });
        records.push(MetadataRecord::SnapshotEnd);
        records
    }

    /// The topic with this id.
    #[must_use]
    pub fn topic(&self, id: TopicId) -> Option<&Topic> {
        self.topics.get(&id)
    }

    /// The topic with this name.
    #[must_use]
    pub fn topic_by_name(&self, name: &str) -> Option<&Topic> {
        self.lookup.get(name).and_then(|id| self.topics.get(id))
    }

    /// All topics in name order.
    pub fn topics_by_name(&self) -> impl Iterator<Item = &Topic> {
        self.by_name.values().filter_map(|id| self.topics.get(id))
    }

    /// Topics in name order from `name` on, for paged listings.
    pub fn topics_from(&self, name: &str) -> impl Iterator<Item = &Topic> {
        self.by_name
            .range::<str, _>((std::ops::Bound::Included(name), std::ops::Bound::Unbounded))
            .filter_map(|(_, id)| self.topics.get(id))
    }

    /// Number of topics.
    #[must_use]
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// Number of partitions of all topics.
    #[must_use]
    pub fn partition_count(&self) -> usize {
        self.partitions
    }

    /// Where the next topic's partitions start in the round over cores.
    #[must_use]
    pub fn next_core_slot(&self) -> u32 {
        self.next_core_slot
    }

    /// The first producer id not handed out.
    #[must_use]
    pub fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }

    /// Grows with every record; caches of encoded answers are keyed by it.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// What a topic's configuration starts from.
    #[must_use]
    pub fn defaults(&self) -> &TopicConfig {
        &self.defaults
    }

    /// The same without what was changed at run time.
    #[must_use]
    pub fn file_defaults(&self) -> &TopicConfig {
        &self.file_defaults
    }

    /// What was changed at run time.
    #[must_use]
    pub fn dynamic(&self) -> &DynamicConfig {
        &self.dynamic
    }

    /// The layer of changes that is this node's own.
    #[must_use]
    pub fn own_layer(&self) -> Layer {
        Layer::Node(self.node_id)
    }

    /// `producer.id.expiration.ms`, where it was changed at run time.
    #[must_use]
    pub fn producer_id_expiration_ms(&self) -> Option<i64> {
        self.dynamic.producer_id_expiration_ms(self.node_id)
    }

    /// When somebody last asked for everything to be scrubbed; 0 when nobody has.
    #[must_use]
    pub fn scrub_requested_ms(&self) -> i64 {
        self.dynamic.scrub_requested_ms(self.node_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(id: u8, name: &str, partitions: u32, core_slot_base: u32) -> MetadataRecord {
        MetadataRecord::Topic {
            topic_id: [id; 16],
            name: name.to_string(),
            partitions,
            core_slot_base,
            config: vec![("retention.ms".to_string(), "5".to_string())],
        }
    }

    #[test]
    fn a_snapshot_folds_to_the_same_image() {
        let mut image = Image::new(1, TopicConfig::default());
        image.apply(&topic(1, "a", 3, 0));
        image.apply(&topic(2, "b", 2, 3));
        image.apply(&MetadataRecord::TopicDeleted { topic_id: [1; 16] });
        image.apply(&MetadataRecord::Partitions {
            topic_id: [2; 16],
            total: 4,
        });
        image.apply(&MetadataRecord::ProducerIds { next: 3000 });
        for node_id in [None, Some(1), Some(2)] {
            image.apply(&MetadataRecord::BrokerConfig {
                node_id,
                config: vec![("log.retention.bytes".to_string(), "9".to_string())],
            });
        }
        let mut copy = Image::new(1, TopicConfig::default());
        for record in image.snapshot() {
            copy.apply(&record);
        }
        assert_eq!(copy.snapshot(), image.snapshot());
        assert_eq!((copy.partition_count(), copy.topic_count()), (4, 1));
        assert_eq!(
            copy.topic_by_name("b").expect("kept").config.retention_ms,
            5
        );
        assert!(copy.topic_by_name("a").is_none());
        let b = copy.topic_by_name("b").expect("kept");
        assert_eq!(b.config.retention_bytes, 9);
    }

    #[test]
    fn the_topic_of_offsets_is_not_retained_by_what_its_record_says() {
        let mut image = Image::new(1, TopicConfig::default());
        image.apply(&topic(1, OFFSETS_TOPIC, 3, 0));
        let found = image.topic_by_name(OFFSETS_TOPIC).expect("exists");
        assert_eq!(found.config.retention_ms, -1);
        image.apply(&MetadataRecord::TopicConfig {
            topic_id: [1; 16],
            config: vec![("retention.ms".to_string(), "5".to_string())],
        });
        let found = image.topic_by_name(OFFSETS_TOPIC).expect("exists");
        assert_eq!(found.config.retention_ms, -1);
    }

    #[test]
    fn partitions_go_round_the_cores() {
        let mut image = Image::new(1, TopicConfig::default());
        image.apply(&topic(1, "a", 3, 0));
        image.apply(&topic(2, "b", 1, image.next_core_slot()));
        let b = image.topic_by_name("b").expect("exists");
        assert_eq!(b.core_of(0, 2), CoreId(1));
        assert_eq!(
            image.topic_by_name("a").expect("exists").core_of(2, 2),
            CoreId(0)
        );
    }
}

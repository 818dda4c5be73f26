//! From a topic's name or id to the core that owns a partition and, if it is this one, its log.
//!
//! Derived from the image after every change; the data path looks things up here and nowhere else.

use std::sync::Arc;

use highwater_base::{CoreId, TopicId};
use highwater_store::LogId;

use crate::config::TopicConfig;
use crate::metadata::Topic;
use crate::metadata::image::{LookupMap, is_internal};

/// One topic as the data path needs it.
#[derive(Debug)]
pub struct TopicEntry {
    pub id: TopicId,
    pub name: Arc<str>,
    pub config: Arc<TopicConfig>,
    /// Clients only read it.
    pub is_internal: bool,
    core_slot_base: u32,
    /// One place per partition; filled for those this core owns.
    logs: Vec<Option<LogId>>,
}

/// Where a partition lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// On this core, in this log.
    Here(LogId),
    /// On another core.
    Elsewhere(CoreId),
}

impl TopicEntry {
    /// The owner of a partition, or `None` when the topic has no such partition.
    #[must_use]
    pub fn owner(&self, partition: i32, cores: usize) -> Option<Owner> {
        let index = usize::try_from(partition).ok()?;
        match self.logs.get(index)? {
            Some(log) => Some(Owner::Here(*log)),
            None => {
                let slot = self.core_slot_base.wrapping_add(index as u32) as usize;
                Some(Owner::Elsewhere(CoreId((slot % cores) as u16)))
            }
        }
    }

    /// Whether the topic has this partition, on whichever core.
    #[must_use]
    pub fn has_partition(&self, partition: i32) -> bool {
        usize::try_from(partition).is_ok_and(|index| index < self.logs.len())
    }

    /// Number of partitions, of all cores.
    #[must_use]
    pub fn partitions(&self) -> u32 {
        self.logs.len() as u32
    }

    /// The logs of this topic on this core.
    pub fn local_logs(&self) -> impl Iterator<Item = (u32, LogId)> + '_ {
        self.logs
            .iter()
            .enumerate()
            .filter_map(|(at, log)| log.map(|log| (at as u32, log)))
    }
}

/// All topics.
#[derive(Debug, Default)]
pub struct PartitionTable {
    by_name: LookupMap<Arc<str>, Arc<TopicEntry>>,
    by_id: LookupMap<TopicId, Arc<TopicEntry>>,
}

impl PartitionTable {
    /// Adds or renews a topic. `opened` names logs of this core that are new; others are kept.
    pub fn put(&mut self, topic: &Topic, opened: &[(u32, LogId)]) {
        let mut logs = self
            .by_id
            .get(&topic.id)
            .map_or_else(Vec::new, |old| old.logs.clone());
        logs.resize(topic.partitions as usize, None);
        for (partition, log) in opened {
            logs[*partition as usize] = Some(*log);
        }
        let entry = Arc::new(TopicEntry {
            id: topic.id,
            name: Arc::clone(&topic.name),
            config: Arc::clone(&topic.config),
            is_internal: is_internal(&topic.name),
            core_slot_base: topic.core_slot_base,
            logs,
        });
        self.by_name
            .insert(Arc::clone(&topic.name), Arc::clone(&entry));
        self.by_id.insert(topic.id, entry);
    }

    /// Takes a topic out and returns what was known of it.
    pub fn remove(&mut self, id: TopicId) -> Option<Arc<TopicEntry>> {
        let entry = self.by_id.remove(&id)?;
        if self
            .by_name
            .get(&entry.name)
            .is_some_and(|named| named.id == id)
        {
            self.by_name.remove(&entry.name);
        }
        Some(entry)
    }

    /// The topic with this name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Arc<TopicEntry>> {
        self.by_name.get(name)
    }

    /// The topic with this id.
    #[must_use]
    pub fn by_id(&self, id: TopicId) -> Option<&Arc<TopicEntry>> {
        self.by_id.get(&id)
    }
}

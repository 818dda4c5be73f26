//! From a topic's name or id to the core that owns a partition and, if it is this one, its log.
//!
//! Derived from the image after every change; the data path looks things up here and nowhere else. A
//! partition of this core that could not be recovered is offline: it has a reason instead of a log.

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
    places: Vec<Place>,
}

/// What this core has of a partition.
#[derive(Clone, Debug)]
enum Place {
    Elsewhere,
    Here(LogId),
    /// Why it is offline.
    Offline(Arc<str>),
}

/// Where a partition lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// On this core, in this log.
    Here(LogId),
    /// On this core, which could not recover it.
    Offline,
    /// On another core.
    Elsewhere(CoreId),
}

impl TopicEntry {
    /// The owner of a partition, or `None` when the topic has no such partition.
    #[must_use]
    pub fn owner(&self, partition: i32, cores: usize) -> Option<Owner> {
        let index = usize::try_from(partition).ok()?;
        match self.places.get(index)? {
            Place::Here(log) => Some(Owner::Here(*log)),
            Place::Offline(_) => Some(Owner::Offline),
            Place::Elsewhere => {
                let slot = self.core_slot_base.wrapping_add(index as u32) as usize;
                Some(Owner::Elsewhere(CoreId((slot % cores) as u16)))
            }
        }
    }

    /// Whether the topic has this partition, on whichever core.
    #[must_use]
    pub fn has_partition(&self, partition: i32) -> bool {
        usize::try_from(partition).is_ok_and(|index| index < self.places.len())
    }

    /// Number of partitions, of all cores.
    #[must_use]
    pub fn partitions(&self) -> u32 {
        self.places.len() as u32
    }

    /// Why a partition of this core is offline, if it is.
    #[must_use]
    pub fn offline_reason(&self, partition: i32) -> Option<&Arc<str>> {
        let index = usize::try_from(partition).ok()?;
        match self.places.get(index)? {
            Place::Offline(reason) => Some(reason),
            Place::Here(_) | Place::Elsewhere => None,
        }
    }

    /// The partitions of this core that are offline, and why.
    pub fn local_offline(&self) -> impl Iterator<Item = (u32, &Arc<str>)> + '_ {
        let places = self.places.iter().enumerate();
        places.filter_map(|(at, place)| match place {
            Place::Offline(reason) => Some((at as u32, reason)),
            Place::Here(_) | Place::Elsewhere => None,
        })
    }

    /// The logs of this topic on this core.
    pub fn local_logs(&self) -> impl Iterator<Item = (u32, LogId)> + '_ {
        let places = self.places.iter().enumerate();
        places.filter_map(|(at, place)| match place {
            Place::Here(log) => Some((at as u32, *log)),
            Place::Offline(_) | Place::Elsewhere => None,
        })
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
        let opened = opened.iter();
        self.put_places(topic, opened.map(|(at, log)| (*at, Place::Here(*log))));
    }

    /// Adds or renews a topic with partitions of this core that could not be recovered, and why.
    pub fn put_offline(&mut self, topic: &Topic, offline: &[(u32, Arc<str>)]) {
        let offline = offline.iter();
        let places = offline.map(|(at, reason)| (*at, Place::Offline(Arc::clone(reason))));
        self.put_places(topic, places);
    }

    fn put_places(&mut self, topic: &Topic, changed: impl Iterator<Item = (u32, Place)>) {
        let mut places = self
            .by_id
            .get(&topic.id)
            .map_or_else(Vec::new, |old| old.places.clone());
        places.resize(topic.partitions as usize, Place::Elsewhere);
        for (partition, place) in changed {
            places[partition as usize] = place;
        }
        let entry = Arc::new(TopicEntry {
            id: topic.id,
            name: Arc::clone(&topic.name),
            config: Arc::clone(&topic.config),
            is_internal: is_internal(&topic.name),
            core_slot_base: topic.core_slot_base,
            places,
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

//! Partitions of the node that are offline: their core could not recover them.
//!
//! The core that owns one has the reason in its partition table and refuses what is asked of the
//! partition. Every core knows which there are, because any of them answers Metadata: there such a
//! partition has no leader, as in Kafka. The list changes when a core has started and when a topic is
//! deleted.

use std::collections::BTreeSet;
use std::sync::Arc;

use highwater_base::{CoreId, TopicId};
use highwater_reactor::Outbox;

use crate::message::Message;
use crate::metadata::Topic;
use crate::shard::Shard;

/// Told to clients as the leader of a partition without one.
pub const NO_LEADER: i32 = -1;

/// The offline partitions of all cores.
#[derive(Debug, Default)]
pub struct OfflinePartitions {
    known: BTreeSet<(TopicId, u32)>,
}

impl OfflinePartitions {
    /// Whether a partition is offline.
    #[must_use]
    pub fn has(&self, topic: TopicId, partition: u32) -> bool {
        !self.known.is_empty() && self.known.contains(&(topic, partition))
    }

    /// A topic is gone.
    pub fn forget(&mut self, topic: TopicId) {
        self.known.retain(|(known, _)| *known != topic);
    }

    /// A core says what it could not recover.
    pub fn learn(&mut self, partitions: &[(TopicId, u32)]) {
        self.known.extend(partitions);
    }
}

impl Shard {
    /// Tells every core what this one could not recover.
    pub(crate) fn tell_offline(&mut self, out: &mut Outbox<Message>) {
        let entries = self.image.topics_by_name();
        let entries = entries.filter_map(|topic| self.table.by_id(topic.id));
        let offline: Vec<(TopicId, u32)> = entries
            .flat_map(|entry| entry.local_offline().map(|(at, _)| (entry.id, at)))
            .collect();
        if offline.is_empty() {
            return;
        }
        self.offline.learn(&offline);
        let offline = Arc::new(offline);
        for core in 0..self.cores as u16 {
            if core != self.core.0 {
                out.mail(CoreId(core), Message::Offline(Arc::clone(&offline)));
            }
        }
    }

    /// The leader of a partition, as clients are told.
    pub(crate) fn leader_of(&self, topic: &Topic, partition: u32) -> Leader {
        let broker = self.node.broker_of(topic.core_of(partition, self.cores));
        match self.offline.has(topic.id, partition) {
            false => Leader::Online(broker),
            true => Leader::Offline(broker),
        }
    }
}

/// The broker that has a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leader {
    Online(i32),
    /// It could not recover it.
    Offline(i32),
}

#[cfg(test)]
mod tests;

//! What is wrong with this core's partitions: those it could not recover, those with holes, those whose
//! marks were lost. Holes are looked up in the store each time: they may be found at any time.

use highwater_ops::Answer;
use highwater_ops::figures::{DamageFigures, DamagedPartition, PartitionFigures};

use crate::metadata::Topic;
use crate::shard::Shard;

impl Shard {
    pub(super) fn damage_figures(
        &self,
        from: &str,
        partitions_max: usize,
        told_max: usize,
    ) -> Answer {
        let mut damage = DamageFigures::default();
        let mut looked_at = 0;
        for topic in self.image.topics_from(from) {
            if looked_at >= partitions_max {
                let next = Some(topic.name.to_string());
                return Answer::Damage { damage, next };
            }
            looked_at += topic.partitions as usize;
            let room = told_max - damage.partitions.len();
            damage.add(self.damage_of(topic, room), told_max);
        }
        Answer::Damage { damage, next: None }
    }

    fn damage_of(&self, topic: &Topic, told_max: usize) -> DamageFigures {
        let mut damage = DamageFigures::default();
        let Some(entry) = self.table.by_id(topic.id) else {
            return damage;
        };
        let mut tell = |partition, holes, offline| {
            if damage.partitions.len() < told_max {
                damage.partitions.push(DamagedPartition {
                    topic: topic.name.to_string(),
                    partition,
                    core: self.core.0,
                    holes,
                    offline,
                });
            }
        };
        let (mut offline, mut with_holes, mut hole_offsets, mut unvouched) = (0, 0, 0, 0);
        for (partition, reason) in entry.local_offline() {
            offline += 1;
            tell(partition, Vec::new(), Some(reason.to_string()));
        }
        for (partition, log) in entry.local_logs() {
            unvouched += u64::from(self.partitions[log.0 as usize].is_unvouched);
            let holes = self.store.holes(log);
            if holes.is_empty() {
                continue;
            }
            with_holes += 1;
            let lost: i64 = holes.iter().map(|hole| hole.to - hole.from).sum();
            hole_offsets += lost.max(0) as u64;
            let told = holes.iter().map(|hole| (hole.from, hole.to));
            tell(partition, told.collect(), None);
        }
        DamageFigures {
            offline,
            with_holes,
            hole_offsets,
            unvouched,
            ..damage
        }
    }

    /// What is told of a partition that could not be recovered.
    pub(super) fn offline_partition(&self, partition: u32, reason: &str) -> PartitionFigures {
        PartitionFigures {
            partition,
            core: self.core.0,
            log_start: -1,
            high_watermark: -1,
            log_end: -1,
            log_bytes: 0,
            segments: 0,
            leader_epoch: -1,
            holes: Vec::new(),
            offline: Some(reason.to_owned()),
            vouched: true,
        }
    }
}

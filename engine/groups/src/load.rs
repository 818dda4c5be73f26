//! Reading a partition's log back: the last value of each key counts.

use std::sync::Arc;

use highwater_base::record_batch::{ATTRIBUTE_CONTROL, HEADER_BYTES};
use highwater_base::{BatchHeader, Now};
use highwater_wire::compression::{Codec, decompress};
use highwater_wire::records::{Record, RecordIterator};

use crate::coordinator::{Coordinator, Outbox};
use crate::log_records::{Key, StoredGroup, StoredOffset, decode_key};
use crate::partition::{Partition, Phase};
use crate::slot::Slot;
use crate::turn::Gate;

/// Largest batch of the log, unpacked. Own batches are never packed.
const UNPACKED_BYTES_MAX: usize = 256 * 1024 * 1024;

impl Coordinator {
    /// A partition is this core's now; its log is being read.
    pub fn begin_loading(&mut self, partition: u32) {
        // Whoever waited for it was answered when the partition was resigned.
        let here = self.partitions.entry(partition);
        let here = here.or_insert_with(|| Partition::new(partition));
        here.reset(Phase::Loading);
    }

    /// One batch of its log, in order.
    ///
    /// # Errors
    /// Records that cannot be understood, by offset and reason.
    pub fn load_batch(
        &mut self,
        partition: u32,
        header: &BatchHeader,
        batch: &[u8],
    ) -> Result<(), String> {
        let here = self.partitions.get_mut(&partition);
        let Some(here) = here.filter(|here| here.phase == Phase::Loading) else {
            return Err(format!("partition {partition} is not being loaded"));
        };
        here.appended_bytes += batch.len() as u64;
        if header.attributes & ATTRIBUTE_CONTROL != 0 {
            return Ok(());
        }
        let at =
            |reason: &dyn std::fmt::Display| format!("offset {}: {reason}", header.base_offset);
        let body = batch.get(HEADER_BYTES..);
        let body = body.ok_or_else(|| at(&"the batch is shorter than its header"))?;
        let unpacked = match Codec::from_attributes(header.attributes) {
            Some(Codec::None) => None,
            Some(codec) => {
                Some(decompress(codec, body, UNPACKED_BYTES_MAX).map_err(|error| at(&error))?)
            }
            None => return Err(at(&"the batch has an unknown codec")),
        };
        for record in RecordIterator::new(header, unpacked.as_deref().unwrap_or(body)) {
            let record = record.map_err(|error| at(&error))?;
            let skipped = here.load_record(&record);
            let skipped = skipped.map_err(|why| format!("offset {}: {why}", record.offset))?;
            self.counters.records_skipped += skipped;
        }
        Ok(())
    }

    /// Its log has been read; requests are served from now on. Offsets of topics that are gone are
    /// forgotten.
    pub fn finish_loading(
        &mut self,
        now: Now,
        partition: u32,
        topic_exists: &dyn Fn(&str) -> bool,
        out: &mut Outbox,
    ) {
        let here = self.partitions.get_mut(&partition);
        let Some(here) = here.filter(|here| here.phase == Phase::Loading) else {
            return;
        };
        here.phase = Phase::Active;
        here.groups.retain(|_, group| !group.is_gone());
        here.live_bytes = here.estimate_live_bytes();
        here.appended_bytes = here.appended_bytes.saturating_sub(here.live_bytes);
        for topic in here.topics() {
            if !topic_exists(&topic) {
                let tombstones = here.topic_tombstones(now, &topic);
                here.append_all(tombstones, Gate::None, out);
            }
        }
        let groups = here.groups.iter();
        let with_members = groups.filter(|(_, group)| !group.members.is_empty());
        let ids: Vec<Arc<str>> = with_members.map(|(id, _)| Arc::clone(id)).collect();
        for id in ids {
            self.step(now, partition, &id, out, |group, turn| {
                let members: Vec<String> = group.members.keys().cloned().collect();
                for member in members {
                    group.renew_session(turn.now, &member);
                }
                // A bound that has shrunk since: who comes too late is refused.
                if group.members.len() > turn.config.group_members_max {
                    group.prepare_rebalance(turn);
                }
            });
        }
        self.sweep.start(now);
    }
}

impl Partition {
    /// Takes over one record. Returns how many were skipped as not ours: none or one.
    fn load_record(&mut self, record: &Record<'_>) -> Result<u64, String> {
        let key = record.key.ok_or("the record has no key")?;
        match decode_key(key).map_err(|error| format!("key: {error}"))? {
            Key::Other(_) => return Ok(1),
            Key::Group { group } => {
                let stored = record.value.map(StoredGroup::decode).transpose();
                let stored = stored.map_err(|error| format!("group {group:?}: {error}"))?;
                let loaded = self.group_or_new(&Arc::from(group));
                loaded.restore(stored, record.value);
            }
            Key::Offset {
                group,
                topic,
                partition,
            } => {
                let stored = record.value.map(StoredOffset::decode).transpose();
                let stored = stored.map_err(|error| {
                    format!("offset of {topic:?} {partition} in group {group:?}: {error}")
                })?;
                self.load_offset(group, topic, partition, stored);
            }
        }
        Ok(0)
    }

    fn load_offset(
        &mut self,
        group: &str,
        topic: &str,
        partition: i32,
        stored: Option<StoredOffset>,
    ) {
        let id = Arc::clone(&self.group_or_new(&Arc::from(group)).id);
        if stored.is_some() {
            let topic = self.note_topic(&Arc::from(topic), &id);
            let loaded = self.group_or_new(&id);
            let slots = loaded.offsets.entry(topic).or_default();
            slots.insert(partition, Slot::loaded(stored));
            return;
        }
        let loaded = self.group_or_new(&id);
        let Some(slots) = loaded.offsets.get_mut(topic) else {
            return;
        };
        slots.remove(&partition);
        if slots.is_empty() {
            loaded.offsets.remove(topic);
            self.forget_topic(topic, &id);
        }
    }
}

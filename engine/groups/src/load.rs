//! Reading a partition's log back: the last value of each key counts. What cannot be read or
//! understood is `damage`, never left out as if it had not been there.

use std::borrow::Cow;
use std::sync::Arc;

use highwater_base::record_batch::{ATTRIBUTE_CONTROL, HEADER_BYTES};
use highwater_base::{BatchHeader, Now, Offset};
use highwater_wire::compression::{Codec, decompress};
use highwater_wire::records::{Record, RecordIterator};

use crate::coordinator::{Coordinator, Outbox};
use crate::log_records::{Key, StoredGroup, StoredOffset, decode_key};
use crate::partition::{Partition, Phase, RecordKey};
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

    /// One batch of its log, in order. Of what cannot be understood it is noted that it is lost.
    ///
    /// # Errors
    /// Records that cannot be understood: the first one by offset and reason.
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
        let (from, to) = (Offset(header.base_offset), header.next_offset());
        let unpacked = unpack(header, batch).inspect_err(|_| here.lose(from, to));
        let body = unpacked.map_err(|why| format!("offset {from}: {why}"))?;
        let mut problem = None;
        for record in RecordIterator::new(header, &body) {
            let Ok(record) = record else {
                here.lose(from, to);
                problem.get_or_insert_with(|| format!("offset {from}: a record is not readable"));
                break;
            };
            match here.load_record(&record) {
                Ok(skipped) => self.counters.records_skipped += skipped,
                Err(why) => {
                    problem.get_or_insert_with(|| format!("offset {}: {why}", record.offset));
                }
            }
        }
        problem.map_or(Ok(()), Err)
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
        here.dissolve_uncertain_groups(now, out);
        let past = std::mem::take(&mut here.past_topics);
        for topic in here.topics() {
            if past.contains(&topic) || !topic_exists(&topic) {
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

/// The records of a batch.
fn unpack<'a>(header: &BatchHeader, batch: &'a [u8]) -> Result<Cow<'a, [u8]>, String> {
    let body = batch.get(HEADER_BYTES..);
    let body = body.ok_or_else(|| "the batch is shorter than its header".to_owned())?;
    match Codec::from_attributes(header.attributes) {
        Some(Codec::None) => Ok(Cow::Borrowed(body)),
        Some(codec) => decompress(codec, body, UNPACKED_BYTES_MAX)
            .map(Cow::Owned)
            .map_err(|error| error.to_string()),
        None => Err("the batch has an unknown codec".to_owned()),
    }
}

impl Partition {
    /// Takes over one record. Returns how many were skipped as not ours: none or one.
    fn load_record(&mut self, record: &Record<'_>) -> Result<u64, String> {
        let offset = Offset(record.offset);
        let key = record.key.ok_or_else(|| "the record has no key".to_owned());
        let key = key.and_then(|key| decode_key(key).map_err(|error| format!("key: {error}")));
        // Without a key it may be any key's last record.
        let key = key.inspect_err(|_| self.lose(offset, offset.plus(1)))?;
        match key {
            Key::Other(_) => return Ok(1),
            Key::Group { group } => {
                let key = || RecordKey::Group(Arc::from(group));
                match record.value.map(StoredGroup::decode).transpose() {
                    Ok(stored) => {
                        let loaded = self.group_or_new(&Arc::from(group));
                        loaded.restore(stored, record.value);
                        self.note_last(key);
                    }
                    Err(error) => {
                        self.note_unreadable(key());
                        return Err(format!("group {group:?}: {error}"));
                    }
                }
            }
            Key::Offset {
                group,
                topic,
                partition,
            } => {
                let key = || RecordKey::Offset {
                    group: Arc::from(group),
                    topic: Arc::from(topic),
                    partition,
                };
                match record.value.map(StoredOffset::decode).transpose() {
                    Ok(stored) => {
                        self.load_offset(group, topic, partition, stored);
                        self.note_last(key);
                    }
                    Err(error) => {
                        self.note_unreadable(key());
                        return Err(format!(
                            "offset of {topic:?} {partition} in group {group:?}: {error}"
                        ));
                    }
                }
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
            slots.insert(partition, Box::new(Slot::loaded(stored)));
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

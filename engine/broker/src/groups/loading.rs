//! Loading: a partition of the log of offsets is read from its start to its durable end and handed
//! to the coordinator, batch by batch, while requests for its groups are told to come back.
//!
//! At most [`LOADS_AT_ONCE`] partitions are read at a time; each has one read under way. What cannot
//! be read is tried again: groups without their offsets would start over. What is lost for good (a
//! hole in the log, a batch that is damaged or not understood) is told to the coordinator, which
//! tells no offset that may be older than what was lost. A partition whose log was not recovered is
//! unavailable.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use highwater_base::disk::DiskError;
use highwater_base::record_batch::HEADER_BYTES;
use highwater_base::{BatchHeader, Now, Offset};
use highwater_groups::OFFSETS_TOPIC;
use highwater_reactor::Outbox;
use highwater_store::{LogId, Lookup};

use super::log::OffsetsLog;
use super::{GroupHost, group_config};
use crate::message::Message;
use crate::query::PendingRead;
use crate::shard::Shard;

/// Partitions read at once.
const LOADS_AT_ONCE: usize = 8;
/// How long a partition waits that could not be read, or had no memory to be read into.
const RETRY_MS: u64 = 100;

/// Partitions that are being loaded.
#[derive(Debug, Default)]
pub(super) struct Loads {
    waiting: VecDeque<u32>,
    /// What comes next, by partition.
    reading: BTreeMap<u32, Offset>,
    /// Those of `reading` that have no read under way.
    stalled: Vec<u32>,
    /// Those that could not be read once: that is said once.
    failed: BTreeSet<u32>,
    pub retry_at_ns: Option<u64>,
}

impl Shard {
    /// Partitions of the topic of offsets are on this core now.
    pub(crate) fn open_offsets(
        &mut self,
        now: Now,
        partitions_total: u32,
        opened: &[(u32, LogId)],
        out: &mut Outbox<Message>,
    ) {
        let config = group_config(&self.node.config, self.cores, partitions_total);
        let host = &mut self.groups;
        host.coordinator.set_config(config);
        for (partition, log) in opened {
            host.logs.insert(*partition, OffsetsLog::new(*log));
            host.partition_of.insert(*log, *partition);
            host.coordinator.begin_loading(*partition);
            host.loads.waiting.push_back(*partition);
            self.store.allow_appends_behind_holes(*log);
        }
        self.note_unavailable(partitions_total);
        self.start_loads(now, out);
    }

    /// Partitions of this core that have no log here were not recovered.
    fn note_unavailable(&mut self, partitions_total: u32) {
        let Some(topic) = self.image.topic_by_name(OFFSETS_TOPIC) else {
            return;
        };
        let host = &mut self.groups;
        for partition in 0..partitions_total {
            let is_here = topic.core_of(partition, self.cores) == self.core;
            if is_here && !host.logs.contains_key(&partition) {
                tracing::error!(
                    partition,
                    "a partition of __consumer_offsets is offline; its groups have no coordinator"
                );
                host.coordinator.unavailable(partition);
            }
        }
    }

    fn start_loads(&mut self, now: Now, out: &mut Outbox<Message>) {
        while self.groups.loads.reading.len() < LOADS_AT_ONCE {
            let Some(partition) = self.groups.loads.waiting.pop_front() else {
                return;
            };
            let Some(place) = self.groups.logs.get(&partition) else {
                continue;
            };
            let from = self.store.log_start(place.log);
            self.groups.loads.reading.insert(partition, from);
            self.load_on(now, partition, out);
        }
    }

    /// Reads on until the disk has to be waited for, or the end is reached.
    fn load_on(&mut self, now: Now, partition: u32, out: &mut Outbox<Message>) {
        let Some(log) = self.groups.logs.get(&partition).map(|place| place.log) else {
            return;
        };
        while let Some(&from) = self.groups.loads.reading.get(&partition) {
            let key = self.lookups.insert(PendingRead::Offsets(partition));
            let ticket = key.to_ticket();
            let lookup = self.store.read_batches(log, from, ticket, out.disk());
            if matches!(lookup, Lookup::Pending) {
                return;
            }
            self.lookups.remove(key);
            match lookup {
                Lookup::Ready(slice) => self.load_bytes(partition, slice.bytes()),
                Lookup::Busy | Lookup::Pending => return self.stall_load(now, partition),
                Lookup::Empty if self.skip_lost(log, partition, from) => {}
                Lookup::Empty => self.finish_load(now, log, partition, out),
            }
        }
    }

    /// Nothing that can be read comes from here on, up to the next segment or the end. False at the
    /// end.
    fn skip_lost(&mut self, log: LogId, partition: u32, from: Offset) -> bool {
        let end = self.store.high_watermark(log);
        if from >= end {
            return false;
        }
        let bases = self.store.segments(log).map(|segment| segment.base_offset);
        let next = bases.filter(|base| *base > from).min().unwrap_or(end);
        let behind = next.min(end);
        let GroupHost {
            coordinator, loads, ..
        } = &mut self.groups;
        coordinator.lost(partition, from, behind);
        loads.reading.insert(partition, behind);
        true
    }

    fn stall_load(&mut self, now: Now, partition: u32) {
        let loads = &mut self.groups.loads;
        loads.stalled.push(partition);
        loads.retry_at_ns.get_or_insert(now.plus_ms(RETRY_MS));
    }

    /// Partitions that could not be read are tried again.
    pub(super) fn retry_loads(&mut self, now: Now, out: &mut Outbox<Message>) {
        let loads = &mut self.groups.loads;
        if loads.retry_at_ns.is_some_and(|at| now.reached(at)) {
            loads.retry_at_ns = None;
            for partition in std::mem::take(&mut loads.stalled) {
                self.load_on(now, partition, out);
            }
            self.start_loads(now, out);
        }
    }

    /// A read of a partition has ended.
    pub(crate) fn offsets_read(
        &mut self,
        now: Now,
        partition: u32,
        bytes: Result<&[u8], DiskError>,
        out: &mut Outbox<Message>,
    ) {
        match bytes {
            Ok(bytes) => {
                self.load_bytes(partition, bytes);
                self.load_on(now, partition, out);
            }
            Err(error) => {
                if self.groups.loads.failed.insert(partition) {
                    tracing::error!(%error, partition, "the log of offsets cannot be read; its \
                        groups wait, and it is tried again");
                }
                self.stall_load(now, partition);
            }
        }
        self.start_loads(now, out);
    }

    /// Whole batches of a partition's log; those in front of what comes next are left out.
    fn load_bytes(&mut self, partition: u32, mut bytes: &[u8]) {
        let GroupHost {
            coordinator, loads, ..
        } = &mut self.groups;
        let Some(next) = loads.reading.get_mut(&partition) else {
            return;
        };
        let before = *next;
        while bytes.len() >= HEADER_BYTES {
            let header = BatchHeader::parse(bytes).ok();
            let found =
                header.and_then(|header| Some((bytes.get(..header.total_bytes())?, header)));
            let Some((batch, header)) = found else {
                break;
            };
            bytes = &bytes[batch.len()..];
            if header.next_offset() <= *next {
                continue;
            }
            let (from, to) = (Offset(header.base_offset), header.next_offset());
            if from > *next {
                coordinator.lost(partition, *next, from);
            }
            *next = to;
            let understood = match header.verify_crc(batch) {
                Ok(()) => coordinator.load_batch(partition, &header, batch),
                Err(error) => {
                    coordinator.lost(partition, from, to);
                    Err(error.to_string())
                }
            };
            if let Err(error) = understood {
                tracing::error!(error, partition, %from, "records of the log of offsets are lost");
            }
        }
        if *next == before
            && let Some(log) = self.groups.logs.get(&partition).map(|place| place.log)
        {
            self.skip_lost(log, partition, before);
        }
    }

    fn finish_load(&mut self, now: Now, log: LogId, partition: u32, out: &mut Outbox<Message>) {
        let GroupHost {
            coordinator,
            loads,
            outbox,
            ..
        } = &mut self.groups;
        loads.reading.remove(&partition);
        loads.failed.remove(&partition);
        if self.partitions[log.0 as usize].is_unvouched {
            // Marks were lost: the log may have gone on behind what is there.
            let end = self.store.high_watermark(log);
            coordinator.lost(partition, end, end);
        }
        let image = &self.image;
        // Only a deletion that was read takes committed offsets with it.
        let exists = |topic: &str| !image.was_deleted(topic);
        coordinator.finish_loading(now, partition, &exists, outbox);
        self.drive_groups(now, out);
        self.tell_damage(partition);
        if !self.store.holes(log).is_empty() {
            // Where nothing is uncertain, the hole was declared behind what had been read.
            self.offsets_damaged(now, log, out);
        }
    }
}

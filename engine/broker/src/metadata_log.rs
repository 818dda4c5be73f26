//! The metadata log's way through a shard: core 0 writes changes and, once they are durable, every
//! core folds them in; all cores turn what changed into partitions opened, dropped, reconfigured.

use std::sync::Arc;

use highwater_base::{BatchHeader, ErrorCode, Now, Offset, PartitionIndex, Timestamp};
use highwater_reactor::{ConnectionId, Outbox};
use highwater_store::segment::partition_directory;
use highwater_store::{LogId, PartitionKey, PartitionSpec};
use highwater_wire::ApiKey;

use crate::message::Message;
use crate::metadata::controller::{Change, ChangeOutcome, Changed, Origin, Step};
use crate::metadata::image::{Effect, is_internal};
use crate::metadata::record::{self, MetadataRecord};
use crate::metadata::{Controller, Topic};
use crate::partition_table::TopicEntry;
use crate::quarantine::{DeleteRetention, Entry, Note, Reason, Removals};
use crate::shard::{INITIAL_EPOCH, Partition, Shard};
use crate::slab::Key;

/// Records in the metadata log beyond which a start writes a snapshot and drops what is before it.
const SNAPSHOT_AFTER_RECORDS: usize = 10_000;

/// A change of the metadata that this core asked for.
#[derive(Debug)]
pub enum PendingChange {
    /// For a client's request, decoded again when the outcome is in.
    Client {
        connection: ConnectionId,
        sequence: u64,
        api_key: ApiKey,
        version: i16,
        correlation_id: i32,
        body: Vec<u8>,
    },
    /// For this core's own supply of producer ids.
    ProducerIds,
}

/// What core 0 has beyond other cores.
#[derive(Debug)]
pub struct MetadataLeader {
    pub controller: Controller,
    pub log: LogId,
    /// Records appended and not yet durable.
    commit: Option<(Offset, Arc<Vec<MetadataRecord>>)>,
    /// Start of the snapshot that is being written; the log is cut there once it is durable.
    snapshot: Option<(Offset, Offset)>,
    /// Topics put back from quarantine, until the log has them.
    restoring: Vec<(MetadataRecord, Entry)>,
    restored_end: Option<Offset>,
    /// Data in quarantine that goes when its time has come.
    pub removals: Removals,
}

impl MetadataLeader {
    /// Leads the metadata log `log`.
    #[must_use]
    pub fn new(controller: Controller, log: LogId, retention: DeleteRetention) -> MetadataLeader {
        MetadataLeader {
            controller,
            log,
            commit: None,
            snapshot: None,
            restoring: Vec::new(),
            restored_end: None,
            removals: Removals::new(retention),
        }
    }

    /// The image has these topics though the log does not; their entries go once it does.
    pub fn restore(&mut self, topics: Vec<(MetadataRecord, Entry)>) {
        self.restoring = topics;
    }
}

impl Shard {
    /// Asks for a change; the outcome comes back through [`Shard::change_done`].
    pub(crate) fn request_change(
        &mut self,
        now: Now,
        pending: PendingChange,
        change: Change,
        out: &mut Outbox<Message>,
    ) {
        let ticket = self.changes.insert(pending).to_ticket();
        if self.leader.is_some() {
            self.change_for(
                now,
                Origin {
                    core: self.core,
                    ticket,
                },
                change,
                out,
            );
        } else {
            out.mail(
                highwater_base::CoreId(0),
                Message::Change { ticket, change },
            );
        }
    }

    /// A change arrives at core 0.
    pub(crate) fn change_for(
        &mut self,
        now: Now,
        origin: Origin,
        change: Change,
        out: &mut Outbox<Message>,
    ) {
        let Some(leader) = &mut self.leader else {
            return;
        };
        if let Some((origin, outcome)) = leader.controller.submit(origin, change) {
            self.deliver_change(now, origin, outcome, out);
        }
        self.drive_controller(now, out);
    }

    fn drive_controller(&mut self, now: Now, out: &mut Outbox<Message>) {
        loop {
            let Some(leader) = &mut self.leader else {
                return;
            };
            match leader.controller.step(&self.image) {
                Step::Idle => return,
                Step::Answer(origin, outcome) => self.deliver_change(now, origin, outcome, out),
                Step::Log(records) => self.log_metadata(now, records, out),
            }
        }
    }

    fn log_metadata(&mut self, now: Now, records: Vec<MetadataRecord>, out: &mut Outbox<Message>) {
        let Some(leader) = &mut self.leader else {
            return;
        };
        let batch = record::encode_batch(&records, now.wall_ms);
        let header = BatchHeader::parse(&batch).expect("a batch just built is valid");
        match self.store.append(leader.log, now, &header, &batch, None) {
            Ok(appended) => {
                leader.commit = Some((appended.next_offset, Arc::new(records)));
                if cfg!(mutant = "B08") {
                    self.metadata_durable(now, appended.next_offset, out);
                }
            }
            Err(error) => {
                let message = format!("the metadata log refuses the change: {error}");
                let failed = leader
                    .controller
                    .failed(ErrorCode::KafkaStorageError, &message);
                if let Some((origin, outcome)) = failed {
                    self.deliver_change(now, origin, outcome, out);
                }
            }
        }
    }

    /// The metadata log is durable up to `offset`.
    pub(crate) fn metadata_durable(&mut self, now: Now, offset: Offset, out: &mut Outbox<Message>) {
        let Some(leader) = &mut self.leader else {
            return;
        };
        if let Some((start, end)) = leader.snapshot
            && end <= offset
        {
            leader.snapshot = None;
            if let Err(error) = self.store.delete_records(leader.log, start) {
                tracing::warn!(%error, "metadata log keeps what is before its snapshot");
            }
        }
        self.restored_durable(offset, out);
        let Some(leader) = &mut self.leader else {
            return;
        };
        if leader.commit.as_ref().is_none_or(|(end, _)| *end > offset) {
            return;
        }
        let Some((_, records)) = leader.commit.take() else {
            return;
        };
        let decided_ms = now.wall_ms;
        for core in 0..self.cores as u16 {
            if core != self.core.0 {
                let records = Arc::clone(&records);
                let message = Message::Metadata {
                    records,
                    decided_ms,
                };
                out.mail(highwater_base::CoreId(core), message);
            }
        }
        self.apply_metadata(now, decided_ms, &records, out);
        self.metadata_applied(now, out);
    }

    /// Appends to the metadata log were dropped because the disk is full.
    pub(crate) fn metadata_discarded(&mut self, now: Now, out: &mut Outbox<Message>) {
        let Some(leader) = &mut self.leader else {
            return;
        };
        leader.commit = None;
        leader.snapshot = None;
        // Their entries stay in quarantine: the next start tries again.
        leader.restored_end = None;
        let message = "the disk is full; make room and try again";
        if let Some((origin, outcome)) = leader
            .controller
            .failed(ErrorCode::KafkaStorageError, message)
        {
            self.deliver_change(now, origin, outcome, out);
        }
        self.drive_controller(now, out);
    }

    /// One core has folded the change in flight.
    pub(crate) fn metadata_applied(&mut self, now: Now, out: &mut Outbox<Message>) {
        let Some(leader) = &mut self.leader else {
            return;
        };
        if let Some((origin, outcome)) = leader.controller.applied() {
            self.deliver_change(now, origin, outcome, out);
            self.drive_controller(now, out);
        }
    }

    fn deliver_change(
        &mut self,
        now: Now,
        origin: Origin,
        outcome: ChangeOutcome,
        out: &mut Outbox<Message>,
    ) {
        if origin.core == self.core {
            self.change_done(now, origin.ticket, outcome, out);
        } else {
            out.mail(
                origin.core,
                Message::ChangeDone {
                    ticket: origin.ticket,
                    outcome,
                },
            );
        }
    }

    /// A change this core asked for has come to its end.
    pub(crate) fn change_done(
        &mut self,
        now: Now,
        ticket: u64,
        outcome: ChangeOutcome,
        out: &mut Outbox<Message>,
    ) {
        match self.changes.remove(Key::from_ticket(ticket)) {
            None => {}
            Some(PendingChange::ProducerIds) => {
                let supply = outcome.into_iter().next();
                if let Some(Ok(Changed::ProducerIds { first, count })) = supply {
                    self.producer_ids.refill(first, count);
                } else {
                    self.producer_ids.refill_failed();
                }
                self.serve_producer_ids(now, out);
            }
            Some(client) => self.answer_change(now, client, &outcome, out),
        }
    }

    /// Folds records in and does what they ask of this core. `decided_ms` is the same on all cores.
    pub(crate) fn apply_metadata(
        &mut self,
        now: Now,
        decided_ms: Timestamp,
        records: &[MetadataRecord],
        out: &mut Outbox<Message>,
    ) {
        for record in records {
            match self.image.apply(record) {
                Effect::None => {}
                Effect::Open { topic, from, to } => {
                    let Some(topic) = self.image.topic(topic).cloned() else {
                        continue;
                    };
                    if from == 0 {
                        // What was committed for a former topic of its name is not about this one.
                        self.groups_lose_topic(now, &topic.name, out);
                    }
                    self.open_partitions(now, &topic, from, to, out);
                }
                Effect::Drop { topic } => {
                    self.offline.forget(topic.id);
                    let aside = self.aside_of(now, decided_ms, &topic);
                    if let Some(entry) = self.table.remove(topic.id) {
                        let keeps = self.drop_partitions(now, &entry, aside, out);
                        if let Some(aside) = aside.filter(|_| keeps) {
                            let note = Note::of(&topic).encode();
                            self.store.write_note(aside.note_path(), note, out.disk());
                        }
                    }
                    self.groups_lose_topic(now, &topic.name, out);
                }
                Effect::Reconfigure { topic } => {
                    let Some(topic) = self.image.topic(topic).cloned() else {
                        continue;
                    };
                    self.table.put(&topic, &[]);
                    self.reconfigure_partitions(&topic);
                }
                Effect::ReconfigureBroker => self.reconfigure_broker(),
            }
        }
    }

    fn open_partitions(
        &mut self,
        now: Now,
        topic: &Topic,
        from: u32,
        to: u32,
        out: &mut Outbox<Message>,
    ) {
        let mut opened = Vec::new();
        for partition in from..to {
            if topic.core_of(partition, self.cores) == self.core {
                let log = self.store.create(partition_spec(topic, partition), now);
                self.note_partition(log);
                opened.push((partition, log));
            }
        }
        self.table.put(topic, &opened);
        if is_internal(&topic.name) {
            self.open_offsets(now, topic.partitions, &opened, out);
        }
    }

    /// Makes room for what this shard keeps beside a log.
    pub(crate) fn note_partition(&mut self, log: LogId) {
        let index = log.0 as usize;
        if self.partitions.len() <= index {
            self.partitions.resize_with(index + 1, Partition::default);
        }
        self.partitions[index] = Partition::default();
        self.counters.partitions += 1;
    }

    /// Where the data of a deleted topic goes; nowhere when it is not kept.
    fn aside_of(&mut self, now: Now, decided_ms: Timestamp, topic: &Topic) -> Option<Entry> {
        let retention = DeleteRetention::hours(self.node.config.delete_retention_hours);
        let entry = Entry {
            since_ms: decided_ms,
            reason: Reason::Deleted,
            topic_id: topic.id,
        };
        let aside = retention.keeps().then_some(entry)?;
        if let Some(leader) = &mut self.leader {
            leader.removals.add(now, aside);
        }
        Some(aside)
    }

    /// Removes deleted data whose time has come.
    pub(crate) fn remove_expired(&mut self, now: Now, out: &mut Outbox<Message>) {
        let Some(leader) = &mut self.leader else {
            return;
        };
        if leader
            .removals
            .next_deadline_ns()
            .is_none_or(|at| !now.reached(at))
        {
            return;
        }
        while let Some(entry) = leader.removals.pop_due(now) {
            tracing::info!(%entry, "removes data of a deleted topic from quarantine");
            self.store.discard(entry.path(), out.disk());
        }
    }

    /// Drops a topic's partitions of this core; true when data of one goes to `aside`.
    fn drop_partitions(
        &mut self,
        now: Now,
        entry: &TopicEntry,
        aside: Option<Entry>,
        out: &mut Outbox<Message>,
    ) -> bool {
        let mut keeps = false;
        for (partition, log) in entry.local_logs() {
            // Whoever waits here is told, and whoever polls finds the topic gone.
            let waiters = std::mem::take(&mut self.partitions[log.0 as usize].produce_waiters);
            for waiter in waiters {
                self.unacknowledged_bytes -= waiter.bytes as usize;
                self.produce_error(waiter.key, waiter.index, ErrorCode::UnknownTopicOrPartition);
                self.finish_produce(waiter.key, out);
            }
            let trims = std::mem::take(&mut self.partitions[log.0 as usize].trims);
            for trim in trims {
                let gone = crate::message::QueryResult::Error(ErrorCode::UnknownTopicOrPartition);
                self.answer_query(trim.origin, gone, out);
            }
            self.wake_fetches(log, out);
            match aside {
                None => self.store.drop_partition(log, out.disk()),
                Some(aside) => {
                    let to = format!("{}/{partition}", aside.topic_path(&entry.name));
                    keeps |= self.store.drop_partition_to(log, to, out.disk());
                }
            }
            self.counters.partitions -= 1;
        }
        keeps | self.drop_offline(now, entry, aside, out)
    }

    /// Offline partitions of a deleted topic go the same way as others; true when there are some.
    fn drop_offline(
        &mut self,
        now: Now,
        entry: &TopicEntry,
        aside: Option<Entry>,
        out: &mut Outbox<Message>,
    ) -> bool {
        let mut any = false;
        for (partition, _) in entry.local_offline() {
            any = true;
            let index = PartitionIndex(partition as i32);
            let from = partition_directory(&entry.name, entry.id, index);
            match aside {
                None => self.store.discard(from, out.disk()),
                Some(aside) => {
                    let to = format!("{}/{partition}", aside.topic_path(&entry.name));
                    self.store.move_aside(from, to, out.disk());
                }
            }
            let key = PartitionKey {
                topic_id: entry.id,
                partition: index,
            };
            self.store.forget_marks(now, std::iter::once(key));
        }
        any
    }

    /// Topics follow the changed defaults, the store the changed expiration.
    fn reconfigure_broker(&mut self) {
        let topics: Vec<Topic> = self.image.topics_by_name().cloned().collect();
        for topic in &topics {
            self.table.put(topic, &[]);
            self.reconfigure_partitions(topic);
        }
        let from_file = self.node.config.producer_id_expiration_ms;
        let changed = self.image.producer_id_expiration_ms();
        self.store
            .set_producer_id_expiration_ms(changed.unwrap_or(from_file));
        self.request_scrub();
    }

    fn reconfigure_partitions(&mut self, topic: &Topic) {
        let Some(entry) = self.table.by_id(topic.id).cloned() else {
            return;
        };
        for (_, log) in entry.local_logs() {
            self.store.set_config(log, topic.config.log_config());
        }
    }

    /// At the start of core 0: topics put back from quarantine are logged.
    pub(crate) fn log_restored(&mut self, now: Now) {
        let Some(leader) = &mut self.leader else {
            return;
        };
        if leader.restoring.is_empty() {
            return;
        }
        let records: Vec<_> = leader.restoring.iter().map(|(it, _)| it.clone()).collect();
        let batch = record::encode_batch(&records, now.wall_ms);
        let header = BatchHeader::parse(&batch).expect("a batch just built is valid");
        match self.store.append(leader.log, now, &header, &batch, None) {
            Ok(appended) => leader.restored_end = Some(appended.next_offset),
            Err(error) => {
                tracing::error!(%error, "restored topics are not logged; the next start tries again");
            }
        }
    }

    fn restored_durable(&mut self, offset: Offset, out: &mut Outbox<Message>) {
        let Some(leader) = &mut self.leader else {
            return;
        };
        if leader.restored_end.is_some_and(|end| end <= offset) {
            leader.restored_end = None;
            for (_, entry) in std::mem::take(&mut leader.restoring) {
                self.store.discard(entry.path(), out.disk());
            }
        }
    }

    /// At the start of core 0: a long metadata log gets a snapshot and loses what is before it.
    pub(crate) fn snapshot_metadata_if_long(&mut self, now: Now, records_replayed: usize) {
        let Some(leader) = &mut self.leader else {
            return;
        };
        if records_replayed < SNAPSHOT_AFTER_RECORDS
            || records_replayed < 4 * (self.image.topic_count() + 3)
        {
            return;
        }
        let batch = record::encode_batch(&self.image.snapshot(), now.wall_ms);
        let header = BatchHeader::parse(&batch).expect("a batch just built is valid");
        match self.store.append(leader.log, now, &header, &batch, None) {
            Ok(appended) => leader.snapshot = Some((appended.base_offset, appended.next_offset)),
            Err(error) => tracing::warn!(%error, "metadata log stays long"),
        }
    }
}

/// What the store is told of one partition.
#[must_use]
pub fn partition_spec(topic: &Topic, partition: u32) -> PartitionSpec {
    PartitionSpec {
        topic_id: topic.id,
        topic: topic.name.to_string(),
        partition: PartitionIndex(partition as i32),
        epoch: INITIAL_EPOCH,
        config: topic.config.log_config(),
    }
}

#[cfg(test)]
mod tests;

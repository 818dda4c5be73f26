//! A shard over a disk in memory for the unit tests of this crate: what it asks of the disk is
//! executed when the test says so, what it tells other cores is kept as text.

use std::collections::VecDeque;
use std::sync::Arc;

use highwater_base::disk::{DiskCompletion, DiskError, DiskOperation, DiskRequest};
use highwater_base::{BatchHeader, ClusterId, CoreId, Now, Offset, TopicId};
use highwater_reactor::{Outbox, Service, VolumeGauge};
use highwater_store::{LedgerImage, LogId, MarksLedger, Store, StoreConfig};
use highwater_wire::records::RecordBatchBuilder;

use crate::config::NodeConfig;
use crate::message::{Message, Query, QueryPart};
use crate::metadata::{Image, MetadataRecord};
use crate::partition_table::{Owner, PartitionTable};
use crate::shard::{NodeIdentity, Shard, ShardParts};
use crate::testing::disk;

/// The core that asks in these tests.
pub const ASKER: CoreId = CoreId(1);
pub const TOPIC: TopicId = TopicId([9; 16]);

/// One batch with a record of `bytes` per timestamp.
pub fn batch(timestamps: &[i64], bytes: usize) -> Vec<u8> {
    let mut builder = RecordBatchBuilder::new();
    for timestamp in timestamps {
        builder.append(*timestamp, None, Some(&vec![7; bytes]), &[]);
    }
    builder.finish()
}

/// A shard of a node with two cores, and the requests under way.
pub struct TestShard {
    pub shard: Shard,
    pub disk: disk::TestDisk,
    pub pending: VecDeque<DiskRequest>,
    pub now: Now,
}

impl TestShard {
    pub fn new(config: StoreConfig) -> TestShard {
        let mut disk = disk::TestDisk::default();
        let marks = LedgerImage::read(&disk).expect("marks are readable");
        let ledger = MarksLedger::create(&mut disk, CoreId(0), &marks, |_| true);
        let node = NodeConfig::load(None, [], &[]).expect("the defaults are valid");
        let now = Now {
            monotonic_ns: 1_000_000,
            wall_ms: 1_000_000,
        };
        let parts = ShardParts {
            core: CoreId(0),
            image: Image::new(1, node.topic_defaults().expect("the defaults are valid")),
            node: NodeIdentity {
                cluster_id: ClusterId([1; 16]),
                advertised: ("localhost".to_owned(), 9092),
                config: Arc::new(node),
                cores: 2,
                volume: VolumeGauge::default(),
            },
            store: Store::new(config, ClusterId([1; 16]), ledger.expect("a ledger")),
            table: PartitionTable::default(),
            logs: Vec::new(),
            unvouched: Vec::new(),
            leader: None,
            metadata_records_replayed: 0,
            group_id_seed: 1,
        };
        TestShard {
            shard: Shard::new(parts, now),
            disk,
            pending: VecDeque::new(),
            now,
        }
    }

    /// Steps the shard and ends the turn; returns what was said to others.
    pub fn step(&mut self, step: impl FnOnce(&mut Shard, Now, &mut Outbox<Message>)) -> String {
        let mut out = Outbox::default();
        step(&mut self.shard, self.now, &mut out);
        self.shard.end_turn(self.now, &mut out);
        self.pending.extend(out.disk().drain(..));
        format!("{out:?}")
    }

    /// Folds metadata records in.
    pub fn apply(&mut self, records: &[MetadataRecord]) {
        self.step(|shard, now, out| shard.apply_metadata(now, now.wall_ms, records, out));
    }

    /// A topic whose even partitions are this core's.
    pub fn create_topic(&mut self, partitions: u32, config: &[(&str, &str)]) {
        let config = config.iter();
        self.apply(&[MetadataRecord::Topic {
            topic_id: TOPIC.0,
            name: "orders".to_owned(),
            partitions,
            core_slot_base: 0,
            config: config
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        }]);
    }

    pub fn delete_topic(&mut self) {
        self.apply(&[MetadataRecord::TopicDeleted { topic_id: TOPIC.0 }]);
    }

    pub fn log(&self, partition: i32) -> LogId {
        let owner = self.shard.table.by_id(TOPIC);
        match owner.and_then(|entry| entry.owner(partition, 2)) {
            Some(Owner::Here(log)) => log,
            other => panic!("partition {partition} is not here: {other:?}"),
        }
    }

    /// Appends a [`batch`] and waits until it is durable.
    pub fn append(&mut self, partition: i32, timestamps: &[i64], bytes: usize) -> Offset {
        let batch = batch(timestamps, bytes);
        let header = BatchHeader::parse(&batch).expect("a batch just built is valid");
        let (log, now) = (self.log(partition), self.now);
        let appended = self.shard.store.append(log, now, &header, &batch, None);
        self.settle();
        appended.expect("room").base_offset
    }

    /// The other core asks a partition; returns the answer, unless it has to wait.
    pub fn ask(&mut self, partition: i32, query: &Query) -> String {
        self.ask_all(&[(partition, query.clone())])
    }

    /// The same for several questions in one request.
    pub fn ask_all(&mut self, queries: &[(i32, Query)]) -> String {
        let part = |(index, (partition, query)): (usize, &(i32, Query))| QueryPart {
            index: index as u32,
            topic_id: TOPIC,
            partition: *partition,
            query: query.clone(),
        };
        let parts = queries.iter().enumerate().map(part).collect();
        let message = Message::Query { ticket: 1, parts };
        self.step(|shard, now, out| shard.on_message(now, ASKER, message, out))
    }

    /// Executes the oldest pending request; with `fault`, a read of a segment fails.
    pub fn execute(&mut self, fault: Option<DiskError>) -> String {
        let Some(request) = self.pending.pop_front() else {
            return String::new();
        };
        let token = request.token;
        let is_read = matches!(request.operation, DiskOperation::Read { .. });
        let completion = match fault.filter(|_| is_read) {
            Some(error) => Some(DiskCompletion {
                token,
                result: Err(error),
            }),
            None => self.disk.execute(request),
        };
        match completion {
            Some(completion) => self.step(|shard, now, out| shard.on_disk(now, completion, out)),
            None => String::new(),
        }
    }

    /// Executes everything until nothing is under way; returns what was said to others.
    pub fn settle(&mut self) -> String {
        let mut said = self.step(|_, _, _| {});
        while !self.pending.is_empty() {
            said.push_str(&self.execute(None));
        }
        said
    }
}

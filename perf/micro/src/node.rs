//! A node of one core with one topic of one partition, stepped by hand: what the reactor does around
//! the shard, without sockets and with a disk that keeps nothing.

use std::sync::Arc;

use highwater_base::disk::{DiskCompletion, DiskRequest};
use highwater_base::{ClusterId, CoreId, Epoch, Now, PartitionIndex};
use highwater_broker::config::{NodeConfig, TopicConfig};
use highwater_broker::message::Message;
use highwater_broker::metadata::{Image, MetadataRecord};
use highwater_broker::metadata_log::partition_spec;
use highwater_broker::partition_table::PartitionTable;
use highwater_broker::shard::{NodeIdentity, Shard, ShardParts};
use highwater_reactor::testing::{self, Command};
use highwater_reactor::{ConnectionId, FrameVerdict, Outbox, SendPiece, Service, VolumeGauge};
use highwater_store::{LedgerImage, LogConfig, MarksLedger, PartitionSpec, Store, StoreConfig};

use crate::Meter;
use crate::disk::{EmptyDisk, acknowledge};
use crate::inputs::{START, STEP_NS, TOPIC};

/// No segment is full within the steps that are counted: beginning one is no part of a turn.
const SEGMENT_BYTES: u64 = 1 << 30;
/// Small, so that it is soon full; from then on windows of memory are used again, as in a broker that
/// has run for a while. New ones are zeroed, which would be most of what is counted.
const TAIL_CACHE_BYTES: usize = 8 << 20;
/// Records of 1 KiB in each of the batches that fill it.
pub const FILL_RECORDS: u32 = 64;
/// How many of them fill it twice over.
pub const FILL_STEPS: usize = 2 * TAIL_CACHE_BYTES / (FILL_RECORDS as usize * 1024);
/// A request is answered within so many turns: its own, and the one in which its write ends.
const TURNS_MAX: usize = 4;
const CLUSTER: ClusterId = ClusterId([1; 16]);
const TOPIC_NAME: &str = "orders";

/// A store over an empty disk.
///
/// # Panics
/// Never: the disk refuses nothing.
#[must_use]
pub fn store() -> Store {
    let marks = LedgerImage::read(&EmptyDisk).expect("no marks are readable marks");
    let ledger = MarksLedger::create(&mut EmptyDisk, CoreId(0), &marks, |_| true);
    let config = StoreConfig {
        tail_cache_bytes: TAIL_CACHE_BYTES,
        first_segment_bytes: SEGMENT_BYTES,
        ..StoreConfig::default()
    };
    Store::new(config, CLUSTER, ledger.expect("the disk takes it"))
}

/// The one partition, with this configuration.
#[must_use]
pub fn log_spec(config: LogConfig) -> PartitionSpec {
    PartitionSpec {
        topic_id: TOPIC,
        topic: TOPIC_NAME.to_owned(),
        partition: PartitionIndex(0),
        epoch: Epoch(0),
        config,
    }
}

/// The shard, one connection, and what is under way.
pub struct Node {
    shard: Shard,
    out: Outbox<Message>,
    commands: Vec<Command<Message>>,
    requests: Vec<DiskRequest>,
    completions: Vec<DiskCompletion>,
    now: Now,
    connection: ConnectionId,
    /// Bytes of the last request's answer, length prefix included.
    answer: Vec<u8>,
}

impl Node {
    /// A node that has just started, with a client.
    ///
    /// # Panics
    /// When the broker's own defaults are refused.
    #[must_use]
    pub fn start() -> Node {
        let config = NodeConfig::load(None, [], &[]).expect("the defaults are valid");
        let mut image = Image::new(config.node_id, TopicConfig::default());
        image.apply(&MetadataRecord::Topic {
            topic_id: TOPIC.0,
            name: TOPIC_NAME.to_owned(),
            partitions: 1,
            core_slot_base: 0,
            config: Vec::new(),
        });
        let (mut store, mut table) = (store(), PartitionTable::default());
        let topic = image.topic(TOPIC).expect("it was applied");
        let log = store.create(partition_spec(topic, 0), START);
        table.put(topic, &[(0, log)]);
        let parts = ShardParts {
            core: CoreId(0),
            node: NodeIdentity {
                cluster_id: CLUSTER,
                config: Arc::new(config),
                advertised: ("localhost".to_owned(), 9092),
                cores: 1,
                volume: VolumeGauge::default(),
            },
            image,
            store,
            table,
            logs: vec![log],
            leader: None,
            unvouched: Vec::new(),
            metadata_records_replayed: 0,
            group_id_seed: 1,
        };
        let (mut shard, mut out) = (Shard::new(parts, START), Outbox::default());
        let connection = testing::connection_id(1);
        shard.on_start(START, &mut out);
        shard.on_connection(START, connection, &testing::connection_info(), &mut out);
        Node {
            shard,
            out,
            commands: Vec::new(),
            requests: Vec::new(),
            completions: Vec::new(),
            now: START,
            connection,
            answer: Vec::new(),
        }
    }

    /// The answer to the last request, without its length prefix.
    #[must_use]
    pub fn answer(&self) -> &[u8] {
        self.answer.get(4..).unwrap_or_default()
    }

    /// Time passes; timers that are due fire.
    pub fn pass(&mut self) {
        self.now.monotonic_ns += STEP_NS;
        if let Some(deadline_ns) = self.shard.next_deadline_ns()
            && self.now.reached(deadline_ns)
        {
            self.shard.on_timer(self.now, &mut self.out);
            self.turn(Meter::Idle);
        }
    }

    /// A request arrives and is answered, turn by turn.
    ///
    /// # Panics
    /// When the connection would be closed or not read on.
    pub fn serve(&mut self, frame: Vec<u8>, meter: Meter) {
        self.answer.clear();
        let (shard, out) = (&mut self.shard, &mut self.out);
        let (now, connection) = (self.now, self.connection);
        let verdict = testing::with_frame(frame, |frame| {
            meter.run(|| shard.on_frame(now, connection, frame, out))
        });
        assert_eq!(verdict, FrameVerdict::Continue);
        for _ in 0..TURNS_MAX {
            self.turn(meter);
            if !self.answer.is_empty() {
                break;
            }
        }
    }

    /// The end of a turn: the shard's own part is measured, the reactor's and the disk's is not.
    fn turn(&mut self, meter: Meter) {
        let (shard, out, now) = (&mut self.shard, &mut self.out, self.now);
        meter.run(|| shard.end_turn(now, out));
        testing::swap_commands(out, &mut self.commands);
        std::mem::swap(out.disk(), &mut self.requests);
        let mut has_sent = false;
        for command in self.commands.drain(..) {
            match command {
                Command::Send(_, piece) => {
                    has_sent = true;
                    match &piece {
                        SendPiece::Bytes(bytes) => self.answer.extend_from_slice(bytes),
                        SendPiece::Memory(slice) => self.answer.extend_from_slice(slice.bytes()),
                        other => panic!("what is in memory is sent from memory, not by {other:?}"),
                    }
                    testing::sent(out, piece);
                }
                other => panic!("one request at a time needs no {other:?}"),
            }
        }
        let completions = self.requests.drain(..);
        self.completions
            .extend(completions.filter_map(|request| acknowledge(&request)));
        if has_sent {
            let connection = self.connection;
            meter.run(|| shard.on_drained(now, connection, out));
        }
        for completion in self.completions.drain(..) {
            meter.run(|| shard.on_disk(now, completion, out));
        }
    }
}

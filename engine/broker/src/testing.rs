//! A node in one thread for tests: shards over disks in memory, stepped turn by turn, with the mail
//! between them carried by hand.

#[path = "../../store/tests/support/disk/mod.rs"]
pub mod disk;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use highwater_base::crc::crc32c;
use highwater_base::disk::{BootDisk, DiskCompletion, DiskError, DiskOperation, DiskRequest};
use highwater_base::{BatchHeader, ClusterId, CoreId, Now};
use highwater_reactor::testing::{self, Command};
use highwater_reactor::{CloseReason, ConnectionId, FrameVerdict, Outbox, SendPiece, Service};
use highwater_store::{LedgerImage, LogId, MarksLedger, Store, StoreConfig};
use highwater_wire::ApiKey;
use highwater_wire::header::{decode_response_header, encode_request_header};

use crate::boot::{metadata_spec, read_metadata};
use crate::config::{NodeConfig, TopicConfig};
use crate::message::Message;
use crate::metadata::controller::ControllerConfig;
use crate::metadata::{Controller, Image, MetadataRecord};
use crate::metadata_log::{MetadataLeader, partition_spec};
use crate::partition_table::{Owner, PartitionTable};
use crate::quarantine::DeleteRetention;
use crate::shard::{NodeIdentity, Shard, ShardParts};
use disk::{Keep, TestDisk};

/// Files of other cores have ids from here on; this disk does not know them.
const FOREIGN_FILES_FROM: u32 = 0x8000_0000;
const TURNS_MAX: usize = 10_000;

/// One core and what left it.
pub(crate) struct TestCore {
    pub shard: Shard,
    out: Outbox<Message>,
    disk: TestDisk,
    /// Disk requests that do not end before they are let go.
    held: Option<Vec<DiskRequest>>,
    /// Bytes sent, by connection; the contents of file ranges are zeros.
    sent: BTreeMap<ConnectionId, Vec<u8>>,
    /// Connections that were resumed, in order.
    pub resumed: Vec<ConnectionId>,
    /// Bytes sent as ranges of files.
    pub file_bytes: usize,
}

/// All cores.
pub(crate) struct TestNode {
    pub cores: Vec<TestCore>,
    pub now: Now,
    mail: VecDeque<(CoreId, CoreId, Message)>,
    connections: u64,
    cache_bytes: usize,
    /// What the node began with, before any change.
    first_image: Image,
}

/// The records of the metadata log on core 0's disk, as a start reads them.
fn metadata_of(disk: &mut TestDisk, node: &NodeIdentity) -> Vec<MetadataRecord> {
    let marks = LedgerImage::read(disk).expect("readable marks");
    let ledger = MarksLedger::create(disk, CoreId(0), &marks, |_| true).expect("a ledger");
    let mut store = Store::new(StoreConfig::default(), node.cluster_id, ledger);
    let now = Now {
        monotonic_ns: 1_000_000,
        wall_ms: 1_000_000,
    };
    let (log, _) = store
        .recover(disk, metadata_spec(), &marks, now)
        .expect("recovers");
    read_metadata(&store, disk, log).expect("readable records")
}

/// A batch of one record with `payload` bytes; its contents mean nothing.
pub(crate) fn batch(payload: usize) -> Vec<u8> {
    let mut bytes = vec![0u8; 61 + payload];
    let length = (bytes.len() - 12) as i32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[16] = 2;
    bytes[43..57].fill(0xff);
    bytes[57..61].copy_from_slice(&1i32.to_be_bytes());
    let crc = crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes
}

impl TestNode {
    /// A node with topics of so many partitions; partition `p` is on core `p % cores`.
    pub fn new(cores: usize, topics: &[(&str, u32)]) -> TestNode {
        TestNode::with_cache(cores, topics, 256 << 20)
    }

    /// The same with a tail cache of `cache_bytes` on each core.
    pub fn with_cache(cores: usize, topics: &[(&str, u32)], cache_bytes: usize) -> TestNode {
        let config = NodeConfig::load(None, [], &[]).expect("the defaults are valid");
        let node = NodeIdentity {
            cluster_id: ClusterId([1; 16]),
            config: Arc::new(config),
            advertised: ("localhost".to_owned(), 9092),
            cores,
            volume: highwater_reactor::VolumeGauge::default(),
        };
        let mut image = Image::new(1, TopicConfig::default());
        for (at, (name, partitions)) in topics.iter().enumerate() {
            let mut topic_id = [7; 16];
            topic_id[..4].copy_from_slice(&(at as u32).to_be_bytes());
            image.apply(&MetadataRecord::Topic {
                topic_id,
                name: (*name).to_owned(),
                partitions: *partitions,
                core_slot_base: 0,
                config: Vec::new(),
            });
        }
        let now = Now {
            monotonic_ns: 1_000_000,
            wall_ms: 1_000_000,
        };
        let mut test = TestNode {
            cores: (0..cores as u16)
                .map(|core| {
                    let disk = TestDisk::default();
                    TestCore::new(CoreId(core), &node, &image, now, cache_bytes, disk)
                })
                .collect(),
            now,
            mail: VecDeque::new(),
            connections: 0,
            cache_bytes,
            first_image: image,
        };
        test.settle();
        test
    }

    /// The power fails and the node starts again; nobody is connected any more.
    pub fn restart(&mut self) {
        self.mail.clear();
        let (now, cache_bytes) = (self.now, self.cache_bytes);
        for core in &mut self.cores {
            let (node, image) = (core.shard.node.clone(), core.shard.image.clone());
            let mut disk = std::mem::take(&mut core.disk);
            disk.crash(Keep::All);
            *core = TestCore::new(core.shard.core, &node, &image, now, cache_bytes, disk);
        }
        self.settle();
    }

    /// The power fails and the node starts again, knowing of changes only what its log says.
    pub fn restart_by_replay(&mut self) {
        self.mail.clear();
        let (now, cache_bytes) = (self.now, self.cache_bytes);
        let mut image = self.first_image.clone();
        for (at, core) in self.cores.iter_mut().enumerate() {
            core.disk.crash(Keep::All);
            if at == 0 {
                for record in metadata_of(&mut core.disk, &core.shard.node) {
                    image.apply(&record);
                }
            }
            let (node, disk) = (core.shard.node.clone(), std::mem::take(&mut core.disk));
            *core = TestCore::new(core.shard.core, &node, &image, now, cache_bytes, disk);
        }
        self.settle();
    }

    /// Disk requests of a core do not end until [`TestNode::release_disk`].
    pub fn hold_disk(&mut self, core: usize) {
        self.cores[core].held = Some(Vec::new());
    }

    /// They end, and everything that follows from it.
    pub fn release_disk(&mut self, core: usize) {
        let at = &mut self.cores[core];
        for request in at.held.take().unwrap_or_default() {
            at.execute(self.now, request);
        }
        self.settle();
    }

    /// The oldest of the requests that are held ends, and what follows from it is held in turn.
    /// False when there is none.
    pub fn release_one(&mut self, core: usize) -> bool {
        let at = &mut self.cores[core];
        let Some(held) = at.held.as_mut().filter(|held| !held.is_empty()) else {
            return false;
        };
        let request = held.remove(0);
        at.execute(self.now, request);
        self.settle();
        true
    }

    /// All requests of a core that are held fail.
    pub fn fail_held(&mut self, core: usize, error: DiskError) {
        let at = &mut self.cores[core];
        for request in at.held.take().unwrap_or_default() {
            let completion = DiskCompletion {
                token: request.token,
                result: Err(error),
            };
            at.shard.on_disk(self.now, completion, &mut at.out);
        }
        self.settle();
    }

    /// A client connects to a core.
    pub fn connect(&mut self, core: usize) -> ConnectionId {
        self.connections += 1;
        let id = testing::connection_id(self.connections);
        let TestCore { shard, out, .. } = &mut self.cores[core];
        shard.on_connection(self.now, id, &testing::connection_info(), out);
        id
    }

    /// A client is gone.
    pub fn disconnect(&mut self, core: usize, id: ConnectionId) {
        let TestCore { shard, out, .. } = &mut self.cores[core];
        shard.on_closed(self.now, id, &CloseReason::new("test"), out);
    }

    /// A request arrives; nothing else happens yet.
    pub fn request(
        &mut self,
        core: usize,
        id: ConnectionId,
        api_key: ApiKey,
        version: i16,
        body: &[u8],
    ) -> FrameVerdict {
        let mut frame = Vec::new();
        encode_request_header(api_key, version, 5, Some("test"), &mut frame).expect("encodes");
        frame.extend_from_slice(body);
        let TestCore { shard, out, .. } = &mut self.cores[core];
        testing::with_frame(frame, |frame| shard.on_frame(self.now, id, frame, out))
    }

    /// The shard of a core.
    pub fn shard(&mut self, core: usize) -> &mut Shard {
        &mut self.cores[core].shard
    }

    /// The log of a partition, on the core that owns it.
    pub fn log_of(&self, topic: &str, partition: i32) -> (usize, LogId) {
        for (at, core) in self.cores.iter().enumerate() {
            let entry = core.shard.table.by_name(topic).expect("the topic exists");
            if let Some(Owner::Here(log)) = entry.owner(partition, self.cores.len()) {
                return (at, log);
            }
        }
        panic!("nobody owns {topic}-{partition}");
    }

    /// Records become durable in a partition.
    pub fn append(&mut self, topic: &str, partition: i32, batch: &[u8]) {
        let (core, log) = self.log_of(topic, partition);
        let header = BatchHeader::parse(batch).expect("a batch");
        let store = &mut self.cores[core].shard.store;
        store
            .append(log, self.now, &header, batch, None)
            .expect("the store takes it");
        self.settle();
    }

    /// Files on a core's disk whose path begins with `prefix`.
    pub fn paths(&self, core: usize, prefix: &str) -> Vec<String> {
        self.cores[core].disk.paths(prefix)
    }

    /// The bytes of a file on a core's disk.
    pub fn read_file(&self, core: usize, path: &str) -> Vec<u8> {
        let disk = &self.cores[core].disk;
        let mut bytes = vec![0; 64 << 20];
        let got = disk.read(path, 0, &mut bytes).expect("it is there");
        bytes.truncate(got);
        bytes
    }

    /// Puts a file on a core's disk.
    pub fn write_file(&mut self, core: usize, path: &str, bytes: &[u8]) {
        let disk = &mut self.cores[core].disk;
        disk.write_whole(path, bytes).expect("it is in memory");
    }

    /// Changes a file of a core behind everyone's back.
    pub fn damage(&mut self, core: usize, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
        self.cores[core].disk.damage(path, change);
    }

    /// Removes a file or directory of a core behind everyone's back.
    pub fn remove(&mut self, core: usize, path: &str) {
        let removed = self.cores[core].disk.remove(path);
        removed.expect("the disk does as it is told");
    }

    /// No file can be created on a core's disk any more, or again.
    pub fn set_disk_full(&mut self, core: usize, full: bool) {
        self.cores[core].disk.full = full;
    }

    /// Every core folds these records in.
    pub fn apply(&mut self, records: &[MetadataRecord]) {
        for core in &mut self.cores {
            let decided_ms = self.now.wall_ms;
            let TestCore { shard, out, .. } = core;
            shard.apply_metadata(self.now, decided_ms, records, out);
        }
        self.settle();
    }

    /// One turn of one core: its mail arrives, its answers leave, its disk requests end. Whether
    /// there was anything to do.
    pub fn turn(&mut self, core: usize) -> bool {
        let at = &mut self.cores[core];
        let waiting = self.mail.len();
        for _ in 0..self.mail.len() {
            let Some((from, to, message)) = self.mail.pop_front() else {
                break;
            };
            if to == CoreId(core as u16) {
                at.shard.on_message(self.now, from, message, &mut at.out);
            } else {
                self.mail.push_back((from, to, message));
            }
        }
        let any_mail = self.mail.len() < waiting;
        let (mail, busy) = at.turn(self.now);
        let from = CoreId(core as u16);
        self.mail
            .extend(mail.into_iter().map(|(to, message)| (from, to, message)));
        busy || any_mail
    }

    /// Turns until nothing is under way any more.
    pub fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            let mut busy = false;
            for core in 0..self.cores.len() {
                busy |= self.turn(core);
            }
            if !busy {
                return;
            }
        }
        panic!("the node never comes to rest");
    }

    /// Time passes and timers fire.
    pub fn pass_ms(&mut self, milliseconds: u64) {
        self.now.monotonic_ns += milliseconds * 1_000_000;
        self.now.wall_ms += milliseconds as i64;
        for core in &mut self.cores {
            core.shard.on_timer(self.now, &mut core.out);
        }
        self.settle();
    }

    /// Bodies of the answers a connection got since the last call.
    pub fn answers(
        &mut self,
        core: usize,
        id: ConnectionId,
        api_key: ApiKey,
        version: i16,
    ) -> Vec<Vec<u8>> {
        let bytes = self.cores[core].sent.remove(&id).unwrap_or_default();
        let (mut bodies, mut rest) = (Vec::new(), &bytes[..]);
        while !rest.is_empty() {
            let length = u32::from_be_bytes(rest[..4].try_into().expect("four bytes")) as usize;
            let frame = &rest[4..4 + length];
            let (_, body_at) = decode_response_header(api_key, version, frame).expect("a header");
            bodies.push(frame[body_at..].to_vec());
            rest = &rest[4 + length..];
        }
        bodies
    }
}

impl TestCore {
    fn new(
        core: CoreId,
        node: &NodeIdentity,
        image: &Image,
        now: Now,
        cache_bytes: usize,
        mut disk: TestDisk,
    ) -> TestCore {
        let marks = LedgerImage::read(&disk).expect("readable marks");
        let ledger = MarksLedger::create(&mut disk, core, &marks, |_| true).expect("a ledger");
        let config = StoreConfig {
            core,
            tail_cache_bytes: cache_bytes,
            ..StoreConfig::default()
        };
        let mut store = Store::new(config, node.cluster_id, ledger);
        let (mut table, mut logs) = (PartitionTable::default(), Vec::new());
        for topic in image.topics_by_name() {
            let (mut opened, mut offline) = (Vec::new(), Vec::new());
            for partition in 0..topic.partitions {
                if topic.core_of(partition, node.cores) != core {
                    continue;
                }
                let spec = partition_spec(topic, partition);
                match store.recover(&mut disk, spec, &marks, now) {
                    Ok((log, _)) => opened.push((partition, log)),
                    Err(error) => offline.push((partition, Arc::from(error.to_string()))),
                }
            }
            logs.extend(opened.iter().map(|(_, log)| *log));
            table.put(topic, &opened);
            table.put_offline(topic, &offline);
        }
        let leader = (core == CoreId(0)).then(|| {
            let log = store.recover(&mut disk, metadata_spec(), &marks, now);
            let controller = ControllerConfig {
                broker_ids: node.brokers().iter().map(|broker| broker.id).collect(),
                num_partitions: node.config.num_partitions,
                offsets_topic_partitions: node.config.offsets_topic_partitions,
                cores: node.cores,
                topics_max: node.config.topics_max,
                partitions_max: node.config.partitions_max,
            };
            let retention = DeleteRetention::hours(node.config.delete_retention_hours);
            let controller = Controller::new(controller, 1);
            MetadataLeader::new(controller, log.expect("recovers").0, retention)
        });
        let parts = ShardParts {
            core,
            node: node.clone(),
            image: image.clone(),
            store,
            table,
            logs,
            unvouched: Vec::new(),
            leader,
            metadata_records_replayed: 0,
            group_id_seed: 1,
        };
        let mut shard = Shard::new(parts, now);
        let mut out = Outbox::default();
        shard.on_start(now, &mut out);
        TestCore {
            shard,
            out,
            disk,
            held: None,
            sent: BTreeMap::new(),
            resumed: Vec::new(),
            file_bytes: 0,
        }
    }

    fn turn(&mut self, now: Now) -> (Vec<(CoreId, Message)>, bool) {
        self.shard.end_turn(now, &mut self.out);
        let mut mail = Vec::new();
        let commands = testing::take_commands(&mut self.out);
        let busy = !commands.is_empty() || !self.out.disk().is_empty();
        for command in commands {
            match command {
                Command::Send(id, piece) => self.send(id, &piece),
                Command::Mail(to, message) => mail.push((to, message)),
                Command::Resume(id) => self.resumed.push(id),
                other => panic!("unexpected {other:?}"),
            }
        }
        for id in self.sent.keys() {
            self.shard.on_drained(now, *id, &mut self.out);
        }
        for request in std::mem::take(self.out.disk()) {
            self.disk.issued(&request);
            match &mut self.held {
                Some(held) => held.push(request),
                None => self.execute(now, request),
            }
        }
        (mail, busy)
    }

    fn execute(&mut self, now: Now, request: DiskRequest) {
        match request.operation {
            DiskOperation::Attach { file, .. } | DiskOperation::Detach { file }
                if file.0 >= FOREIGN_FILES_FROM => {}
            _ => {
                if let Some(completion) = self.disk.execute(request) {
                    self.shard.on_disk(now, completion, &mut self.out);
                }
            }
        }
    }

    fn send(&mut self, id: ConnectionId, piece: &SendPiece) {
        let sent = self.sent.entry(id).or_default();
        match piece {
            SendPiece::Bytes(bytes) => sent.extend_from_slice(bytes),
            SendPiece::Memory(slice) => sent.extend_from_slice(slice.bytes()),
            SendPiece::Shared(slice) => sent.extend_from_slice(slice.bytes()),
            SendPiece::File { len, .. } => {
                self.file_bytes += len;
                sent.resize(sent.len() + len, 0);
            }
        }
    }
}

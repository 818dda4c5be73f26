//! A store over a disk in memory, driven step by step.

#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod disk;
pub mod verification;

use highwater_base::crc::crc32c;
use highwater_base::disk::DiskRequest;
use highwater_base::prng::Prng;
use highwater_base::record_batch::patch_offset_and_epoch;
use highwater_base::{BatchHeader, ClusterId, CoreId, Epoch, Now, Offset, PartitionIndex, TopicId};
use highwater_store::{
    AppendError, Appended, Barrier, LedgerError, LedgerImage, LogConfig, LogId, MarksLedger,
    PartitionSpec, ReadError, ReadOutcome, ReadPiece, RecoverError, RecoveryReport, Store,
    StoreConfig, StoreEvent,
};

use disk::{Keep, TestDisk};

pub const TOPIC: TopicId = TopicId([7; 16]);
/// Bytes of a batch in the payload of another.
pub const PLANTED_BYTES: usize = 61 + 19;
pub const CLUSTER: ClusterId = ClusterId([1; 16]);

/// One batch of `records` records with a payload of `payload` bytes. Sequences below zero mean "not
/// idempotent".
#[derive(Clone, Debug)]
pub struct Batch {
    pub records: i32,
    pub payload: usize,
    pub timestamp: i64,
    pub producer: Option<(i64, i16, i32)>,
    pub seed: u64,
    /// Base offsets of whole batches of epoch 0 that lie in the payload, as in the value of a record
    /// that mirrors a log.
    pub planted: Vec<i64>,
}

impl Batch {
    pub fn of(records: i32, payload: usize) -> Batch {
        Batch {
            records,
            payload,
            timestamp: 1000,
            producer: None,
            seed: 1,
            planted: Vec::new(),
        }
    }

    pub fn at(mut self, timestamp: i64) -> Batch {
        self.timestamp = timestamp;
        self
    }

    pub fn by_producer(mut self, id: i64, epoch: i16, sequence: i32) -> Batch {
        self.producer = Some((id, epoch, sequence));
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0u8; 61 + self.payload];
        let length = (bytes.len() - 12) as i32;
        let (id, epoch, sequence) = self.producer.unwrap_or((-1, -1, -1));
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[16] = 2;
        bytes[23..27].copy_from_slice(&(self.records - 1).to_be_bytes());
        bytes[27..35].copy_from_slice(&self.timestamp.to_be_bytes());
        bytes[35..43].copy_from_slice(&self.timestamp.to_be_bytes());
        bytes[43..51].copy_from_slice(&id.to_be_bytes());
        bytes[51..53].copy_from_slice(&epoch.to_be_bytes());
        bytes[53..57].copy_from_slice(&sequence.to_be_bytes());
        bytes[57..61].copy_from_slice(&self.records.to_be_bytes());
        Prng::new(self.seed).fill(&mut bytes[61..]);
        for (at, base) in self.planted.iter().enumerate() {
            let mut inner = Batch::of(1, PLANTED_BYTES - 61).bytes();
            patch_offset_and_epoch(&mut inner, Offset(*base), Epoch(0));
            let from = 61 + 16 + at * PLANTED_BYTES;
            if let Some(place) = bytes.get_mut(from..from + PLANTED_BYTES) {
                place.copy_from_slice(&inner);
            }
        }
        let crc = crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        bytes
    }
}

pub fn test_config() -> StoreConfig {
    StoreConfig {
        core: CoreId(0),
        tail_cache_bytes: 1 << 20,
        barrier: Barrier::DeviceFlush,
        ..StoreConfig::default()
    }
}

pub fn spec(partition: i32, epoch: u32, config: LogConfig) -> PartitionSpec {
    PartitionSpec {
        topic_id: TOPIC,
        topic: "orders".to_owned(),
        partition: PartitionIndex(partition),
        epoch: Epoch(epoch),
        config,
    }
}

pub fn directory(partition: i32) -> String {
    format!("topics/orders/{TOPIC}/{partition}")
}

/// A store, its disk, and the requests that are under way.
pub struct World {
    pub store: Store,
    pub disk: TestDisk,
    pub pending: Vec<DiskRequest>,
    pub events: Vec<StoreEvent>,
    pub now: Now,
}

fn open_store(
    config: StoreConfig,
    disk: &mut TestDisk,
) -> Result<(Store, LedgerImage), LedgerError> {
    let image = LedgerImage::read(disk)?;
    let ledger = MarksLedger::create(disk, config.core, &image, |_| true)?;
    Ok((Store::new(config, CLUSTER, ledger), image))
}

impl World {
    pub fn new(config: StoreConfig) -> World {
        let mut disk = TestDisk::default();
        let (store, _) = open_store(config, &mut disk).expect("the disk is well");
        World {
            store,
            disk,
            pending: Vec::new(),
            events: Vec::new(),
            now: Now {
                monotonic_ns: 1_000_000,
                wall_ms: 1_000_000,
            },
        }
    }

    /// The writes of this turn, and the barrier behind them if they want one, reach the device's
    /// cache and no further.
    pub fn write_without_flush(&mut self) {
        use highwater_base::disk::DiskOperation;
        self.end_turn();
        while let Some(mut request) = self.pending.pop() {
            let DiskOperation::Write { durable, .. } = &mut request.operation else {
                continue;
            };
            let was_durable = std::mem::replace(durable, false);
            let completion = self.disk.execute(&request);
            let Some(completion) = completion.filter(|_| !was_durable) else {
                continue;
            };
            let mut fresh = Vec::new();
            self.store
                .complete(self.now, completion, &mut fresh, &mut self.events);
            self.take_requests(fresh);
        }
    }

    /// A crash in the middle of everything, and a new process.
    pub fn crash_now(&mut self, config: StoreConfig, keep: Keep, seed: u64) -> LedgerImage {
        self.crash_disk(keep, &mut Prng::new(seed));
        self.start(config)
    }

    /// A crash in the middle of everything.
    pub fn crash_disk(&mut self, keep: Keep, prng: &mut Prng) {
        let mut under_way = std::mem::take(&mut self.pending);
        for at in (1..under_way.len()).rev() {
            under_way.swap(at, prng.below(at as u64 + 1) as usize);
        }
        self.disk.crash_with(keep, &under_way, prng);
    }

    /// A new process over the same disk after a crash; partitions are recovered by `recover`.
    pub fn restart(&mut self, config: StoreConfig, keep: Keep) -> LedgerImage {
        self.pending.clear();
        self.disk.crash(keep);
        self.start(config)
    }

    fn start(&mut self, config: StoreConfig) -> LedgerImage {
        let started = self.try_start(config);
        started.expect("the ledger can be read and written")
    }

    /// A new process; an error where power is lost while its ledger is made.
    pub fn try_start(&mut self, config: StoreConfig) -> Result<LedgerImage, LedgerError> {
        self.pending.clear();
        self.events.clear();
        let (store, image) = open_store(config, &mut self.disk)?;
        self.store = store;
        Ok(image)
    }

    pub fn recover(
        &mut self,
        image: &LedgerImage,
        spec: PartitionSpec,
    ) -> Result<(LogId, RecoveryReport), RecoverError> {
        let recovered = self.store.recover(&mut self.disk, spec, image, self.now);
        self.take_attached();
        recovered
    }

    fn take_attached(&mut self) {
        let mut fresh = Vec::new();
        self.store.take_attached(&mut fresh);
        self.take_requests(fresh);
    }

    pub fn append(&mut self, log: LogId, batch: &Batch) -> Result<Appended, AppendError> {
        let bytes = batch.bytes();
        let header = BatchHeader::parse(&bytes).expect("a valid batch");
        self.store.append(log, self.now, &header, &bytes, None)
    }

    fn take_requests(&mut self, fresh: Vec<DiskRequest>) {
        for request in fresh {
            self.disk.issued(&request);
            // Naming takes effect in order; everything else in any order.
            match request.operation {
                highwater_base::disk::DiskOperation::Attach { .. } => {
                    let _ = self.disk.execute(&request);
                }
                _ => self.pending.push(request),
            }
        }
    }

    pub fn drop_partition(&mut self, log: LogId) {
        let mut fresh = Vec::new();
        self.store.drop_partition(log, &mut fresh);
        self.take_requests(fresh);
    }

    pub fn end_turn(&mut self) {
        let mut fresh = Vec::new();
        self.store.end_turn(self.now, &mut fresh);
        self.take_requests(fresh);
    }

    pub fn tick(&mut self) {
        let mut fresh = Vec::new();
        self.store.tick(self.now, &mut fresh, &mut self.events);
        self.take_requests(fresh);
    }

    /// Lets time pass, then ticks.
    pub fn pass_ms(&mut self, milliseconds: u64) {
        self.now.monotonic_ns += milliseconds * 1_000_000;
        self.now.wall_ms += milliseconds as i64;
        self.tick();
    }

    /// Executes the pending request at `at` and steps the store with its end.
    pub fn execute(&mut self, at: usize) {
        let request = self.pending.remove(at);
        let Some(completion) = self.disk.execute(&request) else {
            return;
        };
        let mut fresh = Vec::new();
        self.store
            .complete(self.now, completion, &mut fresh, &mut self.events);
        self.take_requests(fresh);
    }

    /// Ends the turn and executes everything until nothing is under way.
    pub fn settle(&mut self) {
        self.end_turn();
        for _ in 0..100_000 {
            if self.pending.is_empty() {
                return;
            }
            self.execute(0);
        }
        panic!("the store never comes to rest");
    }

    /// Executes some pending requests, in random order.
    pub fn execute_some(&mut self, prng: &mut Prng, most: u64) {
        for _ in 0..prng.below(most + 1) {
            if self.pending.is_empty() {
                return;
            }
            let at = prng.below(self.pending.len() as u64) as usize;
            self.execute(at);
        }
    }

    pub fn shutdown(&mut self) {
        let mut fresh = Vec::new();
        self.store.shutdown(self.now, &mut fresh);
        self.take_requests(fresh);
        self.settle();
        let complete = |event: &StoreEvent| matches!(event, StoreEvent::ShutdownComplete);
        assert!(self.events.iter().any(complete), "the clean stop completes");
    }

    /// Executes reads, and other requests when there are none, until a position was looked up.
    fn await_located(&mut self) {
        let before = self.located();
        self.end_turn();
        while self.located() == before {
            let is_read = |request: &DiskRequest| {
                matches!(
                    request.operation,
                    highwater_base::disk::DiskOperation::Read { .. }
                )
            };
            let at = self.pending.iter().position(is_read).unwrap_or(0);
            assert!(!self.pending.is_empty(), "nobody looks");
            self.execute(at);
            self.end_turn();
        }
    }

    /// How many positions were looked up so far.
    pub fn located(&self) -> usize {
        let located = |event: &&StoreEvent| matches!(event, StoreEvent::Located { .. });
        self.events.iter().filter(located).count()
    }

    /// Reads and checks: whole batches, contiguous, CRC right, not beyond the high-water mark.
    /// Returns the headers.
    pub fn read(
        &mut self,
        log: LogId,
        offset: i64,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<(ReadOutcome, Vec<BatchHeader>), ReadError> {
        let mut pieces = Vec::new();
        let outcome = loop {
            let outcome =
                self.store
                    .read(log, Offset(offset), max_bytes, at_least_one, &mut pieces);
            match outcome {
                Err(ReadError::Locating) => self.await_located(),
                outcome => break outcome?,
            }
        };
        let mut bytes = Vec::new();
        for piece in &pieces {
            match piece {
                ReadPiece::Memory(slice) => bytes.extend_from_slice(slice.bytes()),
                ReadPiece::File {
                    file, offset, len, ..
                } => {
                    bytes.extend_from_slice(&self.disk.file_bytes(*file, *offset, *len));
                }
            }
        }
        assert_eq!(bytes.len(), outcome.bytes, "the outcome counts the pieces");
        let mut headers: Vec<BatchHeader> = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let header = BatchHeader::parse(&bytes[at..]).expect("a batch boundary");
            header.verify_crc(&bytes[at..]).expect("an undamaged batch");
            if let Some(last) = headers.last() {
                assert_eq!(last.next_offset().0, header.base_offset, "no gap");
            }
            at += header.total_bytes();
            headers.push(header);
        }
        if let Some(last) = headers.last() {
            assert_eq!(last.next_offset(), outcome.next_offset);
            assert!(last.next_offset() <= outcome.high_watermark);
            assert!(headers[0].base_offset <= offset, "the offset is covered");
            assert!(
                headers[0].next_offset().0 > offset,
                "it starts with the batch that holds the offset"
            );
            assert!(last.next_offset().0 > offset, "progress");
        } else {
            assert_eq!(outcome.next_offset.0, offset);
        }
        Ok((outcome, headers))
    }

    /// Reads everything from `offset` on, `max_bytes` at a time, as a consumer does.
    pub fn consume(&mut self, log: LogId, mut offset: i64, max_bytes: usize) -> Vec<BatchHeader> {
        let mut all: Vec<BatchHeader> = Vec::new();
        loop {
            let (outcome, headers) = self.read(log, offset, max_bytes, true).expect("in range");
            if headers.is_empty() {
                assert_eq!(
                    outcome.next_offset, outcome.high_watermark,
                    "read to the end"
                );
                return all;
            }
            let fresh = |header: &&BatchHeader| header.next_offset().0 > offset;
            all.extend(headers.iter().filter(fresh));
            offset = outcome.next_offset.0;
        }
    }
}

//! The store of one core: every log on it, the buffers they share, the marks ledger, and the
//! dispatch of finished disk requests.
//!
//! Data path of an append: `append` copies the batch into the log's append window; `end_turn` turns
//! what is dirty into one write per log and one barrier per group (`group_commit`); `complete`
//! moves the durable end and tells the host. Everything else (rolling, zeroing ahead, retention,
//! sidecars, retries after a full disk) happens beside that path and never in front of it.
//!
//! The store asks for disk work in two ways: pushed straight into the caller's list, or, from calls
//! that have no list, kept in `background` until the next call that has one.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use highwater_base::disk::{
    DiskCompletion, DiskError, DiskOperation, DiskRequest, DiskToken, FileId,
};
use highwater_base::{BufferPool, ClusterId, CoreId, Epoch, Now, Offset, Timestamp, TopicId};

use crate::cache::Lent;
use crate::checkpoint::CheckpointImage;
use crate::dropped::Dropped;
pub use crate::event::StoreEvent;
use crate::group_commit::GroupCommit;
use crate::locate::KnownPositions;
use crate::log::{DurableEnd, Log, LogConfig, LogId, PartitionSpec};
use crate::lookup::Lookups;
use crate::retention::LogStarts;
use crate::scrub::Scrub;
use crate::segment::SegmentInfo;
use crate::shutdown::Shutdown;
use crate::tail::Tail;
use crate::{Mark, MarksLedger, PartitionKey};

/// First file id of segments; the smaller ones are the marks ledger's.
pub const FIRST_SEGMENT_FILE: u32 = 1 << 16;
/// Groups of writes that may be under way at once on a core, at most.
pub const BARRIERS_IN_FLIGHT_MAX: usize = 16;
/// File ids the store may use end here.
const FILE_ID_LIMIT: u32 = 1 << 31;

/// What makes a completed write durable on this device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Barrier {
    /// Volatile write cache without FUA: one durable write flushes everything completed before it.
    DeviceFlush,
    /// FUA: each write must be durable itself.
    PerWrite,
    /// Nothing to flush: a plain direct write into written blocks is durable when it completes.
    WriteThrough,
}

/// Settings of one core's store.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    pub core: CoreId,
    /// Bound of all buffers: append windows, tail cache, lookup reads.
    pub tail_cache_bytes: usize,
    pub barrier: Barrier,
    /// Progress marks reach the ledger at most this long after the acknowledgement...
    pub ledger_lag_ms: u64,
    /// ...or after this many appended bytes.
    pub ledger_lag_bytes: u64,
    /// Groups of writes under way at once.
    pub barriers_in_flight_max: usize,
    /// How far ahead of the appends blocks are zeroed.
    pub zero_ahead_bytes: u64,
    /// Size of a partition's first segment; each next one is four times as large.
    pub first_segment_bytes: u64,
    /// `producer.id.expiration.ms`
    pub producer_id_expiration_ms: i64,
}

impl Default for StoreConfig {
    fn default() -> StoreConfig {
        StoreConfig {
            core: CoreId(0),
            tail_cache_bytes: 64 << 20,
            barrier: Barrier::DeviceFlush,
            ledger_lag_ms: 10,
            ledger_lag_bytes: 1 << 20,
            barriers_in_flight_max: 2,
            zero_ahead_bytes: 8 << 20,
            first_segment_bytes: 128 << 10,
            producer_id_expiration_ms: 24 * 3600 * 1000,
        }
    }
}

/// A batch that is in the tail cache, not durable yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    pub base_offset: Offset,
    pub next_offset: Offset,
    /// The append time that was stamped, or -1.
    pub log_append_time: Timestamp,
    /// It was in the log before: the offsets are the original ones. Answer once the high-water mark
    /// has reached `next_offset`.
    pub duplicate: bool,
}

/// Why a batch was refused; nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    #[error("sequence {found} is out of order, {expected} is expected")]
    OutOfOrderSequence { expected: i32, found: i32 },
    #[error("producer epoch {found} is fenced by epoch {current}")]
    InvalidProducerEpoch { current: i16, found: i16 },
    #[error("the disk has no room for the next segment")]
    DiskFull,
    #[error("the tail cache is exhausted or the log is busy, try again")]
    Busy,
    #[error("the batch is larger than a segment can hold")]
    TooLarge,
    #[error(
        "part of the partition's log is lost: it takes no new records until that is restored or given \
         up; `highwater topic describe` shows the offsets"
    )]
    Offline,
    #[error("too many idempotent producers have batches under way")]
    TooManyProducers,
}

/// What a file is called, relative to the data directory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FileName {
    pub path: String,
    /// Its name until a rename that lies ahead or is under way is done.
    pub former: Option<String>,
}

impl FileName {
    /// What it is called on disk while no rename is under way.
    pub(crate) fn into_current(self) -> String {
        self.former.unwrap_or(self.path)
    }
}

/// Kinds of the store's own tokens: the top byte. The ledger's are told apart by
/// [`MarksLedger::owns`].
pub(crate) mod token_kind {
    pub const WRITE: u64 = 0x02;
    pub const CREATE_PREPARED: u64 = 0x03;
    pub const ZERO: u64 = 0x04;
    pub const LOAD: u64 = 0x05;
    pub const LOOKUP: u64 = 0x06;
    pub const RENAME: u64 = 0x07;
    /// Sidecars and truncations: only counted.
    pub const BACKGROUND: u64 = 0x08;
    /// The checkpoint of a clean stop.
    pub const CHECKPOINT: u64 = 0x09;
    pub const LOCATE: u64 = 0x0a;
    /// Removals: only counted.
    pub const REMOVE: u64 = 0x0b;
    /// Moves of what no log needs any more: the number of the move.
    pub const MOVE_ASIDE: u64 = 0x0c;
    pub const CHECK: u64 = 0x0d;
}

pub(crate) fn token(kind: u64, id: u32) -> DiskToken {
    DiskToken(kind << 56 | u64::from(id))
}

/// Whether a failed operation may have taken earlier writes with it that the next barrier would
/// acknowledge: the device reports a lost cached write to whoever writes or flushes next, be it for
/// a file that can be done without or for a partition that is gone.
fn may_have_lost_writes(kind: u64, error: DiskError) -> bool {
    /// Out of file descriptors: nothing was touched.
    const DESCRIPTORS: [i32; 2] = [23, 24];
    const EIO: i32 = 5;
    match (kind, error) {
        (token_kind::LOAD | token_kind::LOOKUP | token_kind::LOCATE | token_kind::CHECK, _) => {
            false
        }
        // A tree that is in use or not empty stays where it is, and that is all.
        (token_kind::REMOVE | token_kind::MOVE_ASIDE, error) => error == DiskError::Io(EIO),
        (_, DiskError::Io(errno)) => !DESCRIPTORS.contains(&errno),
        (_, DiskError::Full | DiskError::NotFound | DiskError::Exists | DiskError::Denied(_)) => {
            false
        }
    }
}

/// The logs of one core.
pub struct Store {
    pub(crate) config: StoreConfig,
    pub(crate) cluster_id: ClusterId,
    pub(crate) ledger: MarksLedger,
    pub(crate) pool: BufferPool,
    pub(crate) logs: Vec<Option<Box<Log>>>,
    pub(crate) topics: HashMap<TopicId, Rc<str>>,
    /// Paths of attached files.
    pub(crate) files: HashMap<FileId, FileName>,
    pub(crate) next_file: u32,
    /// One entry per buffer that is no longer an append window, oldest first.
    pub(crate) cache_order: VecDeque<LogId>,
    /// Logs with an append window, in the order in which they may lose it.
    pub(crate) window_clock: VecDeque<LogId>,
    pub(crate) lent: Lent,
    pub(crate) group_commit: GroupCommit,
    pub(crate) lookups: Lookups,
    pub(crate) scrub: Scrub,
    pub(crate) log_starts: LogStarts,
    pub(crate) zero_queue: VecDeque<LogId>,
    pub(crate) zeros_in_flight: usize,
    /// Logs that wait for room on the disk.
    pub(crate) full_logs: VecDeque<LogId>,
    pub(crate) retry_full_at_ns: u64,
    pub(crate) background: Vec<DiskRequest>,
    /// Background requests under way.
    pub(crate) background_in_flight: u32,
    pub(crate) dropped: Dropped,
    pub(crate) housekeeping_at_ns: u64,
    pub(crate) housekeeping_next_log: usize,
    /// Read once, for the recoveries before the first turn; afterwards it is out of date.
    pub(crate) checkpoint: Option<Box<CheckpointImage>>,
    pub(crate) has_served: bool,
    pub(crate) shutdown: Shutdown,
    /// The last ledger flush that ended.
    pub(crate) marked: u64,
    /// A write failed: nothing more is issued.
    pub(crate) failed: bool,
}

impl Store {
    /// An empty store. Partitions come by [`Store::recover`] and [`Store::create`].
    #[must_use]
    pub fn new(config: StoreConfig, cluster_id: ClusterId, ledger: MarksLedger) -> Store {
        assert!(
            (1..=BARRIERS_IN_FLIGHT_MAX).contains(&config.barriers_in_flight_max),
            "barriers_in_flight_max is {}, allowed is 1 to {BARRIERS_IN_FLIGHT_MAX}",
            config.barriers_in_flight_max
        );
        Store {
            pool: BufferPool::new(config.tail_cache_bytes),
            group_commit: GroupCommit::new(config.barriers_in_flight_max),
            config,
            cluster_id,
            ledger,
            logs: Vec::new(),
            topics: HashMap::new(),
            files: HashMap::new(),
            next_file: FIRST_SEGMENT_FILE,
            cache_order: VecDeque::new(),
            window_clock: VecDeque::new(),
            lent: Lent::default(),
            lookups: Lookups::default(),
            scrub: Scrub::default(),
            log_starts: LogStarts::default(),
            zero_queue: VecDeque::new(),
            zeros_in_flight: 0,
            full_logs: VecDeque::new(),
            retry_full_at_ns: 0,
            background: Vec::new(),
            background_in_flight: 0,
            dropped: Dropped::default(),
            housekeeping_at_ns: 0,
            housekeeping_next_log: 0,
            checkpoint: None,
            has_served: false,
            shutdown: Shutdown::Serving,
            marked: 0,
            failed: false,
        }
    }

    /// A new partition at run time: no disk work until its first append.
    pub fn create(&mut self, spec: PartitionSpec, now: Now) -> LogId {
        let key = PartitionKey {
            topic_id: spec.topic_id,
            partition: spec.partition,
        };
        self.ledger.record(Mark::Epoch {
            key,
            epoch: spec.epoch,
            start: Offset::ZERO,
        });
        let mut log = self.empty_log(spec);
        log.epochs = vec![(log.epoch, Offset::ZERO)];
        log.last_append_ms = now.wall_ms;
        self.add_log(log)
    }

    pub(crate) fn empty_log(&mut self, spec: PartitionSpec) -> Log {
        let topic = self
            .topics
            .entry(spec.topic_id)
            .or_insert_with(|| Rc::from(spec.topic.as_str()));
        Log {
            key: PartitionKey {
                topic_id: spec.topic_id,
                partition: spec.partition,
            },
            topic: Rc::clone(topic),
            config: spec.config,
            epoch: spec.epoch,
            log_start: Offset::ZERO,
            durable: DurableEnd::nothing_from(Offset::ZERO),
            end: Offset::ZERO,
            segments: Vec::new(),
            prepared: None,
            next_prepared_number: 0,
            tail: Tail::default(),
            loading: None,
            in_flight: None,
            operations: 0,
            producers: None,
            epochs: Vec::new(),
            holes: Vec::new(),
            appends_behind_holes: false,
            is_dirty: false,
            in_window_clock: false,
            was_used: false,
            in_zero_queue: false,
            disk_full: false,
            size_quartered: 0,
            has_unsettled: false,
            positions: KnownPositions::default(),
            roll_next: false,
            unnamed_segments: 0,
            renaming: false,
            pending_log_start: None,
            log_start_recorded: false,
            last_append_ms: -1,
        }
    }

    pub(crate) fn add_log(&mut self, log: Log) -> LogId {
        if let Some(id) = self.dropped.free_ids.pop() {
            self.logs[id.0 as usize] = Some(Box::new(log));
            return id;
        }
        let id = LogId(u32::try_from(self.logs.len()).expect("fewer than 2^32 logs"));
        self.logs.push(Some(Box::new(log)));
        id
    }

    /// Changes a partition's topic settings.
    pub fn set_config(&mut self, log: LogId, config: LogConfig) {
        self.log_mut(log).config = config;
    }

    /// Producers silent for so long are forgotten, from the next round of retention on.
    pub fn set_producer_id_expiration_ms(&mut self, expiration_ms: i64) {
        self.config.producer_id_expiration_ms = expiration_ms;
    }

    /// Appends from now on are stamped with `epoch` and begin a new segment. Lower or equal epochs
    /// change nothing.
    pub fn begin_epoch(&mut self, log: LogId, epoch: Epoch) {
        let state = self.log_mut(log);
        if epoch <= state.epoch {
            return;
        }
        state.epoch = epoch;
        state.roll_next = true;
        state.epochs.push((epoch, state.end));
        let (key, start) = (state.key, state.end);
        self.ledger.record(Mark::Epoch { key, epoch, start });
    }

    /// The log behind an id. Panics when it was dropped: the host forgot its own decision.
    pub(crate) fn log(&self, log: LogId) -> &Log {
        self.logs[log.0 as usize]
            .as_deref()
            .expect("the log was not dropped")
    }

    pub(crate) fn log_mut(&mut self, log: LogId) -> &mut Log {
        self.logs[log.0 as usize]
            .as_deref_mut()
            .expect("the log was not dropped")
    }

    /// The log behind an id that came back from the disk or a queue: it may be gone.
    pub(crate) fn live_log(&mut self, log: LogId) -> Option<&mut Log> {
        self.logs.get_mut(log.0 as usize)?.as_deref_mut()
    }

    /// First offset that is not durable: what consumers may read ends here.
    #[must_use]
    pub fn high_watermark(&self, log: LogId) -> Offset {
        let state = self.log(log);
        if cfg!(mutant = "S08") {
            state.end
        } else {
            state.durable.offset
        }
    }

    /// First offset that still exists.
    #[must_use]
    pub fn log_start(&self, log: LogId) -> Offset {
        self.log(log).log_start
    }

    /// Offset of the next append.
    #[must_use]
    pub fn log_end(&self, log: LogId) -> Offset {
        self.log(log).end
    }

    /// Epoch that appends are stamped with.
    #[must_use]
    pub fn epoch(&self, log: LogId) -> Epoch {
        self.log(log).epoch
    }

    /// Bytes of batches.
    #[must_use]
    pub fn size_bytes(&self, log: LogId) -> u64 {
        self.log(log).size_bytes()
    }

    /// The segments, oldest first.
    pub fn segments(&self, log: LogId) -> impl Iterator<Item = SegmentInfo> {
        self.log(log).segments.iter().map(|segment| segment.info())
    }

    /// Declared holes, ascending.
    #[must_use]
    pub fn holes(&self, log: LogId) -> &[crate::log::Hole] {
        &self.log(log).holes
    }

    /// The largest epoch not above `epoch` and the offset where it ends (OffsetForLeaderEpoch,
    /// KIP-320). `None` when every known epoch is larger.
    #[must_use]
    pub fn epoch_end(&self, log: LogId, epoch: Epoch) -> Option<(Epoch, Offset)> {
        let state = self.log(log);
        let after = state.epochs.partition_point(|entry| entry.0 <= epoch);
        let found = state.epochs.get(after.checked_sub(1)?)?;
        let end = state.epochs.get(after).map_or(state.end, |next| next.1);
        Some((found.0, end))
    }

    /// What the file behind an id of the store is called.
    #[must_use]
    pub fn file_name(&self, file: FileId) -> Option<&FileName> {
        self.files.get(&file)
    }

    /// Memory of the buffers: append windows, tail cache, lookups.
    #[must_use]
    pub fn buffer_bytes(&self) -> usize {
        self.pool.bytes_allocated()
    }

    /// Memory of one log, buffers aside.
    #[must_use]
    pub fn memory_bytes(&self, log: LogId) -> usize {
        self.log(log).memory_bytes()
    }

    /// Steps with a finished disk request of the store or its ledger.
    pub fn complete(
        &mut self,
        now: Now,
        completion: DiskCompletion,
        disk: &mut Vec<DiskRequest>,
        events: &mut Vec<StoreEvent>,
    ) {
        if self.failed {
            return;
        }
        if MarksLedger::owns(completion.token) {
            match self.ledger.complete(completion) {
                Some(Ok(flush)) => self.ledger_flushed(now, flush, disk, events),
                Some(Err(error)) => self.fail("marks ledger".to_owned(), error, events),
                None => {}
            }
            self.step_shutdown(disk, events);
            return;
        }
        let log = LogId(completion.token.0 as u32);
        let kind = completion.token.0 >> 56;
        if let Err(error) = completion.result
            && may_have_lost_writes(kind, error)
        {
            let path = match kind {
                token_kind::MOVE_ASIDE => self.path_of_move(log.0),
                _ => self.directory_of(log),
            };
            return self.fail(path, error, events);
        }
        match kind {
            token_kind::LOOKUP => {
                self.finish_lookup(log.0, completion.result, disk, events);
                self.step_shutdown(disk, events);
                return;
            }
            token_kind::LOCATE => {
                self.finish_locate(log.0, completion.result, disk, events);
                self.step_shutdown(disk, events);
                return;
            }
            token_kind::CHECK => {
                self.finish_check(log.0, completion.result, disk, events);
                self.step_shutdown(disk, events);
                return;
            }
            token_kind::CHECKPOINT => self.checkpoint_written(completion.result, disk),
            token_kind::MOVE_ASIDE => {
                self.move_done(log.0, completion.result, events);
                self.step_shutdown(disk, events);
                return;
            }
            _ => self.operation_done(log),
        }
        if self.live_log(log).is_some() {
            match kind {
                token_kind::WRITE => self.write_done(now, log, completion.result, disk, events),
                token_kind::CREATE_PREPARED => {
                    self.prepared_done(now, log, completion.result, events)
                }
                token_kind::LOAD => self.load_done(log, completion.result, events),
                token_kind::RENAME => self.rename_done(log, completion.result, events),
                _ => {}
            }
        }
        match kind {
            token_kind::ZERO => self.zero_done(log, completion.result),
            token_kind::BACKGROUND | token_kind::REMOVE => self.background_in_flight -= 1,
            token_kind::WRITE => self.group_write_done(now, completion.token, disk),
            _ => {}
        }
        self.drain_background(disk);
        self.issue_writes(now, disk);
        self.step_shutdown(disk, events);
    }

    pub(crate) fn fail(&mut self, path: String, error: DiskError, events: &mut Vec<StoreEvent>) {
        self.failed = true;
        events.push(StoreEvent::Fatal { path, error });
    }

    pub(crate) fn attach(&mut self, path: String) -> FileId {
        assert!(self.next_file < FILE_ID_LIMIT, "file ids are used up");
        let file = FileId(self.next_file);
        self.next_file += 1;
        self.name_file(file, path, None);
        file
    }

    /// Says what the file behind an id is called; again when a rename lies ahead and when it is done.
    pub(crate) fn name_file(&mut self, file: FileId, path: String, former: Option<String>) {
        let name = FileName {
            path: path.clone(),
            former: former.clone(),
        };
        self.files.insert(file, name);
        self.background.push(DiskRequest {
            token: token(token_kind::BACKGROUND, u32::MAX),
            operation: DiskOperation::Attach { file, path, former },
        });
    }

    pub(crate) fn detach(&mut self, file: FileId) {
        self.files.remove(&file);
        self.background.push(DiskRequest {
            token: token(token_kind::BACKGROUND, u32::MAX),
            operation: DiskOperation::Detach { file },
        });
    }

    /// Background work of a live log.
    pub(crate) fn push_background(&mut self, log: LogId, operation: DiskOperation) {
        if let Some(state) = self.live_log(log) {
            state.operations += 1;
        }
        let kind = match operation {
            DiskOperation::Remove { .. } => token_kind::REMOVE,
            _ => token_kind::BACKGROUND,
        };
        self.background_in_flight += 1;
        self.background.push(DiskRequest {
            token: token(kind, log.0),
            operation,
        });
    }

    /// Removes a file or directory no log needs any more.
    pub(crate) fn remove_path(&mut self, path: String) {
        self.background_in_flight += 1;
        self.background.push(DiskRequest {
            token: token(token_kind::REMOVE, u32::MAX),
            operation: DiskOperation::Remove { path },
        });
    }

    pub(crate) fn drain_background(&mut self, disk: &mut Vec<DiskRequest>) {
        disk.append(&mut self.background);
    }
}

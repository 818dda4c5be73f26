//! One partition's log: its segments, its ends, its epochs and holes, and what is under way for it.
//!
//! Three ends, in this order: `log_start <= durable.offset <= end`. `end` is where the next batch
//! goes, `durable` is what survives power loss and what a reader may see (a single replica's
//! high-water mark). Segments ascend without gaps except at declared holes; only the last one takes
//! appends. The steps of a log live in `append`, `write`, `read`, `roll` and `retention`.
//!
//! An idle partition holds no buffer, no index memory beyond its segments' and no open file.

use std::rc::Rc;

use highwater_base::{AlignedBuffer, Epoch, Offset, PartitionIndex, Timestamp, TopicId};

use crate::PartitionKey;
use crate::locate::KnownPositions;
use crate::producer_state::ProducerTable;
use crate::segment::{FileState, Segment, SegmentFile, partition_directory};
use crate::tail::Tail;

/// A log within one store. It may be another log's some time after this one was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(pub u32);

/// Kafka's topic settings that the store acts on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// `segment.bytes`
    pub segment_bytes: u64,
    /// `segment.ms`
    pub segment_ms: i64,
    /// `retention.ms`, -1 for ever.
    pub retention_ms: i64,
    /// `retention.bytes`, -1 without bound.
    pub retention_bytes: i64,
    /// `index.interval.bytes`
    pub index_interval_bytes: usize,
    /// `verify.on.fetch`: what is read from files is checked each time and sent from memory.
    pub verify_on_fetch: bool,
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig {
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 3600 * 1000,
            retention_ms: 7 * 24 * 3600 * 1000,
            retention_bytes: -1,
            index_interval_bytes: highwater_base::limits::INDEX_INTERVAL_BYTES,
            verify_on_fetch: false,
        }
    }
}

/// Which partition to recover or create.
#[derive(Clone, Debug)]
pub struct PartitionSpec {
    pub topic_id: TopicId,
    pub topic: String,
    pub partition: PartitionIndex,
    /// Leader epoch appends are stamped with; never below the log's last one.
    pub epoch: Epoch,
    pub config: LogConfig,
}

/// A range known to be lost or corrupt: it is declared, never truncated, and not readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Hole {
    /// First offset in it.
    pub from: i64,
    /// First offset behind it.
    pub to: i64,
}

/// How far the log is durable, and where that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DurableEnd {
    pub offset: Offset,
    /// Base offset of the segment the position is in; -1 when there is none.
    pub segment_base: Offset,
    pub position: u64,
}

impl DurableEnd {
    pub fn nothing_from(offset: Offset) -> DurableEnd {
        DurableEnd {
            offset,
            segment_base: Offset(-1),
            position: 0,
        }
    }
}

/// The write (or first `Create`) under way for a log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InFlight {
    pub serial: u64,
    /// Bytes of the buffer it covers, from the front.
    pub written_to: usize,
    pub bytes: usize,
    pub end: DurableEnd,
    /// Durable by itself when it completes.
    pub durable: bool,
    /// The group it belongs to; a `Create` belongs to none.
    pub group: Option<u8>,
}

/// An append window whose first, partly filled block is being read back from disk. When it is full
/// before the block is there, the windows of the tail follow it; nothing of the log is written until
/// it is among them.
#[derive(Debug)]
pub(crate) struct Loading {
    /// Receives the block, and becomes the append window.
    pub window: Rc<AlignedBuffer>,
    /// Batches appended meanwhile, in order; they move behind the block when it is there.
    pub interim: Rc<AlignedBuffer>,
    /// Bytes of the block that belong to the log.
    pub partial_bytes: usize,
    pub file_start: u64,
    pub first_offset: Offset,
    /// Where the last batch in `interim` ends.
    pub end: DurableEnd,
    /// Whether the `Read` was issued.
    pub issued: bool,
}

impl Loading {
    /// Bytes that can still be appended.
    pub fn room(&self) -> usize {
        self.window.capacity() - self.partial_bytes - self.interim.filled()
    }
}

/// One partition.
#[derive(Debug)]
pub(crate) struct Log {
    pub key: PartitionKey,
    pub topic: Rc<str>,
    pub config: LogConfig,
    pub epoch: Epoch,
    pub log_start: Offset,
    pub durable: DurableEnd,
    pub end: Offset,
    pub segments: Vec<Segment>,
    /// The file made ready for the next segment.
    pub prepared: Option<Box<SegmentFile>>,
    pub next_prepared_number: u32,
    pub tail: Tail,
    pub loading: Option<Box<Loading>>,
    pub in_flight: Option<InFlight>,
    /// Disk operations under way for it, of every kind.
    pub operations: u32,
    pub producers: Option<Box<ProducerTable>>,
    /// Ascending; the last one is `epoch` once something was appended in it.
    pub epochs: Vec<(Epoch, Offset)>,
    pub holes: Vec<Hole>,
    /// Whether it takes appends behind them.
    pub appends_behind_holes: bool,
    /// In the store's list of logs with bytes to write.
    pub is_dirty: bool,
    /// In the store's clock of logs with an append window; `was_used` is its second chance.
    pub in_window_clock: bool,
    pub was_used: bool,
    pub in_zero_queue: bool,
    /// The disk had no room for its next segment.
    pub disk_full: bool,
    /// How many times the next segment is quartered, because a larger one found no room.
    pub size_quartered: u8,
    /// A sealed segment's sidecar and final size are still to be settled.
    pub has_unsettled: bool,
    /// Positions of batches that the index does not have and readers go on at.
    pub positions: KnownPositions,
    /// The next append begins a new segment.
    pub roll_next: bool,
    /// Segments whose file still has its `prepared-{n}` name.
    pub unnamed_segments: u32,
    /// A rename of a segment's file is under way.
    pub renaming: bool,
    /// A log start on its way into the ledger.
    pub pending_log_start: Option<Offset>,
    /// In the store's list of log starts to flush.
    pub log_start_recorded: bool,
    /// Changed since it was recovered from a checkpoint or created.
    pub last_append_ms: Timestamp,
}

impl Log {
    pub fn directory(&self) -> String {
        partition_directory(&self.topic, self.key.topic_id, self.key.partition)
    }

    /// Appends are refused while data is missing, unless whoever reads it tells by offsets what is
    /// newer than the damage.
    pub fn is_offline(&self) -> bool {
        !self.holes.is_empty() && !self.appends_behind_holes
    }

    /// Holes below the log start are of nothing that exists.
    pub fn forget_holes_below_start(&mut self) {
        let start = self.log_start.0;
        self.holes.retain(|hole| hole.to > start);
        if let Some(first) = self.holes.first_mut() {
            first.from = first.from.max(start);
        }
    }

    pub fn size_bytes(&self) -> u64 {
        self.segments.iter().map(Segment::data_bytes).sum()
    }

    /// Index of the oldest segment whose file still has its `prepared-{n}` name.
    pub fn first_unnamed(&self) -> Option<usize> {
        if self.unnamed_segments == 0 {
            return None;
        }
        let mut segments = self.segments.iter();
        segments.position(|segment| segment.file.prepared_number.is_some())
    }

    /// The file a `Zero` is under way for; one at a time per log.
    pub fn zeroing_file(&mut self) -> Option<&mut SegmentFile> {
        let segments = self
            .segments
            .iter_mut()
            .rev()
            .map(|segment| &mut segment.file);
        let files = self.prepared.as_deref_mut().into_iter().chain(segments);
        files.into_iter().find(|file| file.zeroing.is_some())
    }

    /// Whether a `Zero` is under way for it.
    pub fn zeroing_in_flight(&mut self) -> bool {
        self.zeroing_file().is_some()
    }

    /// The segment that takes appends, if there is one.
    pub fn active(&self) -> Option<&Segment> {
        self.segments.last().filter(|segment| !segment.sealed)
    }

    /// Index of the segment whose range holds `offset`.
    pub fn segment_of(&self, offset: Offset) -> Option<usize> {
        self.segments
            .partition_point(|segment| segment.base_offset <= offset)
            .checked_sub(1)
    }

    /// The segment with this base offset.
    pub fn segment_at_base(&mut self, base: Offset) -> Option<&mut Segment> {
        let found = self
            .segments
            .binary_search_by_key(&base, |segment| segment.base_offset);
        found.ok().map(|at| &mut self.segments[at])
    }

    /// Epoch of the segment with this base offset.
    pub fn epoch_at(&self, base: Offset) -> Epoch {
        let found = self.segment_of(base);
        found.map_or(self.epoch, |at| self.segments[at].epoch)
    }

    /// The segment that already took appends while its file is still being made ready.
    pub fn segment_being_prepared(&mut self) -> Option<&mut Segment> {
        self.segments.iter_mut().rev().find(|segment| {
            segment.file.state == FileState::Creating && segment.file.prepared_number.is_some()
        })
    }

    /// Removes the newest segment, if it begins at or behind `from`.
    pub fn pop_segment_from(&mut self, from: Offset) -> Option<Segment> {
        let newest = self.segments.last()?;
        match newest.base_offset >= from {
            true => self.segments.pop(),
            false => None,
        }
    }

    /// Whether every appended byte is durable and nothing is being written.
    pub fn is_quiet(&self) -> bool {
        self.in_flight.is_none() && self.loading.is_none() && self.durable.offset == self.end
    }

    /// Whether the append window can be taken away.
    pub fn window_is_evictable(&self) -> bool {
        self.is_quiet()
            && self
                .tail
                .buffers
                .iter()
                .all(|buffer| buffer.is_written() && Rc::strong_count(&buffer.buffer) == 1)
    }

    /// The end of the log as it stands in memory.
    pub fn memory_end(&self) -> DurableEnd {
        match self.segments.last() {
            Some(segment) => DurableEnd {
                offset: self.end,
                segment_base: segment.base_offset,
                position: segment.end_position,
            },
            None => DurableEnd::nothing_from(self.end),
        }
    }

    /// Bytes of memory this log takes, buffers aside.
    pub fn memory_bytes(&self) -> usize {
        let indexes: usize = self
            .segments
            .iter()
            .map(|segment| segment.index.memory_bytes())
            .sum();
        size_of::<Log>()
            + self.segments.capacity() * size_of::<Segment>()
            + indexes
            + self.positions.memory_bytes()
            + self.epochs.capacity() * size_of::<(Epoch, Offset)>()
            + self.tail.buffers.capacity() * size_of::<crate::tail::TailBuffer>()
            + self.holes.capacity() * size_of::<Hole>()
    }
}

//! What cores say to each other. Everything else about a core is its own.

use std::sync::Arc;

use highwater_base::{ErrorCode, Offset, SharedSlice, Timestamp, TopicId};

use highwater_groups::{GroupAnswer, GroupRequest};
use highwater_store::{ExpectedBatch, FileName, Hole};

use crate::connection::Travelling;
use crate::metadata::{Change, ChangeOutcome, MetadataRecord};

/// One message. Tickets are the sender's keys and come back with the answer.
#[derive(Debug)]
pub enum Message {
    /// From core 0: these records are durable; fold them in.
    Metadata {
        records: Arc<Vec<MetadataRecord>>,
        /// When core 0 heard that they are; the same for all cores.
        decided_ms: Timestamp,
    },
    /// To core 0: the last `Metadata` message has been folded in.
    MetadataApplied,
    /// To core 0: change the metadata.
    Change { ticket: u64, change: Change },
    /// From core 0: what came of it.
    ChangeDone { ticket: u64, outcome: ChangeOutcome },
    /// Append these batches to partitions of the receiving core.
    Produce {
        ticket: u64,
        /// When the request reached the core it came to.
        arrived_ns: u64,
        parts: Vec<ProducePart>,
    },
    /// Their results, when all are durable or refused.
    ProduceDone {
        ticket: u64,
        results: Vec<ProduceResult>,
    },
    /// Read from partitions of the receiving core. With fewer than `watch_below` bytes to return,
    /// say `FetchWake` once there is something new.
    FetchRead {
        ticket: u64,
        parts: Vec<FetchPart>,
        bytes_max: usize,
        watch_below: usize,
    },
    /// What was read.
    FetchData {
        ticket: u64,
        results: Vec<FetchResult>,
    },
    /// A watched partition has something new.
    FetchWake { ticket: u64 },
    /// Stop watching.
    FetchUnwatch { ticket: u64 },
    /// A file of the receiving core, if it is one, could not be sent from this position.
    BadRange { path: Arc<str>, position: u64 },
    /// Ask partitions of the receiving core something.
    Query { ticket: u64, parts: Vec<QueryPart> },
    /// Some of the answers, with the index of the question; every question gets one.
    QueryDone {
        ticket: u64,
        results: Vec<(u32, QueryResult)>,
    },
    /// Ask the coordinator of the receiving core.
    Groups { ticket: u64, parts: Vec<GroupPart> },
    /// Some of the answers, with the index of the question; every question gets one.
    GroupsDone {
        ticket: u64,
        results: Vec<(u32, GroupAnswer)>,
    },
    /// The client that asked is gone.
    GroupsForget { ticket: u64 },
    /// These partitions of the sending core could not be recovered.
    Offline(Arc<Vec<(TopicId, u32)>>),
    /// State that travels with a connection.
    Adopt(Travelling),
    /// From core 0: what have you counted?
    CountersAsk,
    /// The answer.
    CountersTell(CoreCounters),
    /// From the operations thread: a question, with the way back.
    Ops(highwater_ops::Asked),
}

/// One partition's batch of a produce request.
#[derive(Debug)]
pub struct ProducePart {
    pub index: u32,
    pub topic_id: TopicId,
    pub partition: i32,
    /// Version of the client's request: what it may contain depends on it.
    pub version: i16,
    pub records: SharedSlice,
}

/// What became of it. Offsets and time are -1 unless it succeeded.
#[derive(Clone, Debug)]
pub struct ProduceResult {
    /// Which part of the request.
    pub index: u32,
    pub partition: i32,
    pub error: ErrorCode,
    pub message: Option<String>,
    pub base_offset: i64,
    pub log_append_time: Timestamp,
    pub log_start: i64,
}

/// One partition of a fetch request.
#[derive(Clone, Debug)]
pub struct FetchPart {
    pub index: u32,
    pub topic_id: TopicId,
    pub partition: i32,
    pub offset: i64,
    pub leader_epoch: i32,
    pub last_fetched_epoch: i32,
    pub bytes_max: usize,
}

/// Record bytes that crossed cores.
#[derive(Debug)]
pub enum ForeignPiece {
    /// Copied out of the owner's tail cache.
    Memory(SharedSlice),
    /// A range of a segment file.
    File {
        name: Arc<FileName>,
        offset: u64,
        len: usize,
        readable_end: u64,
        first: ExpectedBatch,
    },
}

/// What one partition gave.
#[derive(Debug)]
pub struct FetchResult {
    pub index: u32,
    pub error: ErrorCode,
    pub high_watermark: i64,
    pub log_start: i64,
    /// KIP-595: the consumer's log diverges; epoch and end offset of the largest common epoch.
    pub diverging: Option<(i32, i64)>,
    /// The bound on bytes ended the read.
    pub more: bool,
    /// Nothing could be read yet, because the position is being looked up; `FetchWake` follows.
    pub locating: bool,
    pub pieces: Vec<ForeignPiece>,
}

/// What a request wants of one group.
#[derive(Debug)]
pub struct GroupPart {
    pub index: u32,
    pub request: GroupRequest,
}

/// One question of a request.
#[derive(Clone, Debug)]
pub struct QueryPart {
    pub index: u32,
    pub topic_id: TopicId,
    pub partition: i32,
    pub query: Query,
}

/// A question to one partition.
#[derive(Clone, Debug)]
pub enum Query {
    /// ListOffsets: a timestamp or one of the special values -1 to -6.
    ListOffset { timestamp: i64, leader_epoch: i32 },
    /// OffsetForLeaderEpoch.
    EpochEnd { epoch: i32, current_epoch: i32 },
    /// DeleteRecords: -1 means the high-water mark.
    DeleteRecords { offset: i64 },
    /// DeleteRecords of a damaged partition of offsets: what is known of it is all there is.
    AcceptLoss,
    /// DescribeLogDirs: what the log takes on disk and where it begins and ends.
    LogSize,
}

/// Its answer.
#[derive(Clone, Debug)]
pub enum QueryResult {
    Offset {
        offset: i64,
        timestamp: i64,
        leader_epoch: i32,
    },
    EpochEnd {
        epoch: i32,
        end: i64,
    },
    LogStart(Offset),
    LogSize {
        size_bytes: u64,
        segments: usize,
        log_start: Offset,
        high_watermark: Offset,
        /// Ranges of offsets that are lost or damaged.
        holes: Vec<Hole>,
        /// False when its marks were lost.
        vouched: bool,
    },
    /// To `LogSize`: the partition could not be recovered, and why.
    Offline(Arc<str>),
    Error(ErrorCode),
}

/// What a core counts about itself.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct CoreCounters {
    pub core: u16,
    /// Heap allocations made by the core's thread.
    pub allocations: u64,
    /// Requests taken from clients.
    pub requests: u64,
    /// Record bytes sent to or received from other cores on behalf of clients.
    pub forwarded_bytes: u64,
    /// Connections served now.
    pub connections: u64,
    /// Partitions owned.
    pub partitions: u64,
    /// Incremental fetch sessions of the connections served now.
    pub fetch_sessions: u64,
    /// Fetches that got no session because there were `fetch_sessions_max`.
    pub fetch_sessions_refused: u64,
    /// Times a connection was not read because too many of its requests were under way.
    pub pipelines_paused: u64,
    /// Produce requests that waited in their sockets for the disk.
    pub produces_deferred: u64,
    /// Chunks of files that had to be waited for: their pages were not in memory.
    pub cold_reads: u64,
    /// Chunks of files that waited in line, `cold_reads_in_flight_max` being under way.
    pub file_send_waits: u64,
    /// Connections refused because there were `connections_max`.
    pub connections_refused: u64,
    /// Times a connection was not read because `send_queue_bytes_max` was queued on it.
    pub send_queue_full: u64,
    /// Times a connection was not read because `receive_buffers_mb` was taken.
    pub receive_waits: u64,
    /// Connections closed because a request did not arrive within `frame_receive_timeout_ms`.
    pub frames_late: u64,
}

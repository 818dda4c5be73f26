//! Fetch: reading rounds over local and foreign partitions, long polls, sessions.
//!
//! A request becomes one [`PendingFetch`]. A *round* reads every partition: those of this core at
//! once, those of other cores by message. When all have answered and there is enough (`min_bytes`),
//! an error, or no time left, the answer leaves; else the request parks, hangs on its partitions'
//! high-water marks and starts another round when one moves.

mod bounds;
pub mod copies;
mod damage;
pub mod foreign_files;
pub mod round;
pub mod session;
#[cfg(test)]
mod tests;
pub mod waiting;

use highwater_base::{CoreId, ErrorCode, Now};
use highwater_reactor::{ConnectionId, SendPiece};

use highwater_store::LogId;
use session::FetchTarget;

use crate::handlers::Request;

/// How long an answer that is due waits for a position at most.
const POSITION_WAIT_MS: u64 = 1000;

/// Where a pending fetch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchState {
    /// Answers of other cores are outstanding.
    Reading,
    /// Waiting for a high-water mark or the deadline.
    Parked,
}

/// What one partition gave in the current round.
#[derive(Clone, Copy, Debug)]
pub struct PartitionRead {
    pub error: ErrorCode,
    pub high_watermark: i64,
    pub log_start: i64,
    pub diverging: Option<(i32, i64)>,
    /// Nothing could be read yet: the position is being looked up.
    pub locating: bool,
    /// Range of the fetch's `pieces` and the record bytes in it.
    pub pieces_start: usize,
    pub pieces_count: usize,
    pub bytes: usize,
    /// Where the next read goes on.
    pub next_offset: i64,
    /// The bound on bytes ended the read: there are more records than it returned.
    pub more: bool,
}

impl PartitionRead {
    /// A partition that could not be read.
    #[must_use]
    pub fn failed(error: ErrorCode) -> PartitionRead {
        PartitionRead {
            error,
            high_watermark: -1,
            log_start: -1,
            diverging: None,
            locating: false,
            pieces_start: 0,
            pieces_count: 0,
            bytes: 0,
            next_offset: -1,
            more: false,
        }
    }

    /// What the read counts towards a fetch's `bytes_min`: with more records at hand the partition
    /// gives all it may, though whole batches fill its bound `bytes_max` only in part.
    #[must_use]
    pub fn counted_bytes(&self, bytes_max: usize) -> usize {
        match self.more {
            true => self.bytes.max(bytes_max),
            false => self.bytes,
        }
    }

    /// Whether the client has to be told now, whatever else there is.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        self.error != ErrorCode::None || self.diverging.is_some()
    }
}

/// How the answer relates to a fetch session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionAnswer {
    /// All partitions, with this session id (0 for none).
    Full(i32),
    /// Only partitions with something new.
    Incremental(i32),
}

/// A fetch request that has not been answered.
#[derive(Debug)]
pub struct PendingFetch {
    pub connection: ConnectionId,
    pub sequence: u64,
    pub version: i16,
    pub correlation_id: i32,
    pub session: SessionAnswer,
    pub bytes_min: usize,
    pub bytes_max: usize,
    pub deadline_ns: u64,
    pub targets: Vec<FetchTarget>,
    pub reads: Vec<PartitionRead>,
    /// The targets this core owns: their places in `targets` and their logs, of the last round.
    pub local: Vec<(u32, LogId)>,
    pub pieces: Vec<SendPiece>,
    pub state: FetchState,
    pub arrived_ns: u64,
    /// Since when it waits for records, and how long it did before.
    pub parked_ns: Option<u64>,
    pub waited_ns: u64,
    /// How long it waited for a position to be looked up on disk.
    pub located_ns: u64,
    /// All partitions have been looked at once.
    pub has_read: bool,
    /// Other cores whose answers this round still needs.
    pub outstanding: usize,
    /// Something moved while the round was reading.
    pub dirty: bool,
    /// The answer leaves after this round, whatever it finds.
    pub last_round: bool,
    /// Its deadline is on the list; only a fetch that parks needs one.
    pub has_deadline: bool,
    /// The number under which it hangs on partitions of this core, if it does.
    pub watch: u64,
    /// Its answer was due and waited for a position all the same; once is enough.
    pub waited_for_position: bool,
    /// Cores that watch partitions for this fetch.
    pub watching: Vec<CoreId>,
}

impl PendingFetch {
    /// An empty entry.
    #[must_use]
    pub fn new(request: &Request) -> PendingFetch {
        PendingFetch {
            connection: request.connection,
            sequence: request.sequence,
            version: request.version,
            correlation_id: request.correlation_id,
            session: SessionAnswer::Full(0),
            bytes_min: 0,
            bytes_max: 0,
            deadline_ns: 0,
            targets: Vec::new(),
            reads: Vec::new(),
            local: Vec::new(),
            pieces: Vec::new(),
            state: FetchState::Reading,
            arrived_ns: 0,
            parked_ns: None,
            waited_ns: 0,
            located_ns: 0,
            has_read: false,
            outstanding: 0,
            dirty: false,
            last_round: false,
            has_deadline: false,
            watch: waiting::NO_WATCH,
            waited_for_position: false,
            watching: Vec::new(),
        }
    }

    /// Whether there is nothing to answer yet because a position is being looked up. A disk read
    /// takes less time than a client that has to ask again, so that an answer that is due waits for
    /// it as well.
    pub fn waits_for_position(&mut self, now: Now) -> bool {
        let carries = |read: &PartitionRead| {
            read.bytes > 0 || read.error != ErrorCode::None || read.diverging.is_some()
        };
        if self.reads.iter().any(carries) || !self.reads.iter().any(|read| read.locating) {
            return false;
        }
        if self.last_round {
            self.deadline_ns = now.plus_ms(POSITION_WAIT_MS);
            self.has_deadline = false;
            return !std::mem::replace(&mut self.waited_for_position, true);
        }
        true
    }
}

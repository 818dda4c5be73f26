//! What is asked of a core and what it answers: plain data, copied out of the core's state.
//!
//! Every answer is bounded by its question, so that no question holds a core for long: lists come in
//! pages, and between two pages the core does its work.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::oneshot;

/// Upper ends of the buckets of every time, in nanoseconds: 10 microseconds to 30 seconds.
pub const LADDER_NS: [u64; 20] = [
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
];

/// Times of one kind, counted since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Distribution {
    /// How many fell into each step of [`LADDER_NS`], not cumulative; slower ones are only in
    /// `count`.
    pub buckets: [u64; LADDER_NS.len()],
    pub count: u64,
    pub sum_ns: u64,
}

impl Distribution {
    /// Adds `count` times of `value_ns`.
    pub fn add(&mut self, value_ns: u64, count: u64) {
        let at = LADDER_NS.partition_point(|end| *end < value_ns);
        if let Some(bucket) = self.buckets.get_mut(at) {
            *bucket += count;
        }
        self.count += count;
    }
}

/// A question to one core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Its own figures.
    Core,
    /// Its share of the topics in name order from `from` on: at most `topics_max`, and no further
    /// topic once `partitions_max` of its partitions were looked at.
    Topics {
        from: String,
        topics_max: usize,
        partitions_max: usize,
    },
    /// Its partitions of one topic, at most `partitions_max` from number `from` on.
    Partitions {
        topic: String,
        from: u32,
        partitions_max: usize,
    },
    /// The first `connections_max` of its connections.
    Connections { connections_max: usize },
    /// The groups it coordinates, behind `after`: at most `groups_max`, and no further group once
    /// `offsets_max` committed offsets were told.
    Groups {
        after: Option<GroupPlace>,
        groups_max: usize,
        offsets_max: usize,
        detail: GroupDetail,
    },
    /// One group, if it coordinates it.
    Group { group: String },
    /// What is wrong with its partitions, topics in name order from `from` on: at most `told_max`
    /// partitions by name, and no further topic once `partitions_max` were looked at.
    Damage {
        from: String,
        partitions_max: usize,
        told_max: usize,
    },
    /// The high-water marks of those of these partitions that it owns.
    Marks { partitions: Arc<Vec<(String, u32)>> },
}

/// What is told of groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupDetail {
    /// How many are in each state.
    Counts,
    /// Each group with its committed offsets as well.
    Offsets,
    /// Its members, too.
    Members,
}

/// A group in the order in which a core goes through its groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupPlace {
    pub partition: u32,
    pub group: String,
}

/// Its answer.
#[derive(Clone, Debug)]
pub enum Answer {
    Core(Box<CoreFigures>),
    Topics {
        topics: Vec<TopicFigures>,
        /// Where the next page begins.
        next: Option<String>,
    },
    Partitions {
        partitions: Vec<PartitionFigures>,
        /// Where the next page begins.
        next: Option<u32>,
    },
    Connections(Vec<ConnectionFigures>),
    Damage {
        damage: DamageFigures,
        /// Where the next page begins.
        next: Option<String>,
    },
    Groups(GroupsPage),
    Group(Option<GroupFigures>),
    /// In the order of the question; `None` where another core owns the partition or nobody does.
    Marks(Vec<Option<i64>>),
}

/// A question on its way, with the way back.
#[derive(Debug)]
pub struct Asked {
    pub question: Question,
    reply: oneshot::Sender<Answer>,
}

impl Asked {
    /// A question and where its answer will be.
    #[must_use]
    pub fn new(question: Question) -> (Asked, oneshot::Receiver<Answer>) {
        let (reply, answer) = oneshot::channel();
        (Asked { question, reply }, answer)
    }

    /// Answers; whoever asked may have given up.
    pub fn answer(self, answer: Answer) {
        let _ = self.reply.send(answer);
    }
}

/// Requests of one API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ApiRequests {
    pub api: String,
    pub requests: u64,
}

/// What a client says it is (KIP-511).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ClientSoftware {
    pub name: String,
    pub version: String,
}

/// Connections of one client software.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SoftwareConnections {
    pub software: ClientSoftware,
    pub connections: u64,
}

/// One of the bounds of the process or of a core.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BoundFigure {
    pub name: &'static str,
    pub limit: u64,
    /// `None` where counting would cost more than it tells.
    pub used: Option<u64>,
    /// How often it was come to; `None` where that is not counted.
    pub met: Option<u64>,
    pub scope: BoundScope,
}

/// What a bound holds for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BoundScope {
    /// Each core for itself.
    Core,
    /// The process; every core tells the same.
    Process,
}

/// The times a core measures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Times {
    pub produce: Distribution,
    pub produce_queue: Distribution,
    pub produce_disk: Distribution,
    pub produce_reply: Distribution,
    pub fetch: Distribution,
    pub fetch_queue: Distribution,
    pub fetch_disk: Distribution,
    pub fetch_reply: Distribution,
    pub fetch_wait: Distribution,
    pub barrier: Distribution,
    pub turn: Distribution,
}

/// One core.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CoreFigures {
    pub core: u16,
    pub stopping: bool,
    pub requests: Vec<ApiRequests>,
    pub connections: u64,
    pub clients: Vec<SoftwareConnections>,
    pub requests_in_flight: u64,
    pub times: Times,
    pub mail_waiting: u64,
    pub deferred_connections: u64,
    pub deferrals: u64,
    pub unacknowledged_bytes: u64,
    pub pending_produces: u64,
    pub pending_fetches: u64,
    pub parked_fetches: u64,
    pub send_queue_bytes: u64,
    pub forwarded_bytes: u64,
    pub tail_cache_bytes: u64,
    pub open_files: u64,
    pub fetch_sessions: u64,
    pub allocations: u64,
    pub partitions: u64,
    pub barriers_in_flight: u64,
    pub topics_of_node: u64,
    pub partitions_of_node: u64,
    pub bounds: Vec<BoundFigure>,
    pub records_in: u64,
    pub bytes_in: u64,
    pub records_out: u64,
    pub bytes_out: u64,
    pub cold_reads: u64,
    pub scrub: ScrubFigures,
    pub groups: CoordinatorFigures,
}

/// What the scrubber of one core has done since the process began, and where it is.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ScrubFigures {
    pub bytes: u64,
    pub holes: u64,
    pub passes: u64,
    /// Logs of the pass under way, each counted for its sealed segments and for its last one.
    pub logs: u64,
    pub logs_done: u64,
    /// Time of day; 0 before the first pass has ended.
    pub last_pass_began_seconds: u64,
}

/// The groups of one core together.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CoordinatorFigures {
    pub rebalances: u64,
    pub joins: u64,
    pub member_expirations: u64,
    pub commits: u64,
    pub offsets_committed: u64,
    pub offsets_expired: u64,
    pub records_skipped: u64,
    pub snapshots: u64,
    pub writes_failed: u64,
    pub pending_writes: u64,
    pub log_bytes: u64,
    /// Requests about groups that wait for an answer: joins, syncs, commits that are not durable.
    pub requests_waiting: u64,
    /// Partitions whose groups cannot be served yet because their offsets are being read.
    pub partitions_loading: u64,
    /// Partitions of offsets of which a part is lost, and nobody has decided about it.
    pub partitions_damaged: u64,
    /// Partitions of offsets that could not be recovered.
    pub partitions_unavailable: u64,
    /// Known offsets that may be older than what was committed last: clients are not told them.
    pub offsets_uncertain: u64,
}

/// A core's share of a topic, or all shares together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TopicFigures {
    pub name: String,
    pub partitions: u64,
    pub segments: u64,
    pub log_bytes: u64,
    pub records_in: u64,
    pub bytes_in: u64,
    pub records_out: u64,
    pub bytes_out: u64,
}

impl TopicFigures {
    /// Adds another core's share, or another topic's figures.
    pub fn add(&mut self, other: &TopicFigures) {
        self.partitions += other.partitions;
        self.segments += other.segments;
        self.log_bytes += other.log_bytes;
        self.records_in += other.records_in;
        self.bytes_in += other.bytes_in;
        self.records_out += other.records_out;
        self.bytes_out += other.bytes_out;
    }
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartitionFigures {
    pub partition: u32,
    pub core: u16,
    pub log_start: i64,
    pub high_watermark: i64,
    pub log_end: i64,
    pub log_bytes: u64,
    pub segments: u64,
    pub leader_epoch: i32,
    /// Ranges of offsets whose records are damaged on disk.
    pub holes: Vec<(i64, i64)>,
    /// Why the partition cannot be served at all.
    pub offline: Option<String>,
    /// False when the marks that say how far it was durable are lost.
    pub vouched: bool,
}

/// A partition with something wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DamagedPartition {
    pub topic: String,
    pub partition: u32,
    pub core: u16,
    /// Ranges of offsets that are lost or damaged, the second offset not included.
    pub holes: Vec<(i64, i64)>,
    /// Why it cannot be served at all.
    pub offline: Option<String>,
}

/// What is wrong with partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DamageFigures {
    pub offline: u64,
    pub with_holes: u64,
    pub hole_offsets: u64,
    /// Partitions whose marks are lost: how far they were durable is not known.
    pub unvouched: u64,
    /// A bounded number of those that are offline or have holes.
    pub partitions: Vec<DamagedPartition>,
}

impl DamageFigures {
    /// Whether anything is wrong.
    #[must_use]
    pub fn any(&self) -> bool {
        self.offline + self.with_holes + self.unvouched > 0
    }

    /// Adds what another core, or another page, tells.
    pub fn add(&mut self, other: DamageFigures, told_max: usize) {
        self.offline += other.offline;
        self.with_holes += other.with_holes;
        self.hole_offsets += other.hole_offsets;
        self.unvouched += other.unvouched;
        let room = told_max.saturating_sub(self.partitions.len());
        self.partitions
            .extend(other.partitions.into_iter().take(room));
    }
}

/// What lies in quarantine for one reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct QuarantineFigures {
    pub reason: &'static str,
    pub topics: u64,
    pub bytes: u64,
}

/// One client connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConnectionFigures {
    pub core: u16,
    pub peer: String,
    pub listener: String,
    pub software: Option<ClientSoftware>,
    pub requests_in_flight: u64,
    pub pending_fetches: u64,
    pub session_partitions: u64,
    pub send_queue_bytes: u64,
}

/// Some of the groups of one core.
#[derive(Clone, Debug, Default)]
pub struct GroupsPage {
    /// Empty when only counts were asked for.
    pub groups: Vec<GroupFigures>,
    /// Groups of this page by state.
    pub states: BTreeMap<&'static str, u64>,
    /// The last one, if there may be more.
    pub next: Option<GroupPlace>,
}

/// One consumer group. The lag is worked out by whoever asked, from the offsets here and the
/// high-water marks of the cores that own the partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GroupFigures {
    pub group: String,
    pub core: u16,
    /// The state by Kafka's name: `Empty`, `PreparingRebalance`, `CompletingRebalance`, `Stable`.
    pub state: String,
    pub protocol_type: String,
    pub generation: i32,
    /// How many there are; at most [`MEMBERS_TOLD_MAX`] of them are in the list.
    pub member_count: u64,
    pub members: Vec<MemberFigures>,
    /// How many there are; at most [`OFFSETS_TOLD_MAX`] of them are in the list.
    pub committed_count: u64,
    pub committed: Vec<CommittedOffset>,
}

/// Members that are told of one group.
pub const MEMBERS_TOLD_MAX: usize = 1000;
/// Committed offsets that are told of one group.
pub const OFFSETS_TOLD_MAX: usize = 10_000;

/// One member of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemberFigures {
    pub member: String,
    pub instance: Option<String>,
    pub client_id: String,
    pub client_host: String,
}

/// An offset a group has committed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CommittedOffset {
    pub topic: String,
    pub partition: u32,
    pub offset: i64,
    /// High-water mark minus offset; `None` where the partition is gone.
    pub lag: Option<i64>,
    /// A later commit may be lost: clients are not told this one.
    pub is_uncertain: bool,
}

/// What the operating system says about the process.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct ProcessFigures {
    pub resident_bytes: u64,
    pub open_descriptors: u64,
    pub descriptors_max: u64,
    pub cpu_seconds: f64,
    pub threads: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_fall_into_the_step_they_do_not_exceed() {
        let mut times = Distribution::default();
        times.add(0, 1);
        times.add(10_000, 1);
        times.add(10_001, 2);
        times.add(30_000_000_000, 1);
        times.add(30_000_000_001, 5);
        assert_eq!((times.buckets[0], times.buckets[1]), (2, 2));
        assert_eq!(times.buckets[LADDER_NS.len() - 1], 1);
        assert_eq!(times.count, 10);
    }
}

//! The bounds in force on this core: how much of each is used, and how often it was come to.

use highwater_base::limits::{
    CONNECTION_ANSWER_BYTES_MAX, FETCH_SESSION_PARTITIONS_MAX, FOREIGN_COPY_BYTES_MAX,
    PRODUCERS_PER_PARTITION_MAX,
};
use highwater_ops::figures::{BoundFigure, BoundScope};
use highwater_reactor::{CoreGauges, thread_counters};

use crate::connection::Connection;
use crate::handlers::CHANGE_ENTRIES_MAX;
use crate::shard::Shard;

/// A bound of the process, which every core tells alike.
fn process(name: &'static str, limit: usize, used: Option<usize>) -> BoundFigure {
    BoundFigure {
        name,
        limit: limit as u64,
        used: used.map(|used| used as u64),
        met: None,
        scope: BoundScope::Process,
    }
}

/// A bound of this core.
fn core(name: &'static str, limit: usize, used: usize) -> BoundFigure {
    BoundFigure {
        scope: BoundScope::Core,
        ..process(name, limit, Some(used))
    }
}

fn met(bound: BoundFigure, times: u64) -> BoundFigure {
    BoundFigure {
        met: Some(times),
        ..bound
    }
}

impl Shard {
    /// All of them.
    pub(super) fn bounds(&self, gauges: &CoreGauges) -> Vec<BoundFigure> {
        let mut bounds = self.process_bounds(gauges);
        bounds.extend(self.connection_bounds(gauges));
        bounds.extend(self.memory_bounds(gauges));
        bounds.extend(self.group_bounds());
        bounds
    }

    fn process_bounds(&self, gauges: &CoreGauges) -> Vec<BoundFigure> {
        let config = &self.node.config;
        let (topics, partitions) = (self.image.topic_count(), self.image.partition_count());
        let connections = process(
            "connections",
            gauges.process_connections_max,
            Some(gauges.process_connections),
        );
        let session_partitions = FETCH_SESSION_PARTITIONS_MAX;
        vec![
            met(connections, thread_counters().connections_refused),
            met(
                process("frame_receive_ms", config.frame_receive_timeout_ms, None),
                thread_counters().frames_late,
            ),
            process("topics", config.topics_max, Some(topics)),
            process("partitions", config.partitions_max, Some(partitions)),
            process("frame_bytes", gauges.frame_bytes_max, None),
            process("change_entries", CHANGE_ENTRIES_MAX, None),
            process("producers_per_partition", PRODUCERS_PER_PARTITION_MAX, None),
            process("fetch_session_partitions", session_partitions, None),
            process("mail_in_a_row", gauges.mail_in_a_row_max, None),
            process("outside_messages", gauges.outside_messages_max, None),
            process("group_members", config.group_members_max, None),
        ]
    }

    fn connection_bounds(&self, gauges: &CoreGauges) -> Vec<BoundFigure> {
        let config = &self.node.config;
        let reactor = thread_counters();
        let most = |count: fn(&Connection) -> usize| {
            let counts = self.connections.values().map(count);
            counts.max().unwrap_or(0)
        };
        let queues = gauges.send_queues.iter().map(|(_, bytes)| *bytes);
        let requests = core(
            "connection_requests",
            config.connection_requests_max,
            most(Connection::requests_in_flight),
        );
        let send_queue = core(
            "send_queue_bytes",
            gauges.send_queue_bytes_max,
            queues.max().unwrap_or(0),
        );
        let sessions = core(
            "fetch_sessions",
            config.fetch_sessions_max.div_ceil(self.cores.max(1)),
            self.counters.fetch_sessions as usize,
        );
        let cold_reads = core("cold_reads", gauges.file_sends_max, gauges.file_sends);
        vec![
            met(requests, self.counters.pipelines_paused),
            core(
                "connection_answer_bytes",
                CONNECTION_ANSWER_BYTES_MAX,
                most(Connection::answer_bytes),
            ),
            met(send_queue, reactor.send_queue_full),
            met(sessions, self.counters.fetch_sessions_refused),
            met(cold_reads, reactor.file_send_waits),
            core("open_files", gauges.open_files_max, gauges.open_files),
        ]
    }

    fn memory_bounds(&self, gauges: &CoreGauges) -> Vec<BoundFigure> {
        let config = &self.node.config;
        let (lent, lent_max) = self.store.lent_bytes();
        let unacknowledged = core(
            "unacknowledged_bytes",
            self.unacknowledged_bytes_max,
            self.unacknowledged_bytes,
        );
        let receive = core(
            "receive_buffer_bytes",
            gauges.receive_bytes_max,
            gauges.receive_bytes,
        );
        vec![
            met(unacknowledged, self.meters.deferrals),
            met(receive, thread_counters().receive_waits),
            core(
                "tail_cache_bytes",
                config.tail_cache_mb << 20,
                self.store.buffer_bytes(),
            ),
            core("lent_bytes", lent_max, lent),
            core(
                "foreign_copy_bytes",
                FOREIGN_COPY_BYTES_MAX,
                self.foreign_copies.bytes(),
            ),
            core(
                "barriers_in_flight",
                config.barriers_in_flight_max,
                self.store.groups_in_flight(),
            ),
        ]
    }
}

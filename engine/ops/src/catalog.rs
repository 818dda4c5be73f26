//! Every metric there is: name, type, help. `METRICS.md` says what to do about each; a test keeps the
//! two equal. Names are a promise: one that is exported keeps its meaning.

/// What a metric is to Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// One metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub help: &'static str,
}

macro_rules! metrics {
    ($($constant:ident $kind:ident $name:literal $help:literal)*) => {
        $(pub const $constant: Metric = Metric { name: $name, kind: Kind::$kind, help: $help };)*
        /// All of them, in the order in which they are exported.
        pub const ALL: &[Metric] = &[$($constant),*];
    };
}

metrics! {
    INFO Gauge "highwater_info" "Always 1; version, node id and cluster id are labels."
    READY Gauge "highwater_ready" "1 when the node serves."
    CORES Gauge "highwater_cores" "Shards of the node, one thread each."
    TOPICS Gauge "highwater_topics" "Topics of the node."
    PARTITIONS Gauge "highwater_partitions" "Partitions of all topics."
    OFFLINE Gauge "highwater_partitions_offline"
        "Partitions that could not be recovered and are not served."
    WITH_HOLES Gauge "highwater_partitions_with_holes"
        "Partitions with records that are lost or damaged on disk."
    HOLE_OFFSETS Gauge "highwater_hole_offsets" "Offsets whose records are lost or damaged on disk."
    UNVOUCHED Gauge "highwater_partitions_unvouched"
        "Partitions whose marks were lost: how far they were durable is not known."
    QUARANTINE_TOPICS Gauge "highwater_quarantine_topics" "Topics whose data is in quarantine."
    QUARANTINE_BYTES Gauge "highwater_quarantine_bytes" "Bytes of data in quarantine."
    RESIDENT Gauge "highwater_process_resident_bytes" "Memory of the process that is resident."
    DESCRIPTORS Gauge "highwater_process_open_descriptors" "File descriptors that are open."
    DESCRIPTORS_MAX Gauge "highwater_process_descriptors_max" "File descriptors the process may open."
    CPU Counter "highwater_process_cpu_seconds_total" "Processor time of all threads."
    THREADS Gauge "highwater_process_threads" "Threads of the process."
    START Gauge "highwater_process_start_time_seconds" "When the process started, as Unix time."
    BOUND_LIMIT Gauge "highwater_bound_limit" "A bound that is in force."
    BOUND_USED Gauge "highwater_bound_used" "How much of a bound is used now."
    BOUND_MET Counter "highwater_bound_met_total"
        "How often a bound was come to: what happened then waited or was refused."
    BUDGET Gauge "highwater_memory_budget_bytes" "What each part of the node's memory is bounded by."
    REQUESTS Counter "highwater_requests_total" "Requests taken from clients, by API."
    CONNECTIONS Gauge "highwater_connections" "Client connections a core serves."
    CLIENTS Gauge "highwater_client_connections" "Connections by what the client says it is."
    IN_FLIGHT Gauge "highwater_requests_in_flight" "Requests taken and not answered yet."
    PRODUCE Histogram "highwater_produce_seconds" "Produce: from arrival to the answer being ready."
    PRODUCE_QUEUE Histogram "highwater_produce_queue_seconds"
        "Produce: from arrival of a batch to its append."
    PRODUCE_DISK Histogram "highwater_produce_disk_seconds"
        "Produce: from the append of a batch to its being durable."
    PRODUCE_REPLY Histogram "highwater_produce_reply_seconds"
        "Produce: from the answer being ready to all of it being with the kernel."
    FETCH Histogram "highwater_fetch_seconds"
        "Fetch: from arrival to the answer being ready, without the time it waited for records."
    FETCH_QUEUE Histogram "highwater_fetch_queue_seconds"
        "Fetch: from arrival to all partitions having been looked at once."
    FETCH_DISK Histogram "highwater_fetch_disk_seconds"
        "Fetch: how long those waited whose position had to be looked up on disk."
    FETCH_REPLY Histogram "highwater_fetch_reply_seconds"
        "Fetch: from the answer being ready to all of it being with the kernel, files included."
    FETCH_WAIT Histogram "highwater_fetch_wait_seconds"
        "Fetch: how long those waited that had too little to return."
    BARRIER Histogram "highwater_barrier_seconds"
        "Disk: from a group's writes being issued to all of them being durable."
    TURN Histogram "highwater_turn_seconds" "From a turn's first input to its end."
    MAIL Gauge "highwater_mail_waiting" "Messages of other cores that wait to be taken."
    DEFERRED Gauge "highwater_deferred_connections"
        "Connections whose produce request waits for the disk to catch up."
    DEFERRALS Counter "highwater_deferrals_total"
        "How often a produce request had to wait for the disk to catch up."
    UNACKNOWLEDGED Gauge "highwater_unacknowledged_bytes" "Bytes appended that are not durable yet."
    PENDING_PRODUCES Gauge "highwater_pending_produces" "Produce requests that wait for a result."
    PENDING_FETCHES Gauge "highwater_pending_fetches" "Fetch requests that are not answered."
    PARKED_FETCHES Gauge "highwater_parked_fetches"
        "Fetch requests that wait for records, of those pending."
    SEND_QUEUE Gauge "highwater_send_queue_bytes" "Answers that sockets have not taken yet."
    FORWARDED Counter "highwater_forwarded_bytes_total"
        "Record bytes sent to or taken from other cores on behalf of clients."
    TAIL_CACHE Gauge "highwater_tail_cache_bytes" "Memory of append windows and recent records."
    OPEN_FILES Gauge "highwater_open_files" "Data files a core has open."
    SESSIONS Gauge "highwater_fetch_sessions" "Incremental fetch sessions."
    ALLOCATIONS Counter "highwater_allocations_total" "Heap allocations of a core's thread."
    CORE_PARTITIONS Gauge "highwater_core_partitions" "Partitions a core owns."
    BARRIERS Gauge "highwater_barriers_in_flight" "Groups of writes under way."
    RECORDS_IN Counter "highwater_records_in_total" "Records appended on a core."
    BYTES_IN Counter "highwater_bytes_in_total" "Bytes of batches appended on a core."
    RECORDS_OUT Counter "highwater_records_out_total"
        "Offsets that fetches moved on by, on the core that owns the partition."
    BYTES_OUT Counter "highwater_bytes_out_total"
        "Bytes of batches sent to consumers, from the core that owns the partition."
    COLD_READS Counter "highwater_cold_reads_total"
        "Chunks of files for consumers that had to be read from the disk first."
    SCRUB_BYTES Counter "highwater_scrub_bytes_total"
        "Bytes of batches that the scrubber has read and checked."
    SCRUB_HOLES Counter "highwater_scrub_holes_total"
        "Ranges of damaged records that the scrubber has found."
    SCRUB_PASSES Counter "highwater_scrub_passes_total"
        "Times that the scrubber has come to the end of everything."
    SCRUB_LOGS Gauge "highwater_scrub_logs"
        "Logs of the pass under way, twice: for sealed segments, and for the last ones."
    SCRUB_LOGS_DONE Gauge "highwater_scrub_logs_done" "Those of them that are done."
    SCRUB_LAST_PASS Gauge "highwater_scrub_last_pass_began_seconds"
        "When the last pass that ended began, in seconds since 1970; 0 before that."
    TOPIC_RECORDS_IN Counter "highwater_topic_records_in_total" "Records appended."
    TOPIC_BYTES_IN Counter "highwater_topic_bytes_in_total" "Bytes of batches appended."
    TOPIC_RECORDS_OUT Counter "highwater_topic_records_out_total"
        "Offsets that fetches moved on by."
    TOPIC_BYTES_OUT Counter "highwater_topic_bytes_out_total" "Bytes of batches sent to consumers."
    TOPIC_LOG Gauge "highwater_topic_log_bytes" "Bytes of batches in the logs."
    TOPIC_PARTITIONS Gauge "highwater_topic_partitions" "Partitions of the topic."
    TOPIC_SEGMENTS Gauge "highwater_topic_segments" "Segments of the topic's logs."
    TOPICS_AGGREGATED Gauge "highwater_topics_aggregated"
        "Topics beyond metrics_topics_max, told together under an empty name."
    GROUPS Gauge "highwater_groups" "Consumer groups by state."
    GROUP_REBALANCES Counter "highwater_group_rebalances_total"
        "Generations of groups whose assignment became durable."
    GROUP_JOINS Counter "highwater_group_joins_total" "JoinGroup requests."
    GROUP_EXPIRATIONS Counter "highwater_group_member_expirations_total"
        "Members removed because a timeout of theirs passed."
    GROUP_COMMITS Counter "highwater_group_commits_total" "OffsetCommit requests."
    GROUP_OFFSETS_COMMITTED Counter "highwater_group_offsets_committed_total"
        "Partitions whose offset was committed durably."
    GROUP_OFFSETS_EXPIRED Counter "highwater_group_offsets_expired_total"
        "Offsets removed because their retention had passed."
    GROUP_RECORDS_SKIPPED Counter "highwater_group_records_skipped_total"
        "Records of other protocols that were skipped while loading."
    GROUP_SNAPSHOTS Counter "highwater_group_snapshots_total"
        "Times the live records of a partition were written again."
    GROUP_WRITES_FAILED Counter "highwater_group_writes_failed_total" "Writes that were given up."
    GROUP_PENDING_WRITES Gauge "highwater_group_pending_writes" "Writes that are not durable yet."
    GROUP_WAITING Gauge "highwater_group_requests_waiting"
        "Requests about groups that wait for an answer."
    GROUP_LOADING Gauge "highwater_group_partitions_loading"
        "Partitions whose groups are not served yet because their offsets are being read."
    GROUP_DAMAGED Gauge "highwater_group_partitions_damaged"
        "Partitions of offsets of which a part is lost."
    GROUP_UNAVAILABLE Gauge "highwater_group_partitions_unavailable"
        "Partitions of offsets that could not be recovered: their groups have no coordinator."
    GROUP_UNCERTAIN Gauge "highwater_group_offsets_uncertain"
        "Known offsets that are not told, because a later commit may be lost."
    GROUP_LOG Gauge "highwater_group_log_bytes" "Bytes in the logs of offsets."
    GROUP_MEMBERS Gauge "highwater_group_members" "Members of a group."
    GROUP_GENERATION Gauge "highwater_group_generation" "The generation of a group."
    GROUP_COMMITTED Gauge "highwater_group_committed_offset" "The offset a group has committed."
    GROUP_LAG Gauge "highwater_group_lag_records"
        "Records between a group's committed offset and the high-water mark."
    GROUP_SERIES_LEFT_OUT Gauge "highwater_group_series_left_out"
        "Groups and committed offsets that are not told because there are too many."
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const DOCUMENT: &str = include_str!("../METRICS.md");

    #[test]
    fn every_metric_is_documented_and_nothing_else() {
        let documented: BTreeSet<&str> = DOCUMENT
            .lines()
            .filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`'))
            .collect();
        let exported: BTreeSet<&str> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(exported.len(), ALL.len(), "a name is used twice");
        assert_eq!(documented, exported);
    }

    #[test]
    fn names_follow_the_conventions() {
        for metric in ALL {
            assert!(metric.name.starts_with("highwater_"), "{}", metric.name);
            assert_eq!(
                metric.name.ends_with("_total"),
                metric.kind == Kind::Counter,
                "{}",
                metric.name
            );
            if metric.kind == Kind::Histogram {
                assert!(metric.name.ends_with("_seconds"), "{}", metric.name);
            }
            assert!(metric.help.ends_with('.'), "{}", metric.name);
        }
    }
}

//! From the answers of all cores to an exposition. Families come in the order of the catalog.

use crate::catalog::{self as metric, Metric};
use crate::collect::Topics;
use crate::figures::{
    BoundFigure, BoundScope, ClientSoftware, CoordinatorFigures, CoreFigures, DamageFigures,
    Distribution, GroupFigures, ProcessFigures, QuarantineFigures, Times, TopicFigures,
};
use crate::group_walk::Groups;
use crate::node::NodeFacts;
use crate::text::Exposition;
use std::collections::BTreeMap;

/// Client software told by name; connections of others are told together.
const CLIENTS_MAX: usize = 64;
/// Groups of each core told by name.
pub const GROUPS_MAX: usize = 1000;
/// Committed offsets told, each with its lag.
pub const LAGS_MAX: usize = 10_000;

/// Kafka's names of what a group can be in.
const GROUP_STATES: [&str; 4] = [
    "Empty",
    "PreparingRebalance",
    "CompletingRebalance",
    "Stable",
];

/// Everything that is exported.
#[derive(Debug)]
pub struct Snapshot<'a> {
    pub node: &'a NodeFacts,
    pub is_ready: bool,
    pub process: ProcessFigures,
    pub cores: &'a [CoreFigures],
    pub topics: &'a Topics,
    pub groups: &'a Groups,
    /// By core.
    pub damage: &'a [DamageFigures],
    pub quarantine: &'a [QuarantineFigures],
}

/// The exposition.
#[must_use]
pub fn expose(snapshot: &Snapshot<'_>) -> String {
    let mut text = Exposition::default();
    expose_node(snapshot, &mut text);
    expose_damage(snapshot, &mut text);
    expose_process(snapshot, &mut text);
    expose_bounds(snapshot.cores, &mut text);
    text.family(metric::BUDGET);
    for pool in &snapshot.node.memory_budget {
        text.sample(&[("pool", pool.pool)], pool.bytes_max as f64);
    }
    expose_clients(snapshot.cores, &mut text);
    expose_times(snapshot.cores, &mut text);
    expose_queues(snapshot.cores, &mut text);
    expose_topics(snapshot, &mut text);
    expose_coordinators(snapshot, &mut text);
    expose_groups(snapshot, &mut text);
    text.finish()
}

fn expose_node(snapshot: &Snapshot<'_>, text: &mut Exposition) {
    let node = snapshot.node;
    text.family(metric::INFO);
    let node_id = node.node_id.to_string();
    let labels = [
        ("version", node.version.as_str()),
        ("node_id", node_id.as_str()),
        ("cluster_id", node.cluster_id.as_str()),
    ];
    text.sample(&labels, 1.0);
    text.single(metric::READY, f64::from(u8::from(snapshot.is_ready)));
    text.single(metric::CORES, snapshot.cores.len() as f64);
    // Each core knows all of them; core 0 knows first.
    let first = snapshot.cores.first();
    let topics = first.map_or(0, |core| core.topics_of_node);
    let partitions = first.map_or(0, |core| core.partitions_of_node);
    text.single(metric::TOPICS, topics as f64);
    text.single(metric::PARTITIONS, partitions as f64);
}

type DamageValue = fn(&DamageFigures) -> u64;

fn expose_damage(snapshot: &Snapshot<'_>, text: &mut Exposition) {
    let families: [(Metric, DamageValue); 4] = [
        (metric::OFFLINE, |damage| damage.offline),
        (metric::WITH_HOLES, |damage| damage.with_holes),
        (metric::HOLE_OFFSETS, |damage| damage.hole_offsets),
        (metric::UNVOUCHED, |damage| damage.unvouched),
    ];
    for (family, value) in families {
        text.family(family);
        for (core, damage) in snapshot.damage.iter().enumerate() {
            text.sample(&[("core", &core.to_string())], value(damage) as f64);
        }
    }
    text.family(metric::QUARANTINE_TOPICS);
    for kept in snapshot.quarantine {
        text.sample(&[("reason", kept.reason)], kept.topics as f64);
    }
    text.family(metric::QUARANTINE_BYTES);
    for kept in snapshot.quarantine {
        text.sample(&[("reason", kept.reason)], kept.bytes as f64);
    }
}

fn expose_process(snapshot: &Snapshot<'_>, text: &mut Exposition) {
    let process = &snapshot.process;
    text.single(metric::RESIDENT, process.resident_bytes as f64);
    text.single(metric::DESCRIPTORS, process.open_descriptors as f64);
    text.single(metric::DESCRIPTORS_MAX, process.descriptors_max as f64);
    text.single(metric::CPU, process.cpu_seconds);
    text.single(metric::THREADS, process.threads as f64);
    text.single(metric::START, snapshot.node.started_ms as f64 / 1000.0);
}

type BoundValue = fn(&BoundFigure) -> Option<u64>;

fn expose_bounds(cores: &[CoreFigures], text: &mut Exposition) {
    let families: [(Metric, BoundValue); 3] = [
        (metric::BOUND_LIMIT, |bound| Some(bound.limit)),
        (metric::BOUND_USED, |bound| bound.used),
        (metric::BOUND_MET, |bound| bound.met),
    ];
    for (family, value) in families {
        text.family(family);
        for (at, figures) in cores.iter().enumerate() {
            let core = figures.core.to_string();
            for bound in &figures.bounds {
                // What a bound of the process has refused is counted by each core for itself.
                let is_shared = bound.scope == BoundScope::Process && family != metric::BOUND_MET;
                let (Some(value), false) = (value(bound), is_shared && at > 0) else {
                    continue;
                };
                let labels = [("bound", bound.name), ("core", core.as_str())];
                let labels = if is_shared { &labels[..1] } else { &labels };
                text.sample(labels, value as f64);
            }
        }
    }
}

/// An empty label is none to Prometheus.
fn or_unknown(text: &str) -> &str {
    match text {
        "" => "(unknown)",
        known => known,
    }
}

fn expose_clients(cores: &[CoreFigures], text: &mut Exposition) {
    let mut clients: BTreeMap<&ClientSoftware, u64> = BTreeMap::new();
    for client in cores.iter().flat_map(|core| &core.clients) {
        *clients.entry(&client.software).or_default() += client.connections;
    }
    text.family(metric::REQUESTS);
    for figures in cores {
        let core = figures.core.to_string();
        for api in &figures.requests {
            let labels = [("core", core.as_str()), ("api", api.api.as_str())];
            text.sample(&labels, api.requests as f64);
        }
    }
    per_core(cores, text, metric::CONNECTIONS, |core| core.connections);
    text.family(metric::CLIENTS);
    let mut others = 0;
    for (at, (software, connections)) in clients.into_iter().enumerate() {
        if at >= CLIENTS_MAX {
            others += connections;
            continue;
        }
        let labels = [
            ("software", or_unknown(&software.name)),
            ("version", or_unknown(&software.version)),
        ];
        text.sample(&labels, connections as f64);
    }
    if others > 0 {
        let labels = [("software", "(others)"), ("version", "(others)")];
        text.sample(&labels, others as f64);
    }
}

fn per_core(
    cores: &[CoreFigures],
    text: &mut Exposition,
    metric: Metric,
    value: impl Fn(&CoreFigures) -> u64,
) {
    text.family(metric);
    for figures in cores {
        let core = figures.core.to_string();
        text.sample(&[("core", &core)], value(figures) as f64);
    }
}

fn times_per_core(
    cores: &[CoreFigures],
    text: &mut Exposition,
    metric: Metric,
    times: impl Fn(&Times) -> &Distribution,
) {
    text.family(metric);
    for figures in cores {
        let core = figures.core.to_string();
        text.distribution(&[("core", &core)], times(&figures.times));
    }
}

fn expose_times(cores: &[CoreFigures], text: &mut Exposition) {
    per_core(cores, text, metric::IN_FLIGHT, |core| {
        core.requests_in_flight
    });
    times_per_core(cores, text, metric::PRODUCE, |times| &times.produce);
    times_per_core(cores, text, metric::PRODUCE_QUEUE, |times| {
        &times.produce_queue
    });
    times_per_core(cores, text, metric::PRODUCE_DISK, |times| {
        &times.produce_disk
    });
    times_per_core(cores, text, metric::PRODUCE_REPLY, |times| {
        &times.produce_reply
    });
    times_per_core(cores, text, metric::FETCH, |times| &times.fetch);
    times_per_core(cores, text, metric::FETCH_QUEUE, |times| &times.fetch_queue);
    times_per_core(cores, text, metric::FETCH_DISK, |times| &times.fetch_disk);
    times_per_core(cores, text, metric::FETCH_REPLY, |times| &times.fetch_reply);
    times_per_core(cores, text, metric::FETCH_WAIT, |times| &times.fetch_wait);
    times_per_core(cores, text, metric::BARRIER, |times| &times.barrier);
    times_per_core(cores, text, metric::TURN, |times| &times.turn);
}

fn expose_queues(cores: &[CoreFigures], text: &mut Exposition) {
    per_core(cores, text, metric::MAIL, |core| core.mail_waiting);
    per_core(cores, text, metric::DEFERRED, |core| {
        core.deferred_connections
    });
    per_core(cores, text, metric::DEFERRALS, |core| core.deferrals);
    per_core(cores, text, metric::UNACKNOWLEDGED, |core| {
        core.unacknowledged_bytes
    });
    per_core(cores, text, metric::PENDING_PRODUCES, |core| {
        core.pending_produces
    });
    per_core(cores, text, metric::PENDING_FETCHES, |core| {
        core.pending_fetches
    });
    per_core(cores, text, metric::PARKED_FETCHES, |core| {
        core.parked_fetches
    });
    per_core(cores, text, metric::SEND_QUEUE, |core| {
        core.send_queue_bytes
    });
    per_core(cores, text, metric::FORWARDED, |core| core.forwarded_bytes);
    per_core(cores, text, metric::TAIL_CACHE, |core| {
        core.tail_cache_bytes
    });
    per_core(cores, text, metric::OPEN_FILES, |core| core.open_files);
    per_core(cores, text, metric::SESSIONS, |core| core.fetch_sessions);
    per_core(cores, text, metric::ALLOCATIONS, |core| core.allocations);
    per_core(cores, text, metric::CORE_PARTITIONS, |core| core.partitions);
    per_core(cores, text, metric::BARRIERS, |core| {
        core.barriers_in_flight
    });
    per_core(cores, text, metric::RECORDS_IN, |core| core.records_in);
    per_core(cores, text, metric::BYTES_IN, |core| core.bytes_in);
    per_core(cores, text, metric::RECORDS_OUT, |core| core.records_out);
    per_core(cores, text, metric::BYTES_OUT, |core| core.bytes_out);
    per_core(cores, text, metric::COLD_READS, |core| core.cold_reads);
    expose_scrub(cores, text);
}

fn expose_scrub(cores: &[CoreFigures], text: &mut Exposition) {
    per_core(cores, text, metric::SCRUB_BYTES, |core| core.scrub.bytes);
    per_core(cores, text, metric::SCRUB_HOLES, |core| core.scrub.holes);
    per_core(cores, text, metric::SCRUB_PASSES, |core| core.scrub.passes);
    per_core(cores, text, metric::SCRUB_LOGS, |core| core.scrub.logs);
    per_core(cores, text, metric::SCRUB_LOGS_DONE, |core| {
        core.scrub.logs_done
    });
    per_core(cores, text, metric::SCRUB_LAST_PASS, |core| {
        core.scrub.last_pass_began_seconds
    });
}

type TopicValue = fn(&TopicFigures) -> u64;

fn expose_topics(snapshot: &Snapshot<'_>, text: &mut Exposition) {
    let families: [(Metric, TopicValue); 7] = [
        (metric::TOPIC_RECORDS_IN, |topic| topic.records_in),
        (metric::TOPIC_BYTES_IN, |topic| topic.bytes_in),
        (metric::TOPIC_RECORDS_OUT, |topic| topic.records_out),
        (metric::TOPIC_BYTES_OUT, |topic| topic.bytes_out),
        (metric::TOPIC_LOG, |topic| topic.log_bytes),
        (metric::TOPIC_PARTITIONS, |topic| topic.partitions),
        (metric::TOPIC_SEGMENTS, |topic| topic.segments),
    ];
    let told = &snapshot.topics.topics;
    let all = snapshot.cores.first().map_or(0, |core| core.topics_of_node);
    let aggregated = all.saturating_sub(told.len() as u64);
    for (family, value) in families {
        text.family(family);
        for (name, topic) in told {
            text.sample(&[("topic", name)], value(topic) as f64);
        }
        if aggregated > 0 {
            text.sample(&[("topic", "")], value(&snapshot.topics.rest) as f64);
        }
    }
    text.single(metric::TOPICS_AGGREGATED, aggregated as f64);
}

type CoordinatorValue = fn(&CoordinatorFigures) -> u64;

fn expose_coordinators(snapshot: &Snapshot<'_>, text: &mut Exposition) {
    text.family(metric::GROUPS);
    for state in GROUP_STATES {
        let count = snapshot.groups.states.get(state).copied();
        text.sample(&[("state", state)], count.unwrap_or(0) as f64);
    }
    let families: [(Metric, CoordinatorValue); 16] = [
        (metric::GROUP_REBALANCES, |groups| groups.rebalances),
        (metric::GROUP_JOINS, |groups| groups.joins),
        (metric::GROUP_EXPIRATIONS, |groups| {
            groups.member_expirations
        }),
        (metric::GROUP_COMMITS, |groups| groups.commits),
        (metric::GROUP_OFFSETS_COMMITTED, |groups| {
            groups.offsets_committed
        }),
        (metric::GROUP_OFFSETS_EXPIRED, |groups| {
            groups.offsets_expired
        }),
        (metric::GROUP_RECORDS_SKIPPED, |groups| {
            groups.records_skipped
        }),
        (metric::GROUP_SNAPSHOTS, |groups| groups.snapshots),
        (metric::GROUP_WRITES_FAILED, |groups| groups.writes_failed),
        (metric::GROUP_PENDING_WRITES, |groups| groups.pending_writes),
        (metric::GROUP_WAITING, |groups| groups.requests_waiting),
        (metric::GROUP_LOADING, |groups| groups.partitions_loading),
        (metric::GROUP_DAMAGED, |groups| groups.partitions_damaged),
        (metric::GROUP_UNAVAILABLE, |groups| {
            groups.partitions_unavailable
        }),
        (metric::GROUP_UNCERTAIN, |groups| groups.offsets_uncertain),
        (metric::GROUP_LOG, |groups| groups.log_bytes),
    ];
    for (family, value) in families {
        per_core(snapshot.cores, text, family, |core| value(&core.groups));
    }
}

fn expose_groups(snapshot: &Snapshot<'_>, text: &mut Exposition) {
    let groups = &snapshot.groups.told;
    text.family(metric::GROUP_MEMBERS);
    for group in groups {
        text.sample(&[("group", &group.group)], group.member_count as f64);
    }
    text.family(metric::GROUP_GENERATION);
    for group in groups {
        text.sample(&[("group", &group.group)], f64::from(group.generation));
    }
    let told = expose_offsets(groups, text, metric::GROUP_COMMITTED, |offset, _| {
        Some(offset)
    });
    expose_offsets(groups, text, metric::GROUP_LAG, |_, lag| lag);
    let known: u64 = snapshot.groups.states.values().sum();
    let offsets: u64 = groups.iter().map(|group| group.committed_count).sum();
    let left_out = known.saturating_sub(groups.len() as u64) + offsets.saturating_sub(told);
    text.single(metric::GROUP_SERIES_LEFT_OUT, left_out as f64);
}

/// Samples by group, topic and partition, up to the bound; how many offsets that were.
fn expose_offsets(
    groups: &[GroupFigures],
    text: &mut Exposition,
    metric: Metric,
    value: impl Fn(i64, Option<i64>) -> Option<i64>,
) -> u64 {
    text.family(metric);
    let committed = groups
        .iter()
        .flat_map(|group| group.committed.iter().map(move |offset| (group, offset)));
    let mut told = 0;
    for (group, committed) in committed.take(LAGS_MAX) {
        told += 1;
        let Some(value) = value(committed.offset, committed.lag) else {
            continue;
        };
        let partition = committed.partition.to_string();
        let labels = [
            ("group", group.group.as_str()),
            ("topic", committed.topic.as_str()),
            ("partition", partition.as_str()),
        ];
        text.sample(&labels, value as f64);
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::ALL;
    use crate::figures::{ApiRequests, CommittedOffset, SoftwareConnections};
    use crate::node::MemoryPool;

    fn bound(name: &'static str, scope: BoundScope) -> BoundFigure {
        BoundFigure {
            name,
            limit: 10,
            used: Some(3),
            met: Some(2),
            scope,
        }
    }

    fn core(core: u16) -> CoreFigures {
        CoreFigures {
            core,
            topics_of_node: 5,
            requests: vec![ApiRequests {
                api: "Produce".to_owned(),
                requests: 7,
            }],
            clients: vec![SoftwareConnections {
                software: ClientSoftware {
                    name: "librdkafka".to_owned(),
                    version: "2.0".to_owned(),
                },
                connections: 2,
            }],
            bounds: vec![
                bound("connections", BoundScope::Process),
                bound("open_files", BoundScope::Core),
            ],
            ..CoreFigures::default()
        }
    }

    fn exposed() -> String {
        let mut topics = Topics::default();
        let topic = TopicFigures {
            name: "orders".to_owned(),
            records_in: 9,
            ..TopicFigures::default()
        };
        topics.topics.insert("orders".to_owned(), topic.clone());
        topics.rest = topic;
        let committed = CommittedOffset {
            topic: "orders".to_owned(),
            partition: 1,
            offset: 4,
            lag: Some(5),
            is_uncertain: false,
        };
        let group = GroupFigures {
            group: "billing".to_owned(),
            state: "Stable".to_owned(),
            committed_count: 1,
            committed: vec![committed],
            ..GroupFigures::default()
        };
        let node = NodeFacts {
            memory_budget: vec![MemoryPool {
                pool: "tail_cache",
                bytes_max: 100,
            }],
            ..NodeFacts::default()
        };
        let groups = Groups {
            told: vec![group],
            states: [("Stable", 3)].into(),
        };
        let damage = DamageFigures {
            offline: 1,
            with_holes: 2,
            hole_offsets: 30,
            unvouched: 4,
            partitions: Vec::new(),
        };
        expose(&Snapshot {
            node: &node,
            is_ready: true,
            process: ProcessFigures::default(),
            cores: &[core(0), core(1)],
            topics: &topics,
            groups: &groups,
            damage: &[damage.clone(), DamageFigures::default()],
            quarantine: &[QuarantineFigures {
                reason: "unknown",
                topics: 2,
                bytes: 5,
            }],
        })
    }

    #[test]
    fn damage_is_told_by_core_and_quarantine_by_reason() {
        let text = exposed();
        for line in [
            r#"highwater_partitions_offline{core="0"} 1"#,
            r#"highwater_partitions_with_holes{core="0"} 2"#,
            r#"highwater_hole_offsets{core="0"} 30"#,
            r#"highwater_partitions_unvouched{core="0"} 4"#,
            r#"highwater_partitions_offline{core="1"} 0"#,
            r#"highwater_quarantine_topics{reason="unknown"} 2"#,
            r#"highwater_quarantine_bytes{reason="unknown"} 5"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    #[test]
    fn every_metric_of_the_catalog_is_exported_once_with_a_sample() {
        let text = exposed();
        for metric in ALL {
            let header = format!("# TYPE {} ", metric.name);
            assert_eq!(text.matches(&header).count(), 1, "{}", metric.name);
            let is_sample = |line: &str| {
                line.strip_prefix(metric.name)
                    .is_some_and(|rest| rest.starts_with(['{', ' ', '_']))
            };
            assert!(text.lines().any(is_sample), "{} has no sample", metric.name);
        }
        assert_eq!(text.matches("# TYPE ").count(), ALL.len());
    }

    #[test]
    fn topics_beyond_the_bound_are_told_together_and_counted() {
        let text = exposed();
        for line in [
            r#"highwater_topic_records_in_total{topic="orders"} 9"#,
            r#"highwater_topic_records_in_total{topic=""} 9"#,
            "highwater_topics_aggregated 4",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    #[test]
    fn bounds_of_the_process_are_told_once_and_those_of_cores_by_core() {
        let text = exposed();
        let of_process = r#"highwater_bound_limit{bound="connections"} 10"#;
        assert_eq!(text.matches(of_process).count(), 1);
        for core in 0..2 {
            let line = format!(r#"highwater_bound_used{{bound="open_files",core="{core}"}} 3"#);
            assert!(text.contains(&line), "{line}");
        }
        assert!(
            text.contains(r#"highwater_client_connections{software="librdkafka",version="2.0"} 4"#)
        );
        for core in 0..2 {
            let line =
                format!(r#"highwater_bound_met_total{{bound="connections",core="{core}"}} 2"#);
            assert!(text.contains(&line), "{line}");
        }
        assert!(text.contains("highwater_group_series_left_out 2\n"));
        assert!(text.contains(
            r#"highwater_group_lag_records{group="billing",topic="orders",partition="1"} 5"#
        ));
    }
}

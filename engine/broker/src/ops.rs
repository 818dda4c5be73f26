//! What this core tells the operations thread: answers to its questions, copied out of the shard.
//!
//! Each answer is bounded by its question. Nothing here changes anything. The bounds are in `bounds`,
//! consumer groups in `groups`.

mod bounds;
mod damage;
mod groups;
mod quarantine;
#[cfg(test)]
mod tests;

pub use quarantine::quarantine_source;

use std::collections::BTreeMap;

use highwater_base::CoreId;
use highwater_ops::figures::{
    ClientSoftware, ConnectionFigures, CoreFigures, PartitionFigures, ProcessFigures,
    SoftwareConnections, TopicFigures,
};
use highwater_ops::{Answer, Asked, Cores, Question};
use highwater_reactor::{ConnectionId, CoreGauges, OutsidePost};
use highwater_store::LogId;

use crate::connection::Connection;
use crate::fetch::FetchState;
use crate::message::Message;
use crate::metadata::Topic;
use crate::shard::Shard;

/// Kinds of client software a core tells by name.
const SOFTWARE_MAX: usize = 64;
/// The name of all others.
const OTHER_SOFTWARE: &str = "(others)";
/// Longest name or version of a client software that is kept.
const SOFTWARE_TEXT_BYTES_MAX: usize = 64;

/// The way from the operations thread to the shards.
#[derive(Debug)]
pub struct Shards {
    pub post: OutsidePost<Message>,
    pub cores: u16,
}

impl Cores for Shards {
    fn count(&self) -> u16 {
        self.cores
    }

    fn ask(&self, core: u16, question: Asked) -> bool {
        let message = Message::Ops(question);
        self.post.send(CoreId(core), message).is_ok()
    }
}

/// What the kernel says about the process.
#[must_use]
pub fn process_figures() -> ProcessFigures {
    let used = highwater_reactor::process_use();
    ProcessFigures {
        resident_bytes: used.resident_bytes,
        open_descriptors: used.open_descriptors,
        descriptors_max: used.descriptors_max,
        cpu_seconds: used.cpu_seconds,
        threads: used.threads,
    }
}

/// A client's own name and version, cut to what is kept of them.
#[must_use]
pub fn client_software(name: &str, version: &str) -> ClientSoftware {
    let cut = |text: &str| {
        let mut kept = String::new();
        for character in text.chars().filter(|character| !character.is_control()) {
            if kept.len() + character.len_utf8() > SOFTWARE_TEXT_BYTES_MAX {
                break;
            }
            kept.push(character);
        }
        kept
    };
    ClientSoftware {
        name: cut(name),
        version: cut(version),
    }
}

/// Counts connections by software; what comes when there are many kinds already is one kind.
fn count_software<'a>(
    connections: impl Iterator<Item = &'a Connection>,
) -> Vec<SoftwareConnections> {
    let unknown = client_software("", "");
    let others = client_software(OTHER_SOFTWARE, "");
    let mut counts: BTreeMap<&ClientSoftware, u64> = BTreeMap::new();
    for connection in connections {
        let software = connection.client.software.as_deref().unwrap_or(&unknown);
        let is_new = !counts.contains_key(software);
        let counted = match is_new && counts.len() >= SOFTWARE_MAX {
            true => &others,
            false => software,
        };
        *counts.entry(counted).or_default() += 1;
    }
    let counts = counts.into_iter();
    counts
        .map(|(software, connections)| SoftwareConnections {
            software: software.clone(),
            connections,
        })
        .collect()
}

impl Shard {
    /// Answers a question of the operations thread.
    pub(crate) fn answer_ops(&mut self, gauges: &CoreGauges, asked: Asked) {
        let answer = match &asked.question {
            Question::Core => Answer::Core(Box::new(self.core_figures(gauges))),
            Question::Topics {
                from,
                topics_max,
                partitions_max,
            } => self.topic_figures(from, *topics_max, *partitions_max),
            Question::Partitions {
                topic,
                from,
                partitions_max,
            } => self.partition_figures(topic, *from, *partitions_max),
            Question::Connections { connections_max } => {
                Answer::Connections(self.connection_figures(gauges, *connections_max))
            }
            Question::Damage {
                from,
                partitions_max,
                told_max,
            } => self.damage_figures(from, *partitions_max, *told_max),
            Question::Groups {
                after,
                groups_max,
                offsets_max,
                detail,
            } => {
                let after = after.as_ref();
                Answer::Groups(self.group_page(after, *groups_max, *offsets_max, *detail))
            }
            Question::Group { group } => Answer::Group(self.group_figures(group)),
            Question::Marks { partitions } => Answer::Marks(
                partitions
                    .iter()
                    .map(|(topic, partition)| self.mark_of(topic, *partition))
                    .collect(),
            ),
        };
        asked.answer(answer);
    }

    fn core_figures(&mut self, gauges: &CoreGauges) -> CoreFigures {
        let (mut pending, mut parked) = (0, 0);
        for key in self.connections.values().flat_map(|one| &one.fetches) {
            let state = self.fetches.get_mut(*key).map(|fetch| fetch.state);
            pending += 1;
            parked += u64::from(state == Some(FetchState::Parked));
        }
        let connections = || self.connections.values();
        let in_flight = connections().map(Connection::requests_in_flight);
        let sessions = connections().filter(|one| one.session.is_some()).count();
        let total = self.meters.total;
        CoreFigures {
            core: self.core.0,
            stopping: self.stopping,
            requests: self.meters.requests(),
            connections: connections().count() as u64,
            clients: count_software(connections()),
            requests_in_flight: in_flight.map(|count| count as u64).sum(),
            times: self.meters.times(),
            mail_waiting: (gauges.mail_waiting + gauges.mail_overflow) as u64,
            deferred_connections: self.deferred.len() as u64,
            deferrals: self.meters.deferrals,
            unacknowledged_bytes: self.unacknowledged_bytes as u64,
            pending_produces: self.produces.len() as u64,
            pending_fetches: pending,
            parked_fetches: parked,
            send_queue_bytes: gauges.send_queue_bytes as u64,
            forwarded_bytes: self.counters.forwarded_bytes,
            tail_cache_bytes: self.store.buffer_bytes() as u64,
            open_files: gauges.open_files as u64,
            fetch_sessions: sessions as u64,
            allocations: highwater_reactor::thread_allocations(),
            partitions: self.counters.partitions,
            barriers_in_flight: self.store.groups_in_flight() as u64,
            topics_of_node: self.image.topic_count() as u64,
            partitions_of_node: self.image.partition_count() as u64,
            bounds: self.bounds(gauges),
            records_in: total.records_in,
            bytes_in: total.bytes_in,
            records_out: total.records_out,
            bytes_out: total.bytes_out,
            cold_reads: highwater_reactor::thread_counters().cold_reads,
            scrub: self.scrub_figures(),
            groups: self.coordinator_figures(),
        }
    }

    fn topic_figures(&self, from: &str, topics_max: usize, partitions_max: usize) -> Answer {
        let mut topics = Vec::new();
        let mut looked_at = 0;
        for topic in self.image.topics_from(from) {
            if topics.len() >= topics_max || looked_at >= partitions_max {
                let next = Some(topic.name.to_string());
                return Answer::Topics { topics, next };
            }
            let figures = self.share_of(topic);
            looked_at += figures.partitions as usize;
            topics.push(figures);
        }
        Answer::Topics { topics, next: None }
    }

    /// This core's share of a topic.
    fn share_of(&self, topic: &Topic) -> TopicFigures {
        let mut figures = TopicFigures {
            name: topic.name.to_string(),
            ..TopicFigures::default()
        };
        let entry = self.table.by_id(topic.id);
        for (_, log) in entry.iter().flat_map(|entry| entry.local_logs()) {
            let meter = self.partitions[log.0 as usize].meter;
            figures.add(&TopicFigures {
                name: String::new(),
                partitions: 1,
                segments: self.store.segments(log).count() as u64,
                log_bytes: self.store.size_bytes(log),
                records_in: meter.records_in,
                bytes_in: meter.bytes_in,
                records_out: meter.records_out,
                bytes_out: meter.bytes_out,
            });
        }
        figures
    }

    fn partition_figures(&self, topic: &str, from: u32, partitions_max: usize) -> Answer {
        let entry = self.table.by_name(topic);
        let online = entry.iter().flat_map(|entry| entry.local_logs());
        let online = online.map(|(partition, log)| (partition, Ok(log)));
        let offline = entry.iter().flat_map(|entry| entry.local_offline());
        let offline = offline.map(|(partition, reason)| (partition, Err(reason)));
        let all = online.chain(offline);
        let mut all: Vec<_> = all.filter(|(partition, _)| *partition >= from).collect();
        all.sort_unstable_by_key(|(partition, _)| *partition);
        let next = all.get(partitions_max).map(|(partition, _)| *partition);
        let told = all.into_iter().take(partitions_max);
        let partitions = told
            .map(|(partition, log)| match log {
                Ok(log) => self.partition(partition, log),
                Err(reason) => self.offline_partition(partition, reason),
            })
            .collect();
        Answer::Partitions { partitions, next }
    }

    fn partition(&self, partition: u32, log: LogId) -> PartitionFigures {
        let holes = self.store.holes(log).iter();
        PartitionFigures {
            partition,
            core: self.core.0,
            log_start: self.store.log_start(log).0,
            high_watermark: self.store.high_watermark(log).0,
            log_end: self.store.log_end(log).0,
            log_bytes: self.store.size_bytes(log),
            segments: self.store.segments(log).count() as u64,
            leader_epoch: self.store.epoch(log).as_leader_epoch(),
            holes: holes.map(|hole| (hole.from, hole.to)).collect(),
            offline: None,
            vouched: !self.partitions[log.0 as usize].is_unvouched,
        }
    }

    fn connection_figures(
        &self,
        gauges: &CoreGauges,
        connections_max: usize,
    ) -> Vec<ConnectionFigures> {
        let queues: BTreeMap<ConnectionId, usize> = gauges.send_queues.iter().copied().collect();
        let mut ids: Vec<ConnectionId> = self.connections.keys().copied().collect();
        ids.sort_unstable();
        let told = ids.into_iter().take(connections_max).filter_map(|id| {
            let connection = self.connections.get(&id)?;
            let client = &connection.client;
            let text = |address: Option<std::net::SocketAddr>| {
                address.map_or_else(String::new, |address| address.to_string())
            };
            let session = connection.session.as_ref();
            Some(ConnectionFigures {
                core: self.core.0,
                peer: text(client.info.map(|info| info.peer)),
                listener: text(client.info.map(|info| info.local)),
                software: client.software.as_deref().cloned(),
                requests_in_flight: connection.requests_in_flight() as u64,
                pending_fetches: connection.fetches.len() as u64,
                session_partitions: session.map_or(0, |session| session.partition_count() as u64),
                send_queue_bytes: queues.get(&id).copied().unwrap_or(0) as u64,
            })
        });
        told.collect()
    }
}

//! DescribeLogDirs (key 35): what each partition takes on disk, and the volume it is on (KIP-113,
//! KIP-827).
//!
//! There is one directory. Partitions that do not exist are left out, as Kafka does. Tagged fields of
//! our own (numbers from 10000 on, which other clients skip) add what our command line shows: number of
//! segments, log start, high-water mark, holes, why a partition is offline, whether its marks were lost.
//! In direct mode each broker tells of the partitions it leads, so that a client that adds up all
//! brokers counts each once.

use std::collections::{BTreeMap, BTreeSet};

use highwater_base::{CoreId, ErrorCode, Now, TopicId};
use highwater_reactor::Outbox;
use highwater_wire::describe_log_dirs::{
    DescribableLogDirTopic, DescribeLogDirsHole, DescribeLogDirsPartition, DescribeLogDirsRequest,
    DescribeLogDirsResponse, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use highwater_wire::{Array, DecodeError};

use super::Request;
use crate::message::{Message, Query, QueryResult};
use crate::metadata::Topic;
use crate::shard::Shard;

/// Holes told of one partition.
const HOLES_TOLD_MAX: usize = 1000;

/// One question as [`Shard::gather`] takes it.
type Question = (Result<TopicId, ErrorCode>, i32, Query);

/// Partitions by topic name, each once and in order.
type Wanted<'a> = BTreeMap<&'a str, BTreeSet<i32>>;

impl Shard {
    pub(crate) fn handle_describe_log_dirs(
        &mut self,
        now: Now,
        request: &Request,
        body: &[u8],
        out: &mut Outbox<Message>,
    ) -> Result<(), DecodeError> {
        let decoded = DescribeLogDirsRequest::parse(request.version, body)?;
        let mut wanted = Wanted::new();
        match decoded.topics {
            None => {
                for topic in self.image.topics_by_name() {
                    let all = 0..topic.partitions as i32;
                    let told = all.filter(|partition| self.tells_of(topic, *partition));
                    wanted.insert(&topic.name, told.collect());
                }
            }
            Some(topics) => {
                for asked in topics.iter() {
                    let Some(topic) = self.image.topic_by_name(asked.topic) else {
                        continue;
                    };
                    let there = wanted.entry(&topic.name).or_default();
                    let partitions = asked.partitions.iter();
                    there.extend(partitions.filter(|partition| self.tells_of(topic, *partition)));
                }
            }
        }
        wanted.retain(|_, partitions| !partitions.is_empty());
        let (explicit, parts) = self.questions(request.version, &wanted);
        self.gather(now, request.gather(&explicit), parts, out);
        Ok(())
    }

    /// Whether the topic has this partition and the broker that was asked answers for it.
    fn tells_of(&self, topic: &Topic, partition: i32) -> bool {
        let Ok(index) = u32::try_from(partition) else {
            return false;
        };
        let leader = |core: CoreId| self.node.broker_of(core);
        index < topic.partitions && leader(topic.core_of(index, self.cores)) == leader(self.core)
    }

    /// A request body that names what is wanted, and the questions in its order: topics may come
    /// and go before the answer is put together.
    fn questions(&self, version: i16, wanted: &Wanted<'_>) -> (Vec<u8>, Vec<Question>) {
        let mut parts = Vec::new();
        let lists: Vec<(&str, Vec<i32>)> = wanted
            .iter()
            .map(|(name, partitions)| (*name, partitions.iter().copied().collect()))
            .collect();
        for (name, partitions) in &lists {
            let id = self.topic_id_of(name);
            parts.extend(partitions.iter().map(|at| (id, *at, Query::LogSize)));
        }
        let topics: Vec<DescribableLogDirTopic<'_>> = lists
            .iter()
            .map(|(name, partitions)| DescribableLogDirTopic {
                topic: name,
                partitions: Array::from(partitions),
            })
            .collect();
        let mut explicit = Vec::new();
        DescribeLogDirsRequest {
            topics: Some(Array::from(&topics)),
        }
        .encode(version, &mut explicit)
        .expect("names and numbers of topics that exist fit a request");
        (explicit, parts)
    }

    pub(crate) fn answer_describe_log_dirs(
        &mut self,
        request: &Request,
        body: &[u8],
        results: &[QueryResult],
        out: &mut Outbox<Message>,
    ) -> Result<(), DecodeError> {
        let decoded = DescribeLogDirsRequest::parse(request.version, body)?;
        let holes: Vec<Vec<DescribeLogDirsHole>> = results.iter().map(holes_of).collect();
        let mut results = results.iter().zip(&holes);
        let mut found: Vec<(&str, Vec<DescribeLogDirsPartition<'_>>)> = Vec::new();
        for topic in decoded.topics.unwrap_or_default().iter() {
            let rows = topic.partitions.iter().zip(&mut results);
            let rows =
                rows.filter_map(|(index, (result, holes))| partition_row(index, result, holes));
            found.push((topic.topic, rows.collect()));
        }
        found.retain(|(_, partitions)| !partitions.is_empty());
        let topics: Vec<DescribeLogDirsTopic<'_>> = found
            .iter()
            .map(|(name, partitions)| DescribeLogDirsTopic {
                name,
                partitions: Array::from(partitions),
            })
            .collect();
        let log_dir = self.node.config.data_dir.display().to_string();
        let space = self.node.volume.read();
        let bytes_of = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let directories = [DescribeLogDirsResult {
            log_dir: &log_dir,
            topics: Array::from(&topics),
            total_bytes: space.map_or(-1, |space| bytes_of(space.total_bytes)),
            usable_bytes: space.map_or(-1, |space| bytes_of(space.usable_bytes)),
            ..Default::default()
        }];
        let response = DescribeLogDirsResponse {
            results: Array::from(&directories),
            ..Default::default()
        };
        self.respond(request, out, |version, bytes| {
            response.encode(version, bytes)
        });
        Ok(())
    }
}

/// The row of a partition that is still there.
fn partition_row<'a>(
    index: i32,
    result: &'a QueryResult,
    holes: &'a [DescribeLogDirsHole],
) -> Option<DescribeLogDirsPartition<'a>> {
    match result {
        QueryResult::LogSize {
            size_bytes,
            segments,
            log_start,
            high_watermark,
            vouched,
            ..
        } => Some(DescribeLogDirsPartition {
            partition_index: index,
            partition_size: i64::try_from(*size_bytes).unwrap_or(i64::MAX),
            segments: i32::try_from(*segments).unwrap_or(i32::MAX),
            log_start_offset: log_start.0,
            high_watermark: high_watermark.0,
            holes: Array::from(holes),
            unvouched: !vouched,
            ..Default::default()
        }),
        QueryResult::Offline(reason) => Some(DescribeLogDirsPartition {
            partition_index: index,
            offline_reason: Some(reason),
            ..Default::default()
        }),
        QueryResult::Offset { .. }
        | QueryResult::EpochEnd { .. }
        | QueryResult::LogStart(_)
        | QueryResult::Error(_) => None,
    }
}

/// The holes of a partition, a bounded number of them.
fn holes_of(result: &QueryResult) -> Vec<DescribeLogDirsHole> {
    let holes = match result {
        QueryResult::LogSize { holes, .. } => holes.as_slice(),
        _ => &[],
    };
    let told = holes.iter().take(HOLES_TOLD_MAX);
    told.map(|hole| DescribeLogDirsHole {
        from_offset: hole.from,
        to_offset: hole.to,
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use highwater_wire::ApiKey;

    use super::*;
    use crate::testing::{TestNode, batch};

    /// Topic, partition, bytes, segments, log start, high-water mark of each row.
    fn describe(node: &mut TestNode, topics: Option<&[(&str, &[i32])]>) -> Vec<String> {
        let topics: Option<Vec<DescribableLogDirTopic<'_>>> = topics.map(|topics| {
            let topics = topics.iter();
            topics
                .map(|(topic, partitions)| DescribableLogDirTopic {
                    topic,
                    partitions: Array::from(*partitions),
                })
                .collect()
        });
        let request = DescribeLogDirsRequest {
            topics: topics.as_ref().map(Array::from),
        };
        let mut body = Vec::new();
        request.encode(4, &mut body).expect("encodes");
        let client = node.connect(0);
        node.request(0, client, ApiKey::DescribeLogDirs, 4, &body);
        node.settle();
        let answers = node.answers(0, client, ApiKey::DescribeLogDirs, 4);
        let response = DescribeLogDirsResponse::parse(4, &answers[0]).expect("readable");
        let directory = response.results.iter().next().expect("one directory");
        assert_eq!((response.error_code, directory.error_code), (0, 0));
        let mut rows = Vec::new();
        for topic in directory.topics.iter() {
            for row in topic.partitions.iter() {
                rows.push(format!(
                    "{}-{} {} {} {}..{}",
                    topic.name,
                    row.partition_index,
                    row.partition_size,
                    row.segments,
                    row.log_start_offset,
                    row.high_watermark
                ));
            }
        }
        rows
    }

    #[test]
    fn partitions_of_all_cores_are_told_and_those_that_do_not_exist_left_out() {
        let mut node = TestNode::new(2, &[("a", 2), ("b", 1)]);
        node.append("a", 1, &batch(39));
        node.append("a", 1, &batch(39));
        let all = describe(&mut node, None);
        assert_eq!(all, ["a-0 0 0 0..0", "a-1 200 1 0..2", "b-0 0 0 0..0"]);
        let asked: &[(&str, &[i32])] = &[("a", &[1, 7, 1, -1]), ("none", &[0]), ("a", &[1])];
        assert_eq!(describe(&mut node, Some(asked)), ["a-1 200 1 0..2"]);
        assert!(describe(&mut node, Some(&[])).is_empty());
    }
}

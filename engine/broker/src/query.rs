//! Questions to single partitions: ListOffsets, OffsetForLeaderEpoch, DeleteRecords,
//! DescribeLogDirs.
//!
//! A request gathers one answer per partition ([`Gather`]); each question runs on the core that
//! owns the partition and may have to wait for the disk there.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_base::{CoreId, Epoch, ErrorCode, Now, Offset, TopicId};
use highwater_reactor::{ConnectionId, Outbox};
use highwater_store::{LogId, Lookup, PartitionKey};
use highwater_wire::ApiKey;

use crate::message::{Message, Query, QueryPart, QueryResult};
use crate::partition_table::Owner;
use crate::shard::Shard;
use crate::slab::Key;
use crate::timestamp_lookup::{TimeSearch, Wanted};

/// ListOffsets: the high-water mark.
pub const LATEST: i64 = -1;
/// ListOffsets: the log start.
pub const EARLIEST: i64 = -2;
/// ListOffsets: the record with the largest timestamp (KIP-734).
pub const MAX_TIMESTAMP: i64 = -3;
/// ListOffsets: the first offset on local disks (KIP-405).
pub const EARLIEST_LOCAL: i64 = -4;
/// ListOffsets: the last offset in tiered storage (KIP-1005); there is none.
pub const LATEST_TIERED: i64 = -5;
/// ListOffsets: the first offset not yet uploaded (KIP-1023); there is none.
pub const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// Partitions one request may ask; more is an error for each of them.
pub const QUERIES_MAX: usize = 100_000;

/// Answers to other cores of this turn, by core and ticket.
pub type QueryAnswers = BTreeMap<(CoreId, u64), Vec<(u32, QueryResult)>>;

/// A request that waits for answers of partitions.
#[derive(Debug)]
pub struct Gather {
    pub connection: ConnectionId,
    pub sequence: u64,
    pub api_key: ApiKey,
    pub version: i16,
    pub correlation_id: i32,
    /// The request's body, decoded again when the answer is put together.
    pub body: Vec<u8>,
    /// One per partition, in the order of the request.
    pub results: Vec<QueryResult>,
    pub remaining: usize,
}

/// Who asked one question.
#[derive(Clone, Copy, Debug)]
pub enum QueryOrigin {
    Here {
        gather: Key,
        index: u32,
    },
    Core {
        core: CoreId,
        ticket: u64,
        index: u32,
    },
}

/// A question that waits for a disk read.
#[derive(Clone, Copy, Debug)]
pub struct PendingLookup {
    pub origin: QueryOrigin,
    pub log: LogId,
    pub key: Option<PartitionKey>,
    pub search: TimeSearch,
}

/// Who waits for a read of whole batches.
#[derive(Clone, Copy, Debug)]
pub enum PendingRead {
    /// A question about a timestamp.
    Time(PendingLookup),
    /// A partition of the log of offsets that is being loaded.
    Offsets(u32),
}

/// A DeleteRecords that waits for the ledger.
#[derive(Debug)]
pub struct PendingTrim {
    pub origin: QueryOrigin,
    pub offset: Offset,
}

impl Shard {
    /// Asks all questions of a request. `parts` are topic, partition and question in order; a topic
    /// that does not exist is `Err`.
    pub(crate) fn gather(
        &mut self,
        now: Now,
        mut gather: Gather,
        mut parts: Vec<(Result<TopicId, ErrorCode>, i32, Query)>,
        out: &mut Outbox<Message>,
    ) {
        gather.results = vec![QueryResult::Error(ErrorCode::InvalidRequest); parts.len()];
        // DescribeLogDirs names only partitions there are, each once.
        if gather.api_key != ApiKey::DescribeLogDirs && parts.len() > QUERIES_MAX {
            parts.clear();
        }
        gather.remaining = parts.len();
        let key = self.gathers.insert(gather);
        if parts.is_empty() {
            self.finish_gather(key, out);
        }
        let mut elsewhere: BTreeMap<CoreId, Vec<QueryPart>> = BTreeMap::new();
        for (index, (topic, partition, query)) in parts.into_iter().enumerate() {
            let index = index as u32;
            let origin = QueryOrigin::Here { gather: key, index };
            let owner = topic.and_then(|topic_id| {
                let owner = self
                    .table
                    .by_id(topic_id)
                    .and_then(|e| e.owner(partition, self.cores));
                owner
                    .map(|owner| (topic_id, owner))
                    .ok_or(ErrorCode::UnknownTopicOrPartition)
            });
            match owner {
                Err(code) => self.answer_query(origin, QueryResult::Error(code), out),
                Ok((_, Owner::Here(log))) => self.run_query(now, origin, log, &query, out),
                Ok((topic_id, Owner::Offline)) => {
                    self.answer_offline(origin, topic_id, partition, &query, out);
                }
                Ok((topic_id, Owner::Elsewhere(core))) => {
                    elsewhere.entry(core).or_default().push(QueryPart {
                        index,
                        topic_id,
                        partition,
                        query,
                    });
                }
            }
        }
        let ticket = key.to_ticket();
        for (core, parts) in elsewhere {
            out.mail(core, Message::Query { ticket, parts });
        }
    }

    /// Another core asks partitions of this one.
    pub(crate) fn queries_for(
        &mut self,
        now: Now,
        core: CoreId,
        ticket: u64,
        parts: &[QueryPart],
        out: &mut Outbox<Message>,
    ) {
        for part in parts {
            let index = part.index;
            let origin = QueryOrigin::Core {
                core,
                ticket,
                index,
            };
            let owner = self
                .table
                .by_id(part.topic_id)
                .and_then(|e| e.owner(part.partition, self.cores));
            match owner {
                Some(Owner::Here(log)) => self.run_query(now, origin, log, &part.query, out),
                Some(Owner::Offline) => {
                    let (id, partition) = (part.topic_id, part.partition);
                    self.answer_offline(origin, id, partition, &part.query, out);
                }
                Some(Owner::Elsewhere(_)) | None => {
                    let result = QueryResult::Error(ErrorCode::NotLeaderOrFollower);
                    self.answer_query(origin, result, out);
                }
            }
        }
    }

    /// A partition of this core that could not be recovered answers nothing but why.
    fn answer_offline(
        &mut self,
        origin: QueryOrigin,
        topic_id: TopicId,
        partition: i32,
        query: &Query,
        out: &mut Outbox<Message>,
    ) {
        let entry = self.table.by_id(topic_id);
        let reason = entry.and_then(|entry| entry.offline_reason(partition));
        let result = match (query, reason) {
            (Query::LogSize, Some(reason)) => QueryResult::Offline(Arc::clone(reason)),
            (
                Query::ListOffset { .. }
                | Query::EpochEnd { .. }
                | Query::DeleteRecords { .. }
                | Query::AcceptLoss
                | Query::LogSize,
                _,
            ) => QueryResult::Error(ErrorCode::KafkaStorageError),
        };
        self.answer_query(origin, result, out);
    }

    fn run_query(
        &mut self,
        now: Now,
        origin: QueryOrigin,
        log: LogId,
        query: &Query,
        out: &mut Outbox<Message>,
    ) {
        let result = match *query {
            Query::ListOffset {
                timestamp,
                leader_epoch,
            } => match self.check_leader_epoch(log, leader_epoch) {
                Err(code) => Some(QueryResult::Error(code)),
                Ok(()) => self.list_offset(origin, log, timestamp, out),
            },
            Query::EpochEnd {
                epoch,
                current_epoch,
            } => Some(match self.check_leader_epoch(log, current_epoch) {
                Err(code) => QueryResult::Error(code),
                Ok(()) => self.epoch_end(log, epoch),
            }),
            Query::DeleteRecords { offset } => self.delete_records(origin, log, offset),
            Query::AcceptLoss => self.accept_loss(now, origin, log, out),
            Query::LogSize => Some(self.log_size(log)),
        };
        if let Some(result) = result {
            self.answer_query(origin, result, out);
        }
    }

    fn log_size(&self, log: LogId) -> QueryResult {
        QueryResult::LogSize {
            size_bytes: self.store.size_bytes(log),
            segments: self.store.segments(log).count(),
            log_start: self.store.log_start(log),
            high_watermark: self.store.high_watermark(log),
            holes: self.store.holes(log).to_vec(),
            vouched: !self.partitions[log.0 as usize].is_unvouched,
        }
    }

    fn epoch_end(&self, log: LogId, epoch: i32) -> QueryResult {
        let unknown = QueryResult::EpochEnd { epoch: -1, end: -1 };
        let Ok(wanted) = u32::try_from(epoch) else {
            return unknown;
        };
        if wanted > self.store.epoch(log).0 {
            return unknown;
        }
        match self.store.epoch_end(log, Epoch(wanted)) {
            Some((found, end)) => QueryResult::EpochEnd {
                epoch: found.as_leader_epoch(),
                end: end.0,
            },
            None => unknown,
        }
    }

    fn list_offset(
        &mut self,
        origin: QueryOrigin,
        log: LogId,
        timestamp: i64,
        out: &mut Outbox<Message>,
    ) -> Option<QueryResult> {
        let leader_epoch = self.store.epoch(log).as_leader_epoch();
        let at = |offset: Offset| QueryResult::Offset {
            offset: offset.0,
            timestamp: -1,
            leader_epoch,
        };
        let none = QueryResult::Offset {
            offset: -1,
            timestamp: -1,
            leader_epoch: -1,
        };
        let wanted = match timestamp {
            LATEST => return Some(at(self.store.high_watermark(log))),
            EARLIEST | EARLIEST_LOCAL => return Some(at(self.store.log_start(log))),
            LATEST_TIERED | EARLIEST_PENDING_UPLOAD => return Some(none),
            MAX_TIMESTAMP => match self.store.largest_timestamp(log) {
                known if known >= 0 => Wanted::Largest(known),
                _ => Wanted::Largest(0),
            },
            timestamp if timestamp >= 0 => Wanted::AtOrAfter(timestamp),
            _ => return Some(QueryResult::Error(ErrorCode::UnsupportedVersion)),
        };
        self.look_up(origin, log, TimeSearch::new(wanted), out)
    }

    /// Searches on until the record is found, there is none, or the disk has to be waited for.
    fn look_up(
        &mut self,
        origin: QueryOrigin,
        log: LogId,
        mut search: TimeSearch,
        out: &mut Outbox<Message>,
    ) -> Option<QueryResult> {
        while !search.is_found() {
            let high_watermark = self.store.high_watermark(log);
            let mut lookup = Lookup::Empty;
            if search.from < high_watermark {
                let pending = PendingLookup {
                    origin,
                    log,
                    key: self.store.key(log),
                    search,
                };
                let key = self.lookups.insert(PendingRead::Time(pending));
                let (timestamp, from, ticket) = (search.timestamp(), search.from, key.to_ticket());
                lookup = self
                    .store
                    .find_timestamp(log, timestamp, from, ticket, out.disk());
                if !matches!(lookup, Lookup::Pending) {
                    self.lookups.remove(key);
                }
            }
            match lookup {
                Lookup::Pending => return None,
                // Retriable: too many look-ups are under way, or the tail cache is exhausted.
                Lookup::Busy => return Some(QueryResult::Error(ErrorCode::LeaderNotAvailable)),
                Lookup::Empty if search.begin_again() => {}
                Lookup::Empty => break,
                Lookup::Ready(slice) => {
                    if let Err(code) = self.visit(log, &mut search, slice.bytes()) {
                        return Some(QueryResult::Error(code));
                    }
                }
            }
        }
        let (start, end) = (self.store.log_start(log), self.store.high_watermark(log));
        let lost = search.lost_in_front(self.store.holes(log), start, end);
        let found = lost.or(search.found());
        Some(QueryResult::Offset {
            offset: found.map_or(-1, |found| found.offset),
            timestamp: found.map_or(-1, |found| found.timestamp),
            leader_epoch: found.map_or(-1, |found| found.leader_epoch),
        })
    }

    fn visit(&self, log: LogId, search: &mut TimeSearch, bytes: &[u8]) -> Result<(), ErrorCode> {
        let log_start = self.store.log_start(log);
        let high_watermark = self.store.high_watermark(log);
        search
            .visit(bytes, log_start, high_watermark)
            .map_err(|error| {
                tracing::error!(%error, "timestamp look-up could not go on");
                ErrorCode::KafkaStorageError
            })
    }

    /// The bytes of a timestamp look-up have been read.
    pub(crate) fn lookup_read(
        &mut self,
        pending: PendingLookup,
        bytes: Result<&[u8], highwater_base::disk::DiskError>,
        out: &mut Outbox<Message>,
    ) {
        let PendingLookup {
            origin,
            log,
            key,
            mut search,
        } = pending;
        let result = match bytes {
            // The topic was deleted while its bytes were being read.
            _ if self.store.key(log) != key => {
                Some(QueryResult::Error(ErrorCode::UnknownTopicOrPartition))
            }
            Ok(bytes) => match self.visit(log, &mut search, bytes) {
                Ok(()) => self.look_up(origin, log, search, out),
                Err(code) => Some(QueryResult::Error(code)),
            },
            Err(error) => {
                tracing::error!(%error, "timestamp look-up could not read its segment");
                Some(QueryResult::Error(ErrorCode::KafkaStorageError))
            }
        };
        if let Some(result) = result {
            self.answer_query(origin, result, out);
        }
    }

    fn delete_records(
        &mut self,
        origin: QueryOrigin,
        log: LogId,
        offset: i64,
    ) -> Option<QueryResult> {
        let high_watermark = self.store.high_watermark(log);
        let offset = if offset == -1 {
            high_watermark
        } else {
            Offset(offset)
        };
        if offset.0 < 0 || offset > high_watermark {
            return Some(QueryResult::Error(ErrorCode::OffsetOutOfRange));
        }
        if offset <= self.store.log_start(log) {
            return Some(QueryResult::LogStart(self.store.log_start(log)));
        }
        match self.store.delete_records(log, offset) {
            Ok(()) => {
                self.partitions[log.0 as usize]
                    .trims
                    .push(PendingTrim { origin, offset });
                None
            }
            Err(_) => Some(QueryResult::Error(ErrorCode::OffsetOutOfRange)),
        }
    }

    /// A log start is durable: DeleteRecords up to it are done.
    pub(crate) fn log_start_moved(
        &mut self,
        log: LogId,
        offset: Offset,
        out: &mut Outbox<Message>,
    ) {
        let trims = std::mem::take(&mut self.partitions[log.0 as usize].trims);
        for trim in trims {
            if trim.offset <= offset {
                self.answer_query(trim.origin, QueryResult::LogStart(offset), out);
            } else {
                self.partitions[log.0 as usize].trims.push(trim);
            }
        }
    }

    /// Sends one answer to whoever asked.
    pub(crate) fn answer_query(
        &mut self,
        origin: QueryOrigin,
        result: QueryResult,
        out: &mut Outbox<Message>,
    ) {
        match origin {
            QueryOrigin::Core {
                core,
                ticket,
                index,
            } => {
                let answers = self.query_answers.entry((core, ticket)).or_default();
                answers.push((index, result));
            }
            QueryOrigin::Here { gather, index } => self.query_done(gather, index, result, out),
        }
    }

    /// The answers of a turn leave together: a mailbox holds fewer messages than a request may have
    /// questions.
    pub(crate) fn send_query_answers(&mut self, out: &mut Outbox<Message>) {
        while let Some(((core, ticket), results)) = self.query_answers.pop_first() {
            out.mail(core, Message::QueryDone { ticket, results });
        }
    }

    /// One answer is in; the last one releases the response.
    pub(crate) fn query_done(
        &mut self,
        key: Key,
        index: u32,
        result: QueryResult,
        out: &mut Outbox<Message>,
    ) {
        let Some(gather) = self.gathers.get_mut(key) else {
            return;
        };
        if let Some(place) = gather.results.get_mut(index as usize) {
            *place = result;
            gather.remaining -= 1;
        }
        if gather.remaining == 0 {
            self.finish_gather(key, out);
        }
    }

    fn finish_gather(&mut self, key: Key, out: &mut Outbox<Message>) {
        if let Some(gather) = self.gathers.remove(key) {
            self.answer_gather(&gather, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use highwater_store::StoreConfig;

    use super::*;
    use crate::test_shard::TestShard;

    /// A small cache, and more records than it holds: look-ups in the first ones read the disk.
    fn cold_shard(config: &[(&str, &str)]) -> TestShard {
        let mut shard = TestShard::new(StoreConfig {
            tail_cache_bytes: 64 << 10,
            ..StoreConfig::default()
        });
        shard.create_topic(1, config);
        for at in 0..200 {
            shard.append(0, &[at * 10], 1000);
        }
        shard
    }

    fn by_time(timestamp: i64) -> Query {
        Query::ListOffset {
            timestamp,
            leader_epoch: -1,
        }
    }

    #[test]
    fn a_topic_deleted_during_a_timestamp_look_up_is_answered_as_unknown() {
        let mut shard = cold_shard(&[]);
        let said = shard.ask(0, &by_time(15));
        assert!(!said.contains("QueryDone"), "it reads the disk: {said}");
        shard.delete_topic();
        let said = shard.settle();
        assert!(said.contains("UnknownTopicOrPartition"), "{said}");
        assert!(shard.shard.lookups.is_empty());
    }

    fn found(shard: &mut TestShard, timestamp: i64) -> String {
        let mut said = shard.ask(0, &by_time(timestamp));
        said.push_str(&shard.settle());
        let from = said.find("Offset {").expect("an offset");
        let to = said[from..].find(", leader_epoch").expect("all of it");
        said[from + 9..from + to].to_owned()
    }

    #[test]
    fn a_time_before_the_log_start_leads_to_the_first_record_left() {
        let mut shard = cold_shard(&[]);
        assert_eq!(found(&mut shard, 15), "offset: 2, timestamp: 20");
        shard.ask(0, &Query::DeleteRecords { offset: 57 });
        assert!(shard.settle().contains("LogStart"));
        assert_eq!(found(&mut shard, 15), "offset: 57, timestamp: 570");
        assert_eq!(found(&mut shard, 571), "offset: 58, timestamp: 580");
        assert_eq!(found(&mut shard, 2000), "offset: -1, timestamp: -1");
    }

    /// The index knows the time only of records that are gone: the rest is searched.
    #[test]
    fn the_search_goes_on_when_the_record_the_index_knows_of_is_gone() {
        let mut shard = TestShard::new(StoreConfig {
            tail_cache_bytes: 512 << 10,
            ..StoreConfig::default()
        });
        shard.create_topic(1, &[("segment.bytes", "262144")]);
        shard.append(0, &[90_000], 1000);
        for at in 1..2000 {
            let timestamp = if at == 1500 { 70_000 } else { at };
            shard.append(0, &[timestamp], 1000);
        }
        let largest = |shard: &mut TestShard| found(shard, MAX_TIMESTAMP);
        assert_eq!(found(&mut shard, 60_000), "offset: 0, timestamp: 90000");
        assert_eq!(largest(&mut shard), "offset: 0, timestamp: 90000");
        shard.ask(0, &Query::DeleteRecords { offset: 1 });
        assert!(shard.settle().contains("LogStart"));
        assert_eq!(found(&mut shard, 60_000), "offset: 1500, timestamp: 70000");
        assert_eq!(largest(&mut shard), "offset: 1500, timestamp: 70000");
        assert_eq!(found(&mut shard, 1999), "offset: 1500, timestamp: 70000");
        shard.ask(0, &Query::DeleteRecords { offset: 1501 });
        assert!(shard.settle().contains("LogStart"));
        assert_eq!(found(&mut shard, 1999), "offset: 1999, timestamp: 1999");
        assert_eq!(largest(&mut shard), "offset: 1999, timestamp: 1999");
    }

    /// The index already knows of records that are not durable yet.
    #[test]
    fn the_largest_time_is_that_of_a_durable_record() {
        let mut shard = cold_shard(&[]);
        let log = shard.log(0);
        let batch = crate::test_shard::batch(&[9000], 10);
        let header = highwater_base::BatchHeader::parse(&batch).expect("valid");
        let now = shard.now;
        let appended = shard.shard.store.append(log, now, &header, &batch, None);
        appended.expect("room");
        let mut said = shard.ask(0, &by_time(MAX_TIMESTAMP));
        while !said.contains("QueryDone") {
            let is_read = |it: &highwater_base::disk::DiskRequest| {
                matches!(
                    it.operation,
                    highwater_base::disk::DiskOperation::Read { .. }
                )
            };
            let at = shard.pending.iter().position(is_read).expect("it reads");
            let read = shard.pending.remove(at).expect("it is there");
            shard.pending.push_front(read);
            said = shard.execute(None);
        }
        assert!(said.contains("offset: 199, timestamp: 1990"), "{said}");
    }

    /// A mailbox is bounded, and so is what one request may make of it.
    #[test]
    fn the_answers_of_a_turn_are_one_message() {
        let mut shard = TestShard::new(StoreConfig::default());
        shard.create_topic(2, &[]);
        for _ in 0..10 {
            shard.append(0, &[1], 10);
        }
        let delete = |offset| (0, Query::DeleteRecords { offset });
        let queries: Vec<_> = (0..5000).map(|at| delete(at % 9)).collect();
        let mut said = shard.ask_all(&queries);
        said.push_str(&shard.settle());
        let messages = said.matches("QueryDone").count();
        assert!(messages <= 2, "{messages} messages");
        assert_eq!(said.matches("LogStart").count(), 5000);
    }
}

//! The consumer: assigned partitions in, records out, in order and from exactly where it was told.
//!
//! Per partition: find the start offset if it is not a number, then fetch; one fetch is prefetched
//! while the caller works on the one before. One Fetch is outstanding per broker and names all
//! partitions that have room. Fetch sessions are not used (KIP-227 makes them optional).
//!
//! A broker sends whole batches, so the first may begin before the wanted offset: those records are
//! skipped here. The last may be cut: it is fetched again. Records of aborted transactions are not
//! filtered: this is a read-uncommitted consumer.
//!
//! A failure that may pass is waited out, partition by partition, and `trouble` names it meanwhile;
//! one that stays so until somebody changes something ends the partition and `poll` tells it.
//!
//! The driver calls: `assign`; `poll_request` until it is `None`; `handle_offsets`,
//! `handle_fetch` or `handle_failure` for each; `take_metadata_wanted`; `poll`.

mod batches;
mod partition;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use highwater_base::{ErrorCode, Now};
use highwater_wire::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData,
};
use highwater_wire::{Array, EncodeError};

use self::partition::{Partition, Stage};
use crate::calls::{AnswerError, ListOffsets, OffsetAt, OffsetSpec};
use crate::error::{ClientError, ErrorKind};
use crate::metadata::MetadataCache;
use crate::record::FetchedRecord;

/// Highest version of Fetch that names topics instead of giving their ids.
pub const FETCH_VERSION_MAX: i16 = 12;

/// Where to start in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the first record, the end, or by time.
    At(OffsetSpec),
    /// At this offset.
    Offset(i64),
}

/// How a consumer fetches.
#[derive(Clone, Debug)]
pub struct ConsumerSettings {
    /// How long the broker may wait for `min_bytes`.
    pub max_wait_ms: i32,
    pub min_bytes: i32,
    /// Most bytes of one answer, and of one partition in it.
    pub max_bytes: i32,
    pub partition_max_bytes: i32,
    /// Largest size a batch may unpack to.
    pub unpacked_bytes_max: usize,
    /// Where a partition goes on whose next record is not there any more; `None` fails it.
    pub out_of_range: Option<OffsetSpec>,
}

impl Default for ConsumerSettings {
    fn default() -> ConsumerSettings {
        ConsumerSettings {
            max_wait_ms: 500,
            min_bytes: 1,
            max_bytes: 16 * 1024 * 1024,
            partition_max_bytes: 1024 * 1024,
            unpacked_bytes_max: 256 * 1024 * 1024,
            out_of_range: None,
        }
    }
}

/// Records of one partition, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    pub topic: Rc<str>,
    pub partition: i32,
    pub records: Vec<FetchedRecord>,
}

/// A request that is to be sent to `broker`.
#[derive(Clone, Debug)]
pub enum ConsumerRequest {
    /// Answer with `handle_offsets`.
    Offsets {
        request: u64,
        broker: i32,
        call: ListOffsets,
    },
    /// Encode with `encode_fetch`, answer with `handle_fetch`.
    Fetch { request: u64, broker: i32 },
}

#[derive(Debug)]
struct Outstanding {
    broker: i32,
    is_fetch: bool,
    /// Positions in `Consumer::partitions`.
    partitions: Vec<usize>,
}

/// The state machine; see the module.
#[derive(Debug)]
pub struct Consumer {
    settings: ConsumerSettings,
    partitions: Vec<Partition>,
    outstanding: BTreeMap<u64, Outstanding>,
    request_next: u64,
    /// Where `poll` looks first, so that no partition starves.
    turn: usize,
    metadata_wanted: BTreeSet<Rc<str>>,
}

impl Consumer {
    /// A consumer without partitions.
    #[must_use]
    pub fn new(settings: ConsumerSettings) -> Consumer {
        Consumer {
            settings,
            partitions: Vec::new(),
            outstanding: BTreeMap::new(),
            request_next: 0,
            turn: 0,
            metadata_wanted: BTreeSet::new(),
        }
    }

    /// Adds a partition; once per partition.
    pub fn assign(&mut self, topic: &str, partition: i32, start: Start) {
        let added = Partition::new(topic, partition, start);
        // Requests know partitions by their place, so one that is still asked about keeps it.
        let free = |one: &&mut Partition| one.is_released() && !one.requested;
        match self.partitions.iter_mut().find(free) {
            Some(place) => *place = added,
            None => self.partitions.push(added),
        }
    }

    /// Takes a partition away. What was fetched is dropped, what is under way is ignored.
    pub fn unassign(&mut self, topic: &str, partition: i32) {
        for one in &mut self.partitions {
            if *one.topic == *topic && one.index == partition {
                one.release();
            }
        }
    }

    /// The next offset the caller will see, where it is known.
    #[must_use]
    pub fn position(&self, topic: &str, partition: i32) -> Option<i64> {
        let known =
            |one: &&Partition| *one.topic == *topic && one.index == partition && !one.is_released();
        self.partitions
            .iter()
            .find(known)
            .and_then(Partition::position)
    }

    /// Whether every partition was read up to its high-water mark as last heard.
    #[must_use]
    pub fn reached_end(&self) -> bool {
        self.partitions.iter().all(Partition::reached_end)
    }

    /// The next request to send. `may_use` tells whether a broker can take one now.
    pub fn poll_request(
        &mut self,
        now: Now,
        metadata: &MetadataCache,
        may_use: &mut dyn FnMut(i32) -> bool,
    ) -> Option<ConsumerRequest> {
        self.poll_offsets(now, metadata, may_use)
            .or_else(|| self.poll_fetch(now, metadata, may_use))
    }

    fn poll_offsets(
        &mut self,
        now: Now,
        metadata: &MetadataCache,
        may_use: &mut dyn FnMut(i32) -> bool,
    ) -> Option<ConsumerRequest> {
        let mut chosen: Option<(Rc<str>, OffsetSpec, i32)> = None;
        let mut members = Vec::new();
        for at in 0..self.partitions.len() {
            let Some(spec) = self.partitions[at].to_look_up(now) else {
                continue;
            };
            let Some((leader, _)) = self.leader_of(at, now, metadata) else {
                continue;
            };
            let topic = Rc::clone(&self.partitions[at].topic);
            let this = (topic, spec, leader);
            if chosen.is_none() && may_use(leader) {
                chosen = Some(this.clone());
            }
            if chosen.as_ref() == Some(&this) {
                members.push(at);
            }
        }
        let (topic, spec, broker) = chosen?;
        let partitions = members
            .iter()
            .map(|at| self.partitions[*at].index)
            .collect();
        let call = ListOffsets {
            topic: topic.to_string(),
            partitions,
            spec,
        };
        let request = self.start(broker, false, members);
        Some(ConsumerRequest::Offsets {
            request,
            broker,
            call,
        })
    }

    fn poll_fetch(
        &mut self,
        now: Now,
        metadata: &MetadataCache,
        may_use: &mut dyn FnMut(i32) -> bool,
    ) -> Option<ConsumerRequest> {
        let mut chosen = None;
        let mut members = Vec::new();
        for at in 0..self.partitions.len() {
            if !self.partitions[at].to_fetch(now) {
                continue;
            }
            let Some((leader, epoch)) = self.leader_of(at, now, metadata) else {
                continue;
            };
            let mut fetches = self.outstanding.values().filter(|one| one.is_fetch);
            if fetches.any(|one| one.broker == leader) {
                continue;
            }
            if chosen.is_none() && may_use(leader) {
                chosen = Some(leader);
            }
            if chosen == Some(leader) {
                self.partitions[at].leader_epoch = epoch;
                members.push(at);
            }
        }
        let broker = chosen?;
        let request = self.start(broker, true, members);
        Some(ConsumerRequest::Fetch { request, broker })
    }

    fn leader_of(&mut self, at: usize, now: Now, metadata: &MetadataCache) -> Option<(i32, i32)> {
        let partition = &mut self.partitions[at];
        match metadata.leader(&partition.topic, partition.index) {
            Ok(leader) => Some(leader),
            Err(error) => {
                if error.kind() == ErrorKind::Fatal && metadata.topic(&partition.topic).is_some() {
                    partition.fail(error);
                    return None;
                }
                partition.back_off(now, error);
                self.metadata_wanted.insert(Rc::clone(&partition.topic));
                None
            }
        }
    }

    fn start(&mut self, broker: i32, is_fetch: bool, partitions: Vec<usize>) -> u64 {
        for at in &partitions {
            self.partitions[*at].requested = true;
        }
        let request = self.request_next;
        self.request_next += 1;
        self.outstanding.insert(
            request,
            Outstanding {
                broker,
                is_fetch,
                partitions,
            },
        );
        request
    }

    /// Appends the body of a planned fetch.
    ///
    /// # Errors
    /// A topic name longer than the protocol allows.
    pub fn encode_fetch(
        &self,
        request: u64,
        version: i16,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let members = self
            .outstanding
            .get(&request)
            .map_or(&[][..], |one| &one.partitions);
        let mut topics: Vec<(&str, Vec<FetchPartition>)> = Vec::new();
        for partition in members.iter().map(|at| &self.partitions[*at]) {
            let Stage::Fetching { fetch_offset, .. } = partition.stage else {
                continue;
            };
            let one = FetchPartition {
                partition: partition.index,
                current_leader_epoch: partition.leader_epoch,
                fetch_offset,
                partition_max_bytes: self.settings.partition_max_bytes,
                ..Default::default()
            };
            match topics
                .iter_mut()
                .find(|(name, _)| *name == &*partition.topic)
            {
                Some((_, list)) => list.push(one),
                None => topics.push((&partition.topic, vec![one])),
            }
        }
        let topics: Vec<FetchTopic<'_>> = topics
            .iter()
            .map(|(topic, list)| FetchTopic {
                topic,
                partitions: Array::from(list),
                ..Default::default()
            })
            .collect();
        FetchRequest {
            max_wait_ms: self.settings.max_wait_ms,
            min_bytes: self.settings.min_bytes,
            max_bytes: self.settings.max_bytes,
            topics: Array::from(&topics),
            ..Default::default()
        }
        .encode(version, out)
    }

    fn end(&mut self, request: u64) -> Vec<usize> {
        let members = self.outstanding.remove(&request).map(|one| one.partitions);
        let members = members.unwrap_or_default();
        for at in &members {
            self.partitions[*at].requested = false;
        }
        members
    }

    /// Takes the answer to a look-up of offsets.
    pub fn handle_offsets(&mut self, now: Now, request: u64, answer: Vec<OffsetAt>) {
        for at in self.end(request) {
            let index = self.partitions[at].index;
            match answer.iter().find(|one| one.partition == index) {
                Some(found) => match &found.offset {
                    Ok(offset) => self.partitions[at].found(*offset),
                    Err(error) => self.trouble_at(now, at, error.clone()),
                },
                None => self.partitions[at].left_out(now),
            }
        }
    }

    /// Takes the answer to a fetch.
    ///
    /// # Errors
    /// Bytes that do not decode; the request still waits for its `handle_failure`.
    pub fn handle_fetch(
        &mut self,
        now: Now,
        request: u64,
        version: i16,
        body: &[u8],
    ) -> Result<(), AnswerError> {
        let response = FetchResponse::parse(version, body)?;
        let members = self.end(request);
        if let Some(error) = ClientError::from_code("fetch", response.error_code, None) {
            for at in members {
                self.trouble_at(now, at, error.clone());
            }
            return Ok(());
        }
        let mut left_out = members;
        for topic in response.responses.iter() {
            for data in topic.partitions.iter() {
                let known = left_out.iter().position(|at| {
                    let partition = &self.partitions[*at];
                    *partition.topic == *topic.topic && partition.index == data.partition_index
                });
                if let Some(place) = known {
                    let at = left_out.swap_remove(place);
                    self.take_in(now, at, &data);
                }
            }
        }
        for at in left_out {
            if !self.partitions[at].is_released() {
                self.partitions[at].left_out(now);
            }
        }
        Ok(())
    }

    fn take_in(&mut self, now: Now, at: usize, data: &PartitionData<'_>) {
        let subject = self.partitions[at].subject();
        if let Some(error) = ClientError::from_code(&subject, data.error_code, None) {
            self.trouble_at(now, at, error);
            return;
        }
        let taken = self.partitions[at].take_in(data.records.unwrap_or_default());
        self.partitions[at].high_water_mark = Some(data.high_watermark);
        if let Err(error) = taken {
            self.trouble_at(now, at, error);
        }
    }

    /// A request got no answer that can be used: the connection broke, time ran out, or the two
    /// sides do not understand each other.
    pub fn handle_failure(&mut self, now: Now, request: u64, error: &ClientError) {
        for at in self.end(request) {
            self.trouble_at(now, at, error.clone());
        }
    }

    /// Why a partition does not get on at the moment, where one does not.
    #[must_use]
    pub fn trouble(&self) -> Option<&ClientError> {
        self.partitions
            .iter()
            .find_map(|partition| partition.trouble.as_ref())
    }

    fn trouble_at(&mut self, now: Now, at: usize, error: ClientError) {
        let partition = &mut self.partitions[at];
        if partition.is_released() {
            return;
        }
        if let Some(spec) = self.settings.out_of_range
            && error.code() == Some(ErrorCode::OffsetOutOfRange)
        {
            partition.go_on_at(now, spec, error);
            return;
        }
        // A topic that metadata listed and its leader does not know yet, or not any more.
        let moved = error.code() == Some(ErrorCode::UnknownTopicOrPartition);
        if error.kind() == ErrorKind::Retriable || moved {
            partition.back_off(now, error);
            self.metadata_wanted.insert(Rc::clone(&partition.topic));
        } else {
            partition.fail(error);
        }
    }

    /// The next records, one batch at a time and partitions in turn; `Ok(None)` when there are none
    /// yet.
    ///
    /// # Errors
    /// A partition that cannot go on: its offset is out of range, its data is unreadable, or it
    /// does not exist. Told once, after the records that came before; the other partitions go on.
    pub fn poll(&mut self) -> Result<Option<Fetched>, ClientError> {
        for step in 0..self.partitions.len() {
            let at = (self.turn + step) % self.partitions.len();
            let partition = &mut self.partitions[at];
            if let Some(records) = partition.next_records(self.settings.unpacked_bytes_max)? {
                self.turn = at + 1;
                let (topic, partition) = (Rc::clone(&partition.topic), partition.index);
                return Ok(Some(Fetched {
                    topic,
                    partition,
                    records,
                }));
            }
        }
        Ok(None)
    }

    /// The next moment at which a backoff ends.
    #[must_use]
    pub fn next_deadline_ns(&self, now: Now) -> Option<u64> {
        let waits = self
            .partitions
            .iter()
            .map(|partition| partition.retry_at_ns);
        waits.filter(|at| !now.reached(*at)).min()
    }

    /// Topics whose metadata turned out to be old.
    pub fn take_metadata_wanted(&mut self) -> Vec<String> {
        std::mem::take(&mut self.metadata_wanted)
            .iter()
            .map(ToString::to_string)
            .collect()
    }
}

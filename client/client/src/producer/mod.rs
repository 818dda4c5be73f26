//! The producer: records in, Produce requests out, every record delivered or failed exactly once.
//!
//! Batching without a timer: records gather in their partition's open batch until a slot is free
//! (at most `in_flight_per_partition_max` batches are in flight); whatever has gathered then leaves
//! as one batch. So a lone record leaves at once and a flood leaves in full batches.
//!
//! With acks=all the producer is idempotent (KIP-98): batches carry a producer id and sequences, a
//! retry repeats both, and the broker drops what it already has. When a batch fails for good the
//! later ones of its partition cannot be accepted under the same identity: they are settled, a new
//! producer id is taken and they are sent again under it. A batch whose fate is unknown is never
//! given another sequence. Until the broker has acknowledged a batch of an identity, only one is in
//! flight in its partition.
//!
//! The driver asks for a topic's metadata before it sends to it, and calls: `send`, then
//! `poll_request` until it is `None` and `encode_request` for each; `handle_response`,
//! `handle_failure` or `handle_unsendable` for each; `poll_identity`, `handle_identity`;
//! `take_metadata_wanted`; `poll_delivery`; `handle_timeouts` at `next_deadline_ns`.

mod batch;
mod queue;
mod response;
mod settings;
#[cfg(test)]
mod tests;

pub use settings::{Acks, Delivery, ProduceRequestPlan, ProducerSettings, Receipt};

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use highwater_base::Now;
use highwater_wire::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use highwater_wire::{Array, EncodeError};

use self::batch::{Batch, OpenBatch};
use self::queue::Queue;
use crate::calls::ProducerIdentity;
use crate::error::{ClientError, ErrorKind};
use crate::metadata::MetadataCache;
use crate::partitioner::StickyPartition;
use crate::record::RecordToSend;

/// Highest version of Produce that names topics instead of giving their ids.
pub const PRODUCE_VERSION_MAX: i16 = 12;

/// How often delivery timeouts are looked for, in ms.
const TIMEOUTS_EVERY_MS: u64 = 100;

/// Where a partition's queue stands: topic, partition.
type Key = (usize, usize);

#[derive(Debug)]
struct Topic {
    name: Rc<str>,
    sticky: StickyPartition,
    queues: Vec<Queue>,
}

/// How far the producer is with its identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Identity {
    /// Not idempotent.
    Off,
    /// To be asked for, once batches of an older one are settled.
    Wanted,
    Requested,
    Ready(ProducerIdentity),
}

/// The state machine; see the module.
#[derive(Debug)]
pub struct Producer {
    settings: ProducerSettings,
    identity: Identity,
    identity_retry_at_ns: u64,
    topics: Vec<Topic>,
    by_name: BTreeMap<Rc<str>, usize>,
    /// Queues that may have something to send.
    ready: BTreeSet<Key>,
    /// Memory of `poll_request`, empty between calls.
    candidates: Vec<Key>,
    requests: BTreeMap<u64, Vec<(Key, u64)>>,
    request_next: u64,
    batch_next: u64,
    timeouts_due_ns: u64,
    queued_bytes: usize,
    queued_records: usize,
    deliveries: VecDeque<Delivery>,
    metadata_wanted: BTreeSet<Rc<str>>,
}

impl Producer {
    /// A producer without anything queued.
    #[must_use]
    pub fn new(settings: ProducerSettings) -> Producer {
        let identity = match settings.acks {
            Acks::All => Identity::Wanted,
            Acks::None | Acks::Leader => Identity::Off,
        };
        Producer {
            settings,
            identity,
            identity_retry_at_ns: 0,
            topics: Vec::new(),
            by_name: BTreeMap::new(),
            ready: BTreeSet::new(),
            candidates: Vec::new(),
            requests: BTreeMap::new(),
            request_next: 0,
            batch_next: 0,
            timeouts_due_ns: 0,
            queued_bytes: 0,
            queued_records: 0,
            deliveries: VecDeque::new(),
            metadata_wanted: BTreeSet::new(),
        }
    }

    /// Records that were sent and neither delivered nor failed yet.
    #[must_use]
    pub fn outstanding_records(&self) -> usize {
        self.queued_records
    }

    /// The settings it was made with.
    #[must_use]
    pub fn settings(&self) -> &ProducerSettings {
        &self.settings
    }

    /// Queues a record; `token` comes back in its delivery. Returns the partition it goes to.
    ///
    /// # Errors
    /// The topic or partition is unknown to `metadata`, the record is too large, or the buffer is
    /// full: then nothing was queued.
    pub fn send(
        &mut self,
        now: Now,
        metadata: &MetadataCache,
        topic: &str,
        record: &RecordToSend<'_>,
        token: u64,
    ) -> Result<i32, ClientError> {
        let partitions = metadata.partition_count(topic)?;
        let bytes = record.bytes_max();
        let max = self.settings.batch_bytes_max;
        if !OpenBatch::default().has_room(bytes, max) {
            return Err(ClientError::RecordTooLarge { bytes, max });
        }
        if self.queued_bytes + bytes > self.settings.buffer_bytes_max {
            return Err(ClientError::BufferFull {
                max: self.settings.buffer_bytes_max,
            });
        }
        let at = self.topic_at(topic);
        let partition = match record.partition {
            Some(partition) if !(0..partitions).contains(&partition) => {
                let topic = topic.to_string();
                return Err(ClientError::UnknownPartition {
                    topic,
                    partition,
                    last: partitions - 1,
                });
            }
            Some(partition) => partition,
            None => {
                let by_key = self.settings.partitioner;
                by_key
                    .partition_of(record.key, partitions)
                    .unwrap_or_else(|| self.topics[at].sticky.current(partitions))
            }
        };
        let key = (at, partition as usize);
        let queues = &mut self.topics[at].queues;
        if queues.len() <= key.1 {
            queues.resize_with(key.1 + 1, Queue::default);
        }
        if queues[key.1]
            .open
            .as_ref()
            .is_some_and(|open| !open.has_room(bytes, max))
        {
            self.close(key);
        }
        let open = self.topics[at].queues[key.1].open.get_or_insert_default();
        let before = if open.is_empty() { 0 } else { open.bytes() };
        open.append(
            now.monotonic_ns,
            record.timestamp.unwrap_or(now.wall_ms),
            record,
            token,
        );
        self.queued_bytes += open.bytes() - before;
        self.queued_records += 1;
        self.ready.insert(key);
        Ok(partition)
    }

    fn topic_at(&mut self, name: &str) -> usize {
        if let Some(at) = self.by_name.get(name) {
            return *at;
        }
        let name: Rc<str> = Rc::from(name);
        let sticky = StickyPartition::starting_at(self.settings.sticky_start);
        self.topics.push(Topic {
            name: Rc::clone(&name),
            sticky,
            queues: Vec::new(),
        });
        self.by_name.insert(name, self.topics.len() - 1);
        self.topics.len() - 1
    }

    fn queue(&mut self, key: Key) -> &mut Queue {
        &mut self.topics[key.0].queues[key.1]
    }

    /// Turns the open batch into a waiting one.
    fn close(&mut self, key: Key) {
        let Some(open) = self.queue(key).open.take() else {
            return;
        };
        let id = self.batch_next;
        self.batch_next += 1;
        match open.close(id, self.settings.codec) {
            Ok(batch) => self.queue(key).batches.push_back(batch),
            Err((error, tokens, bytes)) => self.deliver(key, tokens, bytes, Err(error)),
        }
    }

    fn deliver(
        &mut self,
        key: Key,
        tokens: Vec<u64>,
        budget_bytes: usize,
        outcome: Result<Receipt, ClientError>,
    ) {
        self.queued_bytes -= budget_bytes;
        self.queued_records -= tokens.len();
        let topic = Rc::clone(&self.topics[key.0].name);
        self.deliveries.push_back(Delivery {
            topic,
            partition: key.1 as i32,
            tokens,
            outcome,
        });
    }

    /// The next request to send, if there is one: every partition of one leader that has a batch
    /// ready contributes one. `may_use` tells whether a broker can take a request now.
    pub fn poll_request(
        &mut self,
        now: Now,
        metadata: &MetadataCache,
        may_use: &mut dyn FnMut(i32) -> bool,
    ) -> Option<ProduceRequestPlan> {
        let may_assign = matches!(self.identity, Identity::Ready(_) | Identity::Off);
        let identity = match self.identity {
            Identity::Ready(identity) => Some(identity),
            Identity::Off | Identity::Wanted | Identity::Requested => None,
        };
        let in_flight_max = self.settings.in_flight_per_partition_max;
        let mut broker = None;
        let mut parts = Vec::new();
        let mut bytes = 0;
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.extend(self.ready.iter().copied());
        for key in candidates.drain(..) {
            let queue = self.queue(key);
            let allowed = queue.in_flight_allowed(identity, in_flight_max);
            if !queue.sendable(now.monotonic_ns, allowed, may_assign) {
                if queue.is_empty() {
                    self.ready.remove(&key);
                }
                continue;
            }
            let Some(leader) = self.leader_for(now, metadata, key) else {
                continue;
            };
            if broker.is_none() && may_use(leader) {
                broker = Some(leader);
            }
            if broker != Some(leader) {
                continue;
            }
            let Some(at) = self.waiting_batch(key, metadata) else {
                continue;
            };
            let request_bytes_max = self.settings.request_bytes_max;
            let queue = self.queue(key);
            let size = queue.batches[at].bytes.len();
            if bytes > 0 && bytes + size > request_bytes_max {
                continue;
            }
            bytes += size;
            queue.send(at, leader, identity);
            parts.push((key, queue.batches[at].id));
        }
        self.candidates = candidates;
        let broker = broker.filter(|_| !parts.is_empty())?;
        let request = self.request_next;
        self.request_next += 1;
        self.requests.insert(request, parts);
        Some(ProduceRequestPlan {
            request,
            broker,
            answered: self.settings.acks != Acks::None,
        })
    }

    /// The leader to send to; none while it is unknown or another one still owes answers.
    fn leader_for(&mut self, now: Now, metadata: &MetadataCache, key: Key) -> Option<i32> {
        let name = Rc::clone(&self.topics[key.0].name);
        match metadata.leader(&name, key.1 as i32) {
            Ok((leader, _)) => {
                let queue = self.queue(key);
                (queue.in_flight == 0 || queue.leader == leader).then_some(leader)
            }
            Err(_) => {
                self.metadata_wanted.insert(name);
                self.queue(key).back_off(now.monotonic_ns);
                None
            }
        }
    }

    fn waiting_batch(&mut self, key: Key, metadata: &MetadataCache) -> Option<usize> {
        if self.queue(key).waiting().is_none() {
            self.close(key);
            let partitions = metadata
                .partition_count(&self.topics[key.0].name)
                .unwrap_or(0);
            self.topics[key.0]
                .sticky
                .batch_left(key.1 as i32, partitions);
        }
        self.queue(key).waiting()
    }

    /// Appends the body of a planned request.
    ///
    /// # Errors
    /// A batch longer than the protocol's length field says.
    pub fn encode_request(
        &self,
        plan: &ProduceRequestPlan,
        version: i16,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let parts = self
            .requests
            .get(&plan.request)
            .map_or(&[][..], Vec::as_slice);
        let mut topics: Vec<(usize, Vec<PartitionProduceData<'_>>)> = Vec::new();
        for ((topic, partition), batch_id) in parts {
            let queue = &self.topics[*topic].queues[*partition];
            let batch = queue.batches.iter().find(|batch| batch.id == *batch_id);
            let data = PartitionProduceData {
                index: *partition as i32,
                records: batch.map(|batch| batch.bytes.as_slice()),
            };
            match topics.last_mut() {
                Some((at, list)) if at == topic => list.push(data),
                _ => topics.push((*topic, vec![data])),
            }
        }
        let topic_data: Vec<TopicProduceData<'_>> = topics
            .iter()
            .map(|(at, list)| TopicProduceData {
                name: &self.topics[*at].name,
                partition_data: Array::from(list),
                ..Default::default()
            })
            .collect();
        ProduceRequest {
            transactional_id: None,
            acks: self.settings.acks.code(),
            timeout_ms: self.settings.request_timeout_ms as i32,
            topic_data: Array::from(&topic_data),
        }
        .encode(version, out)
    }

    /// A request with acks=0 was handed to the socket: that is all there is to know about it.
    pub fn handle_sent(&mut self, request: u64) {
        assert!(
            self.settings.acks == Acks::None,
            "requests with acks are answered"
        );
        for (key, batch_id) in self.requests.remove(&request).unwrap_or_default() {
            self.complete(
                key,
                batch_id,
                Receipt {
                    base_offset: None,
                    log_append_time: None,
                },
            );
        }
    }

    fn complete(&mut self, key: Key, batch_id: u64, receipt: Receipt) {
        let queue = self.queue(key);
        let Some(at) = queue.answered(batch_id) else {
            return;
        };
        queue.went_well();
        if let Some(batch) = queue.batches.remove(at) {
            self.deliver(key, batch.tokens, batch.budget_bytes, Ok(receipt));
        }
        self.ready.insert(key);
    }

    /// Whether a producer id has to be asked for now. Once it said so, the driver owes an answer
    /// through [`Producer::handle_identity`].
    pub fn poll_identity(&mut self, now: Now) -> bool {
        if self.identity != Identity::Wanted || now.monotonic_ns < self.identity_retry_at_ns {
            return false;
        }
        let unsettled = self
            .topics
            .iter()
            .flat_map(|topic| &topic.queues)
            .any(Queue::has_sequenced);
        if unsettled || self.queued_records == 0 {
            return false;
        }
        self.identity = Identity::Requested;
        true
    }

    /// Takes the answer to a request for a producer id.
    pub fn handle_identity(&mut self, now: Now, answer: Result<ProducerIdentity, ClientError>) {
        assert!(
            self.identity == Identity::Requested,
            "an identity nobody asked for"
        );
        match answer {
            Ok(identity) => {
                self.identity = Identity::Ready(identity);
                for queue in self.topics.iter_mut().flat_map(|topic| &mut topic.queues) {
                    queue.renew();
                }
            }
            Err(error) => {
                self.identity = Identity::Wanted;
                self.identity_retry_at_ns = now.plus_ms(self.settings.identity_backoff_ms);
                if error.kind() == ErrorKind::Fatal {
                    self.fail_everything(&error);
                }
            }
        }
    }

    fn fail_everything(&mut self, error: &ClientError) {
        for key in self.keys() {
            self.close(key);
            while let Some(batch) = self.queue(key).batches.pop_front() {
                self.deliver(key, batch.tokens, batch.budget_bytes, Err(error.clone()));
            }
        }
    }

    fn keys(&self) -> Vec<Key> {
        let topics = self.topics.iter().enumerate();
        topics
            .flat_map(|(at, topic)| (0..topic.queues.len()).map(move |one| (at, one)))
            .collect()
    }

    /// Gives up batches that wait for too long and are not in flight.
    pub fn handle_timeouts(&mut self, now: Now) {
        let timeout_ms = self.settings.delivery_timeout_ms;
        let is_late = |created_ns: u64| {
            now.reached(created_ns.saturating_add(timeout_ms.saturating_mul(1_000_000)))
        };
        let expired = |batch: &Batch| !batch.in_flight && is_late(batch.created_ns);
        for key in self.keys() {
            if self
                .queue(key)
                .open
                .as_ref()
                .is_some_and(|open| is_late(open.created_ns()))
            {
                self.close(key);
            }
            while let Some(at) = self.queue(key).batches.iter().position(expired) {
                self.fail(key, at, ClientError::DeliveryTimeout { timeout_ms });
            }
        }
    }

    /// [`Producer::handle_timeouts`], at most once in a while: it looks at every batch.
    pub fn handle_timeouts_if_due(&mut self, now: Now) {
        if now.reached(self.timeouts_due_ns) {
            self.timeouts_due_ns = now.plus_ms(TIMEOUTS_EVERY_MS);
            self.handle_timeouts(now);
        }
    }

    /// Fails the batch at a position for good.
    fn fail(&mut self, key: Key, at: usize, error: ClientError) {
        let Some(batch) = self.queue(key).batches.remove(at) else {
            return;
        };
        if batch.sequence.is_some() {
            self.queue(key).gap = true;
            if matches!(self.identity, Identity::Ready(_)) {
                self.identity = Identity::Wanted;
            }
        }
        self.ready.insert(key);
        self.deliver(key, batch.tokens, batch.budget_bytes, Err(error));
    }

    /// The next moment at which waiting ends: a backoff or a delivery timeout.
    #[must_use]
    pub fn next_deadline_ns(&self, now: Now) -> Option<u64> {
        let timeout_ns = self.settings.delivery_timeout_ms.saturating_mul(1_000_000);
        let queues = self.topics.iter().flat_map(|topic| &topic.queues);
        let deadlines = queues.filter(|queue| !queue.is_empty()).flat_map(|queue| {
            let retry = Some(queue.retry_at_ns).filter(|at| !now.reached(*at));
            let oldest = queue.batches.iter().find(|batch| !batch.in_flight);
            let oldest = oldest.map(|batch| batch.created_ns);
            let oldest = oldest.or(queue.open.as_ref().map(OpenBatch::created_ns));
            let expiry = oldest.map(|created_ns| created_ns.saturating_add(timeout_ns));
            [retry, expiry].into_iter().flatten()
        });
        let identity = (self.identity == Identity::Wanted
            && !now.reached(self.identity_retry_at_ns))
        .then_some(self.identity_retry_at_ns);
        deadlines.chain(identity).min()
    }

    /// Topics whose metadata turned out to be old.
    pub fn take_metadata_wanted(&mut self) -> Vec<String> {
        std::mem::take(&mut self.metadata_wanted)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    /// The next batch whose fate is known.
    pub fn poll_delivery(&mut self) -> Option<Delivery> {
        self.deliveries.pop_front()
    }
}

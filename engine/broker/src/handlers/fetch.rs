//! Fetch (key 1): sorts out the session, starts the reading rounds, writes the answer around the
//! records.

use std::sync::Arc;

use highwater_base::{ErrorCode, Now, TopicId};
use highwater_reactor::{Outbox, SendPiece};
use highwater_wire::DecodeError;
use highwater_wire::fetch::FetchRequest;
use highwater_wire::fetch_response::{FetchResponseEncoder, FetchedPartition, FetchedTopic};

use super::{Request, as_code};
use crate::connection::Answer;
use crate::fetch::session::{FetchSession, FetchTarget, SessionRequest};
use crate::fetch::waiting::NO_WATCH;
use crate::fetch::{FetchState, PendingFetch, SessionAnswer};
use crate::message::Message;
use crate::partition_table::Owner;
use crate::shard::Shard;

/// First version that names topics by id.
const TOPIC_ID_FROM: i16 = 13;
/// Longest time a fetch may wait, whatever it asks for.
const WAIT_MS_MAX: i32 = 60_000;

impl Shard {
    pub(crate) fn handle_fetch(
        &mut self,
        now: Now,
        request: &Request,
        body: &[u8],
        out: &mut Outbox<Message>,
    ) -> Result<(), DecodeError> {
        let decoded = FetchRequest::parse(request.version, body)?;
        let mut fetch = self.new_fetch(request);
        let wanted = SessionRequest::of(decoded.session_id, decoded.session_epoch);
        match self.fetch_session(request, &decoded, wanted, &mut fetch.targets) {
            Ok(session) => fetch.session = session,
            Err(code) => {
                self.fetch_spares.push(fetch);
                self.answer_session_error(request, code, out);
                return Ok(());
            }
        }
        self.count_fetch_traffic(request, &fetch.targets);
        fetch.bytes_max = usize::try_from(decoded.max_bytes)
            .unwrap_or(0)
            .min(self.node.config.fetch_bytes_max);
        // More than one answer can hold would never come together.
        fetch.bytes_min = usize::try_from(decoded.min_bytes)
            .unwrap_or(0)
            .min(fetch.bytes_max);
        let wait_ms = decoded.max_wait_ms.clamp(0, WAIT_MS_MAX);
        fetch.deadline_ns = now.plus_ms(wait_ms as u64);
        fetch.last_round = wait_ms == 0;
        self.begin_fetch(now, fetch, out);
        Ok(())
    }

    /// Brings the connection's session up to date and lists what is to be fetched.
    fn fetch_session(
        &mut self,
        request: &Request,
        decoded: &FetchRequest<'_>,
        wanted: SessionRequest,
        targets: &mut Vec<FetchTarget>,
    ) -> Result<SessionAnswer, ErrorCode> {
        targets.clear();
        let by_id = request.version >= TOPIC_ID_FROM;
        if let SessionRequest::Continue { id, epoch } = wanted {
            // The list of what changed first, then of everything: the same memory serves both.
            self.request_targets(decoded, by_id, targets);
            let connection = self.connections.get_mut(&request.connection);
            let session = connection.and_then(|connection| connection.session.as_mut());
            let session = session.ok_or(ErrorCode::FetchSessionIdNotFound)?;
            session.advance(id, epoch)?;
            for target in targets.drain(..) {
                session.update(target)?;
            }
            for topic in decoded.forgotten_topics_data.iter() {
                let name: Arc<str> = Arc::from(topic.topic);
                for partition in topic.partitions.iter() {
                    session.forget(topic.topic_id, &name, partition);
                }
            }
            session.drop_forgotten();
            targets.extend(session.targets().cloned());
            return Ok(SessionAnswer::Incremental(id));
        }
        self.request_targets(decoded, by_id, targets);
        self.end_session(request);
        let session = match wanted {
            SessionRequest::Open if request.version >= 7 && !targets.is_empty() => {
                self.open_session(targets)
            }
            _ => None,
        };
        let id = session.as_ref().map_or(0, FetchSession::id);
        if let Some(connection) = self.connections.get_mut(&request.connection) {
            self.counters.fetch_sessions += u64::from(session.is_some());
            connection.session = session;
        }
        Ok(SessionAnswer::Full(id))
    }

    fn end_session(&mut self, request: &Request) {
        let connection = self.connections.get_mut(&request.connection);
        if connection.is_some_and(|connection| connection.session.take().is_some()) {
            self.counters.fetch_sessions -= 1;
        }
    }

    /// A session, unless this core has its share of them or the list is too long: then the client
    /// gets session id 0 and goes on without one, as with any broker whose sessions are taken.
    fn open_session(&mut self, targets: &mut [FetchTarget]) -> Option<FetchSession> {
        let share = self.node.config.fetch_sessions_max.div_ceil(self.cores);
        if self.counters.fetch_sessions >= share as u64 {
            self.counters.fetch_sessions_refused += 1;
            return None;
        }
        FetchSession::open(self.new_session_id(), targets)
    }

    /// The partitions named in a request. Topics that are known keep their name without a copy.
    fn request_targets(
        &self,
        decoded: &FetchRequest<'_>,
        by_id: bool,
        targets: &mut Vec<FetchTarget>,
    ) {
        for topic in decoded.topics.iter() {
            let name = if by_id {
                Arc::clone(&self.no_name)
            } else {
                match self.table.by_name(topic.topic) {
                    Some(entry) => Arc::clone(&entry.name),
                    None => Arc::from(topic.topic),
                }
            };
            for partition in topic.partitions.iter() {
                targets.push(FetchTarget {
                    topic_id: if by_id { topic.topic_id } else { TopicId::ZERO },
                    topic: Arc::clone(&name),
                    partition: partition.partition,
                    offset: partition.fetch_offset,
                    leader_epoch: partition.current_leader_epoch,
                    last_fetched_epoch: partition.last_fetched_epoch,
                    bytes_max: partition.partition_max_bytes,
                    session_place: 0,
                });
            }
        }
    }

    fn new_session_id(&mut self) -> i32 {
        self.next_session_id = if self.next_session_id >= i32::MAX - self.cores as i32 {
            1
        } else {
            self.next_session_id + self.cores as i32
        };
        self.next_session_id
            .saturating_add(i32::from(self.core.0))
            .max(1)
    }

    fn count_fetch_traffic(&mut self, request: &Request, targets: &[FetchTarget]) {
        let by_id = request.version >= TOPIC_ID_FROM;
        for target in targets {
            let entry = if by_id {
                self.table.by_id(target.topic_id)
            } else {
                self.table.by_name(&target.topic)
            };
            let owner = entry.and_then(|entry| entry.owner(target.partition, self.cores));
            let core = match owner {
                Some(Owner::Here(_) | Owner::Offline) => self.core,
                Some(Owner::Elsewhere(core)) => core,
                None => continue,
            };
            // What will be read is not known yet; every partition weighs the same.
            self.count_traffic(request, core, 1024);
        }
    }

    /// An entry for a request, with the memory of an earlier one.
    fn new_fetch(&mut self, request: &Request) -> PendingFetch {
        let mut fetch = self
            .fetch_spares
            .pop()
            .unwrap_or_else(|| PendingFetch::new(request));
        fetch.connection = request.connection;
        fetch.sequence = request.sequence;
        fetch.version = request.version;
        fetch.correlation_id = request.correlation_id;
        fetch.state = FetchState::Reading;
        fetch.watch = NO_WATCH;
        fetch.arrived_ns = self.meters.arrived_ns;
        (fetch.parked_ns, fetch.waited_ns, fetch.located_ns) = (None, 0, 0);
        fetch.has_read = false;
        (fetch.dirty, fetch.last_round, fetch.has_deadline) = (false, false, false);
        fetch
    }

    fn answer_session_error(
        &mut self,
        request: &Request,
        code: ErrorCode,
        out: &mut Outbox<Message>,
    ) {
        let encoder = FetchResponseEncoder::new(request.version);
        let mut bytes = out.take_bytes();
        encoder.begin(request.correlation_id, as_code(code), 0, 0, &mut bytes);
        encoder.finish(&mut bytes);
        let written = bytes.len();
        FetchResponseEncoder::set_length(&mut bytes, written, 0);
        self.complete_bytes(request.connection, request.sequence, bytes, out);
    }

    /// Which partitions the answer has to mention.
    fn mark_told(&mut self, fetch: &PendingFetch) -> Vec<bool> {
        let mut told = std::mem::take(&mut self.told_spare);
        told.clear();
        let incremental = matches!(fetch.session, SessionAnswer::Incremental(_));
        let connection = self.connections.get_mut(&fetch.connection);
        let session = connection.and_then(|connection| connection.session.as_mut());
        // A client that pipelines may have opened another session since.
        let (SessionAnswer::Full(id) | SessionAnswer::Incremental(id)) = fetch.session;
        let mut session = session.filter(|session| session.id() == id);
        for (target, read) in fetch.targets.iter().zip(&fetch.reads) {
            let news = session
                .as_mut()
                .is_none_or(|session| session.tell(target, read.high_watermark, read.log_start));
            let carries =
                read.bytes > 0 || read.error != ErrorCode::None || read.diverging.is_some();
            told.push(!incremental || carries || news);
        }
        told
    }

    /// Writes the answer: encoded bytes and record pieces in turn.
    pub(crate) fn answer_fetch(&mut self, fetch: &mut PendingFetch, out: &mut Outbox<Message>) {
        let told = self.mark_told(fetch);
        let session_id = match fetch.session {
            SessionAnswer::Full(id) | SessionAnswer::Incremental(id) => id,
        };
        let encoder = FetchResponseEncoder::new(fetch.version);
        let topics = topic_runs(fetch, &told);
        let mut answer = self.answer_spares.pop().unwrap_or_default();
        let mut bytes = out.take_bytes();
        let (mut encoded, mut record_bytes) = (0usize, 0usize);
        encoder.begin(fetch.correlation_id, 0, session_id, topics, &mut bytes);
        let mut previous: Option<usize> = None;
        for at in (0..fetch.targets.len()).filter(|at| told[*at]) {
            let (target, read) = (&fetch.targets[at], &fetch.reads[at]);
            let same = previous.is_some_and(|before| is_same_topic(&fetch.targets[before], target));
            if !same {
                if previous.is_some() {
                    encoder.end_topic(&mut bytes);
                }
                let partitions = run_length(fetch, &told, at);
                let (name, topic_id) = (&*target.topic, target.topic_id);
                encoder.topic(
                    &FetchedTopic {
                        name,
                        topic_id,
                        partitions,
                    },
                    &mut bytes,
                );
            }
            previous = Some(at);
            let partition = FetchedPartition {
                index: target.partition,
                error_code: as_code(read.error),
                high_watermark: read.high_watermark,
                log_start: read.log_start,
                diverging: read.diverging,
                record_bytes: read.bytes,
            };
            encoder.partition(&partition, &mut bytes);
            if read.bytes > 0 {
                encoded += bytes.len();
                record_bytes += read.bytes;
                answer.push(SendPiece::Bytes(std::mem::replace(
                    &mut bytes,
                    out.take_bytes(),
                )));
                let range = read.pieces_start..read.pieces_start + read.pieces_count;
                let empty = || SendPiece::Bytes(Vec::new());
                answer.extend(
                    fetch.pieces[range]
                        .iter_mut()
                        .map(|piece| std::mem::replace(piece, empty())),
                );
            }
            encoder.end_partition(&partition, &mut bytes);
        }
        if previous.is_some() {
            encoder.end_topic(&mut bytes);
        }
        encoder.finish(&mut bytes);
        encoded += bytes.len();
        answer.push(SendPiece::Bytes(bytes));
        if let Some(SendPiece::Bytes(first)) = answer.first_mut() {
            FetchResponseEncoder::set_length(first, encoded, record_bytes);
        }
        self.told_spare = told;
        self.complete(fetch.connection, fetch.sequence, Answer::Many(answer), out);
    }
}

fn is_same_topic(one: &FetchTarget, other: &FetchTarget) -> bool {
    one.topic_id == other.topic_id && one.topic == other.topic
}

/// The told targets from `from` on.
fn told_from<'a>(
    fetch: &'a PendingFetch,
    told: &'a [bool],
    from: usize,
) -> impl Iterator<Item = &'a FetchTarget> {
    let marked = fetch.targets.iter().zip(told).skip(from);
    marked.filter(|(_, told)| **told).map(|(target, _)| target)
}

/// The number of runs of one topic among the told targets.
fn topic_runs(fetch: &PendingFetch, told: &[bool]) -> usize {
    let mut runs = 0;
    let mut previous: Option<&FetchTarget> = None;
    for target in told_from(fetch, told, 0) {
        if !previous.is_some_and(|previous| is_same_topic(previous, target)) {
            runs += 1;
        }
        previous = Some(target);
    }
    runs
}

/// The length of the run that begins at `from`. Looks no further than to its end: this is asked for
/// each run.
fn run_length(fetch: &PendingFetch, told: &[bool], from: usize) -> usize {
    let first = &fetch.targets[from];
    told_from(fetch, told, from)
        .take_while(|target| is_same_topic(first, target))
        .count()
}

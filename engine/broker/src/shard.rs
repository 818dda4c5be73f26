//! The shard: one core's share of the broker, a state machine the reactor steps.
//!
//! It owns its partitions, its connections and everything pending; it talks to other shards by
//! [`Message`] only. This file has the state and the dispatch; what happens is in `produce`,
//! `fetch`, `query`, `groups`, `metadata_log` and one file per API under `handlers`.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use highwater_base::disk::{DiskCompletion, FileId};
use highwater_base::{ClusterId, CoreId, Epoch, ErrorCode, Now, TopicId};
use highwater_groups::OFFSETS_TOPIC;
use highwater_reactor::{
    CloseReason, ConnectionId, ConnectionInfo, CoreGauges, Frame, FrameVerdict, Outbox, SendPiece,
    Service, UserSignal, VolumeGauge,
};
use highwater_store::{LogId, ReadPiece, Store, StoreEvent};

use crate::config::{Advertise, NodeConfig};
use crate::connection::{Answer, Connection, Travelling};
use crate::fetch::PendingFetch;
use crate::fetch::copies::ForeignCopies;
use crate::fetch::foreign_files::ForeignFiles;
use crate::fetch::waiting::{FetchWaiters, Watches};
use crate::groups::{GroupGather, GroupHost};
use crate::memory_budget::MemoryBudget;
use crate::message::{CoreCounters, Message};
use crate::metadata::Image;
use crate::metadata::controller::Origin;
use crate::metadata::image::LookupMap;
use crate::metadata_log::{MetadataLeader, PendingChange};
use crate::meters::{Meters, PartitionMeter};
use crate::offline::OfflinePartitions;
use crate::partition_table::PartitionTable;
use crate::produce::{PendingProduce, ProduceWaiter};
use crate::producer_ids::ProducerIds;
use crate::query::{Gather, PendingRead, PendingTrim, QueryAnswers};
use crate::slab::{Key, Slab};
use highwater_wire::ApiKey;

/// Produce requests are taken while fewer bytes than the tail cache divided by this wait for the
/// disk. All append windows together grow to at most a quarter of it, too.
const UNACKNOWLEDGED_SHARES: usize = 4;
/// How long a core that could stop waits for what other cores owe its clients.
const STOP_WAIT_MS: u64 = 500;
/// Leader epoch of a partition before any election: a single node never changes it.
pub const INITIAL_EPOCH: Epoch = Epoch(0);

/// What a shard keeps beside a log: who waits for it.
#[derive(Debug, Default)]
pub struct Partition {
    pub produce_waiters: VecDeque<ProduceWaiter>,
    pub fetch_waiters: FetchWaiters,
    pub trims: Vec<PendingTrim>,
    pub meter: PartitionMeter,
    /// Its marks were lost: how far it was durable is not known.
    pub is_unvouched: bool,
}

/// What every shard of a node knows of the node.
#[derive(Clone, Debug)]
pub struct NodeIdentity {
    pub cluster_id: ClusterId,
    pub config: Arc<NodeConfig>,
    /// Host and port told to clients.
    pub advertised: (String, u16),
    pub cores: usize,
    /// Size of the volume that the data directory is on.
    pub volume: VolumeGauge,
}

/// A broker as clients see it: the node, or in direct mode one of its cores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdvertisedBroker {
    pub id: i32,
    pub host: String,
    pub port: u16,
}

impl NodeIdentity {
    fn direct_cores(&self) -> usize {
        self.cores.min(self.config.direct_cores_max).max(1)
    }

    /// The brokers clients are told of.
    #[must_use]
    pub fn brokers(&self) -> Vec<AdvertisedBroker> {
        let (host, port) = &self.advertised;
        match self.config.advertise {
            Advertise::Node => vec![AdvertisedBroker {
                id: self.config.node_id,
                host: host.clone(),
                port: *port,
            }],
            Advertise::Core => (0..self.direct_cores())
                .map(|core| AdvertisedBroker {
                    id: self.broker_of(CoreId(core as u16)),
                    host: host.clone(),
                    port: port.saturating_add(1 + core as u16),
                })
                .collect(),
        }
    }

    /// The broker id that leads the partitions of a core.
    #[must_use]
    pub fn broker_of(&self, core: CoreId) -> i32 {
        match self.config.advertise {
            Advertise::Node => self.config.node_id,
            Advertise::Core => {
                let shown = usize::from(core.0) % self.direct_cores();
                self.config.node_id * 1000 + shown as i32
            }
        }
    }

    /// The broker that clients send administrative requests to; any takes them.
    #[must_use]
    pub fn controller_id(&self) -> i32 {
        self.broker_of(CoreId(0))
    }
}

/// One core's share of the broker.
pub struct Shard {
    pub(crate) core: CoreId,
    pub(crate) cores: usize,
    pub(crate) node: NodeIdentity,
    pub(crate) image: Image,
    pub(crate) store: Store,
    pub(crate) table: PartitionTable,
    /// Of all cores.
    pub(crate) offline: OfflinePartitions,
    pub(crate) partitions: Vec<Partition>,
    /// Only on core 0.
    pub(crate) leader: Option<MetadataLeader>,

    pub(crate) connections: LookupMap<ConnectionId, Connection>,
    pub(crate) produces: Slab<PendingProduce>,
    pub(crate) produce_spares: Vec<PendingProduce>,
    pub(crate) fetches: Slab<PendingFetch>,
    pub(crate) fetch_spares: Vec<PendingFetch>,
    pub(crate) fetch_deadlines: BinaryHeap<Reverse<(u64, Key)>>,
    pub(crate) woken_fetches: Vec<Key>,
    pub(crate) watches: Watches,
    pub(crate) foreign_files: ForeignFiles,
    pub(crate) foreign_copies: ForeignCopies,
    pub(crate) read_pieces: Vec<ReadPiece>,
    pub(crate) answer_spares: Vec<Vec<SendPiece>>,
    pub(crate) gathers: Slab<Gather>,
    pub(crate) lookups: Slab<PendingRead>,
    pub(crate) query_answers: QueryAnswers,
    pub(crate) groups: GroupHost,
    pub(crate) group_gathers: Slab<GroupGather>,
    pub(crate) changes: Slab<PendingChange>,
    pub(crate) producer_ids: ProducerIds,
    pub(crate) next_session_id: i32,
    /// The name of a topic that a request gives by id.
    pub(crate) no_name: Arc<str>,
    pub(crate) told_spare: Vec<bool>,
    pub(crate) counters: CoreCounters,
    pub(crate) meters: Meters,
    counters_gathered: Vec<CoreCounters>,
    moving: Vec<ConnectionId>,
    /// Bytes appended by requests that wait for the disk.
    pub(crate) unacknowledged_bytes: usize,
    pub(crate) unacknowledged_bytes_max: usize,
    /// Connections whose produce requests wait until there are fewer.
    pub(crate) deferred: Vec<ConnectionId>,
    events: Vec<StoreEvent>,
    pub(crate) stopping: bool,
    /// The store has stopped; by then the core does too, whatever other cores still owe.
    stop_by_ns: Option<u64>,
}

/// What recovery hands to a new shard.
pub struct ShardParts {
    pub core: CoreId,
    pub node: NodeIdentity,
    pub image: Image,
    pub store: Store,
    pub table: PartitionTable,
    pub logs: Vec<LogId>,
    /// Those of `logs` whose marks were lost.
    pub unvouched: Vec<LogId>,
    pub leader: Option<MetadataLeader>,
    pub metadata_records_replayed: usize,
    /// Fresh randomness for the ids of group members.
    pub group_id_seed: u64,
}

impl Shard {
    /// A shard over what recovery found.
    #[must_use]
    pub fn new(parts: ShardParts, now: Now) -> Shard {
        let cache_bytes = parts.node.config.tail_cache_mb << 20;
        let unacknowledged_bytes_max = cache_bytes / UNACKNOWLEDGED_SHARES;
        let groups = GroupHost::new(&parts.node.config, parts.node.cores, parts.group_id_seed);
        let mut shard = Shard {
            core: parts.core,
            cores: parts.node.cores,
            node: parts.node,
            image: parts.image,
            store: parts.store,
            table: parts.table,
            offline: OfflinePartitions::default(),
            partitions: Vec::new(),
            leader: parts.leader,
            connections: LookupMap::default(),
            produces: Slab::default(),
            produce_spares: Vec::new(),
            fetches: Slab::default(),
            fetch_spares: Vec::new(),
            fetch_deadlines: BinaryHeap::new(),
            woken_fetches: Vec::new(),
            watches: Watches::default(),
            foreign_files: ForeignFiles::default(),
            foreign_copies: ForeignCopies::default(),
            read_pieces: Vec::new(),
            answer_spares: Vec::new(),
            gathers: Slab::default(),
            lookups: Slab::default(),
            query_answers: QueryAnswers::default(),
            groups,
            group_gathers: Slab::default(),
            changes: Slab::default(),
            producer_ids: ProducerIds::default(),
            next_session_id: 0,
            no_name: Arc::from(""),
            told_spare: Vec::new(),
            counters: CoreCounters {
                core: parts.core.0,
                ..CoreCounters::default()
            },
            meters: Meters::default(),
            counters_gathered: Vec::new(),
            moving: Vec::new(),
            unacknowledged_bytes: 0,
            unacknowledged_bytes_max,
            deferred: Vec::new(),
            events: Vec::new(),
            stopping: false,
            stop_by_ns: None,
        };
        for log in parts.logs {
            shard.note_partition(log);
        }
        for log in parts.unvouched {
            shard.partitions[log.0 as usize].is_unvouched = true;
        }
        if let Some(leader) = &shard.leader {
            let log = leader.log;
            shard.note_partition(log);
            shard.counters.partitions -= 1;
        }
        shard.log_restored(now);
        shard.snapshot_metadata_if_long(now, parts.metadata_records_replayed);
        shard
    }

    /// Puts an answer into its request's slot and sends whatever may leave now.
    pub(crate) fn complete(
        &mut self,
        id: ConnectionId,
        sequence: u64,
        answer: Answer,
        out: &mut Outbox<Message>,
    ) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.fill(sequence, answer);
        while let Some(answer) = connection.pop_ready() {
            match answer {
                Answer::Silence => {}
                Answer::One(piece) => {
                    connection.unsent = true;
                    out.send(id, piece);
                }
                Answer::Many(mut pieces) => {
                    connection.unsent = true;
                    for piece in pieces.drain(..) {
                        out.send(id, piece);
                    }
                    self.answer_spares.push(pieces);
                }
            }
        }
        let requests_max = self.node.config.connection_requests_max;
        if connection.paused && !connection.is_full(requests_max) && connection.moving_to.is_none()
        {
            connection.paused = false;
            out.resume(id);
        }
    }

    /// The id of a topic named in a request.
    pub(crate) fn topic_id_of(&self, name: &str) -> Result<TopicId, ErrorCode> {
        let entry = self
            .table
            .by_name(name)
            .ok_or(ErrorCode::UnknownTopicOrPartition)?;
        Ok(entry.id)
    }

    /// A response that is one run of bytes.
    pub(crate) fn complete_bytes(
        &mut self,
        id: ConnectionId,
        sequence: u64,
        bytes: Vec<u8>,
        out: &mut Outbox<Message>,
    ) {
        self.complete(id, sequence, Answer::One(SendPiece::Bytes(bytes)), out);
    }

    fn handle_events(&mut self, now: Now, out: &mut Outbox<Message>) {
        let mut events = std::mem::take(&mut self.events);
        for event in events.drain(..) {
            self.handle_event(now, event, out);
        }
        self.events = events;
    }

    fn handle_event(&mut self, now: Now, event: StoreEvent, out: &mut Outbox<Message>) {
        let metadata_log = self.leader.as_ref().map(|leader| leader.log);
        match event {
            StoreEvent::HighWatermark { log, offset } if metadata_log == Some(log) => {
                self.metadata_durable(now, offset, out);
            }
            StoreEvent::HighWatermark { log, offset } => {
                self.acknowledge(log, offset, out);
                self.offsets_durable(now, log, offset, out);
                self.wake_fetches(log, out);
            }
            StoreEvent::Discarded { log, error, .. } if metadata_log == Some(log) => {
                tracing::error!(%error, "a metadata change was given up");
                self.metadata_discarded(now, out);
            }
            StoreEvent::Discarded { log, from, error } => {
                tracing::warn!(%error, %from, "records were refused before they were on disk");
                self.fail_appends(log, from, error, out);
                self.offsets_discarded(now, log, from, error, out);
            }
            StoreEvent::LookupRead { lookup, result } => {
                let bytes = result
                    .as_ref()
                    .map(|slice| slice.bytes())
                    .map_err(|error| *error);
                match self.lookups.remove(Key::from_ticket(lookup)) {
                    Some(PendingRead::Time(pending)) => self.lookup_read(pending, bytes, out),
                    Some(PendingRead::Offsets(at)) => self.offsets_read(now, at, bytes, out),
                    None => {}
                }
            }
            StoreEvent::Located { log } => self.wake_fetches(log, out),
            StoreEvent::Damaged { log, hole } => {
                self.damaged(log, hole);
                self.offsets_damaged(now, log, out);
            }
            StoreEvent::DamagedHeader { path, error, .. } => {
                tracing::error!(%error, path, "a segment's header block is damaged, its batches are not");
            }
            StoreEvent::LogStart { log, offset } => {
                self.offsets_log_start_moved(log, offset);
                self.log_start_moved(log, offset, out);
                self.wake_fetches(log, out);
            }
            StoreEvent::StaysBehind { path, error } => {
                tracing::error!(%path, %error, "cannot be moved, written or removed; what no topic has \
                    goes to quarantine at the next start");
            }
            StoreEvent::ShutdownComplete => {
                tracing::info!(core = self.core.0, "everything is on disk");
                self.stop_by_ns = Some(now.plus_ms(STOP_WAIT_MS));
            }
            StoreEvent::Fatal { path, error } => {
                // The state of the page or the device is unknown: go down and recover from disk.
                eprintln!("highwater: {error} on {path}; stopping so that recovery decides");
                if !cfg!(mutant = "B05") {
                    std::process::abort();
                }
            }
        }
    }

    /// Starts the move of a connection whose traffic belongs elsewhere.
    fn consider_steering(&mut self, now: Now, id: ConnectionId, out: &mut Outbox<Message>) -> bool {
        if !self.node.config.steering || self.cores < 2 {
            return false;
        }
        let core = self.core;
        let Some(connection) = self.connections.get_mut(&id) else {
            return false;
        };
        // It could not be read until a join is through, and a consumer's heartbeats with it.
        if !connection.group_requests.is_empty() {
            return false;
        }
        let Some(target) = connection.steer(core) else {
            return false;
        };
        connection.moving_to = Some(target);
        self.moving.push(id);
        self.hurry_fetches_of(now, id, out);
        true
    }

    /// Hands over connections that wait for it and have nothing in flight any more.
    fn move_connections(&mut self, out: &mut Outbox<Message>) {
        let mut at = 0;
        while at < self.moving.len() {
            let id = self.moving[at];
            let Some(connection) = self.connections.get(&id) else {
                self.moving.swap_remove(at);
                continue;
            };
            if !connection.is_idle() || connection.unsent {
                at += 1;
                continue;
            }
            self.moving.swap_remove(at);
            let Some(connection) = self.connections.remove(&id) else {
                continue;
            };
            let Some(target) = connection.moving_to else {
                continue;
            };
            if connection.session.is_some() {
                self.counters.fetch_sessions -= 1;
            }
            let travelling = Travelling {
                session: connection.session,
                software: connection.client.software,
            };
            self.counters.connections -= 1;
            tracing::debug!(from = self.core.0, to = target.0, "connection moves");
            out.hand_over(id, target, Message::Adopt(travelling));
        }
    }

    /// Whether a produce request has to wait: the tail cache is for those that are being written,
    /// and a producer that is faster than the disk is slowed down at its socket.
    fn must_defer(&self, frame: &[u8]) -> bool {
        self.unacknowledged_bytes > self.unacknowledged_bytes_max
            && frame.starts_with(&(ApiKey::Produce as i16).to_be_bytes())
    }

    fn note_deferral(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&id)
            && connection.client.deferred_ns.is_none()
        {
            connection.client.deferred_ns = Some(self.meters.now_ns);
            self.meters.deferrals += 1;
        }
    }

    fn resume_deferred(&mut self, out: &mut Outbox<Message>) {
        if self.unacknowledged_bytes <= self.unacknowledged_bytes_max / 2 {
            self.deferred.drain(..).for_each(|id| out.resume(id));
        }
    }

    /// Stops once every produce request is answered, or when other cores take too long.
    fn stop_if_settled(&mut self, now: Now, out: &mut Outbox<Message>) {
        if let Some(by_ns) = self.stop_by_ns
            && (self.produces.is_empty() || now.reached(by_ns))
        {
            self.stop_by_ns = None;
            tracing::info!(core = self.core.0, "stopped cleanly");
            out.stop();
        }
    }

    fn tell_counters(&mut self) -> CoreCounters {
        self.counters.allocations = highwater_reactor::thread_allocations();
        let reactor = highwater_reactor::thread_counters();
        self.counters.cold_reads = reactor.cold_reads;
        self.counters.file_send_waits = reactor.file_send_waits;
        self.counters.connections_refused = reactor.connections_refused;
        self.counters.send_queue_full = reactor.send_queue_full;
        self.counters.receive_waits = reactor.receive_waits;
        self.counters.frames_late = reactor.frames_late;
        self.counters
    }

    fn gather_counters(&mut self, counters: CoreCounters) {
        self.counters_gathered.push(counters);
        if self.counters_gathered.len() == self.cores {
            self.counters_gathered.sort_by_key(|counters| counters.core);
            let budget = MemoryBudget::of(&self.node.config, self.cores);
            let line = serde_json::json!({
                "event": "counters",
                "memory_budget_bytes": budget.total_bytes(),
                "cores": self.counters_gathered,
            });
            println!("{line}");
            self.counters_gathered.clear();
        }
    }

    fn dispatch_message(
        &mut self,
        now: Now,
        from: CoreId,
        message: Message,
        out: &mut Outbox<Message>,
    ) {
        match message {
            Message::Metadata {
                records,
                decided_ms,
            } => {
                self.apply_metadata(now, decided_ms, &records, out);
                out.mail(from, Message::MetadataApplied);
            }
            Message::MetadataApplied => self.metadata_applied(now, out),
            Message::Change { ticket, change } => {
                self.change_for(now, Origin { core: from, ticket }, change, out);
            }
            Message::ChangeDone { ticket, outcome } => self.change_done(now, ticket, outcome, out),
            Message::Produce {
                ticket,
                arrived_ns,
                parts,
            } => {
                self.meters.arrived_ns = arrived_ns;
                self.produce_for(now, from, ticket, &parts, out);
            }
            Message::ProduceDone { ticket, results } => self.produce_done(ticket, results, out),
            Message::FetchRead {
                ticket,
                parts,
                bytes_max,
                watch_below,
            } => {
                self.fetch_for(from, ticket, &parts, bytes_max, watch_below, out);
            }
            Message::FetchData { ticket, results } => {
                self.fetch_data(now, from, ticket, results, out);
            }
            Message::FetchWake { ticket } => self.woken_fetches.push(Key::from_ticket(ticket)),
            Message::FetchUnwatch { ticket } => self.fetch_unwatch(from, ticket),
            Message::BadRange { path, position } => {
                self.store.suspect(&path, position);
            }
            Message::Query { ticket, parts } => self.queries_for(now, from, ticket, &parts, out),
            Message::QueryDone { ticket, results } => {
                for (index, result) in results {
                    self.query_done(Key::from_ticket(ticket), index, result, out);
                }
            }
            Message::Groups { ticket, parts } => self.groups_for(now, from, ticket, parts, out),
            Message::GroupsDone { ticket, results } => self.groups_done(ticket, results, out),
            Message::GroupsForget { ticket } => self.forget_groups(from, ticket),
            Message::Offline(partitions) => self.offline.learn(&partitions),
            Message::CountersAsk => {
                let counters = self.tell_counters();
                out.mail(from, Message::CountersTell(counters));
            }
            Message::CountersTell(counters) => self.gather_counters(counters),
            Message::Ops(_) => unreachable!("questions of the operations thread come from outside"),
            Message::Adopt(_) => {
                unreachable!("travelling state arrives with its connection, not by itself")
            }
        }
    }
}

impl Service for Shard {
    type Message = Message;

    fn on_start(&mut self, now: Now, out: &mut Outbox<Message>) {
        self.store.take_attached(out.disk());
        self.tell_offline(out);
        if let Some(entry) = self.table.by_name(OFFSETS_TOPIC).cloned() {
            let opened: Vec<(u32, LogId)> = entry.local_logs().collect();
            self.open_offsets(now, entry.partitions(), &opened, out);
        }
    }

    fn on_connection(
        &mut self,
        _now: Now,
        connection: ConnectionId,
        info: &ConnectionInfo,
        _out: &mut Outbox<Message>,
    ) {
        tracing::debug!(core = self.core.0, peer = %info.peer, "connection accepted");
        let mut state = Connection::new(info.peer.ip());
        state.client.info = Some(*info);
        self.connections.insert(connection, state);
        self.counters.connections += 1;
    }

    fn on_frame(
        &mut self,
        now: Now,
        connection: ConnectionId,
        frame: &Frame<'_>,
        out: &mut Outbox<Message>,
    ) -> FrameVerdict {
        self.meters.input(now);
        if self.stopping {
            // Answers under way still leave; then the sockets are shut.
            return FrameVerdict::Pause;
        }
        if self.must_defer(frame.bytes()) {
            self.counters.produces_deferred += 1;
            self.deferred.push(connection);
            self.note_deferral(connection);
            return FrameVerdict::Defer;
        }
        if let Err(reason) = self.admit(now, connection, frame, out) {
            return FrameVerdict::Close(reason);
        }
        if self.consider_steering(now, connection, out) {
            return FrameVerdict::Pause;
        }
        let requests_max = self.node.config.connection_requests_max;
        match self.connections.get_mut(&connection) {
            Some(state) if state.is_full(requests_max) => {
                state.paused = true;
                self.counters.pipelines_paused += 1;
                FrameVerdict::Pause
            }
            _ => FrameVerdict::Continue,
        }
    }

    fn on_drained(&mut self, now: Now, connection: ConnectionId, _out: &mut Outbox<Message>) {
        if let Some(state) = self.connections.get_mut(&connection) {
            state.unsent = false;
            if let Some(answered_ns) = state.client.answered_ns.take() {
                let took_ns = now.monotonic_ns.saturating_sub(answered_ns);
                self.meters.produce_reply.record(took_ns);
            }
            if let Some(answered_ns) = state.client.fetch_answered_ns.take() {
                let took_ns = now.monotonic_ns.saturating_sub(answered_ns);
                self.meters.fetch_reply.record(took_ns);
            }
        }
    }

    fn on_closed(
        &mut self,
        now: Now,
        connection: ConnectionId,
        reason: &CloseReason,
        out: &mut Outbox<Message>,
    ) {
        self.meters.input(now);
        tracing::debug!(core = self.core.0, %reason, "connection closed");
        let Some(state) = self.connections.remove(&connection) else {
            return;
        };
        self.counters.connections -= 1;
        if state.session.is_some() {
            self.counters.fetch_sessions -= 1;
        }
        for key in state.fetches {
            self.drop_fetch(key, out);
        }
        for key in state.group_requests {
            self.drop_group_request(key, out);
        }
    }

    fn on_adopted(
        &mut self,
        _now: Now,
        connection: ConnectionId,
        info: &ConnectionInfo,
        message: Message,
        _out: &mut Outbox<Message>,
    ) {
        let mut state = match message {
            Message::Adopt(travelling) => Connection::arrived(info.peer.ip(), travelling),
            other => unreachable!("a connection arrived with {other:?}"),
        };
        if state.session.is_some() {
            self.counters.fetch_sessions += 1;
        }
        state.client.info = Some(*info);
        self.connections.insert(connection, state);
        self.counters.connections += 1;
    }

    fn on_disk(&mut self, now: Now, completion: DiskCompletion, out: &mut Outbox<Message>) {
        self.meters.input(now);
        self.store
            .complete(now, completion, out.disk(), &mut self.events);
        let barrier = &mut self.meters.barrier;
        self.store
            .take_group_times(|took_ns| barrier.record(took_ns));
        self.handle_events(now, out);
    }

    fn on_message(&mut self, now: Now, from: CoreId, message: Message, out: &mut Outbox<Message>) {
        self.meters.input(now);
        self.dispatch_message(now, from, message, out);
    }

    fn on_outside(
        &mut self,
        now: Now,
        gauges: &CoreGauges,
        message: Message,
        _out: &mut Outbox<Message>,
    ) {
        self.meters.input(now);
        match message {
            Message::Ops(asked) => self.answer_ops(gauges, asked),
            other => unreachable!("only questions come from outside, not {other:?}"),
        }
    }

    fn on_bad_range(&mut self, now: Now, file: FileId, position: u64, out: &mut Outbox<Message>) {
        self.meters.input(now);
        self.bad_range(file, position, out);
    }

    fn on_timer(&mut self, now: Now, out: &mut Outbox<Message>) {
        self.meters.input(now);
        self.store.tick(now, out.disk(), &mut self.events);
        self.handle_events(now, out);
        self.expire_fetches(now, out);
        self.tick_groups(now, out);
        self.remove_expired(now, out);
    }

    fn next_deadline_ns(&self) -> Option<u64> {
        let fetch = self
            .fetch_deadlines
            .peek()
            .map(|Reverse((deadline, _))| *deadline);
        let (store, groups) = (
            self.store.next_deadline_ns(),
            self.groups.next_deadline_ns(),
        );
        let leader = self.leader.as_ref();
        let removals = leader.and_then(|leader| leader.removals.next_deadline_ns());
        [fetch, store, groups, removals, self.stop_by_ns]
            .into_iter()
            .flatten()
            .min()
    }

    fn end_turn(&mut self, now: Now, out: &mut Outbox<Message>) {
        self.meters.end_turn(now);
        self.run_woken_fetches(now, out);
        self.send_query_answers(out);
        self.send_group_answers(out);
        self.store.end_turn(now, out.disk());
        if !self.moving.is_empty() {
            self.move_connections(out);
        }
        self.resume_deferred(out);
        self.stop_if_settled(now, out);
    }

    fn on_shutdown(&mut self, now: Now, out: &mut Outbox<Message>) {
        self.meters.input(now);
        self.stopping = true;
        while let Some(Reverse((_, key))) = self.fetch_deadlines.pop() {
            self.hurry_fetch(now, key, out);
        }
        self.store.shutdown(now, out.disk());
    }

    fn on_signal(&mut self, _now: Now, signal: UserSignal, out: &mut Outbox<Message>) {
        match signal {
            UserSignal::Counters if self.core == CoreId(0) => {
                self.counters_gathered.clear();
                let own = self.tell_counters();
                for core in 1..self.cores as u16 {
                    out.mail(CoreId(core), Message::CountersAsk);
                }
                self.gather_counters(own);
            }
            UserSignal::Counters => {}
        }
    }
}

//! A coordinator with a log in memory that becomes durable, fails or is lost when the test says so.

#![allow(
    dead_code,
    reason = "each test binary compiles its own copy and uses a part"
)]

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use highwater_base::record_batch::patch_offset_and_epoch;
use highwater_base::{BatchHeader, Epoch, ErrorCode, Now, Offset};
use highwater_groups::{
    CommitRequest, CommittedOffset, Coordinator, GroupAnswer, GroupConfig, GroupRequest,
    JoinAnswer, JoinRequest, MemberIdentity, Outbox, Output, Protocol, SyncAnswer, SyncRequest,
    Ticket, WriteId,
};

pub const GROUP: &str = "group";

/// A configuration with Kafka's defaults, one partition and a short initial delay.
pub fn config() -> GroupConfig {
    GroupConfig {
        offsets_partitions: 1,
        session_timeout_min_ms: 1000,
        session_timeout_max_ms: 300_000,
        initial_rebalance_delay_ms: 3000,
        group_members_max: 100,
        groups_max: 1000,
        group_bytes_max: 1 << 20,
        offset_metadata_bytes_max: 4096,
        offsets_retention_ms: 7 * 24 * 3_600_000,
    }
}

pub struct World {
    pub coordinator: Coordinator,
    pub config: GroupConfig,
    pub now: Now,
    /// Durable batches.
    pub log: Vec<Vec<u8>>,
    pub in_flight: VecDeque<(WriteId, Vec<u8>)>,
    pub answers: BTreeMap<Ticket, GroupAnswer>,
    pub answered: BTreeMap<Ticket, usize>,
    pub truncations: usize,
    pub not_accepted: usize,
    pub next_offset: i64,
    next_ticket: u64,
    restarts: u64,
}

impl World {
    pub fn new(config: GroupConfig) -> World {
        let mut world = World {
            coordinator: Coordinator::new(config.clone(), 7),
            config,
            now: Now {
                monotonic_ns: 1_000_000_000,
                wall_ms: 1_700_000_000_000,
            },
            log: Vec::new(),
            in_flight: VecDeque::new(),
            answers: BTreeMap::new(),
            answered: BTreeMap::new(),
            truncations: 0,
            not_accepted: 0,
            next_offset: 0,
            next_ticket: 0,
            restarts: 0,
        };
        world.restart();
        world
    }

    /// The process ends and starts again with what is durable.
    pub fn restart(&mut self) {
        self.restart_where(&|_| true);
    }

    pub fn restart_where(&mut self, topic_exists: &dyn Fn(&str) -> bool) {
        self.in_flight.clear();
        self.restarts += 1;
        self.coordinator = Coordinator::new(self.config.clone(), 7 + self.restarts);
        self.coordinator.begin_loading(0);
        for batch in &self.log {
            let header = BatchHeader::parse(batch).expect("valid");
            self.coordinator
                .load_batch(0, &header, batch)
                .expect("valid");
        }
        let mut out = Outbox::new();
        self.coordinator
            .finish_loading(self.now, 0, topic_exists, &mut out);
        self.take(out);
    }

    pub fn take(&mut self, out: Outbox) {
        for output in out {
            match output {
                Output::Answer(ticket, answer) => {
                    *self.answered.entry(ticket).or_default() += 1;
                    self.answers.insert(ticket, answer);
                }
                Output::Append { write, batch, .. } => self.in_flight.push_back((write, batch)),
                Output::LossNotAccepted { .. } => self.not_accepted += 1,
                Output::TruncateBefore { offset, .. } => {
                    self.truncations += 1;
                    self.log.retain(|batch| {
                        BatchHeader::parse(batch).expect("valid").base_offset >= offset.0
                    });
                }
            }
        }
    }

    pub fn send(&mut self, request: GroupRequest) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        let mut out = Outbox::new();
        self.coordinator.handle(self.now, ticket, request, &mut out);
        self.take(out);
        ticket
    }

    /// Appends the oldest write under way to the durable log, without telling the coordinator.
    pub fn append_one(&mut self) -> Option<(WriteId, Offset)> {
        let (write, mut batch) = self.in_flight.pop_front()?;
        let base = Offset(self.next_offset);
        patch_offset_and_epoch(&mut batch, base, Epoch(1));
        let header = BatchHeader::parse(&batch).expect("valid");
        header.verify_crc(&batch).expect("valid");
        self.next_offset = header.next_offset().0;
        self.log.push(batch);
        Some((write, base))
    }

    pub fn durable_one(&mut self) {
        if let Some((write, base)) = self.append_one() {
            let mut out = Outbox::new();
            self.coordinator.durable(self.now, 0, write, base, &mut out);
            self.take(out);
        }
    }

    pub fn flush(&mut self) {
        while !self.in_flight.is_empty() {
            self.durable_one();
        }
    }

    /// Everything under way is given up.
    pub fn fail(&mut self, error: ErrorCode) {
        if let Some((write, _)) = self.in_flight.front().cloned() {
            self.in_flight.clear();
            let mut out = Outbox::new();
            self.coordinator.failed(self.now, 0, write, error, &mut out);
            self.take(out);
        }
    }

    pub fn set_time(&mut self, monotonic_ns: u64) {
        let passed_ns = monotonic_ns - self.now.monotonic_ns;
        self.now.monotonic_ns = monotonic_ns;
        self.now.wall_ms += (passed_ns / 1_000_000) as i64;
    }

    pub fn tick(&mut self) {
        let mut out = Outbox::new();
        self.coordinator.tick(self.now, &mut out);
        self.take(out);
    }

    /// Lets time pass; writes become durable at once.
    pub fn pass_ms(&mut self, ms: u64) {
        let end_ns = self.now.plus_ms(ms);
        while let Some(at_ns) = self.coordinator.next_deadline_ns() {
            if at_ns > end_ns {
                break;
            }
            self.set_time(at_ns.max(self.now.monotonic_ns));
            self.tick();
            self.flush();
        }
        self.set_time(end_ns);
    }

    pub fn ask(&mut self, request: GroupRequest) -> GroupAnswer {
        let ticket = self.send(request);
        self.flush();
        self.answer(ticket)
    }

    pub fn answer(&mut self, ticket: Ticket) -> GroupAnswer {
        self.answers.remove(&ticket).expect("it is answered")
    }

    pub fn joined(&mut self, ticket: Ticket) -> JoinAnswer {
        match self.answer(ticket) {
            GroupAnswer::Join(join) => join,
            other => panic!("not a join: {other:?}"),
        }
    }

    pub fn synced(&mut self, ticket: Ticket) -> SyncAnswer {
        match self.answer(ticket) {
            GroupAnswer::Sync(sync) => sync,
            other => panic!("not a sync: {other:?}"),
        }
    }

    pub fn heartbeat(&mut self, member: &str, generation: i32) -> ErrorCode {
        match self.ask(GroupRequest::Heartbeat(identity(member, generation))) {
            GroupAnswer::Heartbeat(error) => error,
            other => panic!("not a heartbeat: {other:?}"),
        }
    }

    /// The codes of a commit of partition 0 of a topic.
    pub fn commit(&mut self, member: &str, generation: i32, offset: i64) -> ErrorCode {
        match self.ask(commit_request(member, generation, offset)) {
            GroupAnswer::Commit(topics) => topics[0].partitions[0].1,
            other => panic!("not a commit: {other:?}"),
        }
    }

    pub fn fetch(&mut self) -> i64 {
        let topics = Some(vec![(Arc::from("topic"), vec![0])]);
        let answer = self.ask(GroupRequest::FetchOffsets {
            group: GROUP.into(),
            member: String::new(),
            member_epoch: -1,
            topics,
            require_stable: true,
        });
        match answer {
            GroupAnswer::FetchOffsets(offsets) => offsets.topics[0].1[0].committed.offset,
            other => panic!("not offsets: {other:?}"),
        }
    }

    /// The handshake: an id, and a join with it that waits.
    pub fn start_join(&mut self, client: &str) -> (String, Ticket) {
        let ticket = self.send(GroupRequest::Join(join_request(client, "")));
        let told = self.joined(ticket);
        assert_eq!(told.error, ErrorCode::MemberIdRequired);
        let ticket = self.send(GroupRequest::Join(join_request(client, &told.member)));
        (told.member, ticket)
    }

    /// A group of these clients, stable. Returns their ids, the leader first, and the generation.
    pub fn stable(&mut self, clients: &[&str]) -> (Vec<String>, i32) {
        let joins: Vec<_> = clients
            .iter()
            .map(|client| self.start_join(client))
            .collect();
        self.pass_ms(10_000);
        let mut ids = Vec::new();
        let mut generation = 0;
        let mut leader = String::new();
        for (id, ticket) in joins {
            let joined = self.joined(ticket);
            assert_eq!(joined.error, ErrorCode::None);
            (generation, leader) = (joined.generation, joined.leader);
            ids.push(id);
        }
        ids.sort_by_key(|id| *id != leader);
        self.sync_all(&ids, generation);
        (ids, generation)
    }

    /// Followers sync, then the leader, who is the first, with everyone's id as assignment.
    pub fn sync_all(&mut self, ids: &[String], generation: i32) {
        let followers: Vec<_> = ids[1..]
            .iter()
            .map(|id| self.send(sync_request(id, generation, &[])))
            .collect();
        let leader = self.send(sync_request(&ids[0], generation, ids));
        self.flush();
        assert_eq!(self.synced(leader).assignment, ids[0].as_bytes());
        for (ticket, id) in followers.into_iter().zip(&ids[1..]) {
            let synced = self.synced(ticket);
            assert_eq!(
                (synced.error, synced.assignment),
                (ErrorCode::None, id.clone().into())
            );
        }
    }

    pub fn state(&self) -> Option<(&'static str, usize)> {
        let mut groups = self.coordinator.groups();
        let found = groups.find(|group| group.group == GROUP);
        found.map(|group| (group.state.name(), group.members))
    }
}

pub fn identity(member: &str, generation: i32) -> MemberIdentity {
    MemberIdentity {
        group: GROUP.into(),
        generation,
        member: member.into(),
        instance: None,
    }
}

pub fn protocol(name: &str, metadata: &[u8]) -> Protocol {
    Protocol {
        name: name.into(),
        metadata: metadata.to_vec(),
    }
}

pub fn join_request(client: &str, member: &str) -> JoinRequest {
    JoinRequest {
        group: GROUP.into(),
        member: member.into(),
        instance: None,
        client_id: client.into(),
        client_host: "/127.0.0.1".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".into(),
        protocols: vec![protocol(
            "range",
            b"\0\0\0\0\0\x01\0\x05topic\xff\xff\xff\xff",
        )],
        require_known_member: true,
        supports_skipping_assignment: true,
        reason: None,
    }
}

pub fn sync_request(member: &str, generation: i32, assigned: &[String]) -> GroupRequest {
    GroupRequest::Sync(SyncRequest {
        identity: identity(member, generation),
        protocol_type: Some("consumer".into()),
        protocol_name: Some("range".into()),
        assignments: assigned
            .iter()
            .map(|id| (id.clone(), id.clone().into_bytes()))
            .collect(),
    })
}

pub fn commit_request(member: &str, generation: i32, offset: i64) -> GroupRequest {
    commit_of("topic", 0, identity(member, generation), offset)
}

pub fn commit_of(
    topic: &str,
    partition: i32,
    identity: MemberIdentity,
    offset: i64,
) -> GroupRequest {
    let committed = CommittedOffset {
        partition,
        offset,
        leader_epoch: 3,
        metadata: "m".into(),
    };
    GroupRequest::Commit(CommitRequest {
        identity,
        offsets: vec![(Arc::from(topic), vec![committed])],
    })
}

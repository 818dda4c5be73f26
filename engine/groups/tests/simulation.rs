//! Random clients against a log that is slow, fails and loses its end in crashes; what clients were
//! promised is checked after every step.
//!
//! A seed makes a run; a failing one is printed.

mod harness;

use std::collections::BTreeMap;
use std::sync::Arc;

use harness::{GROUP, World, config, join_request, protocol};
use highwater_base::ErrorCode;
use highwater_base::prng::Prng;
use highwater_groups::{
    CommitRequest, CommittedOffset, GroupAnswer, GroupRequest, JoinAnswer, LeavingMember,
    MemberIdentity, SyncRequest, Ticket,
};

const SEEDS: u64 = 600;
const STEPS: usize = 1500;
const CLIENTS: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Out,
    Joining(Ticket),
    MustSync,
    Syncing(Ticket),
    Member,
    Crashed,
}

#[derive(Clone, Debug)]
struct Client {
    name: String,
    is_static: bool,
    id: String,
    generation: i32,
    stage: Stage,
    protocol: Option<String>,
    assignments: Vec<(String, Vec<u8>)>,
}

impl Client {
    fn identity(&self) -> MemberIdentity {
        MemberIdentity {
            group: GROUP.into(),
            generation: self.generation,
            member: self.id.clone(),
            instance: self.is_static.then(|| self.name.clone()),
        }
    }

    /// What an error of any request means to a client.
    fn refused(&mut self, error: ErrorCode) {
        match error {
            ErrorCode::None => return,
            ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId => self.id.clear(),
            ErrorCode::RebalanceInProgress
            | ErrorCode::IllegalGeneration
            | ErrorCode::NotCoordinator => {}
            other => panic!("{} was told {other:?}", self.name),
        }
        self.stage = Stage::Out;
    }
}

struct Simulation {
    world: World,
    random: Prng,
    clients: Vec<Client>,
    /// Heartbeats, commits and leaves without an answer: whose, and the value of a commit.
    asked: BTreeMap<Ticket, (usize, i64)>,
    /// Tickets whose answer was lost with a process or a client.
    lost: Vec<Ticket>,
    sent: Vec<Ticket>,
    partitions: i32,
    is_slow: bool,
    next_value: i64,
    acknowledged: i64,
    synced_generation: i32,
    /// Per start of the process and generation: protocol and leading client.
    agreed: BTreeMap<(usize, i32), (Option<String>, String)>,
    starts: usize,
}

/// The client a member id was made for.
fn owner(id: &str) -> String {
    id[..id.len() - 37].to_owned()
}

impl Simulation {
    fn new(seed: u64) -> Simulation {
        let mut random = Prng::new(seed);
        let clients = (0..CLIENTS).map(|index| Client {
            name: format!("client{index}"),
            is_static: random.chance(1, 3),
            id: String::new(),
            generation: -1,
            stage: Stage::Out,
            protocol: None,
            assignments: Vec::new(),
        });
        let clients = clients.collect();
        Simulation {
            world: World::new(config()),
            clients,
            asked: BTreeMap::new(),
            lost: Vec::new(),
            sent: Vec::new(),
            partitions: if seed.is_multiple_of(3) { 12 } else { 2 },
            is_slow: random.chance(1, 2),
            random,
            next_value: 0,
            acknowledged: -1,
            synced_generation: 0,
            agreed: BTreeMap::new(),
            starts: 0,
        }
    }

    fn send(&mut self, request: GroupRequest) -> Ticket {
        let ticket = self.world.send(request);
        self.sent.push(ticket);
        ticket
    }

    /// The next thing a client does by itself.
    fn act(&mut self, index: usize) {
        let client = self.clients[index].clone();
        match client.stage {
            Stage::Out => {
                let mut request = join_request(&client.name, &client.id);
                request.instance = client.is_static.then(|| client.name.clone());
                // Some prefer one protocol, some the other; a few change their subscription.
                request.protocols = vec![protocol("range", b"1"), protocol("sticky", b"2")];
                if index.is_multiple_of(2) {
                    request.protocols.swap(0, 1);
                }
                if self.random.chance(1, 8) {
                    request.protocols[0]
                        .metadata
                        .push(self.random.below(9) as u8);
                }
                let ticket = self.send(GroupRequest::Join(request));
                self.clients[index].stage = Stage::Joining(ticket);
            }
            Stage::MustSync => {
                let ticket = self.send(GroupRequest::Sync(SyncRequest {
                    identity: client.identity(),
                    protocol_type: Some("consumer".into()),
                    protocol_name: client.protocol.clone(),
                    assignments: client.assignments.clone(),
                }));
                self.clients[index].stage = Stage::Syncing(ticket);
            }
            Stage::Member => {
                let ticket = self.send(GroupRequest::Heartbeat(client.identity()));
                self.asked.insert(ticket, (index, -1));
            }
            Stage::Joining(_) | Stage::Syncing(_) | Stage::Crashed => {}
        }
    }

    fn commit(&mut self, index: usize) {
        let client = &self.clients[index];
        if client.stage != Stage::Member {
            return;
        }
        let identity = client.identity();
        let value = self.next_value;
        self.next_value += 1;
        let offsets = (0..self.partitions).map(|partition| CommittedOffset {
            partition,
            offset: value,
            leader_epoch: -1,
            metadata: "m".repeat(4096),
        });
        let ticket = self.send(GroupRequest::Commit(CommitRequest {
            identity,
            offsets: vec![(Arc::from("topic"), offsets.collect())],
        }));
        self.asked.insert(ticket, (index, value));
    }

    fn leave(&mut self, index: usize) {
        let client = self.clients[index].clone();
        if client.stage != Stage::Member {
            return;
        }
        let ticket = self.send(GroupRequest::Leave {
            group: GROUP.into(),
            members: vec![LeavingMember {
                member: client.id,
                instance: client.is_static.then(|| client.name.clone()),
                reason: None,
            }],
        });
        self.asked.insert(ticket, (index, -1));
        self.clients[index].stage = Stage::Out;
        self.clients[index].id.clear();
    }

    fn crash_client(&mut self, index: usize) {
        if let Stage::Joining(ticket) | Stage::Syncing(ticket) = self.clients[index].stage {
            self.world.coordinator.forget(ticket);
            self.lost.push(ticket);
        }
        self.clients[index].stage = Stage::Crashed;
        self.clients[index].id.clear();
    }

    fn crash_process(&mut self) {
        let survives = self.random.below(self.world.in_flight.len() as u64 + 1);
        for _ in 0..survives {
            self.world.append_one();
        }
        let sent = std::mem::take(&mut self.sent);
        let open = |ticket: &Ticket| !self.world.answered.contains_key(ticket);
        self.lost.extend(sent.into_iter().filter(open));
        self.asked.clear();
        for client in &mut self.clients {
            if matches!(client.stage, Stage::Joining(_) | Stage::Syncing(_)) {
                client.stage = Stage::Out;
            }
        }
        self.starts += 1;
        self.world.restart();
    }

    /// Time passes; the log does not move by itself.
    fn pass_ms(&mut self, ms: u64) {
        let end_ns = self.world.now.plus_ms(ms);
        while let Some(at_ns) = self.world.coordinator.next_deadline_ns() {
            if at_ns > end_ns {
                break;
            }
            self.world.set_time(at_ns.max(self.world.now.monotonic_ns));
            self.world.tick();
        }
        self.world.set_time(end_ns);
    }

    fn step(&mut self) {
        let index = self.random.below(CLIENTS as u64) as usize;
        match self.random.below(1000) {
            0..350 => self.act(index),
            350..600 => self.commit(index),
            600..607 => self.leave(index),
            607..615 => self.crash_client(index),
            615..640 if self.clients[index].stage == Stage::Crashed => {
                self.clients[index].stage = Stage::Out;
            }
            640..645 => self.fail_some(),
            645..650 => self.crash_process(),
            650..750 => {
                let ms = self.random.below(2000);
                self.pass_ms(ms);
            }
            _ => self.become_durable(),
        }
        self.receive();
        self.check();
    }

    /// A slow log takes long and then much at once.
    fn become_durable(&mut self) {
        if !self.is_slow {
            return self.world.durable_one();
        }
        if self.random.chance(1, 12) {
            for _ in 0..self.random.below(20) {
                self.world.durable_one();
            }
        }
    }

    /// Some of what is under way becomes durable, the rest is given up.
    fn fail_some(&mut self) {
        for _ in 0..self.random.below(self.world.in_flight.len() as u64 + 1) {
            self.world.durable_one();
        }
        self.world.fail(ErrorCode::KafkaStorageError);
    }

    fn receive(&mut self) {
        for index in 0..CLIENTS {
            match self.clients[index].stage {
                Stage::Joining(ticket) if self.world.answers.contains_key(&ticket) => {
                    let joined = self.world.joined(ticket);
                    self.on_joined(index, joined);
                }
                Stage::Syncing(ticket) if self.world.answers.contains_key(&ticket) => {
                    let synced = self.world.synced(ticket);
                    let client = &mut self.clients[index];
                    client.stage = Stage::Member;
                    client.refused(synced.error);
                    if synced.error == ErrorCode::None {
                        assert!(client.generation >= self.synced_generation);
                        self.synced_generation = client.generation;
                    }
                }
                _ => {}
            }
        }
        let asked = std::mem::take(&mut self.asked);
        for (ticket, (index, value)) in asked {
            let error = match self.world.answers.remove(&ticket) {
                Some(GroupAnswer::Heartbeat(error)) => error,
                Some(GroupAnswer::Commit(topics)) => {
                    let error = topics[0].partitions[0].1;
                    if error == ErrorCode::None {
                        self.acknowledged = self.acknowledged.max(value);
                    }
                    error
                }
                Some(_) => ErrorCode::None,
                None => {
                    self.asked.insert(ticket, (index, value));
                    continue;
                }
            };
            // A commit that could not be written is tried again; anything else needs a join.
            let client = &mut self.clients[index];
            if client.stage == Stage::Member && error != ErrorCode::NotCoordinator {
                client.refused(error);
            }
        }
    }

    fn on_joined(&mut self, index: usize, joined: JoinAnswer) {
        let client = &mut self.clients[index];
        if joined.error == ErrorCode::MemberIdRequired {
            client.id = joined.member;
            client.stage = Stage::Out;
            return;
        }
        if joined.error != ErrorCode::None {
            return client.refused(joined.error);
        }
        let leads = joined.leader == joined.member;
        assert_eq!(
            leads,
            !joined.members.is_empty(),
            "only the leader sees the members"
        );
        let agreement = (joined.protocol_name.clone(), owner(&joined.leader));
        let key = (self.starts, joined.generation);
        let agreed = self.agreed.entry(key).or_insert_with(|| agreement.clone());
        assert_eq!(
            *agreed, agreement,
            "one protocol and one leader a generation"
        );
        client.id = joined.member;
        client.generation = joined.generation;
        client.protocol = joined.protocol_name;
        client.stage = Stage::MustSync;
        let members = joined.members.into_iter();
        client.assignments = members
            .map(|m| (m.member.clone(), m.member.into_bytes()))
            .collect();
        if joined.skip_assignment {
            client.assignments.clear();
        }
    }

    fn check(&self) {
        let answered = self.world.answered.values();
        assert!(
            answered.into_iter().all(|count| *count == 1),
            "one answer each"
        );
        let committed: Vec<i64> = self
            .world
            .coordinator
            .committed_offsets()
            .map(|e| e.offset)
            .collect();
        if self.acknowledged >= 0 {
            assert_eq!(committed.len(), self.partitions as usize);
        }
        for offset in committed {
            assert!(
                offset >= self.acknowledged,
                "an acknowledged commit was lost"
            );
            assert!(offset < self.next_value);
        }
        if let Some(group) = self.world.coordinator.groups().next() {
            assert!(
                group.generation >= self.synced_generation,
                "a generation went back"
            );
        }
    }

    /// Nothing fails any more: everyone who lives must end up in one stable generation.
    fn settle(&mut self) {
        for client in &mut self.clients {
            if client.stage == Stage::Crashed && client.is_static {
                client.stage = Stage::Out;
            }
        }
        for _ in 0..100 {
            self.pass_ms(2000);
            for index in 0..CLIENTS {
                self.act(index);
            }
            self.world.flush();
            self.receive();
            self.check();
        }
        let live = self.clients.iter().filter(|c| c.stage != Stage::Crashed);
        let live: Vec<&Client> = live.collect();
        for client in &live {
            assert_eq!(client.stage, Stage::Member, "{} is stuck", client.name);
            assert_eq!(client.generation, live[0].generation);
        }
        if !live.is_empty() {
            assert_eq!(self.world.state(), Some(("Stable", live.len())));
        }
        for ticket in &self.sent {
            let is_answered = self.world.answered.contains_key(ticket);
            assert!(
                is_answered || self.lost.contains(ticket),
                "{ticket:?} has no answer"
            );
        }
        let live_bytes = self.partitions as usize * 4200;
        let bytes: usize = self.world.log.iter().map(Vec::len).sum();
        let bound = (1 << 20) + 6 * live_bytes + (1 << 16);
        assert!(
            bytes <= bound,
            "the log has {bytes} bytes, its bound is {bound}"
        );
        assert_eq!(self.world.coordinator.pending_writes(), 0);
    }

    /// What is durable, read back, is what was served.
    fn check_reload(&mut self) {
        let describe = GroupRequest::Describe {
            group: GROUP.into(),
        };
        let before = self.world.ask(describe.clone());
        let offsets = |world: &World| -> Vec<(i32, i64)> {
            let entries = world.coordinator.committed_offsets();
            entries
                .map(|entry| (entry.partition, entry.offset))
                .collect()
        };
        let offsets_before = offsets(&self.world);
        self.world.restart();
        assert_eq!(offsets(&self.world), offsets_before);
        if self.clients.iter().any(|c| c.stage == Stage::Member) {
            assert_eq!(self.world.ask(describe), before);
        }
    }
}

struct PrintSeed(u64);

impl Drop for PrintSeed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the seed of the failing run is {}", self.0);
        }
    }
}

fn run(seed: u64) -> usize {
    let _print = PrintSeed(seed);
    let mut simulation = Simulation::new(seed);
    for _ in 0..STEPS {
        simulation.step();
    }
    simulation.settle();
    simulation.check_reload();
    simulation.world.truncations
}

#[test]
fn promises_hold_whatever_fails() {
    let truncations: usize = (0..SEEDS).map(run).sum();
    assert!(truncations > 0, "some runs write their log again");
}

//! One member of a group as a state machine: join, synchronise, stay by heartbeats, leave.
//!
//! A rebalance goes join, (the leader: look at topics, assign,) synchronise, settle. Under the eager
//! protocol the caller gives everything up before the join; under the cooperative one it goes on
//! working and gives up, after the assignment came, only what moves to somebody else, which needs
//! one more rebalance to arrive there.
//!
//! Invariants: at most one request besides a heartbeat is outstanding; an answer to one that was
//! given up is ignored. What the caller holds changes only by a [`Change`] that it has settled, and
//! no join begins before it has. Failures that pass are waited out with a bounded backoff and
//! `trouble` names them; a fatal one ends the membership and `failure` tells it.
//!
//! The driver calls: `polled` whenever the caller asks for records; `poll_request` until it is
//! `None`, with a `handle_` for each; `change` and, when that was carried out, `settled`.

mod answers;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use highwater_base::{ErrorCode, Now};

use super::assignor::{Assignor, RebalanceProtocol};
use super::protocol::{Subscription, TopicPartition};
use super::settings::GroupSettings;
use crate::calls::{
    CommittedOffset, FindCoordinator, Heartbeat, JoinGroup, JoinedGroup, LeaveGroup, OffsetCommit,
    SyncGroup,
};
use crate::error::{ClientError, ErrorKind};

/// Waits before another attempt, doubled up to the maximum.
const BACKOFF_MIN_MS: u64 = 100;
const BACKOFF_MAX_MS: u64 = 1_000;
/// No generation yet.
const GENERATION_NONE: i32 = -1;

/// What the caller has to do before the group goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// To be given up; what was read of them can still be committed.
    pub revoked: BTreeSet<TopicPartition>,
    /// Gone already: somebody else may have them, nothing can be committed.
    pub lost: BTreeSet<TopicPartition>,
    /// To be worked on from now on.
    pub added: BTreeSet<TopicPartition>,
}

/// A request of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupRequest {
    /// To any broker; answer with `handle_coordinator`.
    FindCoordinator(FindCoordinator),
    /// Renew metadata of these topics; answer with `handle_metadata`.
    Metadata {
        topics: Vec<String>,
    },
    /// The others go to the coordinator, each with the answer of its name.
    Join(JoinGroup),
    Sync(SyncGroup),
    Heartbeat(Heartbeat),
    /// Its answer does not matter.
    Leave(LeaveGroup),
}

/// A request and the number to answer it under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupCommand {
    pub request: u64,
    pub what: GroupRequest,
}

#[derive(Debug)]
enum Stage {
    /// Not in the group until the caller polls.
    Idle,
    /// The caller is to give partitions up; then the join.
    Preparing {
        change: Change,
    },
    Joining,
    /// The leader learns how many partitions there are.
    Assigning {
        joined: JoinedGroup,
    },
    Syncing {
        assignments: Vec<(String, Vec<u8>)>,
    },
    /// The caller is to carry out an assignment.
    Settling {
        target: BTreeSet<TopicPartition>,
        change: Change,
    },
    Stable,
    /// For good: left, or failed.
    Ended,
}

/// What an error means for a member, as Java has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reaction {
    /// Ask the same coordinator again.
    Retry,
    /// The coordinator is another one, or cannot be reached.
    FindCoordinator,
    /// Take part in the rebalance that is under way.
    Rejoin,
    /// The group went on without us: begin as a new member.
    StartOver,
    Fail,
}

fn reaction(error: &ClientError) -> Reaction {
    match error.code() {
        Some(ErrorCode::CoordinatorLoadInProgress | ErrorCode::UnstableOffsetCommit) => {
            Reaction::Retry
        }
        Some(ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable) => {
            Reaction::FindCoordinator
        }
        Some(ErrorCode::RebalanceInProgress) => Reaction::Rejoin,
        // The last one: a coordinator that came back without the group says so to a commit.
        Some(
            ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration | ErrorCode::GroupIdNotFound,
        ) => Reaction::StartOver,
        Some(_) if error.kind() == ErrorKind::Retriable => Reaction::Retry,
        Some(_) => Reaction::Fail,
        // A coordinator that is down for now is waited for, whatever kept it from answering.
        None => match error {
            ClientError::Connect { .. }
            | ClientError::UnknownBroker { .. }
            | ClientError::Disconnected { .. }
            | ClientError::Timeout { .. } => Reaction::FindCoordinator,
            _ => Reaction::Fail,
        },
    }
}

/// The state machine; see the module.
#[derive(Debug)]
pub struct Membership {
    settings: GroupSettings,
    topics: BTreeSet<String>,
    stage: Stage,
    coordinator_known: bool,
    member_id: String,
    generation: i32,
    /// The assignor of this generation.
    protocol: String,
    /// What the caller works on, and since which generation.
    owned: BTreeSet<TopicPartition>,
    owned_generation: i32,
    /// The group went on without us while the caller carries out a change.
    forfeited: bool,
    /// Why a rebalance is due.
    rejoin: Option<&'static str>,
    /// Of the leader: the topics of all members, and how many partitions it assigned.
    watched: Option<BTreeSet<String>>,
    assigned_counts: BTreeMap<String, i32>,
    outstanding: Option<u64>,
    heartbeat: Option<u64>,
    leave: Option<LeaveGroup>,
    request_next: u64,
    retry_at_ns: u64,
    backoff_ms: u64,
    heartbeat_at_ns: u64,
    metadata_at_ns: u64,
    poll_before_ns: u64,
    trouble: Option<ClientError>,
    failure: Option<ClientError>,
}

impl Membership {
    /// A member that joins when its caller polls for the first time.
    #[must_use]
    pub fn new(settings: GroupSettings, topics: &[String]) -> Membership {
        Membership {
            settings,
            topics: topics.iter().cloned().collect(),
            stage: Stage::Idle,
            coordinator_known: false,
            member_id: String::new(),
            generation: GENERATION_NONE,
            protocol: String::new(),
            owned: BTreeSet::new(),
            owned_generation: GENERATION_NONE,
            forfeited: false,
            rejoin: None,
            watched: None,
            assigned_counts: BTreeMap::new(),
            outstanding: None,
            heartbeat: None,
            leave: None,
            request_next: 0,
            retry_at_ns: 0,
            backoff_ms: 0,
            heartbeat_at_ns: 0,
            metadata_at_ns: 0,
            poll_before_ns: 0,
            trouble: None,
            failure: None,
        }
    }

    /// Replaces the topics; the group rebalances.
    pub fn subscribe(&mut self, topics: &[String]) {
        let topics: BTreeSet<String> = topics.iter().cloned().collect();
        if topics != self.topics {
            self.topics = topics;
            self.rejoin = Some("the member subscribed to other topics");
        }
    }

    /// What the caller works on.
    #[must_use]
    pub fn owned(&self) -> &BTreeSet<TopicPartition> {
        &self.owned
    }

    /// Whether the member has its assignment and no rebalance is due.
    #[must_use]
    pub fn is_stable(&self) -> bool {
        matches!(self.stage, Stage::Stable) && self.rejoin.is_none()
    }

    /// The generation the member is in, if it is in one.
    #[must_use]
    pub fn generation(&self) -> Option<i32> {
        Some(self.generation).filter(|generation| *generation >= 0)
    }

    /// The coordinator's name for the member; empty before it gave one.
    #[must_use]
    pub fn member_id(&self) -> &str {
        &self.member_id
    }

    /// What is in the way at the moment and tried again.
    #[must_use]
    pub fn trouble(&self) -> Option<&ClientError> {
        self.trouble.as_ref()
    }

    /// Why the membership ended, where the group ended it.
    #[must_use]
    pub fn failure(&self) -> Option<&ClientError> {
        self.failure.as_ref()
    }

    /// The caller asks for records: it lives.
    pub fn polled(&mut self, now: Now) {
        self.poll_before_ns = now.plus_ms(self.settings.poll_interval_max_ms);
        if matches!(self.stage, Stage::Idle) {
            self.stage = Stage::Joining;
        }
    }

    /// What the caller has to do; the same until it is settled.
    #[must_use]
    pub fn change(&self) -> Option<&Change> {
        match &self.stage {
            Stage::Preparing { change } | Stage::Settling { change, .. } => Some(change),
            _ => None,
        }
    }

    /// The caller carried out what `change` said.
    pub fn settled(&mut self, now: Now) {
        match std::mem::replace(&mut self.stage, Stage::Joining) {
            Stage::Preparing { change } => {
                let gone = |one: &TopicPartition| {
                    change.revoked.contains(one) || change.lost.contains(one)
                };
                self.owned.retain(|one| !gone(one));
            }
            Stage::Settling { target, change } => {
                self.owned = target;
                self.owned_generation = self.generation;
                self.stage = Stage::Stable;
                self.metadata_at_ns = now.plus_ms(self.settings.metadata_interval_ms);
                if !change.revoked.is_empty() {
                    self.rejoin = Some("the member gave up partitions that others wait for");
                }
                if std::mem::take(&mut self.forfeited) {
                    self.start_over();
                }
            }
            other => self.stage = other,
        }
    }

    /// A commit in the name of the member.
    ///
    /// # Errors
    /// It is in no generation. A commit in nobody's name would not be refused by a group that has
    /// become empty, and set back whoever worked on the partitions since.
    pub fn commit(
        &self,
        offsets: BTreeMap<TopicPartition, CommittedOffset>,
    ) -> Result<OffsetCommit, ClientError> {
        let group = self.settings.group.clone();
        if self.generation == GENERATION_NONE {
            return Err(ClientError::NotMember { group });
        }
        Ok(OffsetCommit {
            group,
            generation: self.generation,
            member_id: self.member_id.clone(),
            instance_id: self.settings.instance_id.clone(),
            offsets,
        })
    }

    /// Whether a commit is still one of the generation that the member is in.
    ///
    /// # Errors
    /// The group went on since, with or without the member.
    pub fn check_commit(&self, commit: &OffsetCommit) -> Result<(), ClientError> {
        let same = commit.generation == self.generation && commit.member_id == self.member_id;
        match same {
            true => Ok(()),
            false => Err(ClientError::NotMember {
                group: commit.group.clone(),
            }),
        }
    }

    /// Ends the membership. A dynamic member tells the coordinator, which need not wait for its
    /// session timeout then; a static one is expected back.
    pub fn leave(&mut self, reason: &str) -> Option<LeaveGroup> {
        self.stage = Stage::Ended;
        self.outstanding = None;
        let leave = self.leave_request(reason);
        self.forget_member();
        leave
    }

    fn leave_request(&self, reason: &str) -> Option<LeaveGroup> {
        let is_member = !self.member_id.is_empty() && self.settings.instance_id.is_none();
        is_member.then(|| LeaveGroup {
            group: self.settings.group.clone(),
            member_id: self.member_id.clone(),
            instance_id: None,
            reason: reason.to_string(),
        })
    }

    fn forget_member(&mut self) {
        self.generation = GENERATION_NONE;
        self.member_id.clear();
        self.heartbeat = None;
        self.watched = None;
    }

    /// The group does not know us any more: everything is lost, and we join as somebody new.
    fn start_over(&mut self) {
        self.forget_member();
        self.outstanding = None;
        self.rejoin = None;
        self.owned_generation = GENERATION_NONE;
        if let Stage::Settling { .. } = self.stage {
            // The caller is in the middle of it; what it has got is lost when it is done.
            self.forfeited = true;
            return;
        }
        let change = Change {
            lost: self.owned.clone(),
            ..Change::default()
        };
        self.stage = match change.lost.is_empty() {
            true => Stage::Joining,
            false => Stage::Preparing { change },
        };
    }

    /// The next request to send.
    pub fn poll_request(&mut self, now: Now) -> Option<GroupCommand> {
        if matches!(self.stage, Stage::Ended) {
            return None;
        }
        self.leave_when_not_polled(now);
        if self.is_stable_for_rejoin() {
            self.begin_rejoin();
        }
        if let Some(leave) = self.leave.take_if(|_| self.coordinator_known) {
            let request = self.number();
            let what = GroupRequest::Leave(leave);
            return Some(GroupCommand { request, what });
        }
        self.poll_heartbeat(now).or_else(|| self.poll_step(now))
    }

    fn leave_when_not_polled(&mut self, now: Now) {
        if matches!(self.stage, Stage::Idle) || !now.reached(self.poll_before_ns) {
            return;
        }
        if self.generation == GENERATION_NONE {
            return;
        }
        self.leave = self.leave_request("the caller did not poll within poll_interval_max_ms");
        self.start_over();
        // Without anything to hand back, the next poll is what brings us in again.
        if matches!(self.stage, Stage::Joining) {
            self.stage = Stage::Idle;
        }
    }

    fn is_stable_for_rejoin(&self) -> bool {
        matches!(self.stage, Stage::Stable) && self.rejoin.is_some()
    }

    fn begin_rejoin(&mut self) {
        let eager = Assignor::protocol(&self.settings.assignors) == RebalanceProtocol::Eager;
        let goes = |one: &&TopicPartition| eager || !self.topics.contains(&one.topic);
        let change = Change {
            revoked: self.owned.iter().filter(goes).cloned().collect(),
            ..Change::default()
        };
        self.outstanding = None;
        self.stage = match change.revoked.is_empty() {
            true => Stage::Joining,
            false => Stage::Preparing { change },
        };
    }

    fn number(&mut self) -> u64 {
        self.request_next += 1;
        self.request_next
    }

    /// While partitions are held or awaited by a joined member, the coordinator hears of it.
    fn poll_heartbeat(&mut self, now: Now) -> Option<GroupCommand> {
        let lives = matches!(
            self.stage,
            Stage::Stable | Stage::Settling { .. } | Stage::Preparing { .. }
        );
        let due = lives
            && self.coordinator_known
            && self.generation != GENERATION_NONE
            && self.heartbeat.is_none()
            && now.reached(self.heartbeat_at_ns);
        if !due {
            return None;
        }
        self.heartbeat_at_ns = now.plus_ms(self.settings.heartbeat_interval_ms);
        let request = self.number();
        self.heartbeat = Some(request);
        let what = GroupRequest::Heartbeat(Heartbeat {
            group: self.settings.group.clone(),
            generation: self.generation,
            member_id: self.member_id.clone(),
            instance_id: self.settings.instance_id.clone(),
        });
        Some(GroupCommand { request, what })
    }

    fn poll_step(&mut self, now: Now) -> Option<GroupCommand> {
        if self.outstanding.is_some() || !now.reached(self.retry_at_ns) {
            return None;
        }
        let what = match &self.stage {
            Stage::Idle | Stage::Ended => return None,
            _ if !self.coordinator_known => GroupRequest::FindCoordinator(FindCoordinator {
                group: self.settings.group.clone(),
            }),
            Stage::Joining => self.join(),
            Stage::Assigning { .. } => self.look_at_topics()?,
            Stage::Syncing { assignments } => GroupRequest::Sync(SyncGroup {
                group: self.settings.group.clone(),
                generation: self.generation,
                member_id: self.member_id.clone(),
                instance_id: self.settings.instance_id.clone(),
                protocol: self.protocol.clone(),
                assignments: assignments.clone(),
            }),
            Stage::Stable if now.reached(self.metadata_at_ns) => self.look_at_topics()?,
            Stage::Stable | Stage::Preparing { .. } | Stage::Settling { .. } => return None,
        };
        if matches!(what, GroupRequest::Join(_)) {
            self.rejoin = None;
        }
        let request = self.number();
        self.outstanding = Some(request);
        Some(GroupCommand { request, what })
    }

    fn join(&self) -> GroupRequest {
        let owned: Vec<TopicPartition> = self.owned.iter().cloned().collect();
        let protocols = self.settings.assignors.iter().map(|assignor| {
            let subscription = Subscription {
                topics: self.topics.iter().cloned().collect(),
                user_data: assignor.user_data(self.owned_generation),
                owned: owned.clone(),
                generation: Some(self.owned_generation),
                rack: None,
            };
            (assignor.name().to_string(), subscription.encode())
        });
        GroupRequest::Join(JoinGroup {
            group: self.settings.group.clone(),
            member_id: self.member_id.clone(),
            instance_id: self.settings.instance_id.clone(),
            session_timeout_ms: self.settings.session_timeout_ms as i32,
            rebalance_timeout_ms: self.settings.poll_interval_max_ms as i32,
            protocols: protocols.collect(),
            reason: self.rejoin.map(String::from),
        })
    }

    fn look_at_topics(&self) -> Option<GroupRequest> {
        let topics = self.watched.as_ref()?.iter().cloned().collect();
        Some(GroupRequest::Metadata { topics })
    }

    /// The next moment at which something becomes due.
    #[must_use]
    pub fn next_deadline_ns(&self, now: Now) -> Option<u64> {
        let mut deadlines = vec![self.retry_at_ns];
        if self.generation != GENERATION_NONE {
            deadlines.extend([self.heartbeat_at_ns, self.poll_before_ns]);
        }
        if self.watched.is_some() {
            deadlines.push(self.metadata_at_ns);
        }
        let deadlines = deadlines.into_iter();
        deadlines.filter(|at| !now.reached(*at)).min()
    }
}

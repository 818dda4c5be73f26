//! One group: its state, its members, and the rules between them.
//!
//! Invariants: Empty has no members, every other state has at least one (PreparingRebalance may have
//! lost its last). `supported` counts, per protocol, the members that support it; `joins_waiting`
//! the members whose join waits. A static instance maps to exactly one member id. `wake_ns` is never
//! later than the earliest deadline inside.
//!
//! What the requests do is in `join`, `sync` and `leave`; the phases of a rebalance in `rebalance`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use highwater_base::{ErrorCode, Now, Timestamp};

use crate::answer::{JoinAnswer, JoinedMember};
use crate::coordinator::Ticket;
use crate::log_records::{StoredGroup, StoredOffset};
use crate::member::Member;
use crate::request::{JoinRequest, Protocol};
use crate::slot::Slot;

/// Kafka's states. A group that is `Dead` is one that does not exist here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupState {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
}

impl GroupState {
    /// Every state.
    pub const ALL: [GroupState; 4] = [
        GroupState::Empty,
        GroupState::PreparingRebalance,
        GroupState::CompletingRebalance,
        GroupState::Stable,
    ];

    /// Kafka's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::PreparingRebalance => "PreparingRebalance",
            GroupState::CompletingRebalance => "CompletingRebalance",
            GroupState::Stable => "Stable",
        }
    }
}

/// When the join phase ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JoinDeadline {
    /// The first rebalance of an empty group waits for more members, in steps.
    Initial {
        at_ns: u64,
        step_ms: u64,
        remaining_ms: u64,
    },
    /// The rebalance timeout.
    Rebalance { at_ns: u64 },
}

impl JoinDeadline {
    pub(crate) fn at_ns(self) -> u64 {
        match self {
            JoinDeadline::Initial { at_ns, .. } | JoinDeadline::Rebalance { at_ns } => at_ns,
        }
    }
}

/// A static member that came back under a new id, as far as it may have to be undone.
#[derive(Debug)]
pub(crate) struct Replaced {
    pub ticket: Ticket,
    pub instance: String,
    pub old_id: String,
    pub new_id: String,
    pub generation: i32,
    pub former_leader: Option<String>,
    pub former_protocols: Vec<Protocol>,
    pub former_session_timeout_ms: u64,
    pub former_rebalance_timeout_ms: u64,
    pub supports_skipping_assignment: bool,
}

/// Offsets of a group, by topic and partition.
pub(crate) type Offsets = BTreeMap<Arc<str>, BTreeMap<i32, Slot<StoredOffset>>>;

/// One group.
#[derive(Debug)]
pub(crate) struct Group {
    pub id: Arc<str>,
    pub state: GroupState,
    pub previous: GroupState,
    pub generation: i32,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub leader: Option<String>,
    pub state_timestamp: Timestamp,
    pub members: BTreeMap<String, Member>,
    pub instances: BTreeMap<String, String>,
    /// Ids given out by MEMBER_ID_REQUIRED, and until when they may be used.
    pub pending_joins: BTreeMap<String, u64>,
    /// Members that have not asked for their assignment in this generation.
    pub pending_syncs: BTreeSet<String>,
    pub joins_waiting: usize,
    supported: BTreeMap<String, usize>,
    /// Sum of [`Member::bytes`] and of the member ids.
    pub bytes: usize,
    pub join_deadline: Option<JoinDeadline>,
    pub sync_deadline_ns: Option<u64>,
    /// Someone joined since the last step of the initial delay.
    pub newly_joined: bool,
    /// The generation whose assignment is being written.
    pub assigning: Option<i32>,
    pub record: Slot<Arc<[u8]>>,
    pub offsets: Offsets,
    pub wake_ns: u64,
    /// What the coordinator's timers hold for this group.
    pub armed_ns: Option<u64>,
}

impl Group {
    pub(crate) fn new(id: Arc<str>) -> Group {
        Group {
            id,
            state: GroupState::Empty,
            previous: GroupState::Empty,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            state_timestamp: -1,
            members: BTreeMap::new(),
            instances: BTreeMap::new(),
            pending_joins: BTreeMap::new(),
            pending_syncs: BTreeSet::new(),
            joins_waiting: 0,
            supported: BTreeMap::new(),
            bytes: 0,
            join_deadline: None,
            sync_deadline_ns: None,
            newly_joined: false,
            assigning: None,
            record: Slot::default(),
            offsets: BTreeMap::new(),
            wake_ns: u64::MAX,
            armed_ns: None,
        }
    }

    pub(crate) fn transition(&mut self, now: Now, state: GroupState) {
        self.previous = self.state;
        self.state = state;
        self.state_timestamp = now.wall_ms;
    }

    /// The group wants to be looked at by then.
    pub(crate) fn wake_by(&mut self, at_ns: u64) {
        self.wake_ns = self.wake_ns.min(at_ns);
    }

    /// Starts the session of a member anew.
    pub(crate) fn renew_session(&mut self, now: Now, id: &str) {
        if let Some(member) = self.members.get_mut(id) {
            let at_ns = member.renew_session(now);
            self.wake_by(at_ns);
        }
    }

    pub(crate) fn is_leader(&self, id: &str) -> bool {
        self.leader.as_deref() == Some(id)
    }

    pub(crate) fn leader_id(&self) -> String {
        self.leader.clone().unwrap_or_default()
    }

    fn count_protocols(&mut self, protocols: &[Protocol]) {
        for protocol in protocols {
            *self.supported.entry(protocol.name.clone()).or_default() += 1;
        }
    }

    fn discount_protocols(&mut self, protocols: &[Protocol]) {
        for protocol in protocols {
            if let Some(count) = self.supported.get_mut(&protocol.name) {
                *count -= 1;
                if *count == 0 {
                    self.supported.remove(&protocol.name);
                }
            }
        }
    }

    /// Adds a member; the first one leads and decides the type of protocol.
    pub(crate) fn add(&mut self, id: &str, protocol_type: &str, member: Member) {
        if self.members.is_empty() {
            self.protocol_type = Some(protocol_type.to_owned());
        }
        self.pending_joins.remove(id);
        self.leader.get_or_insert_with(|| id.to_owned());
        if let Some(instance) = &member.instance {
            self.instances.insert(instance.clone(), id.to_owned());
        }
        self.joins_waiting += usize::from(member.join.is_some());
        self.bytes += id.len() + member.bytes();
        self.wake_by(member.session_deadline_ns);
        self.count_protocols(&member.protocols);
        self.members.insert(id.to_owned(), member);
    }

    /// Removes a member; what it waited for is the caller's to answer.
    pub(crate) fn remove(&mut self, id: &str) -> Option<Member> {
        self.pending_joins.remove(id);
        self.pending_syncs.remove(id);
        let member = self.members.remove(id)?;
        self.joins_waiting -= usize::from(member.join.is_some());
        self.bytes -= id.len() + member.bytes();
        self.discount_protocols(&member.protocols);
        if let Some(instance) = &member.instance {
            self.instances.remove(instance);
        }
        if self.is_leader(id) {
            self.leader = self.members.keys().next().cloned();
        }
        Some(member)
    }

    /// Takes over what a repeated join announces and lets it wait. Returns the join it replaces.
    pub(crate) fn update(
        &mut self,
        id: &str,
        request: &JoinRequest,
        ticket: Ticket,
    ) -> Option<Ticket> {
        let mut member = self.members.remove(id)?;
        self.discount_protocols(&member.protocols);
        self.bytes -= member.bytes();
        member.update(request);
        self.bytes += member.bytes();
        self.count_protocols(&member.protocols);
        let former = member.join.replace(ticket);
        self.joins_waiting += usize::from(former.is_none());
        self.members.insert(id.to_owned(), member);
        former
    }

    /// The join of a member is answered now.
    pub(crate) fn take_join(&mut self, id: &str) -> Option<Ticket> {
        let ticket = self.members.get_mut(id)?.join.take()?;
        self.joins_waiting -= 1;
        Some(ticket)
    }

    /// Gives a static member another id. Returns it without what it waited for.
    pub(crate) fn rename(&mut self, old_id: &str, new_id: &str) -> Option<(Member, bool)> {
        let mut member = self.remove_keeping_leader(old_id)?;
        let led = self.is_leader(old_id);
        if led {
            self.leader = Some(new_id.to_owned());
        }
        let waiting = member.clone();
        (member.join, member.sync) = (None, None);
        let protocol_type = self.protocol_type.clone().unwrap_or_default();
        self.add(new_id, &protocol_type, member);
        Some((waiting, led))
    }

    fn remove_keeping_leader(&mut self, id: &str) -> Option<Member> {
        let leader = self.leader.take();
        let member = self.remove(id);
        self.leader = leader;
        member
    }

    /// Sets what a member announced without a request: to undo a join.
    pub(crate) fn restore_announcement(&mut self, id: &str, replaced: &Replaced) {
        let Some(mut member) = self.members.remove(id) else {
            return;
        };
        self.discount_protocols(&member.protocols);
        self.bytes -= member.bytes();
        member.protocols.clone_from(&replaced.former_protocols);
        member.session_timeout_ms = replaced.former_session_timeout_ms;
        member.rebalance_timeout_ms = replaced.former_rebalance_timeout_ms;
        self.bytes += member.bytes();
        self.count_protocols(&member.protocols);
        self.members.insert(id.to_owned(), member);
    }

    /// Gives every member its share; who is not named gets nothing.
    pub(crate) fn assign(&mut self, mut assignments: BTreeMap<String, Vec<u8>>) {
        for (id, member) in &mut self.members {
            self.bytes -= member.assignment.len();
            member.assignment = assignments.remove(id).unwrap_or_default();
            self.bytes += member.assignment.len();
        }
    }

    /// Whether everyone who is a member, or has been given an id to become one, has joined.
    pub(crate) fn all_joined(&self) -> bool {
        self.joins_waiting == self.members.len() && self.pending_joins.is_empty()
    }

    /// The longest rebalance timeout of its members.
    pub(crate) fn rebalance_timeout_ms(&self) -> u64 {
        let timeouts = self.members.values().map(|m| m.rebalance_timeout_ms);
        timeouts.max().unwrap_or(0)
    }

    /// Whether a member with these protocols can be part of the group.
    pub(crate) fn supports(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if self.state == GroupState::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        let everyone = self.members.len();
        let common = |name: &str| self.supported.get(name).copied().unwrap_or(0) == everyone;
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|p| common(&p.name))
    }

    /// The protocol most members prefer among those all of them support.
    pub(crate) fn select_protocol(&self) -> Option<String> {
        let everyone = self.members.len();
        let is_common = |name: &str| self.supported.get(name) == Some(&everyone);
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let vote = member.protocols.iter().find(|p| is_common(&p.name));
            if let Some(protocol) = vote {
                *votes.entry(&protocol.name).or_default() += 1;
            }
        }
        let winner = votes.into_iter().max_by_key(|(_, count)| *count);
        winner.map(|(name, _)| name.to_owned())
    }

    /// Whether a request comes from a member, and from the one its static instance belongs to.
    pub(crate) fn validate_member(
        &self,
        id: &str,
        instance: Option<&str>,
    ) -> Result<(), ErrorCode> {
        if let Some(instance) = instance {
            match self.instances.get(instance) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(current) if current != id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(id) {
            Ok(())
        } else {
            Err(ErrorCode::UnknownMemberId)
        }
    }

    /// Everyone with the metadata of the chosen protocol, for the leader.
    pub(crate) fn joined_members(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let members = self.members.iter();
        let joined = members.map(|(id, member)| JoinedMember {
            member: id.clone(),
            instance: member.instance.clone(),
            metadata: member.metadata(protocol).to_vec(),
        });
        joined.collect()
    }

    /// The answer to a join of the current generation. Only the leader is told the members.
    pub(crate) fn join_answer(&self, id: &str) -> JoinAnswer {
        JoinAnswer {
            error: ErrorCode::None,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            leader: self.leader_id(),
            skip_assignment: false,
            member: id.to_owned(),
            members: if self.is_leader(id) {
                self.joined_members()
            } else {
                Vec::new()
            },
        }
    }

    /// Its record, with the assignments its members have.
    pub(crate) fn encode(&self) -> Vec<u8> {
        self.encode_with(|id| self.members.get(id).map_or(&[], |m| &m.assignment))
    }

    /// Its record, with other assignments.
    pub(crate) fn encode_with<'a>(&self, assignment: impl Fn(&str) -> &'a [u8]) -> Vec<u8> {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let members = self.members.iter();
        let stored = StoredGroup {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_timestamp: self.state_timestamp,
            members: members
                .map(|(id, member)| member.stored(id, protocol, assignment(id)))
                .collect(),
        };
        stored.encode()
    }

    /// Becomes what a record of the log says; offsets stay. `None` is a tombstone.
    pub(crate) fn restore(&mut self, stored: Option<StoredGroup>, value: Option<&[u8]>) {
        let offsets = std::mem::take(&mut self.offsets);
        *self = Group::new(Arc::clone(&self.id));
        self.offsets = offsets;
        let Some(stored) = stored else {
            return;
        };
        self.record = Slot::loaded(value.map(Arc::from));
        self.generation = stored.generation;
        let protocol = stored.protocol.clone().unwrap_or_default();
        for mut member in stored.members {
            let id = std::mem::take(&mut member.member);
            self.add(
                &id,
                &stored.protocol_type,
                Member::loaded(member, &protocol),
            );
        }
        if !self.members.is_empty() {
            self.state = GroupState::Stable;
        }
        self.previous = self.state;
        self.protocol_type = Some(stored.protocol_type).filter(|kind| !kind.is_empty());
        self.protocol = stored.protocol;
        self.leader = stored.leader;
        self.state_timestamp = stored.state_timestamp;
    }

    /// Whether clients see no such group: nobody is or may become a member, and nothing is or will
    /// be in the log.
    pub(crate) fn is_unknown(&self) -> bool {
        let mut offsets = self.offsets.values().flat_map(BTreeMap::values);
        self.is_idle() && self.record.latest().is_none() && !offsets.any(|o| o.latest().is_some())
    }

    /// Whether nothing of it is left, not even a write under way.
    pub(crate) fn is_gone(&self) -> bool {
        self.is_idle() && self.record.is_vacant() && self.offsets.is_empty()
    }

    fn is_idle(&self) -> bool {
        self.state == GroupState::Empty && self.pending_joins.is_empty()
    }
}

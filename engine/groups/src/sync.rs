//! SyncGroup, Heartbeat and LeaveGroup: what members of a generation do.

use std::collections::BTreeMap;

use highwater_base::ErrorCode;

use crate::answer::{GroupAnswer, LeftMember, SyncAnswer};
use crate::coordinator::Ticket;
use crate::group::{Group, GroupState};
use crate::request::{LeavingMember, MemberIdentity, SyncRequest};
use crate::turn::{Gate, Turn, write_error};

/// Assignments by member id.
type Assignments = Vec<(String, Vec<u8>)>;

impl Group {
    fn validate_identity(&self, identity: &MemberIdentity) -> Result<(), ErrorCode> {
        self.validate_member(&identity.member, identity.instance.as_deref())?;
        if identity.generation == self.generation {
            Ok(())
        } else {
            Err(ErrorCode::IllegalGeneration)
        }
    }

    fn validate_sync(&self, request: &SyncRequest) -> Result<(), ErrorCode> {
        if self.state == GroupState::Empty {
            return Err(ErrorCode::UnknownMemberId);
        }
        self.validate_identity(&request.identity)?;
        let differs = |asked: &Option<String>, has: &Option<String>| {
            asked.is_some() && asked.as_deref() != has.as_deref()
        };
        if differs(&request.protocol_type, &self.protocol_type)
            || differs(&request.protocol_name, &self.protocol)
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        Ok(())
    }

    /// A member asks for its share; the leader brings everyone's.
    pub(crate) fn sync(&mut self, turn: &mut Turn<'_>, ticket: Ticket, request: SyncRequest) {
        let refusal = match self.validate_sync(&request) {
            Ok(()) if self.state == GroupState::PreparingRebalance => {
                Some(ErrorCode::RebalanceInProgress)
            }
            Ok(()) => None,
            Err(error) => Some(error),
        };
        if let Some(error) = refusal {
            return turn.sync(ticket, SyncAnswer::failed(error));
        }
        let id = request.identity.member.as_str();
        self.pending_syncs.remove(id);
        if self.pending_syncs.is_empty() {
            self.sync_deadline_ns = None;
        }
        if self.state == GroupState::Stable {
            return turn.sync(ticket, self.sync_answer(id));
        }
        let former = self
            .members
            .get_mut(id)
            .and_then(|m| m.sync.replace(ticket));
        if let Some(former) = former {
            turn.sync(former, SyncAnswer::failed(ErrorCode::RebalanceInProgress));
        }
        if self.is_leader(id) && self.assigning != Some(self.generation) {
            self.write_assignment(turn, request.assignments);
        }
    }

    /// The assignment is told to nobody before it is durable.
    fn write_assignment(&mut self, turn: &mut Turn<'_>, assignments: Assignments) {
        let mut by_member: BTreeMap<String, Vec<u8>> = assignments.into_iter().collect();
        by_member.retain(|id, _| self.members.contains_key(id));
        let assigned: usize = by_member.values().map(Vec::len).sum();
        let former: usize = self.members.values().map(|m| m.assignment.len()).sum();
        if self.bytes - former + assigned > turn.config.group_bytes_max {
            self.fail_assignment(turn, ErrorCode::UnknownServerError);
            return self.prepare_rebalance(turn);
        }
        self.assigning = Some(self.generation);
        let value = self.encode_with(|id| by_member.get(id).map_or(&[], Vec::as_slice));
        let gate = Gate::Assignment {
            group: self.id.clone(),
            generation: self.generation,
            assignments: by_member.into_iter().collect(),
        };
        turn.write(value, gate);
    }

    fn awaits_assignment(&self, generation: i32) -> bool {
        self.state == GroupState::CompletingRebalance && self.generation == generation
    }

    /// The assignment of a generation is durable: everyone who waits is told.
    pub(crate) fn assignment_durable(
        &mut self,
        turn: &mut Turn<'_>,
        generation: i32,
        assignments: Assignments,
    ) {
        if !self.awaits_assignment(generation) {
            return;
        }
        self.assigning = None;
        self.assign(assignments.into_iter().collect());
        self.transition(turn.now, GroupState::Stable);
        self.answer_syncs(turn, ErrorCode::None);
        turn.counters.rebalances_completed += 1;
    }

    /// The assignment of a generation could not be written: the group starts over.
    pub(crate) fn assignment_failed(
        &mut self,
        turn: &mut Turn<'_>,
        generation: i32,
        error: ErrorCode,
    ) {
        if !self.awaits_assignment(generation) {
            return;
        }
        self.fail_assignment(turn, write_error(error));
        self.prepare_rebalance(turn);
    }

    /// A sign of life, answered with whether the member has to join again.
    pub(crate) fn heartbeat(&mut self, turn: &Turn<'_>, identity: &MemberIdentity) -> ErrorCode {
        if let Err(error) = self.validate_identity(identity) {
            return error;
        }
        self.renew_session(turn.now, &identity.member);
        match self.state {
            GroupState::Empty => ErrorCode::UnknownMemberId,
            GroupState::PreparingRebalance => ErrorCode::RebalanceInProgress,
            GroupState::CompletingRebalance | GroupState::Stable => ErrorCode::None,
        }
    }

    /// Members leave, each judged by itself; one rebalance follows for all of them.
    pub(crate) fn leave(
        &mut self,
        turn: &mut Turn<'_>,
        ticket: Ticket,
        members: Vec<LeavingMember>,
    ) {
        let mut answers = Vec::with_capacity(members.len());
        for leaving in members {
            let error = self.leave_one(turn, &leaving);
            answers.push(LeftMember {
                member: leaving.member,
                instance: leaving.instance,
                error,
            });
        }
        let someone_left = answers.iter().any(|left| left.error == ErrorCode::None);
        let error = ErrorCode::None;
        turn.answer(
            ticket,
            GroupAnswer::Leave {
                error,
                members: answers,
            },
        );
        if someone_left && self.state != GroupState::Empty {
            self.rebalance_or_complete(turn);
        }
    }

    fn leave_one(&mut self, turn: &mut Turn<'_>, leaving: &LeavingMember) -> ErrorCode {
        let instance = leaving.instance.as_deref();
        let id = if leaving.member.is_empty() {
            match instance.and_then(|instance| self.instances.get(instance)) {
                Some(id) => id.clone(),
                None => return ErrorCode::UnknownMemberId,
            }
        } else if self.pending_joins.remove(&leaving.member).is_some() {
            return ErrorCode::None;
        } else {
            match self.validate_member(&leaving.member, instance) {
                Ok(()) => leaving.member.clone(),
                Err(error) => return error,
            }
        };
        self.dismiss(turn, &id);
        ErrorCode::None
    }

    /// Whether an offset may be committed by whoever says so.
    pub(crate) fn validate_commit(&self, identity: &MemberIdentity) -> Result<(), ErrorCode> {
        let is_simple = identity.generation < 0;
        if is_simple && self.state == GroupState::Empty {
            return Ok(());
        }
        if is_simple && identity.member.is_empty() && identity.instance.is_none() {
            return Err(ErrorCode::UnknownMemberId);
        }
        self.validate_identity(identity)?;
        if self.state == GroupState::CompletingRebalance {
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }
}

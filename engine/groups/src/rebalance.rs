//! The phases of a rebalance: everyone joins, one assigns, everyone is told; and what happens when
//! somebody does not.

use highwater_base::{ErrorCode, Now};

use crate::answer::{JoinAnswer, SyncAnswer};
use crate::group::{Group, GroupState, JoinDeadline};
use crate::member::Standing;
use crate::turn::{Gate, Turn};

/// When no member of a group has rejoined in time (all are static), how long at least until it is
/// looked at again.
const RETRY_MS_MIN: u64 = 100;

impl Group {
    /// Starts a rebalance where the state allows it, else looks whether the running one is complete.
    pub(crate) fn rebalance_or_complete(&mut self, turn: &mut Turn<'_>) {
        if self.state == GroupState::PreparingRebalance {
            self.complete_if_all_joined(turn);
        } else {
            self.prepare_rebalance(turn);
        }
    }

    /// Everybody has to join again.
    pub(crate) fn prepare_rebalance(&mut self, turn: &mut Turn<'_>) {
        if self.state == GroupState::CompletingRebalance {
            self.fail_assignment(turn, ErrorCode::RebalanceInProgress);
        }
        self.pending_syncs.clear();
        self.sync_deadline_ns = None;
        self.assigning = None;
        let is_first = self.state == GroupState::Empty;
        self.transition(turn.now, GroupState::PreparingRebalance);
        if is_first {
            let delay_ms = turn.config.initial_rebalance_delay_ms;
            let remaining_ms = self.rebalance_timeout_ms().saturating_sub(delay_ms);
            self.newly_joined = false;
            self.wait_initially(turn.now, delay_ms, remaining_ms);
        } else if self.all_joined() {
            self.complete_join(turn);
        } else {
            self.wait_for_joins(turn.now, self.rebalance_timeout_ms());
        }
    }

    fn wait_initially(&mut self, now: Now, step_ms: u64, remaining_ms: u64) {
        let at_ns = now.plus_ms(step_ms);
        self.join_deadline = Some(JoinDeadline::Initial {
            at_ns,
            step_ms,
            remaining_ms,
        });
        self.wake_by(at_ns);
    }

    fn wait_for_joins(&mut self, now: Now, timeout_ms: u64) {
        let at_ns = now.plus_ms(timeout_ms);
        self.join_deadline = Some(JoinDeadline::Rebalance { at_ns });
        self.wake_by(at_ns);
    }

    /// The initial delay goes on while members keep coming, up to the rebalance timeout.
    fn step_initial_delay(&mut self, turn: &mut Turn<'_>, step_ms: u64, remaining_ms: u64) {
        if !self.newly_joined || remaining_ms == 0 {
            return self.complete_join(turn);
        }
        self.newly_joined = false;
        let next_ms = turn.config.initial_rebalance_delay_ms.min(remaining_ms);
        self.wait_initially(turn.now, next_ms, remaining_ms.saturating_sub(step_ms));
    }

    /// Ends the join phase if nobody is missing. The first rebalance of an empty group ends by its
    /// delay only.
    pub(crate) fn complete_if_all_joined(&mut self, turn: &mut Turn<'_>) {
        let waits_for_all = self.previous != GroupState::Empty;
        let is_preparing = self.state == GroupState::PreparingRebalance;
        if is_preparing && waits_for_all && self.all_joined() {
            self.complete_join(turn);
        }
    }

    /// Ends the join phase: who is missing is out, unless it is static.
    pub(crate) fn complete_join(&mut self, turn: &mut Turn<'_>) {
        self.join_deadline = None;
        let members = self.members.iter();
        let missing: Vec<String> = members
            .filter(|(_, member)| member.join.is_none() && member.instance.is_none())
            .map(|(id, _)| id.clone())
            .collect();
        for id in missing {
            self.remove(&id);
            turn.counters.member_expirations += 1;
        }
        if !self.members.is_empty() && !self.elect_joined_leader() {
            let timeout_ms = self.rebalance_timeout_ms().max(RETRY_MS_MIN);
            return self.wait_for_joins(turn.now, timeout_ms);
        }
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.pending_syncs.clear();
        if self.members.is_empty() {
            self.become_empty(turn);
        } else {
            self.answer_joins(turn);
        }
    }

    fn become_empty(&mut self, turn: &mut Turn<'_>) {
        self.protocol = None;
        self.leader = None;
        self.transition(turn.now, GroupState::Empty);
        turn.write(self.encode(), Gate::None);
    }

    /// The leader stays if it has joined; else the first that has.
    fn elect_joined_leader(&mut self) -> bool {
        let has_joined = |id: &String| self.members.get(id).is_some_and(|m| m.join.is_some());
        if self.leader.as_ref().is_some_and(has_joined) {
            return true;
        }
        let mut members = self.members.iter();
        let joined = members.find(|(_, member)| member.join.is_some());
        match joined.map(|(id, _)| id.clone()) {
            Some(id) => {
                self.leader = Some(id);
                true
            }
            None => false,
        }
    }

    fn answer_joins(&mut self, turn: &mut Turn<'_>) {
        self.protocol = self.select_protocol();
        self.transition(turn.now, GroupState::CompletingRebalance);
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            if let Some(ticket) = self.take_join(&id) {
                turn.join(ticket, self.join_answer(&id));
            }
            if let Some(member) = self.members.get_mut(&id) {
                member.standing = Standing::Established;
            }
            self.renew_session(turn.now, &id);
            self.pending_syncs.insert(id);
        }
        let at_ns = turn.now.plus_ms(self.rebalance_timeout_ms());
        self.sync_deadline_ns = Some(at_ns);
        self.wake_by(at_ns);
    }

    /// Nobody has a share any more; whoever waits for one is told why.
    pub(crate) fn fail_assignment(&mut self, turn: &mut Turn<'_>, error: ErrorCode) {
        self.assign(std::collections::BTreeMap::new());
        self.answer_syncs(turn, error);
    }

    /// Answers everyone who waits for its share.
    pub(crate) fn answer_syncs(&mut self, turn: &mut Turn<'_>, error: ErrorCode) {
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let ticket = self.members.get_mut(&id).and_then(|m| m.sync.take());
            if let Some(ticket) = ticket {
                let answer = match error {
                    ErrorCode::None => self.sync_answer(&id),
                    error => SyncAnswer::failed(error),
                };
                turn.sync(ticket, answer);
                self.renew_session(turn.now, &id);
            }
        }
    }

    /// The share of a member.
    pub(crate) fn sync_answer(&self, id: &str) -> SyncAnswer {
        let member = self.members.get(id);
        SyncAnswer {
            error: ErrorCode::None,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            assignment: member.map_or_else(Vec::new, |m| m.assignment.clone()),
        }
    }

    /// Removes a member that left or is gone, and answers what it waited for.
    pub(crate) fn dismiss(&mut self, turn: &mut Turn<'_>, id: &str) {
        let Some(member) = self.remove(id) else {
            return;
        };
        if let Some(ticket) = member.join {
            turn.join(ticket, JoinAnswer::failed("", ErrorCode::UnknownMemberId));
        }
        if let Some(ticket) = member.sync {
            turn.sync(ticket, SyncAnswer::failed(ErrorCode::UnknownMemberId));
        }
    }

    /// Does what is due.
    pub(crate) fn fire(&mut self, turn: &mut Turn<'_>) {
        self.expire_pending_joins(turn);
        self.expire_sessions(turn);
        let due = self
            .join_deadline
            .filter(|deadline| turn.now.reached(deadline.at_ns()));
        match due {
            Some(JoinDeadline::Initial {
                step_ms,
                remaining_ms,
                ..
            }) => self.step_initial_delay(turn, step_ms, remaining_ms),
            Some(JoinDeadline::Rebalance { .. }) => self.complete_join(turn),
            None => {}
        }
        if self.sync_deadline_ns.is_some_and(|at| turn.now.reached(at)) {
            self.expire_syncs(turn);
        }
        self.wake_ns = self.next_deadline_ns();
    }

    fn next_deadline_ns(&self) -> u64 {
        let sessions = self.members.values().map(|m| m.session_deadline_ns);
        let joins = self.join_deadline.map(JoinDeadline::at_ns);
        let deadlines = sessions
            .chain(self.pending_joins.values().copied())
            .chain(joins)
            .chain(self.sync_deadline_ns);
        deadlines.min().unwrap_or(u64::MAX)
    }

    fn expire_pending_joins(&mut self, turn: &mut Turn<'_>) {
        let before = self.pending_joins.len();
        self.pending_joins.retain(|_, at| !turn.now.reached(*at));
        if self.pending_joins.len() < before {
            self.complete_after_removal(turn);
        }
    }

    fn expire_sessions(&mut self, turn: &mut Turn<'_>) {
        let members = self.members.iter_mut();
        let expired: Vec<String> = members
            .filter_map(|(id, member)| member.has_expired(turn.now).then(|| id.clone()))
            .collect();
        for id in expired {
            if !self.members.contains_key(&id) {
                continue;
            }
            self.dismiss(turn, &id);
            turn.counters.member_expirations += 1;
            match self.state {
                GroupState::Stable | GroupState::CompletingRebalance => {
                    self.prepare_rebalance(turn)
                }
                GroupState::PreparingRebalance => self.complete_after_removal(turn),
                GroupState::Empty => {}
            }
        }
    }

    /// Somebody the join phase waited for is gone. Unlike a join, this may end the initial delay:
    /// nobody else may be coming.
    fn complete_after_removal(&mut self, turn: &mut Turn<'_>) {
        if self.state == GroupState::PreparingRebalance && self.all_joined() {
            self.complete_join(turn);
        }
    }

    /// Who has not asked for its share within the rebalance timeout is out.
    fn expire_syncs(&mut self, turn: &mut Turn<'_>) {
        self.sync_deadline_ns = None;
        if self.pending_syncs.is_empty() {
            return;
        }
        let is_current = matches!(
            self.state,
            GroupState::CompletingRebalance | GroupState::Stable
        );
        if !is_current {
            return;
        }
        for id in std::mem::take(&mut self.pending_syncs) {
            self.dismiss(turn, &id);
            turn.counters.member_expirations += 1;
        }
        self.prepare_rebalance(turn);
    }
}

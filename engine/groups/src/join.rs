//! JoinGroup: new members, known ones, and static ones that come back under a new id.

use highwater_base::ErrorCode;
use highwater_base::prng::Prng;

use crate::answer::{JoinAnswer, SyncAnswer};
use crate::coordinator::Ticket;
use crate::group::{Group, GroupState, Replaced};
use crate::member::Member;
use crate::request::{JoinRequest, Protocol};
use crate::turn::{Gate, Turn, write_error};

/// What a member id is made from is cut to this, so that the id fits a string of the protocol.
const ID_PREFIX_BYTES_MAX: usize = 32_000;

/// A fresh member id: who it is, and a random UUID (version 4) as text.
fn member_id(ids: &mut Prng, prefix: &str) -> String {
    let mut end = prefix.len().min(ID_PREFIX_BYTES_MAX);
    while !prefix.is_char_boundary(end) {
        end -= 1;
    }
    let (high, low) = (ids.next_u64(), ids.next_u64());
    format!(
        "{}-{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        &prefix[..end],
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        (low >> 48) & 0x3fff | 0x8000,
        low & 0xffff_ffff_ffff
    )
}

fn protocol_bytes(protocols: &[Protocol]) -> usize {
    let sizes = protocols.iter().map(|p| p.name.len() + p.metadata.len());
    sizes.sum()
}

impl Group {
    /// Decides about a join; the answer may come much later.
    pub(crate) fn join(&mut self, turn: &mut Turn<'_>, ticket: Ticket, request: &JoinRequest) {
        if let Err(error) = self.admits(turn, request) {
            if error == ErrorCode::GroupMaxSizeReached {
                self.drop_refused(turn, &request.member);
            }
            let member = match error {
                ErrorCode::InconsistentGroupProtocol => request.member.as_str(),
                _ => "",
            };
            return turn.join(ticket, JoinAnswer::failed(member, error));
        }
        if request.member.is_empty() {
            self.join_new(turn, ticket, request);
        } else if self.pending_joins.contains_key(&request.member) && request.instance.is_none() {
            self.join_and_rebalance(turn, ticket, request, &request.member);
        } else {
            self.join_known(turn, ticket, request);
        }
    }

    /// Room for one more, and a protocol in common.
    fn admits(&self, turn: &Turn<'_>, request: &JoinRequest) -> Result<(), ErrorCode> {
        let limit = turn.config.group_members_max;
        let known = self.members.get(&request.member);
        let has_room = match self.state {
            GroupState::Empty => self.pending_joins.len() < limit || !request.member.is_empty(),
            GroupState::PreparingRebalance => {
                known.is_some_and(|m| m.join.is_some()) || self.joins_waiting < limit
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                known.is_some() || self.is_returning(request) || self.members.len() < limit
            }
        };
        let is_handshake = request.member.is_empty() && request.instance.is_none();
        let has_room = has_room && (!is_handshake || self.pending_joins.len() < limit);
        let former = match request
            .instance
            .as_ref()
            .and_then(|i| self.instances.get(i))
        {
            Some(id) => self.members.get(id),
            None => known,
        };
        let former = former.map_or(0, |m| protocol_bytes(&m.protocols));
        let bytes = self.bytes + protocol_bytes(&request.protocols) - former;
        if !has_room || bytes > turn.config.group_bytes_max {
            return Err(ErrorCode::GroupMaxSizeReached);
        }
        if !self.supports(&request.protocol_type, &request.protocols) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        Ok(())
    }

    /// A static member that comes back takes the place it has.
    fn is_returning(&self, request: &JoinRequest) -> bool {
        let instance = request.instance.as_ref();
        request.member.is_empty() && instance.is_some_and(|i| self.instances.contains_key(i))
    }

    /// A member that is refused for lack of room is out, as in Kafka.
    fn drop_refused(&mut self, turn: &mut Turn<'_>, id: &str) {
        self.pending_joins.remove(id);
        if self.members.contains_key(id) {
            self.dismiss(turn, id);
            self.rebalance_or_complete(turn);
        }
    }

    fn join_new(&mut self, turn: &mut Turn<'_>, ticket: Ticket, request: &JoinRequest) {
        let prefix = request.instance.as_ref().unwrap_or(&request.client_id);
        let id = member_id(turn.ids, prefix);
        let instance = request.instance.as_ref();
        if let Some(old_id) = instance.and_then(|i| self.instances.get(i)).cloned() {
            self.join_returning(turn, ticket, request, &old_id, &id);
        } else if request.require_known_member && instance.is_none() {
            let timeout_ms = u64::try_from(request.session_timeout_ms).unwrap_or(0);
            let at_ns = turn.now.plus_ms(timeout_ms);
            self.pending_joins.insert(id.clone(), at_ns);
            self.wake_by(at_ns);
            turn.join(ticket, JoinAnswer::failed(&id, ErrorCode::MemberIdRequired));
        } else {
            self.join_and_rebalance(turn, ticket, request, &id);
        }
    }

    fn join_and_rebalance(
        &mut self,
        turn: &mut Turn<'_>,
        ticket: Ticket,
        request: &JoinRequest,
        id: &str,
    ) {
        if self.state == GroupState::PreparingRebalance && self.previous == GroupState::Empty {
            self.newly_joined = true;
        }
        let member = Member::joining(turn.now, request, ticket);
        self.add(id, &request.protocol_type, member);
        self.rebalance_or_complete(turn);
    }

    fn join_known(&mut self, turn: &mut Turn<'_>, ticket: Ticket, request: &JoinRequest) {
        let id = request.member.as_str();
        if let Err(error) = self.validate_member(id, request.instance.as_deref()) {
            return turn.join(ticket, JoinAnswer::failed(id, error));
        }
        let member = self.members.get(id);
        let is_unchanged = member.is_some_and(|m| m.protocols == request.protocols);
        let must_rebalance = match self.state {
            GroupState::Empty => {
                return turn.join(ticket, JoinAnswer::failed(id, ErrorCode::UnknownMemberId));
            }
            GroupState::PreparingRebalance => true,
            // The answer to its join was lost.
            GroupState::CompletingRebalance => !is_unchanged,
            // A leader joins again to have partitions assigned anew.
            GroupState::Stable => self.is_leader(id) || !is_unchanged,
        };
        if !must_rebalance {
            return turn.join(ticket, self.join_answer(id));
        }
        self.update_join(turn, ticket, request, id);
        self.rebalance_or_complete(turn);
    }

    /// Lets a member wait for the next generation; a join of it that waited is given up.
    fn update_join(
        &mut self,
        turn: &mut Turn<'_>,
        ticket: Ticket,
        request: &JoinRequest,
        id: &str,
    ) {
        if let Some(former) = self.update(id, request, ticket) {
            let error = ErrorCode::RebalanceInProgress;
            turn.join(former, JoinAnswer::failed(id, error));
        }
    }

    /// A static member is back under a new id (KIP-345): the old id is fenced.
    fn join_returning(
        &mut self,
        turn: &mut Turn<'_>,
        ticket: Ticket,
        request: &JoinRequest,
        old_id: &str,
        new_id: &str,
    ) {
        let former_leader = self.leader.clone();
        let Some((former, _)) = self.rename(old_id, new_id) else {
            return turn.join(ticket, JoinAnswer::failed("", ErrorCode::UnknownMemberId));
        };
        let fenced = ErrorCode::FencedInstanceId;
        if let Some(ticket) = former.join {
            turn.join(ticket, JoinAnswer::failed(old_id, fenced));
        }
        if let Some(ticket) = former.sync {
            turn.sync(ticket, SyncAnswer::failed(fenced));
        }
        self.renew_session(turn.now, new_id);
        self.update_join(turn, ticket, request, new_id);
        if self.state != GroupState::Stable {
            return self.rebalance_returning(turn);
        }
        if self.select_protocol() != self.protocol {
            return self.rebalance_or_complete(turn);
        }
        let replaced = Replaced {
            ticket,
            instance: request.instance.clone().unwrap_or_default(),
            old_id: old_id.to_owned(),
            new_id: new_id.to_owned(),
            generation: self.generation,
            former_leader,
            former_protocols: former.protocols,
            former_session_timeout_ms: former.session_timeout_ms,
            former_rebalance_timeout_ms: former.rebalance_timeout_ms,
            supports_skipping_assignment: request.supports_skipping_assignment,
        };
        let gate = Gate::Replaced {
            group: self.id.clone(),
            replaced: Box::new(replaced),
        };
        turn.write(self.encode(), gate);
    }

    fn rebalance_returning(&mut self, turn: &mut Turn<'_>) {
        if self.state == GroupState::CompletingRebalance {
            self.prepare_rebalance(turn);
        } else {
            self.complete_if_all_joined(turn);
        }
    }

    /// Whether the group is still as it was when the member came back. If not, a rebalance has
    /// started since, and its end answers the join.
    fn still_waits(&self, replaced: &Replaced) -> bool {
        self.state == GroupState::Stable
            && self.generation == replaced.generation
            && self.instances.get(&replaced.instance) == Some(&replaced.new_id)
    }

    /// The new id of a static member is durable: it goes on in the current generation.
    pub(crate) fn replacement_durable(&mut self, turn: &mut Turn<'_>, replaced: &Replaced) {
        let id = &replaced.new_id;
        if !self.still_waits(replaced) || self.take_join(id) != Some(replaced.ticket) {
            return;
        }
        let mut answer = self.join_answer(id);
        if replaced.supports_skipping_assignment {
            answer.skip_assignment = self.is_leader(id);
        } else {
            // An older client would assign anew if it saw itself lead: it is shown the id it had.
            answer.leader = replaced.former_leader.clone().unwrap_or_default();
            answer.members.clear();
        }
        turn.join(replaced.ticket, answer);
        self.renew_session(turn.now, id);
    }

    /// The new id of a static member could not be written: the old one is valid again.
    pub(crate) fn replacement_failed(
        &mut self,
        turn: &mut Turn<'_>,
        replaced: &Replaced,
        error: ErrorCode,
    ) {
        if !self.still_waits(replaced) {
            return;
        }
        if let Some(ticket) = self.take_join(&replaced.new_id) {
            turn.join(ticket, JoinAnswer::failed("", write_error(error)));
        }
        self.restore_announcement(&replaced.new_id, replaced);
        self.rename(&replaced.new_id, &replaced.old_id);
        self.renew_session(turn.now, &replaced.old_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn member_ids_are_version_4_uuids() {
        let id = member_id(&mut Prng::new(1), "client");
        let uuid = id.strip_prefix("client-").unwrap();
        let parts: Vec<usize> = uuid.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
        assert_eq!(uuid.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&uuid.as_bytes()[19]));
    }

    #[test]
    fn long_client_ids_make_ids_that_fit() {
        let id = member_id(&mut Prng::new(1), &"ü".repeat(16_383));
        assert!(id.len() <= i16::MAX as usize);
    }
}

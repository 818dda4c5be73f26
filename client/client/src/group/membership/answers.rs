//! What each answer does to a member.

use std::collections::{BTreeMap, BTreeSet};

use highwater_base::Now;

use super::{BACKOFF_MAX_MS, BACKOFF_MIN_MS, Change, Membership, Reaction, Stage, reaction};
use crate::calls::{JoinOutcome, JoinedGroup};
use crate::error::ClientError;
use crate::group::assignor::{Assignor, Member};
use crate::group::protocol::{Assignment, Subscription};
use crate::metadata::MetadataCache;

impl Membership {
    /// Whether this is the answer that is waited for; it is not any more then.
    fn expects(&mut self, request: u64) -> bool {
        let expected = self.outstanding == Some(request);
        if expected {
            self.outstanding = None;
        }
        expected
    }

    fn calm(&mut self) {
        self.backoff_ms = 0;
        self.trouble = None;
    }

    fn back_off(&mut self, now: Now, error: ClientError) {
        self.backoff_ms = (self.backoff_ms * 2).clamp(BACKOFF_MIN_MS, BACKOFF_MAX_MS);
        self.retry_at_ns = now.plus_ms(self.backoff_ms);
        self.trouble = Some(error);
    }

    fn fail(&mut self, error: ClientError) {
        self.forget_member();
        self.outstanding = None;
        self.stage = Stage::Ended;
        self.trouble = None;
        self.failure = Some(error);
    }

    /// The coordinator was found and there is a connection to it, or not.
    pub fn handle_coordinator(&mut self, now: Now, request: u64, found: Result<(), ClientError>) {
        if !self.expects(request) {
            return;
        }
        match found {
            Ok(()) => {
                self.coordinator_known = true;
                self.calm();
            }
            Err(error) if reaction(&error) == Reaction::Fail => self.fail(error),
            Err(error) => self.back_off(now, error),
        }
    }

    /// Takes the answer to a join.
    pub fn handle_join(
        &mut self,
        now: Now,
        request: u64,
        outcome: Result<JoinOutcome, ClientError>,
    ) {
        if !self.expects(request) {
            return;
        }
        match outcome {
            Ok(JoinOutcome::MemberIdRequired { member_id }) => self.member_id = member_id,
            Ok(JoinOutcome::Joined(joined)) => self.joined(now, joined),
            Err(error) => self.step_failed(now, error),
        }
    }

    fn joined(&mut self, now: Now, joined: JoinedGroup) {
        self.calm();
        self.generation = joined.generation;
        self.member_id.clone_from(&joined.member_id);
        self.protocol.clone_from(&joined.protocol);
        self.heartbeat_at_ns = now.plus_ms(self.settings.heartbeat_interval_ms);
        self.watched = None;
        if joined.leader != joined.member_id {
            let assignments = Vec::new();
            self.stage = Stage::Syncing { assignments };
            return;
        }
        let subscriptions = joined.members.iter();
        let topics = subscriptions
            .filter_map(|member| Subscription::decode(&member.metadata).ok())
            .flat_map(|subscription| subscription.topics);
        let mut topics: BTreeSet<String> = topics.collect();
        topics.extend(self.topics.iter().cloned());
        self.watched = Some(topics);
        self.stage = Stage::Assigning { joined };
    }

    /// The topics that the leader wanted to know about were looked at.
    pub fn handle_metadata(
        &mut self,
        now: Now,
        request: u64,
        metadata: Result<&MetadataCache, ClientError>,
    ) {
        if !self.expects(request) {
            return;
        }
        let metadata = match metadata {
            Ok(metadata) => metadata,
            Err(error) => return self.back_off(now, error),
        };
        let watched = self.watched.iter().flatten();
        let counts: BTreeMap<String, i32> = watched
            .filter_map(|topic| Some((topic.clone(), metadata.partition_count(topic).ok()?)))
            .collect();
        match std::mem::replace(&mut self.stage, Stage::Joining) {
            Stage::Assigning { joined } => self.assign(&joined, counts),
            Stage::Stable => {
                self.stage = Stage::Stable;
                self.calm();
                self.metadata_at_ns = now.plus_ms(self.settings.metadata_interval_ms);
                if counts != self.assigned_counts {
                    self.rejoin = Some("the topics have other partitions than were assigned");
                }
            }
            other => self.stage = other,
        }
    }

    fn assign(&mut self, joined: &JoinedGroup, counts: BTreeMap<String, i32>) {
        let mut assignments = Vec::new();
        if !joined.skip_assignment {
            let Some(assignor) = Assignor::from_name(&joined.protocol) else {
                return self.fail(ClientError::Usage(format!(
                    "group {:?} agreed on the assignor {:?}, which this client does not have; \
                     let its members share one of range, roundrobin and cooperative-sticky",
                    self.settings.group, joined.protocol
                )));
            };
            let members: Vec<Member> = joined.members.iter().map(member_of).collect();
            for (id, partitions) in assignor.assign(&members, &counts) {
                let user_data = None;
                let assignment = Assignment {
                    partitions,
                    user_data,
                };
                assignments.push((id, assignment.encode()));
            }
        }
        self.assigned_counts = counts;
        self.stage = Stage::Syncing { assignments };
    }

    /// Takes the answer to a synchronisation.
    pub fn handle_sync(
        &mut self,
        now: Now,
        request: u64,
        assignment: Result<Vec<u8>, ClientError>,
    ) {
        if !self.expects(request) {
            return;
        }
        let assignment = assignment.and_then(|bytes| {
            Assignment::decode(&bytes).map_err(|error| {
                let group = &self.settings.group;
                ClientError::Usage(format!(
                    "{error}; the leader of group {group:?} is no consumer that this client \
                     understands"
                ))
            })
        });
        match assignment {
            Ok(assignment) => {
                self.calm();
                let target: BTreeSet<_> = assignment.partitions.into_iter().collect();
                let change = Change {
                    revoked: self.owned.difference(&target).cloned().collect(),
                    lost: BTreeSet::new(),
                    added: target.difference(&self.owned).cloned().collect(),
                };
                self.stage = Stage::Settling { target, change };
            }
            Err(error) => self.step_failed(now, error),
        }
    }

    /// A join or a synchronisation did not succeed.
    fn step_failed(&mut self, now: Now, error: ClientError) {
        match reaction(&error) {
            Reaction::Retry => self.back_off(now, error),
            Reaction::FindCoordinator => {
                self.coordinator_known = false;
                // What the old coordinator knew of the join may be gone.
                self.stage = Stage::Joining;
                self.back_off(now, error);
            }
            Reaction::Rejoin => {
                self.stage = Stage::Joining;
                self.retry_at_ns = now.plus_ms(BACKOFF_MIN_MS);
            }
            Reaction::StartOver => {
                self.start_over();
                self.retry_at_ns = now.plus_ms(BACKOFF_MIN_MS);
            }
            Reaction::Fail => self.fail(error),
        }
    }

    /// Takes the answer to a heartbeat.
    pub fn handle_heartbeat(&mut self, now: Now, request: u64, answer: Result<(), ClientError>) {
        if self.heartbeat != Some(request) {
            return;
        }
        self.heartbeat = None;
        match answer {
            Ok(()) if self.outstanding.is_none() => self.calm(),
            Ok(()) => {}
            Err(error) => self.member_failed(now, error),
        }
    }

    /// A commit that was made in `generation` did not succeed. What became of it is the caller's
    /// to decide; here the membership learns from it.
    pub fn handle_commit_failure(&mut self, now: Now, generation: i32, error: &ClientError) {
        let ended = matches!(self.stage, Stage::Ended);
        let is_partition = reaction(error) == Reaction::Fail && !is_fence(error);
        if generation == self.generation && !ended && !is_partition {
            self.member_failed(now, error.clone());
        }
    }

    /// What a heartbeat or a commit was told concerns the member, whatever it does at the moment.
    fn member_failed(&mut self, now: Now, error: ClientError) {
        match reaction(&error) {
            Reaction::Retry => {}
            Reaction::FindCoordinator => {
                self.coordinator_known = false;
                // A step whose answer will not come is taken again at the next coordinator.
                self.outstanding = None;
                self.back_off(now, error);
            }
            // While the caller gives things up, the join that follows is the answer to it.
            Reaction::Rejoin => {
                if matches!(self.stage, Stage::Stable | Stage::Settling { .. }) {
                    self.rejoin = Some("the group rebalances");
                }
            }
            Reaction::StartOver => self.start_over(),
            Reaction::Fail => self.fail(error),
        }
    }
}

fn is_fence(error: &ClientError) -> bool {
    use highwater_base::ErrorCode;
    error.code() == Some(ErrorCode::FencedInstanceId)
}

/// A member whose subscription cannot be read wants nothing that we could give it.
fn member_of(member: &crate::calls::JoinedMember) -> Member {
    Member {
        id: member.member_id.clone(),
        instance_id: member.instance_id.clone(),
        subscription: Subscription::decode(&member.metadata).unwrap_or_default(),
    }
}

//! Who of a group works on which partition: decided by the group's leader, a client.
//!
//! Pure functions from subscriptions and numbers of partitions to assignments, the same for the
//! same input in whatever order it came. Topics that do not exist (yet) are left out.

mod sticky;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::protocol::{Subscription, TopicPartition};

/// What every member of a group gets, by member id.
pub type Assignments = BTreeMap<String, Vec<TopicPartition>>;

/// A member as an assignor sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub id: String,
    /// Static members keep their place by this when their member id changes.
    pub instance_id: Option<String>,
    pub subscription: Subscription,
}

impl Member {
    /// Members are taken in this order: static ones first, by instance id, then by member id.
    fn rank(&self) -> (bool, &str) {
        match &self.instance_id {
            Some(instance) => (false, instance),
            None => (true, &self.id),
        }
    }

    fn wants(&self, topic: &str) -> bool {
        self.subscription.topics.iter().any(|one| one == topic)
    }
}

/// A way to assign; the names are those that Java's assignors have in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Assignor {
    /// Of every topic a run of neighbouring partitions: partitions with the same index of two
    /// topics go to the same member.
    Range,
    /// All partitions of all topics in turn.
    RoundRobin,
    /// As even as possible, and members keep what they have; a partition that moves is first given
    /// up by one and in the next rebalance taken by the other.
    CooperativeSticky,
}

/// Whether members give up everything before a rebalance, or only what moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RebalanceProtocol {
    Eager,
    Cooperative,
}

impl Assignor {
    /// Every assignor.
    pub const ALL: [Assignor; 3] = [
        Assignor::Range,
        Assignor::RoundRobin,
        Assignor::CooperativeSticky,
    ];

    /// The name by which members agree on it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Assignor::Range => "range",
            Assignor::RoundRobin => "roundrobin",
            Assignor::CooperativeSticky => "cooperative-sticky",
        }
    }

    /// The assignor of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Assignor> {
        Assignor::ALL.into_iter().find(|one| one.name() == name)
    }

    /// The protocol of a group whose members all support exactly these assignors.
    #[must_use]
    pub fn protocol(supported: &[Assignor]) -> RebalanceProtocol {
        let cooperative = |one: &Assignor| *one == Assignor::CooperativeSticky;
        match supported.iter().all(cooperative) {
            true => RebalanceProtocol::Cooperative,
            false => RebalanceProtocol::Eager,
        }
    }

    /// The assignor's own bytes in a subscription of a member whose last generation was this.
    #[must_use]
    pub fn user_data(self, generation: i32) -> Option<Vec<u8>> {
        match self {
            Assignor::Range | Assignor::RoundRobin => None,
            Assignor::CooperativeSticky => Some(generation.to_be_bytes().to_vec()),
        }
    }

    /// Assigns the partitions of the topics that exist. Every member is in the answer.
    #[must_use]
    pub fn assign(
        self,
        members: &[Member],
        partition_counts: &BTreeMap<String, i32>,
    ) -> Assignments {
        let mut members: Vec<&Member> = members.iter().collect();
        members.sort_by_key(|member| member.rank());
        match self {
            Assignor::Range => range(&members, partition_counts),
            Assignor::RoundRobin => round_robin(&members, partition_counts),
            Assignor::CooperativeSticky => sticky::assign(&members, partition_counts),
        }
    }
}

fn nothing_for(members: &[&Member]) -> Assignments {
    let ids = members.iter().map(|member| member.id.clone());
    ids.map(|id| (id, Vec::new())).collect()
}

fn range(members: &[&Member], partition_counts: &BTreeMap<String, i32>) -> Assignments {
    let mut assignments = nothing_for(members);
    for (topic, count) in partition_counts {
        let takers: Vec<_> = members.iter().filter(|one| one.wants(topic)).collect();
        let taker_count = takers.len() as i32;
        let mut first = 0;
        for (at, member) in takers.into_iter().enumerate() {
            // The first members take one more where it does not come out even.
            let share = count / taker_count + i32::from((at as i32) < count % taker_count);
            let taken = (first..first + share).map(|index| TopicPartition::new(topic, index));
            assignments
                .entry(member.id.clone())
                .or_default()
                .extend(taken);
            first += share;
        }
    }
    assignments
}

fn round_robin(members: &[&Member], partition_counts: &BTreeMap<String, i32>) -> Assignments {
    let mut assignments = nothing_for(members);
    let mut turn = 0;
    for (topic, count) in partition_counts {
        if !members.iter().any(|member| member.wants(topic)) {
            continue;
        }
        for index in 0..*count {
            while !members[turn % members.len()].wants(topic) {
                turn += 1;
            }
            let member = members[turn % members.len()];
            let partition = TopicPartition::new(topic, index);
            assignments
                .entry(member.id.clone())
                .or_default()
                .push(partition);
            turn += 1;
        }
    }
    assignments
}

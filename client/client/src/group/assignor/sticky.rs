//! The cooperative-sticky assignor: even, with as few moves as that allows.
//!
//! Three steps. Members keep what they own, as far as they still want it and no newer generation
//! gave it to somebody else. What nobody has goes to whoever wants it and has least. Then single
//! partitions move from members with more to members with less until no move helps; chains of moves
//! are found too, where subscriptions differ. A partition that changes hands is at last taken out of
//! the answer, so that its owner gives it up first: the next rebalance, which that owner starts,
//! hands it on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Assignments, Member};
use crate::group::protocol::TopicPartition;

/// Members are numbers here: their places in the sorted list.
struct Balance<'a> {
    members: &'a [&'a Member],
    has: Vec<BTreeSet<TopicPartition>>,
}

pub(super) fn assign(members: &[&Member], partition_counts: &BTreeMap<String, i32>) -> Assignments {
    let owners = claims(members, partition_counts);
    let mut balance = Balance {
        members,
        has: vec![BTreeSet::new(); members.len()],
    };
    for (partition, owner) in &owners {
        if members[*owner].wants(&partition.topic) {
            balance.has[*owner].insert(partition.clone());
        }
    }
    for (topic, count) in partition_counts {
        for index in 0..*count {
            let partition = TopicPartition::new(topic, index);
            let kept = owners
                .get(&partition)
                .is_some_and(|owner| members[*owner].wants(topic));
            if !kept {
                balance.give(partition);
            }
        }
    }
    balance.even_out(&owners);
    let claimed = |partition: &TopicPartition, by: usize| {
        let mut others = members.iter().enumerate().filter(|(at, _)| *at != by);
        others.any(|(_, other)| other.subscription.owned.contains(partition))
    };
    let mut assignments = Assignments::new();
    for (at, has) in balance.has.iter().enumerate() {
        let ready = has
            .iter()
            .filter(|partition| owners.get(*partition) == Some(&at) || !claimed(partition, at));
        assignments.insert(members[at].id.clone(), ready.cloned().collect());
    }
    assignments
}

/// Who owns what exists, by the newest generation that says so. Where two members of the same
/// generation claim a partition, neither is believed.
fn claims(
    members: &[&Member],
    partition_counts: &BTreeMap<String, i32>,
) -> BTreeMap<TopicPartition, usize> {
    let mut newest: BTreeMap<TopicPartition, (i32, Option<usize>)> = BTreeMap::new();
    for (at, member) in members.iter().enumerate() {
        let generation = generation_of(member);
        for partition in &member.subscription.owned {
            let count = partition_counts.get(&partition.topic).copied();
            if !(0..count.unwrap_or(0)).contains(&partition.partition) {
                continue;
            }
            let claim = newest
                .entry(partition.clone())
                .or_insert((generation, Some(at)));
            if claim.0 < generation {
                *claim = (generation, Some(at));
            } else if claim.0 == generation && claim.1 != Some(at) {
                claim.1 = None;
            }
        }
    }
    let settled = newest.into_iter();
    settled
        .filter_map(|(partition, (_, owner))| Some((partition, owner?)))
        .collect()
}

/// From the subscription, or from the bytes in which members before version 2 told it.
fn generation_of(member: &Member) -> i32 {
    let user_data = member.subscription.user_data.as_deref();
    let encoded = user_data.and_then(|bytes| bytes.first_chunk::<4>());
    member
        .subscription
        .generation
        .or(encoded.map(|bytes| i32::from_be_bytes(*bytes)))
        .unwrap_or(-1)
}

impl Balance<'_> {
    /// Gives a partition to whoever wants it and has least.
    fn give(&mut self, partition: TopicPartition) {
        let takers = (0..self.members.len()).filter(|at| self.members[*at].wants(&partition.topic));
        if let Some(taker) = takers.min_by_key(|at| self.has[*at].len()) {
            self.has[taker].insert(partition);
        }
    }

    /// Every chain takes one partition from a member that has at least two more than the one at
    /// its end, so the sum of squares falls with each and this ends.
    fn even_out(&mut self, owners: &BTreeMap<TopicPartition, usize>) {
        while let Some(chain) = self.best_chain(owners) {
            for (from, to, partition) in chain {
                self.has[from].remove(&partition);
                self.has[to].insert(partition);
            }
        }
    }

    /// Moves that take one partition away from a member with more and, over members between,
    /// bring one to a member with at least two less. The fullest members are looked at first.
    fn best_chain(
        &self,
        owners: &BTreeMap<TopicPartition, usize>,
    ) -> Option<Vec<(usize, usize, TopicPartition)>> {
        let mut fullest: Vec<usize> = (0..self.members.len()).collect();
        fullest.sort_by_key(|at| std::cmp::Reverse(self.has[*at].len()));
        let least = self.has.iter().map(BTreeSet::len).min()?;
        fullest.retain(|at| self.has[*at].len() >= least + 2);
        fullest
            .into_iter()
            .find_map(|from| self.chain_from(from, owners))
    }

    fn chain_from(
        &self,
        from: usize,
        owners: &BTreeMap<TopicPartition, usize>,
    ) -> Option<Vec<(usize, usize, TopicPartition)>> {
        let mut came_by: BTreeMap<usize, (usize, TopicPartition)> = BTreeMap::new();
        let mut queue = VecDeque::from([from]);
        while let Some(at) = queue.pop_front() {
            let mut next: Vec<usize> = (0..self.members.len())
                .filter(|to| *to != from && !came_by.contains_key(to))
                .collect();
            next.sort_by_key(|to| self.has[*to].len());
            for to in next {
                let Some(partition) = self.movable(at, to, owners) else {
                    continue;
                };
                came_by.insert(to, (at, partition));
                if self.has[to].len() + 2 <= self.has[from].len() {
                    return Some(chain_to(to, from, &came_by));
                }
                queue.push_back(to);
            }
        }
        None
    }

    /// The partition whose move costs least: one that returns to its owner, then one that its
    /// holder has only just got, then the last.
    fn movable(
        &self,
        from: usize,
        to: usize,
        owners: &BTreeMap<TopicPartition, usize>,
    ) -> Option<TopicPartition> {
        let cost = |partition: &&TopicPartition| match owners.get(*partition) {
            Some(owner) if *owner == to => 0,
            Some(owner) if *owner == from => 2,
            _ => 1,
        };
        let candidates = self.has[from].iter().rev();
        let wanted = candidates.filter(|partition| self.members[to].wants(&partition.topic));
        wanted.min_by_key(cost).cloned()
    }
}

fn chain_to(
    end: usize,
    start: usize,
    came_by: &BTreeMap<usize, (usize, TopicPartition)>,
) -> Vec<(usize, usize, TopicPartition)> {
    let mut chain = Vec::new();
    let mut at = end;
    while at != start {
        let Some((before, partition)) = came_by.get(&at) else {
            break;
        };
        chain.push((*before, at, partition.clone()));
        at = *before;
    }
    chain
}

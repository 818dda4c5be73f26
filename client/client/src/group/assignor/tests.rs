use std::collections::{BTreeMap, BTreeSet};

use super::*;

fn member(id: &str, topics: &[&str]) -> Member {
    Member {
        id: id.to_string(),
        instance_id: None,
        subscription: Subscription {
            topics: topics.iter().map(ToString::to_string).collect(),
            ..Subscription::default()
        },
    }
}

fn owning(id: &str, topics: &[&str], generation: i32, owned: &[(&str, i32)]) -> Member {
    let mut member = member(id, topics);
    let owned = owned
        .iter()
        .map(|(topic, index)| TopicPartition::new(topic, *index));
    member.subscription.owned = owned.collect();
    member.subscription.generation = Some(generation);
    member
}

fn counts(topics: &[(&str, i32)]) -> BTreeMap<String, i32> {
    let topics = topics.iter();
    topics
        .map(|(name, count)| (name.to_string(), *count))
        .collect()
}

/// What a member got, as `topic-partition` words.
fn of(assignments: &Assignments, id: &str) -> String {
    let words: Vec<String> = assignments[id].iter().map(ToString::to_string).collect();
    words.join(" ")
}

/// Rebalances until nothing is in between owners, as a group does. Returns the rounds.
fn settle(members: &mut [Member], partition_counts: &BTreeMap<String, i32>) -> usize {
    for round in 1..=4 {
        let assignments = Assignor::CooperativeSticky.assign(members, partition_counts);
        let mut seen = BTreeSet::new();
        for partition in assignments.values().flatten() {
            assert!(
                seen.insert(partition.clone()),
                "{partition} was assigned twice"
            );
        }
        let before: Vec<_> = members
            .iter()
            .map(|one| one.subscription.owned.clone())
            .collect();
        for member in members.iter_mut() {
            member
                .subscription
                .owned
                .clone_from(&assignments[&member.id]);
            member.subscription.generation = Some(round as i32 + 100);
        }
        let gave_up = members.iter().zip(before).any(|(member, before)| {
            before
                .iter()
                .any(|one| !member.subscription.owned.contains(one))
        });
        if !gave_up {
            return round;
        }
    }
    panic!("the group does not settle");
}

fn sizes(members: &[Member]) -> Vec<usize> {
    let owned = members.iter().map(|one| one.subscription.owned.len());
    owned.collect()
}

#[test]
fn range_gives_the_first_members_one_more() {
    let members = [member("b", &["t", "u"]), member("a", &["t", "u"])];
    let got = Assignor::Range.assign(&members, &counts(&[("t", 3), ("u", 3)]));
    assert_eq!(of(&got, "a"), "t-0 t-1 u-0 u-1");
    assert_eq!(of(&got, "b"), "t-2 u-2");
}

#[test]
fn range_leaves_members_empty_when_there_are_too_many() {
    let members = [
        member("a", &["t"]),
        member("b", &["t"]),
        member("c", &["other"]),
    ];
    let got = Assignor::Range.assign(&members, &counts(&[("t", 1)]));
    assert_eq!(of(&got, "a"), "t-0");
    assert_eq!(
        (of(&got, "b"), of(&got, "c")),
        (String::new(), String::new())
    );
}

#[test]
fn range_takes_static_members_first_whatever_their_member_id() {
    let mut fixed = member("z", &["t"]);
    fixed.instance_id = Some("one".to_string());
    let got = Assignor::Range.assign(&[member("a", &["t"]), fixed], &counts(&[("t", 3)]));
    assert_eq!(of(&got, "z"), "t-0 t-1");
    assert_eq!(of(&got, "a"), "t-2");
}

#[test]
fn round_robin_goes_on_from_topic_to_topic() {
    let members = [member("a", &["t", "u"]), member("b", &["t", "u"])];
    let got = Assignor::RoundRobin.assign(&members, &counts(&[("t", 3), ("u", 3)]));
    assert_eq!(of(&got, "a"), "t-0 t-2 u-1");
    assert_eq!(of(&got, "b"), "t-1 u-0 u-2");
}

#[test]
fn round_robin_skips_members_that_do_not_want_a_topic() {
    let members = [
        member("a", &["t"]),
        member("b", &["t", "u"]),
        member("c", &["t", "u", "v"]),
    ];
    let partition_counts = counts(&[("t", 1), ("u", 2), ("v", 3), ("nobody", 2)]);
    let got = Assignor::RoundRobin.assign(&members, &partition_counts);
    assert_eq!(of(&got, "a"), "t-0");
    assert_eq!(of(&got, "b"), "u-0");
    assert_eq!(of(&got, "c"), "u-1 v-0 v-1 v-2");
}

#[test]
fn sticky_spreads_evenly_when_nobody_has_anything() {
    let mut members = [
        member("a", &["t", "u"]),
        member("b", &["t", "u"]),
        member("c", &["t", "u"]),
    ];
    assert_eq!(settle(&mut members, &counts(&[("t", 4), ("u", 4)])), 1);
    let mut got = sizes(&members);
    got.sort_unstable();
    assert_eq!(got, [2, 3, 3]);
}

#[test]
fn sticky_moves_only_what_evenness_asks_for_and_in_two_rounds() {
    let all = [("t", 0), ("t", 1), ("t", 2), ("t", 3), ("t", 4)];
    let mut members = [owning("a", &["t"], 7, &all), member("b", &["t"])];
    let first = Assignor::CooperativeSticky.assign(&members, &counts(&[("t", 5)]));
    assert_eq!(of(&first, "a"), "t-0 t-1 t-2", "gives up two");
    assert_eq!(of(&first, "b"), "", "must wait for them");
    assert_eq!(settle(&mut members, &counts(&[("t", 5)])), 2);
    assert_eq!(sizes(&members), [3, 2]);
}

#[test]
fn sticky_keeps_everything_when_it_is_even_already() {
    let mut members = [
        owning("a", &["t"], 7, &[("t", 1), ("t", 3)]),
        owning("b", &["t"], 7, &[("t", 0), ("t", 2), ("t", 4)]),
    ];
    let before = members.clone();
    assert_eq!(settle(&mut members, &counts(&[("t", 5)])), 1);
    for (now, before) in members.iter().zip(before) {
        assert_eq!(now.subscription.owned, before.subscription.owned);
    }
}

#[test]
fn sticky_hands_out_what_a_member_left_behind_at_once() {
    let mut members = [
        owning("a", &["t"], 7, &[("t", 0), ("t", 1)]),
        owning("b", &["t"], 7, &[("t", 2), ("t", 3)]),
    ];
    // A third member, which had 4 and 5, is gone.
    assert_eq!(settle(&mut members, &counts(&[("t", 6)])), 1);
    assert_eq!(sizes(&members), [3, 3]);
    assert!(
        members[0]
            .subscription
            .owned
            .contains(&TopicPartition::new("t", 1))
    );
}

#[test]
fn sticky_believes_the_newer_generation() {
    let members = [
        owning("late", &["t"], 3, &[("t", 0), ("t", 1)]),
        owning("now", &["t"], 7, &[("t", 0), ("t", 1)]),
    ];
    let got = Assignor::CooperativeSticky.assign(&members, &counts(&[("t", 2)]));
    // One of the two moves, and its old claim does not spare a member the wait.
    assert_eq!((got["now"].len(), got["late"].len()), (1, 0));
    let mut in_user_data = members.clone();
    in_user_data[1].subscription.generation = None;
    in_user_data[1].subscription.user_data = Assignor::CooperativeSticky.user_data(7);
    assert_eq!(
        Assignor::CooperativeSticky.assign(&in_user_data, &counts(&[("t", 2)])),
        got
    );
}

#[test]
fn sticky_evens_out_over_a_chain_of_different_subscriptions() {
    let mut members = [
        owning(
            "a",
            &["t", "u"],
            7,
            &[("t", 0), ("t", 1), ("t", 2), ("u", 0)],
        ),
        owning("b", &["u", "v"], 7, &[("v", 0), ("v", 1)]),
        owning("c", &["v"], 7, &[]),
    ];
    settle(&mut members, &counts(&[("t", 3), ("u", 1), ("v", 2)]));
    // Only "a" wants the topic "t"; "u-0" goes to "b" and one of "v" on to "c".
    assert_eq!(sizes(&members), [3, 2, 1]);
}

#[test]
fn sticky_drops_what_is_not_wanted_or_does_not_exist_any_more() {
    let mut members = [
        owning("a", &["t"], 7, &[("t", 0), ("t", 9), ("gone", 0), ("u", 0)]),
        member("b", &["u"]),
    ];
    settle(&mut members, &counts(&[("t", 1), ("u", 1)]));
    assert_eq!(members[0].subscription.owned, [TopicPartition::new("t", 0)]);
    assert_eq!(members[1].subscription.owned, [TopicPartition::new("u", 0)]);
}

#[test]
fn the_order_of_members_does_not_matter() {
    let mut members = vec![
        owning("a", &["t", "u"], 7, &[("t", 0)]),
        member("b", &["u"]),
        owning("c", &["t"], 6, &[("t", 0), ("t", 1)]),
    ];
    let partition_counts = counts(&[("t", 5), ("u", 3)]);
    for assignor in Assignor::ALL {
        let one = assignor.assign(&members, &partition_counts);
        members.reverse();
        assert_eq!(
            assignor.assign(&members, &partition_counts),
            one,
            "{assignor:?}"
        );
    }
}

#[test]
fn one_eager_assignor_makes_the_whole_group_eager() {
    let both = [Assignor::Range, Assignor::CooperativeSticky];
    assert_eq!(Assignor::protocol(&both), RebalanceProtocol::Eager);
    let sticky = [Assignor::CooperativeSticky];
    assert_eq!(Assignor::protocol(&sticky), RebalanceProtocol::Cooperative);
    for assignor in Assignor::ALL {
        assert_eq!(Assignor::from_name(assignor.name()), Some(assignor));
    }
}

//! Groups: sharing, taking over, going on where a group stopped, and what others see of it.

use std::collections::BTreeSet;
use std::time::Duration;

use highwater_base::ErrorCode;
use highwater_client::calls::{DeleteGroup, DescribeGroup, OffsetDelete, OffsetFetch, OffsetSpec};
use highwater_client::consumer::ConsumerSettings;
use highwater_client::driver::any_runtime::GroupConsumer;
use highwater_client::driver::{GroupConsumerSettings, Runtime};
use highwater_client::group::{GroupSettings, TopicPartition};

use crate::suite::{Suite, assert_says, values};

const WAIT: Duration = Duration::from_millis(100);

fn member<R: Runtime>(suite: &Suite<R>, group: &str, topic: &str) -> GroupConsumer<R> {
    let settings = GroupConsumerSettings {
        group: GroupSettings {
            // A member hears of a rebalance by its heartbeat.
            heartbeat_interval_ms: 200,
            ..GroupSettings::new(group)
        },
        consumer: ConsumerSettings::default(),
        start: OffsetSpec::Beginning,
        commit_interval_ms: None,
    };
    GroupConsumer::subscribe(&suite.client, settings, &[topic.to_string()])
}

fn owned<R: Runtime>(member: &GroupConsumer<R>) -> BTreeSet<i32> {
    let positions = member.positions();
    positions.keys().map(|at| at.partition).collect()
}

pub async fn two_members_share_and_the_one_that_stays_takes_over<R: Runtime>(suite: Suite<R>) {
    let (topic, group) = (suite.topic("shared", 4).await, suite.name("team"));
    let (first, second) = (
        member(&suite, &group, &topic),
        member(&suite, &group, &topic),
    );
    let everything = BTreeSet::from([0, 1, 2, 3]);
    suite
        .until("the first has all", async || {
            first.poll(WAIT).await.expect("it works");
            owned(&first) == everything
        })
        .await;
    suite
        .until("they have two each", async || {
            first.poll(WAIT).await.expect("the first works");
            second.poll(WAIT).await.expect("the second works");
            let (one, other) = (owned(&first), owned(&second));
            let both: BTreeSet<i32> = one.union(&other).copied().collect();
            (one.len(), other.len()) == (2, 2) && both == everything
        })
        .await;
    first.close().await.expect("it leaves");
    suite
        .until("the second has all", async || {
            second.poll(WAIT).await.expect("the second works");
            owned(&second) == everything
        })
        .await;
    let mut seen = BTreeSet::new();
    for partition in 0..4 {
        suite.fill(&topic, partition, &["after"]).await;
    }
    suite
        .until("it reads all", async || {
            let polled = second.poll(WAIT).await.expect("the second works");
            seen.extend(polled.map(|fetched| fetched.partition));
            seen == everything
        })
        .await;
    second.close().await.expect("it leaves");
}

async fn next<R: Runtime>(suite: &Suite<R>, member: &GroupConsumer<R>) -> Vec<String> {
    let mut found = Vec::new();
    suite
        .until("records come", async || {
            let polled = member.poll(WAIT).await.expect("it works");
            found.extend(polled.map(|fetched| values(&fetched.records)));
            !found.is_empty()
        })
        .await;
    found.concat()
}

pub async fn a_member_goes_on_where_the_group_has_committed<R: Runtime>(suite: Suite<R>) {
    let (topic, group) = (suite.topic("resumed", 1).await, suite.name("resume"));
    suite.fill(&topic, 0, &["a"]).await;
    let first = member(&suite, &group, &topic);
    assert_eq!(next(&suite, &first).await, ["a"]);
    first.commit().await.expect("committed");
    suite.fill(&topic, 0, &["b"]).await;
    assert_eq!(next(&suite, &first).await, ["b"]);
    // "b" was read and not committed.
    first.close().await.expect("it leaves");

    let at = TopicPartition::new(&topic, 0);
    let fetch = OffsetFetch {
        group: group.clone(),
        partitions: None,
        require_stable: true,
    };
    let committed = suite.client.call_coordinator(&group, &fetch).await;
    let committed = committed.expect("offsets");
    assert_eq!(committed.get(&at).map(|one| one.offset), Some(1));

    let second = member(&suite, &group, &topic);
    assert_eq!(next(&suite, &second).await, ["b"]);
    second.close().await.expect("it leaves");
}

pub async fn groups_are_listed_described_and_deleted<R: Runtime>(suite: Suite<R>) {
    let (topic, group) = (suite.topic("described", 1).await, suite.name("described"));
    let client = &suite.client;
    suite.fill(&topic, 0, &["a"]).await;
    let only = member(&suite, &group, &topic);
    next(&suite, &only).await;
    only.commit().await.expect("committed");

    let listed = client.list_groups(&[]).await.expect("groups");
    assert_eq!(listed[&group].state, "Stable");
    assert_eq!(listed[&group].protocol_type, "consumer");
    let describe = DescribeGroup {
        group: group.clone(),
    };
    let found = client.call_coordinator(&group, &describe).await;
    let found = found.expect("described");
    assert_eq!(found.state, "Stable");
    let at = TopicPartition::new(&topic, 0);
    assert_eq!(found.members.len(), 1);
    assert_eq!(found.members[0].assigned, std::slice::from_ref(&at));
    assert_eq!(found.members[0].client_id, "highwater-client");

    let delete = DeleteGroup {
        group: group.clone(),
    };
    let error = client.call_coordinator(&group, &delete).await;
    let error = error.expect_err("it has a member");
    assert_eq!(error.code(), Some(ErrorCode::NonEmptyGroup));
    assert_says(&error, &[&group, "stop its members"]);
    only.close().await.expect("it leaves");

    let forget = OffsetDelete {
        group: group.clone(),
        partitions: vec![at.clone()],
    };
    let forgotten = client.call_coordinator(&group, &forget).await;
    assert_eq!(forgotten.expect("answered").get(&at), Some(&Ok(())));
    let deleted = client.call_coordinator(&group, &delete).await;
    // A broker may drop a group by itself once it holds neither members nor offsets.
    match deleted {
        Ok(()) => {}
        Err(error) => assert_eq!(error.code(), Some(ErrorCode::GroupIdNotFound)),
    }
    let listed = client.list_groups(&[]).await.expect("groups");
    assert!(!listed.contains_key(&group), "it is gone");
}

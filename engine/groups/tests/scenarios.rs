//! One situation a test: what members do, and what they are told.

mod harness;

use std::sync::Arc;

use harness::{
    GROUP, World, commit_of, commit_request, config, identity, join_request, protocol, sync_request,
};
use highwater_base::ErrorCode;
use highwater_groups::{GroupAnswer, GroupRequest, GroupState, JoinRequest, LeavingMember, Ticket};

fn join(world: &mut World, request: JoinRequest) -> Ticket {
    world.send(GroupRequest::Join(request))
}

fn leave(world: &mut World, member: &str, instance: Option<&str>) -> ErrorCode {
    let leaving = LeavingMember {
        member: member.into(),
        instance: instance.map(str::to_owned),
        reason: None,
    };
    let answer = world.ask(GroupRequest::Leave {
        group: GROUP.into(),
        members: vec![leaving],
    });
    match answer {
        GroupAnswer::Leave { members, .. } => members[0].error,
        other => panic!("not a leave: {other:?}"),
    }
}

fn static_join(instance: &str, member: &str) -> JoinRequest {
    JoinRequest {
        instance: Some(instance.into()),
        ..join_request("client", member)
    }
}

/// A stable group of static members `a` and `b`; their ids, the leader's first.
fn static_group(world: &mut World) -> (Vec<(String, String)>, i32) {
    let tickets = ["a", "b"].map(|instance| (instance, join(world, static_join(instance, ""))));
    world.pass_ms(10_000);
    let mut members = Vec::new();
    let (mut generation, mut leader) = (0, String::new());
    for (instance, ticket) in tickets {
        let joined = world.joined(ticket);
        assert_eq!(joined.error, ErrorCode::None);
        (generation, leader) = (joined.generation, joined.leader);
        members.push((instance.to_owned(), joined.member));
    }
    members.sort_by_key(|(_, id)| *id != leader);
    let ids: Vec<String> = members.iter().map(|(_, id)| id.clone()).collect();
    world.sync_all(&ids, generation);
    (members, generation)
}

#[test]
fn a_new_member_is_told_its_id_first_and_two_form_a_group() {
    let mut world = World::new(config());
    let (ids, generation) = world.stable(&["one", "two"]);
    assert_eq!(generation, 1);
    assert!(ids.iter().any(|id| id.starts_with("one-")));
    assert_eq!(world.state(), Some(("Stable", 2)));
    assert_eq!(world.heartbeat(&ids[1], 1), ErrorCode::None);
    assert_eq!(world.heartbeat(&ids[1], 0), ErrorCode::IllegalGeneration);
    assert_eq!(world.heartbeat("nobody", 1), ErrorCode::UnknownMemberId);
    assert_eq!(world.coordinator.counters().rebalances_completed, 1);
    assert_eq!(world.coordinator.groups_by_state()[&GroupState::Stable], 1);
}

#[test]
fn an_assignment_is_told_to_nobody_before_it_is_durable() {
    let mut world = World::new(config());
    let (id, ticket) = world.start_join("one");
    world.pass_ms(3000);
    let generation = world.joined(ticket).generation;
    let ticket = world.send(sync_request(&id, generation, std::slice::from_ref(&id)));
    assert!(!world.answered.contains_key(&ticket));
    world.flush();
    assert_eq!(world.synced(ticket).assignment, id.as_bytes());
}

#[test]
fn the_initial_delay_grows_while_members_come() {
    let mut world = World::new(config());
    let (_, first) = world.start_join("one");
    world.pass_ms(2000);
    let (_, second) = world.start_join("two");
    world.pass_ms(2000);
    assert!(!world.answered.contains_key(&first), "one more delay");
    world.pass_ms(2000);
    assert_eq!(world.joined(first).generation, 1);
    assert_eq!(world.joined(second).generation, 1);
}

#[test]
fn a_member_that_crashes_is_out_after_its_session() {
    let mut world = World::new(config());
    let (ids, generation) = world.stable(&["one", "two"]);
    world.pass_ms(6000);
    assert_eq!(world.heartbeat(&ids[0], generation), ErrorCode::None);
    world.pass_ms(6000);
    let error = world.heartbeat(&ids[0], generation);
    assert_eq!(error, ErrorCode::RebalanceInProgress);
    let ticket = join(&mut world, join_request("one", &ids[0]));
    let joined = world.joined(ticket);
    assert_eq!((joined.generation, joined.members.len()), (2, 1));
    assert_eq!(world.coordinator.counters().member_expirations, 1);
}

#[test]
fn who_does_not_join_again_within_the_rebalance_timeout_is_out() {
    let mut world = World::new(config());
    let (ids, generation) = world.stable(&["one", "two"]);
    let ticket = join(&mut world, join_request("one", &ids[0]));
    for _ in 0..9 {
        world.pass_ms(6000);
        let error = world.heartbeat(&ids[1], generation);
        assert_eq!(error, ErrorCode::RebalanceInProgress);
    }
    world.pass_ms(6000);
    let joined = world.joined(ticket);
    assert_eq!((joined.generation, joined.members.len()), (2, 1));
    assert_eq!(world.heartbeat(&ids[1], 2), ErrorCode::UnknownMemberId);
}

#[test]
fn a_follower_that_joins_again_unchanged_gets_the_current_generation() {
    let mut world = World::new(config());
    let (ids, generation) = world.stable(&["one", "two"]);
    let ticket = join(&mut world, join_request("two", &ids[1]));
    let joined = world.joined(ticket);
    assert_eq!((joined.generation, joined.members.len()), (generation, 0));
    // The leader rebalances: it wants partitions assigned anew.
    let leads = join(&mut world, join_request("one", &ids[0]));
    assert_eq!(world.state(), Some(("PreparingRebalance", 2)));
    let follows = join(&mut world, join_request("two", &ids[1]));
    let (leads, follows) = (world.joined(leads), world.joined(follows));
    assert_eq!((leads.generation, leads.members.len()), (2, 2));
    assert_eq!((follows.generation, follows.leader), (2, ids[0].clone()));
    world.sync_all(&ids, 2);
}

/// Cooperative rebalancing: a follower joins with a changed subscription, everybody follows.
#[test]
fn a_changed_subscription_rebalances() {
    let mut world = World::new(config());
    let (ids, _) = world.stable(&["one", "two"]);
    let mut changed = join_request("two", &ids[1]);
    changed.protocols[0].metadata.push(1);
    let follows = join(&mut world, changed);
    assert_eq!(world.heartbeat(&ids[0], 1), ErrorCode::RebalanceInProgress);
    let leads = join(&mut world, join_request("one", &ids[0]));
    assert_eq!(world.joined(follows).generation, 2);
    assert_eq!(world.joined(leads).leader, ids[0]);
}

#[test]
fn the_protocol_most_members_prefer_wins_among_those_all_support() {
    let mut world = World::new(config());
    let mut tickets = Vec::new();
    for names in [["b", "a"], ["a", "b"], ["b", "c"]] {
        let mut request = join_request("client", "");
        request.require_known_member = false;
        request.protocols = names.iter().map(|name| protocol(name, b"")).collect();
        tickets.push(join(&mut world, request));
    }
    let mut other = join_request("client", "");
    other.protocols = vec![protocol("c", b"")];
    let refused = join(&mut world, other.clone());
    let error = ErrorCode::InconsistentGroupProtocol;
    assert_eq!(world.joined(refused).error, error);
    other.protocols = vec![protocol("b", b"")];
    other.protocol_type = "connect".into();
    let refused = join(&mut world, other);
    assert_eq!(world.joined(refused).error, error);
    world.pass_ms(10_000);
    for ticket in tickets {
        let protocol = world.joined(ticket).protocol_name;
        assert_eq!(protocol.as_deref(), Some("b"));
    }
}

#[test]
fn requests_that_are_refused_say_why() {
    let mut world = World::new(config());
    let mut request = join_request("one", "");
    request.group.clear();
    let ticket = join(&mut world, request);
    assert_eq!(world.joined(ticket).error, ErrorCode::InvalidGroupId);
    let mut request = join_request("one", "");
    request.session_timeout_ms = 1;
    let ticket = join(&mut world, request);
    assert_eq!(world.joined(ticket).error, ErrorCode::InvalidSessionTimeout);
    let ticket = join(&mut world, join_request("one", "unknown"));
    assert_eq!(world.joined(ticket).error, ErrorCode::UnknownMemberId);
    let mut small = config();
    small.group_members_max = 1;
    world.coordinator.set_config(small.clone());
    world.stable(&["one"]);
    let mut request = join_request("two", "");
    let ticket = join(&mut world, request.clone());
    assert_eq!(world.joined(ticket).error, ErrorCode::GroupMaxSizeReached);
    small.groups_max = 1;
    world.coordinator.set_config(small);
    request.group = "another".into();
    let ticket = join(&mut world, request);
    assert_eq!(world.joined(ticket).error, ErrorCode::GroupMaxSizeReached);
}

#[test]
fn an_id_that_is_not_used_within_a_session_is_forgotten() {
    let mut world = World::new(config());
    let ticket = join(&mut world, join_request("one", ""));
    let id = world.joined(ticket).member;
    world.pass_ms(10_000);
    assert_eq!(world.state(), None);
    let ticket = join(&mut world, join_request("one", &id));
    assert_eq!(world.joined(ticket).error, ErrorCode::UnknownMemberId);
}

#[test]
fn a_leader_lost_before_its_assignment_is_replaced() {
    let mut world = World::new(config());
    let one = world.start_join("one");
    let two = world.start_join("two");
    world.pass_ms(10_000);
    let (first, second) = (world.joined(one.1), world.joined(two.1));
    let leader = first.leader.clone();
    let follower = [first.member, second.member]
        .into_iter()
        .find(|id| *id != leader)
        .expect("valid");
    let ticket = world.send(sync_request(&follower, 1, &[]));
    world.pass_ms(10_000);
    assert_eq!(world.synced(ticket).error, ErrorCode::RebalanceInProgress);
    let ticket = join(&mut world, join_request("x", &follower));
    let joined = world.joined(ticket);
    assert_eq!((joined.generation, &joined.leader), (2, &follower));
    world.sync_all(&[follower], 2);
}

#[test]
fn who_does_not_sync_within_the_rebalance_timeout_is_out() {
    let mut world = World::new(config());
    let one = world.start_join("one");
    let two = world.start_join("two");
    world.pass_ms(10_000);
    let leader = world.joined(one.1).leader;
    world.joined(two.1);
    let other = if leader == one.0 { two.0 } else { one.0 };
    let ticket = world.send(sync_request(&leader, 1, std::slice::from_ref(&leader)));
    world.flush();
    world.synced(ticket);
    for _ in 0..15 {
        world.pass_ms(4000);
        world.heartbeat(&other, 1);
        world.heartbeat(&leader, 1);
    }
    let error = world.heartbeat(&leader, 1);
    assert_eq!(error, ErrorCode::RebalanceInProgress);
    assert_eq!(world.heartbeat(&other, 1), ErrorCode::UnknownMemberId);
}

#[test]
fn a_failed_assignment_starts_the_group_over() {
    let mut world = World::new(config());
    let (id, ticket) = world.start_join("one");
    world.pass_ms(3000);
    world.joined(ticket);
    let ticket = world.send(sync_request(&id, 1, std::slice::from_ref(&id)));
    world.fail(ErrorCode::KafkaStorageError);
    assert_eq!(world.synced(ticket).error, ErrorCode::NotCoordinator);
    assert_eq!(world.state(), Some(("PreparingRebalance", 1)));
    let ticket = join(&mut world, join_request("one", &id));
    assert_eq!(world.joined(ticket).generation, 2);
    world.sync_all(&[id], 2);
}

#[test]
fn members_leave_and_the_last_one_leaves_an_empty_group_behind() {
    let mut world = World::new(config());
    let (ids, _) = world.stable(&["one", "two"]);
    assert_eq!(world.commit(&ids[0], 1, 5), ErrorCode::None);
    assert_eq!(
        leave(&mut world, "nobody", None),
        ErrorCode::UnknownMemberId
    );
    assert_eq!(leave(&mut world, &ids[1], None), ErrorCode::None);
    assert_eq!(world.state(), Some(("PreparingRebalance", 1)));
    assert_eq!(leave(&mut world, &ids[0], None), ErrorCode::None);
    assert_eq!(world.state(), Some(("Empty", 0)));
    world.restart();
    assert_eq!(world.state(), Some(("Empty", 0)));
    assert_eq!(world.fetch(), 5);
    assert_eq!(world.commit("", -1, 6), ErrorCode::None);
    assert_eq!(world.stable(&["one"]).1, 3, "generations go on");
}

#[test]
fn commits_are_fenced() {
    let mut world = World::new(config());
    assert_eq!(world.commit("", 3, 1), ErrorCode::GroupIdNotFound);
    assert_eq!(world.commit("", -1, 1), ErrorCode::None);
    let (ids, generation) = world.stable(&["one"]);
    assert_eq!(world.commit("", -1, 2), ErrorCode::UnknownMemberId);
    assert_eq!(world.commit("x", generation, 2), ErrorCode::UnknownMemberId);
    assert_eq!(world.commit(&ids[0], 0, 2), ErrorCode::IllegalGeneration);
    assert_eq!(world.commit(&ids[0], generation, 2), ErrorCode::None);
    let ticket = join(&mut world, join_request("one", &ids[0]));
    assert_eq!(world.joined(ticket).generation, 2);
    assert_eq!(world.commit(&ids[0], 2, 3), ErrorCode::RebalanceInProgress);
    assert_eq!(world.fetch(), 2);
}

#[test]
fn a_commit_is_seen_when_it_is_durable_and_not_at_all_when_it_fails() {
    let mut world = World::new(config());
    world.commit("", -1, 1);
    let ticket = world.send(commit_request("", -1, 2));
    let later = world.send(commit_request("", -1, 3));
    assert!(!world.answered.contains_key(&ticket));
    let topics = world.coordinator.committed_offsets();
    assert_eq!(topics.map(|entry| entry.offset).collect::<Vec<_>>(), [1]);
    world.durable_one();
    assert!(world.answered.contains_key(&ticket));
    world.fail(ErrorCode::KafkaStorageError);
    match world.answer(later) {
        GroupAnswer::Commit(topics) => {
            assert_eq!(topics[0].partitions, [(0, ErrorCode::NotCoordinator)]);
        }
        other => panic!("not a commit: {other:?}"),
    }
    assert_eq!(world.fetch(), 2);
    world.restart();
    assert_eq!(world.fetch(), 2);
}

#[test]
fn metadata_that_is_too_long_is_refused_by_itself() {
    let mut world = World::new(config());
    let GroupRequest::Commit(mut request) = commit_request("", -1, 1) else {
        panic!("it makes commits");
    };
    let mut long = request.offsets[0].1[0].clone();
    (long.partition, long.metadata) = (1, "x".repeat(4097));
    request.offsets[0].1.push(long);
    match world.ask(GroupRequest::Commit(request)) {
        GroupAnswer::Commit(topics) => assert_eq!(
            topics[0].partitions,
            [(0, ErrorCode::None), (1, ErrorCode::OffsetMetadataTooLarge)]
        ),
        other => panic!("not a commit: {other:?}"),
    }
}

#[test]
fn a_static_follower_comes_back_without_a_rebalance_and_the_old_id_is_fenced() {
    let mut world = World::new(config());
    let (members, generation) = static_group(&mut world);
    let (instance, old_id) = members[1].clone();
    let ticket = join(&mut world, static_join(&instance, ""));
    assert!(
        !world.answered.contains_key(&ticket),
        "the id is not durable"
    );
    world.flush();
    let joined = world.joined(ticket);
    assert_eq!(
        (joined.error, joined.generation),
        (ErrorCode::None, generation)
    );
    assert_ne!(joined.member, old_id);
    assert!(!joined.skip_assignment);
    assert_eq!(world.state(), Some(("Stable", 2)));
    let mut fenced = identity(&old_id, generation);
    fenced.instance = Some(instance.clone());
    let answer = world.ask(GroupRequest::Heartbeat(fenced));
    assert_eq!(answer, GroupAnswer::Heartbeat(ErrorCode::FencedInstanceId));
    let ticket = world.send(sync_request(&joined.member, generation, &[]));
    assert_eq!(world.synced(ticket).assignment, old_id.as_bytes());
    world.restart();
    assert_eq!(world.heartbeat(&joined.member, generation), ErrorCode::None);
    assert_eq!(leave(&mut world, "", Some(&instance)), ErrorCode::None);
    assert_eq!(world.state(), Some(("PreparingRebalance", 1)));
}

#[test]
fn a_static_id_told_at_the_end_of_a_join_phase_is_not_fenced_after_a_crash() {
    let mut world = World::new(config());
    let (members, _) = static_group(&mut world);
    let (instance, _) = members[1].clone();
    // A changed subscription, so that everyone has to join again.
    let mut changed = static_join(&members[0].0, &members[0].1);
    changed.protocols[0].metadata.push(1);
    let leader = join(&mut world, changed);
    let returned = join(&mut world, static_join(&instance, ""));
    assert!(
        !world.answered.contains_key(&returned) && !world.answered.contains_key(&leader),
        "the new id is not durable"
    );
    world.flush();
    let joined = world.joined(returned);
    assert_eq!(joined.error, ErrorCode::None);
    world.restart();
    // The generation never got an assignment; the member joins again and goes on.
    let mut request = sync_request(&joined.member, joined.generation, &[]);
    if let GroupRequest::Sync(request) = &mut request {
        request.identity.instance = Some(instance.clone());
    }
    let ticket = world.send(request);
    assert_eq!(world.synced(ticket).error, ErrorCode::IllegalGeneration);
    let ticket = join(&mut world, static_join(&instance, &joined.member));
    assert_eq!(world.joined(ticket).error, ErrorCode::None);
}

#[test]
fn a_static_leader_that_comes_back_may_skip_the_assignment() {
    let mut world = World::new(config());
    let (members, _) = static_group(&mut world);
    let (instance, old_id) = members[0].clone();
    let mut older = static_join(&instance, "");
    older.supports_skipping_assignment = false;
    let ticket = join(&mut world, older);
    world.flush();
    let joined = world.joined(ticket);
    assert_eq!((joined.leader, joined.members.len()), (old_id, 0));
    let ticket = join(&mut world, static_join(&instance, ""));
    world.flush();
    let joined = world.joined(ticket);
    assert!(joined.skip_assignment);
    assert_eq!((&joined.leader, joined.members.len()), (&joined.member, 2));
}

#[test]
fn a_static_replacement_that_cannot_be_written_is_undone() {
    let mut world = World::new(config());
    let (members, generation) = static_group(&mut world);
    let (instance, old_id) = members[1].clone();
    let tickets = [(); 2].map(|()| join(&mut world, static_join(&instance, "")));
    world.fail(ErrorCode::KafkaStorageError);
    assert_eq!(world.joined(tickets[0]).error, ErrorCode::FencedInstanceId);
    assert_eq!(world.joined(tickets[1]).error, ErrorCode::NotCoordinator);
    assert_eq!(world.heartbeat(&old_id, generation), ErrorCode::None);
    assert_eq!(world.state(), Some(("Stable", 2)));
}

#[test]
fn a_reload_restores_members_assignments_and_offsets() {
    let mut world = World::new(config());
    let (ids, generation) = world.stable(&["one", "two"]);
    world.commit(&ids[0], generation, 9);
    let describe = GroupRequest::Describe {
        group: GROUP.into(),
    };
    let before = world.ask(describe.clone());
    world.restart();
    assert_eq!(world.ask(describe), before);
    assert_eq!(world.fetch(), 9);
    // Sessions start anew.
    world.pass_ms(9000);
    assert_eq!(world.heartbeat(&ids[0], generation), ErrorCode::None);
    let ticket = world.send(sync_request(&ids[1], generation, &[]));
    assert_eq!(world.synced(ticket).assignment, ids[1].as_bytes());
}

#[test]
fn partitions_that_load_or_are_elsewhere_say_so() {
    let mut world = World::new(config());
    world.coordinator.begin_loading(0);
    let error = ErrorCode::CoordinatorLoadInProgress;
    assert_eq!(world.heartbeat("x", 1), error);
    let list = GroupRequest::List {
        states: Vec::new(),
        types: Vec::new(),
        protocol_types: Vec::new(),
    };
    let groups = Vec::new();
    assert_eq!(world.ask(list), GroupAnswer::List { error, groups });
    world.restart();
    let (_, ticket) = world.start_join("one");
    let mut out = Vec::new();
    world.coordinator.resign(0, &mut out);
    world.take(out);
    assert_eq!(world.joined(ticket).error, ErrorCode::NotCoordinator);
    assert_eq!(world.heartbeat("x", 1), ErrorCode::NotCoordinator);
}

#[test]
fn offsets_of_topics_that_are_gone_are_forgotten() {
    let mut world = World::new(config());
    for topic in ["kept", "deleted", "gone"] {
        world.ask(commit_of(topic, 0, identity("", -1), 1));
    }
    let mut out = Vec::new();
    world
        .coordinator
        .topic_deleted(world.now, "deleted", &mut out);
    world.take(out);
    world.flush();
    world.restart_where(&|topic| topic != "gone");
    world.flush();
    world.restart();
    let topics = world.coordinator.committed_offsets();
    let topics: Vec<_> = topics.map(|entry| entry.topic.to_owned()).collect();
    assert_eq!(topics, ["kept"]);
}

#[test]
fn offsets_expire_after_the_group_has_been_empty_for_long_and_the_group_goes() {
    let mut world = World::new(config());
    let (ids, generation) = world.stable(&["one"]);
    world.commit(&ids[0], generation, 9);
    let retention_ms = world.config.offsets_retention_ms;
    for _ in 0..retention_ms / 9000 + 1 {
        world.now.monotonic_ns = world.now.plus_ms(9000);
        world.now.wall_ms += 9000;
        world.heartbeat(&ids[0], generation);
    }
    world.pass_ms(1);
    world.tick();
    world.flush();
    assert_eq!(world.fetch(), 9, "a group with members keeps its offsets");
    leave(&mut world, &ids[0], None);
    world.pass_ms(retention_ms - 120_000);
    assert_eq!(world.fetch(), 9);
    world.pass_ms(240_000);
    assert_eq!((world.fetch(), world.state()), (-1, None));
    assert_eq!(world.coordinator.counters().offsets_expired, 1);
    world.restart();
    assert_eq!((world.fetch(), world.state()), (-1, None));
}

#[test]
fn groups_and_offsets_are_deleted_only_when_nobody_uses_them() {
    let mut world = World::new(config());
    let delete = GroupRequest::Delete {
        group: GROUP.into(),
    };
    let deleted = |error| GroupAnswer::Delete(error);
    let answer = world.ask(delete.clone());
    assert_eq!(answer, deleted(ErrorCode::GroupIdNotFound));
    let (ids, generation) = world.stable(&["one"]);
    world.commit(&ids[0], generation, 1);
    world.ask(commit_of("other", 0, identity(&ids[0], generation), 1));
    let delete_offsets = GroupRequest::DeleteOffsets {
        group: GROUP.into(),
        topics: vec![(Arc::from("topic"), vec![0]), (Arc::from("other"), vec![0])],
    };
    match world.ask(delete_offsets) {
        GroupAnswer::DeleteOffsets { error, topics } => {
            assert_eq!(error, ErrorCode::None);
            let subscribed = ErrorCode::GroupSubscribedToTopic;
            assert_eq!(topics[0].partitions, [(0, subscribed)]);
            assert_eq!(topics[1].partitions, [(0, ErrorCode::None)]);
        }
        other => panic!("not a deletion: {other:?}"),
    }
    assert_eq!(world.coordinator.committed_offsets().count(), 1);
    let answer = world.ask(delete.clone());
    assert_eq!(answer, deleted(ErrorCode::NonEmptyGroup));
    leave(&mut world, &ids[0], None);
    assert_eq!(world.ask(delete), deleted(ErrorCode::None));
    assert_eq!((world.fetch(), world.state()), (-1, None));
    world.restart();
    assert_eq!((world.fetch(), world.state()), (-1, None));
}

#[test]
fn a_log_is_written_again_and_cut_without_losing_the_newest_value() {
    let mut world = World::new(config());
    let (ids, generation) = world.stable(&["one"]);
    for round in 0..40 {
        for partition in 0..500 {
            let who = identity(&ids[0], generation);
            world.send(commit_of("topic", partition, who, round));
            if partition % 7 == 0 {
                world.durable_one();
            }
        }
        world.heartbeat(&ids[0], generation);
    }
    world.flush();
    assert!(world.truncations > 1, "{} truncations", world.truncations);
    let bytes: usize = world.log.iter().map(Vec::len).sum();
    assert!(bytes < 3 << 20, "{bytes} bytes");
    world.restart();
    let offsets: Vec<i64> = world
        .coordinator
        .committed_offsets()
        .map(|e| e.offset)
        .collect();
    assert_eq!(offsets, vec![39; 500]);
    assert_eq!(world.state(), Some(("Stable", 1)));
}

/// The bytes a snapshot was to replace were forgotten when it failed, and the log grew on.
#[test]
fn a_failed_snapshot_is_tried_again_soon() {
    let mut world = World::new(config());
    let mut commits = 0;
    let mut commit = |world: &mut World| {
        commits += 1;
        world.send(commit_request("", -1, commits));
        world.durable_one();
    };
    while world.in_flight.is_empty() {
        commit(&mut world);
    }
    world.fail(ErrorCode::KafkaStorageError);
    commit(&mut world);
    assert_eq!(world.in_flight.len(), 1, "the snapshot again");
    world.flush();
    assert_eq!((world.truncations, world.log.len()), (1, 1));
}

#[test]
fn a_client_that_is_gone_gets_no_answer_and_stays_a_member() {
    let mut world = World::new(config());
    let (_, ticket) = world.start_join("one");
    world.coordinator.forget(ticket);
    world.pass_ms(3000);
    assert!(!world.answered.contains_key(&ticket));
    assert_eq!(world.state(), Some(("CompletingRebalance", 1)));
}

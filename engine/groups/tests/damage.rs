//! Part of the log of offsets is lost: nobody is told an offset that may be older than what was
//! committed, nor that nothing was, until an operator decides.

mod harness;

use std::sync::Arc;

use harness::{GROUP, World, commit_of, config, identity, join_request, sync_request};
use highwater_base::{BatchHeader, ErrorCode, Offset};
use highwater_groups::{
    Coordinator, DescribedGroup, FetchedOffset, GroupAnswer, GroupOffsets, GroupRequest, Outbox,
};

const UNCERTAIN: ErrorCode = ErrorCode::UnstableOffsetCommit;
const INCOMPLETE: ErrorCode = ErrorCode::KafkaStorageError;

/// Loads the log again without the batches `is_lost` names by their place.
fn restart_without(world: &mut World, is_lost: impl Fn(usize) -> bool) {
    world.in_flight.clear();
    world.coordinator = Coordinator::new(world.config.clone(), 99);
    world.coordinator.begin_loading(0);
    for (at, batch) in world.log.iter().enumerate() {
        let header = BatchHeader::parse(batch).expect("valid");
        let (from, to) = (Offset(header.base_offset), header.next_offset());
        if is_lost(at) {
            world.coordinator.lost(0, from, to);
        } else {
            let loaded = world.coordinator.load_batch(0, &header, batch);
            loaded.expect("valid");
        }
    }
    finish_loading(world);
}

fn finish_loading(world: &mut World) {
    let mut out = Outbox::new();
    let now = world.now;
    world
        .coordinator
        .finish_loading(now, 0, &|_| true, &mut out);
    world.take(out);
    world.flush();
}

fn commit(world: &mut World, partition: i32, offset: i64) {
    let answer = world.ask(commit_of("topic", partition, identity("", -1), offset));
    let GroupAnswer::Commit(topics) = answer else {
        panic!("not a commit: {answer:?}");
    };
    assert_eq!(topics[0].partitions, [(partition, ErrorCode::None)]);
}

fn fetch(world: &mut World, group: &str, partitions: Option<&[i32]>) -> GroupOffsets {
    let answer = world.ask(GroupRequest::FetchOffsets {
        group: group.into(),
        member: String::new(),
        member_epoch: -1,
        topics: partitions.map(|all| vec![(Arc::from("topic"), all.to_vec())]),
        require_stable: false,
    });
    match answer {
        GroupAnswer::FetchOffsets(offsets) => offsets,
        other => panic!("not offsets: {other:?}"),
    }
}

fn rows(offsets: &GroupOffsets) -> Vec<(i32, ErrorCode, i64)> {
    let rows = offsets.topics.iter().flat_map(|(_, rows)| rows);
    let row = |row: &FetchedOffset| (row.committed.partition, row.error, row.committed.offset);
    rows.map(row).collect()
}

fn describe(world: &mut World, group: &str) -> DescribedGroup {
    let group = group.into();
    match world.ask(GroupRequest::Describe { group }) {
        GroupAnswer::Describe(group) => group,
        other => panic!("not a group: {other:?}"),
    }
}

fn list_error(world: &mut World) -> (ErrorCode, usize) {
    let (states, types, protocol_types) = (vec![], vec![], vec![]);
    match world.ask(GroupRequest::List {
        states,
        types,
        protocol_types,
    }) {
        GroupAnswer::List { error, groups } => (error, groups.len()),
        other => panic!("not a list: {other:?}"),
    }
}

/// Commits: partition 0 in front of the damage, 1 in front and in it, 2 in it, 3 behind it.
fn with_a_hole() -> World {
    let mut world = World::new(config());
    commit(&mut world, 0, 10);
    commit(&mut world, 1, 20);
    let first_lost = world.log.len();
    commit(&mut world, 1, 21);
    commit(&mut world, 2, 30);
    let behind = world.log.len();
    commit(&mut world, 3, 40);
    restart_without(&mut world, |at| (first_lost..behind).contains(&at));
    world
}

#[test]
fn a_key_whose_last_commit_may_be_lost_is_an_error_and_never_none_or_older() {
    let mut world = with_a_hole();
    let found = fetch(&mut world, GROUP, Some(&[0, 1, 2, 3]));
    assert_eq!(found.error, ErrorCode::None);
    let expected = [
        (0, UNCERTAIN, -1),
        (1, UNCERTAIN, -1),
        (2, UNCERTAIN, -1),
        (3, ErrorCode::None, 40),
    ];
    assert_eq!(rows(&found), expected);
    let metadata = &found.topics[0].1[1].committed.metadata;
    assert!(metadata.contains("last known offset 20"), "{metadata}");
    // A group that is not known at all may have been in the damage.
    let found = fetch(&mut world, "stranger", Some(&[0]));
    assert_eq!(rows(&found), [(0, UNCERTAIN, -1)]);
    for group in [GROUP, "stranger"] {
        assert_eq!(fetch(&mut world, group, None).error, INCOMPLETE);
    }
    let all = fetch(&mut world, GROUP, None);
    let expected = [
        (0, UNCERTAIN, -1),
        (1, UNCERTAIN, -1),
        (3, ErrorCode::None, 40),
    ];
    assert_eq!(rows(&all), expected);
}

#[test]
fn a_commit_after_the_damage_is_answered_also_by_the_next_process() {
    let mut world = with_a_hole();
    commit(&mut world, 1, 25);
    let expected = [(0, UNCERTAIN, -1), (1, ErrorCode::None, 25)];
    assert_eq!(rows(&fetch(&mut world, GROUP, Some(&[0, 1]))), expected);
    let lost = 2..4;
    restart_without(&mut world, |at| lost.contains(&at));
    assert_eq!(rows(&fetch(&mut world, GROUP, Some(&[0, 1]))), expected);
}

#[test]
fn groups_that_are_not_known_are_not_said_to_be_absent() {
    let mut world = with_a_hole();
    assert_eq!(describe(&mut world, GROUP).error, ErrorCode::None);
    let stranger = describe(&mut world, "stranger");
    assert_eq!((stranger.error, stranger.state), (INCOMPLETE, ""));
    assert_eq!(list_error(&mut world), (INCOMPLETE, 1));
    let group: String = "stranger".into();
    let answer = world.ask(GroupRequest::Delete {
        group: group.clone(),
    });
    assert_eq!(answer, GroupAnswer::Delete(INCOMPLETE));
    let topics = vec![(Arc::from("topic"), vec![0])];
    match world.ask(GroupRequest::DeleteOffsets { group, topics }) {
        GroupAnswer::DeleteOffsets { error, .. } => assert_eq!(error, INCOMPLETE),
        other => panic!("not a deletion: {other:?}"),
    }
    // A member of such a group joins again.
    assert_eq!(
        world.heartbeat("member-of-a-lost-group", 7),
        ErrorCode::UnknownMemberId
    );
    let mut world = World::new(config());
    commit(&mut world, 0, 1);
    world.log.clear();
    world.coordinator = Coordinator::new(world.config.clone(), 99);
    world.coordinator.begin_loading(0);
    world.coordinator.lost(0, Offset(0), Offset(1));
    finish_loading(&mut world);
    assert_eq!(world.commit("member", 3, 5), ErrorCode::UnknownMemberId);
}

/// What an operator deletes is certain to be gone, also what is not known.
#[test]
fn deleted_offsets_are_none_whatever_the_damage_held() {
    let mut world = with_a_hole();
    let topics = vec![(Arc::from("topic"), vec![1, 2])];
    let group = GROUP.into();
    match world.ask(GroupRequest::DeleteOffsets { group, topics }) {
        GroupAnswer::DeleteOffsets { error, .. } => assert_eq!(error, ErrorCode::None),
        other => panic!("not a deletion: {other:?}"),
    }
    let expected = [(1, ErrorCode::None, -1), (2, ErrorCode::None, -1)];
    assert_eq!(rows(&fetch(&mut world, GROUP, Some(&[1, 2]))), expected);
}

#[test]
fn members_of_a_group_whose_record_may_be_old_join_again() {
    let mut world = World::new(config());
    let (ids, generation) = world.stable(&["one", "two"]);
    let first_lost = world.log.len();
    let left = world.send(commit_of("topic", 0, identity(&ids[0], generation), 5));
    world.flush();
    world.answer(left);
    restart_without(&mut world, |at| at >= first_lost);
    // The former generation may have been replaced in what is lost: it commits nothing.
    assert_eq!(
        world.commit(&ids[0], generation, 6),
        ErrorCode::UnknownMemberId
    );
    assert_eq!(
        world.heartbeat(&ids[1], generation),
        ErrorCode::UnknownMemberId
    );
    assert_eq!(world.state(), Some(("Empty", 0)));
    let (again, ticket) = world.start_join("one");
    world.pass_ms(10_000);
    let joined = world.joined(ticket);
    assert_eq!(joined.error, ErrorCode::None);
    assert!(joined.generation > generation);
    let ticket = world.send(sync_request(
        &again,
        joined.generation,
        std::slice::from_ref(&again),
    ));
    world.flush();
    assert_eq!(world.synced(ticket).error, ErrorCode::None);
    // Its record stands behind the damage now.
    restart_without(&mut world, |at| at == first_lost);
    assert_eq!(world.state(), Some(("Stable", 1)));
    assert_eq!(world.heartbeat(&again, joined.generation), ErrorCode::None);
}

/// A static member's old id, read back from before the damage, would fence the member itself.
#[test]
fn a_static_member_is_not_fenced_by_a_record_from_before_the_damage() {
    let mut world = World::new(config());
    let mut request = join_request("one", "");
    request.instance = Some("static".into());
    let ticket = world.send(GroupRequest::Join(request.clone()));
    world.pass_ms(10_000);
    let joined = world.joined(ticket);
    assert_eq!(joined.error, ErrorCode::None);
    let ticket = world.send(sync_request(
        &joined.member,
        1,
        std::slice::from_ref(&joined.member),
    ));
    world.flush();
    assert_eq!(world.synced(ticket).error, ErrorCode::None);
    let first_lost = world.log.len();
    // It comes back under a new id, whose record is lost.
    let ticket = world.send(GroupRequest::Join(request));
    world.flush();
    let back = world.joined(ticket);
    assert_ne!(back.member, joined.member);
    assert!(world.log.len() > first_lost);
    restart_without(&mut world, |at| at >= first_lost);
    let mut who = identity(&back.member, back.generation);
    who.instance = Some("static".into());
    let answer = world.ask(GroupRequest::Heartbeat(who));
    assert_eq!(answer, GroupAnswer::Heartbeat(ErrorCode::UnknownMemberId));
}

/// A snapshot would make what is uncertain the newest there is, and delete the damage.
#[test]
fn nothing_is_compacted_or_expired_before_an_operator_has_decided() {
    let mut world = with_a_hole();
    for offset in 0..20_000 {
        world.send(commit_of("topic", 3, identity("", -1), offset));
    }
    world.flush();
    assert_eq!(world.truncations, 0);
    world.pass_ms(30 * 24 * 3_600_000);
    let expected = [(0, UNCERTAIN, -1), (2, UNCERTAIN, -1)];
    assert_eq!(rows(&fetch(&mut world, GROUP, Some(&[0, 2]))), expected);
}

fn accept(world: &mut World) -> Result<(), ErrorCode> {
    let mut out = Outbox::new();
    let accepted = world.coordinator.accept_loss(world.now, 0, &mut out);
    world.take(out);
    accepted
}

#[test]
fn an_operator_takes_what_is_known_and_the_log_is_whole() {
    let mut world = with_a_hole();
    assert_eq!(accept(&mut world), Ok(()));
    assert_eq!(accept(&mut world), Ok(()), "it is under way");
    world.flush();
    assert_eq!(world.truncations, 1);
    assert_eq!(
        rows(&fetch(&mut world, GROUP, Some(&[1]))),
        [(1, UNCERTAIN, -1)],
        "the damaged front is still there"
    );
    let start = BatchHeader::parse(&world.log[0])
        .expect("valid")
        .base_offset;
    world.coordinator.log_start_moved(0, Offset(start));
    let expected = [
        (0, ErrorCode::None, 10),
        (1, ErrorCode::None, 20),
        (2, ErrorCode::None, -1),
        (3, ErrorCode::None, 40),
    ];
    let partitions = Some(&[0, 1, 2, 3][..]);
    assert_eq!(rows(&fetch(&mut world, GROUP, partitions)), expected);
    assert_eq!(list_error(&mut world), (ErrorCode::None, 1));
    assert_eq!(accept(&mut world), Err(ErrorCode::PolicyViolation));
    world.restart();
    assert_eq!(rows(&fetch(&mut world, GROUP, partitions)), expected);
}

#[test]
fn a_decision_that_cannot_be_written_leaves_the_damage_and_can_be_made_again() {
    let mut world = with_a_hole();
    assert_eq!(accept(&mut world), Ok(()));
    world.fail(ErrorCode::KafkaStorageError);
    assert_eq!(world.not_accepted, 1);
    let before = rows(&fetch(&mut world, GROUP, Some(&[0])));
    assert_eq!(before, [(0, UNCERTAIN, -1)]);
    assert_eq!(accept(&mut world), Ok(()));
    world.flush();
    assert_eq!((world.truncations, world.not_accepted), (1, 1));
}

/// Everything that counts is in memory: it is written again, and nobody has to decide.
#[test]
fn damage_found_while_serving_is_mended_by_writing_everything_again() {
    let mut world = World::new(config());
    for partition in 0..5 {
        commit(&mut world, partition, 7);
    }
    let mut out = Outbox::new();
    let now = world.now;
    world.coordinator.damaged_while_served(now, 0, &mut out);
    world.take(out);
    world.flush();
    assert_eq!((world.truncations, world.log.len()), (1, 1));
    world.restart();
    let all = fetch(&mut world, GROUP, None);
    assert_eq!((all.error, rows(&all).len()), (ErrorCode::None, 5));
}

#[test]
fn a_partition_whose_log_cannot_be_read_has_no_coordinator() {
    let mut world = World::new(config());
    commit(&mut world, 0, 1);
    world.coordinator.unavailable(0);
    let missing = ErrorCode::CoordinatorNotAvailable;
    assert_eq!(fetch(&mut world, GROUP, Some(&[0])).error, missing);
    assert_eq!(world.commit("", -1, 2), missing);
    assert_eq!(describe(&mut world, GROUP).error, missing);
    assert_eq!(list_error(&mut world), (INCOMPLETE, 0));
    assert_eq!(accept(&mut world), Err(missing));
}

/// A record in the log as another one wrote it: its batch is sealed again.
fn reseal(batch: &mut [u8]) {
    let crc = highwater_base::crc::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// The value of the newest record is of a version that is not known: the one before it was served.
#[test]
fn a_value_that_is_not_understood_hides_its_own_key_and_no_older_value_shows() {
    let mut world = World::new(config());
    commit(&mut world, 0, 10);
    commit(&mut world, 1, 20);
    commit(&mut world, 0, 11);
    let batch = world.log.last_mut().expect("three");
    // Version 3, then the offset.
    let value = [0, 3, 0, 0, 0, 0, 0, 0, 0, 11];
    let at = batch.windows(value.len()).position(|it| it == value);
    batch[at.expect("the value is in it") + 1] = 99;
    reseal(batch);
    world.coordinator = Coordinator::new(world.config.clone(), 99);
    world.coordinator.begin_loading(0);
    for (at, batch) in world.log.iter().enumerate() {
        let header = BatchHeader::parse(batch).expect("valid");
        let loaded = world.coordinator.load_batch(0, &header, batch);
        assert_eq!(loaded.is_err(), at == 2, "{loaded:?}");
    }
    finish_loading(&mut world);
    let expected = [(0, UNCERTAIN, -1), (1, ErrorCode::None, 20)];
    assert_eq!(rows(&fetch(&mut world, GROUP, Some(&[0, 1]))), expected);
    commit(&mut world, 0, 12);
    assert_eq!(
        rows(&fetch(&mut world, GROUP, Some(&[0]))),
        [(0, ErrorCode::None, 12)]
    );
}

/// A key that cannot be read may be any key.
#[test]
fn a_key_that_is_not_understood_makes_everything_before_it_uncertain() {
    let mut world = World::new(config());
    commit(&mut world, 0, 10);
    commit(&mut world, 1, 20);
    commit(&mut world, 2, 30);
    let batch = &mut world.log[1];
    let name = batch.windows(5).position(|it| it == b"topic");
    batch[name.expect("the key is in it") - 1] = 200;
    reseal(batch);
    world.coordinator = Coordinator::new(world.config.clone(), 99);
    world.coordinator.begin_loading(0);
    for (at, batch) in world.log.iter().enumerate() {
        let header = BatchHeader::parse(batch).expect("valid");
        let loaded = world.coordinator.load_batch(0, &header, batch);
        assert_eq!(loaded.is_err(), at == 1, "{loaded:?}");
    }
    finish_loading(&mut world);
    let expected = [
        (0, UNCERTAIN, -1),
        (1, UNCERTAIN, -1),
        (2, ErrorCode::None, 30),
    ];
    assert_eq!(rows(&fetch(&mut world, GROUP, Some(&[0, 1, 2]))), expected);
}

/// It was appended to a log that was still being read, and what was read later undid it.
#[test]
fn a_topic_that_goes_while_its_offsets_are_loaded_takes_them_along() {
    let mut world = World::new(config());
    commit(&mut world, 0, 10);
    commit(&mut world, 1, 20);
    world.coordinator = Coordinator::new(world.config.clone(), 99);
    world.coordinator.begin_loading(0);
    for (at, batch) in world.log.iter().enumerate() {
        if at == 1 {
            let mut out = Outbox::new();
            world
                .coordinator
                .topic_deleted(world.now, "topic", &mut out);
            assert_eq!(out, []);
        }
        let header = BatchHeader::parse(batch).expect("valid");
        let loaded = world.coordinator.load_batch(0, &header, batch);
        loaded.expect("valid");
    }
    finish_loading(&mut world);
    let expected = [(0, ErrorCode::None, -1), (1, ErrorCode::None, -1)];
    assert_eq!(rows(&fetch(&mut world, GROUP, Some(&[0, 1]))), expected);
}

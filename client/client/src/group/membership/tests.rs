//! Stories of a member and a scripted coordinator: every refusal and loss, at every step.

use highwater_base::ErrorCode;

use super::*;
use crate::calls::{JoinOutcome, JoinedMember};
use crate::group::protocol::Assignment;
use crate::metadata::MetadataCache;
use crate::metadata::tests::answer;

const HEARTBEAT_MS: u64 = 3_000;

struct Story {
    member: Membership,
    now: Now,
}

fn refused(code: ErrorCode) -> ClientError {
    ClientError::from_code("group \"g\"", code.code(), None).expect("a refusal")
}

fn lost() -> ClientError {
    ClientError::Disconnected {
        address: "h:1".to_string(),
        reason: "end of stream".to_string(),
    }
}

fn partition(index: i32) -> TopicPartition {
    TopicPartition::new("t", index)
}

fn offsets() -> BTreeMap<TopicPartition, CommittedOffset> {
    BTreeMap::from([(partition(0), CommittedOffset::at(7))])
}

fn joined(generation: i32, leader: &str) -> JoinedGroup {
    JoinedGroup {
        generation,
        protocol: "range".to_string(),
        leader: leader.to_string(),
        member_id: "me".to_string(),
        ..JoinedGroup::default()
    }
}

impl Story {
    fn with(settings: GroupSettings) -> Story {
        let now = Now {
            monotonic_ns: 1,
            wall_ms: 0,
        };
        let mut member = Membership::new(settings, &["t".to_string()]);
        member.polled(now);
        Story { member, now }
    }

    fn new() -> Story {
        Story::with(GroupSettings::new("g"))
    }

    fn pass(&mut self, milliseconds: u64) {
        self.now.monotonic_ns = self.now.plus_ms(milliseconds);
        self.member.polled(self.now);
    }

    fn command(&mut self) -> GroupCommand {
        self.member.poll_request(self.now).expect("a request")
    }

    fn is_quiet(&mut self) {
        assert_eq!(self.member.poll_request(self.now), None);
    }

    /// Expects that nothing is sent before a wait is over, which is bounded.
    fn waits(&mut self) {
        self.is_quiet();
        self.pass(BACKOFF_MAX_MS);
    }

    fn finds_coordinator(&mut self) {
        let GroupCommand { request, what } = self.command();
        assert!(matches!(what, GroupRequest::FindCoordinator(_)), "{what:?}");
        self.member.handle_coordinator(self.now, request, Ok(()));
    }

    fn join(&mut self) -> (u64, JoinGroup) {
        let GroupCommand { request, what } = self.command();
        let GroupRequest::Join(join) = what else {
            panic!("{what:?} instead of a join");
        };
        (request, join)
    }

    fn sync(&mut self) -> (u64, SyncGroup) {
        let GroupCommand { request, what } = self.command();
        let GroupRequest::Sync(sync) = what else {
            panic!("{what:?} instead of a synchronisation");
        };
        (request, sync)
    }

    fn heartbeat(&mut self) -> u64 {
        self.pass(HEARTBEAT_MS);
        let GroupCommand { request, what } = self.command();
        assert!(matches!(what, GroupRequest::Heartbeat(_)), "{what:?}");
        request
    }

    fn joins_as_follower(&mut self, generation: i32) {
        let (request, _) = self.join();
        let outcome = JoinOutcome::Joined(joined(generation, "other"));
        self.member.handle_join(self.now, request, Ok(outcome));
    }

    fn is_assigned(&mut self, partitions: &[i32]) {
        let (request, _) = self.sync();
        let assignment = Assignment {
            partitions: partitions.iter().map(|index| partition(*index)).collect(),
            user_data: None,
        };
        self.member
            .handle_sync(self.now, request, Ok(assignment.encode()));
        self.member.settled(self.now);
    }

    /// A member of generation 1 that works on partition 0.
    fn stable() -> Story {
        let mut story = Story::new();
        story.finds_coordinator();
        story.joins_as_follower(1);
        story.is_assigned(&[0]);
        assert!(story.member.is_stable());
        story
    }

    fn loses_everything_and_joins_anew(&mut self) {
        let change = self.member.change().expect("a change").clone();
        assert_eq!(change.lost, BTreeSet::from([partition(0)]));
        self.commits_nothing();
        self.member.settled(self.now);
        self.pass(BACKOFF_MAX_MS);
        let (_, join) = self.join();
        assert_eq!(join.member_id, "");
        assert!(self.member.owned().is_empty());
    }

    fn commits_nothing(&self) {
        let refusal = self.member.commit(offsets()).expect_err("no generation");
        assert!(matches!(refusal, ClientError::NotMember { .. }));
    }

    fn has_failed(&mut self, code: ErrorCode) {
        let failure = self.member.failure().expect("a failure");
        assert_eq!(failure.code(), Some(code));
        self.commits_nothing();
        self.pass(60_000);
        self.is_quiet();
    }
}

#[test]
fn a_join_is_repeated_with_the_id_that_was_given() {
    let mut story = Story::new();
    story.finds_coordinator();
    let (request, join) = story.join();
    assert_eq!(join.member_id, "");
    let member_id = "me".to_string();
    let outcome = JoinOutcome::MemberIdRequired { member_id };
    story.member.handle_join(story.now, request, Ok(outcome));
    let (request, join) = story.join();
    assert_eq!(join.member_id, "me");
    // Forgotten before the second join came: it begins without an id again.
    let error = Err(refused(ErrorCode::UnknownMemberId));
    story.member.handle_join(story.now, request, error);
    story.waits();
    assert_eq!(story.join().1.member_id, "");
}

#[test]
fn a_coordinator_that_loads_is_asked_again_and_another_one_is_looked_for() {
    let mut story = Story::new();
    story.finds_coordinator();
    let (request, _) = story.join();
    let loading = refused(ErrorCode::CoordinatorLoadInProgress);
    story
        .member
        .handle_join(story.now, request, Err(loading.clone()));
    assert_eq!(story.member.trouble(), Some(&loading));
    story.waits();
    for error in [
        refused(ErrorCode::NotCoordinator),
        refused(ErrorCode::CoordinatorNotAvailable),
        lost(),
    ] {
        let (request, _) = story.join();
        story.member.handle_join(story.now, request, Err(error));
        story.waits();
        story.finds_coordinator();
    }
    story.joins_as_follower(1);
    assert_eq!(story.member.trouble(), None);
}

#[test]
fn a_join_that_can_never_succeed_ends_the_membership() {
    for code in [
        ErrorCode::GroupMaxSizeReached,
        ErrorCode::InconsistentGroupProtocol,
        ErrorCode::FencedInstanceId,
        ErrorCode::InvalidSessionTimeout,
    ] {
        let mut story = Story::new();
        story.finds_coordinator();
        let (request, _) = story.join();
        let error = Err(refused(code));
        story.member.handle_join(story.now, request, error);
        story.has_failed(code);
    }
}

#[test]
fn a_synchronisation_that_fails_leads_back_to_a_join() {
    let same = "me";
    for (error, member_id) in [
        (refused(ErrorCode::RebalanceInProgress), same),
        (refused(ErrorCode::UnknownMemberId), ""),
        (refused(ErrorCode::IllegalGeneration), ""),
        (refused(ErrorCode::NotCoordinator), same),
        (lost(), same),
    ] {
        let finds = reaction(&error) == Reaction::FindCoordinator;
        let mut story = Story::new();
        story.finds_coordinator();
        story.joins_as_follower(1);
        let (request, sync) = story.sync();
        assert_eq!(sync.generation, 1);
        story.member.handle_sync(story.now, request, Err(error));
        story.waits();
        if finds {
            story.finds_coordinator();
        }
        assert_eq!(story.join().1.member_id, member_id);
    }
    let mut story = Story::new();
    story.finds_coordinator();
    story.joins_as_follower(1);
    let (request, sync) = story.sync();
    let loading = Err(refused(ErrorCode::CoordinatorLoadInProgress));
    story.member.handle_sync(story.now, request, loading);
    story.waits();
    assert_eq!(story.sync().1, sync);
}

#[test]
fn a_fenced_member_ends_whoever_tells_it() {
    let fenced = || refused(ErrorCode::FencedInstanceId);
    let mut story = Story::new();
    story.finds_coordinator();
    story.joins_as_follower(1);
    let (request, _) = story.sync();
    story.member.handle_sync(story.now, request, Err(fenced()));
    story.has_failed(ErrorCode::FencedInstanceId);

    let mut story = Story::stable();
    let request = story.heartbeat();
    story
        .member
        .handle_heartbeat(story.now, request, Err(fenced()));
    story.has_failed(ErrorCode::FencedInstanceId);

    let mut story = Story::stable();
    story.member.handle_commit_failure(story.now, 1, &fenced());
    story.has_failed(ErrorCode::FencedInstanceId);
}

#[test]
fn a_heartbeat_brings_a_rebalance_in_which_the_old_generation_still_commits() {
    let mut story = Story::stable();
    let request = story.heartbeat();
    let rebalances = Err(refused(ErrorCode::RebalanceInProgress));
    story
        .member
        .handle_heartbeat(story.now, request, rebalances);
    story.is_quiet();
    let change = story.member.change().expect("a change").clone();
    assert_eq!(change.revoked, BTreeSet::from([partition(0)]));
    let commit = story.member.commit(offsets()).expect("a commit");
    assert_eq!(commit.generation, 1);
    story.member.settled(story.now);
    assert_eq!(story.member.check_commit(&commit), Ok(()));
    story.joins_as_follower(2);
    // Whatever is still to be sent of it would set back the next owner.
    assert!(story.member.check_commit(&commit).is_err());
}

#[test]
fn a_member_that_is_not_known_any_more_loses_everything_and_joins_anew() {
    for code in [
        ErrorCode::UnknownMemberId,
        ErrorCode::IllegalGeneration,
        ErrorCode::GroupIdNotFound,
    ] {
        let mut story = Story::stable();
        let commit = story.member.commit(offsets()).expect("a commit");
        let request = story.heartbeat();
        let error = Err(refused(code));
        story.member.handle_heartbeat(story.now, request, error);
        assert!(story.member.check_commit(&commit).is_err());
        story.loses_everything_and_joins_anew();

        let mut story = Story::stable();
        let error = refused(code);
        story.member.handle_commit_failure(story.now, 1, &error);
        story.loses_everything_and_joins_anew();
    }
}

#[test]
fn a_refused_commit_of_an_earlier_generation_changes_nothing() {
    let mut story = Story::stable();
    story.member.subscribe(&["t".to_string(), "u".to_string()]);
    story.is_quiet();
    story.member.settled(story.now);
    story.joins_as_follower(2);
    story.is_assigned(&[0]);
    for code in [
        ErrorCode::UnknownMemberId,
        ErrorCode::IllegalGeneration,
        ErrorCode::RebalanceInProgress,
        ErrorCode::FencedInstanceId,
    ] {
        let error = refused(code);
        story.member.handle_commit_failure(story.now, 1, &error);
        assert!(story.member.is_stable(), "{code:?}");
    }
}

#[test]
fn a_commit_makes_the_member_rejoin_wait_or_go_on() {
    let mut story = Story::stable();
    for code in [
        ErrorCode::CoordinatorLoadInProgress,
        ErrorCode::OffsetMetadataTooLarge,
    ] {
        let error = refused(code);
        story.member.handle_commit_failure(story.now, 1, &error);
        assert!(story.member.is_stable(), "{code:?}");
    }
    let error = refused(ErrorCode::RebalanceInProgress);
    story.member.handle_commit_failure(story.now, 1, &error);
    story.is_quiet();
    assert!(story.member.change().is_some());
}

#[test]
fn a_lost_coordinator_is_one_loss_however_often_it_is_told() {
    let mut story = Story::stable();
    let heartbeat = story.heartbeat();
    story.member.coordinator_lost(story.now, &lost());
    story.waits();
    let GroupCommand { request, what } = story.command();
    assert!(matches!(what, GroupRequest::FindCoordinator(_)));
    // Other calls, and the heartbeat that was under way, find the same out.
    for _ in 0..20 {
        story.member.coordinator_lost(story.now, &lost());
    }
    story
        .member
        .handle_heartbeat(story.now, heartbeat, Err(lost()));
    story.is_quiet();
    story.member.handle_coordinator(story.now, request, Ok(()));
    // Of the connection before; the search is over and not begun again.
    story
        .member
        .handle_heartbeat(story.now, heartbeat, Err(lost()));
    story.heartbeat();
    assert_eq!(story.member.generation(), Some(1));
    assert!(story.member.is_stable());
}

#[test]
fn a_step_under_way_when_the_coordinator_is_lost_is_taken_again() {
    let mut story = Story::stable();
    story.member.subscribe(&["u".to_string()]);
    story.is_quiet();
    story.member.settled(story.now);
    let (old, _) = story.join();
    story.member.coordinator_lost(story.now, &lost());
    story.waits();
    story.finds_coordinator();
    let (new, join) = story.join();
    assert_eq!(join.member_id, "me");
    let outcome = JoinOutcome::Joined(joined(2, "other"));
    story.member.handle_join(story.now, old, Ok(outcome));
    assert_eq!(story.member.generation(), Some(1));
    let outcome = JoinOutcome::Joined(joined(3, "other"));
    story.member.handle_join(story.now, new, Ok(outcome));
    let (_, sync) = story.sync();
    assert_eq!(sync.generation, 3);
    story.member.coordinator_lost(story.now, &lost());
    story.waits();
    story.finds_coordinator();
    assert_eq!(story.sync().1, sync);
}

#[test]
fn what_was_assigned_is_lost_when_the_group_goes_on_while_it_is_carried_out() {
    let mut story = Story::new();
    story.finds_coordinator();
    story.joins_as_follower(1);
    let (request, _) = story.sync();
    let assignment = Assignment {
        partitions: vec![partition(0)],
        user_data: None,
    };
    let answer = Ok(assignment.encode());
    story.member.handle_sync(story.now, request, answer);
    let request = story.heartbeat();
    let error = Err(refused(ErrorCode::UnknownMemberId));
    story.member.handle_heartbeat(story.now, request, error);
    story.commits_nothing();
    story.member.settled(story.now);
    story.loses_everything_and_joins_anew();
}

#[test]
fn a_leader_assigns_before_it_synchronises() {
    let mut story = Story::new();
    story.finds_coordinator();
    let (request, join) = story.join();
    let mut group = joined(1, "me");
    group.members = vec![JoinedMember {
        member_id: "me".to_string(),
        instance_id: None,
        metadata: join.protocols[0].1.clone(),
    }];
    let outcome = JoinOutcome::Joined(group);
    story.member.handle_join(story.now, request, Ok(outcome));
    let GroupCommand { request, what } = story.command();
    let topics = vec!["t".to_string()];
    assert_eq!(what, GroupRequest::Metadata { topics });
    story
        .member
        .handle_metadata(story.now, request, Err(lost()));
    story.waits();
    let GroupCommand { request, .. } = story.command();
    let mut metadata = MetadataCache::default();
    metadata.update(answer("t", &[(1, 0), (1, 0)]));
    story
        .member
        .handle_metadata(story.now, request, Ok(&metadata));
    let (_, sync) = story.sync();
    let assigned = Assignment::decode(&sync.assignments[0].1).expect("an assignment");
    assert_eq!(assigned.partitions, [partition(0), partition(1)]);
}

#[test]
fn a_caller_that_does_not_poll_leaves_and_comes_back_with_its_next_poll() {
    let mut story = Story::stable();
    story.now.monotonic_ns = story.now.plus_ms(300_000);
    let left = story.command();
    assert!(matches!(left.what, GroupRequest::Leave(_)), "{left:?}");
    story.loses_everything_and_joins_anew();

    // A static one is expected back: it says nothing.
    let mut settings = GroupSettings::new("g");
    settings.instance_id = Some("i".to_string());
    let mut story = Story::with(settings);
    story.finds_coordinator();
    story.joins_as_follower(1);
    story.is_assigned(&[0]);
    assert_eq!(story.member.leave("the end"), None);
    story.is_quiet();
    story.commits_nothing();
}

//! Checks of consumer groups.
//!
//! A member takes part in rebalances only while it is polled, so every wait polls all members. A
//! crash is a real one: the member is a process of its own, killed by its parent.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use futures_executor::block_on;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use crate::broker::{config, eventually, fails, numbered, only, poll, verify, Broker, LIMIT};
use crate::Outcome;

/// Enough for a session to expire and all others to join again.
const REBALANCE_LIMIT: Duration = Duration::from_secs(18);

/// Runs the check of that name, if it is one of these.
pub fn check(broker: &Broker, name: &str) -> Option<Outcome> {
    match name {
        "group-two-rebalances" => two_rebalances(broker),
        "group-cooperative" => cooperative(broker),
        "group-static" => static_member(broker),
        "commit-sync" => commit_sync(broker),
        "commit-async" => commit_async(broker),
        "metadata-commit" => metadata_commit(broker),
        "crash-resume" => crash_resume(broker),
        "reset-offsets" => reset_offsets(broker),
        "list-groups" => list_groups(broker),
        "describe-group" => describe_group(broker),
        "delete-group" => delete_group(broker),
        "pause-resume" => pause_resume(broker),
        "regex-subscription" => regex_subscription(broker),
        "fan-in" => fan_in(broker),
        "fan-out" => fan_out(broker),
        _ => return None,
    }
    Some(Outcome::Shown)
}

/// What happened to a member between polls.
#[derive(Default)]
struct Seen {
    assignments: AtomicUsize,
    revoked: Mutex<Vec<i32>>,
}

impl ClientContext for Seen {}

impl ConsumerContext for Seen {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(list) if list.count() > 0 => {
                self.assignments.fetch_add(1, Ordering::Relaxed);
            }
            Rebalance::Revoke(list) => {
                let taken = list
                    .elements()
                    .iter()
                    .map(|one| one.partition())
                    .collect::<Vec<_>>();
                self.revoked.lock().expect("unpoisoned").extend(taken);
            }
            _ => {}
        }
    }
}

type Member = BaseConsumer<Seen>;

fn join(bootstrap: &str, group: &str, topic: &str, more: &[(&str, &str)]) -> Member {
    let mut config = config(bootstrap, &[("group.id", group)]);
    config
        .set("auto.offset.reset", "earliest")
        .set("session.timeout.ms", "6000")
        .set("heartbeat.interval.ms", "300")
        .set("topic.metadata.refresh.interval.ms", "1000");
    for (name, value) in more {
        config.set(*name, *value);
    }
    let member: Member = config
        .create_with_context(Seen::default())
        .expect("a consumer");
    member.subscribe(&[topic]).expect("subscribed");
    member
}

fn owned(member: &Member) -> Vec<(String, i32)> {
    let list = member.assignment().expect("an assignment");
    let mut names: Vec<(String, i32)> = list
        .elements()
        .iter()
        .map(|one| (one.topic().to_string(), one.partition()))
        .collect();
    names.sort();
    names
}

/// Waits until the members own that many partitions exactly once, each something.
fn shared(members: &[&Member], count: i32) {
    let deadline = Instant::now() + REBALANCE_LIMIT;
    loop {
        let mut all = Vec::new();
        let mut idle = false;
        for member in members {
            assert!(
                member
                    .poll(Duration::from_millis(20))
                    .is_none_or(|one| one.is_err()),
                "a record"
            );
            let mine: Vec<i32> = owned(member)
                .into_iter()
                .map(|(_, number)| number)
                .collect();
            idle |= mine.is_empty();
            all.extend(mine);
        }
        all.sort_unstable();
        if !idle && all == (0..count).collect::<Vec<i32>>() {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{} members own {all:?}",
            members.len()
        );
    }
}

/// Joins the group of the topic's name, says what it owns and reads, until it is killed.
pub fn doomed_member(bootstrap: &str, topic: &str) {
    let member = join(bootstrap, topic, topic, &[]);
    let mut read = 0;
    loop {
        if let Some(Ok(_)) = member.poll(Duration::from_millis(50)) {
            read += 1;
            if read == 10 {
                member
                    .commit(&at(topic, 5, ""), CommitMode::Sync)
                    .expect("committed");
                println!("committed");
            }
        } else if !owned(&member).is_empty() {
            println!("owns");
        }
    }
}

struct Doomed(Child);

impl Doomed {
    /// Starts such a member and waits until it says that line, polling another member meanwhile.
    fn start(broker: &Broker, topic: &str, line: &'static str, other: Option<&Member>) -> Doomed {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["member", &broker.bootstrap, topic])
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let said = BufReader::new(child.stdout.take().expect("piped"));
        let waiter = std::thread::spawn(move || {
            let mut lines = said.lines().map_while(Result::ok);
            let found = lines.any(|said| said == line);
            // Goes on reading, so that the member never waits for a full pipe.
            std::thread::spawn(move || lines.for_each(drop));
            found
        });
        eventually(line, || {
            if let Some(other) = other {
                other.poll(Duration::from_millis(20));
            }
            waiter.is_finished()
        });
        assert!(
            waiter.join().expect("read"),
            "the member ended before it said {line}"
        );
        Doomed(child)
    }

    fn kill(mut self) {
        self.0.kill().expect("killed");
        self.0.wait().expect("ended");
    }
}

fn two_rebalances(broker: &Broker) {
    let topic = broker.create("group-two-rebalances", 4, &[]);
    let first = join(&broker.bootstrap, &topic, &topic, &[]);
    shared(&[&first], 4);
    let second = join(&broker.bootstrap, &topic, &topic, &[]);
    shared(&[&first, &second], 4);
    drop(second);
    shared(&[&first], 4);
    let third = Doomed::start(broker, &topic, "owns", Some(&first));
    assert_eq!(
        owned(&first).len(),
        2,
        "partitions of the first beside another"
    );
    third.kill();
    shared(&[&first], 4);
}

fn cooperative(broker: &Broker) {
    let topic = broker.create("group-cooperative", 4, &[]);
    let how = [("partition.assignment.strategy", "cooperative-sticky")];
    let first = join(&broker.bootstrap, &topic, &topic, &how);
    shared(&[&first], 4);
    let second = join(&broker.bootstrap, &topic, &topic, &how);
    shared(&[&first, &second], 4);
    // Only what moved was taken; what stayed was never given up in between.
    let mut revoked = first.context().revoked.lock().expect("unpoisoned").clone();
    revoked.sort_unstable();
    let moved: Vec<i32> = owned(&second)
        .into_iter()
        .map(|(_, number)| number)
        .collect();
    assert_eq!(revoked, moved, "revoked from the first member");
}

fn static_member(broker: &Broker) {
    let topic = broker.create("group-static", 4, &[]);
    let join = |name| {
        join(
            &broker.bootstrap,
            &topic,
            &topic,
            &[("group.instance.id", name)],
        )
    };
    let first = join("first");
    shared(&[&first], 4);
    let second = join("second");
    shared(&[&first, &second], 4);
    let (before, assignments) = (
        owned(&second),
        first.context().assignments.load(Ordering::Relaxed),
    );
    // A static member that ends sends no LeaveGroup.
    drop(second);
    let second = join("second");
    eventually("the restarted member owns what it owned", || {
        first.poll(Duration::from_millis(20));
        second.poll(Duration::from_millis(20));
        owned(&second) == before
    });
    let now = first.context().assignments.load(Ordering::Relaxed);
    assert_eq!(now, assignments, "assignments of the member that stayed");
}

fn at(topic: &str, offset: i64, metadata: &str) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Offset(offset))
        .expect("valid");
    if !metadata.is_empty() {
        list.find_partition(topic, 0)
            .expect("added")
            .set_metadata(metadata);
    }
    list
}

/// A consumer of that group that never joins it.
fn outsider(broker: &Broker, group: &str) -> BaseConsumer {
    config(&broker.bootstrap, &[("group.id", group)])
        .create()
        .expect("a consumer")
}

/// The committed offset of partition 0, and its metadata; the topic has the group's name.
fn committed(broker: &Broker, topic: &str) -> (Offset, String) {
    let mut asked = TopicPartitionList::new();
    asked.add_partition(topic, 0);
    let found = outsider(broker, topic)
        .committed_offsets(asked, LIMIT)
        .expect("answered");
    let one = &found.elements()[0];
    (one.offset(), one.metadata().to_string())
}

/// A topic of ten records and a member of the group of that name which has read them.
fn joined_and_read(broker: &Broker, name: &str) -> (String, Member) {
    let topic = broker.create(name, 1, &[]);
    broker.send(&topic, &numbered(10, 0, "value"));
    let member = join(&broker.bootstrap, &topic, &topic, &[]);
    verify(
        &poll(&member, 10).expect("read"),
        &numbered(10, 0, "value"),
        0,
    );
    (topic, member)
}

/// A new member reads the ten records from that offset.
fn resumes(broker: &Broker, topic: &str, offset: usize) {
    let member = join(&broker.bootstrap, topic, topic, &[]);
    let read = poll(&member, 10 - offset).expect("read");
    verify(&read, &numbered(10, 0, "value")[offset..], offset as i64);
}

fn commit_sync(broker: &Broker) {
    let (topic, member) = joined_and_read(broker, "commit-sync");
    member
        .commit(&at(&topic, 6, ""), CommitMode::Sync)
        .expect("committed");
    assert_eq!(committed(broker, &topic).0, Offset::Offset(6), "committed");
    drop(member);
    resumes(broker, &topic, 6);
}

fn commit_async(broker: &Broker) {
    let (topic, member) = joined_and_read(broker, "commit-async");
    member
        .commit(&at(&topic, 4, ""), CommitMode::Async)
        .expect("sent");
    // rdkafka's commit_callback is never called: librdkafka passes the outcome on only where an
    // offset_commit_cb is configured, and the crate configures none.
    eventually("committed", || {
        member.poll(Duration::from_millis(20));
        committed(broker, &topic).0 == Offset::Offset(4)
    });
    drop(member);
    resumes(broker, &topic, 4);
}

fn metadata_commit(broker: &Broker) {
    let (topic, member) = joined_and_read(broker, "metadata-commit");
    for metadata in ["r\u{e9}sum\u{e9} at \u{1f30a}", ""] {
        member
            .commit(&at(&topic, 5, metadata), CommitMode::Sync)
            .expect("committed");
        assert_eq!(
            committed(broker, &topic),
            (Offset::Offset(5), metadata.to_string())
        );
    }
}

fn crash_resume(broker: &Broker) {
    let topic = broker.create("crash-resume", 1, &[]);
    broker.send(&topic, &numbered(10, 0, "value"));
    Doomed::start(broker, &topic, "committed", None).kill();
    resumes(broker, &topic, 5);
}

fn reset_offsets(broker: &Broker) {
    let (topic, member) = joined_and_read(broker, "reset-offsets");
    member
        .commit(&at(&topic, 10, ""), CommitMode::Sync)
        .expect("committed");
    let reset = |offset| outsider(broker, &topic).commit(&at(&topic, offset, ""), CommitMode::Sync);
    fails(
        reset(2),
        RDKafkaErrorCode::UnknownMemberId,
        "resetting a group that has members",
    );
    drop(member);
    for offset in [2, 7] {
        reset(offset).expect("reset");
        assert_eq!(committed(broker, &topic).0, Offset::Offset(offset), "reset");
    }
    resumes(broker, &topic, 7);
}

/// (state, protocol type, number of members), if the broker lists the group.
fn described(broker: &Broker, group: &str) -> Option<(String, String, usize)> {
    let list = broker
        .admin
        .inner()
        .fetch_group_list(None, LIMIT)
        .expect("listed");
    let found = list.groups().iter().find(|one| one.name() == group)?;
    let facts = (found.state(), found.protocol_type(), found.members().len());
    Some((facts.0.to_string(), facts.1.to_string(), facts.2))
}

fn list_groups(broker: &Broker) {
    let topic = broker.create("list-groups", 1, &[]);
    assert_eq!(described(broker, &topic), None, "before it exists");
    let member = join(&broker.bootstrap, &topic, &topic, &[]);
    shared(&[&member], 1);
    let (_, protocol_type, _) = described(broker, &topic).expect("listed");
    assert_eq!(protocol_type, "consumer");
}

fn describe_group(broker: &Broker) {
    let topic = broker.create("describe-group", 4, &[]);
    let first = join(&broker.bootstrap, &topic, &topic, &[]);
    let second = join(&broker.bootstrap, &topic, &topic, &[]);
    shared(&[&first, &second], 4);
    let stable = ("Stable".to_string(), "consumer".to_string(), 2);
    eventually("Stable with two members", || {
        described(broker, &topic).as_ref() == Some(&stable)
    });
    drop((first, second));
    eventually("Empty", || {
        described(broker, &topic).is_some_and(|one| one.0 == "Empty")
    });
}

fn delete_group(broker: &Broker) {
    let (topic, member) = joined_and_read(broker, "delete-group");
    member
        .commit(&at(&topic, 10, ""), CommitMode::Sync)
        .expect("committed");
    let delete = || -> Result<String, KafkaError> {
        only(block_on(
            broker
                .admin
                .delete_groups(&[topic.as_str()], &broker.options),
        ))
    };
    fails(
        delete(),
        RDKafkaErrorCode::NonEmptyGroup,
        "a group that has members",
    );
    drop(member);
    delete().expect("deleted");
    assert_eq!(described(broker, &topic), None, "listed after deletion");
    fails(
        delete(),
        RDKafkaErrorCode::GroupIdNotFound,
        "deleting it again",
    );
    resumes(broker, &topic, 0);
}

fn pause_resume(broker: &Broker) {
    let topic = broker.create("pause-resume", 2, &[]);
    let member = join(&broker.bootstrap, &topic, &topic, &[]);
    shared(&[&member], 2);
    let mut paused = TopicPartitionList::new();
    paused.add_partition(&topic, 0);
    member.pause(&paused).expect("paused");
    for partition in 0..2 {
        broker.send(&topic, &numbered(5, partition, "value"));
    }
    verify(
        &poll(&member, 5).expect("read"),
        &numbered(5, 1, "value"),
        0,
    );
    assert!(
        member.poll(Duration::from_secs(1)).is_none(),
        "a record of a paused partition"
    );
    member.resume(&paused).expect("resumed");
    verify(
        &poll(&member, 5).expect("read"),
        &numbered(5, 0, "value"),
        0,
    );
}

fn regex_subscription(broker: &Broker) {
    let first = broker.create("regex-a", 1, &[]);
    broker.create("not-regex", 1, &[]);
    let pattern = format!("^{}.*", broker.name("regex-"));
    let member = join(
        &broker.bootstrap,
        &broker.name("regex-subscription"),
        &pattern,
        &[],
    );
    shared(&[&member], 1);
    let second = broker.create("regex-b", 1, &[]);
    let expected = [(first, 0), (second.clone(), 0)];
    eventually("the new topic is found", || {
        member.poll(Duration::from_millis(20));
        owned(&member) == expected
    });
    broker.send(&second, &numbered(3, 0, "value"));
    verify(
        &poll(&member, 3).expect("read"),
        &numbered(3, 0, "value"),
        0,
    );
}

fn fan_in(broker: &Broker) {
    let topic = broker.create("fan-in", 3, &[]);
    let member = join(&broker.bootstrap, &topic, &topic, &[]);
    std::thread::scope(|scope| {
        for partition in 0..3 {
            let topic = &topic;
            scope.spawn(move || broker.send(topic, &numbered(200, partition, "value")));
        }
        let all: Vec<_> = (0..3).flat_map(|one| numbered(200, one, "value")).collect();
        verify(&poll(&member, 600).expect("read"), &all, 0);
    });
}

fn fan_out(broker: &Broker) {
    let topic = broker.create("fan-out", 3, &[]);
    let all: Vec<_> = (0..3).flat_map(|one| numbered(100, one, "value")).collect();
    broker.send(&topic, &all);
    let members: Vec<Member> = (0..3)
        .map(|number| join(&broker.bootstrap, &format!("{topic}-{number}"), &topic, &[]))
        .collect();
    for member in &members {
        verify(&poll(member, 300).expect("read"), &all, 0);
    }
}

//! Tests of topics that come and go.

use super::*;
use crate::testing::{TestNode, batch};

const HOUR_MS: u64 = 3_600_000;

fn id_of(node: &mut TestNode, topic: &str) -> highwater_base::TopicId {
    let found = node.shard(0).image.topic_by_name(topic);
    found.expect("the topic exists").id
}

fn delete(node: &mut TestNode, topic: &str) -> Entry {
    let topic_id = id_of(node, topic);
    node.apply(&[MetadataRecord::TopicDeleted {
        topic_id: topic_id.0,
    }]);
    Entry {
        since_ms: node.now.wall_ms,
        reason: Reason::Deleted,
        topic_id,
    }
}

#[test]
fn data_of_a_deleted_topic_waits_in_quarantine_until_its_time_has_come() {
    let mut node = TestNode::new(2, &[("t", 4), ("empty", 2)]);
    node.append("t", 0, &batch(39));
    node.append("t", 1, &batch(39));
    let entry = delete(&mut node, "t");
    let empty = delete(&mut node, "empty");
    for core in 0..2 {
        assert_eq!(node.paths(core, "topics/t/"), [""; 0]);
        let kept = node.paths(core, &format!("{}/{core}/", entry.topic_path("t")));
        assert!(!kept.is_empty(), "the data of core {core}");
        let note = node.paths(core, &entry.note_path());
        assert_eq!(note.len(), 1, "the note of core {core}");
        let of_empty = node.paths(core, &empty.path());
        assert_eq!(of_empty, [""; 0], "there is nothing to keep of it");
    }
    node.pass_ms(24 * HOUR_MS - 1);
    assert!(!node.paths(0, &entry.path()).is_empty());
    node.pass_ms(1);
    assert_eq!(node.paths(0, "quarantine/"), [""; 0]);
}

/// Its writes are under way when the topic goes: what is kept is all of it.
#[test]
fn a_partition_moves_to_quarantine_behind_its_last_write() {
    let mut node = TestNode::new(1, &[("t", 1)]);
    node.append("t", 0, &batch(39));
    let (core, log) = node.log_of("t", 0);
    let (now, batch) = (node.now, batch(39));
    let header = BatchHeader::parse(&batch).expect("a batch");
    let store = &mut node.shard(core).store;
    store.append(log, now, &header, &batch, None).expect("room");
    node.hold_disk(0);
    node.turn(0);
    let entry = delete(&mut node, "t");
    assert!(!node.paths(0, "topics/t/").is_empty());
    assert_eq!(node.paths(0, &entry.topic_path("t")), [""; 0]);
    node.release_disk(0);
    assert_eq!(node.paths(0, "topics/t/"), [""; 0]);
    assert!(!node.paths(0, &entry.topic_path("t")).is_empty());
}

#[test]
fn the_entry_of_a_topic_that_is_put_back_stays_until_its_record_is_durable() {
    let mut node = TestNode::new(1, &[]);
    let note = Note {
        topic: "t".to_owned(),
        partitions: 3,
        config: Vec::new(),
    };
    let entry = Entry {
        since_ms: 5,
        reason: Reason::Restoring,
        topic_id: highwater_base::TopicId([3; 16]),
    };
    let record = note.record(entry.topic_id, 0);
    node.shard(0).image.apply(&record);
    node.write_file(0, &entry.note_path(), &note.encode());
    let now = node.now;
    let leader = node.shard(0).leader.as_mut().expect("core 0 leads");
    leader.restore(vec![(record, entry)]);
    node.shard(0).log_restored(now);
    node.hold_disk(0);
    node.turn(0);
    assert_eq!(node.paths(0, "quarantine/").len(), 1);
    node.release_disk(0);
    assert_eq!(node.paths(0, "quarantine/"), [""; 0]);
    node.restart_by_replay();
    let topic = node.shard(0).image.topic_by_name("t");
    assert_eq!(topic.expect("the log has it").id, entry.topic_id);
}

//! What a node in memory tells the operations thread.

use highwater_groups::{OFFSETS_TOPIC, offsets_partition};
use highwater_ops::figures::{CoreFigures, GroupDetail, GroupPlace, GroupsPage};
use highwater_ops::{Answer, Asked, Question};
use highwater_reactor::{CoreGauges, Outbox, Service};
use highwater_wire::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use highwater_wire::records::RecordBatchBuilder;
use highwater_wire::{ApiKey, Array};

use crate::message::Message;
use crate::testing::TestNode;

const OFFSETS_PARTITIONS: u32 = 4;
const COMMIT: i16 = 8;

fn node() -> TestNode {
    TestNode::new(2, &[("orders", 2), (OFFSETS_TOPIC, OFFSETS_PARTITIONS)])
}

fn ask(node: &mut TestNode, core: usize, question: Question) -> Answer {
    let (asked, mut answer) = Asked::new(question);
    let now = node.now;
    let shard = node.shard(core);
    let mut out = Outbox::default();
    shard.on_outside(now, &CoreGauges::default(), Message::Ops(asked), &mut out);
    answer.try_recv().expect("it is answered at once")
}

fn figures(node: &mut TestNode, core: usize) -> CoreFigures {
    match ask(node, core, Question::Core) {
        Answer::Core(figures) => *figures,
        other => panic!("not a core's figures: {other:?}"),
    }
}

fn page(node: &mut TestNode, after: Option<GroupPlace>, detail: GroupDetail) -> GroupsPage {
    let question = Question::Groups {
        after,
        groups_max: 2,
        offsets_max: 100,
        detail,
    };
    match ask(node, 0, question) {
        Answer::Groups(page) => page,
        other => panic!("not groups: {other:?}"),
    }
}

/// Groups whose coordinator is the first core.
fn groups_of_the_first_core(count: usize) -> Vec<String> {
    let names = (0..).map(|at| format!("group-{at}"));
    let here = |name: &String| offsets_partition(name, OFFSETS_PARTITIONS).is_multiple_of(2);
    names.filter(here).take(count).collect()
}

fn commit(node: &mut TestNode, group: &str, offset: i64) {
    let partitions = [OffsetCommitRequestPartition {
        partition_index: 0,
        committed_offset: offset,
        ..Default::default()
    }];
    let topics = [OffsetCommitRequestTopic {
        name: "orders",
        partitions: Array::from(&partitions),
        ..Default::default()
    }];
    let request = OffsetCommitRequest {
        group_id: group,
        topics: Array::from(&topics),
        ..Default::default()
    };
    let mut body = Vec::new();
    request.encode(COMMIT, &mut body).expect("encodes");
    let client = node.connect(0);
    node.request(0, client, ApiKey::OffsetCommit, COMMIT, &body);
    node.settle();
}

#[test]
fn groups_are_told_in_pages_that_neither_repeat_nor_skip_one() {
    let mut node = node();
    let mut names = groups_of_the_first_core(5);
    for (at, name) in names.iter().enumerate() {
        commit(&mut node, name, at as i64);
    }
    for detail in [GroupDetail::Offsets, GroupDetail::Counts] {
        let (mut told, mut counted, mut after) = (Vec::new(), 0, None);
        loop {
            let page = page(&mut node, after, detail);
            told.extend(page.groups.into_iter().map(|group| group.group));
            counted += page.states.get("Empty").copied().unwrap_or(0);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(counted, 5, "{detail:?}");
        told.sort_unstable();
        names.sort_unstable();
        match detail {
            GroupDetail::Counts => assert!(told.is_empty()),
            _ => assert_eq!(told, names),
        }
    }
    let figures = figures(&mut node, 0);
    assert_eq!(figures.groups.commits, 5);
    assert!(figures.groups.log_bytes > 0);
    let groups = figures.bounds.iter().find(|bound| bound.name == "groups");
    assert_eq!(groups.and_then(|bound| bound.used), Some(5));
}

#[test]
fn one_group_is_told_by_the_core_that_coordinates_it_with_its_offsets() {
    let mut node = node();
    let name = groups_of_the_first_core(1).remove(0);
    commit(&mut node, &name, 17);
    for core in 0..2 {
        let question = Question::Group {
            group: name.clone(),
        };
        let Answer::Group(group) = ask(&mut node, core, question) else {
            panic!("not a group");
        };
        assert_eq!(group.is_some(), core == 0);
        if let Some(group) = group {
            assert_eq!((group.committed_count, group.committed[0].offset), (1, 17));
        }
    }
}

#[test]
fn marks_come_from_the_core_that_owns_the_partition() {
    let mut node = node();
    let mut builder = RecordBatchBuilder::new();
    builder.append(1, None, Some(b"value"), &[]);
    node.append("orders", 1, &builder.finish());
    node.settle();
    let wanted = vec![
        ("orders".to_owned(), 0),
        ("orders".to_owned(), 1),
        ("missing".to_owned(), 0),
    ];
    let partitions = std::sync::Arc::new(wanted);
    let mut marks = |core| {
        let partitions = std::sync::Arc::clone(&partitions);
        match ask(&mut node, core, Question::Marks { partitions }) {
            Answer::Marks(marks) => marks,
            other => panic!("not marks: {other:?}"),
        }
    };
    assert_eq!(marks(0), [Some(0), None, None]);
    assert_eq!(marks(1), [None, Some(1), None]);
}

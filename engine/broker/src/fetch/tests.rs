//! Fetch over a node in memory.

use highwater_base::CoreId;
use highwater_base::limits::FOREIGN_COPY_BYTES_MAX;
use highwater_reactor::testing::{Command, take_commands};
use highwater_reactor::{ConnectionId, FrameVerdict, Outbox};
use highwater_wire::ApiKey;
use highwater_wire::array::Array;
use highwater_wire::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, ForgottenTopic,
};

use crate::message::{FetchPart, FetchResult, ForeignPiece, Message};
use crate::testing::{TestNode, batch};

const VERSION: i16 = 12;
const WAIT_MS: i32 = 10_000;

/// What a client asks for.
#[derive(Clone, Debug)]
struct Ask {
    topics: Vec<(&'static str, Vec<(i32, i64)>)>,
    bytes_min: i32,
    bytes_max: i32,
    partition_bytes_max: i32,
    session: (i32, i32),
    forgotten: Vec<(&'static str, Vec<i32>)>,
}

impl Ask {
    /// Partitions of `orders` from the offsets given, with librdkafka's defaults.
    fn of(partitions: &[(i32, i64)]) -> Ask {
        Ask {
            topics: vec![("orders", partitions.to_vec())],
            bytes_min: 1,
            bytes_max: 50 << 20,
            partition_bytes_max: 1 << 20,
            session: (0, -1),
            forgotten: Vec::new(),
        }
    }

    fn body(&self) -> Vec<u8> {
        let partitions: Vec<Vec<FetchPartition>> = self
            .topics
            .iter()
            .map(|(_, partitions)| {
                let named = partitions.iter().map(|(partition, offset)| FetchPartition {
                    partition: *partition,
                    fetch_offset: *offset,
                    partition_max_bytes: self.partition_bytes_max,
                    ..FetchPartition::default()
                });
                named.collect()
            })
            .collect();
        let topics: Vec<FetchTopic<'_>> = self
            .topics
            .iter()
            .zip(&partitions)
            .map(|((topic, _), partitions)| FetchTopic {
                topic,
                partitions: Array::from(&partitions[..]),
                ..FetchTopic::default()
            })
            .collect();
        let forgotten: Vec<ForgottenTopic<'_>> = self
            .forgotten
            .iter()
            .map(|(topic, partitions)| ForgottenTopic {
                topic,
                partitions: Array::from(&partitions[..]),
                ..ForgottenTopic::default()
            })
            .collect();
        let request = FetchRequest {
            max_wait_ms: WAIT_MS,
            min_bytes: self.bytes_min,
            max_bytes: self.bytes_max,
            session_id: self.session.0,
            session_epoch: self.session.1,
            topics: Array::from(&topics[..]),
            forgotten_topics_data: Array::from(&forgotten[..]),
            ..FetchRequest::default()
        };
        let mut body = Vec::new();
        request.encode(VERSION, &mut body).expect("encodes");
        body
    }
}

/// What one partition's part of an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Got {
    topic: String,
    partition: i32,
    error: i16,
    high_watermark: i64,
    bytes: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct FetchAnswer {
    error: i16,
    session: i32,
    partitions: Vec<Got>,
    /// Topics as the answer lists them.
    topics: usize,
}

impl FetchAnswer {
    fn bytes(&self) -> usize {
        self.partitions.iter().map(|got| got.bytes).sum()
    }
}

fn decode(body: &[u8]) -> FetchAnswer {
    let response = FetchResponse::parse(VERSION, body).expect("a fetch response");
    let mut partitions = Vec::new();
    for topic in response.responses.iter() {
        for partition in topic.partitions.iter() {
            partitions.push(Got {
                topic: topic.topic.to_owned(),
                partition: partition.partition_index,
                error: partition.error_code,
                high_watermark: partition.high_watermark,
                bytes: partition.records.map_or(0, <[u8]>::len),
            });
        }
    }
    FetchAnswer {
        error: response.error_code,
        session: response.session_id,
        partitions,
        topics: response.responses.len(),
    }
}

impl TestNode {
    fn fetch(&mut self, core: usize, id: ConnectionId, ask: &Ask) -> FrameVerdict {
        self.request(core, id, ApiKey::Fetch, VERSION, &ask.body())
    }

    fn fetched(&mut self, core: usize, id: ConnectionId) -> Vec<FetchAnswer> {
        let bodies = self.answers(core, id, ApiKey::Fetch, VERSION);
        bodies.iter().map(|body| decode(body)).collect()
    }

    /// A fetch that is answered without time passing.
    fn fetch_at_once(&mut self, core: usize, id: ConnectionId, ask: &Ask) -> FetchAnswer {
        self.fetch(core, id, ask);
        self.settle();
        let mut answers = self.fetched(core, id);
        assert_eq!(answers.len(), 1, "answered without waiting");
        answers.remove(0)
    }
}

#[test]
fn an_answer_over_many_cores_stays_within_its_bytes_max() {
    let mut node = TestNode::new(4, &[("orders", 8)]);
    for partition in 0..8 {
        for _ in 0..4 {
            node.append("orders", partition, &batch(10_000));
        }
    }
    let id = node.connect(0);
    let all: Vec<(i32, i64)> = (0..8).map(|partition| (partition, 0)).collect();
    let ask = Ask {
        bytes_max: 50_000,
        ..Ask::of(&all)
    };
    let answer = node.fetch_at_once(0, id, &ask);
    assert!(answer.bytes() <= 50_000, "{} bytes", answer.bytes());
    assert!(answer.bytes() > 30_000, "{} bytes", answer.bytes());
    assert!(answer.partitions.iter().all(|got| got.high_watermark == 4));
    let ask = Ask {
        bytes_max: 20,
        ..ask
    };
    let answer = node.fetch_at_once(0, id, &ask);
    assert_eq!(answer.bytes(), 10_061, "one batch of one partition");
    assert_eq!(answer.partitions[0].bytes, 10_061, "the first one's");
}

#[test]
fn a_big_batch_elsewhere_is_returned_when_its_turn_comes() {
    let mut node = TestNode::new(2, &[("orders", 2)]);
    node.append("orders", 0, &batch(1_000));
    node.append("orders", 1, &batch(100_000));
    let id = node.connect(0);
    let ask = Ask {
        bytes_max: 5_000,
        ..Ask::of(&[(1, 0), (0, 0)])
    };
    let answer = node.fetch_at_once(0, id, &ask);
    let bytes: Vec<usize> = answer.partitions.iter().map(|got| got.bytes).collect();
    assert_eq!(bytes, [100_061, 0], "the first in the client's order");
}

/// What broke: cold answers began at an index entry, up to an index interval below the offset asked
/// for, and some clients counted or delivered what came before it.
#[test]
fn a_cold_fetch_begins_with_the_batch_asked_for() {
    let mut node = TestNode::with_cache(2, &[("orders", 2)], 64 << 10);
    let records = 400;
    for _ in 0..records {
        node.append("orders", 0, &batch(300));
    }
    for core in 0..2 {
        let id = node.connect(core);
        for offset in [0, 1, 22, 23, 39, 150, 151] {
            let answer = node.fetch_at_once(core, id, &Ask::of(&[(0, offset)]));
            let wanted = (records - offset as usize) * 361;
            assert_eq!(answer.bytes(), wanted, "from {offset} by core {core}");
        }
    }
    assert!(node.cores[0].file_bytes > 0, "they were cold");
}

#[test]
fn bytes_min_is_waited_for_on_other_cores_too() {
    let mut node = TestNode::new(2, &[("orders", 2)]);
    node.append("orders", 1, &batch(100));
    let id = node.connect(0);
    let ask = Ask {
        bytes_min: 400,
        ..Ask::of(&[(0, 0), (1, 0)])
    };
    node.fetch(0, id, &ask);
    node.settle();
    node.append("orders", 1, &batch(100));
    assert_eq!(node.fetched(0, id), [], "too little still");
    node.append("orders", 1, &batch(100));
    let answers = node.fetched(0, id);
    assert_eq!(answers.len(), 1, "answered long before the deadline");
    assert_eq!(answers[0].bytes(), 483);
}

#[test]
fn bytes_min_beyond_what_an_answer_can_hold_is_not_waited_for() {
    let mut node = TestNode::new(2, &[("orders", 2)]);
    for partition in 0..2 {
        for _ in 0..3 {
            node.append("orders", partition, &batch(10_000));
        }
    }
    for core in 0..2 {
        let id = node.connect(core);
        let ask = Ask {
            bytes_min: 15_000,
            bytes_max: 11_000,
            ..Ask::of(&[(0, 0)])
        };
        assert_eq!(node.fetch_at_once(core, id, &ask).bytes(), 10_061);
        let ask = Ask {
            bytes_min: 15_000,
            partition_bytes_max: 15_000,
            ..Ask::of(&[(0, 0)])
        };
        assert_eq!(node.fetch_at_once(core, id, &ask).bytes(), 10_061);
    }
}

#[test]
fn a_fetch_without_partitions_is_answered_at_once() {
    let mut node = TestNode::new(1, &[("orders", 1)]);
    let id = node.connect(0);
    let open = Ask {
        session: (0, 0),
        ..Ask::of(&[(0, 0)])
    };
    node.append("orders", 0, &batch(10));
    let session = node.fetch_at_once(0, id, &open).session;
    let close = Ask {
        topics: Vec::new(),
        session: (session, -1),
        ..open
    };
    let answer = node.fetch_at_once(0, id, &close);
    assert_eq!((answer.error, answer.session), (0, 0));
}

#[test]
fn a_fetch_with_nothing_new_waits_for_its_deadline() {
    let mut node = TestNode::new(2, &[("orders", 2)]);
    let id = node.connect(0);
    node.fetch(0, id, &Ask::of(&[(0, 0), (1, 0)]));
    node.settle();
    node.pass_ms(WAIT_MS as u64 - 1);
    assert_eq!(node.fetched(0, id), []);
    node.pass_ms(1);
    assert_eq!(node.fetched(0, id).len(), 1);
}

/// What broke: the deadline of each long poll stayed on the list until its time, up to a minute,
/// though the poll was answered at once by new records.
#[test]
fn deadlines_of_answered_fetches_do_not_pile_up() {
    let mut node = TestNode::new(1, &[("orders", 1)]);
    let id = node.connect(0);
    for offset in 0..500 {
        node.fetch(0, id, &Ask::of(&[(0, offset)]));
        node.settle();
        node.append("orders", 0, &batch(10));
        assert_eq!(node.fetched(0, id).len(), 1);
    }
    let kept = node.cores[0].shard.fetch_deadlines.len();
    assert!(kept < 100, "{kept} deadlines of no fetch");
}

#[test]
fn sessions_beyond_the_bound_are_not_opened_and_closing_makes_room() {
    let mut node = TestNode::new(1, &[("orders", 1)]);
    let sessions_max = node.cores[0].shard.node.config.fetch_sessions_max as u64;
    node.append("orders", 0, &batch(10));
    let open = Ask {
        session: (0, 0),
        ..Ask::of(&[(0, 0)])
    };
    let (first, second) = (node.connect(0), node.connect(0));
    assert!(node.fetch_at_once(0, first, &open).session > 0);
    assert_eq!(node.cores[0].shard.counters.fetch_sessions, 1);
    node.cores[0].shard.counters.fetch_sessions = sessions_max;
    assert_eq!(node.fetch_at_once(0, second, &open).session, 0);
    assert_eq!(node.cores[0].shard.counters.fetch_sessions_refused, 1);
    node.disconnect(0, first);
    assert!(node.fetch_at_once(0, second, &open).session > 0);
    assert_eq!(node.cores[0].shard.counters.fetch_sessions, sessions_max);
}

#[test]
fn a_request_behind_fetches_that_wait_for_other_cores_hurries_them() {
    let mut node = TestNode::new(2, &[("orders", 2)]);
    let id = node.connect(0);
    for _ in 0..3 {
        node.fetch(0, id, &Ask::of(&[(0, 0), (1, 0)]));
    }
    node.request(0, id, ApiKey::ApiVersions, 0, &[]);
    node.settle();
    let answers = node.answers(0, id, ApiKey::Fetch, VERSION);
    assert_eq!(answers.len(), 4, "all three and the request behind them");
}

#[test]
fn a_request_behind_parked_fetches_hurries_all_of_them() {
    for (core, partition) in [(0, 0), (0, 1)] {
        let mut node = TestNode::new(2, &[("orders", 2)]);
        let id = node.connect(core);
        for _ in 0..3 {
            node.fetch(core, id, &Ask::of(&[(partition, 0)]));
        }
        node.settle();
        assert_eq!(node.fetched(core, id), []);
        node.request(core, id, ApiKey::ApiVersions, 0, &[]);
        node.settle();
        let answers = node.answers(core, id, ApiKey::Fetch, VERSION);
        assert_eq!(answers.len(), 4, "all three and the request behind them");
        assert!(node.cores[core].shard.fetches.is_empty());
    }
}

#[test]
fn fetches_of_a_closed_connection_are_forgotten() {
    let mut node = TestNode::new(2, &[("orders", 2)]);
    let id = node.connect(0);
    node.fetch(0, id, &Ask::of(&[(0, 0)]));
    node.settle();
    node.fetch(0, id, &Ask::of(&[(0, 0), (1, 0)]));
    node.fetch(0, id, &Ask::of(&[(1, 0)]));
    node.disconnect(0, id);
    assert!(node.cores[0].shard.fetches.is_empty());
    node.settle();
    assert_eq!(node.cores[1].shard.watches.foreign_count(), 0);
}

#[test]
fn an_incremental_fetch_tells_only_news_of_what_is_still_wanted() {
    let mut node = TestNode::new(2, &[("clicks", 2), ("orders", 4)]);
    let id = node.connect(0);
    node.append("orders", 0, &batch(10));
    let open = Ask {
        topics: vec![
            ("clicks", vec![(0, 0), (1, 0)]),
            ("orders", vec![(0, 0), (1, 0), (2, 0), (3, 0)]),
        ],
        session: (0, 0),
        ..Ask::of(&[])
    };
    let answer = node.fetch_at_once(0, id, &open);
    assert_eq!((answer.topics, answer.partitions.len()), (2, 6));
    let next = Ask {
        topics: vec![("orders", vec![(0, 1)])],
        forgotten: vec![("clicks", vec![0, 1]), ("orders", vec![1])],
        session: (answer.session, 1),
        ..open.clone()
    };
    node.fetch(0, id, &next);
    node.settle();
    assert_eq!(node.fetched(0, id), []);
    node.append("clicks", 0, &batch(10));
    node.append("orders", 1, &batch(10));
    assert_eq!(node.fetched(0, id), [], "both are forgotten");
    node.append("orders", 3, &batch(10));
    let answers = node.fetched(0, id);
    let told = |answer: &FetchAnswer| -> Vec<i32> {
        let partitions = answer.partitions.iter();
        partitions.map(|got| got.partition).collect()
    };
    assert_eq!(told(&answers[0]), [3]);
    assert_eq!(answers[0].error, 0);
}

#[test]
fn topics_are_counted_in_runs() {
    let mut node = TestNode::new(1, &[("clicks", 2), ("orders", 2)]);
    let id = node.connect(0);
    node.append("orders", 0, &batch(10));
    let ask = Ask {
        topics: vec![
            ("orders", vec![(0, 0)]),
            ("clicks", vec![(0, 0), (1, 0)]),
            ("orders", vec![(1, 0)]),
        ],
        ..Ask::of(&[])
    };
    let answer = node.fetch_at_once(0, id, &ask);
    assert_eq!((answer.topics, answer.partitions.len()), (3, 4));
}

#[test]
fn a_connection_with_many_large_fetches_under_way_is_not_read() {
    let mut node = TestNode::new(2, &[("orders", 2)]);
    let id = node.connect(0);
    let ask = Ask::of(&[(0, 0), (1, 0)]);
    assert_eq!(node.fetch(0, id, &ask), FrameVerdict::Continue);
    assert_eq!(node.fetch(0, id, &ask), FrameVerdict::Continue);
    assert_eq!(node.fetch(0, id, &ask), FrameVerdict::Pause);
    node.settle();
    assert!(node.cores[0].resumed.is_empty());
    node.append("orders", 1, &batch(100));
    assert_eq!(node.fetched(0, id).len(), 3);
    assert_eq!(node.cores[0].resumed, [id]);
    assert_eq!(node.fetch(0, id, &ask), FrameVerdict::Continue);
}

/// What core 1 answers when core 0 reads partition 1 of `orders`.
fn read_from_core_0(node: &mut TestNode) -> FetchResult {
    let shard = &mut node.cores[1].shard;
    let part = FetchPart {
        index: 0,
        topic_id: shard.table.by_name("orders").expect("exists").id,
        partition: 1,
        offset: 0,
        leader_epoch: -1,
        last_fetched_epoch: -1,
        bytes_max: 1 << 30,
    };
    let mut out = Outbox::default();
    shard.fetch_for(CoreId(0), 1, &[part], 9 << 20, 0, &mut out);
    match take_commands(&mut out).pop() {
        Some(Command::Mail(_, Message::FetchData { mut results, .. })) => results.remove(0),
        other => panic!("unexpected {other:?}"),
    }
}

#[test]
fn records_read_for_other_cores_are_copied_up_to_a_bound() {
    let mut node = TestNode::new(2, &[("orders", 2)]);
    node.append("orders", 1, &batch(8 << 20));
    let mut held = Vec::new();
    let (mut copied, mut named) = (0, 0);
    for _ in 0..12 {
        let result = read_from_core_0(&mut node);
        for piece in &result.pieces {
            match piece {
                ForeignPiece::Memory(slice) => copied += slice.len(),
                ForeignPiece::File { len, .. } => named += len,
            }
        }
        held.push(result);
    }
    assert!(copied > 0 && copied <= FOREIGN_COPY_BYTES_MAX, "{copied}");
    assert_eq!(copied + named, 12 * ((8 << 20) + 61), "nothing is missing");
    held.clear();
    let pieces = (0..4).map(|_| read_from_core_0(&mut node).pieces.remove(0));
    let last = pieces.last().expect("four");
    assert!(matches!(last, ForeignPiece::Memory(_)), "room again");
}

#[test]
fn fetches_that_ended_do_not_pile_up_on_an_idle_partition() {
    let mut node = TestNode::new(2, &[("orders", 2)]);
    let waiting = node.connect(0);
    node.fetch(0, waiting, &Ask::of(&[(0, 0), (1, 0)]));
    let id = node.connect(0);
    for _ in 0..100 {
        node.fetch(0, id, &Ask::of(&[(0, 0), (1, 0)]));
        node.settle();
        node.request(0, id, ApiKey::ApiVersions, 0, &[]);
        node.settle();
    }
    assert_eq!(node.fetched(0, waiting), []);
    for partition in 0..2 {
        let (core, log) = node.log_of("orders", partition);
        let list = &node.cores[core].shard.partitions[log.0 as usize].fetch_waiters;
        assert!(list.len() <= 5, "{} entries for one fetch", list.len());
    }
    node.append("orders", 1, &batch(100));
    assert_eq!(node.fetched(0, waiting).len(), 1);
}

#[test]
fn every_consumer_is_woken_as_often_as_it_waits() {
    for order in [[0, 1, 0, 1], [1, 0, 1, 0]] {
        let mut node = TestNode::new(2, &[("orders", 2)]);
        let ids: Vec<(usize, ConnectionId)> =
            (0..20).map(|at| (at % 2, node.connect(at % 2))).collect();
        let ask = Ask {
            bytes_min: 3 * batch(100).len() as i32 + 1,
            ..Ask::of(&[(0, 0), (1, 0)])
        };
        for (core, id) in &ids {
            node.fetch(*core, *id, &ask);
        }
        node.settle();
        for (at, partition) in order.into_iter().enumerate() {
            node.append("orders", partition, &batch(100));
            for (core, id) in &ids {
                let expected = usize::from(at == 3);
                assert_eq!(node.fetched(*core, *id).len(), expected, "after {at}");
            }
        }
    }
}

//! The endpoint over a real socket, with cores that answer, are silent or do not exist yet.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::*;
use crate::collect::Cores;
use crate::figures::{
    Answer, Asked, CommittedOffset, CoreFigures, DamageFigures, DamagedPartition, GroupDetail,
    GroupFigures, GroupPlace, GroupsPage, PartitionFigures, Question, TopicFigures,
};

/// Two cores that answer at once; the second may be silent. Topics come one in a page.
#[derive(Default)]
struct TestCores {
    silent: Option<u16>,
    /// This core has two damaged partitions, one in a page.
    damaged: Option<u16>,
}

fn damage_of(core: u16, damaged: Option<u16>, from: &str, told_max: usize) -> Answer {
    if damaged != Some(core) {
        return Answer::Damage {
            damage: DamageFigures::default(),
            next: None,
        };
    }
    let is_first = from.is_empty();
    let partition = DamagedPartition {
        topic: if is_first { "a" } else { "b" }.to_owned(),
        partition: 3,
        core,
        holes: vec![(5, 7)],
        offline: None,
    };
    Answer::Damage {
        damage: DamageFigures {
            with_holes: 1,
            hole_offsets: 2,
            partitions: [partition].into_iter().take(told_max).collect(),
            ..DamageFigures::default()
        },
        next: is_first.then(|| "b".to_owned()),
    }
}

#[test]
fn a_node_with_damage_is_healthy_and_says_what_is_wrong() {
    let endpoint = endpoint(10);
    endpoint.node().serves(Box::new(TestCores {
        damaged: Some(1),
        ..TestCores::default()
    }));
    let (status, body) = get(&endpoint, "/health");
    assert_eq!(status, 200);
    let told: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(
        (&told["healthy"], &told["degraded"]),
        (&true.into(), &true.into())
    );
    let damage = &told["damage"];
    assert_eq!(
        (&damage["with_holes"], &damage["hole_offsets"]),
        (&2.into(), &4.into())
    );
    assert_eq!(damage["partitions"][1]["topic"], "b");
    assert_eq!(
        damage["partitions"][0]["holes"][0],
        serde_json::json!([5, 7])
    );
    let (_, metrics) = get(&endpoint, "/metrics");
    let gauge = r#"highwater_hole_offsets{core="1"} 4"#;
    assert!(metrics.contains(gauge), "{metrics}");
    drop(endpoint);
    let (_, body) = get(&serving(10), "/health");
    assert!(!body.contains("damage"), "{body}");
}

fn topic(name: &str) -> TopicFigures {
    TopicFigures {
        name: name.to_owned(),
        partitions: 1,
        records_in: 10,
        ..TopicFigures::default()
    }
}

fn partition(core: u16) -> PartitionFigures {
    PartitionFigures {
        partition: u32::from(core),
        core,
        log_start: 0,
        high_watermark: 100,
        log_end: 100,
        log_bytes: 1000,
        segments: 1,
        leader_epoch: 0,
        holes: Vec::new(),
        offline: None,
        vouched: true,
    }
}

/// The second core has two groups, one in a page.
fn groups_of(core: u16, after: Option<&GroupPlace>, detail: GroupDetail) -> GroupsPage {
    let name = match (core, after.map(|place| place.group.as_str())) {
        (0, _) => return GroupsPage::default(),
        (_, None) => "billing/eu",
        (_, Some("billing/eu")) => "shipping",
        (_, Some(_)) => return GroupsPage::default(),
    };
    let place = GroupPlace {
        partition: 7,
        group: name.to_owned(),
    };
    GroupsPage {
        groups: match detail {
            GroupDetail::Counts => Vec::new(),
            GroupDetail::Offsets | GroupDetail::Members => vec![group(name)],
        },
        states: [("Stable", 1)].into(),
        next: Some(place),
    }
}

fn group(name: &str) -> GroupFigures {
    let committed = |topic: &str, partition| CommittedOffset {
        topic: topic.to_owned(),
        partition,
        offset: 60,
        lag: None,
        is_uncertain: false,
    };
    GroupFigures {
        group: name.to_owned(),
        state: "Stable".to_owned(),
        committed_count: 2,
        committed: vec![committed("a", 1), committed("gone", 0)],
        ..GroupFigures::default()
    }
}

impl Cores for TestCores {
    fn count(&self) -> u16 {
        2
    }

    fn ask(&self, core: u16, asked: Asked) -> bool {
        if self.silent == Some(core) {
            return false;
        }
        let answer = match &asked.question {
            Question::Core => Answer::Core(Box::new(CoreFigures {
                core,
                topics_of_node: 3,
                ..CoreFigures::default()
            })),
            Question::Topics { from, .. } => {
                let names = ["a", "b", "c"];
                let at = names.iter().position(|name| *name >= from.as_str());
                let next = at.and_then(|at| names.get(at + 1));
                Answer::Topics {
                    topics: at.map(|at| topic(names[at])).into_iter().collect(),
                    next: next.map(|name| (*name).to_owned()),
                }
            }
            Question::Partitions { topic, .. } => Answer::Partitions {
                partitions: (topic == "a")
                    .then(|| partition(core))
                    .into_iter()
                    .collect(),
                next: None,
            },
            Question::Connections { .. } => Answer::Connections(Vec::new()),
            Question::Damage { from, told_max, .. } => {
                damage_of(core, self.damaged, from, *told_max)
            }
            Question::Groups { after, detail, .. } => {
                Answer::Groups(groups_of(core, after.as_ref(), *detail))
            }
            Question::Group { group: name } => {
                Answer::Group((core == 1 && name == "billing/eu").then(|| group(name)))
            }
            Question::Marks { partitions } => {
                let owned = |(topic, partition): &(String, u32)| {
                    (topic == "a" && *partition == u32::from(core)).then_some(100)
                };
                Answer::Marks(partitions.iter().map(owned).collect())
            }
        };
        asked.answer(answer);
        true
    }
}

fn endpoint(topics_max: usize) -> Endpoint {
    let facts = NodeFacts {
        config: serde_json::json!({"node_id": 7}),
        metrics_topics_max: topics_max,
        ..NodeFacts::default()
    };
    let address = "127.0.0.1:0".parse().expect("an address");
    let quarantine = Box::new(Vec::new);
    Endpoint::start(address, facts, ProcessFigures::default, quarantine).expect("a free port")
}

fn serving(topics_max: usize) -> Endpoint {
    let endpoint = endpoint(topics_max);
    endpoint.node().serves(Box::new(TestCores::default()));
    endpoint
}

/// Sends raw bytes; everything until the server closes.
fn talk(endpoint: &Endpoint, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(endpoint.address()).expect("it listens");
    stream.write_all(request).expect("it takes bytes");
    let mut answer = Vec::new();
    // A reset is an end too: it closed with bytes unread.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn get(endpoint: &Endpoint, path: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let answer = talk(endpoint, request.as_bytes());
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    (status.expect("a status"), body.to_owned())
}

fn json(endpoint: &Endpoint, path: &str) -> serde_json::Value {
    let (status, body) = get(endpoint, path);
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).expect("valid JSON")
}

#[test]
fn a_node_that_starts_is_not_ready_and_says_why() {
    let endpoint = endpoint(10);
    assert_eq!(
        get(&endpoint, "/health").0,
        200,
        "it recovers and must not be ended"
    );
    for path in ["/ready", "/metrics", "/v1/node"] {
        let (status, body) = get(&endpoint, path);
        assert_eq!(status, 503, "{path}");
        assert!(body.contains("starting"), "{path}: {body}");
    }
    endpoint.node().serves(Box::new(TestCores::default()));
    assert_eq!(get(&endpoint, "/ready").0, 200);
    endpoint.node().stops();
    let (status, body) = get(&endpoint, "/ready");
    assert_eq!(status, 503);
    assert!(body.contains("stopping"), "{body}");
}

#[test]
fn a_core_that_does_not_answer_is_named() {
    let endpoint = endpoint(10);
    let cores = TestCores {
        silent: Some(1),
        ..TestCores::default()
    };
    endpoint.node().serves(Box::new(cores));
    for path in ["/metrics", "/health", "/ready", "/v1/topics", "/v1/groups"] {
        let (status, body) = get(&endpoint, path);
        assert_eq!(status, 503, "{path}");
        assert!(body.contains("core 1 did not answer"), "{path}: {body}");
    }
    assert_eq!(json(&endpoint, "/v1/config")["node_id"], 7);
}

#[test]
fn topics_come_in_pages_and_their_shares_are_added_up() {
    let endpoint = serving(10);
    let page = json(&endpoint, "/v1/topics?limit=2");
    let names = |page: &serde_json::Value| {
        let topics = page["topics"].as_array().expect("a list").iter();
        let names = topics.map(|topic| topic["name"].as_str().unwrap_or_default().to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(names(&page), ["a", "b"]);
    assert_eq!(page["topics"][0]["records_in"], 20);
    assert_eq!(page["next"], "c");
    let page = json(&endpoint, "/v1/topics?limit=2&from=c");
    assert_eq!(names(&page), ["c"]);
    assert!(page["next"].is_null());
    assert_eq!(get(&endpoint, "/v1/topics?limit=many").0, 400);
    let topic = json(&endpoint, "/v1/topics/a");
    assert_eq!(topic["partitions"].as_array().map(Vec::len), Some(2));
    assert_eq!(topic["partitions"][1]["core"], 1);
    assert_eq!(get(&endpoint, "/v1/topics/missing").0, 404);
}

#[test]
fn metrics_name_so_many_topics_and_add_up_the_others() {
    let endpoint = serving(1);
    let (status, text) = get(&endpoint, "/metrics");
    assert_eq!(status, 200);
    for line in [
        r#"highwater_topic_records_in_total{topic="a"} 20"#,
        r#"highwater_topic_records_in_total{topic=""} 40"#,
        "highwater_topics_aggregated 2",
        r#"highwater_group_lag_records{group="billing/eu",topic="a",partition="1"} 40"#,
        r#"highwater_group_committed_offset{group="shipping",topic="gone",partition="0"} 60"#,
        r#"highwater_groups{state="Stable"} 2"#,
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[test]
fn groups_come_in_pages_and_one_by_one_with_their_lag() {
    let endpoint = serving(1);
    let page = json(&endpoint, "/v1/groups?limit=1");
    assert_eq!(page["groups"][0]["group"], "billing/eu");
    assert_eq!(page["next"], "1.7.billing/eu");
    let page = json(&endpoint, "/v1/groups?limit=1&from=1.7.billing%2Feu");
    assert_eq!(page["groups"][0]["group"], "shipping");
    let page = json(&endpoint, "/v1/groups?from=1.7.shipping");
    assert_eq!(page["groups"].as_array().map(Vec::len), Some(0));
    assert!(page["next"].is_null());
    assert_eq!(get(&endpoint, "/v1/groups?from=here").0, 400);
    let group = json(&endpoint, "/v1/groups/billing%2Feu");
    let committed = &group["committed"];
    assert_eq!(committed[0]["lag"], 40);
    assert!(committed[1]["lag"].is_null(), "its topic is gone");
    assert_eq!(get(&endpoint, "/v1/groups/missing").0, 404);
}

#[test]
fn what_is_no_request_of_ours_is_refused() {
    let endpoint = serving(1);
    assert_eq!(get(&endpoint, "/v2/node").0, 404);
    let post =
        b"POST /v1/node HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    assert!(talk(&endpoint, post).starts_with("HTTP/1.1 405"));
    let long = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
        "a".repeat(2 * HEAD_BYTES_MAX)
    );
    let answer = talk(&endpoint, long.as_bytes());
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    let many = format!(
        "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
        "X: 1\r\n".repeat(HEADERS_MAX + 1)
    );
    assert!(talk(&endpoint, many.as_bytes()).starts_with("HTTP/1.1 431"));
    assert_eq!(get(&endpoint, "/health").0, 200, "it still serves");
}

#[test]
fn a_taken_port_is_said_with_the_remedy() {
    let endpoint = endpoint(1);
    let again = Endpoint::start(
        endpoint.address(),
        NodeFacts::default(),
        ProcessFigures::default,
        Box::new(Vec::new),
    );
    let error = again.err().expect("taken").to_string();
    assert!(error.contains("ops_listen"), "{error}");
    assert!(error.contains("choose another address"), "{error}");
}

//! Dumps and verifications of directories made file by file.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use clap::{CommandFactory, Parser};
use highwater_base::disk::BootDisk;
use highwater_base::limits::BLOCK_BYTES;
use highwater_base::record_batch::{HEADER_BYTES, patch_offset_and_epoch};
use highwater_base::{
    ClusterId, CoreId, DiskId, Epoch, NodeId, Offset, PartitionIndex, Position, TopicId,
};
use highwater_reactor::OsBootDisk;
use highwater_store::Superblock;
use highwater_store::marks::{BlockHeader, Mark, PartitionKey, SNAPSHOT_ENDS, encode_block};
use highwater_store::segment::{
    NO_PREVIOUS_EPOCH, SegmentHeader, partition_directory, segment_path,
};
use highwater_wire::compression::Codec;
use highwater_wire::records::RecordBatchBuilder;
use serde_json::Value;

use super::*;
use crate::metadata::record::{MetadataRecord, encode_batch};
use crate::metadata::{METADATA_PARTITION, METADATA_TOPIC, METADATA_TOPIC_ID};

const CLUSTER: ClusterId = ClusterId([1; 16]);
const ORDERS: TopicId = TopicId([2; 16]);
const OFFSETS: TopicId = TopicId([3; 16]);
const SEGMENT_BYTES: usize = 4 * BLOCK_BYTES;

#[derive(Debug, Parser)]
struct Program {
    #[command(subcommand)]
    command: LogCommand,
}

fn created(topic_id: TopicId, name: &str) -> MetadataRecord {
    MetadataRecord::Topic {
        topic_id: topic_id.0,
        name: name.to_string(),
        partitions: 1,
        core_slot_base: 0,
        config: Vec::new(),
    }
}

fn deleted(topic_id: TopicId) -> MetadataRecord {
    MetadataRecord::TopicDeleted {
        topic_id: topic_id.0,
    }
}

/// A data directory that goes with the test.
struct Node {
    path: PathBuf,
    marks: Vec<Mark>,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

impl Node {
    /// A node with the topics `orders` and `__consumer_offsets`, stopped cleanly.
    fn new() -> Node {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("highwater-log-tool-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a temporary directory");
        let mut node = Node {
            path,
            marks: Vec::new(),
        };
        Superblock::format(&mut node.disk(), CLUSTER, NodeId(1), DiskId([4; 16])).expect("formats");
        let topics = [
            created(ORDERS, "orders"),
            created(OFFSETS, "__consumer_offsets"),
        ];
        node.log(
            METADATA_TOPIC,
            METADATA_TOPIC_ID,
            &[encode_batch(&topics, 5)],
        );
        node.log("orders", ORDERS, &[batch(Codec::None), batch(Codec::Zstd)]);
        node.log("__consumer_offsets", OFFSETS, &[commit()]);
        node
    }

    fn disk(&self) -> OsBootDisk {
        OsBootDisk::new(&self.path, false)
    }

    fn segment(topic: &str, topic_id: TopicId) -> String {
        let directory = partition_directory(topic, topic_id, METADATA_PARTITION);
        segment_path(&directory, Offset(0), Epoch(0), "log")
    }

    /// Writes a log of one segment, and what the ledger says of it.
    fn log(&mut self, topic: &str, topic_id: TopicId, batches: &[Vec<u8>]) {
        let key = PartitionKey {
            topic_id,
            partition: PartitionIndex(0),
        };
        let header = SegmentHeader {
            cluster_id: CLUSTER,
            topic_id,
            partition: key.partition,
            epoch: Epoch(0),
            base_offset: Offset(0),
            prev_epoch: NO_PREVIOUS_EPOCH,
            prev_end: Offset(0),
        };
        let mut bytes = vec![0; BLOCK_BYTES];
        header.encode(&mut bytes);
        let mut end = Offset(0);
        for batch in batches {
            let mut batch = batch.clone();
            patch_offset_and_epoch(&mut batch, end, Epoch(0));
            let parsed = highwater_base::BatchHeader::parse(&batch).expect("a batch");
            end = parsed.next_offset();
            bytes.extend_from_slice(&batch);
        }
        bytes.resize(SEGMENT_BYTES, 0);
        let path = Node::segment(topic, topic_id);
        self.disk().write_whole(&path, &bytes).expect("written");
        self.marks.push(Mark::Progress {
            key,
            epoch: Epoch(0),
            position: 0,
            persisted_end: end,
            high_watermark: end,
        });
        let epoch = Epoch(0);
        let position = Position { epoch, end };
        self.marks.push(Mark::Clean { key, position });
        self.write_ledger();
    }

    fn write_ledger(&self) {
        let header = BlockHeader {
            core: CoreId(0),
            run: 0,
            generation: 0,
            index: 0,
            flags: SNAPSHOT_ENDS,
            flush: 0,
            completed_flush: 0,
        };
        // As large as a ledger makes its files at least.
        let mut bytes = vec![0; 256 * BLOCK_BYTES];
        for file in ["0a", "0b", "1a", "1b"] {
            bytes.fill(0);
            if file.ends_with('a') {
                encode_block(&header, &self.marks, &mut bytes[..BLOCK_BYTES]);
            }
            let path = format!("marks/core-0-{file}");
            self.disk().write_whole(&path, &bytes).expect("written");
        }
    }

    fn at(&self, path: &str) -> String {
        self.path.join(path).display().to_string()
    }
}

fn batch(codec: Codec) -> Vec<u8> {
    let mut builder = RecordBatchBuilder::new();
    builder.set_producer(77, 2, 40);
    builder.append(10, Some(b"k1"), Some(b"first value"), &[("h", Some(b"x"))]);
    builder.append(12, None, Some(&[0xff, 0x01]), &[]);
    builder.append(11, Some(b"k3"), None, &[]);
    builder.finish_compressed(codec).expect("compresses")
}

fn commit() -> Vec<u8> {
    let key = b"\0\x01\0\x07billing\0\x06orders\0\0\0\0";
    let value = b"\0\x03\0\0\0\0\0\0\0\x02\xff\xff\xff\xff\0\0\0\0\0\0\0\0\0\x05";
    let mut builder = RecordBatchBuilder::new();
    builder.append(5, Some(key), Some(value), &[]);
    builder.append(6, Some(b"\0\x02\0\x07billing"), None, &[]);
    builder.finish()
}

/// Runs a command line; what it printed, and how it ended.
fn run(words: &[&str]) -> (String, Result<u64, LogToolError>) {
    let parsed = Program::try_parse_from(["highwater-log"].iter().chain(words));
    let mut out = Vec::new();
    let ended = match parsed.expect("parses").command {
        LogCommand::Dump(args) => dump::run(&args, &mut out).map(|()| 0),
        LogCommand::Verify(args) => verify::run(&args, &mut out).map(|totals| totals.damages),
        LogCommand::Quarantine(command) => quarantine::run(&command, &mut out).map(|()| 0),
        LogCommand::Scrub(_) => unreachable!("it asks a running node, and reads no file"),
    };
    (String::from_utf8(out).expect("text"), ended)
}

fn objects(text: &str) -> Vec<Value> {
    let parse = |line| serde_json::from_str::<Value>(line).expect("one object per line");
    text.lines().map(parse).collect()
}

/// Verifies and returns the kinds of findings with their files and positions.
fn findings(path: &str) -> Vec<(String, String, Option<u64>)> {
    let (text, ended) = run(&["verify", path, "--json"]);
    let mut objects = objects(&text);
    let summary = objects.pop().expect("a summary");
    assert_eq!(summary["type"], "summary");
    assert_eq!(summary["damages"], ended.expect("verifies"));
    objects.retain(|object| object["type"] == "finding");
    let told = |object: Value| {
        for name in ["meaning", "recovery", "detail"] {
            assert!(
                object[name].as_str().is_some_and(|text| !text.is_empty()),
                "{object}"
            );
        }
        let text = |name: &str| object[name].as_str().unwrap_or_default().to_string();
        (text("kind"), text("file"), object["position"].as_u64())
    };
    objects.into_iter().map(told).collect()
}

#[test]
fn a_clean_node_verifies_clean_and_is_counted() {
    let node = Node::new();
    let (text, ended) = run(&["verify", &node.at("")]);
    assert_eq!(ended.expect("verifies"), 0, "{text}");
    let expected = "no damage, 0 notes; 3 partitions, 3 segments, 4 batches, 10 records,";
    assert!(text.starts_with(expected), "{text}");
}

#[test]
fn records_that_do_not_decode_are_told_at_their_batch() {
    let mut node = Node::new();
    let mut torn = batch(Codec::None);
    // The last record becomes longer than the batch.
    let at = torn.len() - 9;
    torn[at] = 60;
    restamp(&mut torn);
    let mut packed = batch(Codec::Gzip);
    packed[HEADER_BYTES + 12] ^= 0xff;
    restamp(&mut packed);
    let mut late = batch(Codec::None);
    late[42] = 11;
    restamp(&mut late);
    let mut trailing = batch(Codec::None);
    trailing.push(0);
    let length = trailing.len() as i32 - 12;
    trailing[8..12].copy_from_slice(&length.to_be_bytes());
    restamp(&mut trailing);
    let good = batch(Codec::None);
    let mut position = (BLOCK_BYTES + good.len()) as u64;
    let bad = [torn, packed, late, trailing];
    let mut batches = vec![good];
    batches.extend_from_slice(&bad);
    node.log("orders", ORDERS, &batches);
    let path = Node::segment("orders", ORDERS);
    let mut expected = Vec::new();
    for batch in &bad {
        expected.push(("batch-records".to_string(), path.clone(), Some(position)));
        position += batch.len() as u64;
    }
    assert_eq!(findings(&node.at("")), expected);
}

/// Renews a batch's checksum.
fn restamp(batch: &mut [u8]) {
    let crc = highwater_base::crc::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

#[test]
fn records_of_the_brokers_own_logs_are_understood_or_told() {
    let mut node = Node::new();
    let mut builder = RecordBatchBuilder::new();
    builder.append(5, Some(b"\0\x01\0\x07bil"), None, &[]);
    node.log("__consumer_offsets", OFFSETS, &[commit(), builder.finish()]);
    let position = Some((BLOCK_BYTES + commit().len()) as u64);
    let path = Node::segment("__consumer_offsets", OFFSETS);
    let expected = vec![("group-record".to_string(), path, position)];
    assert_eq!(findings(&node.at("")), expected);

    let mut builder = RecordBatchBuilder::new();
    builder.append(5, None, Some(&[9, 1, 2]), &[]);
    node.log("__consumer_offsets", OFFSETS, &[commit()]);
    node.log(METADATA_TOPIC, METADATA_TOPIC_ID, &[builder.finish()]);
    let path = Node::segment(METADATA_TOPIC, METADATA_TOPIC_ID);
    let position = Some(BLOCK_BYTES as u64);
    // Which topics there are is not known then, so none is called deleted.
    let expected = vec![("metadata-record".to_string(), path, position)];
    assert_eq!(findings(&node.at("")), expected);
}

#[test]
fn a_metadata_log_that_lost_records_keeps_a_node_from_starting() {
    let node = Node::new();
    for (topic, id, expected) in [
        ("orders", ORDERS, "declares a hole"),
        (METADATA_TOPIC, METADATA_TOPIC_ID, "refuses to start"),
    ] {
        let path = Node::segment(topic, id);
        let mut bytes = std::fs::read(node.at(&path)).expect("read");
        bytes[BLOCK_BYTES + 70] ^= 1;
        std::fs::write(node.at(&path), &bytes).expect("written");
        let (text, _) = run(&["verify", &node.at(&path), "--json"]);
        let found = objects(&text).remove(0);
        let recovery = found["recovery"].as_str().expect("a sentence");
        assert_eq!(found["kind"], "batch-crc");
        assert!(recovery.starts_with(expected), "{recovery}");
    }
}

#[test]
fn topics_on_disk_and_in_the_metadata_log_are_compared() {
    let mut node = Node::new();
    let gone = TopicId([9; 16]);
    node.log("gone", gone, &[batch(Codec::None)]);
    let directory = partition_directory("gone", gone, METADATA_PARTITION);
    let expected = vec![("unknown-topic".to_string(), directory.clone(), None)];
    assert_eq!(findings(&node.at("")), expected);

    let deleted = encode_batch(&[created(gone, "gone"), deleted(gone)], 6);
    let topics = encode_batch(
        &[
            created(ORDERS, "orders"),
            created(OFFSETS, "__consumer_offsets"),
        ],
        5,
    );
    node.log(METADATA_TOPIC, METADATA_TOPIC_ID, &[topics, deleted]);
    let expected = vec![("deleted-topic".to_string(), directory, None)];
    assert_eq!(findings(&node.at("")), expected);

    let directory = partition_directory("orders", ORDERS, METADATA_PARTITION);
    node.disk().remove(&directory).expect("removed");
    node.disk().remove("topics/gone").expect("removed");
    let expected = vec![("records-missing".to_string(), directory, None)];
    assert_eq!(findings(&node.at("")), expected);
}

#[test]
fn strangers_in_the_data_directory_are_noted() {
    let node = Node::new();
    node.disk().write_whole("core.1234", b"x").expect("written");
    let expected = vec![("unknown-file".to_string(), "core.1234".to_string(), None)];
    assert_eq!(findings(&node.at("")), expected);
}

#[test]
fn what_was_not_asked_for_is_not_told() {
    let node = Node::new();
    let path = Node::segment("orders", ORDERS);
    let mut bytes = std::fs::read(node.at(&path)).expect("read");
    bytes[BLOCK_BYTES + 70] ^= 1;
    std::fs::write(node.at(&path), &bytes).expect("written");
    let told = vec![(
        "batch-crc".to_string(),
        path.clone(),
        Some(BLOCK_BYTES as u64),
    )];
    for asked in ["", "topics/orders", path.as_str()] {
        assert_eq!(findings(&node.at(asked)), told, "{asked}");
    }
    for other in ["topics/__consumer_offsets", "marks", "superblock"] {
        assert_eq!(findings(&node.at(other)), [], "{other}");
    }

    // The segment alone, somewhere else: nothing says whose it is, or what was acknowledged.
    let alone = node.at("elsewhere/p");
    std::fs::create_dir_all(&alone).expect("created");
    let name = path.rsplit('/').next().expect("a name");
    std::fs::rename(node.at("superblock"), node.at("s")).expect("no data directory any more");
    std::fs::rename(node.at("marks"), node.at("m")).expect("no data directory any more");
    let copy = format!("{alone}/{name}");
    std::fs::write(&copy, &bytes).expect("written");
    let told = vec![(
        "batch-crc".to_string(),
        format!("p/{name}"),
        Some(BLOCK_BYTES as u64),
    )];
    assert_eq!(findings(&alone), told);
    assert_eq!(findings(&copy), told);
}

#[test]
fn a_directory_in_use_is_refused_with_the_remedy_and_stays_as_it_is() {
    let node = Node::new();
    let held = highwater_reactor::lock_data_dir(&node.path).expect("free");
    for command in ["verify", "dump"] {
        let (text, ended) = run(&[command, &node.at("topics")]);
        let error = ended.expect_err("refused").to_string();
        assert!(
            error.contains("running node") && error.contains("stop it first"),
            "{error}"
        );
        assert_eq!(text, "");
    }
    drop(held);
    let list = || walk(&node.path);
    let before = list();
    run(&["verify", &node.at("")]).1.expect("verifies");
    run(&["dump", &node.at("")]).1.expect("dumps");
    assert_eq!(list(), before);
    let error = run(&["dump", &node.at("nowhere")]).1.expect_err("refused");
    assert!(matches!(error, LogToolError::Usage(_)), "{error}");
}

/// Every file below a directory with its contents.
fn walk(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).expect("listed") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => found.extend(walk(&path)),
            false => found.push((path.clone(), std::fs::read(&path).expect("read"))),
        }
    }
    found.sort();
    found
}

#[test]
fn a_dump_explains_every_byte_of_what_it_shows() {
    let node = Node::new();
    let path = Node::segment("orders", ORDERS);
    let (text, ended) = run(&["dump", &node.at(&path), "--records", "--bytes", "--json"]);
    ended.expect("dumps");
    let bytes = std::fs::read(node.at(&path)).expect("read");
    let first = batch(Codec::None).len();
    let mut covered = vec![false; BLOCK_BYTES + first];
    let mut is_packed = false;
    for object in objects(&text) {
        is_packed |= object["type"] == "unpacked";
        if object["type"] != "bytes" || is_packed {
            continue;
        }
        let number = |name: &str| object[name].as_u64().expect(name) as usize;
        let (from, len) = (number("position"), number("length"));
        let shown = object["hex"].as_str().expect("digits");
        assert_eq!(shown, hex::digits(&bytes[from..from + len]), "{object}");
        for place in covered.iter_mut().skip(from).take(len) {
            assert!(!*place, "{object} shows a byte again");
            *place = true;
        }
    }
    let missing = covered.iter().position(|covered| !covered);
    assert_eq!(missing, None, "{text}");
    assert!(is_packed);
}

#[test]
fn a_dump_decodes_batches_records_and_the_brokers_own_logs() {
    let node = Node::new();
    let (text, ended) = run(&["dump", &node.at("topics/orders"), "--records", "--json"]);
    ended.expect("dumps");
    let objects_of = |text: &str, kind: &str| {
        let mut found = objects(text);
        found.retain(|object| object["type"] == kind);
        found
    };
    let batches = objects_of(&text, "batch");
    assert_eq!(
        (batches[0]["codec"].as_str(), batches[1]["codec"].as_str()),
        (Some("none"), Some("zstd"))
    );
    assert_eq!(batches[1]["base_offset"], 3);
    assert_eq!(batches[1]["crc_state"], "ok");
    assert_eq!(batches[1]["base_sequence"], 40);
    let records = objects_of(&text, "record");
    assert_eq!(records.len(), 6);
    for packed in [0, 3] {
        let at = |number: usize| &records[packed + number];
        assert_eq!(at(0)["value"], "first value");
        assert_eq!(at(0)["headers"], serde_json::json!([["h", "x"]]));
        assert_eq!(at(1)["value"], "hex:ff01");
        assert_eq!(
            (&at(1)["key"], &at(2)["value"]),
            (&Value::Null, &Value::Null)
        );
        assert_eq!(at(2)["offset"], packed as i64 + 2);
    }

    let (text, _) = run(&["dump", &node.at("topics"), "--records", "--json"]);
    let records = objects_of(&text, "record");
    let says: Vec<&Value> = records.iter().map(|record| &record["says"]).collect();
    let committed = says
        .iter()
        .find(|says| says["kind"] == "offset")
        .expect("a commit");
    assert_eq!(
        (&committed["group"], &committed["value"]["offset"]),
        (&"billing".into(), &2.into())
    );
    let group = says
        .iter()
        .find(|says| says["kind"] == "group")
        .expect("a tombstone");
    assert_eq!(group["value"], Value::Null);
    let topic = says
        .iter()
        .find(|says| says["kind"] == "topic")
        .expect("a topic");
    assert_eq!(topic["topic_id"], ORDERS.to_string());
}

#[test]
fn a_dump_begins_and_ends_where_it_is_told_to() {
    let node = Node::new();
    let path = node.at("topics/orders");
    let (text, _) = run(&["dump", &path, "--from-offset", "4"]);
    assert!(
        text.contains("base_offset=3") && !text.contains("records=3 base_offset=0"),
        "{text}"
    );
    let shown = |text: &str| {
        text.lines()
            .filter(|line| line.starts_with("batch"))
            .count()
    };
    assert_eq!(shown(&text), 1, "{text}");
    let (text, _) = run(&["dump", &path, "--limit", "1"]);
    assert_eq!(shown(&text), 1, "{text}");
    assert_eq!(shown(&run(&["dump", &path]).0), 2);
}

#[test]
fn a_dump_shows_damage_and_goes_on_behind_it() {
    let node = Node::new();
    let path = Node::segment("orders", ORDERS);
    let good = std::fs::read(node.at(&path)).expect("read");
    let mut bytes = good.clone();
    bytes[BLOCK_BYTES + 70] ^= 1;
    std::fs::write(node.at(&path), &bytes).expect("written");
    let (text, _) = run(&["dump", &node.at(&path)]);
    let batches: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("batch"))
        .collect();
    assert!(
        batches[0].contains("BAD") && batches[1].contains("crc_state=ok"),
        "{text}"
    );

    let mut bytes = good;
    bytes[BLOCK_BYTES + 16] = 1;
    std::fs::write(node.at(&path), &bytes).expect("written");
    let (text, _) = run(&["dump", &node.at(&path)]);
    let junk = text
        .lines()
        .find(|line| line.starts_with("junk"))
        .expect("junk");
    let len = batch(Codec::None).len();
    assert!(
        junk.contains(&format!("position=4096 bytes={len}")),
        "{text}"
    );
    assert!(junk.contains("magic is 1"), "{text}");
    assert!(
        text.contains("base_offset=3") && text.contains("padding"),
        "{text}"
    );
}

#[test]
fn a_dump_reads_superblock_and_ledger() {
    let node = Node::new();
    let (text, _) = run(&["dump", &node.at("superblock"), "--bytes"]);
    assert_eq!(
        text.lines().filter(|line| line.starts_with("copy")).count(),
        4,
        "{text}"
    );
    assert!(text.contains(&format!("cluster_id = {CLUSTER}")), "{text}");
    let (text, _) = run(&["dump", &node.at("marks/core-0-0a")]);
    assert!(
        text.contains("kind=progress") && text.contains("durable_end=6"),
        "{text}"
    );
    let (text, _) = run(&["dump", &node.at("marks/core-0-0b")]);
    assert_eq!(text.lines().count(), 1, "blank: {text}");
}

#[test]
fn the_examples_in_the_help_parse() {
    Program::command().debug_assert();
    let mut count = 0;
    for help in [HELP, HELP_DUMP, HELP_VERIFY] {
        for example in help
            .lines()
            .filter_map(|line| line.trim().strip_prefix("highwater "))
        {
            let words = example.split("  ").next().unwrap_or_default();
            let parsed = Program::try_parse_from(words.split_whitespace());
            assert!(parsed.is_ok(), "{words}: {parsed:?}");
            count += 1;
        }
    }
    assert!(count >= 8);
}

/// The data of a topic `gone` in quarantine: the entry's name and where its segment is.
fn quarantined(node: &mut Node, reason: &str, note: Option<&str>) -> (String, String) {
    let id = TopicId([9; 16]);
    node.log("gone", id, &[batch(Codec::None)]);
    let entry = format!("1764559200000-{reason}-{id}");
    let directory = format!("quarantine/{entry}");
    let mut disk = node.disk();
    let from = format!("topics/gone/{id}");
    disk.rename(&from, &format!("{directory}/gone"))
        .expect("moved");
    if let Some(note) = note {
        let path = format!("{directory}/topic.json");
        disk.write_whole(&path, note.as_bytes()).expect("written");
    }
    let segment = Node::segment("gone", id);
    let rest = segment.strip_prefix(&from).expect("it lies there");
    (entry, format!("{directory}/gone{rest}"))
}

#[test]
fn data_in_quarantine_is_listed_and_noted() {
    let mut node = Node::new();
    let (empty, ended) = run(&["quarantine", "list", &node.at("")]);
    assert!(ended.is_ok() && empty.contains("nothing"), "{empty}");
    let (entry, _) = quarantined(&mut node, "unknown", None);
    let (text, ended) = run(&["quarantine", "list", &node.at(""), "--json"]);
    ended.expect("listed");
    let listed = &objects(&text)[0];
    assert_eq!(listed["name"], entry);
    assert_eq!(
        (&listed["topic"], &listed["partitions"]),
        (&"gone".into(), &1.into())
    );
    assert_eq!(listed["bytes"], SEGMENT_BYTES);
    node.disk().remove("topics/gone").expect("removed");
    let noted = findings(&node.at(""));
    let expected = (
        "quarantined".to_string(),
        format!("quarantine/{entry}"),
        None,
    );
    assert_eq!(noted, [expected]);
}

#[test]
fn a_topic_is_put_back_as_its_note_says() {
    let mut node = Node::new();
    let note = r#"{"topic": "gone", "partitions": 5, "config": [["retention.ms", "7"]]}"#;
    let (entry, segment) = quarantined(&mut node, "deleted", Some(note));
    let (text, ended) = run(&["quarantine", "restore", &node.at(""), &entry]);
    ended.expect("restores");
    assert!(text.contains("5 partitions"), "{text}");
    assert!(!std::path::Path::new(&node.at(&segment)).exists());
    let back = Node::segment("gone", TopicId([9; 16]));
    assert!(std::path::Path::new(&node.at(&back)).exists());
    let restoring = entry.replace("deleted", "restoring");
    let kept = std::fs::read(node.at(&format!("quarantine/{restoring}/topic.json")));
    let kept = crate::quarantine::Note::decode(&kept.expect("a note")).expect("understood");
    assert_eq!((kept.partitions, kept.config.len()), (5, 1));
    assert!(!std::path::Path::new(&node.at(&format!("quarantine/{entry}"))).exists());
    // What was put back is data of a topic: the next start registers it.
    let kinds: Vec<String> = findings(&node.at("")).into_iter().map(|it| it.0).collect();
    assert_eq!(kinds, ["quarantined"]);
}

#[test]
fn a_topic_whose_name_is_taken_is_put_back_under_another() {
    let mut node = Node::new();
    let (entry, segment) = quarantined(&mut node, "unknown", None);
    let restore = |more: &[&str]| {
        let path = node.at("");
        let words = ["quarantine", "restore", &path, &entry];
        let words: Vec<&str> = words.iter().chain(more).copied().collect();
        run(&words).1
    };
    let refused = |more: &[&str], why: &str| {
        let error = restore(more).expect_err("refused").to_string();
        assert!(error.contains(why), "{error}");
        assert!(std::path::Path::new(&node.at(&segment)).exists());
    };
    refused(&["--as", "orders"], "--as NAME");
    refused(&["--as", "a/b"], "no name of a topic");
    let other = run(&["quarantine", "restore", &node.at(""), "5-deleted-x"]);
    assert!(other.1.is_err());
    restore(&["--as", "found", "--partitions", "4"]).expect("restores");
    let back = Node::segment("found", TopicId([9; 16]));
    assert!(std::path::Path::new(&node.at(&back)).exists());
}

#[test]
fn only_what_is_meant_is_removed_from_quarantine() {
    let mut node = Node::new();
    let (_, deleted) = quarantined(&mut node, "deleted", None);
    let (_, unknown) = quarantined(&mut node, "unknown", None);
    let is_there = |path: &str| std::path::Path::new(&node.at(path)).exists();
    run(&["quarantine", "purge", &node.at(""), "--deleted"])
        .1
        .expect("purges");
    assert_eq!((is_there(&deleted), is_there(&unknown)), (false, true));
    run(&["quarantine", "purge", &node.at(""), "--all"])
        .1
        .expect("purges");
    assert!(!is_there(&unknown));
    let error = run(&["quarantine", "purge", &node.at(""), "nothing"]).1;
    assert!(error.is_err());
}

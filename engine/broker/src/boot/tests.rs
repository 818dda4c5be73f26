//! Tests of the start over real directories.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;

use highwater_base::disk::{DiskCompletion, DiskOperation, FileId};
use highwater_base::{BatchHeader, ClusterId, Now, TopicId};
use highwater_reactor::{Finding, WriteCache};

use super::*;
use crate::config::TopicConfig;
use crate::metadata::record::encode_batch;
use crate::quarantine::Note;

/// A directory that goes with the test.
struct TestDirectory(PathBuf);

impl TestDirectory {
    fn new() -> TestDirectory {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("highwater-boot-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a temporary directory");
        TestDirectory(path)
    }

    fn disk(&self) -> OsBootDisk {
        OsBootDisk::new(&self.0, false)
    }

    fn factory(&self, cores: usize) -> ShardFactory {
        let text = |text: &str| text.to_string();
        let set = [(text("data_dir"), self.0.display().to_string())];
        let config = NodeConfig::load(None, [], &set).expect("valid");
        let identity = NodeIdentity {
            cluster_id: ClusterId([1; 16]),
            config: Arc::new(config),
            advertised: (text("localhost"), 9092),
            cores,
            volume: highwater_reactor::VolumeGauge::default(),
        };
        // Any temporary directory will do.
        let probe = DiskProbe {
            buffered: Some(Finding {
                directory: self.0.clone(),
                why: "of a test".to_string(),
            }),
            ..barrier::tests::probe(WriteCache::Unknown, None)
        };
        let mut disk = self.disk();
        let superblock = open_superblock(&mut disk, &self.0, 1).expect("formatted");
        ShardFactory::new(identity, &mut disk, &probe, superblock).expect("readable")
    }
}

impl Drop for TestDirectory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn ledgers_of_former_cores_are_gone_before_any_core_may_serve() {
    let directory = TestDirectory::new();
    let four = directory.factory(4);
    for core in 0..4 {
        four.make(CoreId(core)).expect("recovers");
    }
    let mut disk = directory.disk();
    disk.write_whole("checkpoint/core-3", b"old")
        .expect("written");
    let names = |path: &str| -> Vec<String> {
        let entries = directory.disk().list(path).unwrap_or_default();
        entries.into_iter().map(|entry| entry.name).collect()
    };
    assert!(names("marks").contains(&"core-3-0a".to_string()));
    let two = directory.factory(2);
    two.make(CoreId(0)).expect("recovers");
    assert!(names("marks").contains(&"core-3-0a".to_string()));
    two.make(CoreId(1)).expect("recovers");
    let left = names("marks");
    assert!(
        left.iter().all(|name| name < &"core-2".to_string()),
        "{left:?}"
    );
    assert_eq!(names("checkpoint"), Vec::<String>::new());
}

#[test]
fn a_node_that_has_served_does_not_start_empty_without_its_marks_and_topics() {
    let directory = TestDirectory::new();
    directory.factory(1).make(CoreId(0)).expect("recovers");
    for gone in ["marks", "topics"] {
        directory.disk().remove(gone).expect("removable");
    }
    let made = directory.factory(1).make(CoreId(0));
    let refused = made.err().expect("it has served");
    assert!(refused.contains("restore the directories"), "{refused}");
}

#[test]
fn an_interrupted_formatting_is_begun_anew() {
    let directory = TestDirectory::new();
    std::fs::write(directory.0.join(".direct-io-probe-77"), b"x").expect("written");
    let mut disk = directory.disk();
    disk.create_zeroed("superblock", 4 * 4096).expect("created");
    let formatted = open_superblock(&mut disk, &directory.0, 5).expect("formats");
    let opened = open_superblock(&mut disk, &directory.0, 5).expect("opens");
    assert_eq!(opened, formatted);
}

#[test]
fn data_without_a_superblock_is_not_formatted_over() {
    let directory = TestDirectory::new();
    let mut disk = directory.disk();
    disk.create_zeroed("superblock", 4 * 4096).expect("created");
    disk.write_whole("topics/orders/x", b"x").expect("written");
    let error = open_superblock(&mut disk, &directory.0, 5).expect_err("refused");
    for part in ["topics/", "superblock", "restore"] {
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn a_directory_of_something_else_is_not_formatted() {
    let directory = TestDirectory::new();
    let mut disk = directory.disk();
    disk.write_whole("photos/x", b"x").expect("written");
    let error = open_superblock(&mut disk, &directory.0, 5).expect_err("refused");
    for part in ["photos", "empty or new directory"] {
        assert!(error.to_string().contains(part), "{error}");
    }
}

fn tombstones_of(records: &[MetadataRecord]) -> (Image, Tombstones) {
    let mut image = Image::new(1, TopicConfig::default());
    let mut tombstones = Tombstones::default();
    for record in records {
        tombstones.note(record, &image);
        image.apply(record);
    }
    (image, tombstones)
}

fn created(name: &str, topic_id: TopicId) -> MetadataRecord {
    MetadataRecord::Topic {
        topic_id: topic_id.0,
        name: name.to_string(),
        partitions: 8,
        core_slot_base: 0,
        config: vec![("retention.ms".to_string(), "5".to_string())],
    }
}

fn deleted(topic_id: TopicId) -> MetadataRecord {
    MetadataRecord::TopicDeleted {
        topic_id: topic_id.0,
    }
}

const DAY: DeleteRetention = DeleteRetention::hours(24);

/// B11: an old or torn metadata log lacks topics that nobody has deleted.
#[test]
fn data_is_deleted_only_when_its_tombstone_was_read() {
    let directory = TestDirectory::new();
    let mut disk = directory.disk();
    let [live, dead, unknown] = [1, 2, 3].map(|byte| TopicId([byte; 16]));
    let kept = [
        format!("topics/orders/{live}/0/00000000000000000000-0.log"),
        format!("topics/{METADATA_TOPIC}/{METADATA_TOPIC_ID}/0/x.log"),
        "topics/elsewhere/not-a-topic-id/x".to_string(),
        "topics/a-file".to_string(),
    ];
    let gone = [
        format!("topics/old/{dead}/7/prepared-1.log"),
        format!("topics/orders/{unknown}/0/00000000000000000000-0.log"),
    ];
    for path in kept.iter().chain(&gone) {
        disk.write_whole(path, b"x").expect("written");
    }
    std::fs::create_dir_all(directory.0.join("topics/orders/AAAAAAAAAAAAAAAAAAAAAA/1"))
        .expect("created");
    let (image, tombstones) =
        tombstones_of(&[created("orders", live), created("old", dead), deleted(dead)]);
    let none_kept = DeleteRetention::hours(0);
    let moved = set_aside::set_aside(&mut disk, &image, &tombstones, none_kept, 77);
    let from = format!("topics/old/{dead}");
    let entry = Entry {
        since_ms: 77,
        reason: Reason::Unknown,
        topic_id: unknown,
    };
    let expected = [
        Moved::Removed { from },
        Moved::ToQuarantine {
            from: format!("topics/orders/{unknown}"),
            entry,
        },
    ];
    assert_eq!(moved.expect("goes through"), expected);
    let exists = |path: &String| directory.0.join(path).exists();
    assert!(kept.iter().all(exists));
    assert!(!gone.iter().any(exists));
    assert!(!exists(&"topics/old".to_string()), "its last id went");
    let without_files = "topics/orders/AAAAAAAAAAAAAAAAAAAAAA".to_string();
    assert!(!exists(&without_files));
    let there = format!(
        "{}/0/00000000000000000000-0.log",
        entry.topic_path("orders")
    );
    assert!(exists(&there));
    let again = set_aside::set_aside(&mut disk, &image, &tombstones, none_kept, 78);
    assert_eq!(again.expect("goes through"), []);
}

#[test]
fn deleted_data_that_a_crash_left_joins_what_was_moved_before_it() {
    let directory = TestDirectory::new();
    let mut disk = directory.disk();
    let dead = TopicId([2; 16]);
    let before = Entry {
        since_ms: 5,
        reason: Reason::Deleted,
        topic_id: dead,
    };
    let path = format!("{}/0/x.log", before.topic_path("old"));
    disk.write_whole(&path, b"x").expect("written");
    for partition in [1, 2] {
        let path = format!("topics/old/{dead}/{partition}/x.log");
        disk.write_whole(&path, b"x").expect("written");
    }
    let (image, tombstones) = tombstones_of(&[created("old", dead), deleted(dead)]);
    set_aside::set_aside(&mut disk, &image, &tombstones, DAY, 77).expect("goes through");
    assert_eq!(set_aside::entries(&disk), Ok(vec![before]));
    let there = disk.list(&before.topic_path("old")).expect("it is there");
    assert_eq!(there.len(), 3);
    assert!(!directory.0.join("topics/old").exists());
    let note = restored::read_note(&disk, before).expect("a note");
    assert_eq!((note.topic.as_str(), note.partitions), ("old", 8));
    // The name of a partition is taken: nothing is written over.
    let path = format!("topics/old/{dead}/0/other.log");
    disk.write_whole(&path, b"x").expect("written");
    set_aside::set_aside(&mut disk, &image, &tombstones, DAY, 78).expect("goes through");
    assert_eq!(set_aside::entries(&disk).expect("listed").len(), 2);
}

fn write_note(disk: &mut OsBootDisk, entry: Entry, topic: &str) {
    let note = Note {
        topic: topic.to_string(),
        partitions: 3,
        config: vec![("retention.ms".to_string(), "7".to_string())],
    };
    disk.write_whole(&entry.note_path(), &note.encode())
        .expect("written");
}

#[test]
fn a_topic_that_was_put_back_is_registered_under_its_old_id() {
    let directory = TestDirectory::new();
    let mut disk = directory.disk();
    let entry = |byte| Entry {
        since_ms: 5,
        reason: Reason::Restoring,
        topic_id: TopicId([byte; 16]),
    };
    for (byte, topic, has_data) in [
        (1, "orders", true),
        (2, "clicks", false),
        (3, "taken", true),
        (4, "here", true),
        (5, "../etc", true),
    ] {
        write_note(&mut disk, entry(byte), topic);
        if has_data {
            let path = format!("topics/{topic}/{}/0/x.log", TopicId([byte; 16]));
            disk.write_whole(&path, b"x").expect("written");
        }
    }
    let (mut image, _) = tombstones_of(&[
        created("taken", TopicId([9; 16])),
        created("here", TopicId([4; 16])),
    ]);
    let found = restored::restored(&disk, &mut image).expect("readable");
    assert_eq!(found.done, [entry(4)]);
    let refused: Vec<Entry> = found.refused.iter().map(|(entry, _)| *entry).collect();
    assert_eq!(refused, [entry(2), entry(3), entry(5)]);
    assert!(found.refused[1].1.contains("another name"), "{found:?}");
    let [(record, of)] = &found.records[..] else {
        panic!("one topic is restored: {found:?}");
    };
    assert_eq!(*of, entry(1));
    assert!(matches!(
        record,
        MetadataRecord::Topic {
            core_slot_base: 8,
            ..
        }
    ));
    let topic = image.topic_by_name("orders").expect("registered");
    assert_eq!((topic.id, topic.partitions), (TopicId([1; 16]), 3));
    assert_eq!(topic.config.retention_ms, 7);
}

/// The former rule removed it once metadata looked whole.
#[test]
fn without_metadata_no_topic_counts_as_deleted() {
    let directory = TestDirectory::new();
    directory.factory(1).make(CoreId(0)).expect("recovers");
    let id = TopicId([2; 16]);
    let path = format!("topics/orders/{id}/0/x.log");
    directory.disk().write_whole(&path, b"x").expect("written");
    directory.factory(1).make(CoreId(0)).expect("recovers");
    let entries = set_aside::entries(&directory.disk()).expect("listed");
    let [entry] = entries[..] else {
        panic!("one entry: {entries:?}");
    };
    assert_eq!((entry.reason, entry.topic_id), (Reason::Unknown, id));
    let kept = format!("{}/0/x.log", entry.topic_path("orders"));
    assert!(directory.0.join(kept).exists());
}

/// Appends a batch and does what the store wants of the disk until it is durable.
fn append_durably(store: &mut Store, disk: &mut OsBootDisk, log: LogId, batch: &[u8]) {
    let now = highwater_reactor::now();
    let header = BatchHeader::parse(batch).expect("a batch");
    store.append(log, now, &header, batch, None).expect("room");
    let (mut paths, mut events) = (BTreeMap::new(), Vec::new());
    let mut requests = Vec::new();
    // The ledger lags a little: later it has the mark.
    for later_ms in [0, 1000] {
        let now = Now {
            monotonic_ns: now.plus_ms(later_ms),
            ..now
        };
        store.tick(now, &mut requests, &mut events);
        store.end_turn(now, &mut requests);
        while !requests.is_empty() {
            for request in std::mem::take(&mut requests) {
                let done = perform(disk, &mut paths, request.operation);
                let token = request.token;
                if let Some(result) = done {
                    let completion = DiskCompletion { token, result };
                    store.complete(now, completion, &mut requests, &mut events);
                }
            }
            store.end_turn(now, &mut requests);
        }
    }
    let durable = Offset(1);
    assert!(store.high_watermark(log) >= durable, "{events:?}");
}

fn perform(
    disk: &mut OsBootDisk,
    paths: &mut BTreeMap<FileId, String>,
    operation: DiskOperation,
) -> Option<Result<usize, DiskError>> {
    let done = match operation {
        DiskOperation::Attach { file, path, former } => {
            paths.insert(file, former.unwrap_or(path));
            return None;
        }
        DiskOperation::Create {
            file,
            size_bytes,
            first_block,
            first_len,
        } => {
            let path = &paths[&file];
            let filled = first_len.min(first_block.filled());
            let mut block = first_block.slice(0, filled).to_vec();
            block.resize(block.len().next_multiple_of(4096), 0);
            disk.create_zeroed(path, size_bytes)
                .and_then(|()| disk.write(path, 0, &block))
        }
        DiskOperation::Write {
            file,
            offset,
            buffer,
            start,
            len,
            ..
        } => {
            let filled = (buffer.filled() - start).min(len);
            let mut bytes = buffer.slice(start, filled).to_vec();
            bytes.resize(len, 0);
            return Some(disk.write(&paths[&file], offset, &bytes).map(|()| len));
        }
        DiskOperation::Rename { from, to } => disk.rename(&from, &to),
        DiskOperation::Detach { .. } => return None,
        other => {
            let is_harmless = matches!(other, DiskOperation::Zero { .. });
            assert!(is_harmless, "unexpected {other:?}");
            Ok(())
        }
    };
    Some(done.map(|()| 0))
}

/// The offsets of the metadata log that the ledger has, with the log's bytes gone.
#[test]
fn a_hole_in_the_metadata_log_refuses_the_start() {
    let directory = TestDirectory::new();
    directory.factory(1).make(CoreId(0)).expect("recovers");
    let mut disk = directory.disk();
    let marks = LedgerImage::read(&disk).expect("readable");
    let ledger = MarksLedger::create(&mut disk, CoreId(0), &marks, |_| true);
    let mut store = Store::new(
        StoreConfig::default(),
        ClusterId([1; 16]),
        ledger.expect("a ledger"),
    );
    let now = highwater_reactor::now();
    let recovered = store.recover(&mut disk, metadata_spec(), &marks, now);
    let (log, _) = recovered.expect("recovers");
    let batch = encode_batch(&[created("orders", TopicId([1; 16]))], 1);
    append_durably(&mut store, &mut disk, log, &batch);
    let files = format!("topics/{METADATA_TOPIC}/{METADATA_TOPIC_ID}/0");
    let intact = directory.factory(1).make(CoreId(0));
    assert!(intact.is_ok_and(|shard| shard.image.topic_by_name("orders").is_some()));
    disk.remove(&files).expect("removed");
    let error = directory.factory(1).make(CoreId(0)).err();
    let error = error.expect("a start without its metadata is refused");
    assert!(error.contains("damaged at offsets"), "{error}");
    assert!(error.contains("backup"), "{error}");
}

//! Tests of the start over real directories.

use std::path::PathBuf;
use std::sync::atomic::AtomicU32;

use highwater_base::TopicId;

use super::*;
use crate::config::TopicConfig;

fn probe(filesystem: &str, device: &str, direct_io: bool, cache: WriteCache) -> DiskProbe {
    DiskProbe {
        direct_io,
        device: device.to_string(),
        write_cache: cache,
        fua: false,
        filesystem: filesystem.to_string(),
        rotational: false,
        read_ahead_bytes: 128 << 10,
    }
}

#[test]
fn a_shared_barrier_needs_direct_writes_into_blocks_that_stay_where_they_are() {
    use WriteCache::{Unknown, WriteBack, WriteThrough};
    let (flush, each, none) = (
        Barrier::DeviceFlush,
        Barrier::PerWrite,
        Barrier::WriteThrough,
    );
    let table = [
        ("ext4", "sda", true, WriteBack, flush),
        ("ext3", "sda", true, Unknown, flush),
        ("ext2", "259:2", true, Unknown, flush),
        ("xfs", "nvme0n1", true, WriteThrough, none),
        // Buffered: a plain write is in memory, whatever the device does.
        ("ext4", "sda", false, WriteBack, each),
        ("xfs", "nvme0n1", false, WriteThrough, each),
        // Copy on write, layers, memory, and what nobody has examined.
        ("btrfs", "0:41", true, Unknown, each),
        ("zfs", "0:52", true, Unknown, each),
        ("bcachefs", "sda", true, WriteThrough, each),
        ("f2fs", "sda", true, WriteBack, each),
        ("overlay", "0:60", true, Unknown, each),
        ("tmpfs", "0:33", false, Unknown, each),
        ("unknown", "sda", true, WriteThrough, each),
        // The mount table names another filesystem than the one the files are on.
        ("ext4", "0:41", true, Unknown, each),
    ];
    for (filesystem, device, direct_io, cache, expected) in table {
        let probe = probe(filesystem, device, direct_io, cache);
        assert_eq!(barrier_for(&probe), expected, "{probe:?}");
        let with_fua = DiskProbe { fua: true, ..probe };
        let expected = match expected {
            Barrier::DeviceFlush => Barrier::PerWrite,
            other => other,
        };
        assert_eq!(barrier_for(&with_fua), expected, "{with_fua:?}");
    }
}

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
        let probe = probe("ext4", "sda", false, WriteCache::Unknown);
        ShardFactory::new(identity, &self.disk(), &probe, true).expect("readable")
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
    assert!(error.to_string().contains("topics"), "{error}");
}

fn image_with(name: &str, topic_id: TopicId) -> Image {
    let mut image = Image::new(1, TopicConfig::default());
    image.apply(&MetadataRecord::Topic {
        topic_id: topic_id.0,
        name: name.to_string(),
        partitions: 1,
        core_slot_base: 0,
        config: Vec::new(),
    });
    image
}

#[test]
fn data_of_deleted_topics_is_removed_and_other_data_is_not() {
    let directory = TestDirectory::new();
    let mut disk = directory.disk();
    let (live, dead) = (TopicId([1; 16]), TopicId([2; 16]));
    let kept = [
        format!("topics/orders/{live}/0/00000000000000000000-0.log"),
        format!("topics/{METADATA_TOPIC}/{METADATA_TOPIC_ID}/0/x.log"),
        "topics/elsewhere/not-a-topic-id/x".to_string(),
        "topics/a-file".to_string(),
    ];
    let removed = [
        format!("topics/orders/{dead}/0/00000000000000000000-0.log"),
        format!("topics/old/{dead}/7/prepared-1.log"),
    ];
    for path in kept.iter().chain(&removed) {
        disk.write_whole(path, b"x").expect("written");
    }
    let image = image_with("orders", live);
    let gone = deleted_topics::remove(&mut disk, &image).expect("removable");
    assert_eq!(gone, [dead.to_string(), dead.to_string()]);
    let exists = |path: &String| directory.0.join(path).exists();
    assert!(kept.iter().all(exists));
    assert!(!removed.iter().any(exists));
    assert!(!exists(&"topics/old".to_string()), "its last id went");
    let again = deleted_topics::remove(&mut disk, &image).expect("removable");
    assert!(again.is_empty());
}

#[test]
fn without_metadata_no_topic_counts_as_deleted() {
    let directory = TestDirectory::new();
    directory.factory(1).make(CoreId(0)).expect("recovers");
    let path = format!("topics/orders/{}/0/x.log", TopicId([2; 16]));
    directory.disk().write_whole(&path, b"x").expect("written");
    directory.factory(1).make(CoreId(0)).expect("recovers");
    assert!(directory.0.join(path).exists());
}

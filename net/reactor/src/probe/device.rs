//! The block device that files are on: what its own queue says of its cache.
//!
//! The kernel computes the figures of a device that is made of others (device mapper, md) from its
//! parts, and goes by the figures of that device alone when a filesystem on it asks for a durable
//! write. So its own queue is what counts here too. The parts are looked at for one thing only: that
//! a stack which says it has no volatile cache has none below either.

use std::fs;
use std::path::{Path, PathBuf};

/// How a device treats completed writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteCache {
    /// They may be in a volatile cache until it is flushed.
    WriteBack,
    /// They are on stable storage.
    WriteThrough,
    /// Not known: treated as volatile, and flushes of it are not relied on.
    Unknown,
}

/// Devices below devices that are followed at most.
const PARTS_DEPTH_MAX: usize = 16;

/// A block device, or what stands for one where a filesystem has none.
#[derive(Clone, Debug)]
pub struct Device {
    /// Its kernel name, or its numbers where it has none.
    pub name: String,
    pub write_cache: WriteCache,
    /// Whether the kernel makes single writes durable without flushing the cache; `None` where that
    /// is not known.
    pub fua: Option<bool>,
    /// For a device made of others: those at the bottom, and their caches.
    pub parts: Vec<(String, WriteCache)>,
    pub rotational: bool,
    /// The most the kernel reads ahead at once, in bytes.
    pub read_ahead_bytes: usize,
}

impl Device {
    /// Why the kernel drops flushes on their way down, if it does: it sends none to a device that
    /// says it has no cache, whatever is below.
    pub(super) fn why_flushes_are_dropped(&self) -> Option<String> {
        let cached = |(_, cache): &&(String, WriteCache)| *cache == WriteCache::WriteBack;
        let (part, _) = self.parts.iter().find(cached)?;
        let name = &self.name;
        (self.write_cache == WriteCache::WriteThrough).then(|| {
            format!(
                "{name} says that it has no volatile cache, and {part} below it has one, which the \
                 kernel never flushes; activate {name} anew, or write \"write back\" into \
                 /sys/block/{name}/queue/write_cache"
            )
        })
    }
}

/// Reads what sysfs, mounted at `sys`, says of a device.
pub(super) fn examine(sys: &Path, (major, minor): (u32, u32)) -> Device {
    let node = fs::canonicalize(sys.join(format!("dev/block/{major}:{minor}"))).ok();
    let name = node.as_deref().and_then(Path::file_name).map_or_else(
        || format!("{major}:{minor}"),
        |name| name.to_string_lossy().into_owned(),
    );
    let Some(disk) = node.as_deref().and_then(disk_of) else {
        return Device {
            name,
            write_cache: WriteCache::Unknown,
            fua: None,
            parts: Vec::new(),
            rotational: false,
            read_ahead_bytes: 0,
        };
    };
    let mut parts = Vec::new();
    for part in slaves(&disk) {
        collect_parts(&part, PARTS_DEPTH_MAX, &mut parts);
    }
    let read_ahead = queue_value(&disk, "read_ahead_kb");
    let kibibytes = read_ahead.and_then(|text| text.parse::<usize>().ok());
    Device {
        name,
        write_cache: write_cache(&disk),
        fua: match queue_value(&disk, "fua").as_deref() {
            Some("0") => Some(false),
            Some("1") => Some(true),
            _ => None,
        },
        parts,
        rotational: queue_value(&disk, "rotational").as_deref() == Some("1"),
        read_ahead_bytes: kibibytes.map_or(0, |kibibytes| kibibytes << 10),
    }
}

/// The directory with the queue: the device's own, or for a partition that of the whole disk.
fn disk_of(node: &Path) -> Option<PathBuf> {
    let has_queue = |directory: &&Path| directory.join("queue").is_dir();
    let mut candidates = [Some(node), node.parent()].into_iter().flatten();
    candidates.find(has_queue).map(Path::to_path_buf)
}

fn queue_value(disk: &Path, name: &str) -> Option<String> {
    let text = fs::read_to_string(disk.join("queue").join(name)).ok()?;
    Some(text.trim().to_string())
}

fn write_cache(disk: &Path) -> WriteCache {
    match queue_value(disk, "write_cache").as_deref() {
        Some("write back") => WriteCache::WriteBack,
        Some("write through") => WriteCache::WriteThrough,
        _ => WriteCache::Unknown,
    }
}

/// The devices that this one is made of.
fn slaves(disk: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(disk.join("slaves"));
    let paths = entries.into_iter().flatten().flatten();
    paths.map(|entry| entry.path()).collect()
}

fn collect_parts(link: &Path, depth_left: usize, parts: &mut Vec<(String, WriteCache)>) {
    let name = link.file_name().unwrap_or_default().to_string_lossy();
    let disk = fs::canonicalize(link).ok().and_then(|node| disk_of(&node));
    let Some(disk) = disk.filter(|_| depth_left > 0) else {
        parts.push((name.into_owned(), WriteCache::Unknown));
        return;
    };
    let below = slaves(&disk);
    if below.is_empty() {
        parts.push((name.into_owned(), write_cache(&disk)));
    }
    for part in below {
        collect_parts(&part, depth_left - 1, parts);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A tree like sysfs in a directory of its own.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str) -> Tree {
            let name = format!("highwater-sysfs-{name}-{}", std::process::id());
            let root = std::env::temp_dir().join(name);
            fs::create_dir_all(root.join("dev/block")).expect("a directory");
            Tree(root)
        }

        fn disk(&self, name: &str, number: &str, cache: &str, fua: &str) -> PathBuf {
            let disk = self.0.join("devices").join(name);
            fs::create_dir_all(disk.join("queue")).expect("a directory");
            fs::create_dir_all(disk.join("slaves")).expect("a directory");
            for (file, value) in [
                ("write_cache", cache),
                ("fua", fua),
                ("rotational", "1"),
                ("read_ahead_kb", "128"),
            ] {
                fs::write(disk.join("queue").join(file), format!("{value}\n")).expect("a file");
            }
            symlink(&disk, self.0.join("dev/block").join(number)).expect("a link");
            disk
        }

        fn made_of(&self, disk: &Path, parts: &[&Path]) {
            for part in parts {
                let name = part.file_name().expect("a name");
                symlink(part, disk.join("slaves").join(name)).expect("a link");
            }
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_partition_has_the_queue_of_its_disk_and_a_stack_its_own() {
        let tree = Tree::new("stack");
        let back = tree.disk("nvme0n1", "259:0", "write back", "1");
        let partition = back.join("nvme0n1p2");
        fs::create_dir_all(&partition).expect("a directory");
        symlink(&partition, tree.0.join("dev/block/259:2")).expect("a link");
        let through = tree.disk("sda", "8:0", "write through", "0");
        let lower = tree.disk("dm-0", "253:0", "write back", "1");
        tree.made_of(&lower, &[&partition, &through]);
        let upper = tree.disk("dm-1", "253:1", "write back", "0");
        tree.made_of(&upper, &[&lower]);

        let device = examine(&tree.0, (259, 2));
        assert_eq!(device.name, "nvme0n1p2");
        assert_eq!(
            (device.write_cache, device.fua),
            (WriteCache::WriteBack, Some(true))
        );
        assert!(device.parts.is_empty() && device.rotational);
        assert_eq!(device.read_ahead_bytes, 128 << 10);

        let device = examine(&tree.0, (253, 1));
        assert_eq!(
            (device.write_cache, device.fua),
            (WriteCache::WriteBack, Some(false))
        );
        let mut parts = device.parts;
        parts.sort_by(|left, right| left.0.cmp(&right.0));
        assert_eq!(
            parts,
            [
                ("nvme0n1p2".to_string(), WriteCache::WriteBack),
                ("sda".to_string(), WriteCache::WriteThrough)
            ]
        );
    }

    #[test]
    fn a_stack_that_denies_the_cache_of_its_part_drops_flushes() {
        let mut device = Device {
            name: "dm-0".to_string(),
            write_cache: WriteCache::WriteThrough,
            fua: Some(false),
            parts: vec![("sda".to_string(), WriteCache::WriteBack)],
            rotational: false,
            read_ahead_bytes: 0,
        };
        let why = device.why_flushes_are_dropped().expect("a reason");
        assert!(why.contains("dm-0") && why.contains("sda"), "{why}");
        device.write_cache = WriteCache::WriteBack;
        assert_eq!(device.why_flushes_are_dropped(), None);
        device.write_cache = WriteCache::WriteThrough;
        device.parts[0].1 = WriteCache::Unknown;
        assert_eq!(device.why_flushes_are_dropped(), None);
    }

    #[test]
    fn what_sysfs_does_not_say_is_unknown() {
        let tree = Tree::new("unknown");
        let device = examine(&tree.0, (0, 41));
        assert_eq!(device.name, "0:41");
        assert_eq!(
            (device.write_cache, device.fua),
            (WriteCache::Unknown, None)
        );
        tree.disk("odd", "8:16", "something else", "maybe");
        let device = examine(&tree.0, (8, 16));
        assert_eq!(
            (device.write_cache, device.fua),
            (WriteCache::Unknown, None)
        );
        assert_eq!(device.why_flushes_are_dropped(), None);
        // A part that cannot be looked up is no proof of anything.
        let stack = tree.disk("dm-7", "253:7", "write through", "0");
        tree.made_of(&stack, &[&tree.0.join("devices/gone")]);
        let device = examine(&tree.0, (253, 7));
        assert_eq!(device.parts, [("gone".to_string(), WriteCache::Unknown)]);
    }
}

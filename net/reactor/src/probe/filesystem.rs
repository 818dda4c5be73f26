//! What a filesystem does with a write into blocks that are written already, and with a flush.

use std::fs::{self, File};
use std::path::Path;

use super::device::Device;
use super::mount::Mount;
use super::statx;

/// Copies on write: the bytes go to new blocks, which the metadata names only after its own commit.
const COPY_ON_WRITE: [&str; 5] = ["btrfs", "zfs", "bcachefs", "f2fs", "nilfs2"];
/// The first kernel whose ext4 flushes the device for an fsync of a file without a journal whose
/// bytes alone have changed.
const FLUSHES_WITHOUT_JOURNAL: (u32, u32) = (6, 5);

/// Where the kernel tells of itself; others in tests.
pub(super) struct Kernel<'a> {
    pub proc: &'a Path,
    pub sys: &'a Path,
}

/// Whether an ext filesystem has a journal, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Journal {
    None,
    SameDevice,
    /// On another device, or nobody knows.
    Other,
}

impl Kernel<'_> {
    fn journal_of(&self, device: &Device) -> Journal {
        let task = self
            .sys
            .join("fs/ext4")
            .join(&device.name)
            .join("journal_task");
        let Ok(task) = fs::read_to_string(task) else {
            return Journal::Other;
        };
        if task.trim() == "<none>" {
            return Journal::None;
        }
        // One inside the filesystem is named after the device and its inode.
        let inside = |name: &str| {
            let inode = name.strip_prefix(&device.name)?.strip_prefix('-')?;
            inode.parse::<u64>().ok()
        };
        let entries = fs::read_dir(self.proc.join("fs/jbd2"));
        let mut names = entries.into_iter().flatten().flatten();
        match names.any(|entry| inside(&entry.file_name().to_string_lossy()).is_some()) {
            true => Journal::SameDevice,
            false => Journal::Other,
        }
    }

    fn release(&self) -> (u32, u32) {
        let path = self.proc.join("sys/kernel/osrelease");
        let text = fs::read_to_string(path).unwrap_or_default();
        let mut numbers = text
            .split(['.', '-'])
            .map_while(|part| part.trim().parse::<u32>().ok());
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    }
}

/// Why a direct write into written blocks may leave the filesystem with something to commit before
/// the bytes are found again, or may be on another device than its flushes; `None` where it is known
/// to do neither.
pub(super) fn why_moves(
    kernel: &Kernel<'_>,
    mount: Option<&Mount>,
    device: &Device,
    directory: &Path,
) -> Option<String> {
    let Some(mount) = mount else {
        return Some("the table of mounts does not tell which filesystem it is".to_string());
    };
    let name = mount.filesystem.as_str();
    // Anonymous numbers: no device of its own.
    if mount.device.0 == 0 && !COPY_ON_WRITE.contains(&name) {
        return Some(format!("{name} is on no block device of its own"));
    }
    if let Some(option) =
        mount.option_starting(&["rtdev=", "logdev=", "journal_dev=", "journal_path="])
    {
        return Some(format!("it is on several devices ({option})"));
    }
    match name {
        "ext2" | "ext3" | "ext4" => match kernel.journal_of(device) {
            Journal::None | Journal::SameDevice => None,
            Journal::Other => Some("its journal is not known to be on the same device".to_string()),
        },
        "xfs" => match File::open(directory) {
            Ok(opened) => statx::why_xfs_moves(&opened),
            Err(error) => Some(format!("it cannot be opened: {error}")),
        },
        name if COPY_ON_WRITE.contains(&name) => Some(format!("{name} copies on write")),
        name => Some(format!("{name} is not known to write in place")),
    }
}

/// Why an fsync there does not reach the device, if it does not.
pub(super) fn why_never_flushed(
    kernel: &Kernel<'_>,
    mount: Option<&Mount>,
    device: &Device,
) -> Option<String> {
    let mount = mount?;
    let point = mount.point.display();
    if let Some(option) = mount.no_barrier_option() {
        return Some(format!(
            "{point} is mounted with {option}: the filesystem never flushes the device's cache; \
             mount it without that option (`mount -o remount,barrier {point}`, and the line in \
             /etc/fstab)"
        ));
    }
    let is_ext = matches!(mount.filesystem.as_str(), "ext2" | "ext3" | "ext4");
    if is_ext
        && kernel.release() < FLUSHES_WITHOUT_JOURNAL
        && kernel.journal_of(device) == Journal::None
    {
        let (major, minor) = FLUSHES_WITHOUT_JOURNAL;
        return Some(format!(
            "{point} is an {} without a journal, for which a kernel before {major}.{minor} does not \
             flush the device's cache; give it a journal (`tune2fs -O has_journal` while it is not \
             mounted) or use Linux {major}.{minor} or later",
            mount.filesystem
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::device::WriteCache;
    use super::*;

    fn device(name: &str) -> Device {
        Device {
            name: name.to_string(),
            write_cache: WriteCache::WriteBack,
            fua: Some(false),
            parts: Vec::new(),
            rotational: false,
            read_ahead_bytes: 0,
        }
    }

    fn mount(filesystem: &str, device: (u32, u32), options: &[&str]) -> Mount {
        Mount {
            id: 1,
            device,
            point: PathBuf::from("/data"),
            filesystem: filesystem.to_string(),
            options: options.iter().map(|option| (*option).to_string()).collect(),
        }
    }

    /// A /proc and a /sys with a few ext filesystems.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str, release: &str) -> Tree {
            let name = format!("highwater-kernel-{name}-{}", std::process::id());
            let tree = Tree(std::env::temp_dir().join(name));
            tree.put("sys/kernel/osrelease", release);
            tree.put("fs/ext4/sda1/journal_task", "417\n");
            tree.put("fs/ext4/sdb1/journal_task", "418\n");
            tree.put("fs/ext4/sdc1/journal_task", "<none>\n");
            tree.put("fs/jbd2/sda1-8/info", "");
            tree.put("fs/jbd2/sdb10-8/info", "");
            tree.put("fs/jbd2/sdz1/info", "");
            tree
        }

        fn put(&self, path: &str, text: &str) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
            fs::write(path, text).expect("a file");
        }

        fn kernel(&self) -> Kernel<'_> {
            Kernel {
                proc: &self.0,
                sys: &self.0,
            }
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn only_ext_with_its_journal_inside_and_plain_xfs_write_in_place() {
        let tree = Tree::new("moves", "6.18.1\n");
        let why = |mounted: Option<&Mount>, name: &str| {
            let directory = std::env::temp_dir();
            why_moves(&tree.kernel(), mounted, &device(name), &directory)
        };
        let on = |filesystem: &str, number: (u32, u32)| mount(filesystem, number, &["rw"]);
        assert_eq!(why(Some(&on("ext4", (8, 1))), "sda1"), None);
        assert_eq!(why(Some(&on("ext4", (8, 33))), "sdc1"), None);
        for (filesystem, number, name, reason) in [
            ("ext4", (8, 17), "sdb1", "journal"),
            ("ext2", (8, 49), "sdd1", "journal"),
            // No XFS is there to be asked.
            ("xfs", (8, 1), "sda1", "geometry"),
            ("btrfs", (0, 41), "0:41", "copies on write"),
            ("f2fs", (8, 1), "sda1", "copies on write"),
            ("overlay", (0, 60), "0:60", "no block device"),
            ("ext4", (0, 41), "0:41", "no block device"),
            ("fuse.x", (0, 44), "0:44", "no block device"),
            ("gfs2", (8, 1), "sda1", "not known to write in place"),
        ] {
            let told = why(Some(&on(filesystem, number)), name).expect("a reason");
            assert!(told.contains(reason), "{filesystem} on {name}: {told}");
        }
        let several = mount("xfs", (8, 1), &["rw", "rtdev=/dev/sdq"]);
        assert!(why(Some(&several), "sda1").is_some_and(|why| why.contains("rtdev")));
        assert!(why(None, "sda1").is_some());
    }

    #[test]
    fn a_mount_that_never_flushes_is_named_with_what_to_do() {
        let old = Tree::new("old", "6.1.0-29-cloud-amd64\n");
        let new = Tree::new("new", "6.5.0\n");
        let plain = mount("ext4", (8, 1), &["rw", "barrier=1"]);
        let why = |tree: &Tree, mounted: &Mount, name: &str| {
            why_never_flushed(&tree.kernel(), Some(mounted), &device(name))
        };
        assert_eq!(why(&old, &plain, "sda1"), None);
        assert_eq!(why(&new, &plain, "sdc1"), None);
        let told = why(&old, &plain, "sdc1").expect("a reason");
        assert!(told.contains("has_journal"), "{told}");
        for option in ["nobarrier", "barrier=0"] {
            let told = why(&new, &mount("xfs", (8, 1), &["rw", option]), "sda1");
            let told = told.expect("a reason");
            assert!(told.contains(option) && told.contains("remount"), "{told}");
        }
    }
}

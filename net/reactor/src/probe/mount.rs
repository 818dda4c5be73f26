//! The mount that a directory is on, as `/proc/self/mountinfo` tells it.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// A mounted filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The kernel's number of it, which `statx` gives for a file.
    pub id: u64,
    /// Major and minor number that its files show.
    pub device: (u32, u32),
    pub point: PathBuf,
    pub filesystem: String,
    /// Options of the mount and of the filesystem.
    pub options: Vec<String>,
}

impl Mount {
    /// The option that takes away its flushes, if it has one.
    #[must_use]
    pub fn no_barrier_option(&self) -> Option<&str> {
        let takes_away = |option: &&String| {
            matches!(
                option.as_str(),
                "nobarrier" | "barrier=0" | "barrier=none" | "barrier=off"
            )
        };
        self.options.iter().find(takes_away).map(String::as_str)
    }

    /// The first of its options that begins with one of `starts`.
    pub(super) fn option_starting(&self, starts: &[&str]) -> Option<&str> {
        let begins = |option: &&String| starts.iter().any(|start| option.starts_with(start));
        self.options.iter().find(begins).map(String::as_str)
    }
}

/// All lines of a mountinfo text, in its order; what is no such line is left out.
pub(super) fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|byte| *byte == b'\n')
        .filter_map(parse_line)
        .collect()
}

/// `36 35 98:0 /root /point options [optional fields] - type source options`
fn parse_line(line: &[u8]) -> Option<Mount> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let separator = fields.iter().position(|field| *field == b"-")?;
    let text = |at: usize| Some(String::from_utf8_lossy(fields.get(at)?).into_owned());
    let number = text(2)?;
    let (major, minor) = number.split_once(':')?;
    let of_mount = text(5)?;
    let of_filesystem = text(separator + 3).unwrap_or_default();
    let options = of_mount.split(',').chain(of_filesystem.split(','));
    Some(Mount {
        id: text(0)?.parse().ok()?,
        device: (major.parse().ok()?, minor.parse().ok()?),
        point: PathBuf::from(OsString::from_vec(unescape(fields.get(4)?))),
        filesystem: text(separator + 1)?,
        options: options.map(str::to_string).collect(),
    })
}

/// Blanks, tabs, line ends and backslashes come as three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut at = 0;
    while at < field.len() {
        let digits = field.get(at + 1..at + 4).filter(|_| field[at] == b'\\');
        let value = digits.and_then(|digits| {
            let text = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(text, 8).ok()
        });
        bytes.push(value.unwrap_or(field[at]));
        at += if value.is_some() { 4 } else { 1 };
    }
    bytes
}

/// The mount of a directory: the one with the number that the kernel gave, or else, of those of its
/// device, the deepest above the path; of several at one point the last hides the others. `path` is
/// absolute and free of links.
pub(super) fn find<'a>(
    mounts: &'a [Mount],
    id: Option<u64>,
    device: (u32, u32),
    path: &Path,
) -> Option<&'a Mount> {
    if let Some(mount) = mounts.iter().find(|mount| Some(mount.id) == id) {
        return Some(mount);
    }
    mounts
        .iter()
        .filter(|mount| mount.device == device && path.starts_with(&mount.point))
        .max_by_key(|mount| mount.point.as_os_str().as_bytes().len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &[u8] = b"\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
40 27 8:1 / /data rw,noatime shared:7 master:1 - xfs /dev/sda1 rw,attr2,nobarrier
41 40 8:17 / /data/topics rw - ext4 /dev/sdb1 rw
42 27 8:33 /sub /my\\040disk\\134x rw - ext4 /dev/sdc1 rw,barrier=0
43 27 8:49 / /data rw - ext4 /dev/sdd1 rw,data=journal
44 27 0:41 / /pool rw - btrfs /dev/sde rw
this is no line
45 27 x:1 / /bad rw - ext4 /dev/sdf rw
";

    #[test]
    fn lines_are_read_with_escapes_optional_fields_and_both_lists_of_options() {
        let mounts = parse(MOUNTS);
        assert_eq!(mounts.len(), 7, "{mounts:?}");
        let data = &mounts[2];
        assert_eq!((data.id, data.device), (40, (8, 1)));
        assert_eq!(data.filesystem, "xfs");
        assert_eq!(data.no_barrier_option(), Some("nobarrier"));
        assert!(data.options.contains(&"noatime".to_string()));
        let spaced = &mounts[4];
        assert_eq!(spaced.point, Path::new("/my disk\\x"));
        assert_eq!(spaced.no_barrier_option(), Some("barrier=0"));
        assert_eq!(mounts[1].no_barrier_option(), None);
        assert_eq!(mounts[5].option_starting(&["data="]), Some("data=journal"));
    }

    #[test]
    fn the_mount_is_the_one_the_kernel_names_or_the_deepest_of_the_device() {
        let mounts = parse(MOUNTS);
        let find = |id, device, path: &str| {
            find(&mounts, id, device, Path::new(path)).map(|mount| mount.id)
        };
        // A name that only begins like a mount point is not below it.
        assert_eq!(find(None, (254, 0), "/database/x"), Some(27));
        assert_eq!(find(None, (8, 17), "/data/topics/a"), Some(41));
        // The later mount hides what is at the same point, and the device tells which is meant.
        assert_eq!(find(None, (8, 49), "/data/topics/a"), Some(43));
        assert_eq!(find(None, (8, 33), "/my disk\\x/a"), Some(42));
        assert_eq!(find(Some(44), (0, 55), "/pool/a"), Some(44));
        // Nothing fits: unknown, not the next best.
        assert_eq!(find(None, (0, 55), "/pool/a"), None);
        assert_eq!(find(Some(99), (9, 9), "/data"), None);
        let twice = parse(b"1 0 8:1 / /d rw - ext4 a rw\n2 0 8:1 / /d rw - ext4 a rw\n");
        let last = super::find(&twice, None, (8, 1), Path::new("/d/e"));
        assert_eq!(last.map(|mount| mount.id), Some(2));
    }
}

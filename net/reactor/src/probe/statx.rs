//! What `statx` and a few control calls tell of a file or directory.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use highwater_base::limits::BLOCK_BYTES;

/// The file's bytes go through the journal, whatever the file was opened with.
const JOURNAL_DATA_FLAG: libc::c_long = 0x4000;
/// Bytes of `struct xfs_fsop_geom`.
const XFS_GEOMETRY_BYTES: usize = 256;
const XFS_IOC_FSGEOMETRY: u64 =
    (2 << 30) | ((XFS_GEOMETRY_BYTES as u64) << 16) | ((b'X' as u64) << 8) | 126;
const XFS_RT_BLOCKS_AT: usize = 40;
const XFS_FLAGS_AT: usize = 92;
/// Files may share blocks, and a write to a shared one goes elsewhere.
const XFS_REFLINK: u32 = 1 << 20;
/// Every write goes elsewhere.
const XFS_ZONED: u32 = 1 << 27;

/// What is known of a file or directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub mount_id: Option<u64>,
    pub device: (u32, u32),
    pub encrypted: bool,
    /// Alignment that direct I/O wants of memory and of offsets; zeros where there is no direct I/O,
    /// `None` where the kernel does not say.
    pub direct_alignment: Option<(u32, u32)>,
}

/// Why writes to a file opened with O_DIRECT may go through the page cache, if they may.
pub(crate) fn why_buffered(facts: &Facts) -> Option<String> {
    match facts.direct_alignment {
        None if cfg!(mutant = "R10") => None,
        None => Some("the kernel does not say whether its direct I/O is direct".to_string()),
        Some((0, _) | (_, 0)) => {
            let why = match facts.encrypted {
                true => "it is encrypted, and writes to it go through the page cache",
                false => "the kernel says that writes to it go through the page cache",
            };
            Some(why.to_string())
        }
        Some((memory, offset)) if memory.max(offset) as usize > BLOCK_BYTES => Some(format!(
            "direct I/O wants {memory} bytes of alignment in memory and {offset} in files, more than \
             a block of {BLOCK_BYTES}"
        )),
        Some(_) => None,
    }
}

pub(crate) fn of_path(path: &Path) -> io::Result<Facts> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    call(libc::AT_FDCWD, &name, 0)
}

pub(crate) fn of_file(file: &File) -> io::Result<Facts> {
    call(file.as_raw_fd(), c"", libc::AT_EMPTY_PATH)
}

fn call(directory: libc::c_int, name: &std::ffi::CStr, flags: libc::c_int) -> io::Result<Facts> {
    let mask = libc::STATX_BASIC_STATS | libc::STATX_MNT_ID | libc::STATX_DIOALIGN;
    let mut found = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the name ends with a zero byte, and the kernel fills no more than the structure.
    let result = unsafe { libc::statx(directory, name.as_ptr(), flags, mask, found.as_mut_ptr()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: plain numbers, zeroed before and filled by the kernel.
    let found = unsafe { found.assume_init() };
    let says = |bit: libc::c_uint| found.stx_mask & bit != 0;
    Ok(Facts {
        mount_id: says(libc::STATX_MNT_ID).then_some(found.stx_mnt_id),
        device: (found.stx_dev_major, found.stx_dev_minor),
        encrypted: found.stx_attributes & libc::STATX_ATTR_ENCRYPTED as u64 != 0,
        direct_alignment: says(libc::STATX_DIOALIGN)
            .then_some((found.stx_dio_mem_align, found.stx_dio_offset_align)),
    })
}

/// Whether files made in a directory have their bytes journaled (`chattr +j`).
pub(super) fn journals_data(directory: &File) -> bool {
    let mut flags: libc::c_long = 0;
    // SAFETY: the kernel writes no more than a long.
    let result =
        unsafe { libc::ioctl(directory.as_raw_fd(), libc::FS_IOC_GETFLAGS, &raw mut flags) };
    result == 0 && flags & JOURNAL_DATA_FLAG != 0
}

/// Why a write into written blocks of an XFS may go elsewhere, if it may.
pub(super) fn why_xfs_moves(directory: &File) -> Option<String> {
    let mut geometry = [0u8; XFS_GEOMETRY_BYTES];
    let request = XFS_IOC_FSGEOMETRY as libc::Ioctl;
    // SAFETY: the kernel writes as many bytes as the request's number says.
    let result = unsafe { libc::ioctl(directory.as_raw_fd(), request, geometry.as_mut_ptr()) };
    if result != 0 {
        let error = io::Error::last_os_error();
        return Some(format!("its geometry cannot be asked for: {error}"));
    }
    why_geometry_moves(&geometry)
}

fn why_geometry_moves(geometry: &[u8; XFS_GEOMETRY_BYTES]) -> Option<String> {
    let number = |at: usize| {
        let bytes = geometry[at..at + 4].try_into();
        u32::from_ne_bytes(bytes.unwrap_or_default())
    };
    let flags = number(XFS_FLAGS_AT);
    if number(XFS_RT_BLOCKS_AT) != 0 || number(XFS_RT_BLOCKS_AT + 4) != 0 || flags & XFS_ZONED != 0
    {
        Some("it has a realtime section, which may be another device".to_string())
    } else if flags & XFS_REFLINK != 0 {
        Some(
            "it can share blocks between files (reflink), and a write into shared ones goes elsewhere"
                .to_string(),
        )
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(direct_alignment: Option<(u32, u32)>) -> Facts {
        Facts {
            mount_id: None,
            device: (8, 1),
            encrypted: false,
            direct_alignment,
        }
    }

    #[test]
    fn only_what_the_kernel_says_is_direct_counts_as_direct() {
        for (alignment, direct) in [
            (None, false),
            (Some((0, 0)), false),
            (Some((4, 0)), false),
            (Some((4, 512)), true),
            (Some((512, 4096)), true),
            (Some((512, 8192)), false),
            (Some((65_536, 4096)), false),
        ] {
            let why = why_buffered(&facts(alignment));
            assert_eq!(why.is_none(), direct, "{alignment:?}: {why:?}");
        }
    }

    #[test]
    fn an_xfs_that_may_move_blocks_is_told_by_its_geometry() {
        let mut geometry = [0; XFS_GEOMETRY_BYTES];
        geometry[XFS_FLAGS_AT..XFS_FLAGS_AT + 4].copy_from_slice(&0x67_cdcb_u32.to_ne_bytes());
        assert_eq!(why_geometry_moves(&geometry), None);
        geometry[XFS_FLAGS_AT..XFS_FLAGS_AT + 4].copy_from_slice(&0x77_cdcb_u32.to_ne_bytes());
        let why = why_geometry_moves(&geometry).expect("a reason");
        assert!(why.contains("reflink"), "{why}");
        geometry[XFS_RT_BLOCKS_AT + 4] = 1;
        let why = why_geometry_moves(&geometry).expect("a reason");
        assert!(why.contains("realtime"), "{why}");
    }
}

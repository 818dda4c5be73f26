//! Whose a data directory is: opens its superblock, or formats a directory that is empty.
//!
//! A directory in which a node has run is never formatted over: without its superblock it is refused,
//! and so is a directory that holds anything else.

use std::path::Path;

use highwater_base::disk::BootDisk;
use highwater_base::{ClusterId, DiskId, NodeId};
use highwater_reactor::OsBootDisk;
use highwater_store::{Superblock, SuperblockError};

use super::{BootError, say};

/// Opens the superblock, or formats an empty directory.
///
/// # Errors
/// A directory of something else, of a newer format, or with a damaged superblock.
pub fn open_superblock(
    boot: &mut OsBootDisk,
    data_dir: &Path,
    node_id: i32,
) -> Result<Superblock, BootError> {
    match Superblock::open(boot) {
        Ok(superblock) => {
            if superblock.node_id != NodeId(node_id) {
                return Err(BootError(format!(
                    "{} belongs to node_id {}, the configuration says {node_id}; set node_id = {} \
                     or choose another data_dir",
                    data_dir.display(),
                    superblock.node_id.0,
                    superblock.node_id.0
                )));
            }
            Ok(superblock)
        }
        Err(SuperblockError::Absent) => format_directory(boot, data_dir, node_id),
        Err(error) => Err(BootError(format!("{}: {error}", data_dir.display()))),
    }
}

/// What is in a directory before it is formatted, or when that was interrupted. The superblock is
/// known to say nothing by then.
fn is_left_by_formatting(name: &str) -> bool {
    matches!(name, "lock" | "lost+found" | "superblock")
        || name.starts_with(highwater_reactor::DIRECT_IO_PROBE_PREFIX)
}

/// Directories that only a node makes, and only below a superblock.
const OF_A_NODE: [&str; 5] = ["topics", "marks", "checkpoint", "quarantine", "scrub"];

fn format_directory(
    boot: &mut OsBootDisk,
    data_dir: &Path,
    node_id: i32,
) -> Result<Superblock, BootError> {
    let entries = boot.list("").map_err(say)?;
    let mut foreign = entries
        .iter()
        .filter(|entry| !is_left_by_formatting(&entry.name));
    let ours = foreign
        .clone()
        .find(|entry| OF_A_NODE.contains(&entry.name.as_str()));
    if let Some(entry) = ours {
        return Err(BootError(format!(
            "the superblock of {} is gone or blank, and {}/ is there: a node has run here; restore the \
             file \"superblock\" from a backup of this directory, or move the directory away to start \
             empty",
            data_dir.display(),
            entry.name
        )));
    }
    if let Some(entry) = foreign.next() {
        return Err(BootError(format!(
            "{} holds {:?} but no superblock, so it is no data directory of Highwater; choose an \
             empty or new directory as data_dir",
            data_dir.display(),
            entry.name
        )));
    }
    let cluster_id = ClusterId(highwater_reactor::random_bytes());
    let disk_id = DiskId(highwater_reactor::random_bytes());
    Superblock::format(boot, cluster_id, NodeId(node_id), disk_id)
        .map_err(|error| BootError(format!("cannot format {}: {error}", data_dir.display())))
}

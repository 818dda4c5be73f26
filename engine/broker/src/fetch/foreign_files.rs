//! Segment files of other cores, as this core's reactor knows them.
//!
//! A forwarded fetch comes back as ranges of files that another core owns, by name. Each path gets a
//! file id of this core's own, in the upper half of the id space (the store has the lower), and is
//! let go when it has not been used for a while: an answer that waits for a third core still names
//! it. There are never more than segments on this node.

use std::sync::Arc;

use highwater_base::Now;
use highwater_base::disk::{DiskOperation, DiskRequest, DiskToken, FileId};
use highwater_store::FileName;

use crate::metadata::image::LookupMap;

/// With so many known files, those not used lately are let go.
const FOREIGN_FILES_KEPT: usize = 256;
/// Much longer than one core waits for another.
const UNUSED_MS: u64 = 60_000;
/// Time between two looks at all files.
const SWEEP_INTERVAL_MS: u64 = 5_000;
const FIRST_ID: u32 = 0x8000_0000;
/// `Attach` and `Detach` have no completion; their token names nothing.
const NO_TOKEN: DiskToken = DiskToken(0xff00_0000_0000_0000);

#[derive(Debug)]
struct Known {
    file: FileId,
    unused_at_ns: u64,
}

/// The known files by path.
#[derive(Debug, Default)]
pub struct ForeignFiles {
    files: LookupMap<Arc<str>, Known>,
    next: u32,
    sweep_at_ns: u64,
}

impl ForeignFiles {
    /// The id of a file, attached on first use.
    pub fn id_of(&mut self, now: Now, name: &FileName, disk: &mut Vec<DiskRequest>) -> FileId {
        let unused_at_ns = now.plus_ms(UNUSED_MS);
        if let Some(known) = self.files.get_mut(name.path.as_str()) {
            known.unused_at_ns = unused_at_ns;
            return known.file;
        }
        if self.files.len() >= FOREIGN_FILES_KEPT && now.reached(self.sweep_at_ns) {
            self.sweep_at_ns = now.plus_ms(SWEEP_INTERVAL_MS);
            self.forget_unused(now, disk);
        }
        let file = FileId(FIRST_ID | (self.next & !FIRST_ID));
        self.next = self.next.wrapping_add(1);
        let known = Known { file, unused_at_ns };
        self.files.insert(Arc::from(name.path.as_str()), known);
        disk.push(DiskRequest {
            token: NO_TOKEN,
            operation: DiskOperation::Attach {
                file,
                path: name.path.clone(),
                former: name.former.clone(),
            },
        });
        file
    }

    /// The path of a file that was given an id.
    #[must_use]
    pub fn path_of(&self, file: FileId) -> Option<Arc<str>> {
        let mut files = self.files.iter();
        let found = files.find(|(_, known)| known.file == file);
        found.map(|(path, _)| Arc::clone(path))
    }

    fn forget_unused(&mut self, now: Now, disk: &mut Vec<DiskRequest>) {
        self.files.retain(|_, known| {
            let unused = now.reached(known.unused_at_ns);
            if unused {
                disk.push(DiskRequest {
                    token: NO_TOKEN,
                    operation: DiskOperation::Detach { file: known.file },
                });
            }
            !unused
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(at: usize) -> FileName {
        FileName {
            path: format!("topics/b/{at}"),
            former: None,
        }
    }

    fn at_ms(ms: u64) -> Now {
        Now {
            monotonic_ns: ms * 1_000_000,
            wall_ms: 0,
        }
    }

    fn detached(disk: &[DiskRequest], id: FileId) -> bool {
        disk.iter().any(
            |request| matches!(request.operation, DiskOperation::Detach { file } if file == id),
        )
    }

    #[test]
    fn files_in_use_keep_their_id_however_many_there_are() {
        let (mut files, mut disk) = (ForeignFiles::default(), Vec::new());
        let ids: Vec<FileId> = (0..1000)
            .map(|at| files.id_of(at_ms(1), &named(at), &mut disk))
            .collect();
        assert_eq!(disk.len(), 1000);
        for (at, id) in ids.iter().enumerate() {
            assert_eq!(files.id_of(at_ms(50_000), &named(at), &mut disk), *id);
        }
        files.id_of(at_ms(100_000), &named(5000), &mut disk);
        assert_eq!(disk.len(), 1001);
    }

    #[test]
    fn files_not_used_for_long_are_let_go() {
        let (mut files, mut disk) = (ForeignFiles::default(), Vec::new());
        let first = files.id_of(at_ms(1), &named(0), &mut disk);
        let others: Vec<FileId> = (1..FOREIGN_FILES_KEPT)
            .map(|at| files.id_of(at_ms(1), &named(at), &mut disk))
            .collect();
        files.id_of(at_ms(50_000), &named(0), &mut disk);
        files.id_of(at_ms(70_000), &named(5000), &mut disk);
        assert!(!detached(&disk, first));
        assert!(others.iter().all(|id| detached(&disk, *id)));
    }
}

//! Segment files of other cores, as this core's reactor knows them.
//!
//! A forwarded fetch comes back as ranges of files that another core owns, named by path. Each path
//! gets a file id of this core's own, in the upper half of the id space (the store has the lower),
//! and is let go when it has not been used for a while.

use std::collections::VecDeque;
use std::sync::Arc;

use highwater_base::disk::{DiskOperation, DiskRequest, DiskToken, FileId};

use crate::metadata::image::LookupMap;

/// Foreign files known at a time.
const FOREIGN_FILES_MAX: usize = 256;
const FIRST_ID: u32 = 0x8000_0000;
/// `Attach` and `Detach` have no completion; their token names nothing.
const NO_TOKEN: DiskToken = DiskToken(0xff00_0000_0000_0000);

/// The known files, least recently added first.
#[derive(Debug, Default)]
pub struct ForeignFiles {
    ids: LookupMap<Arc<str>, FileId>,
    order: VecDeque<Arc<str>>,
    next: u32,
}

impl ForeignFiles {
    /// The id of a path, attached on first use.
    pub fn id_of(&mut self, path: &Arc<str>, disk: &mut Vec<DiskRequest>) -> FileId {
        if let Some(id) = self.ids.get(path) {
            return *id;
        }
        if self.order.len() >= FOREIGN_FILES_MAX {
            self.forget_oldest(disk);
        }
        let file = FileId(FIRST_ID | (self.next & !FIRST_ID));
        self.next = self.next.wrapping_add(1);
        self.ids.insert(Arc::clone(path), file);
        self.order.push_back(Arc::clone(path));
        let operation = DiskOperation::Attach {
            file,
            path: path.to_string(),
        };
        disk.push(DiskRequest {
            token: NO_TOKEN,
            operation,
        });
        file
    }

    fn forget_oldest(&mut self, disk: &mut Vec<DiskRequest>) {
        let Some(path) = self.order.pop_front() else {
            return;
        };
        if let Some(file) = self.ids.remove(&path) {
            disk.push(DiskRequest {
                token: NO_TOKEN,
                operation: DiskOperation::Detach { file },
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_keep_their_id_until_they_are_pushed_out() {
        let (mut files, mut disk) = (ForeignFiles::default(), Vec::new());
        let first: Arc<str> = Arc::from("topics/a/0");
        let id = files.id_of(&first, &mut disk);
        assert_eq!(files.id_of(&first, &mut disk), id);
        assert_eq!(disk.len(), 1);
        for at in 0..FOREIGN_FILES_MAX {
            files.id_of(&Arc::from(format!("topics/b/{at}")), &mut disk);
        }
        assert!(disk.iter().any(
            |request| matches!(request.operation, DiskOperation::Detach { file } if file == id)
        ));
        assert_ne!(files.id_of(&first, &mut disk), id);
    }
}

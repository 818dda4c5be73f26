//! The blocking calls of recovery: each is safe when it returns. Power may be lost in the middle of
//! one, and bytes may be protected: what was acknowledged, recovery never changes.

use std::collections::BTreeMap;

use highwater_base::disk::{BootDisk, DirectoryEntry, DiskError, FileId};

use super::TestDisk;
use super::fate::Fate;
use super::media::{Arrival, InodeId};
use super::names::Change;
use super::pages::{BLOCK, Pages, SECTOR};

/// Bytes of a file that recovery must leave as they are.
#[derive(Clone, Debug)]
pub struct Protected {
    inode: InodeId,
    from: usize,
    to: usize,
}

impl TestDisk {
    /// From now on recovery may write these bytes again, and not change them.
    pub fn protect(&mut self, file: FileId, from: usize, to: usize) {
        let inode = self.inode(file).expect("the file exists");
        self.protected.push(Protected { inode, from, to });
    }

    pub fn protect_inode(&mut self, inode: InodeId, from: usize, to: usize) {
        self.protected.push(Protected { inode, from, to });
    }

    pub fn unprotect(&mut self) {
        self.protected.clear();
    }

    /// Holds a write against what is protected.
    fn check_write(&self, inode: InodeId, offset: usize, bytes: &[u8]) {
        for it in self.protected.iter().filter(|it| it.inode == inode) {
            let (from, to) = (it.from.max(offset), it.to.min(offset + bytes.len()));
            if from < to {
                let now = self.media.now(inode).bytes(from, to - from);
                let new = &bytes[from - offset..to - offset];
                let changed = now.iter().zip(new).position(|(now, new)| now != new);
                let changed = changed.map(|at| from + at);
                assert_eq!(changed, None, "recovery changes an acknowledged byte");
            }
        }
    }

    /// Holds a cut or the end of a name against what is protected.
    fn check_cut(&self, inode: Option<InodeId>, size: usize) {
        let is_cut = |it: &&Protected| Some(it.inode) == inode && it.to > size;
        let cut = self.protected.iter().find(is_cut);
        assert!(cut.is_none(), "recovery drops acknowledged bytes: {cut:?}");
    }

    /// Counts a changing operation: what the planned power loss makes of it. With it everything
    /// goes that was at risk before.
    fn step(&mut self) -> Result<Option<Fate>, DiskError> {
        self.steps += 1;
        match self.crash_at.clone() {
            Some((at, _)) if self.steps > at + 1 => Err(DiskError::Io(5)),
            Some((at, fate)) if self.steps == at + 1 => {
                self.lose_power(&[], |_| Fate::Lost);
                Ok(Some(fate))
            }
            _ => Ok(None),
        }
    }

    /// Does so many of the changes as power loss lets happen.
    fn change_or_crash(&mut self, changes: Vec<Change>) -> Result<(), DiskError> {
        let fate = self.step()?;
        let count = changes.len();
        let done = fate.as_ref().map_or(count, |fate| fate.steps(count));
        self.change_names(changes.into_iter().take(done));
        ended(fate)
    }
}

/// The result of an operation that power loss may have interrupted.
fn ended(fate: Option<Fate>) -> Result<(), DiskError> {
    fate.map_or(Ok(()), |_| Err(DiskError::Io(5)))
}

impl BootDisk for TestDisk {
    fn list(&self, path: &str) -> Result<Vec<DirectoryEntry>, DiskError> {
        let prefix = format!("{path}/");
        let mut entries = BTreeMap::new();
        for (file, inode) in self.names.iter() {
            let Some(rest) = file.strip_prefix(&prefix) else {
                continue;
            };
            let (name, is_directory) = match rest.split_once('/') {
                Some((name, _)) => (name, true),
                None => (rest, false),
            };
            let size_bytes = match is_directory {
                true => 0,
                false => self.media.now(inode).size() as u64,
            };
            let name = name.to_owned();
            let entry = DirectoryEntry {
                name: name.clone(),
                is_directory,
                size_bytes,
            };
            entries.insert(name, entry);
        }
        match entries.is_empty() {
            true => Err(DiskError::NotFound),
            false => Ok(entries.into_values().collect()),
        }
    }

    fn read(&self, path: &str, offset: u64, into: &mut [u8]) -> Result<usize, DiskError> {
        let inode = self.names.find(path).ok_or(DiskError::NotFound)?;
        if !self.unreadable.is_empty() {
            let last = (offset + into.len() as u64).saturating_sub(1) / BLOCK as u64;
            let mut blocks = offset / BLOCK as u64..=last;
            if blocks.any(|block| self.unreadable.contains(&(path.to_owned(), block))) {
                return Err(DiskError::Io(5));
            }
        }
        Ok(self.media.now(inode).read(offset as usize, into))
    }

    fn write(&mut self, path: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let inode = self.names.find(path).ok_or(DiskError::NotFound)?;
        self.check_write(inode, offset as usize, bytes);
        let fate = self.step()?;
        let sectors = bytes.len() / SECTOR;
        let arrival = Arrival {
            inode,
            offset: offset as usize,
            bytes: bytes.into(),
            sectors: fate.as_ref().unwrap_or(&Fate::Kept).arriving(sectors),
        };
        let moment = self.media.moment();
        self.media.write_durably(arrival, moment);
        self.media.sync(inode, moment);
        self.names.commit_link_of(&mut self.media, inode);
        ended(fate)
    }

    fn create_zeroed(&mut self, path: &str, size_bytes: u64) -> Result<(), DiskError> {
        self.require_free(path)?;
        let fate = self.step()?;
        // Made, then written block after block: power loss leaves the front of it.
        let blocks = size_bytes as usize / BLOCK;
        let (exists, kept) = match &fate {
            None | Some(Fate::Kept) => (true, blocks),
            Some(Fate::Lost) => (false, 0),
            Some(Fate::Front(sectors)) => (true, blocks.min(sectors * SECTOR / BLOCK)),
            Some(Fate::Rear(_) | Fate::Noise(_) | Fate::Shredded(_)) => (true, 0),
        };
        if exists {
            let pages = Pages::zeros(kept * BLOCK);
            let inode = self.media.add(path, pages.clone(), pages);
            self.change_names([Change::Link(path.to_owned(), inode)]);
        }
        ended(fate)
    }

    fn write_whole(&mut self, path: &str, bytes: &[u8]) -> Result<(), DiskError> {
        self.check_cut(self.names.find(path), 0);
        let fate = self.step()?;
        if fate.as_ref().is_none_or(|fate| fate.steps(1) > 0) {
            self.replace(path, bytes);
        }
        ended(fate)
    }

    fn truncate(&mut self, path: &str, size_bytes: u64) -> Result<(), DiskError> {
        let inode = self.names.find(path).ok_or(DiskError::NotFound)?;
        self.check_cut(Some(inode), size_bytes as usize);
        self.change_or_crash(vec![Change::Cut(inode, size_bytes as usize)])
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        self.find_tree(from)?;
        self.require_free(to)?;
        self.change_or_crash(vec![Change::Move(from.to_owned(), to.to_owned())])
    }

    fn remove(&mut self, path: &str) -> Result<(), DiskError> {
        let tree = self.names.tree(path);
        for name in &tree {
            self.check_cut(self.names.find(name), 0);
        }
        self.change_or_crash(tree.into_iter().map(Change::Unlink).collect())
    }
}

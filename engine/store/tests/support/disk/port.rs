//! The requests of a running store: what each does when it completes, and what is left of it when
//! its process dies or power is lost before.

use std::borrow::Borrow;
use std::rc::Rc;

use highwater_base::AlignedBuffer;
use highwater_base::disk::{DiskCompletion, DiskError, DiskOperation, DiskRequest, FileId};

use super::TestDisk;
use super::fate::Fate;
use super::media::{Arrival, InodeId};
use super::names::Change;
use super::pages::{BLOCK, Pages, SECTOR};

/// The bytes of a write, padded as the device gets them.
fn padded(buffer: &AlignedBuffer, start: usize, len: usize) -> Rc<[u8]> {
    let filled = buffer.filled().min(start + len);
    let mut bytes = vec![0; len];
    bytes[..filled - start].copy_from_slice(buffer.slice(start, filled - start));
    bytes.into()
}

fn whole(inode: InodeId, offset: usize, bytes: Rc<[u8]>) -> Arrival {
    Arrival {
        inode,
        offset,
        sectors: vec![true; bytes.len() / SECTOR],
        bytes,
    }
}

fn torn(inode: InodeId, offset: usize, bytes: Rc<[u8]>, fate: &Fate) -> Arrival {
    Arrival {
        inode,
        offset,
        sectors: fate.arriving(bytes.len() / SECTOR),
        bytes,
    }
}

impl TestDisk {
    /// Notes a request that was issued but not executed yet.
    pub fn issued(&mut self, request: &DiskRequest) {
        self.started.push((request.token, self.media.moment()));
        match &request.operation {
            DiskOperation::Zero { file, offset, len } => {
                self.zeroing.insert((file.0, *offset, offset + len));
            }
            DiskOperation::Write {
                file, offset, len, ..
            } => {
                let end = offset + *len as u64;
                let hit =
                    |zero: &&(u32, u64, u64)| zero.0 == file.0 && zero.1 < end && *offset < zero.2;
                let hit = self.zeroing.iter().find(hit);
                assert!(hit.is_none(), "a write overlaps zeroing under way");
            }
            _ => {}
        }
    }

    /// When a request started; one that was never noted starts as it ends.
    fn take_started(&mut self, request: &DiskRequest) -> u64 {
        let noted = self.started.iter().position(|it| it.0 == request.token);
        noted.map_or(self.media.moment(), |at| self.started.remove(at).1)
    }

    pub(super) fn inode(&mut self, file: FileId) -> Result<InodeId, DiskError> {
        // A host may have closed it: by name first. Detached is as good as gone.
        let (name, former) = self.attached.get(&file).ok_or(DiskError::NotFound)?;
        let named = self.names.find(name);
        let named = named.or_else(|| self.names.find(former.as_deref()?));
        let inode = named.or_else(|| self.open.get(&file).copied());
        let inode = inode.ok_or(DiskError::NotFound)?;
        self.open.insert(file, inode);
        Ok(inode)
    }

    /// A file that is to be renamed is created under its former name.
    fn created_as(&self, file: FileId) -> Result<String, DiskError> {
        let (name, former) = self.attached.get(&file).ok_or(DiskError::NotFound)?;
        Ok(former.as_ref().unwrap_or(name).clone())
    }

    /// Executes one request; `None` when it has no completion.
    pub fn execute(&mut self, request: impl Borrow<DiskRequest>) -> Option<DiskCompletion> {
        let request = request.borrow();
        let started = self.take_started(request);
        let result = match &request.operation {
            DiskOperation::Attach { file, path, former } => {
                let names = (path.clone(), former.clone());
                self.attached.insert(*file, names);
                return None;
            }
            DiskOperation::Detach { file } => {
                self.attached.remove(file);
                self.open.remove(file);
                return None;
            }
            DiskOperation::Write { .. }
            | DiskOperation::Read { .. }
            | DiskOperation::Flush { .. } => self.transfer(&request.operation, started),
            DiskOperation::Create { .. } => self.create(&request.operation, started),
            DiskOperation::Zero { .. }
            | DiskOperation::Truncate { .. }
            | DiskOperation::WriteWhole { .. }
            | DiskOperation::Rename { .. }
            | DiskOperation::Remove { .. } => self.manage(&request.operation).map(|()| 0),
        };
        let token = request.token;
        Some(DiskCompletion { token, result })
    }

    /// Reads, writes and flushes of what is there.
    fn transfer(&mut self, operation: &DiskOperation, started: u64) -> Result<usize, DiskError> {
        match operation {
            DiskOperation::Write {
                file,
                offset,
                buffer,
                start,
                len,
                durable,
            } => {
                let inode = self.inode(*file)?;
                let offset = *offset as usize;
                let aligned = (offset % BLOCK, start % BLOCK, len % BLOCK);
                assert_eq!(aligned, (0, 0, 0));
                let name = &self.attached[file].0;
                let fits = offset + len <= self.media.now(inode).size();
                assert!(fits || !name.ends_with(".log"), "a write extends {name}");
                let arrival = whole(inode, offset, padded(buffer, *start, *len));
                match durable {
                    true => self.media.write_durably(arrival, started),
                    false => self.media.write(arrival),
                }
                Ok(*len)
            }
            DiskOperation::Flush { file } => {
                let inode = self.inode(*file)?;
                self.media.sync(inode, started);
                Ok(0)
            }
            DiskOperation::Read {
                file,
                offset,
                len,
                buffer,
                ..
            } => {
                let inode = self.inode(*file)?;
                let bytes = self.media.now(inode).bytes(*offset as usize, *len);
                buffer.append(&bytes);
                Ok(bytes.len())
            }
            other => unreachable!("{other:?} is no transfer"),
        }
    }

    fn create(&mut self, operation: &DiskOperation, started: u64) -> Result<usize, DiskError> {
        let DiskOperation::Create {
            file,
            size_bytes,
            first_block,
            first_len,
        } = operation
        else {
            unreachable!("{operation:?} creates nothing");
        };
        if self.full {
            return Err(DiskError::Full);
        }
        let name = self.created_as(*file)?;
        self.require_free(&name)?;
        let mut pages = Pages::reserved(*size_bytes as usize);
        let first = first_bytes(first_block, *first_len);
        pages.write(0, &first, |_| true);
        let inode = self.media.add(&name, pages.clone(), pages);
        self.open.remove(file);
        self.change_names([Change::Link(name, inode)]);
        // What is new in the journal goes to the device with a flush in front of it.
        self.media.flush(started);
        Ok(0)
    }

    /// Operations that change what files there are or which blocks they have.
    fn manage(&mut self, operation: &DiskOperation) -> Result<(), DiskError> {
        match operation {
            DiskOperation::Zero { file, offset, len } => {
                self.zeroing.remove(&(file.0, *offset, offset + len));
                let inode = self.inode(*file)?;
                let zeros = vec![0; *len as usize].into();
                let arrival = whole(inode, *offset as usize, zeros);
                self.media.write_alone(&arrival);
            }
            DiskOperation::Truncate { file, size_bytes } => {
                let inode = self.inode(*file)?;
                self.change_names([Change::Cut(inode, *size_bytes as usize)]);
            }
            DiskOperation::WriteWhole { path, bytes } => self.replace(path, bytes),
            DiskOperation::Rename { from, to } => {
                self.find_tree(from)?;
                self.require_free(to)?;
                self.change_names([Change::Move(from.clone(), to.clone())]);
            }
            DiskOperation::Remove { path } => {
                let gone = self.names.tree(path).into_iter().map(Change::Unlink);
                self.change_names(gone);
            }
            other => unreachable!("{other:?} manages nothing"),
        }
        Ok(())
    }

    pub(super) fn change_names(&mut self, changes: impl IntoIterator<Item = Change>) {
        for change in changes {
            self.names.change(&mut self.media, change);
        }
        self.names.commit(&mut self.media);
    }

    /// Whether a file or a directory of this name is there.
    pub(super) fn find_tree(&self, path: &str) -> Result<(), DiskError> {
        match self.names.tree(path).is_empty() {
            true => Err(DiskError::NotFound),
            false => Ok(()),
        }
    }

    /// No name is ever taken from a file that has it.
    pub(super) fn require_free(&self, path: &str) -> Result<(), DiskError> {
        match self.find_tree(path) {
            Ok(()) => Err(DiskError::Exists),
            Err(_) => Ok(()),
        }
    }

    pub(super) fn replace(&mut self, path: &str, bytes: &[u8]) {
        let pages = Pages::of(bytes);
        let inode = self.media.add(path, pages.clone(), pages);
        self.change_names([Change::Link(path.to_owned(), inode)]);
    }

    /// What is left of a request whose process is gone: as much of it as its fate says, in the
    /// device's cache and the kernel's names, nothing of it safe.
    pub(super) fn leave(&mut self, request: &DiskRequest, fate: &Fate) {
        let happens = fate.steps(1) > 0;
        match &request.operation {
            DiskOperation::Write {
                file,
                offset,
                buffer,
                start,
                len,
                ..
            } => {
                if let Ok(inode) = self.inode(*file) {
                    let bytes = padded(buffer, *start, *len);
                    let arrival = torn(inode, *offset as usize, bytes, fate);
                    self.media.leave_under_way(arrival);
                }
            }
            DiskOperation::Zero { file, offset, len } => {
                if let Ok(inode) = self.inode(*file) {
                    let zeros = vec![0; *len as usize].into();
                    let arrival = torn(inode, *offset as usize, zeros, fate);
                    self.media.leave_under_way(arrival);
                }
            }
            DiskOperation::Create {
                file,
                size_bytes,
                first_block,
                first_len,
            } if fate.steps(2) > 0 => {
                let Ok(name) = self.created_as(*file) else {
                    return;
                };
                // Opened, then given its size, then written to.
                let size = if fate.steps(3) > 1 { *size_bytes } else { 0 };
                let pages = Pages::reserved(size as usize);
                let inode = self.media.add(&name, pages.clone(), pages);
                if size > 0 {
                    let first = first_bytes(first_block, *first_len);
                    self.media.leave_under_way(torn(inode, 0, first, fate));
                }
                self.names
                    .change(&mut self.media, Change::Link(name, inode));
            }
            DiskOperation::Truncate { file, size_bytes } if happens => {
                if let Ok(inode) = self.inode(*file) {
                    let cut = Change::Cut(inode, *size_bytes as usize);
                    self.names.change(&mut self.media, cut);
                }
            }
            DiskOperation::WriteWhole { path, bytes } if happens => {
                let pages = Pages::of(bytes);
                let inode = self.media.add(path, pages.clone(), pages);
                let link = Change::Link(path.clone(), inode);
                self.names.change(&mut self.media, link);
            }
            DiskOperation::Rename { from, to } if happens => {
                let renamed = Change::Move(from.clone(), to.clone());
                self.names.change(&mut self.media, renamed);
            }
            DiskOperation::Remove { path } => {
                let tree = self.names.tree(path);
                let gone = fate.steps(tree.len());
                for name in tree.into_iter().take(gone) {
                    self.names.change(&mut self.media, Change::Unlink(name));
                }
            }
            DiskOperation::Create { .. }
            | DiskOperation::Truncate { .. }
            | DiskOperation::WriteWhole { .. }
            | DiskOperation::Rename { .. }
            | DiskOperation::Attach { .. }
            | DiskOperation::Detach { .. }
            | DiskOperation::Flush { .. }
            | DiskOperation::Read { .. } => {}
        }
    }
}

/// What a `Create` writes, in whole blocks.
fn first_bytes(block: &AlignedBuffer, len: usize) -> Rc<[u8]> {
    let filled = block.filled().min(len);
    padded(block, 0, filled.next_multiple_of(BLOCK))
}

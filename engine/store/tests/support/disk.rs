//! A disk in memory for the tests of the log: executes requests in any order the test picks, and
//! can crash.
//!
//! Every file has what the kernel would read back (`current`) and what survives power loss
//! (`durable`). A durable operation makes everything completed before it durable, as a device flush
//! does; a plain write waits for one.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use highwater_base::disk::{
    BootDisk, DirectoryEntry, DiskCompletion, DiskError, DiskOperation, DiskRequest, FileId,
};
use highwater_base::prng::Prng;

const BLOCK: usize = 4096;

#[derive(Clone, Default)]
pub struct FileData {
    pub current: Vec<u8>,
    durable: Vec<u8>,
    /// Ranges in which the two may differ.
    undurable: Vec<(usize, usize)>,
}

impl FileData {
    fn whole(current: Vec<u8>) -> FileData {
        FileData {
            durable: current.clone(),
            current,
            undurable: Vec::new(),
        }
    }

    fn flush(&mut self) {
        for (from, to) in self.undurable.drain(..) {
            let to = to.min(self.current.len());
            if self.durable.len() < to {
                self.durable.resize(to, 0);
            }
            if from < to {
                self.durable[from..to].copy_from_slice(&self.current[from..to]);
            }
        }
    }
}

type Inode = Rc<RefCell<FileData>>;

/// The files, what is open, and the faults to come.
#[derive(Default)]
pub struct TestDisk {
    files: BTreeMap<String, Inode>,
    names: BTreeMap<FileId, String>,
    former_names: BTreeMap<FileId, String>,
    open: BTreeMap<FileId, Inode>,
    pub device: Device,
    /// Creating a file fails with "no space".
    pub full: bool,
    /// Paths that were created, for assertions.
    pub creates: usize,
    /// Ranges `Zero` requests under way cover; writes must not touch them.
    zeroing: BTreeSet<(u32, u64, u64)>,
}

/// What a completed write has to do to survive power loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// A durable write flushes everything.
    #[default]
    Cached,
    /// A durable write is durable itself, and no flush for others.
    ForcedUnitAccess,
    /// Every completed write is durable.
    WriteThrough,
}

/// What a crash leaves of bytes that were not durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// The process died, the machine did not.
    All,
    /// Power loss, nothing undurable survived.
    Nothing,
    /// Power loss; each undurable block survived or not.
    Some(u64),
    /// Power loss; of undurable blocks only the marks ledger's survived.
    Marks,
}

fn write_at(bytes: &mut Vec<u8>, offset: usize, data: &[u8]) {
    if bytes.len() < offset + data.len() {
        bytes.resize(offset + data.len(), 0);
    }
    bytes[offset..offset + data.len()].copy_from_slice(data);
}

impl TestDisk {
    /// Notes a request that was issued but not executed yet.
    pub fn issued(&mut self, request: &DiskRequest) {
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

    fn inode(&mut self, file: FileId) -> Result<Inode, DiskError> {
        // A host may have closed it: by name first. Detached is as good as gone.
        let name = self.names.get(&file).ok_or(DiskError::NotFound)?;
        let former = self.former_names.get(&file);
        let inode = self
            .files
            .get(name)
            .or_else(|| self.files.get(former?))
            .or_else(|| self.open.get(&file))
            .ok_or(DiskError::NotFound)?;
        let inode = Rc::clone(inode);
        self.open.insert(file, Rc::clone(&inode));
        Ok(inode)
    }

    /// A file that is to be renamed is created under its former name.
    fn created_as(&self, file: FileId) -> Option<String> {
        let former = self.former_names.get(&file);
        former.or_else(|| self.names.get(&file)).cloned()
    }

    fn flush(&mut self) {
        if self.device == Device::ForcedUnitAccess {
            return;
        }
        for inode in self.files.values().chain(self.open.values()) {
            if !inode.borrow().undurable.is_empty() {
                inode.borrow_mut().flush();
            }
        }
    }

    /// Executes one request; `None` when it has no completion.
    pub fn execute(&mut self, request: DiskRequest) -> Option<DiskCompletion> {
        let token = request.token;
        let result = match request.operation {
            DiskOperation::Attach { file, path, former } => {
                self.names.insert(file, path);
                self.former_names.remove(&file);
                self.former_names.extend(former.map(|name| (file, name)));
                return None;
            }
            DiskOperation::Detach { file } => {
                self.names.remove(&file);
                self.former_names.remove(&file);
                self.open.remove(&file);
                return None;
            }
            operation => self.perform(operation),
        };
        Some(DiskCompletion { token, result })
    }

    fn perform(&mut self, operation: DiskOperation) -> Result<usize, DiskError> {
        match operation {
            DiskOperation::Attach { .. } | DiskOperation::Detach { .. } => unreachable!(),
            DiskOperation::Create {
                file,
                size_bytes,
                first_block,
                first_len,
            } => {
                if self.full {
                    return Err(DiskError::Full);
                }
                self.creates += 1;
                let name = self.created_as(file).ok_or(DiskError::NotFound)?;
                let mut current = vec![0; size_bytes as usize];
                let filled = first_block.filled().min(first_len);
                current[..filled].copy_from_slice(first_block.slice(0, filled));
                let data = FileData::whole(current);
                self.files.insert(name, Rc::new(RefCell::new(data)));
                self.open.remove(&file);
                self.flush();
                Ok(0)
            }
            DiskOperation::Zero { file, offset, len } => {
                self.zeroing.remove(&(file.0, offset, offset + len));
                let inode = self.inode(file)?;
                let zeros = vec![0; len as usize];
                let mut data = inode.borrow_mut();
                write_at(&mut data.current, offset as usize, &zeros);
                write_at(&mut data.durable, offset as usize, &zeros);
                Ok(0)
            }
            DiskOperation::Write {
                file,
                offset,
                buffer,
                start,
                len,
                durable,
            } => {
                assert_eq!(
                    (offset as usize % BLOCK, start % BLOCK, len % BLOCK),
                    (0, 0, 0)
                );
                let inode = self.inode(file)?;
                let size = inode.borrow().current.len();
                let name = self.names.get(&file).map_or("", String::as_str);
                let fits = offset as usize + len <= size;
                assert!(fits || !name.ends_with(".log"), "a write extends {name}");
                let filled = buffer.filled().min(start + len);
                let mut data = vec![0; len];
                data[..filled - start].copy_from_slice(buffer.slice(start, filled - start));
                write_at(&mut inode.borrow_mut().current, offset as usize, &data);
                match self.device {
                    Device::Cached | Device::ForcedUnitAccess if !durable => {
                        let range = (offset as usize, offset as usize + len);
                        inode.borrow_mut().undurable.push(range);
                    }
                    Device::Cached => {
                        let range = (offset as usize, offset as usize + len);
                        inode.borrow_mut().undurable.push(range);
                        self.flush();
                    }
                    Device::ForcedUnitAccess | Device::WriteThrough => {
                        write_at(&mut inode.borrow_mut().durable, offset as usize, &data);
                    }
                }
                Ok(len)
            }
            DiskOperation::Truncate { file, size_bytes } => {
                let inode = self.inode(file)?;
                let mut data = inode.borrow_mut();
                data.current.truncate(size_bytes as usize);
                data.durable.truncate(size_bytes as usize);
                Ok(0)
            }
            DiskOperation::Flush { .. } => {
                self.flush();
                Ok(0)
            }
            DiskOperation::Read {
                file,
                offset,
                len,
                buffer,
            } => {
                let inode = self.inode(file)?;
                let data = inode.borrow();
                let from = (offset as usize).min(data.current.len());
                let to = (from + len).min(data.current.len());
                buffer.append(&data.current[from..to]);
                Ok(to - from)
            }
            DiskOperation::WriteWhole { path, bytes } => {
                self.write_whole(&path, &bytes)?;
                Ok(0)
            }
            DiskOperation::Rename { from, to } => self.rename(&from, &to).map(|()| 0),
            DiskOperation::Remove { path } => self.remove(&path).map(|()| 0),
        }
    }

    /// A crash hits while the request is under way: some of its blocks made it, some did not; what
    /// the kernel does as one step happened or not.
    pub fn tear(&mut self, request: DiskRequest, prng: &mut Prng) {
        match request.operation {
            DiskOperation::Write {
                file,
                offset,
                buffer,
                start,
                len,
                ..
            } => {
                let Ok(inode) = self.inode(file) else {
                    return;
                };
                for at in (0..len).step_by(BLOCK).filter(|_| prng.chance(1, 2)) {
                    let from = start + at;
                    let filled = buffer.filled().min(from + BLOCK).max(from);
                    let mut block = vec![0; BLOCK];
                    block[..filled - from].copy_from_slice(buffer.slice(from, filled - from));
                    write_at(
                        &mut inode.borrow_mut().current,
                        offset as usize + at,
                        &block,
                    );
                }
            }
            DiskOperation::Create {
                file,
                size_bytes,
                first_block,
                first_len,
            } if prng.chance(2, 3) => {
                let Some(path) = self.created_as(file) else {
                    return;
                };
                let mut current = vec![0; size_bytes as usize];
                let filled = first_block.filled().min(first_len);
                for at in (0..filled).step_by(BLOCK).filter(|_| prng.chance(1, 2)) {
                    let to = filled.min(at + BLOCK);
                    current[at..to].copy_from_slice(first_block.slice(at, to - at));
                }
                let data = FileData {
                    undurable: vec![(0, current.len())],
                    durable: vec![0; current.len()],
                    current,
                };
                self.files.insert(path, Rc::new(RefCell::new(data)));
            }
            DiskOperation::WriteWhole { .. }
            | DiskOperation::Rename { .. }
            | DiskOperation::Remove { .. }
            | DiskOperation::Truncate { .. }
                if prng.chance(1, 2) =>
            {
                let _ = self.execute(request);
            }
            _ => {}
        }
    }

    /// Forgets open files and, on power loss, what was not durable.
    pub fn crash(&mut self, keep: Keep) {
        self.open.clear();
        self.names.clear();
        self.former_names.clear();
        self.zeroing.clear();
        self.full = false;
        for (path, inode) in &self.files {
            let mut data = inode.borrow_mut();
            match keep {
                Keep::All => {}
                Keep::Marks if path.starts_with("marks/") => {}
                Keep::Marks => data.current = data.durable.clone(),
                Keep::Nothing => data.current = data.durable.clone(),
                Keep::Some(seed) => {
                    let mut prng = Prng::new(seed ^ data.current.len() as u64);
                    let durable = data.durable.clone();
                    let blocks = data.current.chunks_mut(BLOCK).zip(durable.chunks(BLOCK));
                    for (current, durable) in blocks {
                        if current != durable && prng.chance(1, 2) {
                            current.copy_from_slice(durable);
                        }
                    }
                }
            }
            data.durable = data.current.clone();
            data.undurable.clear();
        }
    }

    /// Bytes of an open or named file, as a sendfile would send them.
    pub fn file_bytes(&mut self, file: FileId, offset: u64, len: usize) -> Vec<u8> {
        let inode = self.inode(file).expect("a file that was handed out exists");
        let data = inode.borrow();
        data.current[offset as usize..offset as usize + len].to_vec()
    }

    /// Paths that begin with `prefix`.
    pub fn paths(&self, prefix: &str) -> Vec<String> {
        let paths = self.files.keys();
        paths
            .filter(|path| path.starts_with(prefix))
            .cloned()
            .collect()
    }

    /// Changes bytes behind everyone's back.
    pub fn damage(&mut self, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let inode = self.files.get(path).expect("the file to damage exists");
        let mut data = inode.borrow_mut();
        change(&mut data.current);
        data.durable = data.current.clone();
    }

    /// Everything on disk, for comparison.
    pub fn image(&self) -> BTreeMap<String, Vec<u8>> {
        let files = self.files.iter();
        files
            .map(|(path, inode)| (path.clone(), inode.borrow().current.clone()))
            .collect()
    }
}

impl BootDisk for TestDisk {
    fn list(&self, path: &str) -> Result<Vec<DirectoryEntry>, DiskError> {
        let prefix = format!("{path}/");
        let mut entries = BTreeMap::new();
        for (file, inode) in &self.files {
            let Some(rest) = file.strip_prefix(&prefix) else {
                continue;
            };
            let (name, is_directory) = match rest.split_once('/') {
                Some((name, _)) => (name, true),
                None => (rest, false),
            };
            let size_bytes = match is_directory {
                true => 0,
                false => inode.borrow().current.len() as u64,
            };
            entries.insert(
                name.to_owned(),
                DirectoryEntry {
                    name: name.to_owned(),
                    is_directory,
                    size_bytes,
                },
            );
        }
        match entries.is_empty() {
            true => Err(DiskError::NotFound),
            false => Ok(entries.into_values().collect()),
        }
    }

    fn read(&self, path: &str, offset: u64, into: &mut [u8]) -> Result<usize, DiskError> {
        let data = self.files.get(path).ok_or(DiskError::NotFound)?.borrow();
        let from = (offset as usize).min(data.current.len());
        let to = (from + into.len()).min(data.current.len());
        into[..to - from].copy_from_slice(&data.current[from..to]);
        Ok(to - from)
    }

    fn write(&mut self, path: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        assert_eq!((offset as usize % BLOCK, bytes.len() % BLOCK), (0, 0));
        let inode = self.files.get(path).ok_or(DiskError::NotFound)?;
        let mut data = inode.borrow_mut();
        write_at(&mut data.current, offset as usize, bytes);
        write_at(&mut data.durable, offset as usize, bytes);
        drop(data);
        self.flush();
        Ok(())
    }

    fn create_zeroed(&mut self, path: &str, size_bytes: u64) -> Result<(), DiskError> {
        let bytes = vec![0; size_bytes as usize];
        self.write_whole(path, &bytes)
    }

    fn write_whole(&mut self, path: &str, bytes: &[u8]) -> Result<(), DiskError> {
        let data = FileData::whole(bytes.to_vec());
        self.files
            .insert(path.to_owned(), Rc::new(RefCell::new(data)));
        self.flush();
        Ok(())
    }

    fn truncate(&mut self, path: &str, size_bytes: u64) -> Result<(), DiskError> {
        let inode = self.files.get(path).ok_or(DiskError::NotFound)?;
        let mut data = inode.borrow_mut();
        data.current.truncate(size_bytes as usize);
        data.durable.truncate(size_bytes as usize);
        drop(data);
        self.flush();
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        let inode = self.files.remove(from).ok_or(DiskError::NotFound)?;
        self.files.insert(to.to_owned(), inode);
        Ok(())
    }

    fn remove(&mut self, path: &str) -> Result<(), DiskError> {
        let prefix = format!("{path}/");
        self.files
            .retain(|name, _| name != path && !name.starts_with(&prefix));
        Ok(())
    }
}

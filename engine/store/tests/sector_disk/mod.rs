//! A disk in memory that loses power in the middle of a write: of every write that no flush has
//! covered, any of its sectors may have survived. Files are sparse, so that copies are cheap. What is
//! read back is what is safe from power loss.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use highwater_base::disk::{
    BootDisk, DirectoryEntry, DiskCompletion, DiskError, DiskOperation, DiskRequest, FileId,
};
use highwater_base::prng::Prng;

pub const BLOCK: usize = 4096;
pub const SECTOR: usize = 512;

/// What power loss leaves of one write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    Lost,
    Kept,
    /// Only so many sectors at its front.
    Front(usize),
    /// Only what comes behind so many sectors.
    Rear(usize),
    /// Each sector or not.
    Noise(u64),
}

impl Fate {
    /// A fate by chance; tearing is the most likely one.
    pub fn random(prng: &mut Prng, sectors: usize) -> Fate {
        match prng.below(6) {
            0 => Fate::Lost,
            1 => Fate::Kept,
            2 => Fate::Front(prng.below(sectors as u64 + 1) as usize),
            3 => Fate::Rear(prng.below(sectors as u64 + 1) as usize),
            _ => Fate::Noise(prng.next_u64()),
        }
    }

    fn sectors(&self, count: usize) -> Vec<bool> {
        let mut noise = Prng::new(if let Fate::Noise(seed) = self {
            *seed
        } else {
            0
        });
        let survives = |at: usize| match self {
            Fate::Lost => false,
            Fate::Kept => true,
            Fate::Front(sectors) => at < *sectors,
            Fate::Rear(sectors) => at >= *sectors,
            Fate::Noise(_) => noise.chance(1, 2),
        };
        (0..count).map(survives).collect()
    }
}

#[derive(Clone, Default)]
struct Sparse {
    size: u64,
    blocks: BTreeMap<u64, Rc<[u8]>>,
}

impl Sparse {
    fn write(&mut self, offset: u64, bytes: &[u8], survives: &[bool]) {
        for (at, block) in bytes.chunks(BLOCK).enumerate() {
            let number = offset / BLOCK as u64 + at as u64;
            let mut now = self
                .blocks
                .get(&number)
                .map_or_else(|| vec![0; BLOCK], |known| known.to_vec());
            for (sector, part) in block.chunks(SECTOR).enumerate() {
                let index = at * BLOCK / SECTOR + sector;
                if survives[index] {
                    let from = sector * SECTOR;
                    now[from..from + part.len()].copy_from_slice(part);
                    self.size = self.size.max(number * BLOCK as u64 + BLOCK as u64);
                }
            }
            self.blocks.insert(number, now.into());
        }
    }
}

#[derive(Clone)]
struct Volatile {
    path: String,
    offset: u64,
    bytes: Rc<[u8]>,
}

/// The files, the writes that power loss may still take, and the crash that is planned.
#[derive(Clone, Default)]
pub struct SectorDisk {
    files: BTreeMap<String, Sparse>,
    names: BTreeMap<FileId, String>,
    /// Completed, but no flush has covered them.
    volatile: Vec<Volatile>,
    /// Blocks the device cannot read.
    pub unreadable: BTreeSet<(String, u64)>,
    /// Changing boot operations so far.
    pub steps: usize,
    /// The boot operation that power loss interrupts, and what it leaves of it.
    pub crash_at: Option<(usize, Fate)>,
}

impl SectorDisk {
    fn take(request: &DiskRequest, names: &BTreeMap<FileId, String>) -> Option<(Volatile, bool)> {
        let DiskOperation::Write {
            file,
            offset,
            buffer,
            start,
            len,
            durable,
        } = &request.operation
        else {
            return None;
        };
        assert_eq!((*offset as usize % BLOCK, len % BLOCK), (0, 0));
        let write = Volatile {
            path: names.get(file).expect("attached").clone(),
            offset: *offset,
            bytes: buffer.slice(*start, *len).into(),
        };
        Some((write, *durable))
    }

    fn apply(&mut self, write: &Volatile, fate: &Fate) {
        let file = self.files.get_mut(&write.path).expect("the file exists");
        let survives = fate.sectors(write.bytes.len() / SECTOR);
        file.write(write.offset, &write.bytes, &survives);
    }

    /// Executes a request. A durable one also flushes everything that completed before it.
    pub fn execute(&mut self, request: &DiskRequest) -> Option<DiskCompletion> {
        if let DiskOperation::Attach { file, path, .. } = &request.operation {
            self.names.insert(*file, path.clone());
            return None;
        }
        let (write, durable) = Self::take(request, &self.names).expect("a write");
        let len = write.bytes.len();
        self.volatile.push(write);
        if durable {
            self.settle();
        }
        Some(DiskCompletion {
            token: request.token,
            result: Ok(len),
        })
    }

    /// Everything completed becomes durable.
    pub fn settle(&mut self) {
        for write in std::mem::take(&mut self.volatile) {
            self.apply(&write, &Fate::Kept);
        }
    }

    /// Power loss. `fate` is asked about every write at risk: those completed without a flush and
    /// those still under way, in this order, with the number of sectors.
    pub fn lose_power(&mut self, under_way: &[DiskRequest], mut fate: impl FnMut(usize) -> Fate) {
        let mut at_risk = std::mem::take(&mut self.volatile);
        let open = under_way
            .iter()
            .filter_map(|request| Self::take(request, &self.names));
        at_risk.extend(open.map(|(write, _)| write));
        for write in at_risk {
            let fate = fate(write.bytes.len() / SECTOR);
            self.apply(&write, &fate);
        }
        self.names.clear();
    }

    /// Changes a block behind everyone's back.
    pub fn damage(&mut self, path: &str, block: u64, change: impl FnOnce(&mut [u8])) {
        let file = self.files.get_mut(path).expect("the file exists");
        let mut bytes = file
            .blocks
            .get(&block)
            .map_or_else(|| vec![0; BLOCK], |known| known.to_vec());
        change(&mut bytes);
        file.blocks.insert(block, bytes.into());
    }

    pub fn flip(&mut self, path: &str, block: u64, bit: usize) {
        self.damage(path, block, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
    }

    /// Numbers of the blocks that are not blank.
    pub fn written_blocks(&self, path: &str) -> Vec<u64> {
        let file = self.files.get(path).expect("the file exists");
        let written = |block: &Rc<[u8]>| block.iter().any(|byte| *byte != 0);
        let blocks = file.blocks.iter().filter(|(_, block)| written(block));
        blocks.map(|(number, _)| *number).collect()
    }

    pub fn exists(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    /// Counts a changing boot operation, which also flushes: what the planned crash makes of it.
    fn step(&mut self) -> Result<Option<Fate>, DiskError> {
        self.steps += 1;
        self.settle();
        match &self.crash_at {
            Some((at, _)) if self.steps > *at + 1 => Err(DiskError::Io(5)),
            Some((at, fate)) if self.steps == *at + 1 => Ok(Some(fate.clone())),
            _ => Ok(None),
        }
    }
}

impl BootDisk for SectorDisk {
    fn list(&self, path: &str) -> Result<Vec<DirectoryEntry>, DiskError> {
        let prefix = format!("{path}/");
        let entries: Vec<DirectoryEntry> = self
            .files
            .iter()
            .filter_map(|(name, file)| {
                Some(DirectoryEntry {
                    name: name.strip_prefix(&prefix)?.to_owned(),
                    is_directory: false,
                    size_bytes: file.size,
                })
            })
            .collect();
        if entries.is_empty() {
            return Err(DiskError::NotFound);
        }
        Ok(entries)
    }

    fn read(&self, path: &str, offset: u64, into: &mut [u8]) -> Result<usize, DiskError> {
        let file = self.files.get(path).ok_or(DiskError::NotFound)?;
        let len = (into.len() as u64).min(file.size.saturating_sub(offset)) as usize;
        assert_eq!(offset as usize % BLOCK, 0);
        for (at, part) in into[..len].chunks_mut(BLOCK).enumerate() {
            let number = offset / BLOCK as u64 + at as u64;
            let unreadable = || self.unreadable.contains(&(path.to_owned(), number));
            if !self.unreadable.is_empty() && unreadable() {
                return Err(DiskError::Io(5));
            }
            match file.blocks.get(&number) {
                Some(block) => part.copy_from_slice(&block[..part.len()]),
                None => part.fill(0),
            }
        }
        Ok(len)
    }

    fn write(&mut self, path: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let fate = self.step()?;
        let write = Volatile {
            path: path.to_owned(),
            offset,
            bytes: bytes.into(),
        };
        self.apply(&write, fate.as_ref().unwrap_or(&Fate::Kept));
        fate.map_or(Ok(()), |_| Err(DiskError::Io(5)))
    }

    fn create_zeroed(&mut self, path: &str, size_bytes: u64) -> Result<(), DiskError> {
        let fate = self.step()?;
        let kept = match &fate {
            None | Some(Fate::Kept) => size_bytes / SECTOR as u64,
            Some(Fate::Front(sectors)) => (*sectors as u64).min(size_bytes / SECTOR as u64),
            // The file is truncated, no block of it is written yet.
            Some(_) => 0,
        };
        if fate != Some(Fate::Lost) {
            let file = Sparse {
                size: kept * SECTOR as u64 / BLOCK as u64 * BLOCK as u64,
                blocks: BTreeMap::new(),
            };
            self.files.insert(path.to_owned(), file);
        }
        fate.map_or(Ok(()), |_| Err(DiskError::Io(5)))
    }

    fn write_whole(&mut self, _: &str, _: &[u8]) -> Result<(), DiskError> {
        unreachable!("neither the ledger nor the superblock does that")
    }

    fn truncate(&mut self, _: &str, _: u64) -> Result<(), DiskError> {
        unreachable!("neither the ledger nor the superblock does that")
    }

    fn rename(&mut self, _: &str, _: &str) -> Result<(), DiskError> {
        unreachable!("neither the ledger nor the superblock does that")
    }

    fn remove(&mut self, path: &str) -> Result<(), DiskError> {
        let fate = self.step()?;
        if fate != Some(Fate::Lost) {
            self.files.remove(path);
        }
        fate.map_or(Ok(()), |_| Err(DiskError::Io(5)))
    }
}

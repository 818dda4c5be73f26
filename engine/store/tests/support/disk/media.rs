//! The contents of files twice: as a read gives them, and as power loss would leave them. Between the
//! two lie the writes that are in the device's cache, in the order in which they completed.
//!
//! A flush covers what had completed when it *started*. What it covers is safe only in blocks whose
//! being written the filesystem has noted: a write into blocks that were only reserved, or behind
//! the end of the file, stays at risk until its own file is synced.

use std::rc::Rc;

use super::fate::{AtRisk, Fate};
use super::pages::{BLOCK, Pages, SECTOR};

pub type InodeId = usize;

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

#[derive(Clone)]
struct Inode {
    /// The name it was made under.
    path: Rc<str>,
    now: Pages,
    safe: Pages,
}

/// A write in the device's cache.
#[derive(Clone)]
struct Cached {
    inode: InodeId,
    offset: usize,
    bytes: Rc<[u8]>,
    /// Sectors that arrived and were not written again since.
    sectors: Vec<bool>,
    completed: u64,
    /// The filesystem has yet to note that these blocks are written.
    is_unnoted: bool,
    /// Its end was never told.
    under_way: bool,
}

/// A write as it reaches the device.
pub struct Arrival {
    pub inode: InodeId,
    pub offset: usize,
    pub bytes: Rc<[u8]>,
    /// Which of its sectors arrive.
    pub sectors: Vec<bool>,
}

#[derive(Clone, Default)]
pub struct Media {
    pub device: Device,
    inodes: Vec<Inode>,
    cache: Vec<Cached>,
    /// Writes that completed so far.
    clock: u64,
}

impl Media {
    /// A new file: what it holds, and what of that power loss leaves.
    pub fn add(&mut self, path: &str, now: Pages, safe: Pages) -> InodeId {
        let path = path.into();
        self.inodes.push(Inode { path, now, safe });
        self.inodes.len() - 1
    }

    pub fn now(&self, inode: InodeId) -> &Pages {
        &self.inodes[inode].now
    }

    /// The moment: later ones are greater. What completed until then is covered by a flush that
    /// starts then.
    pub fn moment(&self) -> u64 {
        self.clock
    }

    /// A write that completes without a flush.
    pub fn write(&mut self, arrival: Arrival) {
        self.cache_write(arrival, false);
    }

    /// A write whose end nobody was told of.
    pub fn leave_under_way(&mut self, arrival: Arrival) {
        self.cache_write(arrival, true);
    }

    /// A durable write that was started at `started` completes.
    pub fn write_durably(&mut self, arrival: Arrival, started: u64) {
        if self.device == Device::Cached {
            self.flush(started);
        }
        self.note(arrival.inode, started);
        self.write_alone(&arrival);
    }

    /// A write that is safe when it completes, in blocks that are noted by then, and makes nothing
    /// else safe.
    pub fn write_alone(&mut self, arrival: &Arrival) {
        self.clock += 1;
        let (from, to) = (arrival.offset, arrival.offset + arrival.bytes.len());
        self.supersede(arrival.inode, from, to);
        let inode = &mut self.inodes[arrival.inode];
        let arrives = |sector: usize| arrival.sectors[sector];
        inode.now.write(from, &arrival.bytes, arrives);
        inode.safe.write(from, &arrival.bytes, arrives);
    }

    fn cache_write(&mut self, arrival: Arrival, under_way: bool) {
        self.clock += 1;
        let Arrival {
            inode,
            offset,
            bytes,
            sectors,
        } = arrival;
        let file = &mut self.inodes[inode];
        file.now.write(offset, &bytes, |sector| sectors[sector]);
        // Runs of blocks that are noted as written or not, as each kind becomes safe in its own way.
        let blocks = bytes.len() / BLOCK;
        let is_unnoted = |at: usize| !file.safe.is_written(offset / BLOCK + at);
        let mut runs: Vec<(usize, usize, bool)> = Vec::new();
        for at in 0..blocks {
            match runs.last_mut() {
                Some(run) if run.2 == is_unnoted(at) => run.1 = at + 1,
                _ => runs.push((at, at + 1, is_unnoted(at))),
            }
        }
        for (from, to, is_unnoted) in runs {
            let in_sectors = |block: usize| block * BLOCK / SECTOR;
            let cached = Cached {
                inode,
                offset: offset + from * BLOCK,
                bytes: bytes[from * BLOCK..to * BLOCK].into(),
                sectors: sectors[in_sectors(from)..in_sectors(to)].to_vec(),
                completed: self.clock,
                is_unnoted,
                under_way,
            };
            match self.device {
                Device::WriteThrough if !is_unnoted => self.land(&cached, &Fate::Kept),
                _ => self.cache.push(cached),
            }
        }
    }

    fn land(&mut self, cached: &Cached, fate: &Fate) {
        let safe = &mut self.inodes[cached.inode].safe;
        let arriving = fate.arriving(cached.sectors.len());
        let arrives = |sector: usize| cached.sectors[sector] && arriving[sector];
        safe.write(cached.offset, &cached.bytes, arrives);
        if let Fate::Shredded(seed) = fate {
            let at = *seed as usize % cached.sectors.len();
            let mut noise = cached.bytes.to_vec();
            highwater_base::prng::Prng::new(*seed).fill(&mut noise);
            safe.write(cached.offset, &noise, |sector| sector == at);
        }
    }

    fn land_where(&mut self, is_safe: impl Fn(&Cached) -> bool) {
        if self.cache.iter().any(&is_safe) {
            let (safe, rest) = std::mem::take(&mut self.cache)
                .into_iter()
                .partition(is_safe);
            self.cache = rest;
            let safe: Vec<Cached> = safe;
            safe.iter()
                .for_each(|cached| self.land(cached, &Fate::Kept));
        }
    }

    /// Older writes of the same sectors that are still in the cache come to nothing.
    fn supersede(&mut self, inode: InodeId, from: usize, to: usize) {
        for cached in self.cache.iter_mut().filter(|it| it.inode == inode) {
            for (at, sector) in cached.sectors.iter_mut().enumerate() {
                let position = cached.offset + at * SECTOR;
                *sector &= !(from..to).contains(&position);
            }
        }
        self.cache.retain(|it| it.sectors.iter().any(|left| *left));
    }

    /// A device flush that started at `started` ends.
    pub fn flush(&mut self, started: u64) {
        self.land_where(|it| it.completed <= started && !it.is_unnoted);
    }

    /// A sync of one file that started at `started` ends: the filesystem has noted its blocks.
    fn note(&mut self, inode: InodeId, started: u64) {
        self.land_where(|it| it.inode == inode && it.is_unnoted && it.completed <= started);
    }

    /// fdatasync: on any device with a cache it is a flush, and the file's blocks are noted.
    pub fn sync(&mut self, inode: InodeId, started: u64) {
        self.flush(started);
        self.note(inode, started);
    }

    /// Everything completed is safe.
    pub fn settle(&mut self) {
        self.land_where(|_| true);
    }

    pub fn cut(&mut self, inode: InodeId, size: usize) {
        self.inodes[inode].now.truncate(size);
    }

    pub fn cut_safely(&mut self, inode: InodeId, size: usize) {
        let file = &mut self.inodes[inode];
        file.now.truncate(size);
        file.safe.truncate(size);
        let is_inside = |it: &Cached| it.inode != inode || it.offset < size;
        self.cache.retain(is_inside);
    }

    /// Power loss: each write in the cache has its fate.
    pub fn lose_power(&mut self, mut fate: impl FnMut(&AtRisk<'_>) -> Fate) {
        for cached in std::mem::take(&mut self.cache) {
            let path = Rc::clone(&self.inodes[cached.inode].path);
            let at_risk = AtRisk {
                path: &path,
                sectors: cached.sectors.len(),
                under_way: cached.under_way,
            };
            let fate = fate(&at_risk);
            self.land(&cached, &fate);
        }
        for inode in &mut self.inodes {
            inode.now = inode.safe.clone();
        }
    }

    /// Changes a block behind everyone's back.
    pub fn damage_block(&mut self, inode: InodeId, block: usize, change: impl FnOnce(&mut [u8])) {
        let from = block * BLOCK;
        self.supersede(inode, from, from + BLOCK);
        let file = &mut self.inodes[inode];
        let mut bytes = file.now.bytes(from, BLOCK);
        change(&mut bytes);
        file.now.write(from, &bytes, |_| true);
        file.safe.write(from, &bytes, |_| true);
    }

    /// Changes a file behind everyone's back, its size too.
    pub fn damage(&mut self, inode: InodeId, change: impl FnOnce(&mut Vec<u8>)) {
        self.cache.retain(|it| it.inode != inode);
        let file = &mut self.inodes[inode];
        let mut bytes = file.now.bytes(0, file.now.size());
        change(&mut bytes);
        file.now = Pages::of(&bytes);
        file.safe = file.now.clone();
    }
}

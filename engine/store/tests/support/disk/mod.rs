//! A disk in memory: executes requests in any order the test picks, dies with its process or loses
//! power at any moment, and keeps what a real one keeps.
//!
//! | file | what |
//! |---|---|
//! | `pages` | the contents of one file, in blocks and sectors |
//! | `media` | files as they are read and as power loss leaves them, the cache between the two, flushes |
//! | `names` | names as the kernel knows them and as power loss leaves them |
//! | `fate` | what power loss makes of one write |
//! | `port` | the requests of a running store |
//! | `boot` | the blocking calls of recovery; power loss in the middle of one; bytes it must not touch |
//!
//! Every operation that the Disk port calls durable is safe when it completes, and nothing else is
//! made safe by it, but by durable writes, flushes and creations: those cover what completed before
//! they *started*. While an operation is under way, all, some or nothing of it may be there. A process
//! that dies leaves its writes in the device's cache, where they are read back and not safe.

#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod boot;
pub mod fate;
pub mod media;
pub mod names;
pub mod pages;
pub mod port;

use std::collections::{BTreeMap, BTreeSet};

use highwater_base::disk::{DiskRequest, DiskToken, FileId};
use highwater_base::prng::Prng;

use boot::Protected;
use fate::{AtRisk, Fate};
#[allow(unused_imports, reason = "the ledger's tests have one kind of device")]
pub use media::Device;
use media::{InodeId, Media};
use names::Names;

/// What a crash leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// The process died, the machine did not: what it wrote is in the device's cache.
    All,
    /// Power loss, nothing that was not safe survived.
    Nothing,
    /// Power loss; of every write at risk some sectors survived.
    Some(u64),
    /// Power loss; of the writes at risk only those of the marks ledger survived.
    Marks,
}

/// The files, what is open, and the faults to come.
#[derive(Clone, Default)]
pub struct TestDisk {
    pub media: Media,
    names: Names,
    /// Names of attached files, and their former ones.
    attached: BTreeMap<FileId, (String, Option<String>)>,
    open: BTreeMap<FileId, InodeId>,
    /// When requests under way were started.
    started: Vec<(DiskToken, u64)>,
    /// Ranges that `Zero` requests under way cover; writes must not touch them.
    zeroing: BTreeSet<(u32, u64, u64)>,
    /// Creating a file fails with "no space".
    pub full: bool,
    /// Blocks the device cannot read.
    pub unreadable: BTreeSet<(String, u64)>,
    /// Changing boot operations so far.
    pub steps: usize,
    /// The boot operation that power loss interrupts, and what it leaves of it.
    pub crash_at: Option<(usize, Fate)>,
    /// What recovery must not change.
    protected: Vec<Protected>,
}

impl TestDisk {
    /// The process dies with these requests under way: each is done, partly done, or not.
    pub fn die(&mut self, under_way: &[DiskRequest], prng: &mut Prng) {
        for request in under_way {
            let fate = Fate::random(prng, 64);
            self.leave(request, &fate);
        }
        self.forget_process();
    }

    /// Power is lost. `fate` is asked about every write at risk: those in the device's cache, then
    /// those under way, then changes of names.
    pub fn lose_power(
        &mut self,
        under_way: &[DiskRequest],
        mut fate: impl FnMut(&AtRisk<'_>) -> Fate,
    ) {
        for request in under_way {
            self.leave(request, &Fate::Kept);
        }
        self.forget_process();
        self.media.lose_power(&mut fate);
        let changes = self.names.at_risk();
        let kept = match changes {
            0 => 0,
            _ => {
                let at_risk = AtRisk {
                    path: "",
                    sectors: changes,
                    under_way: true,
                };
                fate(&at_risk).steps(changes)
            }
        };
        self.names.lose_power(&mut self.media, kept);
    }

    /// A crash with nothing under way.
    pub fn crash(&mut self, keep: Keep) {
        let seed = if let Keep::Some(seed) = keep { seed } else { 0 };
        self.crash_with(keep, &[], &mut Prng::new(seed));
    }

    /// A crash with these requests under way.
    pub fn crash_with(&mut self, keep: Keep, under_way: &[DiskRequest], prng: &mut Prng) {
        match keep {
            Keep::All => self.die(under_way, prng),
            Keep::Nothing => self.lose_power(under_way, |at_risk| match at_risk.under_way {
                true => Fate::random(prng, at_risk.sectors),
                false => Fate::Lost,
            }),
            Keep::Some(_) => self.lose_power(under_way, |it| Fate::random(prng, it.sectors)),
            Keep::Marks => self.lose_power(under_way, |it| match it.path.starts_with("marks/") {
                true => Fate::Kept,
                false => Fate::Lost,
            }),
        }
    }

    fn forget_process(&mut self) {
        self.open.clear();
        self.attached.clear();
        self.zeroing.clear();
        self.started.clear();
        self.full = false;
    }

    /// What power loss at this moment would leave if nothing at risk survived.
    pub fn after_power_loss(&self) -> TestDisk {
        let mut disk = self.clone();
        disk.lose_power(&[], |_| Fate::Lost);
        disk
    }

    /// Everything completed becomes safe.
    pub fn settle(&mut self) {
        self.media.settle();
        self.names.commit(&mut self.media);
    }

    /// Bytes of an open or named file, as a sendfile would send them.
    pub fn file_bytes(&mut self, file: FileId, offset: u64, len: usize) -> Vec<u8> {
        let inode = self.inode(file).expect("a file that was handed out exists");
        let bytes = self.media.now(inode).bytes(offset as usize, len);
        assert_eq!(bytes.len(), len, "the file holds what is sent");
        bytes
    }

    /// Paths that begin with `prefix`.
    pub fn paths(&self, prefix: &str) -> Vec<String> {
        let paths = self.names.iter().map(|(path, _)| path);
        let paths = paths.filter(|path| path.starts_with(prefix));
        paths.cloned().collect()
    }

    pub fn exists(&self, path: &str) -> bool {
        self.names.find(path).is_some()
    }

    /// Numbers of the blocks of a file that are not blank.
    pub fn written_blocks(&self, path: &str) -> Vec<u64> {
        let inode = self.names.find(path).expect("the file exists");
        self.media.now(inode).written_blocks()
    }

    /// Changes a file behind everyone's back, its size too.
    pub fn damage(&mut self, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let inode = self.names.find(path).expect("the file to damage exists");
        self.media.damage(inode, change);
    }

    /// Changes a block behind everyone's back.
    pub fn damage_block(&mut self, path: &str, block: u64, change: impl FnOnce(&mut [u8])) {
        let inode = self.names.find(path).expect("the file to damage exists");
        self.media.damage_block(inode, block as usize, change);
    }

    /// What a file of the store is on this disk, whatever its name becomes.
    pub fn inode_of(&mut self, file: FileId) -> Option<InodeId> {
        self.inode(file).ok()
    }

    /// Changes a block behind everyone's back.
    pub fn damage_inode(&mut self, inode: InodeId, block: usize, change: impl FnOnce(&mut [u8])) {
        self.media.damage_block(inode, block, change);
    }

    /// Flips one bit of a block.
    pub fn flip(&mut self, path: &str, block: u64, bit: usize) {
        self.damage_block(path, block, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
    }

    /// Everything on disk, for comparison.
    pub fn image(&self) -> BTreeMap<String, Vec<u8>> {
        let files = self.names.iter();
        files
            .map(|(path, inode)| {
                let pages = self.media.now(inode);
                (path.clone(), pages.bytes(0, pages.size()))
            })
            .collect()
    }
}

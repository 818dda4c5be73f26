//! Names of files, twice: as the kernel knows them, and as power loss would leave them. Changes that
//! are not safe yet become so in their order, as in a journal.

use std::collections::BTreeMap;

use super::media::{InodeId, Media};

/// One change of the filesystem's own data.
#[derive(Clone, Debug)]
pub enum Change {
    Link(String, InodeId),
    Unlink(String),
    /// Of a file or of a directory with all that is in it.
    Move(String, String),
    Cut(InodeId, usize),
}

#[derive(Clone, Default)]
pub struct Names {
    now: BTreeMap<String, InodeId>,
    safe: BTreeMap<String, InodeId>,
    pending: Vec<Change>,
}

/// The file of this name, and all below it as a directory.
fn tree(names: &BTreeMap<String, InodeId>, path: &str) -> Vec<String> {
    let below = format!("{path}/");
    let inside = names
        .keys()
        .filter(|name| *name == path || name.starts_with(&below));
    inside.cloned().collect()
}

fn apply(names: &mut BTreeMap<String, InodeId>, change: &Change) {
    match change {
        Change::Link(path, inode) => {
            names.insert(path.clone(), *inode);
        }
        Change::Unlink(path) => {
            names.remove(path);
        }
        Change::Move(from, to) => {
            for path in tree(names, from) {
                if let Some(inode) = names.remove(&path) {
                    names.insert(path.replacen(from, to, 1), inode);
                }
            }
        }
        Change::Cut(..) => {}
    }
}

impl Names {
    pub fn find(&self, path: &str) -> Option<InodeId> {
        self.now.get(path).copied()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&String, InodeId)> {
        self.now.iter().map(|(path, inode)| (path, *inode))
    }

    /// The file of this name, and all below it as a directory.
    pub fn tree(&self, path: &str) -> Vec<String> {
        tree(&self.now, path)
    }

    /// The kernel has done it; what power loss leaves of it is open.
    pub fn change(&mut self, media: &mut Media, change: Change) {
        apply(&mut self.now, &change);
        if let Change::Cut(inode, size) = &change {
            media.cut(*inode, *size);
        }
        self.pending.push(change);
    }

    /// Everything so far is safe.
    pub fn commit(&mut self, media: &mut Media) {
        self.commit_front(media, self.pending.len());
    }

    /// A sync of a file that is new makes its name safe, and what came before that.
    pub fn commit_link_of(&mut self, media: &mut Media, inode: InodeId) {
        let is_its_link = |change: &Change| matches!(change, Change::Link(_, of) if *of == inode);
        if let Some(at) = self.pending.iter().rposition(is_its_link) {
            self.commit_front(media, at + 1);
        }
    }

    fn commit_front(&mut self, media: &mut Media, count: usize) {
        for change in self.pending.drain(..count) {
            apply(&mut self.safe, &change);
            if let Change::Cut(inode, size) = change {
                media.cut_safely(inode, size);
            }
        }
    }

    /// Changes that are not safe.
    pub fn at_risk(&self) -> usize {
        self.pending.len()
    }

    /// Power loss: so many of the changes at risk are there.
    pub fn lose_power(&mut self, media: &mut Media, kept: usize) {
        self.commit_front(media, kept);
        self.pending.clear();
        self.now = self.safe.clone();
    }
}

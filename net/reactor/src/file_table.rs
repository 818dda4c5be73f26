//! Files by id: paths, and descriptors that are opened when first used and closed when too many are
//! open.
//!
//! Each file has up to three descriptors: for direct writes, for direct writes that are their own
//! barrier (O_DSYNC), and a buffered one for sendfile (which would bypass the page cache on a direct
//! one). A file that is detached while sends or operations still need it stays until they are done.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use highwater_base::disk::FileId;
use monoio::fs::File;

use crate::config::DirectIo;
use crate::probe;

#[derive(Debug)]
struct Entry {
    path: PathBuf,
    /// Its name until a rename is done.
    former: Option<PathBuf>,
    plain: Option<Rc<File>>,
    durable: Option<Rc<File>>,
    read: Option<Rc<File>>,
    last_use: u64,
    /// Sends and operations queued that name it.
    holds: usize,
    detached: bool,
}

impl Entry {
    fn open_count(&self) -> usize {
        [&self.plain, &self.durable, &self.read]
            .into_iter()
            .flatten()
            .count()
    }

    /// The rename may happen between two looks, so the final name is looked for twice.
    fn open_by_name(&self, write: bool, flags: libc::c_int) -> io::Result<std::fs::File> {
        let mut options = OpenOptions::new();
        options.read(true).write(write).custom_flags(flags);
        let missing = |result: &io::Result<_>| {
            let kind = result.as_ref().err().map(io::Error::kind);
            kind == Some(io::ErrorKind::NotFound)
        };
        let mut opened = options.open(&self.path);
        if let Some(former) = self.former.as_ref().filter(|_| missing(&opened)) {
            opened = options.open(former);
            if missing(&opened) {
                opened = options.open(&self.path);
            }
        }
        opened
    }

    fn close_idle(&mut self) -> usize {
        let mut closed = 0;
        for place in [&mut self.plain, &mut self.durable, &mut self.read] {
            if place
                .as_ref()
                .is_some_and(|file| Rc::strong_count(file) == 1)
            {
                *place = None;
                closed += 1;
            }
        }
        closed
    }
}

/// The files of one core.
#[derive(Debug)]
pub(crate) struct FileTable {
    root: PathBuf,
    direct: DirectIo,
    entries: BTreeMap<FileId, Entry>,
    open: usize,
    open_max: usize,
    clock: u64,
}

impl FileTable {
    pub fn new(root: PathBuf, direct: DirectIo, open_max: usize) -> FileTable {
        FileTable {
            root,
            direct,
            entries: BTreeMap::new(),
            open: 0,
            open_max,
            clock: 0,
        }
    }

    /// Descriptors that are open.
    pub fn open_count(&self) -> usize {
        self.open
    }

    /// The path of a request, below the data directory.
    pub fn full_path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// The path of a file and the one it may still have.
    pub fn paths(&self, file: FileId) -> Option<(PathBuf, Option<PathBuf>)> {
        let entry = self.entries.get(&file)?;
        Some((entry.path.clone(), entry.former.clone()))
    }

    /// Names a file. For a known id it is another name of the same file: descriptors and sends in
    /// progress keep working.
    pub fn attach(&mut self, file: FileId, path: &str, former: Option<&str>) {
        let path = self.full_path(path);
        let former = former.map(|former| self.full_path(former));
        if let Some(entry) = self.entries.get_mut(&file) {
            entry.path = path;
            entry.former = former;
            entry.detached = false;
            return;
        }
        let entry = Entry {
            path,
            former,
            plain: None,
            durable: None,
            read: None,
            last_use: 0,
            holds: 0,
            detached: false,
        };
        self.entries.insert(file, entry);
    }

    pub fn detach(&mut self, file: FileId) {
        let Some(entry) = self.entries.get_mut(&file) else {
            return;
        };
        entry.detached = true;
        if entry.holds == 0 || cfg!(mutant = "R07") {
            self.forget(file);
        }
    }

    fn forget(&mut self, file: FileId) {
        if let Some(entry) = self.entries.remove(&file) {
            self.open -= entry.open_count();
        }
    }

    /// A send that names the file is queued: its descriptor is opened now, before a removal that may
    /// follow.
    pub fn hold_for_send(&mut self, file: FileId) {
        // An error shows when the send comes to it.
        let _ = self.for_send(file);
        self.hold(file);
    }

    /// Something is queued that names the file: its id stays known until `release`.
    pub fn hold(&mut self, file: FileId) {
        if let Some(entry) = self.entries.get_mut(&file) {
            entry.holds += 1;
        }
    }

    pub fn release(&mut self, file: FileId) {
        let Some(entry) = self.entries.get_mut(&file) else {
            return;
        };
        entry.holds = entry.holds.saturating_sub(1);
        if entry.holds == 0 && entry.detached {
            self.forget(file);
        }
    }

    /// The descriptor for sendfile.
    pub fn for_send(&mut self, file: FileId) -> io::Result<Rc<File>> {
        self.open(file, |entry| &mut entry.read, false, 0)
    }

    /// The descriptor for writes and reads by direct I/O; `durable` writes are their own barrier.
    pub fn for_io(&mut self, file: FileId, durable: bool) -> io::Result<Rc<File>> {
        let direct = match self.direct {
            DirectIo::Direct => libc::O_DIRECT,
            DirectIo::Buffered => 0,
        };
        if durable {
            let own_barrier = match cfg!(mutant = "R01") {
                true => 0,
                false => libc::O_DSYNC,
            };
            let flags = direct | own_barrier;
            self.open(file, |entry| &mut entry.durable, true, flags)
        } else {
            self.open(file, |entry| &mut entry.plain, true, direct)
        }
    }

    fn open(
        &mut self,
        file: FileId,
        place: impl Fn(&mut Entry) -> &mut Option<Rc<File>>,
        write: bool,
        flags: libc::c_int,
    ) -> io::Result<Rc<File>> {
        self.clock += 1;
        let clock = self.clock;
        let entry = self.entries.get_mut(&file).ok_or(io::ErrorKind::NotFound)?;
        entry.last_use = clock;
        if let Some(open) = place(entry) {
            return Ok(Rc::clone(open));
        }
        let opened = entry.open_by_name(write, flags)?;
        if flags & libc::O_DIRECT != 0 {
            require_direct(&opened, &entry.path)?;
        }
        if !write {
            // Read-ahead is asked for explicitly, never beyond what may be read.
            // SAFETY: no memory is involved.
            unsafe { libc::posix_fadvise(opened.as_raw_fd(), 0, 0, libc::POSIX_FADV_RANDOM) };
        }
        let opened = Rc::new(File::from_std(opened)?);
        *place(entry) = Some(Rc::clone(&opened));
        self.open += 1;
        if self.open > self.open_max {
            self.close_least_used();
        }
        Ok(opened)
    }

    /// Closes the least recently used idle descriptors, an eighth of the bound at once.
    fn close_least_used(&mut self) {
        let mut by_use: Vec<(u64, FileId)> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.holds == 0 && entry.open_count() > 0)
            .map(|(file, entry)| (entry.last_use, *file))
            .collect();
        by_use.sort_unstable();
        let wanted = (self.open_max / 8).max(1);
        let mut closed = 0;
        for (_, file) in by_use {
            if closed >= wanted {
                break;
            }
            if let Some(entry) = self.entries.get_mut(&file) {
                closed += entry.close_idle();
            }
        }
        self.open -= closed;
    }
}

/// A file that went buffered behind our back (a flag set on it, a mount remounted) would keep in
/// memory what is taken to be on the device: better no write at all.
fn require_direct(opened: &std::fs::File, path: &Path) -> io::Result<()> {
    let facts = probe::of_file(opened)?;
    match probe::why_buffered(&facts) {
        None => Ok(()),
        Some(why) => {
            tracing::error!(
                file = %path.display(),
                %why,
                "the file is opened for direct I/O, which its directory had when the node started; \
                 a start of the node looks at the directories again, and a copy of the file takes \
                 its place without such a flag"
            );
            Err(io::ErrorKind::Unsupported.into())
        }
    }
}

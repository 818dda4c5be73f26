//! A node that does disk operations at a test's word.

use std::cell::RefCell;
use std::fs;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};

use highwater_base::AlignedBuffer;
use highwater_base::disk::{DiskCompletion, DiskError, DiskOperation, FileId};
use highwater_reactor::{ConnectionId, Frame, FrameVerdict, Outbox, ReactorConfig};

use super::{Client, Node, Script, ask_disk, heard};

pub const BLOCK: usize = 4096;

/// What a test wants done in one turn; travels to the core through a channel, because buffers do not
/// leave theirs.
type Job = Box<dyn FnOnce(&mut Outbox<()>) + Send>;

/// Runs one job a frame and tells every completion, with the bytes of a read.
struct Works {
    jobs: Receiver<Job>,
    ends: Sender<(u64, Result<usize, DiskError>)>,
}

impl Script for Works {
    type Message = ();

    fn frame(&mut self, _: ConnectionId, _: &Frame<'_>, out: &mut Outbox<()>) -> FrameVerdict {
        heard(&self.jobs)(out);
        FrameVerdict::Continue
    }

    fn disk(&mut self, completion: DiskCompletion, _: &mut Outbox<()>) {
        let _ = self.ends.send((completion.token.0, completion.result));
    }
}

pub struct Disk {
    pub node: Node,
    client: Client,
    jobs: Sender<Job>,
    pub ends: Receiver<(u64, Result<usize, DiskError>)>,
}

impl Disk {
    pub fn start() -> Disk {
        Disk::start_with(|_| {})
    }

    /// With settings changed by `change`.
    pub fn start_with(change: impl FnOnce(&mut ReactorConfig)) -> Disk {
        let (jobs, taken) = channel();
        let (told, ends) = channel();
        let works = std::sync::Mutex::new(Some(Works {
            jobs: taken,
            ends: told,
        }));
        let node = Node::start_with(1, change, move |_| {
            let works = works.lock().expect("one core").take();
            works.expect("made once")
        });
        let client = node.client(0);
        Disk {
            node,
            client,
            jobs,
            ends,
        }
    }

    pub fn ask(&mut self, job: impl FnOnce(&mut Outbox<()>) + Send + 'static) {
        self.jobs.send(Box::new(job)).expect("the core listens");
        self.client.send(b"");
    }

    /// One operation and its result.
    pub fn run(
        &mut self,
        operation: impl FnOnce() -> DiskOperation + Send + 'static,
    ) -> Result<usize, DiskError> {
        self.ask(|out| ask_disk(out, 42, operation()));
        let (token, result) = heard(&self.ends);
        assert_eq!(token, 42);
        result
    }

    pub fn attach(&mut self, file: u32, path: &'static str) {
        self.ask(move |out| ask_disk(out, 0, attach(file, path)));
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.node.directory.join(path)
    }

    pub fn bytes(&self, path: &str) -> Vec<u8> {
        fs::read(self.path(path)).expect("the file is there")
    }
}

pub fn attach(file: u32, path: &str) -> DiskOperation {
    DiskOperation::Attach {
        file: FileId(file),
        path: path.to_string(),
        former: None,
    }
}

/// Names a file that is to be renamed.
pub fn attach_to_be_renamed(file: u32, path: &str, former: &str) -> DiskOperation {
    DiskOperation::Attach {
        file: FileId(file),
        path: path.to_string(),
        former: Some(former.to_string()),
    }
}

pub fn buffer_of(bytes: &[u8]) -> Rc<AlignedBuffer> {
    let buffer = AlignedBuffer::with_capacity(bytes.len());
    buffer.append(bytes);
    Rc::new(buffer)
}

pub fn create(file: u32, size_bytes: u64, first: &[u8]) -> DiskOperation {
    DiskOperation::Create {
        file: FileId(file),
        size_bytes,
        first_block: buffer_of(first),
        first_len: first.len(),
    }
}

pub fn write(file: u32, offset: u64, bytes: &[u8], durable: bool) -> DiskOperation {
    DiskOperation::Write {
        file: FileId(file),
        offset,
        buffer: buffer_of(bytes),
        start: 0,
        len: bytes.len().next_multiple_of(BLOCK),
        durable,
    }
}

pub fn rename(from: &str, to: &str) -> DiskOperation {
    DiskOperation::Rename {
        from: from.to_string(),
        to: to.to_string(),
    }
}

thread_local! {
    /// The buffer of the last read, on the core's thread.
    static READ: RefCell<Option<Rc<AlignedBuffer>>> = const { RefCell::new(None) };
}

/// Reads, and checks the bytes on the core.
pub fn check_read(disk: &mut Disk, file: u32, offset: u64, len: usize, wanted: Vec<u8>) {
    let result = disk.run(move || {
        let buffer = Rc::new(AlignedBuffer::with_capacity(len));
        READ.set(Some(Rc::clone(&buffer)));
        DiskOperation::Read {
            file: FileId(file),
            offset,
            len,
            buffer,
            aside: false,
        }
    });
    assert_eq!(result, Ok(wanted.len()));
    let (checked, result) = channel();
    disk.ask(move |_| {
        let buffer = READ.take().expect("a read ended");
        let same = buffer.filled() == wanted.len() && buffer.slice(0, wanted.len()) == wanted;
        let _ = checked.send(same);
    });
    assert!(heard(&result), "the bytes at {offset}");
}

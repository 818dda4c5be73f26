//! Disk requests in the ring: writes, reads, flushes and zeroing by direct I/O.
//!
//! A fixed set of worker tasks takes requests from a queue, so that no task is made per write.
//! Zeroing has a worker of its own, one chunk at a time, so that it never starves appends, and so have
//! reads that nobody waits for: one at a time, in the gaps between writes ([`DurableWrites`]).
//!
//! [`DurableWrites`]: crate::durable_writes::DurableWrites

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use highwater_base::AlignedBuffer;
use highwater_base::disk::{DiskCompletion, DiskOperation, DiskRequest, DiskToken, FileId};
use monoio::buf::{IoBuf, IoBufMut};
use monoio::fs::File;

use crate::blocking::{Task, disk_error};
use crate::core_loop::Core;
use crate::service::Service;
use crate::signal::Signal;
use crate::stable_write::{Piece, PrivateCopy};

/// Bytes zeroed by one write.
const ZERO_CHUNK_BYTES: usize = 1024 * 1024;

/// Requests that wait for a worker.
#[derive(Debug, Default)]
pub(crate) struct DiskQueues {
    hot: Queue,
    zero: Queue,
    aside: Queue,
}

#[derive(Debug, Default)]
struct Queue {
    requests: RefCell<VecDeque<DiskRequest>>,
    idle_workers: RefCell<Vec<Waker>>,
}

impl Queue {
    fn push(&self, request: DiskRequest) {
        self.requests.borrow_mut().push_back(request);
        if let Some(worker) = self.idle_workers.borrow_mut().pop() {
            worker.wake();
        }
    }

    async fn next(&self) -> DiskRequest {
        poll_fn(|context| match self.requests.borrow_mut().pop_front() {
            Some(request) => Poll::Ready(request),
            None => {
                self.idle_workers.borrow_mut().push(context.waker().clone());
                Poll::Pending
            }
        })
        .await
    }
}

/// Names files before anything else of the turn may use them.
pub(crate) fn attach<S: Service>(core: &Core<S>, requests: &mut Vec<DiskRequest>) {
    let mut files = core.files.borrow_mut();
    for request in requests.iter() {
        if let DiskOperation::Attach { file, path, former } = &request.operation {
            files.attach(*file, path, former.as_deref());
        }
    }
    drop(files);
    requests.retain(|request| !matches!(request.operation, DiskOperation::Attach { .. }));
}

/// Starts everything else.
pub(crate) fn dispatch<S: Service>(core: &Rc<Core<S>>, requests: &mut Vec<DiskRequest>) {
    for request in requests.drain(..) {
        let token = request.token;
        match request.operation {
            DiskOperation::Attach { .. } => unreachable!("attached before"),
            DiskOperation::Detach { file } => core.files.borrow_mut().detach(file),
            DiskOperation::Write { file, durable, .. } => {
                if durable {
                    core.durable_writes.started();
                }
                core.files.borrow_mut().hold(file);
                core.disk.hot.push(request);
            }
            DiskOperation::Read {
                file, aside: true, ..
            } => {
                core.files.borrow_mut().hold(file);
                core.disk.aside.push(request);
            }
            DiskOperation::Read { file, .. } | DiskOperation::Flush { file } => {
                core.files.borrow_mut().hold(file);
                core.disk.hot.push(request);
            }
            DiskOperation::Zero { file, .. } => {
                core.files.borrow_mut().hold(file);
                core.disk.zero.push(request);
            }
            DiskOperation::Create {
                file,
                size_bytes,
                first_block,
                first_len,
            } => {
                let first = first_block
                    .slice(0, first_len.min(first_block.filled()))
                    .to_vec();
                with_paths(core, token, file, |path, former| Task::Create {
                    path: former.unwrap_or(path),
                    size_bytes,
                    first,
                });
            }
            DiskOperation::Truncate { file, size_bytes } => {
                with_paths(core, token, file, |path, former| Task::Truncate {
                    path,
                    former,
                    size_bytes,
                });
            }
            DiskOperation::WriteWhole { path, bytes } => {
                let path = core.files.borrow().full_path(&path);
                core.blocking
                    .submit(token, Task::WriteWhole { path, bytes });
            }
            DiskOperation::Rename { from, to } => {
                let files = core.files.borrow();
                let (from, to) = (files.full_path(&from), files.full_path(&to));
                core.blocking.submit(token, Task::Rename { from, to });
            }
            DiskOperation::Remove { path } => {
                let path = core.files.borrow().full_path(&path);
                core.blocking.submit(token, Task::Remove { path });
            }
        }
    }
}

fn with_paths<S: Service>(
    core: &Rc<Core<S>>,
    token: DiskToken,
    file: FileId,
    task: impl FnOnce(PathBuf, Option<PathBuf>) -> Task,
) {
    let paths = core.files.borrow().paths(file);
    match paths {
        Some((path, former)) => core.blocking.submit(token, task(path, former)),
        None => {
            let result = Err(highwater_base::disk::DiskError::NotFound);
            core.blocking
                .doorbell
                .push_completion(DiskCompletion { token, result });
        }
    }
}

/// Starts the workers of a core.
pub(crate) fn start<S: Service>(core: &Rc<Core<S>>) {
    for _ in 0..core.config.disk_operations_max.max(1) {
        let core = Rc::clone(core);
        monoio::spawn(async move { work(&core).await });
    }
    let zeroing = Rc::clone(core);
    monoio::spawn(async move { zero_work(&zeroing).await });
    let core = Rc::clone(core);
    monoio::spawn(async move { aside_work(&core).await });
}

/// Reads that nobody waits for, in the gaps that cold reads wait for too.
async fn aside_work<S: Service>(core: &Rc<Core<S>>) {
    let turn = Rc::new(Signal::default());
    let mut private = PrivateCopy::default();
    loop {
        let request = core.disk.aside.next().await;
        let gap = core.durable_writes.gap(&turn).await;
        serve(core, request, &mut private).await;
        drop(gap);
    }
}

async fn work<S: Service>(core: &Rc<Core<S>>) {
    let mut private = PrivateCopy::default();
    loop {
        let request = core.disk.hot.next().await;
        serve(core, request, &mut private).await;
    }
}

async fn serve<S: Service>(core: &Rc<Core<S>>, request: DiskRequest, private: &mut PrivateCopy) {
    let token = request.token;
    let (file, durable) = match &request.operation {
        DiskOperation::Write { file, durable, .. } => (*file, *durable),
        DiskOperation::Read { file, .. } | DiskOperation::Flush { file } => (*file, false),
        other => unreachable!("{other:?} does not go through the ring"),
    };
    let result = perform(core, request.operation, private)
        .await
        .map_err(|error| disk_error(&error));
    core.files.borrow_mut().release(file);
    if durable {
        core.durable_writes.ended();
    }
    let completion = DiskCompletion { token, result };
    core.step(|service, now, out| service.on_disk(now, completion, out));
}

async fn perform<S: Service>(
    core: &Rc<Core<S>>,
    operation: DiskOperation,
    private: &mut PrivateCopy,
) -> io::Result<usize> {
    match operation {
        DiskOperation::Write {
            file,
            offset,
            buffer,
            start,
            len,
            durable,
        } => {
            let file = core.files.borrow_mut().for_io(file, durable)?;
            assert!(
                start + len <= buffer.capacity(),
                "a write stays within its buffer"
            );
            let (kept, copied) = private.pieces_of(Piece {
                buffer,
                start,
                len,
                offset,
            });
            write_pieces(&file, kept, copied).await.map(|()| len)
        }
        DiskOperation::Read {
            file,
            offset,
            len,
            buffer,
            aside: _,
        } => {
            let file = core.files.borrow_mut().for_io(file, false)?;
            read_all(&file, &buffer, len, offset).await
        }
        DiskOperation::Flush { file } => {
            let file = core.files.borrow_mut().for_io(file, false)?;
            file.sync_data().await.map(|()| 0)
        }
        other => unreachable!("{other:?} does not go through the ring"),
    }
}

/// Writes both pieces at once and ends when both are written.
async fn write_pieces(file: &File, first: Option<Piece>, second: Option<Piece>) -> io::Result<()> {
    let (first, second) = match (first, second) {
        (Some(first), Some(second)) => (first, second),
        (Some(one), None) | (None, Some(one)) => return write_all(file, &one).await,
        (None, None) => return Ok(()),
    };
    let (mut first, mut second) = (
        pin!(write_all(file, &first)),
        pin!(write_all(file, &second)),
    );
    let (mut first_end, mut second_end) = (None, None);
    poll_fn(|context| {
        if first_end.is_none()
            && let Poll::Ready(end) = first.as_mut().poll(context)
        {
            first_end = Some(end);
        }
        if second_end.is_none()
            && let Poll::Ready(end) = second.as_mut().poll(context)
        {
            second_end = Some(end);
        }
        match first_end.is_some() && second_end.is_some() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
    first_end.into_iter().chain(second_end).collect()
}

/// Writes all of a piece: what the kernel leaves of it is written by a further call.
async fn write_all(file: &File, piece: &Piece) -> io::Result<()> {
    let Piece {
        buffer,
        start,
        len,
        offset,
    } = piece;
    let (start, len, offset) = (*start, *len, *offset);
    let mut done = 0;
    while done < len {
        let slice = WriteSlice {
            buffer: Rc::clone(buffer),
            start: start + done,
            len: len - done,
        };
        let (result, _) = file.write_at(slice, offset + done as u64).await;
        match result {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn read_all(
    file: &File,
    buffer: &Rc<AlignedBuffer>,
    len: usize,
    offset: u64,
) -> io::Result<usize> {
    assert!(
        len <= buffer.capacity() && buffer.filled() == 0,
        "a read fills an empty buffer"
    );
    let mut done = 0;
    while done < len {
        let slice = ReadSlice {
            buffer: Rc::clone(buffer),
            start: done,
            len: len - done,
        };
        let (result, _) = file.read_at(slice, offset + done as u64).await;
        match result {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer.set_filled(done);
    Ok(done)
}

async fn zero_work<S: Service>(core: &Rc<Core<S>>) {
    let zeros = Rc::new(AlignedBuffer::with_capacity(ZERO_CHUNK_BYTES));
    loop {
        let request = core.disk.zero.next().await;
        let token = request.token;
        let DiskOperation::Zero { file, offset, len } = request.operation else {
            unreachable!("only zeroing is queued here");
        };
        let result = zero(core, &zeros, file, offset, len).await;
        core.files.borrow_mut().release(file);
        let completion = DiskCompletion {
            token,
            result: result.map_err(|error| disk_error(&error)),
        };
        core.step(|service, now, out| service.on_disk(now, completion, out));
    }
}

async fn zero<S: Service>(
    core: &Rc<Core<S>>,
    zeros: &Rc<AlignedBuffer>,
    file: FileId,
    offset: u64,
    len: u64,
) -> io::Result<usize> {
    let file = core.files.borrow_mut().for_io(file, false)?;
    let mut done = 0;
    while done < len {
        let chunk = (len - done).min(ZERO_CHUNK_BYTES as u64) as usize;
        let piece = Piece {
            buffer: Rc::clone(zeros),
            start: 0,
            len: chunk,
            offset: offset + done,
        };
        write_all(&file, &piece).await?;
        done += chunk as u64;
    }
    // The extents just written become part of the file for good.
    match cfg!(mutant = "R05") {
        true => Ok(0),
        false => file.sync_data().await.map(|()| 0),
    }
}

/// A range of a buffer the kernel writes to a file; may reach beyond the filled part (padding).
struct WriteSlice {
    buffer: Rc<AlignedBuffer>,
    start: usize,
    len: usize,
}

// SAFETY: the memory is fully initialised, does not move and lives as long as the buffer's count;
// the range was checked in `perform`. Nobody writes to it meanwhile: see `stable_write`.
unsafe impl IoBuf for WriteSlice {
    fn read_ptr(&self) -> *const u8 {
        // SAFETY: `start` is within the buffer.
        unsafe { self.buffer.as_ptr().add(self.start) }
    }

    fn bytes_init(&self) -> usize {
        self.len
    }
}

/// A range of an empty buffer the kernel reads into.
struct ReadSlice {
    buffer: Rc<AlignedBuffer>,
    start: usize,
    len: usize,
}

// SAFETY: as for `WriteSlice`; nobody reads the bytes before `set_filled` says they are there.
unsafe impl IoBufMut for ReadSlice {
    fn write_ptr(&mut self) -> *mut u8 {
        // SAFETY: `start` is within the buffer.
        unsafe { self.buffer.as_ptr().add(self.start) }
    }

    fn bytes_total(&mut self) -> usize {
        self.len
    }

    unsafe fn set_init(&mut self, _pos: usize) {}
}

//! Sends what is queued on a connection: memory pieces gathered into one system call, files by
//! sendfile.
//!
//! The turn sends what it can at once ([`flush`]): an answer leaves without another round through
//! the ring. What does not fit the socket, and everything from files, is the writer task's, which
//! is started when a connection first needs one.

use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{FromRawFd, IntoRawFd, RawFd};
use std::rc::Rc;

use highwater_base::disk::FileId;
use monoio::net::TcpStream;

use crate::connection::Connection;
use crate::core_loop::Core;
use crate::outbox::SendPiece;
use crate::send_file::{self, Socket};
use crate::service::{CloseReason, Service};

/// Pieces gathered into one call.
const PIECES_PER_CALL_MAX: usize = 64;

/// How far sending got.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    /// Nothing is queued any more.
    Empty,
    /// The socket's buffer is full.
    Full,
    /// The next piece is a file.
    File,
}

/// Sends as much as possible without waiting; the rest goes to the writer task.
pub(crate) fn flush<S: Service>(core: &Rc<Core<S>>, connection: &Rc<Connection<S::Message>>) {
    if connection.ended.get() || connection.writer_busy.get() {
        return;
    }
    match send_memory(core, connection) {
        Ok(Progress::Empty) => drained(core, connection),
        Ok(Progress::Full | Progress::File) => wake_writer(core, connection),
        Err(error) => fail(core, connection, &error),
    }
}

fn fail<S: Service>(core: &Core<S>, connection: &Connection<S::Message>, error: &io::Error) {
    connection.close(CloseReason::new(format!("sending failed: {error}")));
    let_go(core, connection);
    connection.shut_down();
}

/// Forgets what is queued; files that were kept for it may be closed.
pub(crate) fn let_go<S: Service>(core: &Core<S>, connection: &Connection<S::Message>) {
    for piece in connection.queue.borrow_mut().drain(..) {
        if let SendPiece::File { file, .. } = piece {
            core.files.borrow_mut().release(file);
        }
    }
    connection.queued_bytes.set(0);
    connection.sent.set(0);
}

fn drained<S: Service>(core: &Rc<Core<S>>, connection: &Connection<S::Message>) {
    core.step(|service, now, out| service.on_drained(now, connection.id, out));
    if connection.closing.borrow().is_some() {
        connection.shut_down();
    }
    connection.reader.set();
}

fn wake_writer<S: Service>(core: &Rc<Core<S>>, connection: &Rc<Connection<S::Message>>) {
    if !connection.writer_started.replace(true) {
        let (core, connection) = (Rc::clone(core), Rc::clone(connection));
        monoio::spawn(async move { run(core, connection).await });
        return;
    }
    connection.writer.set();
}

/// Sends memory pieces from the front of the queue until a file, a full socket or the end.
fn send_memory<S: Service>(
    core: &Rc<Core<S>>,
    connection: &Connection<S::Message>,
) -> io::Result<Progress> {
    let mut queue = connection.queue.borrow_mut();
    loop {
        match queue.front() {
            None => return Ok(Progress::Empty),
            Some(SendPiece::File { .. }) => return Ok(Progress::File),
            Some(_) => {}
        }
        match send_gathered(connection.fd, &queue, connection.sent.get())? {
            None => return Ok(Progress::Full),
            Some(count) => {
                connection
                    .queued_bytes
                    .set(connection.queued_bytes.get() - count);
                let left = advance(core, &mut queue, connection.sent.get() + count);
                connection.sent.set(left);
            }
        }
    }
}

/// Drops `sent` bytes from the front of the queue; returns how far into the new front they reach.
fn advance<S: Service>(core: &Core<S>, queue: &mut VecDeque<SendPiece>, mut sent: usize) -> usize {
    while let Some(front) = queue.front() {
        if sent < front.len() {
            break;
        }
        sent -= front.len();
        if let Some(SendPiece::Bytes(bytes)) = queue.pop_front() {
            core.outbox(|out| out.recycle(bytes));
        }
    }
    sent
}

/// One sendmsg over the memory pieces at the front. `None` when the socket is full.
fn send_gathered(fd: RawFd, queue: &VecDeque<SendPiece>, skip: usize) -> io::Result<Option<usize>> {
    let empty = libc::iovec {
        iov_base: std::ptr::null_mut(),
        iov_len: 0,
    };
    let mut vectors = [empty; PIECES_PER_CALL_MAX];
    let mut count = 0;
    let mut more = false;
    for (at, piece) in queue.iter().enumerate() {
        let bytes = match piece {
            SendPiece::Bytes(bytes) => bytes.as_slice(),
            SendPiece::Memory(slice) => slice.bytes(),
            SendPiece::Shared(slice) => slice.bytes(),
            SendPiece::File { .. } => {
                more = true;
                break;
            }
        };
        if count == PIECES_PER_CALL_MAX {
            more = true;
            break;
        }
        let bytes = if at == 0 { &bytes[skip..] } else { bytes };
        vectors[count] = libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        };
        count += 1;
    }
    // SAFETY: an all-zero msghdr is a valid empty one.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = vectors.as_mut_ptr();
    message.msg_iovlen = count as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | if more { libc::MSG_MORE } else { 0 };
    // SAFETY: the vectors point at bytes that live in `queue` for the whole call, and the kernel
    // only reads them.
    let sent = unsafe { libc::sendmsg(fd, &message, flags) };
    if sent >= 0 {
        return Ok(Some(sent as usize));
    }
    let error = io::Error::last_os_error();
    match error.kind() {
        io::ErrorKind::WouldBlock => Ok(None),
        io::ErrorKind::Interrupted => Ok(Some(0)),
        _ => Err(error),
    }
}

/// The writer task: waits for room in the socket, sends files.
async fn run<S: Service>(core: Rc<Core<S>>, connection: Rc<Connection<S::Message>>) {
    if connection.ended.get() {
        return let_go(&core, &connection);
    }
    // A second view of the reader's descriptor, to wait on: the reader closes it only when this task
    // is not busy any more, and the view never does.
    // SAFETY: the descriptor is open, and `view` is let go without closing it.
    let stream = unsafe { std::net::TcpStream::from_raw_fd(connection.fd) };
    let view = TcpStream::from_std(stream).expect("the ring knows every descriptor");
    let view = ManuallyDrop::new(view);
    let mut sender = send_file::Sender::new(&core.config);
    while !connection.ended.get() {
        connection.writer_busy.set(true);
        let result = send_all(&core, &connection, &view, &mut sender).await;
        connection.writer_busy.set(false);
        if connection.ended.get() {
            break;
        }
        match result {
            Ok(()) => drained(&core, &connection),
            Err(error) => fail(&core, &connection, &error),
        }
        connection.writer.wait().await;
    }
    let_go(&core, &connection);
    let _ = ManuallyDrop::into_inner(view).into_raw_fd();
    connection.reader.set();
}

/// The host hears of bytes that cannot be sent.
fn bad_range<S: Service>(core: &Rc<Core<S>>, file: FileId, position: u64) {
    core.step(|service, now, out| service.on_bad_range(now, file, position, out));
}

async fn send_all<S: Service>(
    core: &Rc<Core<S>>,
    connection: &Connection<S::Message>,
    stream: &TcpStream,
    sender: &mut send_file::Sender,
) -> io::Result<()> {
    while !connection.ended.get() {
        match send_memory(core, connection)? {
            Progress::Empty => return Ok(()),
            Progress::Full => stream.writable(true).await?,
            Progress::File => {
                let front = match connection.queue.borrow().front() {
                    Some(SendPiece::File {
                        file,
                        offset,
                        len,
                        readable_end,
                        head,
                    }) => (*file, *offset, *len, *readable_end, *head),
                    _ => continue,
                };
                let (file, offset, len, readable_end, head) = front;
                let done = connection.sent.get();
                let position = offset + done as u64;
                let source = core.files.borrow_mut().for_send(file);
                let source = source.inspect_err(|_| bad_range(core, file, position))?;
                let range = position..offset + len as u64;
                let head = head.filter(|_| done == 0);
                let socket = Socket {
                    fd: connection.fd,
                    stream,
                };
                let places = (&core.file_turns, &core.durable_writes);
                let sent = sender.send(places, &source, socket, (range, head), readable_end);
                let count = match sent.await {
                    Err(error) if send_file::is_of_file(&error) => {
                        bad_range(core, file, position);
                        return Err(error);
                    }
                    sent => sent?,
                };
                if core.durable_writes.any() {
                    // The kernel worker that finishes the write may need this very CPU.
                    std::thread::yield_now();
                }
                connection
                    .queued_bytes
                    .set(connection.queued_bytes.get() - count);
                let sent = done + count;
                if sent == len {
                    connection.queue.borrow_mut().pop_front();
                    connection.sent.set(0);
                    core.files.borrow_mut().release(file);
                } else {
                    connection.sent.set(sent);
                }
                connection.reader.set();
            }
        }
    }
    Ok(())
}

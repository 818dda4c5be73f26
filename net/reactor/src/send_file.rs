//! Zero-copy from a file to a socket, without ever blocking the core on a cold page.
//!
//! The socket stays blocking, because io_uring answers EAGAIN on non-blocking ones instead of
//! waiting; it is made non-blocking just around sendfile(2). Before a chunk is sent its first and
//! last page are looked for with RWF_NOWAIT; a missing one is waited for by a one-byte read through
//! the ring.
//!
//! Pages are asked for ahead in a window. It covers the range at hand; once ranges follow each other
//! without a gap it runs on beyond it, up to what may be read, so that the disk works while the
//! client digests the last answer.

use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;

use monoio::fs::File;
use monoio::net::TcpStream;

use crate::signal::yield_now;

/// Bytes handed to one sendfile call.
const CHUNK_BYTES: usize = 512 * 1024;
/// How far ahead of the chunk pages are asked for.
const READ_AHEAD_BYTES: u64 = 4 * 1024 * 1024;
/// Pages asked for by one call on a running window: asking costs about 0.2 ms per MiB (allocating
/// pages and submitting the reads), during which the core does nothing else.
const READ_AHEAD_STEP_BYTES: u64 = 512 * 1024;
/// The least that one call asks for, however little the device is set to read ahead.
const WILL_NEED_BYTES_MIN: usize = 128 * 1024;
/// Bytes sent in a row before other connections get their turn.
const FAIR_BYTES: usize = 1024 * 1024;

/// A connection's sequential sending of files.
#[derive(Debug)]
pub(crate) struct Sender {
    /// Bytes of one call that asks for pages: of more, the kernel silently leaves out the rest.
    will_need_bytes: usize,
    /// Descriptor and end of what was sent last.
    sent: Option<(RawFd, u64)>,
    /// Descriptor and end of what was asked for ahead.
    ahead: Option<(RawFd, u64)>,
    probe: Vec<u8>,
}

impl Sender {
    pub fn new(read_ahead_bytes: usize) -> Sender {
        Sender {
            will_need_bytes: read_ahead_bytes.max(WILL_NEED_BYTES_MIN),
            sent: None,
            ahead: None,
            probe: Vec::new(),
        }
    }

    /// Sends from the front of `range`; returns how many bytes, at least one. Pages up to
    /// `readable_end` may be asked for ahead.
    pub async fn send(
        &mut self,
        source: &Rc<File>,
        socket: RawFd,
        stream: &TcpStream,
        range: Range<u64>,
        readable_end: u64,
    ) -> io::Result<usize> {
        let file = source.as_raw_fd();
        let sequential = self.sent == Some((file, range.start));
        let ahead_end = match sequential {
            true => readable_end.max(range.end),
            false => range.end,
        };
        let mut at = range.start;
        while at < range.end {
            let chunk_end = range.end.min(at + CHUNK_BYTES as u64);
            self.read_ahead(file, at, ahead_end);
            for page in [at, chunk_end - 1] {
                if !is_resident(file, page) {
                    self.wait_for(source, page).await?;
                }
            }
            match send_chunk(socket, file, at, (chunk_end - at) as usize)? {
                Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Some(count) => at += count as u64,
                None => stream.writable(true).await?,
            }
            if at - range.start >= FAIR_BYTES as u64 {
                yield_now().await;
                break;
            }
        }
        self.sent = Some((file, at));
        Ok((at - range.start) as usize)
    }

    /// Asks for the pages of the window from `at` on that were not asked for yet, never beyond
    /// `end`. Pages that are all there cost two look-ups.
    fn read_ahead(&mut self, file: RawFd, at: u64, end: u64) {
        let from = match self.ahead {
            Some((known, upto)) if known == file && at <= upto && upto <= at + READ_AHEAD_BYTES => {
                upto
            }
            _ => at,
        };
        let upto = end.min(at + READ_AHEAD_BYTES);
        if from >= upto || (from > at && upto - from < READ_AHEAD_STEP_BYTES && upto < end) {
            return;
        }
        self.ahead = Some((file, upto));
        if is_resident(file, from) && is_resident(file, upto - 1) {
            return;
        }
        for piece in (from..upto).step_by(self.will_need_bytes) {
            let len = (self.will_need_bytes as u64).min(upto - piece);
            // SAFETY: no memory is involved.
            unsafe {
                libc::posix_fadvise(
                    file,
                    piece as libc::off_t,
                    len as libc::off_t,
                    libc::POSIX_FADV_WILLNEED,
                );
            }
        }
    }

    /// Waits in the ring until the page at `at` is in memory.
    async fn wait_for(&mut self, source: &Rc<File>, at: u64) -> io::Result<()> {
        let mut probe = std::mem::take(&mut self.probe);
        probe.resize(1, 0);
        let (result, probe) = source.read_at(probe, at).await;
        self.probe = probe;
        result.map(|_| ())
    }
}

/// Whether the page at `at` can be read without waiting.
fn is_resident(file: RawFd, at: u64) -> bool {
    let mut byte = 0u8;
    let vector = libc::iovec {
        iov_base: (&raw mut byte).cast(),
        iov_len: 1,
    };
    // SAFETY: the vector names one byte that lives for the whole call.
    let read = unsafe { libc::preadv2(file, &vector, 1, at as libc::off_t, libc::RWF_NOWAIT) };
    // A kernel or filesystem without RWF_NOWAIT says so; then sendfile may wait, as it would anyway.
    read == 1 || io::Error::last_os_error().raw_os_error() == Some(libc::EOPNOTSUPP)
}

/// One sendfile on a socket made non-blocking for its duration. `None` when the socket is full.
fn send_chunk(socket: RawFd, file: RawFd, at: u64, len: usize) -> io::Result<Option<usize>> {
    let mut offset = at as libc::off_t;
    // SAFETY: plain system calls on open descriptors; `offset` lives for the call.
    let sent = unsafe {
        let flags = libc::fcntl(socket, libc::F_GETFL);
        libc::fcntl(socket, libc::F_SETFL, flags | libc::O_NONBLOCK);
        let sent = libc::sendfile(socket, file, &mut offset, len);
        let error = *libc::__errno_location();
        libc::fcntl(socket, libc::F_SETFL, flags & !libc::O_NONBLOCK);
        *libc::__errno_location() = error;
        sent
    };
    if sent >= 0 {
        return Ok(Some(sent as usize));
    }
    let error = io::Error::last_os_error();
    match error.kind() {
        io::ErrorKind::WouldBlock => Ok(None),
        io::ErrorKind::Interrupted => Ok(None),
        _ => Err(error),
    }
}

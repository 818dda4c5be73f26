//! Zero-copy from a file to a socket, without ever blocking the core on a cold page.
//!
//! The socket stays blocking, because io_uring answers EAGAIN on non-blocking ones instead of
//! waiting; it is made non-blocking just around sendfile(2). Before a chunk is sent its last page is
//! looked for with RWF_NOWAIT; if it is not there, read-ahead is under way and a one-byte read
//! through the ring waits for it.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;

use monoio::fs::File;
use monoio::net::TcpStream;

use crate::signal::yield_now;

/// Bytes handed to one sendfile call.
const CHUNK_BYTES: usize = 512 * 1024;
/// How far ahead of the chunk pages are asked for.
const READ_AHEAD_BYTES: u64 = 4 * 1024 * 1024;
/// Bytes sent in a row before other connections get their turn.
const FAIR_BYTES: usize = 1024 * 1024;

/// A connection's sequential sending of files.
#[derive(Debug, Default)]
pub(crate) struct Sender {
    /// Descriptor and end of what was last asked for ahead.
    ahead: Option<(RawFd, u64)>,
    probe: Vec<u8>,
}

impl Sender {
    /// Sends up to `len` bytes from `offset`; returns how many, at least one.
    pub async fn send(
        &mut self,
        source: &Rc<File>,
        socket: RawFd,
        stream: &TcpStream,
        offset: u64,
        len: usize,
    ) -> io::Result<usize> {
        let file = source.as_raw_fd();
        let mut sent = 0;
        while sent < len {
            let chunk = CHUNK_BYTES.min(len - sent);
            let at = offset + sent as u64;
            if !is_resident(file, at) || !is_resident(file, at + chunk as u64 - 1) {
                self.read_ahead(file, at, offset + len as u64);
                self.wait_for(source, at).await?;
                self.wait_for(source, at + chunk as u64 - 1).await?;
            }
            match send_chunk(socket, file, at, chunk)? {
                Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Some(count) => sent += count,
                None => stream.writable(true).await?,
            }
            if sent >= FAIR_BYTES {
                yield_now().await;
                break;
            }
        }
        Ok(sent)
    }

    /// Asks for pages from `at` on, unless that was done; never beyond `end`, what may be read.
    fn read_ahead(&mut self, file: RawFd, at: u64, end: u64) {
        let from = match self.ahead {
            Some((known, upto)) if known == file && upto > at => {
                if upto - at > READ_AHEAD_BYTES / 2 {
                    return;
                }
                upto
            }
            _ => at,
        };
        let upto = (at + READ_AHEAD_BYTES).min(end);
        if from < upto {
            // SAFETY: no memory is involved.
            unsafe {
                libc::posix_fadvise(
                    file,
                    from as libc::off_t,
                    (upto - from) as libc::off_t,
                    libc::POSIX_FADV_WILLNEED,
                );
            }
            self.ahead = Some((file, upto));
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

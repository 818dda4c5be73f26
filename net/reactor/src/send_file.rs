//! Zero-copy from a file to a socket, without ever blocking the core on a cold page.
//!
//! The socket stays blocking, because io_uring answers EAGAIN on non-blocking ones instead of
//! waiting; it is made non-blocking just around sendfile(2). Before a chunk is sent its first and
//! last page are looked for with cachestat(2) and RWF_NOWAIT; a missing one is waited for by a
//! one-byte read through the ring.
//!
//! Pages are asked for ahead in a window. It covers the range at hand; once ranges follow each other
//! without a gap it runs on beyond it, up to what may be read, so that the disk works while the
//! client digests the last answer. The connections that send files at the same time share the
//! window, and take turns ([`FileTurns`]): of many, each reads no further than its next chunk, and
//! so does each while the core makes records durable ([`DurableWrites`]).
//!
//! Before the first byte of a range leaves, its head is held against what the host knows of it
//! ([`HeadCheck`]): the very bytes that are sent, from the page cache.

use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;

use monoio::fs::File;
use monoio::net::TcpStream;

use crate::config::ReactorConfig;
use crate::counters::{self, Count};
use crate::durable_writes::DurableWrites;
use crate::file_turns::FileTurns;
use crate::outbox::HeadCheck;
use crate::signal::{Signal, yield_now};

/// Bytes handed to one sendfile call, after which other connections get their turn: less than the
/// core needs a third of a millisecond for.
const CHUNK_BYTES: u64 = 256 * 1024;
/// The same while the core makes records durable: a write waits behind one such read at most.
const CHUNK_BESIDE_WRITES_BYTES: u64 = 128 * 1024;
/// Pages asked for by one call on a running window: asking costs about 0.2 ms per MiB (allocating
/// pages and submitting the reads), during which the core does nothing else.
const READ_AHEAD_STEP_BYTES: u64 = 512 * 1024;
/// The least that one call asks for, however little the device is set to read ahead.
const WILL_NEED_BYTES_MIN: usize = 128 * 1024;

/// Of every architecture the engine runs on; libc does not name it on all of them.
const SYS_CACHESTAT: libc::c_long = 451;
/// Numbers in `struct cachestat`; the first counts the pages in the cache.
const CACHESTAT_FIELDS: usize = 5;

/// A connection's sequential sending of files.
#[derive(Debug)]
pub(crate) struct Sender {
    /// Bytes of one call that asks for pages: of more, the kernel silently leaves out the rest.
    will_need_bytes: usize,
    /// How far ahead of a chunk pages are asked for by one that sends alone.
    window_bytes: u64,
    /// Descriptor and end of what was sent last.
    sent: Option<(RawFd, u64)>,
    /// Descriptor and end of what was asked for ahead.
    ahead: Option<(RawFd, u64)>,
    probe: Vec<u8>,
    /// Its turn has come.
    turn: Rc<Signal>,
}

/// Where to send: a descriptor and a view of it to wait on.
#[derive(Clone, Copy)]
pub(crate) struct Socket<'a> {
    pub fd: RawFd,
    pub stream: &'a TcpStream,
}

impl Sender {
    pub fn new(config: &ReactorConfig) -> Sender {
        Sender {
            will_need_bytes: config.read_ahead_bytes.max(WILL_NEED_BYTES_MIN),
            window_bytes: config.cold_read_ahead_bytes as u64,
            sent: None,
            ahead: None,
            probe: Vec::new(),
            turn: Rc::default(),
        }
    }

    /// Sends from the front of `range`, whose head must pass; returns how many bytes, at least one.
    /// Pages up to `readable_end` may be asked for ahead.
    pub async fn send(
        &mut self,
        (turns, writes): (&FileTurns, &DurableWrites),
        source: &Rc<File>,
        socket: Socket<'_>,
        (range, head): (Range<u64>, Option<HeadCheck>),
        readable_end: u64,
    ) -> io::Result<usize> {
        let file = source.as_raw_fd();
        let at = range.start;
        let chunk_bytes = match writes.are_recent() {
            true => CHUNK_BESIDE_WRITES_BYTES,
            false => CHUNK_BYTES,
        };
        let chunk_end = range.end.min(at + chunk_bytes);
        let ahead_end = match self.sent == Some((file, at)) {
            true => readable_end.max(range.end),
            false => range.end,
        };
        let count = loop {
            let turn = turns.take(&self.turn).await;
            let cold = !is_resident(file, at) || !is_resident(file, chunk_end - 1);
            let gap = match cold {
                true => writes.gap(&self.turn).await,
                false => None,
            };
            let share = match writes.are_recent() {
                true => 0,
                false => self.window_bytes / turns.wanted().max(1) as u64,
            };
            if cold || share > 0 {
                self.read_ahead(file, at, ahead_end, share.max(chunk_bytes));
            }
            if cold {
                self.wait_for_chunk(source, at..chunk_end).await?;
            }
            drop(gap);
            if let Some(head) = head {
                self.check_head(source, at, head).await?;
            }
            let sent = send_chunk(socket.fd, file, at, (chunk_end - at) as usize)?;
            drop(turn);
            match sent {
                Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Some(count) => break count,
                None => socket.stream.writable(true).await?,
            }
        };
        yield_now().await;
        self.sent = Some((file, at + count as u64));
        Ok(count)
    }

    /// Asks for the pages of the window from `at` on that were not asked for yet, never beyond
    /// `end`. Pages that are all there cost two look-ups.
    fn read_ahead(&mut self, file: RawFd, at: u64, end: u64, window_bytes: u64) {
        let reach = at + self.window_bytes.max(CHUNK_BYTES);
        let from = match self.ahead {
            Some((known, upto)) if known == file && at <= upto && upto <= reach => upto,
            _ => at,
        };
        let upto = end.min(at + window_bytes);
        if from >= upto || (from > at && upto - from < READ_AHEAD_STEP_BYTES && upto < end) {
            return;
        }
        self.ahead = Some((file, upto));
        if !(is_resident(file, from) && is_resident(file, upto - 1)) {
            self.will_need(file, from..upto);
        }
    }

    fn will_need(&self, file: RawFd, range: Range<u64>) {
        for piece in range.clone().step_by(self.will_need_bytes) {
            let len = (self.will_need_bytes as u64).min(range.end - piece);
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

    /// Waits in the ring until the chunk's first and last page are in memory. Pages that were asked
    /// for may have been dropped again; then the whole chunk is asked for once more, so that
    /// sendfile does not read what lies between by itself.
    async fn wait_for_chunk(&mut self, source: &Rc<File>, chunk: Range<u64>) -> io::Result<()> {
        let file = source.as_raw_fd();
        let ends = [chunk.start, chunk.end - 1];
        if ends.iter().all(|page| is_resident(file, *page)) {
            return Ok(());
        }
        counters::add(Count::ColdReads);
        self.will_need(file, chunk);
        for page in ends {
            if !is_resident(file, page) {
                self.wait_for(source, page).await?;
            }
        }
        Ok(())
    }

    /// Looks at the first bytes of a range. What does not pass leaves the page cache, in case it is
    /// only there that it is wrong.
    async fn check_head(&mut self, source: &Rc<File>, at: u64, head: HeadCheck) -> io::Result<()> {
        let mut bytes = std::mem::take(&mut self.probe);
        bytes.clear();
        bytes.resize(head.bytes, 0);
        let file = source.as_raw_fd();
        let mut passes = read_cached(file, at, &mut bytes) == head.bytes;
        if !passes {
            let result;
            (result, bytes) = source.read_at(bytes, at).await;
            passes = result? == head.bytes;
        }
        passes = passes && (head.accepts)(&bytes, head.facts) || cfg!(mutant = "R50");
        self.probe = bytes;
        if passes {
            return Ok(());
        }
        // SAFETY: no memory is involved.
        unsafe {
            let at = at as libc::off_t;
            libc::posix_fadvise(file, at, 1, libc::POSIX_FADV_DONTNEED);
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the file holds something else than what was to be sent",
        ))
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
    if !is_cached(file, at) {
        return false;
    }
    let read = read_cached(file, at, &mut [0]);
    // A kernel or filesystem without RWF_NOWAIT says so; then sendfile may wait, as it would anyway.
    read == 1 || io::Error::last_os_error().raw_os_error() == Some(libc::EOPNOTSUPP)
}

/// Reads what is in memory, without waiting; how many bytes, none after an error.
fn read_cached(file: RawFd, at: u64, into: &mut [u8]) -> usize {
    let vector = libc::iovec {
        iov_base: into.as_mut_ptr().cast(),
        iov_len: into.len(),
    };
    // SAFETY: the vector names bytes that live for the whole call, and nobody else uses them.
    let read = unsafe { libc::preadv2(file, &vector, 1, at as libc::off_t, libc::RWF_NOWAIT) };
    usize::try_from(read).unwrap_or(0)
}

/// Whether sending failed because of the file and not because of the connection.
pub(crate) fn is_of_file(error: &io::Error) -> bool {
    let kind = error.kind();
    error.raw_os_error() == Some(libc::EIO)
        || kind == io::ErrorKind::UnexpectedEof
        || kind == io::ErrorKind::InvalidData
}

/// Whether the page cache holds the page at `at`, read already or not. Asked first, because looking
/// at a missing page with RWF_NOWAIT starts a read of that page alone.
fn is_cached(file: RawFd, at: u64) -> bool {
    let range = [at, 1];
    let mut found = [0u64; CACHESTAT_FIELDS];
    // SAFETY: cachestat(2), Linux 6.5: both arrays have the layout of its structures, which consist
    // of 64-bit numbers only, and live for the call.
    let result =
        unsafe { libc::syscall(SYS_CACHESTAT, file, range.as_ptr(), found.as_mut_ptr(), 0) };
    // An older kernel does not know the call; the look with RWF_NOWAIT then decides alone.
    result != 0 || found[0] > 0
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

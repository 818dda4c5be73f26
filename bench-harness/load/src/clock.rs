//! The kernel's monotonic clock in nanoseconds, and a wait until a moment of it.
//!
//! One clock for due moments, sending and receipt in all threads. Waiting is a timerfd read through
//! the ring: the runtime's own timers tick in milliseconds.

use std::fs::File as StdFile;
use std::io;
use std::os::fd::FromRawFd;

use monoio::fs::File;

/// Nanoseconds of `CLOCK_MONOTONIC`.
pub fn now_ns() -> u64 {
    read_clock(libc::CLOCK_MONOTONIC)
}

/// Nanoseconds since 1970 of the wall clock, which may step.
pub fn wall_ns() -> u64 {
    read_clock(libc::CLOCK_REALTIME)
}

/// CPU time of the calling thread in nanoseconds.
pub fn thread_cpu_ns() -> u64 {
    read_clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Nanoseconds that the calling thread was ready to run and had no core; 0 where the kernel does not
/// count them (`/proc/thread-self/schedstat`, its second number).
pub fn thread_waited_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let waited = text.split_whitespace().nth(1);
    waited.and_then(|one| one.parse().ok()).unwrap_or(0)
}

fn read_clock(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the structure lives for the call; these clocks exist on every Linux.
    let result = unsafe { libc::clock_gettime(clock, &raw mut time) };
    assert_eq!(result, 0, "the clock can be read");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Lets timers of this thread ring when they are due, not up to 50 us later.
pub fn sharpen_timers() {
    // SAFETY: PR_SET_TIMERSLACK takes a number and touches no memory.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong) };
}

/// A timer of this thread's ring.
pub struct Alarm {
    timer: File,
    fd: libc::c_int,
    buffer: Vec<u8>,
}

impl Alarm {
    /// # Errors
    /// No descriptor is left.
    pub fn new() -> io::Result<Alarm> {
        // SAFETY: no memory is involved; the descriptor is owned by the file from here on.
        let fd = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` is open and nobody else's.
        let timer = File::from_std(unsafe { StdFile::from_raw_fd(fd) })?;
        Ok(Alarm {
            timer,
            fd,
            buffer: vec![0; 8],
        })
    }

    /// Waits until `moment_ns`; at once when it has passed.
    ///
    /// # Errors
    /// The kernel refuses the timer.
    pub async fn at(&mut self, moment_ns: u64) -> io::Result<()> {
        if moment_ns <= now_ns() {
            return Ok(());
        }
        let time = libc::itimerspec {
            it_interval: libc::timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: libc::timespec {
                tv_sec: (moment_ns / 1_000_000_000) as libc::time_t,
                tv_nsec: (moment_ns % 1_000_000_000) as libc::c_long,
            },
        };
        let flags = libc::TFD_TIMER_ABSTIME;
        // SAFETY: the structure lives for the call and the descriptor is ours.
        let set =
            unsafe { libc::timerfd_settime(self.fd, flags, &raw const time, std::ptr::null_mut()) };
        if set < 0 {
            return Err(io::Error::last_os_error());
        }
        let buffer = std::mem::take(&mut self.buffer);
        let (result, buffer) = self.timer.read_at(buffer, 0).await;
        self.buffer = buffer;
        result.map(|_| ())
    }
}

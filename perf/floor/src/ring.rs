//! One `io_uring` and how its owner waits on it.
//!
//! Sleeping rings are built with SINGLE_ISSUER and DEFER_TASKRUN: completions are processed only
//! when the owner asks, on its own core. Spinning rings use COOP_TASKRUN and look at the completion
//! queue without a system call.

use std::io;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use io_uring::{IoUring, cqueue, squeue};

const SUBMISSION_ENTRIES: u32 = 1024;
const COMPLETION_ENTRIES: u32 = 8192;

/// How a server waits for work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Idle {
    /// Park in the kernel at once.
    Sleep,
    /// Spin for a while, then park; park at once while a durable write is in flight, because the
    /// kernel worker that finishes it needs this core.
    Adaptive,
    /// Never park, but for a durable write in flight.
    Spin,
    /// Never park at all.
    SpinAlways,
}

/// A ring and its waiting policy.
pub struct Ring {
    uring: IoUring,
    idle: Idle,
    spin: Duration,
}

impl Ring {
    /// Builds the ring on the calling thread, which must be the only one to use it.
    ///
    /// # Errors
    /// Whatever `io_uring_setup(2)` says; `EINVAL` on kernels before 6.1.
    pub fn new(idle: Idle, spin: Duration) -> io::Result<Ring> {
        let mut builder = IoUring::builder();
        builder
            .setup_single_issuer()
            .setup_cqsize(COMPLETION_ENTRIES);
        match idle {
            Idle::Sleep => builder.setup_defer_taskrun(),
            Idle::Adaptive | Idle::Spin | Idle::SpinAlways => {
                builder.setup_coop_taskrun().setup_taskrun_flag()
            }
        };
        let uring = builder.build(SUBMISSION_ENTRIES)?;
        Ok(Ring { uring, idle, spin })
    }

    /// The ring itself, for registering buffers.
    #[must_use]
    pub fn uring(&self) -> &IoUring {
        &self.uring
    }

    /// Queues one operation; it reaches the kernel at the next [`Ring::wait`], or now if the queue
    /// is full.
    ///
    /// # Safety
    /// Memory and descriptors that `entry` names stay valid, and the memory untouched where the
    /// kernel writes it, until the operation's completion has been seen.
    pub unsafe fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: handed on to our caller.
            if unsafe { self.uring.submission().push(entry) }.is_ok() {
                return Ok(());
            }
            self.uring.submit()?;
        }
    }

    /// Submits what is queued, waits for at least one completion and moves all of them to
    /// `completions`. `write_in_flight` says that a durable write is pending.
    ///
    /// # Errors
    /// Whatever `io_uring_enter(2)` says, but for an interrupted call, which is tried again.
    pub fn wait(
        &mut self,
        write_in_flight: bool,
        completions: &mut Vec<cqueue::Entry>,
    ) -> io::Result<()> {
        let spins = match self.idle {
            Idle::Sleep => false,
            Idle::Adaptive | Idle::Spin => !write_in_flight,
            Idle::SpinAlways => true,
        };
        let mut ready = false;
        if spins {
            ready = self.spin_until_ready()?;
        }
        if !ready {
            retry_interrupted(|| self.uring.submit_and_wait(1))?;
        }
        completions.extend(self.uring.completion());
        Ok(())
    }

    /// Spins until a completion is there; false when the adaptive time is over.
    fn spin_until_ready(&mut self) -> io::Result<bool> {
        let end = (self.idle == Idle::Adaptive).then(|| Instant::now() + self.spin);
        loop {
            let mut submission = self.uring.submission();
            submission.sync();
            let must_enter = !submission.is_empty() || submission.taskrun();
            drop(submission);
            if must_enter {
                retry_interrupted(|| self.uring.submit())?;
            }
            if !self.uring.completion().is_empty() {
                return Ok(true);
            }
            if end.is_some_and(|end| Instant::now() >= end) {
                return Ok(false);
            }
            std::hint::spin_loop();
        }
    }
}

fn retry_interrupted(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<()> {
    loop {
        match call() {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Packs what an operation was and whose it is into a completion's user data.
#[must_use]
pub fn user_data(operation: u32, index: usize) -> u64 {
    let index = u32::try_from(index).expect("fewer than 2^32 connections");
    u64::from(operation) << 32 | u64::from(index)
}

/// The inverse of [`user_data`].
#[must_use]
pub fn unpack(user_data: u64) -> (u32, usize) {
    ((user_data >> 32) as u32, (user_data & 0xffff_ffff) as usize)
}

/// A completion's result as bytes moved, or the error the kernel reported.
///
/// # Errors
/// The negated error number, as an [`io::Error`].
pub fn moved(result: i32) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_data_keeps_operation_and_index() {
        assert_eq!(unpack(user_data(3, 70_000)), (3, 70_000));
    }

    #[test]
    fn a_negative_result_is_an_error() {
        assert_eq!(
            moved(-libc::ENOBUFS).unwrap_err().raw_os_error(),
            Some(libc::ENOBUFS)
        );
        assert_eq!(moved(12).unwrap(), 12);
    }
}

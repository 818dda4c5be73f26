//! Provided receive buffers: the kernel picks a buffer when bytes arrive, so one multishot receive
//! per connection stays armed for ever and no memory waits on idle connections.

use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::{opcode, squeue, types};

use crate::memory::AlignedMemory;
use crate::ring::Ring;

const GROUP: u16 = 0;
const BUFFERS: u16 = 512;
const BUFFER_BYTES: usize = 16 << 10;

/// The buffers of one ring. Must outlive the ring's last receive, which holds here because both
/// live as long as the program's loop.
pub struct ReceiveRing {
    entries: AlignedMemory,
    buffers: AlignedMemory,
    tail: u16,
}

impl ReceiveRing {
    /// Allocates the buffers and hands all of them to the kernel.
    ///
    /// # Errors
    /// Whatever `io_uring_register(2)` says; `EINVAL` on kernels before 5.19.
    pub fn register(ring: &Ring) -> io::Result<ReceiveRing> {
        let entry_bytes = size_of::<types::BufRingEntry>();
        let mut receive = ReceiveRing {
            entries: AlignedMemory::zeroed(usize::from(BUFFERS) * entry_bytes),
            buffers: AlignedMemory::zeroed(usize::from(BUFFERS) * BUFFER_BYTES),
            tail: 0,
        };
        let address = receive.entries.as_ptr().addr() as u64;
        // SAFETY: the entries are page aligned, hold BUFFERS zeroed entries, and are kept until
        // the program's loop and with it the ring ends.
        unsafe {
            ring.uring()
                .submitter()
                .register_buf_ring(address, BUFFERS, GROUP)?
        };
        for buffer in 0..BUFFERS {
            receive.give_back(buffer);
        }
        Ok(receive)
    }

    /// The operation that receives on `socket` until told otherwise.
    #[must_use]
    pub fn receive(socket: RawFd, user_data: u64) -> squeue::Entry {
        opcode::RecvMulti::new(types::Fd(socket), GROUP)
            .build()
            .user_data(user_data)
    }

    /// The first `len` bytes of a buffer that a completion named.
    #[must_use]
    pub fn bytes(&self, buffer: u16, len: usize) -> &[u8] {
        assert!(
            buffer < BUFFERS && len <= BUFFER_BYTES,
            "the kernel names our buffers only"
        );
        let start = usize::from(buffer) * BUFFER_BYTES;
        &self.buffers.bytes()[start..start + len]
    }

    /// Hands a buffer to the kernel (again); its bytes may change from now on.
    pub fn give_back(&mut self, buffer: u16) {
        assert!(buffer < BUFFERS, "the kernel names our buffers only");
        let slot = usize::from(self.tail & (BUFFERS - 1));
        let address = self.buffers.as_ptr().addr() + usize::from(buffer) * BUFFER_BYTES;
        let entries = self.entries.as_ptr().cast::<types::BufRingEntry>();
        // SAFETY: `slot` is below BUFFERS, so both pointers stay inside `entries`; the kernel
        // reads a slot only after the release store below has published it. The first entry's
        // reserved field is the ring's tail (`io_uring_register(2)`), which only we write.
        unsafe {
            let entry = &mut *entries.add(slot);
            entry.set_addr(address as u64);
            entry.set_len(BUFFER_BYTES as u32);
            entry.set_bid(buffer);
            self.tail = self.tail.wrapping_add(1);
            let tail = types::BufRingEntry::tail(entries).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }
}

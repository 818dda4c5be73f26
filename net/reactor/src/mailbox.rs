//! Messages between cores: one bounded single-producer, single-consumer ring per ordered pair, and an
//! eventfd that is written only when the receiver waits.
//!
//! Waking: the receiver raises `waiting`, looks at its rings once more, and then waits on its
//! eventfd. The sender pushes, then looks at `waiting`. Both with sequentially consistent fences in
//! between, so that either the receiver sees the message or the sender sees the flag.

use std::cell::{Cell, UnsafeCell};
use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering, fence};

use highwater_base::CoreId;
use highwater_base::disk::DiskCompletion;
use highwater_base::limits::MAILBOX_MESSAGES_MAX;

use crate::outside::OutsideMail;
use crate::service::ConnectionInfo;

/// Messages that wait on the sender's side when a ring is full; beyond it the process ends, because
/// a core that does not read for so long is as good as dead.
const OVERFLOW_MESSAGES_MAX: usize = 1_000_000;

/// A connected socket on its way to the core that serves it.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    pub info: ConnectionInfo,
}

impl Socket {
    pub fn new(fd: OwnedFd, info: ConnectionInfo) -> Socket {
        Socket { fd, info }
    }

    /// A second descriptor of an open socket.
    pub fn duplicate(fd: RawFd, info: ConnectionInfo) -> io::Result<Socket> {
        // SAFETY: the caller's descriptor is open.
        let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) };
        if copy < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made, owned by nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(copy) };
        Ok(Socket { fd, info })
    }

    pub fn into_raw_fd(self) -> RawFd {
        self.fd.into_raw_fd()
    }
}

/// How a ring's new end is told: whoever sees it sees the message too. On x86-64 every store is one
/// of this kind, so that no test run there can miss it; a compiler or another processor could.
const PUBLISH: Ordering = match cfg!(mutant = "R04") {
    true => Ordering::Relaxed,
    false => Ordering::Release,
};

/// What travels between cores.
pub(crate) enum Envelope<M> {
    /// From one service to another.
    Message(CoreId, M),
    /// A connection just accepted.
    Accepted(Socket),
    /// A connection handed over, with unread bytes and state.
    Arrival(Socket, Vec<u8>, M),
}

/// A core's doorbell.
#[derive(Debug)]
pub(crate) struct Doorbell {
    eventfd: OwnedFd,
    waiting: AtomicBool,
    /// Bits of `CONTROL_*` set by threads that are no cores.
    control: AtomicU8,
    /// Disk operations ended by the helper thread.
    completions: std::sync::Mutex<Vec<DiskCompletion>>,
}

pub(crate) const CONTROL_SHUTDOWN: u8 = 1;
pub(crate) const CONTROL_COUNTERS: u8 = 2;
/// There is mail from a thread that is no core.
pub(crate) const CONTROL_OUTSIDE: u8 = 4;

impl Doorbell {
    pub fn new() -> io::Result<Doorbell> {
        // SAFETY: no memory is involved.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Doorbell {
            // SAFETY: just made, owned by nobody else.
            eventfd: unsafe { OwnedFd::from_raw_fd(fd) },
            waiting: AtomicBool::new(false),
            control: AtomicU8::new(0),
            completions: std::sync::Mutex::new(Vec::new()),
        })
    }

    /// A descriptor to read the eventfd through.
    pub fn reader(&self) -> io::Result<OwnedFd> {
        self.eventfd.try_clone()
    }

    /// Wakes the core if it waits.
    pub fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.waiting.swap(false, Ordering::SeqCst) {
            self.count_one();
        }
    }

    /// Adds one to the eventfd, whoever waits.
    pub fn count_one(&self) {
        let one = 1u64;
        // SAFETY: writes the eight bytes of `one`.
        unsafe { libc::write(self.eventfd.as_raw_fd(), (&raw const one).cast(), 8) };
    }

    /// Whether there is anything beside mail.
    pub fn has_work(&self) -> bool {
        let list = self
            .completions
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        !list.is_empty() || self.control.load(Ordering::SeqCst) != 0
    }

    /// The core is about to wait, unless it finds something now.
    pub fn prepare_to_wait(&self) {
        self.waiting.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// The core does not wait after all.
    pub fn awake(&self) {
        self.waiting.store(false, Ordering::SeqCst);
    }

    pub fn set_control(&self, bits: u8) {
        self.control.fetch_or(bits, Ordering::SeqCst);
        self.ring();
    }

    pub fn take_control(&self) -> u8 {
        self.control.swap(0, Ordering::SeqCst)
    }

    pub fn push_completion(&self, completion: DiskCompletion) {
        let mut list = self
            .completions
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        list.push(completion);
        drop(list);
        self.ring();
    }

    pub fn take_completions(&self, into: &mut Vec<DiskCompletion>) {
        let mut list = self
            .completions
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        into.append(&mut list);
    }
}

/// A bounded ring for one sender and one receiver.
pub(crate) struct Ring<T> {
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
    /// Next slot to read; written by the receiver only.
    head: AtomicUsize,
    /// Next slot to write; written by the sender only.
    tail: AtomicUsize,
}

// SAFETY: a slot is written only by the sender while it lies outside `head..tail`, and read only by
// the receiver while inside; `tail` and `head` are published with release and read with acquire.
// `Outgoing` and `Incoming` keep it to one of each. Covered by `two_threads_lose_nothing`.
unsafe impl<T: Send> Sync for Ring<T> {}
// SAFETY: it owns its values.
unsafe impl<T: Send> Send for Ring<T> {}

impl<T> Ring<T> {
    fn new(capacity: usize) -> Ring<T> {
        assert!(capacity.is_power_of_two());
        let slots = (0..capacity)
            .map(|_| UnsafeCell::new(MaybeUninit::uninit()))
            .collect();
        Ring {
            slots,
            head: AtomicUsize::new(0),
            tail: AtomicUsize::new(0),
        }
    }

    fn push(&self, value: T) -> Result<(), T> {
        let tail = self.tail.load(Ordering::Relaxed);
        if tail.wrapping_sub(self.head.load(Ordering::Acquire)) == self.slots.len() {
            return Err(value);
        }
        let slot = &self.slots[tail & (self.slots.len() - 1)];
        // SAFETY: the slot lies outside `head..tail`, so the receiver does not touch it.
        unsafe { (*slot.get()).write(value) };
        self.tail.store(tail.wrapping_add(1), PUBLISH);
        Ok(())
    }

    fn pop(&self) -> Option<T> {
        let head = self.head.load(Ordering::Relaxed);
        if head == self.tail.load(Ordering::Acquire) {
            return None;
        }
        let slot = &self.slots[head & (self.slots.len() - 1)];
        // SAFETY: the slot lies inside `head..tail`, so it was written and not read yet.
        let value = unsafe { (*slot.get()).assume_init_read() };
        self.head.store(head.wrapping_add(1), Ordering::Release);
        Some(value)
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Values in it, as the receiver sees it.
    fn len(&self) -> usize {
        let head = self.head.load(Ordering::Relaxed);
        self.tail.load(Ordering::Acquire).wrapping_sub(head)
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}

/// The sending ends of one core.
pub(crate) struct Post<T> {
    outgoing: Vec<Outgoing<T>>,
}

struct Outgoing<T> {
    ring: Arc<Ring<T>>,
    doorbell: Arc<Doorbell>,
    overflow: VecDeque<T>,
    pushed: bool,
}

impl<T> Post<T> {
    /// Queues a message; it is visible to the receiver at once, the bell rings with `flush`.
    pub fn send(&mut self, to: CoreId, message: T) {
        let outgoing = &mut self.outgoing[to.0 as usize];
        outgoing.pushed = true;
        if !outgoing.overflow.is_empty() {
            outgoing.overflow.push_back(message);
        } else if let Err(message) = outgoing.ring.push(message) {
            outgoing.overflow.push_back(message);
        }
        assert!(
            outgoing.overflow.len() <= OVERFLOW_MESSAGES_MAX,
            "core {} has not read its mailbox for {OVERFLOW_MESSAGES_MAX} messages",
            to.0
        );
    }

    /// Messages that did not fit their rings yet.
    pub fn overflow(&self) -> usize {
        let waiting = self.outgoing.iter().map(|outgoing| outgoing.overflow.len());
        waiting.sum()
    }

    /// Rings the bells of cores that were sent something. False when a ring is still full.
    pub fn flush(&mut self) -> bool {
        let mut all = true;
        for outgoing in &mut self.outgoing {
            while let Some(message) = outgoing.overflow.pop_front() {
                if let Err(message) = outgoing.ring.push(message) {
                    outgoing.overflow.push_front(message);
                    all = false;
                    break;
                }
                outgoing.pushed = true;
            }
            if std::mem::take(&mut outgoing.pushed) {
                outgoing.doorbell.ring();
            }
        }
        all
    }
}

/// The receiving ends of one core.
pub(crate) struct Inbox<T> {
    incoming: Vec<Arc<Ring<T>>>,
    /// Whose turn it is.
    next: Cell<usize>,
    pub doorbell: Arc<Doorbell>,
}

impl<T> Inbox<T> {
    /// The next message of any core, those of one core in order, the cores in turn.
    pub fn receive(&self) -> Option<T> {
        let count = self.incoming.len();
        for _ in 0..count {
            let at = self.next.get();
            self.next.set((at + 1) % count);
            if let Some(message) = self.incoming[at].pop() {
                return Some(message);
            }
        }
        None
    }

    pub fn is_empty(&self) -> bool {
        self.incoming.iter().all(|ring| ring.is_empty())
    }

    /// Messages that wait.
    pub fn waiting(&self) -> usize {
        self.incoming.iter().map(|ring| ring.len()).sum()
    }
}

/// The receiving end of one core, and what comes from outside.
pub(crate) struct Letterbox<T, M> {
    pub inbox: Inbox<T>,
    pub outside: Arc<OutsideMail<M>>,
}

/// The mailboxes of `cores` cores: per core its sending and receiving ends.
pub(crate) fn mailboxes<T>(cores: usize) -> io::Result<Vec<(Post<T>, Inbox<T>)>> {
    let doorbells: Vec<Arc<Doorbell>> = (0..cores)
        .map(|_| Doorbell::new().map(Arc::new))
        .collect::<io::Result<_>>()?;
    let rings: Vec<Vec<Arc<Ring<T>>>> = (0..cores)
        .map(|_| {
            (0..cores)
                .map(|_| Arc::new(Ring::new(MAILBOX_MESSAGES_MAX)))
                .collect()
        })
        .collect();
    Ok((0..cores)
        .map(|core| {
            let outgoing = (0..cores)
                .map(|to| Outgoing {
                    ring: Arc::clone(&rings[core][to]),
                    doorbell: Arc::clone(&doorbells[to]),
                    overflow: VecDeque::new(),
                    pushed: false,
                })
                .collect();
            let incoming = (0..cores)
                .map(|from| Arc::clone(&rings[from][core]))
                .collect();
            (
                Post { outgoing },
                Inbox {
                    incoming,
                    next: Cell::new(0),
                    doorbell: Arc::clone(&doorbells[core]),
                },
            )
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_threads_lose_nothing() {
        const MESSAGES: u64 = 200_000;
        let ring = Arc::new(Ring::new(64));
        let sender = Arc::clone(&ring);
        let thread = std::thread::spawn(move || {
            for number in 0..MESSAGES {
                let mut message = Box::new(number);
                while let Err(back) = sender.push(message) {
                    message = back;
                    std::thread::yield_now();
                }
            }
        });
        let mut wanted = 0;
        while wanted < MESSAGES {
            match ring.pop() {
                Some(number) => {
                    assert_eq!(*number, wanted);
                    wanted += 1;
                }
                None => std::thread::yield_now(),
            }
        }
        thread.join().expect("the sender ends");
        assert!(ring.is_empty());
    }

    /// No run on x86-64 tells the two apart, so this holds the rule as it is written.
    #[test]
    fn a_message_is_published_with_its_bytes() {
        assert_eq!(PUBLISH, Ordering::Release);
    }

    #[test]
    fn a_full_ring_overflows_in_order() {
        let mut boxes = mailboxes::<usize>(2).expect("eventfds");
        let (_, inbox) = boxes.pop().expect("core 1");
        let (mut post, _) = boxes.pop().expect("core 0");
        let total = MAILBOX_MESSAGES_MAX + 10;
        for number in 0..total {
            post.send(CoreId(1), number);
        }
        assert!(!post.flush());
        let mut received = Vec::new();
        while received.len() < total {
            match inbox.receive() {
                Some(number) => received.push(number),
                None => assert!(post.flush() || !inbox.is_empty()),
            }
        }
        assert_eq!(received, (0..total).collect::<Vec<_>>());
    }
}

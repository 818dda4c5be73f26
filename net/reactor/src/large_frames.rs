//! How long a large frame may take to arrive: its room is taken as a whole before it is read, and
//! others wait for that room, so whoever does not finish in time loses the connection.
//!
//! The time runs from when the room is taken, not while a connection waits for it. Small frames need
//! no room of the core's budget and may take for ever.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use crate::clock::now;
use crate::connection::Connection;
use crate::core_loop::Core;
use crate::counters::{self, Count};
use crate::service::{CloseReason, Service};
use crate::signal::Signal;

/// How much later than its time a frame may be found late, as a share of that time.
const LOOKS_PER_TIMEOUT: u32 = 4;

/// The large frames that one core is being sent.
#[derive(Debug, Default)]
pub(crate) struct LargeFrames {
    count: Cell<usize>,
    began: Signal,
}

impl LargeFrames {
    /// Notes whether a connection is in the middle of a large frame.
    pub fn note<M>(&self, connection: &Connection<M>, under_way: bool) {
        let began_ns = &connection.large_frame_began_ns;
        match (under_way, began_ns.get()) {
            (true, None) => {
                began_ns.set(Some(now().monotonic_ns));
                self.count.set(self.count.get() + 1);
                self.began.set();
            }
            (false, Some(_)) => {
                began_ns.set(None);
                self.count.set(self.count.get() - 1);
            }
            _ => {}
        }
    }
}

/// Closes connections whose large frame did not arrive in time.
pub(crate) async fn run<S: Service>(core: Rc<Core<S>>) {
    let timeout = core.config.frame_receive_timeout;
    loop {
        core.large_frames.began.wait().await;
        while core.large_frames.count.get() > 0 {
            monoio::time::sleep(timeout / LOOKS_PER_TIMEOUT).await;
            close_late(&core, timeout);
        }
    }
}

fn close_late<S: Service>(core: &Core<S>, timeout: Duration) {
    let limit_ns = timeout.as_nanos() as u64;
    let now_ns = now().monotonic_ns;
    for connection in core.connections.borrow().values() {
        let began_ns = connection.large_frame_began_ns.get();
        if began_ns.is_none_or(|began_ns| now_ns.saturating_sub(began_ns) < limit_ns) {
            continue;
        }
        let reason = CloseReason::new(format!(
            "a request of more than {} bytes did not arrive within {} ms",
            core.config.receive_buffer_bytes,
            timeout.as_millis()
        ));
        tracing::info!(peer = %connection.info.peer, %reason, "closing a connection");
        counters::add(Count::FramesLate);
        connection.close(reason);
        connection.shut_down();
    }
}

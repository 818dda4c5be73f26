//! Keeps a core awake for a while after it was active, instead of parking at once.
//!
//! A task that yields again and again makes the runtime poll its ring instead of waiting in it. It
//! stops while a durable write is in flight: the kernel worker that finishes the write may need this
//! very CPU, and a spinning thread would make it wait for a scheduler slice.

use std::rc::Rc;

use crate::clock::now;
use crate::config::Idle;
use crate::core_loop::Core;
use crate::parking::Parking;
use crate::service::Service;
use crate::signal::yield_now;

pub(crate) async fn run<S: Service>(core: Rc<Core<S>>) {
    let spin_ns = match core.config.idle {
        Idle::Sleep => return,
        Idle::Spin => u64::MAX,
        Idle::Adaptive { spin_us } => spin_us.saturating_mul(1000),
    };
    let mut parking = Parking::new().expect("an eventfd can be made");
    loop {
        core.idle.wait().await;
        while !core.durable_writes.any() && !core.stopped.get() {
            let current = now().monotonic_ns;
            if current.saturating_sub(core.last_activity_ns.get()) >= spin_ns {
                break;
            }
            if core.mail_waits.get() {
                core.turn.set();
            }
            parking.pass_by(current).await;
            yield_now().await;
        }
    }
}

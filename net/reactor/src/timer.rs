//! Calls the service when its deadline comes.

use std::rc::Rc;
use std::time::Duration;

use crate::clock::now;
use crate::core_loop::Core;
use crate::service::Service;

/// Shortest time between two calls.
const INTERVAL_MIN: Duration = Duration::from_millis(1);
/// How long the task sleeps when there is no deadline.
const FOREVER: Duration = Duration::from_secs(3600);

pub(crate) async fn run<S: Service>(core: Rc<Core<S>>) {
    loop {
        let deadline = core.service(Service::next_deadline_ns);
        let current = now().monotonic_ns;
        let wait = match deadline {
            Some(deadline) if deadline <= current => INTERVAL_MIN,
            Some(deadline) => Duration::from_nanos(deadline - current).max(INTERVAL_MIN),
            None => FOREVER,
        };
        core.armed_deadline_ns
            .set(current.saturating_add(wait.as_nanos() as u64));
        // Woken early when the service wants an earlier deadline.
        let _ = monoio::time::timeout(wait, core.timer.wait()).await;
        core.armed_deadline_ns.set(u64::MAX);
        let due = core.service(Service::next_deadline_ns);
        if due.is_some_and(|deadline| deadline <= now().monotonic_ns) {
            core.step(|service, now, out| service.on_timer(now, out));
        }
    }
}

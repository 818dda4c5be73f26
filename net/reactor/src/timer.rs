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
    let mut not_before_ns = 0;
    loop {
        let deadline = core.service(Service::next_deadline_ns);
        let current = now().monotonic_ns;
        let wait = match deadline {
            Some(deadline) => {
                let wait = deadline.max(not_before_ns).saturating_sub(current);
                Duration::from_nanos(wait).max(INTERVAL_MIN)
            }
            None => FOREVER,
        };
        core.armed_deadline_ns
            .set(current.saturating_add(wait.as_nanos() as u64));
        // Woken early when the service wants an earlier deadline.
        let _ = monoio::time::timeout(wait, core.timer.wait()).await;
        core.armed_deadline_ns.set(u64::MAX);
        let current = now().monotonic_ns;
        let due = core.service(Service::next_deadline_ns);
        // A deadline that stays in the past must not keep the core from everything else.
        if current >= not_before_ns && due.is_some_and(|deadline| deadline <= current) {
            core.step(|service, now, out| service.on_timer(now, out));
            not_before_ns = current.saturating_add(INTERVAL_MIN.as_nanos() as u64);
        }
    }
}

/// Wakes the task when the service wants to be called earlier than it is armed for.
pub(crate) fn rearm<S: Service>(core: &Core<S>) {
    let wanted = core.service(Service::next_deadline_ns).unwrap_or(u64::MAX);
    // It never waits less than the interval, so a deadline just before is not worth waking it.
    let at_least = INTERVAL_MIN.as_nanos() as u64;
    if wanted.saturating_add(at_least) < core.armed_deadline_ns.get() {
        core.timer.set();
    }
}

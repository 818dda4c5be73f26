//! A thread that a host starts beside the cores does not take the signals the reactor obeys: it would
//! end the process in the middle of a write.

mod support;

use highwater_reactor::hold_signals;
use support::aside;

#[test]
fn sigterm_waits_for_the_reactor_whatever_other_threads_there_are() {
    let beside = aside(|| {
        hold_signals();
        aside(|| {
            // SAFETY: the set is filled by the call and lives for it.
            unsafe {
                let mut blocked: libc::sigset_t = std::mem::zeroed();
                libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &mut blocked);
                [libc::SIGTERM, libc::SIGINT, libc::SIGUSR1]
                    .map(|signal| libc::sigismember(&blocked, signal))
            }
        })
        .join()
    });
    let blocked = beside.join().expect("it ran").expect("it ran");
    assert_eq!(blocked, [1, 1, 1]);
}

//! Accepts connections and deals them to cores.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use highwater_base::CoreId;
use monoio::net::TcpListener;

use crate::config::Deal;
use crate::core_loop::Core;
use crate::counters::{self, Count};
use crate::mailbox::{Envelope, Socket};
use crate::service::{ConnectionInfo, Service};
use crate::turn;

/// How long accepting pauses when the process is out of descriptors.
const BACK_OFF: Duration = Duration::from_millis(100);

/// A bound listener on its way to the core that accepts on it.
#[derive(Debug)]
pub(crate) struct Bound {
    pub listener: std::net::TcpListener,
    pub index: usize,
    pub deal: Deal,
    pub address: SocketAddr,
}

pub(crate) async fn run<S: Service>(core: Rc<Core<S>>, bound: Bound) {
    let listener = match TcpListener::from_std(bound.listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "a listener could not be used");
            return;
        }
    };
    let mut next_core = 0usize;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                if core.shutting_down.get() {
                    continue;
                }
                let info = ConnectionInfo {
                    peer,
                    local: bound.address,
                    listener: bound.index,
                };
                let count = core.connection_count.fetch_add(1, Ordering::Relaxed);
                if count >= core.config.connections_max {
                    core.connection_count.fetch_sub(1, Ordering::Relaxed);
                    counters::add(Count::ConnectionsRefused);
                    tracing::warn!(
                        %peer,
                        connections_max = core.config.connections_max,
                        "connection refused: too many"
                    );
                    continue;
                }
                // monoio's stream would be closed by its own ring; a plain descriptor travels.
                // SAFETY: `into_raw_fd` gives the descriptor away.
                let fd =
                    unsafe { OwnedFd::from_raw_fd(std::os::fd::IntoRawFd::into_raw_fd(stream)) };
                keep_alive(&fd);
                let to = match bound.deal {
                    Deal::Own(core) => core,
                    Deal::RoundRobin => CoreId((next_core % core.config.cores) as u16),
                };
                next_core = next_core.wrapping_add(1);
                deal(&core, to, Socket::new(fd, info));
            }
            Err(error) => {
                if core.shutting_down.get() {
                    return;
                }
                tracing::warn!(%error, "accepting pauses");
                monoio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

fn deal<S: Service>(core: &Rc<Core<S>>, to: CoreId, socket: Socket) {
    if to == core.id {
        turn::open_connection(core, socket, None);
    } else {
        let mut post = core.post.borrow_mut();
        post.send(to, Envelope::Accepted(socket));
        if !post.flush() {
            core.mail_waits.set(true);
            core.turn.set();
        }
    }
}

/// Notices peers that vanished without a word.
fn keep_alive(fd: &OwnedFd) {
    let on: libc::c_int = 1;
    // SAFETY: the option's value lives for the call and has the size given.
    unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_KEEPALIVE,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        );
    }
}

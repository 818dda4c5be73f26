//! Reads a connection: whole frames to the service, its verdicts obeyed, hand-over and clean-up.

use std::os::fd::{AsRawFd, FromRawFd};
use std::rc::Rc;
use std::sync::atomic::Ordering;

use monoio::io::AsyncReadRent;
use monoio::net::TcpStream;

use crate::connection::Connection;
use crate::core_loop::Core;
use crate::counters::{self, Count};
use crate::mailbox::{Envelope, Socket};
use crate::receive_buffer::{Front, ReceiveBuffer};
use crate::service::{CloseReason, Frame, FrameVerdict, Service};
use crate::signal::yield_now;
use crate::writer;

/// Frames of one connection stepped in a row before others get their turn.
const FRAMES_IN_A_ROW_MAX: usize = 32;

/// Why the reader stops.
enum End<M> {
    Closed(CloseReason),
    Moved(highwater_base::CoreId, M),
}

/// Registers a connection and starts its reader.
pub(crate) fn start<S: Service>(
    core: &Rc<Core<S>>,
    socket: Socket,
    arrived: Option<(Vec<u8>, S::Message)>,
) {
    let info = socket.info;
    // SAFETY: the descriptor is an open socket that nobody else owns.
    let stream = unsafe { std::net::TcpStream::from_raw_fd(socket.into_raw_fd()) };
    // Small answers must not wait for the peer's acknowledgement.
    let _ = stream.set_nodelay(true);
    let Ok(stream) = TcpStream::from_std(stream) else {
        return;
    };
    let id = core.new_connection_id();
    let connection = Rc::new(Connection::new(id, info, stream.as_raw_fd()));
    core.connections
        .borrow_mut()
        .insert(id, Rc::clone(&connection));
    let base_bytes = core.config.receive_buffer_bytes;
    let buffer = match arrived {
        None => {
            core.step(|service, now, out| service.on_connection(now, id, &info, out));
            ReceiveBuffer::new(base_bytes)
        }
        Some((unread, message)) => {
            core.step(|service, now, out| service.on_adopted(now, id, &info, message, out));
            ReceiveBuffer::with_unread(base_bytes, &unread)
        }
    };
    let core = Rc::clone(core);
    monoio::spawn(async move { run(core, connection, stream, buffer).await });
}

async fn run<S: Service>(
    core: Rc<Core<S>>,
    connection: Rc<Connection<S::Message>>,
    mut stream: TcpStream,
    mut buffer: ReceiveBuffer,
) {
    // What the buffer has taken of the core's budget.
    let mut large_bytes = 0;
    let end = loop {
        if let Some(end) = frames(&core, &connection, &mut buffer).await {
            break end;
        }
        let needed = buffer.large_bytes_needed(core.receive_budget.is_scarce());
        core.receive_budget
            .take(needed.saturating_sub(large_bytes))
            .await;
        buffer.reserve();
        core.receive_budget.give(large_bytes.saturating_sub(needed));
        large_bytes = needed;
        let (result, returned) = stream.read(buffer).await;
        buffer = returned;
        match result {
            Ok(0) => break End::Closed(closed_by_peer(&connection)),
            Ok(count) => buffer.received(count),
            Err(error) => break End::Closed(CloseReason::new(error.to_string())),
        }
    };
    match end {
        End::Closed(reason) => finish(&core, &connection, &reason),
        End::Moved(to, message) => hand_over(&core, &connection, &buffer, to, message),
    }
    drop(buffer);
    core.receive_budget.give(large_bytes);
    connection.ended.set(true);
    connection.writer.set();
    // The writer sees it at the end of what it waits for, a shut socket or a page.
    while connection.writer_busy.get() {
        connection.reader.wait().await;
    }
    drop(stream);
}

fn closed_by_peer<M>(connection: &Connection<M>) -> CloseReason {
    let own = connection.closing.borrow().clone();
    own.unwrap_or_else(|| CloseReason::new("closed by the client"))
}

/// Steps every whole frame in the buffer. `Some` ends the connection.
async fn frames<S: Service>(
    core: &Rc<Core<S>>,
    connection: &Rc<Connection<S::Message>>,
    buffer: &mut ReceiveBuffer,
) -> Option<End<S::Message>> {
    let mut in_a_row = 0;
    loop {
        if is_choked(core, connection) {
            counters::add(Count::SendQueueFull);
        }
        while connection.paused.get() || is_choked(core, connection) {
            if let Some((to, message)) = connection.moving.borrow_mut().take() {
                return Some(End::Moved(to, message));
            }
            if let Some(reason) = connection.closing.borrow().clone() {
                return Some(End::Closed(reason));
            }
            connection.reader.wait().await;
        }
        if let Some(reason) = connection.closing.borrow().clone() {
            // What is queued leaves first; the writer then shuts the socket down.
            if connection.queued_bytes.get() == 0 {
                return Some(End::Closed(reason));
            }
        }
        let frame = match buffer.front(core.config.frame_bytes_max) {
            Front::Incomplete => return None,
            Front::Refused(length) => return Some(End::Closed(refusal(core, length, buffer))),
            Front::Frame(frame) => frame,
        };
        let (bytes, start, shared) = buffer.frame_parts();
        let input = Frame {
            buffer: bytes,
            start,
            len: frame,
            shared,
        };
        let verdict =
            core.step(|service, now, out| service.on_frame(now, connection.id, &input, out));
        if verdict == FrameVerdict::Defer {
            connection.paused.set(true);
            continue;
        }
        buffer.consume(frame);
        match verdict {
            FrameVerdict::Continue => {}
            FrameVerdict::Pause | FrameVerdict::Defer => connection.paused.set(true),
            FrameVerdict::Close(reason) => {
                tracing::info!(peer = %connection.info.peer, %reason, "closing a connection");
                core.outbox(|out| out.close(connection.id, reason));
                connection.paused.set(true);
                // The turn carries the close out behind the answers that are in the outbox.
                core.turn.set();
                while connection.closing.borrow().is_none() || connection.queued_bytes.get() > 0 {
                    connection.reader.wait().await;
                }
                return Some(End::Closed(closed_by_peer(connection)));
            }
        }
        in_a_row += 1;
        if in_a_row >= FRAMES_IN_A_ROW_MAX {
            in_a_row = 0;
            yield_now().await;
        }
    }
}

/// Whether so much is queued on the connection that no more requests are taken.
fn is_choked<S: Service>(core: &Core<S>, connection: &Connection<S::Message>) -> bool {
    connection.queued_bytes.get() > core.config.send_bytes_max
}

fn refusal<S: Service>(core: &Core<S>, length: i32, buffer: &ReceiveBuffer) -> CloseReason {
    let head = buffer.unread();
    let hint = if head.starts_with(&[0x16, 0x03]) {
        "; this looks like TLS, which this listener does not speak"
    } else if head.starts_with(b"GET ") || head.starts_with(b"POST") {
        "; this looks like HTTP, which this listener does not speak"
    } else {
        ""
    };
    let reason = format!(
        "frame length {length}; allowed is 0 to {}{hint}",
        core.config.frame_bytes_max
    );
    CloseReason::new(reason)
}

fn finish<S: Service>(
    core: &Rc<Core<S>>,
    connection: &Connection<S::Message>,
    reason: &CloseReason,
) {
    // A writer that waits for a client that does not read would keep the socket open.
    connection.shut_down();
    forget(core, connection);
    core.connection_count.fetch_sub(1, Ordering::Relaxed);
    core.step(|service, now, out| service.on_closed(now, connection.id, reason, out));
}

/// Takes the connection off the core and lets go of what was queued.
fn forget<S: Service>(core: &Rc<Core<S>>, connection: &Connection<S::Message>) {
    core.connections.borrow_mut().remove(&connection.id);
    if !connection.writer_busy.get() {
        writer::let_go(core, connection);
    }
}

fn hand_over<S: Service>(
    core: &Rc<Core<S>>,
    connection: &Connection<S::Message>,
    buffer: &ReceiveBuffer,
    to: highwater_base::CoreId,
    message: S::Message,
) {
    assert!(
        connection.queue.borrow().is_empty(),
        "a connection moves with nothing queued"
    );
    forget(core, connection);
    // A duplicate travels, so that closing this core's descriptor does not end the connection.
    match Socket::duplicate(connection.fd, connection.info) {
        Ok(socket) => {
            let unread = buffer.unread().to_vec();
            let envelope = Envelope::Arrival(socket, unread, message);
            core.post.borrow_mut().send(to, envelope);
            core.turn.set();
        }
        Err(error) => {
            core.connection_count.fetch_sub(1, Ordering::Relaxed);
            tracing::warn!(%error, "a connection could not be moved and is closed");
        }
    }
}

//! What the reactor knows of one core at a moment; read when somebody outside asks, counted nowhere.

use std::rc::Rc;
use std::sync::atomic::Ordering;

use crate::core_loop::Core;
use crate::mailbox::{Envelope, Inbox};
use crate::outside::OUTSIDE_MESSAGES_MAX;
use crate::runtime::ENVELOPES_IN_A_ROW_MAX;
use crate::service::{ConnectionId, Service};

/// A core's queues and what else it holds. Bounds are those in force, after they were cut to the
/// descriptors there are.
#[derive(Clone, Debug, Default)]
pub struct CoreGauges {
    /// Messages of other cores that wait to be taken.
    pub mail_waiting: usize,
    /// Messages to other cores that did not fit their rings.
    pub mail_overflow: usize,
    /// Bytes queued on all connections, and on each that has any.
    pub send_queue_bytes: usize,
    pub send_queues: Vec<(ConnectionId, usize)>,
    pub send_queue_bytes_max: usize,
    pub open_files: usize,
    pub open_files_max: usize,
    /// Durable writes and flushes under way.
    pub durable_in_flight: usize,
    /// Memory of large requests being received.
    pub receive_bytes: usize,
    pub receive_bytes_max: usize,
    /// Connections that send from files or wait in line for it, and how many may send at once.
    pub file_sends: usize,
    pub file_sends_max: usize,
    /// Connections of the whole process.
    pub process_connections: usize,
    pub process_connections_max: usize,
    pub frame_bytes_max: usize,
    pub outside_messages_max: usize,
    /// Mail taken before the turn ends.
    pub mail_in_a_row_max: usize,
}

/// Reads them.
pub(crate) fn read<S: Service>(
    core: &Rc<Core<S>>,
    inbox: &Inbox<Envelope<S::Message>>,
) -> CoreGauges {
    let connections = core.connections.borrow();
    let queued = connections
        .iter()
        .map(|(id, connection)| (*id, connection.queued_bytes.get()));
    let send_queues: Vec<_> = queued.filter(|(_, bytes)| *bytes > 0).collect();
    let files = core.files.borrow();
    CoreGauges {
        mail_waiting: inbox.waiting(),
        mail_overflow: core.post.borrow().overflow(),
        send_queue_bytes: send_queues.iter().map(|(_, bytes)| bytes).sum(),
        send_queues,
        send_queue_bytes_max: core.config.send_bytes_max,
        open_files: files.open_count(),
        open_files_max: core.config.open_files_max,
        durable_in_flight: core.durable_writes.in_flight(),
        receive_bytes: core.receive_budget.taken(),
        receive_bytes_max: core.config.receive_bytes_max,
        file_sends: core.file_turns.wanted(),
        file_sends_max: core.config.cold_reads_in_flight_max,
        process_connections: core.connection_count.load(Ordering::Relaxed),
        process_connections_max: core.config.connections_max,
        frame_bytes_max: core.config.frame_bytes_max,
        outside_messages_max: OUTSIDE_MESSAGES_MAX,
        mail_in_a_row_max: ENVELOPES_IN_A_ROW_MAX,
    }
}

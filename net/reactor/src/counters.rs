//! What a core's thread counts about its bounds, for the host to tell.

use std::cell::Cell;

/// How often a core came to a bound of the reactor, or to the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReactorCounters {
    /// Chunks of files that had to be waited for: their pages were not in memory.
    pub cold_reads: u64,
    /// Chunks of files that waited in line for others.
    pub file_send_waits: u64,
    /// Connections refused because there were `connections_max`.
    pub connections_refused: u64,
    /// Times a connection was no longer read because too much was queued on it.
    pub send_queue_full: u64,
    /// Times a connection was no longer read because others are receiving as much as is allowed.
    pub receive_waits: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Count {
    ColdReads,
    FileSendWaits,
    ConnectionsRefused,
    SendQueueFull,
    ReceiveWaits,
}

thread_local! {
    static COUNTERS: Cell<ReactorCounters> = const { Cell::new(ReactorCounters {
        cold_reads: 0,
        file_send_waits: 0,
        connections_refused: 0,
        send_queue_full: 0,
        receive_waits: 0,
    }) };
}

/// Counts one more on this thread.
pub(crate) fn add(count: Count) {
    COUNTERS.with(|counters| {
        let mut now = counters.get();
        match count {
            Count::ColdReads => now.cold_reads += 1,
            Count::FileSendWaits => now.file_send_waits += 1,
            Count::ConnectionsRefused => now.connections_refused += 1,
            Count::SendQueueFull => now.send_queue_full += 1,
            Count::ReceiveWaits => now.receive_waits += 1,
        }
        counters.set(now);
    });
}

/// What this thread has counted so far.
#[must_use]
pub fn thread_counters() -> ReactorCounters {
    COUNTERS.with(Cell::get)
}

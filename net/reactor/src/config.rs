//! What a host decides about the reactor.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use highwater_base::CoreId;

/// Who serves the connections of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deal {
    /// Accepted on core 0 and dealt to all cores in turn.
    RoundRobin,
    /// Accepted and served by one core.
    Own(CoreId),
}

/// An address to accept on.
#[derive(Clone, Copy, Debug)]
pub struct Listener {
    pub address: SocketAddr,
    pub deal: Deal,
}

/// What a core does with nothing to do. Spinning halves latency where there is a core to spare; it
/// never goes on while a durable write is in flight, because the kernel worker that finishes the
/// write may need this very CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Never park, except while a durable write is in flight.
    Spin,
    /// Spin this long after the last activity, then park.
    Adaptive { spin_us: u64 },
    /// Park at once.
    Sleep,
}

/// Whether files are opened with O_DIRECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectIo {
    Direct,
    /// The filesystem refuses it: buffered writes, the same barriers.
    Buffered,
}

/// Settings and bounds of the reactor.
#[derive(Clone, Debug)]
pub struct ReactorConfig {
    /// Number of cores, one thread and one ring each.
    pub cores: usize,
    /// Pin core `i` to CPU `first_core + i`.
    pub pin: bool,
    pub first_core: usize,
    pub listeners: Vec<Listener>,
    pub idle: Idle,
    /// Root of all paths in disk requests.
    pub data_dir: PathBuf,
    pub direct_io: DirectIo,
    /// The most the kernel reads ahead at once; more is asked for in several calls.
    pub read_ahead_bytes: usize,
    /// Largest frame, without its length prefix.
    pub frame_bytes_max: usize,
    /// Size of a connection's receive buffer while its frames are small.
    pub receive_buffer_bytes: usize,
    /// Bytes of receive buffers larger than that, on one core.
    pub receive_bytes_max: usize,
    /// How long a frame larger than `receive_buffer_bytes` may take to arrive.
    pub frame_receive_timeout: Duration,
    /// Bytes queued on a connection beyond which its socket is not read.
    pub send_bytes_max: usize,
    /// Connections of the whole process.
    pub connections_max: usize,
    /// Descriptors of data files that one core keeps open.
    pub open_files_max: usize,
    /// Chunks of files that one core reads and sends at once.
    pub cold_reads_in_flight_max: usize,
    /// How far one core reads ahead of what it sends from files, over all connections that do.
    pub cold_read_ahead_bytes: usize,
    /// How much of the time a core that makes records durable reads what is not in memory, in percent.
    pub cold_read_share_percent: usize,
    /// Disk operations under way at once on one core.
    pub disk_operations_max: usize,
}

impl Default for ReactorConfig {
    fn default() -> ReactorConfig {
        ReactorConfig {
            cores: 1,
            pin: false,
            first_core: 0,
            listeners: Vec::new(),
            idle: Idle::Sleep,
            data_dir: PathBuf::from("."),
            direct_io: DirectIo::Direct,
            read_ahead_bytes: 128 * 1024,
            frame_bytes_max: 100 * 1024 * 1024,
            receive_buffer_bytes: 16 * 1024,
            receive_bytes_max: 128 * 1024 * 1024,
            frame_receive_timeout: Duration::from_secs(120),
            send_bytes_max: 64 * 1024 * 1024,
            connections_max: 20_000,
            open_files_max: 16_384,
            cold_reads_in_flight_max: 2,
            cold_read_ahead_bytes: 4 * 1024 * 1024,
            cold_read_share_percent: 25,
            disk_operations_max: 64,
        }
    }
}

//! Yardsticks: the smallest programs that do what a broker must do, and the load generators that
//! hold both a yardstick and a broker to the same clock.
//!
//! Nothing here is part of the broker. Each program speaks straight to the kernel (`io_uring`,
//! `sendfile`, `O_DIRECT`), so that its figure says what the machine gives before any broker work
//! is added. The load generators use one code path for the yardstick's protocol and for Kafka's;
//! only the bytes differ.

// Yardsticks read clocks: that is what they are for.
#![allow(clippy::disallowed_methods)]

pub mod create_topic;
pub mod dsync_latency;
pub mod durable_load;
pub mod durable_server;
pub mod fetch_load;
pub mod floor_frames;
pub mod frame_splitter;
pub mod idle_connections;
pub mod kafka_frames;
pub mod memory;
pub mod pacing;
pub mod pinning;
pub mod prepared_file;
pub mod receive_ring;
pub mod ring;
pub mod sendfile_server;
pub mod sequential_write;
pub mod staging;
pub mod summary;

//! The device's sequential write rate: 1 MiB direct writes, eight in flight, onto allocated blocks
//! and then onto the very blocks that pass has written.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use io_uring::{opcode, types};
use serde_json::json;

use crate::memory::AlignedMemory;
use crate::pinning::pin;
use crate::prepared_file::{self, Blocks};
use crate::ring::{Idle, Ring, moved, unpack, user_data};

const PIECE_BYTES: usize = 1 << 20;
const QUEUE_DEPTH: usize = 8;
const WRITE: u32 = 1;

/// Flags of `sequential-write`.
#[derive(Debug, Args)]
pub struct SequentialWriteArgs {
    /// File to write; removed afterwards.
    #[arg(long)]
    file: PathBuf,
    /// Size of the file in bytes.
    #[arg(long, default_value_t = 1 << 30)]
    file_bytes: u64,
    /// CPU core to pin to.
    #[arg(long)]
    core: Option<usize>,
    /// Make every write durable by itself (`O_DSYNC`).
    #[arg(long)]
    dsync: bool,
}

/// Measures both rates and prints them.
///
/// # Errors
/// Whatever the kernel says.
pub fn run(args: &SequentialWriteArgs) -> io::Result<()> {
    pin(args.core)?;
    let result = measure(&args.file, args.file_bytes, args.dsync);
    // Measured or not, the file must not stay.
    let removed = std::fs::remove_file(&args.file);
    let (fallocated, written) = result?;
    removed?;
    let rate = |elapsed: Duration| args.file_bytes as f64 / 1e9 / elapsed.as_secs_f64();
    println!(
        "{}",
        json!({
            "fallocated_gb_per_s": rate(fallocated),
            "written_gb_per_s": rate(written),
            "file_bytes": args.file_bytes,
            "dsync": args.dsync,
        })
    );
    Ok(())
}

fn measure(path: &Path, file_bytes: u64, dsync: bool) -> io::Result<(Duration, Duration)> {
    let flags = if dsync { libc::O_DSYNC } else { 0 };
    let file = prepared_file::create(path, file_bytes, Blocks::Fallocated, flags)?;
    let mut buffers: Vec<AlignedMemory> = (0..QUEUE_DEPTH)
        .map(|_| AlignedMemory::zeroed(PIECE_BYTES))
        .collect();
    for buffer in &mut buffers {
        buffer.bytes_mut().fill(0x5a);
    }
    let fallocated = pass(&file, file_bytes, &buffers)?;
    let written = pass(&file, file_bytes, &buffers)?;
    Ok((fallocated, written))
}

/// Writes the whole file once.
fn pass(file: &File, file_bytes: u64, buffers: &[AlignedMemory]) -> io::Result<Duration> {
    let mut ring = Ring::new(Idle::Sleep, Duration::ZERO)?;
    let pieces = file_bytes / PIECE_BYTES as u64;
    let start = Instant::now();
    let mut submitted = 0;
    let mut completed = 0;
    let submit = |ring: &mut Ring, slot: usize, submitted: &mut u64| {
        if *submitted == pieces {
            return Ok(());
        }
        let memory = buffers[slot].as_ptr();
        let entry = opcode::Write::new(types::Fd(file.as_raw_fd()), memory, PIECE_BYTES as u32)
            .offset(*submitted * PIECE_BYTES as u64)
            .build()
            .user_data(user_data(WRITE, slot));
        *submitted += 1;
        // SAFETY: the buffers outlive this function, which waits for every completion.
        unsafe { ring.push(&entry) }
    };
    for slot in 0..QUEUE_DEPTH {
        submit(&mut ring, slot, &mut submitted)?;
    }
    let mut completions = Vec::with_capacity(QUEUE_DEPTH);
    let mut failure = None;
    while completed < submitted {
        ring.wait(true, &mut completions)?;
        for completion in completions.drain(..) {
            completed += 1;
            match moved(completion.result()) {
                Ok(PIECE_BYTES) if failure.is_none() => {
                    submit(&mut ring, unpack(completion.user_data()).1, &mut submitted)?;
                }
                Ok(PIECE_BYTES) => {}
                Ok(bytes) => failure = Some(io::Error::other(format!("short write: {bytes}"))),
                Err(error) => failure = Some(error),
            }
        }
    }
    failure.map_or_else(|| Ok(start.elapsed()), Err)
}

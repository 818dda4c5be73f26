//! One durable 4 KiB write at a time, onto written and onto allocated blocks: what preparing
//! segments buys.

use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use io_uring::{opcode, types};
use serde_json::{Map, Value};

use crate::memory::{AlignedMemory, BLOCK_BYTES};
use crate::pinning::pin;
use crate::prepared_file::{self, Blocks};
use crate::ring::{Idle, Ring, moved};
use crate::summary::Latencies;

/// Flags of `dsync-latency`.
#[derive(Debug, Args)]
pub struct DsyncLatencyArgs {
    /// File to write; removed afterwards.
    #[arg(long)]
    file: PathBuf,
    /// Writes of each kind.
    #[arg(long, default_value_t = 4000)]
    writes: u64,
    /// Bytes of one write, a multiple of 4096.
    #[arg(long, default_value_t = BLOCK_BYTES)]
    size: usize,
    /// CPU core to pin to.
    #[arg(long)]
    core: Option<usize>,
    /// Write from a registered buffer to a registered file.
    #[arg(long)]
    registered: bool,
}

/// Measures both kinds and prints their latencies.
///
/// # Errors
/// Whatever the kernel says.
pub fn run(args: &DsyncLatencyArgs) -> io::Result<()> {
    pin(args.core)?;
    if args.size == 0 || !args.size.is_multiple_of(BLOCK_BYTES) {
        let message = format!(
            "size is {}; allowed is a multiple of {BLOCK_BYTES}",
            args.size
        );
        return Err(io::Error::other(message));
    }
    let written = measure(&args.file, Blocks::Written, args);
    let fallocated = measure(&args.file, Blocks::Fallocated, args);
    std::fs::remove_file(&args.file)?;
    let mut object = Map::new();
    for (name, latencies) in [("written", written?), ("fallocated", fallocated?)] {
        let mut kind = Map::new();
        latencies.describe(&mut kind);
        object.insert(name.to_string(), Value::Object(kind));
    }
    println!("{}", Value::Object(object));
    Ok(())
}

fn measure(path: &Path, blocks: Blocks, args: &DsyncLatencyArgs) -> io::Result<Latencies> {
    let file_bytes = (args.writes * args.size as u64).next_multiple_of(1 << 20);
    let file = prepared_file::create(path, file_bytes, blocks, libc::O_DSYNC)?;
    let mut memory = AlignedMemory::zeroed(args.size);
    memory.bytes_mut().fill(0x5a);
    let mut ring = Ring::new(Idle::Sleep, Duration::ZERO)?;
    if args.registered {
        let buffer = libc::iovec {
            iov_base: memory.as_ptr().cast(),
            iov_len: memory.len(),
        };
        // SAFETY: the memory lives until after the last completion below.
        unsafe { ring.uring().submitter().register_buffers(&[buffer])? };
        ring.uring()
            .submitter()
            .register_files(&[file.as_raw_fd()])?;
    }
    let mut latencies = Latencies::new()?;
    let mut completions = Vec::with_capacity(1);
    for write in 0..args.writes {
        let start = Instant::now();
        let offset = write * args.size as u64;
        let entry = if args.registered {
            opcode::WriteFixed::new(types::Fixed(0), memory.as_ptr(), args.size as u32, 0)
                .offset(offset)
                .build()
        } else {
            opcode::Write::new(
                types::Fd(file.as_raw_fd()),
                memory.as_ptr(),
                args.size as u32,
            )
            .offset(offset)
            .build()
        };
        // SAFETY: memory and file live until the completion, awaited right here.
        unsafe { ring.push(&entry)? };
        ring.wait(true, &mut completions)?;
        for completion in completions.drain(..) {
            if moved(completion.result())? != args.size {
                return Err(io::Error::other("short write"));
            }
        }
        latencies.record(start.elapsed());
    }
    Ok(latencies)
}

//! `highwater log`: what lies in the data directory of a stopped node, dumped and verified.
//!
//! Dumping and verifying only read; `quarantine` puts topics back or removes them; `scrub` asks a
//! running node instead. `place` finds out
//! what a path is and keeps nodes away, `dump` prints, `verify` judges; `records` knows what is in the
//! records of the broker's own logs. The formats themselves are the store's
//! (`highwater_store::inspect`).

mod dump;
mod dump_segment;
mod hex;
mod line;
mod place;
mod quarantine;
mod records;
#[cfg(test)]
mod tests;
mod verify;

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

/// Exit code of a wrong path, or of a directory that is in use.
const EXIT_USAGE: u8 = 2;

/// Closes the help of both commands.
pub const HELP: &str = "Examples:
  highwater log verify highwater-data                  is everything whole?
  highwater log dump highwater-data/topics/orders --records --limit 10";

const HELP_DUMP: &str = "\
PATH is a data directory, any directory in it, or one file: a segment (.log), an index (.index),
a snapshot of producers (.producers), a marks ledger (marks/core-0-0a), a checkpoint, the
superblock. A file may also be a copy that lies elsewhere.

Examples:
  highwater log dump highwater-data                                every file there is
  highwater log dump highwater-data/superblock --bytes             each byte, named
  highwater log dump highwater-data/topics/orders --records --from-offset 1000 --limit 20
  highwater log dump highwater-data/topics/__consumer_offsets --records --json

What the lines of a segment say:
  segment   the header block: whose log it is, where it begins, what came before it
  batch     a record batch: where it lies, its offsets, its checksum, who produced it
  record    a record in it (--records); of __consumer_offsets and the metadata log, decoded
  junk      bytes that are no batch, and why
  padding   zeros to the end of the file, reserved for what comes";

const HELP_VERIFY: &str = "\
Reads everything, changes nothing, and judges as recovery does: a record that the marks ledger
calls durable must be there; what lies behind that mark may be torn. So a directory that kill -9
or a power failure left verifies clean, with notes of what was left unfinished. Damage is what a
crash does not explain.

Exit codes: 0 no damage, 1 damage, 2 wrong usage or the directory is in use by a running node.

Examples:
  highwater log verify highwater-data
  highwater log verify highwater-data --json                       one JSON object per line
  highwater log verify highwater-data/topics/orders                one topic only

Kinds of findings have names that do not change (batch-crc, segment-gap, torn-tail, ...), so
scripts may look for them.";

const HELP_SCRUB: &str = "\
A running node reads everything it stores once in `scrub_interval_hours` by itself, slowly and behind
everything else; this asks for it now, unless it has begun since. Damaged records are then in the
log and the metrics of the node, reads of them fail, and all others are served. Of a stopped node,
`highwater log verify` says the same and more.

Examples:
  highwater log scrub                                              all nodes
  highwater log scrub --broker 1 --bootstrap-server db7:9092       one of them";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Print what is in the files of a stopped node, every field explained.
    #[command(after_help = HELP_DUMP)]
    Dump(DumpArgs),
    /// Check the files of a stopped node for damage.
    #[command(after_help = HELP_VERIFY)]
    Verify(VerifyArgs),
    /// Ask running nodes to read and check everything that they store.
    #[command(after_help = HELP_SCRUB)]
    Scrub(highwater_cli::ScrubArguments),
    /// Data that no topic has: show it, put it back, remove it.
    #[command(subcommand, after_help = quarantine::HELP)]
    Quarantine(quarantine::QuarantineCommand),
}

/// Flags of `log dump`.
#[derive(Debug, Args)]
pub struct DumpArgs {
    /// A data directory, a directory in it, or one file.
    path: PathBuf,
    /// Decode the records in each batch.
    #[arg(long)]
    records: bool,
    /// Begin with the batch that holds this offset.
    #[arg(long, value_name = "OFFSET", default_value_t = 0)]
    from_offset: i64,
    /// At most so many batches, index entries or ledger blocks of each file.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Show the bytes of each field beside its name and value.
    #[arg(long)]
    bytes: bool,
    /// One JSON object per line.
    #[arg(long)]
    json: bool,
}

/// Flags of `log verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// A data directory, a directory in it, or one file.
    path: PathBuf,
    /// One JSON object per line; the last one sums up.
    #[arg(long)]
    json: bool,
}

/// How the output looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Text,
    Json,
}

impl Format {
    fn of(json: bool) -> Format {
        match json {
            true => Format::Json,
            false => Format::Text,
        }
    }
}

/// Why a command did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
enum LogToolError {
    #[error("{0}")]
    Usage(String),
    #[error("{path}: {error}")]
    Disk {
        path: String,
        error: highwater_base::disk::DiskError,
    },
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

/// Runs a command to its end. Prints its own errors.
#[must_use]
pub fn run(command: &LogCommand) -> ExitCode {
    let done = |()| ExitCode::SUCCESS;
    match command {
        LogCommand::Dump(args) => print(|out| dump::run(args, out).map(done)),
        LogCommand::Verify(args) => {
            print(|out| verify::run(args, out).map(verify::Totals::exit_code))
        }
        LogCommand::Scrub(arguments) => highwater_cli::run_scrub(arguments),
        LogCommand::Quarantine(command) => print(|out| quarantine::run(command, out).map(done)),
    }
}

/// Runs what prints about files.
fn print(
    work: impl FnOnce(&mut BufWriter<io::StdoutLock<'_>>) -> Result<ExitCode, LogToolError>,
) -> ExitCode {
    let mut out = BufWriter::new(io::stdout().lock());
    let ended = work(&mut out).and_then(|code| {
        out.flush()?;
        Ok(code)
    });
    match ended {
        Ok(code) => code,
        // A reader that has seen enough is not an error.
        Err(LogToolError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("highwater: {error}");
            match error {
                LogToolError::Usage(_) => ExitCode::from(EXIT_USAGE),
                LogToolError::Disk { .. } | LogToolError::Output(_) => ExitCode::FAILURE,
            }
        }
    }
}

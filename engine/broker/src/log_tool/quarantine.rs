//! `log quarantine`: what waits in quarantine, the way back, and the way out.
//!
//! `restore` needs a stopped node: it moves the data below `topics/` and leaves an entry `restoring`,
//! by which the next start registers the topic. `list` and `purge` work beside a running node, which
//! touches an entry only to add it and, long after, to remove it.

use std::io::Write;
use std::path::Path;

use clap::{Args, Subcommand};
use highwater_base::TopicId;
use highwater_base::disk::{BootDisk, DiskError};
use highwater_reactor::{OsBootDisk, lock_data_dir};
use serde_json::json;

use super::line::Line;
use super::place::is_data_directory;
use super::verify::topics_of;
use super::{Format, LogToolError};
use crate::boot::restored::read_note;
use crate::boot::set_aside::{can_join, directories, entries, holds_files};
use crate::metadata::controller::is_topic_name;
use crate::metadata::image::is_internal;
use crate::quarantine::{Entry, Note, Reason};

pub(super) const HELP: &str = "\
Data that the metadata does not have is never served and not removed either: what was deleted waits
for delete_retention_hours, what nobody deleted (the metadata log lost its end, or is an old copy)
waits until somebody decides.

Examples:
  highwater log quarantine list highwater-data
  highwater log quarantine restore highwater-data 1764559200000-deleted-AAAAAAAAAAAAAAAAAAAAAA
  highwater log quarantine purge highwater-data --deleted          room at once";

const HELP_RESTORE: &str = "\
The node must be stopped. The data goes back to where it was and the next start registers the topic
under its old id, with the partitions and the configuration it had. Of a topic that was not deleted
(unknown) the number of partitions is not known: it is taken from the directories there are, and
keys find their partitions only if it is right, so give --partitions where you know better.
Committed offsets of groups are not part of a topic and do not come back with it.

Example:
  highwater log quarantine restore highwater-data 1764559200000-unknown-AAAAAAAAAAAAAAAAAAAAAA";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum QuarantineCommand {
    /// Show what waits in quarantine, and how much room it takes.
    List {
        /// The data directory.
        path: std::path::PathBuf,
        /// One JSON object per line.
        #[arg(long)]
        json: bool,
    },
    /// Put a topic back into a stopped node.
    #[command(after_help = HELP_RESTORE)]
    Restore(RestoreArgs),
    /// Remove data in quarantine for good, and free its room.
    Purge(PurgeArgs),
}

/// Flags of `restore`.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The data directory.
    path: std::path::PathBuf,
    /// The entry, as `list` shows it.
    entry: String,
    /// The topic's name from now on, where its own is taken.
    #[arg(long = "as", value_name = "NAME")]
    new_name: Option<String>,
    /// How many partitions the topic has, at least those that are there.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    partitions: Option<u32>,
}

/// Flags of `purge`.
#[derive(Debug, Args)]
pub struct PurgeArgs {
    /// The data directory.
    path: std::path::PathBuf,
    /// The entries, as `list` shows them.
    #[arg(required_unless_present_any = ["deleted", "all"])]
    entries: Vec<String>,
    /// Everything of topics that were deleted.
    #[arg(long)]
    deleted: bool,
    /// Everything, data of topics that nobody deleted included.
    #[arg(long)]
    all: bool,
}

/// An entry and what is in it.
#[derive(Debug)]
struct Held {
    /// The topic's directory in it, if there is one.
    topic: Option<String>,
    note: Option<Note>,
    partitions: Vec<u32>,
    bytes: u64,
}

pub(super) fn run(command: &QuarantineCommand, out: &mut dyn Write) -> Result<(), LogToolError> {
    match command {
        QuarantineCommand::List { path, json } => list(&open(path)?, Format::of(*json), out),
        QuarantineCommand::Restore(args) => restore(args, out),
        QuarantineCommand::Purge(args) => purge(args, out),
    }
}

fn usage<T>(message: impl Into<String>) -> Result<T, LogToolError> {
    Err(LogToolError::Usage(message.into()))
}

fn at(path: &str) -> impl Fn(DiskError) -> LogToolError + '_ {
    move |error| LogToolError::Disk {
        path: path.to_owned(),
        error,
    }
}

fn open(path: &Path) -> Result<OsBootDisk, LogToolError> {
    match is_data_directory(path) {
        true => Ok(OsBootDisk::new(path, false)),
        false => usage(format!("{} is no data directory", path.display())),
    }
}

fn all_entries(disk: &OsBootDisk) -> Result<Vec<Entry>, LogToolError> {
    entries(disk).map_err(at(crate::quarantine::DIRECTORY))
}

fn look_into(disk: &OsBootDisk, entry: Entry) -> Result<Held, LogToolError> {
    let path = entry.path();
    let topic = directories(disk, &path).map_err(at(&path))?.pop();
    let mut held = Held {
        note: read_note(disk, entry).ok(),
        partitions: Vec::new(),
        bytes: 0,
        topic,
    };
    let Some(topic) = &held.topic else {
        return Ok(held);
    };
    let path = entry.topic_path(topic);
    for name in directories(disk, &path).map_err(at(&path))? {
        let below = format!("{path}/{name}");
        let files = disk.list(&below).map_err(at(&below))?;
        held.bytes += files.iter().map(|file| file.size_bytes).sum::<u64>();
        held.partitions.extend(name.parse::<u32>());
    }
    held.partitions.sort_unstable();
    Ok(held)
}

fn list(disk: &OsBootDisk, format: Format, out: &mut dyn Write) -> Result<(), LogToolError> {
    let found = all_entries(disk)?;
    if found.is_empty() && format == Format::Text {
        writeln!(out, "nothing is in quarantine")?;
    }
    for entry in found {
        let held = look_into(disk, entry)?;
        let named = held.note.as_ref().map(|note| note.topic.clone());
        Line::new("entry")
            .with("name", entry.to_string())
            .with("reason", entry.reason.name())
            .with("topic", held.topic.or(named))
            .with("topic_id", entry.topic_id.to_string())
            .with("since_ms", entry.since_ms)
            .with("partitions", held.partitions.len())
            .with("bytes", held.bytes)
            .write(format, out)?;
    }
    Ok(())
}

fn named(disk: &OsBootDisk, name: &str) -> Result<Entry, LogToolError> {
    let known = all_entries(disk)?;
    match Entry::parse(name).filter(|entry| known.contains(entry)) {
        Some(entry) => Ok(entry),
        None => usage(format!(
            "there is no {name:?} in quarantine; `highwater log quarantine list` shows what is"
        )),
    }
}

fn restore(args: &RestoreArgs, out: &mut dyn Write) -> Result<(), LogToolError> {
    let mut disk = open(&args.path)?;
    let locked = lock_data_dir(&args.path);
    let _lock = locked.map_err(|error| LogToolError::Usage(error.to_string()))?;
    let entry = named(&disk, &args.entry)?;
    let held = look_into(&disk, entry)?;
    let Some(former) = held.topic.clone() else {
        return usage(format!(
            "{entry} holds no data: it is followed at the next start"
        ));
    };
    let topic = args.new_name.clone().unwrap_or_else(|| former.clone());
    check_name(&disk, &topic, entry.topic_id)?;
    let there = held.partitions.last().map_or(1, |last| last + 1);
    let known = held.note.as_ref().map_or(0, |note| note.partitions);
    let partitions = args.partitions.unwrap_or(known.max(there));
    if partitions < there {
        return usage(format!(
            "--partitions is {partitions}, but partition {} is there",
            there - 1
        ));
    }
    let note = Note {
        topic: topic.clone(),
        partitions,
        config: held.note.map_or_else(Vec::new, |note| note.config),
    };
    put_back(&mut disk, entry, &former, &note)?;
    writeln!(
        out,
        "{} partitions of topic {topic} are back; the next start of the node registers it with \
         {partitions} partitions under its old id {}",
        held.partitions.len(),
        entry.topic_id
    )?;
    Ok(())
}

fn check_name(disk: &OsBootDisk, topic: &str, id: TopicId) -> Result<(), LogToolError> {
    if !is_topic_name(topic) && !is_internal(topic) {
        return usage(format!("{topic:?} is no name of a topic"));
    }
    let Some(known) = topics_of(disk) else {
        return usage("the metadata log is damaged; `highwater log verify` tells where");
    };
    if let Some(name) = known.get(&id) {
        return usage(format!("the topic is there, as {name}; nothing was moved"));
    }
    match known.values().any(|name| name == topic) {
        true => usage(format!(
            "there is another topic {topic} by now; give it a new name with --as NAME"
        )),
        false => Ok(()),
    }
}

/// First what says that the topic is to be registered, then the data: an interruption is repeated.
fn put_back(
    disk: &mut OsBootDisk,
    entry: Entry,
    former: &str,
    note: &Note,
) -> Result<(), LogToolError> {
    let from = entry.topic_path(former);
    let parent = format!("topics/{}", note.topic);
    let to = format!("{parent}/{}", entry.topic_id);
    let is_empty = !holds_files(disk, &to).map_err(at(&to))?;
    if is_empty {
        disk.remove(&to).map_err(at(&to))?;
    } else if !can_join(disk, &from, &to) {
        return usage(format!("{to} has some of these partitions already"));
    }
    let restoring = Entry {
        reason: Reason::Restoring,
        ..entry
    };
    let path = restoring.note_path();
    let written = disk.write_whole(&path, &note.encode());
    written.map_err(at(&path))?;
    if is_empty {
        disk.rename(&from, &to).map_err(at(&from))?;
    } else {
        for child in disk.list(&from).map_err(at(&from))? {
            let (from, to) = (
                format!("{from}/{}", child.name),
                format!("{to}/{}", child.name),
            );
            disk.rename(&from, &to).map_err(at(&from))?;
        }
    }
    let path = entry.path();
    disk.remove(&path).map_err(at(&path))
}

fn purge(args: &PurgeArgs, out: &mut dyn Write) -> Result<(), LogToolError> {
    let mut disk = open(&args.path)?;
    let mut gone = Vec::new();
    for name in &args.entries {
        gone.push(named(&disk, name)?);
    }
    for entry in all_entries(&disk)? {
        let is_meant = match entry.reason {
            Reason::Deleted => args.deleted || args.all,
            Reason::Unknown => args.all,
            // It is a note of what has been put back.
            Reason::Restoring => false,
        };
        if is_meant && !gone.contains(&entry) {
            gone.push(entry);
        }
    }
    for entry in gone {
        let held = look_into(&disk, entry)?;
        let path = entry.path();
        disk.remove(&path).map_err(at(&path))?;
        let removed = json!(held.topic);
        writeln!(
            out,
            "removed {entry}: topic {removed}, {} bytes",
            held.bytes
        )?;
    }
    Ok(())
}

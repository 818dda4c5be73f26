//! Topics that an operator has put back: `highwater log quarantine restore` left an entry `restoring`
//! with a note and moved the data below `topics/`. The start registers the topic under its old id,
//! so that its files, which carry that id, are its own again.
//!
//! The entry stays until the record is durable; a crash before that finds it again.

use highwater_base::disk::{BootDisk, DiskError};

use super::set_aside::{entries, holds_files};
use crate::metadata::controller::is_topic_name;
use crate::metadata::image::is_internal;
use crate::metadata::{Image, MetadataRecord};
use crate::quarantine::{Entry, Note, Reason};

/// Longest note that is read.
const NOTE_BYTES_MAX: usize = 1 << 20;

/// What the start does about the entries `restoring`.
#[derive(Debug, Default)]
pub(super) struct Restored {
    /// What has to be logged, with the entry that is done with then.
    pub records: Vec<(MetadataRecord, Entry)>,
    /// Entries that are done with, because the metadata log has the topic.
    pub done: Vec<Entry>,
    /// Entries that cannot be followed, and why.
    pub refused: Vec<(Entry, String)>,
}

/// Folds the topics that were put back into the image.
pub(super) fn restored(boot: &dyn BootDisk, image: &mut Image) -> Result<Restored, DiskError> {
    let mut found = Restored::default();
    for entry in entries(boot)? {
        if entry.reason != Reason::Restoring {
            continue;
        }
        if image.topic(entry.topic_id).is_some() {
            found.done.push(entry);
            continue;
        }
        let note = read_note(boot, entry);
        match note.and_then(|note| check(boot, image, entry, note)) {
            Err(why) => found.refused.push((entry, why)),
            Ok(note) => {
                let record = note.record(entry.topic_id, image.next_core_slot());
                image.apply(&record);
                found.records.push((record, entry));
            }
        }
    }
    Ok(found)
}

/// The note in an entry.
pub(crate) fn read_note(boot: &dyn BootDisk, entry: Entry) -> Result<Note, String> {
    let path = entry.note_path();
    let mut bytes = vec![0; NOTE_BYTES_MAX];
    let got = boot.read(&path, 0, &mut bytes);
    let got = got.map_err(|error| format!("{path}: {error}"))?;
    Note::decode(&bytes[..got]).ok_or_else(|| format!("{path} is not what was written there"))
}

fn check(boot: &dyn BootDisk, image: &Image, entry: Entry, note: Note) -> Result<Note, String> {
    let topic = &note.topic;
    if !is_topic_name(topic) && !is_internal(topic) {
        return Err(format!("{topic:?} is no name of a topic"));
    }
    if let Some(other) = image.topic_by_name(topic) {
        return Err(format!(
            "there is another topic {topic}, with id {}; restore it under another name",
            other.id
        ));
    }
    let directory = format!("topics/{topic}/{}", entry.topic_id);
    match holds_files(boot, &directory) {
        Ok(true) => Ok(note),
        Ok(false) => Err(format!("there is no data in {directory}")),
        Err(error) => Err(format!("{directory}: {error}")),
    }
}

//! Data of deleted topics that a crash left behind: the tombstone was durable, the files were not
//! removed yet. Whatever lies below `topics/` and is not in the metadata image is such data, provided
//! the image is known to be whole.

use std::collections::BTreeSet;

use highwater_base::TopicId;
use highwater_base::disk::{BootDisk, DiskError};

use crate::metadata::{Image, METADATA_TOPIC};

const DIRECTORY: &str = "topics";
/// Characters of a topic id in a path.
const ID_CHARACTERS: usize = 22;

/// Removes the directories of topics that the image does not have, and parents that are empty then.
/// Returns the ids that went.
pub(super) fn remove(boot: &mut dyn BootDisk, image: &Image) -> Result<Vec<String>, DiskError> {
    let live: BTreeSet<String> = image
        .topics_by_name()
        .map(|topic| path_of(&topic.name, topic.id))
        .collect();
    let mut gone = Vec::new();
    for name in directories(boot, DIRECTORY)? {
        if name == METADATA_TOPIC {
            continue;
        }
        let parent = format!("{DIRECTORY}/{name}");
        for id in directories(boot, &parent)? {
            let path = format!("{parent}/{id}");
            if is_topic_id(&id) && !live.contains(&path) {
                boot.remove(&path)?;
                gone.push(id);
            }
        }
        if is_empty(boot, &parent)? {
            boot.remove(&parent)?;
        }
    }
    Ok(gone)
}

fn path_of(name: &str, id: TopicId) -> String {
    format!("{DIRECTORY}/{name}/{id}")
}

/// Names that are not ours are left alone.
fn is_topic_id(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    name.len() == ID_CHARACTERS && name.bytes().all(fits)
}

fn directories(boot: &dyn BootDisk, path: &str) -> Result<Vec<String>, DiskError> {
    let entries = match boot.list(path) {
        Ok(entries) => entries,
        Err(DiskError::NotFound) => Vec::new(),
        Err(error) => return Err(error),
    };
    let directories = entries.into_iter().filter(|entry| entry.is_directory);
    Ok(directories.map(|entry| entry.name).collect())
}

fn is_empty(boot: &dyn BootDisk, path: &str) -> Result<bool, DiskError> {
    match boot.list(path) {
        Ok(entries) => Ok(entries.is_empty()),
        Err(DiskError::NotFound) => Ok(false),
        Err(error) => Err(error),
    }
}

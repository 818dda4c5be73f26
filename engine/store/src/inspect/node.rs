//! What the partitions of a node are judged by: superblock, marks ledgers, checkpoints. And what
//! lies beside them.

use std::collections::BTreeMap;

use highwater_base::disk::{BootDisk, DiskError};
use highwater_base::limits::BLOCK_BYTES;
use highwater_base::{ClusterId, CoreId, Position};

use super::places::{core_of, is_ledger, list, tell_unknown};
use super::{Finding, FindingKind, LogImage, PartitionVerdict, VerifyHost, read_checkpoint};
use crate::LedgerImage;
use crate::checkpoint::DIRECTORY as CHECKPOINT_DIRECTORY;
use crate::ledger::{COPIES, DIRECTORY as MARKS_DIRECTORY, cores_found, path_of, read_what_can_be};
use crate::marks::{BlockHeader, PartitionKey, SNAPSHOT_ENDS, decode_block};
use crate::scrub::DIRECTORY as SCRUB_DIRECTORY;
use crate::superblock::{self, Copy, Superblock, SuperblockError};

/// What is known of a node before its partitions are looked at. Empty for files outside a data
/// directory.
#[derive(Debug, Default)]
pub struct NodeFacts {
    pub superblock: Option<Superblock>,
    pub cluster_id: Option<ClusterId>,
    pub ledgers: Option<LedgerImage>,
    checkpoints: BTreeMap<PartitionKey, (String, LogImage)>,
}

/// Verifies everything but the partitions.
pub fn verify_node(boot: &dyn BootDisk, host: &mut dyn VerifyHost) -> NodeFacts {
    let superblock = superblock(boot, host);
    let ledgers = ledgers(boot, superblock, host);
    let run = ledgers.as_ref().map_or(0, LedgerImage::checkpoint_run);
    let checkpoints = checkpoints(boot, run, host);
    if superblock.is_some_and(|it| !it.clean_shutdown) {
        let detail = "the clean flag is not set";
        host.finding(Finding::of(FindingKind::UncleanStop, superblock::PATH, detail).at(52));
    }
    for entry in list(boot, "", host) {
        let is_ours = match entry.is_directory {
            true => matches!(
                entry.name.as_str(),
                MARKS_DIRECTORY
                    | CHECKPOINT_DIRECTORY
                    | SCRUB_DIRECTORY
                    | "topics"
                    | "quarantine"
                    | "lost+found"
            ),
            false => matches!(entry.name.as_str(), "superblock" | "lock"),
        };
        if !is_ours {
            tell_unknown(&entry.name, &entry, host);
        }
    }
    NodeFacts {
        superblock,
        cluster_id: superblock.map(|it| it.cluster_id),
        ledgers,
        checkpoints,
    }
}

fn superblock(boot: &dyn BootDisk, host: &mut dyn VerifyHost) -> Option<Superblock> {
    let path = superblock::PATH;
    let mut bytes = vec![0u8; superblock::COPIES * BLOCK_BYTES];
    let opened = Superblock::open(boot);
    if let Ok(got) = boot.read(path, 0, &mut bytes) {
        let newest = opened.as_ref().map_or(0, |it| it.sequence);
        for (at, block) in bytes.chunks_exact(BLOCK_BYTES).enumerate() {
            let position = (at * BLOCK_BYTES) as u64;
            let finding = match superblock::decode(block) {
                _ if position as usize >= got => Some("the file ends before it".to_string()),
                Copy::Blank => Some("blank".to_string()),
                Copy::Damaged => Some("magic or checksum does not match".to_string()),
                Copy::Foreign(version) => Some(format!("format version {version}")),
                Copy::Good(copy) if opened.is_ok() && copy.sequence != newest => {
                    let detail = format!("copy {at} has sequence {}, not {newest}", copy.sequence);
                    let kind = FindingKind::SuperblockUpdate;
                    host.finding(Finding::of(kind, path, detail).at(position));
                    None
                }
                Copy::Good(_) => None,
            };
            if let Some(detail) = finding {
                let detail = format!("copy {at}: {detail}");
                let kind = FindingKind::SuperblockCopy;
                host.finding(Finding::of(kind, path, detail).at(position));
            }
        }
    }
    match opened {
        Ok(superblock) => Some(superblock),
        Err(error) => {
            let kind = match error {
                SuperblockError::Disk(_) => FindingKind::Unreadable,
                _ => FindingKind::SuperblockUnreadable,
            };
            host.finding(Finding::of(kind, path, error.to_string()));
            None
        }
    }
}

fn ledgers(
    boot: &dyn BootDisk,
    superblock: Option<Superblock>,
    host: &mut dyn VerifyHost,
) -> Option<LedgerImage> {
    let mut lost = false;
    for core in cores_found(boot).unwrap_or_default() {
        for half in 0..2 {
            lost |= ledger_half(boot, core, half, host);
        }
    }
    for entry in list(boot, MARKS_DIRECTORY, host) {
        if entry.is_directory || !is_ledger(&entry.name) {
            tell_unknown(&format!("{MARKS_DIRECTORY}/{}", entry.name), &entry, host);
        }
    }
    let runs = superblock.map(|it| it.runs()).unwrap_or_default();
    match LedgerImage::read_of(boot, runs) {
        Ok(image) => {
            let is_told = lost || old_copies(&image, superblock, host);
            if !image.is_readable() && !is_told {
                let detail = "no ledger has a complete snapshot, or one is not there";
                let kind = FindingKind::LedgerUnreadable;
                host.finding(Finding::of(kind, MARKS_DIRECTORY, detail));
            }
            Some(image)
        }
        Err(error) => {
            let kind = FindingKind::Unreadable;
            host.finding(Finding::of(kind, &error.path, error.error.to_string()));
            None
        }
    }
}

/// Tells of ledgers older than the superblock, and of the opposite. True when ledgers are old.
fn old_copies(
    image: &LedgerImage,
    superblock: Option<Superblock>,
    host: &mut dyn VerifyHost,
) -> bool {
    let Some(superblock) = superblock else {
        return false;
    };
    let served = superblock.served_run;
    for core in image.old_copies() {
        let path = path_of(*core, 0, 0);
        let detail = format!("the ledger of core {core} is of a run before {served}, the last one");
        host.finding(Finding::of(FindingKind::OldCopy, &path, detail));
    }
    if image.newest_run() > superblock.sequence {
        let (newest, sequence) = (image.newest_run(), superblock.sequence);
        let detail = format!("it has sequence {sequence}, a ledger is of run {newest}");
        host.finding(Finding::of(FindingKind::OldCopy, superblock::PATH, detail).at(8));
    }
    !image.old_copies().is_empty()
}

/// One block of a ledger file.
enum BlockState {
    Blank,
    Damaged(&'static str),
    Good(BlockHeader),
}

/// Both copies of one half of a core's ledger. True when marks in it are lost.
fn ledger_half(boot: &dyn BootDisk, core: CoreId, half: u64, host: &mut dyn VerifyHost) -> bool {
    let mut copies = Vec::new();
    for copy in 0..COPIES {
        let path = path_of(core, copy, half);
        match read_blocks(boot, &path, core) {
            Ok(blocks) => copies.push(blocks),
            Err(DiskError::NotFound) => {
                let detail = format!("copy {copy} of the ledger of core {core} is not there");
                host.finding(Finding::of(FindingKind::LedgerBlock, &path, detail));
                copies.push(Vec::new());
            }
            Err(error) => {
                host.finding(Finding::of(
                    FindingKind::Unreadable,
                    &path,
                    error.to_string(),
                ));
                copies.push(Vec::new());
            }
        }
    }
    let good = copies.iter().flatten().filter_map(|block| match block {
        BlockState::Good(header) => Some(*header),
        _ => None,
    });
    let good: Vec<BlockHeader> = good.collect();
    // The last block of the newest generation: behind it, what is damaged was being written.
    let newest = good.iter().map(|header| (header.generation, header.index));
    let (generation, last) = newest.max().unwrap_or_default();
    let was_in_flight = |index: u32| {
        let of_it = || good.iter().filter(|header| header.generation == generation);
        let before = of_it().filter(|header| header.index < index);
        let before = before.max_by_key(|header| header.index);
        let later = of_it().filter(|header| header.index > index);
        let completed = later.map(|header| header.completed_flush).max();
        let is_in_snapshot =
            !of_it().any(|header| header.flags & SNAPSHOT_ENDS != 0 && header.index < index);
        let completed = completed.unwrap_or_default();
        !is_in_snapshot && before.is_some_and(|it| it.next_was_in_flight(completed))
    };
    let mut lost = false;
    for copy in 0..COPIES {
        let path = path_of(core, copy, half);
        for (at, block) in copies[copy].iter().enumerate() {
            let BlockState::Damaged(why) = block else {
                continue;
            };
            let index = at as u32;
            let other = copies[(copy + 1) % COPIES].get(at);
            let other_has =
                matches!(other, Some(BlockState::Good(it)) if it.generation == generation);
            let kind = match other_has {
                true => FindingKind::LedgerBlock,
                false if index > last || was_in_flight(index) => FindingKind::LedgerTornTail,
                false => FindingKind::LedgerUnreadable,
            };
            lost |= kind == FindingKind::LedgerUnreadable;
            let detail = format!("block {index}: {why}");
            let position = (at * BLOCK_BYTES) as u64;
            host.finding(Finding::of(kind, &path, detail).at(position));
        }
    }
    lost
}

fn read_blocks(
    boot: &dyn BootDisk,
    path: &str,
    core: CoreId,
) -> Result<Vec<BlockState>, DiskError> {
    let mut states = Vec::new();
    let mut bytes = vec![0u8; 64 * BLOCK_BYTES];
    loop {
        let offset = (states.len() * BLOCK_BYTES) as u64;
        let got = read_what_can_be(boot, path, offset, &mut bytes)?;
        for block in bytes[..got].chunks(BLOCK_BYTES) {
            let at = states.len() as u32;
            states.push(match decode_block(block) {
                Some((header, _)) if header.core != core => {
                    BlockState::Damaged("written by another core")
                }
                Some((header, _)) if header.index != at => {
                    BlockState::Damaged("a block of another place")
                }
                Some((header, _)) => BlockState::Good(header),
                None if block.iter().all(|byte| *byte == 0) => BlockState::Blank,
                None if block.len() < BLOCK_BYTES => BlockState::Damaged("the file ends within it"),
                None => BlockState::Damaged("magic, version, checksum or a mark does not match"),
            });
        }
        if got < bytes.len() {
            return Ok(states);
        }
    }
}

fn checkpoints(
    boot: &dyn BootDisk,
    run: u64,
    host: &mut dyn VerifyHost,
) -> BTreeMap<PartitionKey, (String, LogImage)> {
    let mut logs = BTreeMap::new();
    for entry in list(boot, CHECKPOINT_DIRECTORY, host) {
        let path = format!("{CHECKPOINT_DIRECTORY}/{}", entry.name);
        if entry.is_directory || core_of(&entry.name).is_none() {
            tell_unknown(&path, &entry, host);
            continue;
        }
        match read_checkpoint(boot, &path, entry.size_bytes) {
            Ok(Some((of, _))) if of != run => {
                let detail = format!("it is of run {of}, the last one was {run}");
                host.finding(Finding::of(FindingKind::OldCopy, &path, detail));
            }
            Ok(Some((_, found))) => {
                for log in found {
                    logs.insert(log.key(), (path.clone(), log));
                }
            }
            Ok(None) => {
                let detail = "the frame, its checksum or what is in it does not match";
                let kind = FindingKind::CheckpointDamaged;
                host.finding(Finding::of(kind, &path, detail).at(0));
            }
            Err(error) => {
                let kind = FindingKind::Unreadable;
                host.finding(Finding::of(kind, &path, error.to_string()));
            }
        }
    }
    logs
}

impl NodeFacts {
    /// Compares the checkpoint of a clean stop with what the segments hold, where nothing of them is
    /// lost.
    pub fn compare_checkpoint(
        &self,
        key: PartitionKey,
        found: &PartitionVerdict,
        host: &mut dyn VerifyHost,
    ) {
        let Some((path, image)) = self.checkpoints.get(&key) else {
            return;
        };
        let clean = self.ledgers.as_ref().and_then(|all| all.get(&key)?.clean);
        let is_believed = |at: Position| (at.epoch.0, at.end.0) == (image.epoch, image.end);
        if !clean.is_some_and(is_believed) || !found.holes.is_empty() {
            return;
        }
        let segments = image.segments.iter();
        let says = segments.map(|it| (it.base_offset, it.next_offset, it.end_position));
        let says: Vec<_> = says.collect();
        let finds: Vec<_> = found.ends.iter().map(|it| (it.0.0, it.1.0, it.2)).collect();
        if says != finds {
            let detail = format!(
                "partition {} of topic {}: it says segments (base, next offset, end position) \
                 {says:?}, the files hold {finds:?}",
                key.partition.0, key.topic_id
            );
            host.finding(Finding::of(FindingKind::CheckpointMismatch, path, detail));
        }
    }
}

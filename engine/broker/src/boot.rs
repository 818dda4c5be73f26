//! From a data directory to running shards: lock, superblock, ledgers, metadata, partitions.
//!
//! Order matters. The directory is locked first; the superblock says whose it is and whether the
//! last stop was clean; the marks ledgers say how far each log must reach; core 0 recovers the
//! metadata log and shares its records; then every core recovers its own partitions, in parallel;
//! and before the first of them serves, what the former process left for recovery is removed.

mod formatting;
pub(crate) mod partitions;
pub(crate) mod restored;
pub(crate) mod set_aside;
#[cfg(test)]
mod tests;

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use highwater_base::disk::{BootDisk, DiskError};
use highwater_base::{CoreId, Offset};
use highwater_reactor::{Deal, DirectIo, DiskProbe, Idle, Listener, OsBootDisk, ReactorConfig};
use highwater_store::{
    Barrier, LedgerImage, LogId, MarksLedger, PartitionKey, PartitionSpec, Store, StoreConfig,
    Superblock,
};

use crate::barrier;
use crate::config::{Advertise, IdlePolicy, NodeConfig};
use crate::metadata::controller::ControllerConfig;
use crate::metadata::record::{MetadataRecord, decode_batch};
use crate::metadata::{Controller, Image, METADATA_PARTITION, METADATA_TOPIC, METADATA_TOPIC_ID};
use crate::metadata_log::MetadataLeader;
use crate::partition_table::PartitionTable;
use crate::quarantine::{DeleteRetention, Entry, Reason};
use crate::scrubbing;
use crate::shard::{INITIAL_EPOCH, NodeIdentity, Shard, ShardParts};

pub use formatting::open_superblock;
use set_aside::{Moved, Tombstones};

/// A start that cannot be, in a sentence that says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BootError(pub String);

fn say(error: impl std::fmt::Display) -> BootError {
    BootError(error.to_string())
}

/// Passes the metadata records from core 0, which reads them, to the other cores.
#[derive(Debug, Default)]
struct MetadataHandoff {
    records: Mutex<Option<Result<Arc<Vec<MetadataRecord>>, String>>>,
    arrived: Condvar,
}

impl MetadataHandoff {
    fn publish(&self, records: Result<Arc<Vec<MetadataRecord>>, String>) {
        let mut place = self
            .records
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        *place = Some(records);
        self.arrived.notify_all();
    }

    fn wait(&self) -> Result<Arc<Vec<MetadataRecord>>, String> {
        let mut place = self
            .records
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        loop {
            if let Some(records) = place.as_ref() {
                return records.clone();
            }
            place = self
                .arrived
                .wait(place)
                .unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }
}

/// What helps when the metadata log is damaged.
const REMEDY: &str = "restore the data directory from a backup, or move it away to start empty";

/// Says what became of data that no topic has.
fn tell_moved(moved: &Moved) {
    match moved {
        Moved::Removed { from } => {
            tracing::info!(directory = %from, "removed data of a deleted topic");
        }
        Moved::ToQuarantine { from, entry } if entry.reason == Reason::Unknown => {
            tracing::error!(
                directory = %from,
                %entry,
                "the metadata log knows neither this topic nor its deletion; its data is kept in \
                 quarantine: `highwater log quarantine restore` puts it back, `purge` removes it"
            );
        }
        Moved::ToQuarantine { from, entry } => {
            tracing::info!(directory = %from, %entry, "moved data of a deleted topic to quarantine");
        }
        Moved::Failed { from, error } => {
            tracing::error!(directory = %from, %error, "data that no topic has cannot be moved to \
                quarantine; it stays where it is and is not served");
        }
    }
}

/// What the store is told of the metadata log.
pub(crate) fn metadata_spec() -> PartitionSpec {
    PartitionSpec {
        topic_id: METADATA_TOPIC_ID,
        topic: METADATA_TOPIC.to_string(),
        partition: METADATA_PARTITION,
        epoch: INITIAL_EPOCH,
        config: highwater_store::LogConfig {
            retention_ms: -1,
            retention_bytes: -1,
            segment_ms: i64::MAX,
            segment_bytes: 64 << 20,
            ..highwater_store::LogConfig::default()
        },
    }
}

/// The records of the recovered metadata log, from its start.
pub(crate) fn read_metadata(
    store: &Store,
    boot: &mut impl BootDisk,
    log: LogId,
) -> Result<Vec<MetadataRecord>, String> {
    let mut records = Vec::new();
    let mut wrong = None;
    let start = store.log_start(log);
    let mut visit = |header: &highwater_base::BatchHeader, batch: &[u8]| {
        if header.base_offset < start.0 || wrong.is_some() {
            return;
        }
        match decode_batch(header, batch) {
            Ok(found) => records.extend(found),
            Err(error) => wrong = Some(error.to_string()),
        }
    };
    store
        .scan(boot, log, Offset(start.0), &mut visit)
        .map_err(|error| format!("the metadata log cannot be read: {error}; {REMEDY}"))?;
    match wrong {
        Some(error) => Err(format!("{error}; was it written by a newer version?")),
        None => Ok(records),
    }
}

/// Everything a core needs to recover its share.
#[derive(Debug)]
pub struct ShardFactory {
    identity: NodeIdentity,
    ledgers: LedgerImage,
    clean: bool,
    /// The number of this run of the node.
    run: u64,
    superblock: Mutex<Superblock>,
    barrier: Barrier,
    direct_io: bool,
    handoff: MetadataHandoff,
    /// Cores that have recovered their share.
    recovered: AtomicUsize,
}

impl ShardFactory {
    /// Reads what all cores share, and notes in the superblock that a run begins.
    ///
    /// # Errors
    /// Ledgers that cannot be read at all, a superblock that cannot be written.
    pub fn new(
        identity: NodeIdentity,
        boot: &mut OsBootDisk,
        probe: &DiskProbe,
        mut superblock: Superblock,
    ) -> Result<ShardFactory, BootError> {
        let mut ledgers = LedgerImage::read_of(boot, superblock.runs()).map_err(say)?;
        describe_ledgers(&ledgers, &superblock);
        let clean = superblock.clean_shutdown;
        let newest_run = ledgers.newest_run();
        let run = superblock.mark_running(boot, newest_run).map_err(say)?;
        ledgers.begin_run(run);
        Ok(ShardFactory {
            identity,
            ledgers,
            clean,
            run,
            superblock: Mutex::new(superblock),
            barrier: barrier::choose(probe).barrier,
            direct_io: probe.buffered.is_none(),
            handoff: MetadataHandoff::default(),
            recovered: AtomicUsize::new(0),
        })
    }

    /// Recovers one core's share; runs on that core's thread. No core serves before all have
    /// returned, so the last one forgets the former process on the way.
    ///
    /// # Errors
    /// What recovery cannot decide, in a sentence.
    pub fn make(&self, core: CoreId) -> Result<Shard, String> {
        let result = self.recover(core);
        if core == CoreId(0)
            && let Err(error) = &result
        {
            self.handoff.publish(Err(error.clone()));
        }
        let shard = result?;
        let cores = self.identity.cores;
        if self.recovered.fetch_add(1, Ordering::AcqRel) + 1 == cores {
            self.take_over(cores)?;
        }
        Ok(shard)
    }

    /// Every core's ledger is durable and every log is recovered: from now on this run is the one that
    /// counts, and what the former process left for recovery goes.
    fn take_over(&self, cores: usize) -> Result<(), String> {
        let mut boot = OsBootDisk::new(&self.identity.config.data_dir, self.direct_io);
        let mut superblock = self
            .superblock
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        superblock
            .mark_serving(&mut boot, self.run, cores as u16)
            .map_err(|error| error.to_string())?;
        highwater_store::forget_former_process(&mut boot, cores).map_err(|error| {
            format!("what the former process left for recovery cannot be removed: {error}")
        })
    }

    fn recover(&self, core: CoreId) -> Result<Shard, String> {
        let started = highwater_reactor::now();
        let config = &self.identity.config;
        let cores = self.identity.cores;
        let mut boot = OsBootDisk::new(&config.data_dir, self.direct_io);
        let defaults = config.topic_defaults().map_err(|error| error.to_string())?;
        let retention = DeleteRetention::hours(config.delete_retention_hours);
        let mut image = Image::new(config.node_id, defaults);
        // The ledger keeps what this core owns; ownership needs the image, which for core 0 needs
        // the metadata log, which needs a store. Owned is decided by what is not known to belong
        // elsewhere: marks of partitions that moved are merged at the next start.
        let records = if core == CoreId(0) {
            None
        } else {
            Some(self.handoff.wait()?)
        };
        if let Some(records) = &records {
            for record in records.iter() {
                image.apply(record);
            }
        }
        let owned = |key: &PartitionKey| match image.topic(key.topic_id) {
            Some(topic) => topic.core_of(key.partition.0 as u32, cores) == core,
            None => core == CoreId(0),
        };
        let ledger = MarksLedger::create(&mut boot, core, &self.ledgers, owned)
            .map_err(|error| error.to_string())?;
        let mut store = Store::new(self.store_config(core), self.identity.cluster_id, ledger);
        let mut leader = None;
        let mut replayed = records.as_ref().map_or(0, |records| records.len());
        if core == CoreId(0) {
            let (log, mut records) = self.replay_metadata(&mut store, &mut boot)?;
            replayed = records.len();
            let mut tombstones = Tombstones::default();
            for record in &records {
                tombstones.note(record, &image);
                image.apply(record);
            }
            let mut new_leader = MetadataLeader::new(self.controller(), log, retention);
            let restored = self.restore_topics(&mut image, &mut boot)?;
            records.extend(restored.iter().map(|(record, _)| record.clone()));
            new_leader.restore(restored);
            self.handoff.publish(Ok(Arc::new(records)));
            self.set_aside(&image, &tombstones, &mut store, &mut boot);
            self.plan_removals(&boot, &mut new_leader);
            leader = Some(new_leader);
        }
        if let Some(expiration_ms) = image.producer_id_expiration_ms() {
            store.set_producer_id_expiration_ms(expiration_ms);
        }
        let mut table = PartitionTable::default();
        let (logs, unvouched) =
            self.recover_partitions(core, &image, &mut store, &mut boot, &mut table)?;
        scrubbing::begin(&mut store, &boot, &self.identity.config, &image);
        let now = highwater_reactor::now();
        tracing::info!(
            core = core.0,
            partitions = logs.len(),
            milliseconds = (now.monotonic_ns - started.monotonic_ns) / 1_000_000,
            clean = self.clean,
            "recovered"
        );
        let parts = ShardParts {
            core,
            node: self.identity.clone(),
            image,
            store,
            table,
            logs,
            unvouched,
            leader,
            metadata_records_replayed: replayed,
            group_id_seed: u64::from_le_bytes(highwater_reactor::random_bytes()),
        };
        Ok(Shard::new(parts, now))
    }

    fn store_config(&self, core: CoreId) -> StoreConfig {
        let config = &self.identity.config;
        StoreConfig {
            core,
            tail_cache_bytes: config.tail_cache_mb << 20,
            barrier: self.barrier,
            ledger_lag_ms: config.ledger_lag_ms,
            ledger_lag_bytes: config.ledger_lag_bytes,
            barriers_in_flight_max: config.barriers_in_flight_max,
            zero_ahead_bytes: config.zero_ahead_bytes,
            first_segment_bytes: config.first_segment_bytes,
            producer_id_expiration_ms: config.producer_id_expiration_ms,
        }
    }

    fn controller(&self) -> Controller {
        let config = &self.identity.config;
        let controller = ControllerConfig {
            broker_ids: self.identity.brokers().iter().map(|b| b.id).collect(),
            num_partitions: config.num_partitions,
            offsets_topic_partitions: config.offsets_topic_partitions,
            cores: self.identity.cores,
            topics_max: config.topics_max,
            partitions_max: config.partitions_max,
        };
        Controller::new(
            controller,
            u64::from_le_bytes(highwater_reactor::random_bytes()),
        )
    }

    /// The metadata log and its records.
    fn replay_metadata(
        &self,
        store: &mut Store,
        boot: &mut OsBootDisk,
    ) -> Result<(LogId, Vec<MetadataRecord>), String> {
        let (log, report) = store
            .recover(
                boot,
                metadata_spec(),
                &self.ledgers,
                highwater_reactor::now(),
            )
            .map_err(|error| format!("the metadata log cannot be recovered: {error}; {REMEDY}"))?;
        if !report.holes.is_empty() && !cfg!(mutant = "B10") {
            return Err(format!(
                "the metadata log is damaged at offsets {:?}; {REMEDY}",
                report.holes
            ));
        }
        let records = read_metadata(store, boot, log)?;
        if !report.vouch && records.is_empty() && self.has_served() {
            return Err(
                "the metadata log is empty and so are the marks that would say how far it \
                        went, but this node has served; restore the directories topics and marks \
                        from a backup, or move the data directory away to start empty"
                    .to_string(),
            );
        }
        Ok((log, records))
    }

    fn has_served(&self) -> bool {
        let superblock = self
            .superblock
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        superblock.served_run > 0
    }

    /// Registers the topics that an operator has put back.
    fn restore_topics(
        &self,
        image: &mut Image,
        boot: &mut OsBootDisk,
    ) -> Result<Vec<(MetadataRecord, Entry)>, String> {
        let unreadable = |error| format!("quarantine: {error}");
        let found = restored::restored(boot, image).map_err(unreadable)?;
        for (entry, why) in &found.refused {
            tracing::error!(%entry, why, "a topic in quarantine cannot be restored: its data goes back");
        }
        for (record, _) in &found.records {
            if let MetadataRecord::Topic {
                name, partitions, ..
            } = record
            {
                tracing::warn!(topic = %name, partitions, "restored a topic from quarantine");
            }
        }
        let done = found.done.iter();
        for entry in done.chain(found.refused.iter().map(|(entry, _)| entry)) {
            let path = entry.path();
            boot.remove(&path)
                .map_err(|error| format!("{path}: {error}"))?;
        }
        Ok(found.records)
    }

    /// Moves to quarantine what the metadata does not have. Where that fails, it stays where it is
    /// until the next start.
    fn set_aside(
        &self,
        image: &Image,
        tombstones: &Tombstones,
        store: &mut Store,
        boot: &mut OsBootDisk,
    ) {
        let gone = self.ledgers.keys().filter(|key| {
            let id = key.topic_id;
            id != METADATA_TOPIC_ID && image.topic(id).is_none() && tombstones.has(id)
        });
        let now = highwater_reactor::now();
        store.forget_marks(now, gone.copied());
        let retention = DeleteRetention::hours(self.identity.config.delete_retention_hours);
        match set_aside::set_aside(boot, image, tombstones, retention, now.wall_ms) {
            Ok(moved) => moved.iter().for_each(tell_moved),
            Err(error) => {
                tracing::error!(%error, "topics/ cannot be gone through: data that no topic \
                has stays where it is")
            }
        }
    }

    /// Core 0 removes deleted data when its time has come.
    fn plan_removals(&self, boot: &OsBootDisk, leader: &mut MetadataLeader) {
        let now = highwater_reactor::now();
        match set_aside::entries(boot) {
            Ok(entries) => entries
                .into_iter()
                .for_each(|entry| leader.removals.add(now, entry)),
            Err(error) => {
                tracing::error!(%error, "quarantine/ cannot be listed: nothing in it is removed")
            }
        }
    }
}

/// Says what is wrong with the ledgers, and with the superblock beside them.
fn describe_ledgers(ledgers: &LedgerImage, superblock: &Superblock) {
    for core in ledgers.old_copies() {
        tracing::error!(
            core = core.0,
            "the marks ledger of this core is older than the last run of the node: an old copy was \
             put back; it is not believed, logs are scanned and nothing that is valid is cut"
        );
    }
    for core in ledgers.missing() {
        tracing::error!(
            core = core.0,
            "the marks ledger of this core is missing though the core has served"
        );
    }
    if ledgers.newest_run() > superblock.sequence {
        tracing::error!(
            sequence = superblock.sequence,
            newest_run = ledgers.newest_run(),
            "the superblock is older than the marks ledgers: an old copy was put back"
        );
    }
    if !ledgers.is_readable() {
        tracing::error!(
            "a marks ledger is missing, old, or damaged in both copies: recovery cannot tell a torn \
             tail from lost records, and keeps whatever is valid"
        );
    }
}

/// The reactor's settings for a node.
///
/// # Errors
/// An address that does not resolve, or too few ports for direct mode.
pub fn reactor_config(
    config: &NodeConfig,
    probe: &DiskProbe,
    cores: usize,
    listen: SocketAddr,
) -> Result<ReactorConfig, BootError> {
    let mut listeners = vec![Listener {
        address: listen,
        deal: Deal::RoundRobin,
    }];
    if config.advertise == Advertise::Core {
        for core in 0..cores.min(config.direct_cores_max) {
            let port = u16::try_from(usize::from(listen.port()) + 1 + core).map_err(|_| {
                BootError(format!(
                    "listen port {} leaves no room for direct ports",
                    listen.port()
                ))
            })?;
            let address = SocketAddr::new(listen.ip(), port);
            listeners.push(Listener {
                address,
                deal: Deal::Own(CoreId(core as u16)),
            });
        }
    }
    Ok(ReactorConfig {
        cores,
        pin: config.pin_cores,
        first_core: config.first_core,
        listeners,
        idle: match config.idle {
            IdlePolicy::Spin => Idle::Spin,
            IdlePolicy::Adaptive => Idle::Adaptive {
                spin_us: config.idle_spin_us,
            },
            IdlePolicy::Sleep => Idle::Sleep,
        },
        data_dir: config.data_dir.clone(),
        direct_io: match probe.buffered {
            None => DirectIo::Direct,
            Some(_) => DirectIo::Buffered,
        },
        read_ahead_bytes: probe.device.read_ahead_bytes,
        frame_bytes_max: config.frame_bytes_max,
        send_bytes_max: config.send_queue_bytes_max,
        connections_max: config.connections_max,
        open_files_max: config.open_files_max,
        receive_bytes_max: config.receive_buffers_mb << 20,
        frame_receive_timeout: Duration::from_millis(config.frame_receive_timeout_ms as u64),
        cold_reads_in_flight_max: config.cold_reads_in_flight_max,
        cold_read_ahead_bytes: config.cold_read_ahead_bytes,
        cold_read_share_percent: config.cold_read_share_percent,
        ..ReactorConfig::default()
    })
}

/// The listen address with a port that is really free where 0 asks for any.
///
/// # Errors
/// When the address cannot be bound.
pub fn choose_port(mut listen: SocketAddr) -> Result<SocketAddr, BootError> {
    if listen.port() == 0 {
        let probe = TcpListener::bind(listen)
            .map_err(|error| BootError(format!("cannot listen on {listen}: {error}")))?;
        listen = probe.local_addr().map_err(say)?;
    }
    Ok(listen)
}

/// Whether an error of the disk means the directory cannot be written at all.
#[must_use]
pub fn is_denied(error: &DiskError) -> bool {
    matches!(error, DiskError::Denied(_))
}

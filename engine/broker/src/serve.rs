//! `highwater serve`: one node, from its configuration to a clean stop.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;

use highwater_base::CoreId;
use highwater_ops::{Endpoint, MemoryPool, NodeFacts};
use highwater_reactor::{DiskProbe, OsBootDisk};
use highwater_store::Superblock;

use crate::barrier;
use crate::boot::{self, BootError, ShardFactory};
use crate::config::{Advertise, NodeConfig};
use crate::memory_budget::MemoryBudget;
use crate::ops::{Shards, process_figures, quarantine_source};
use crate::shard::NodeIdentity;

/// Runs a node until it is told to stop. `ready` is called once clients can connect.
///
/// # Errors
/// A start or a stop that failed, in a sentence that says what to do.
pub fn serve(
    mut config: NodeConfig,
    ready: impl FnOnce(&NodeConfig, SocketAddr) + Send,
) -> Result<(), BootError> {
    let say = |error: &dyn std::fmt::Display| BootError(error.to_string());
    // The operations thread starts before the cores; signals are the reactor's all the same.
    highwater_reactor::hold_signals();
    highwater_reactor::check_io_uring().map_err(|error| say(&error))?;
    // Clients are told it, and do not know where this process was started.
    config.data_dir = std::path::absolute(&config.data_dir).map_err(|error| say(&error))?;
    let _lock = highwater_reactor::lock_data_dir(&config.data_dir).map_err(|error| say(&error))?;
    let probe = highwater_reactor::probe_disk(&config.data_dir).map_err(|error| say(&error))?;
    describe_disk(&probe);
    require_flushes(&probe, config.allow_no_barrier)?;

    let mut disk = OsBootDisk::new(&config.data_dir, probe.buffered.is_none());
    let superblock = boot::open_superblock(&mut disk, &config.data_dir, config.node_id)?;
    let cores = core_count(&config)?;
    let listen = boot::choose_port(config.listen_address().map_err(|error| say(&error))?)?;
    describe_memory(&config, cores);
    let config = Arc::new(config);
    let volume = highwater_reactor::watch_volume(&config.data_dir).map_err(|error| say(&error))?;
    let identity = NodeIdentity {
        cluster_id: superblock.cluster_id,
        advertised: config.advertised_address(listen),
        config: Arc::clone(&config),
        cores,
        volume,
    };
    let endpoint = start_endpoint(&identity)?;
    let factory = ShardFactory::new(identity, &mut disk, &probe, superblock)?;

    let reactor = boot::reactor_config(&config, &probe, cores, listen)?;
    let told = Arc::clone(&config);
    let node = endpoint.as_ref().map(Endpoint::node);
    let ops_address = endpoint.as_ref().map(Endpoint::address);
    highwater_reactor::run(
        reactor,
        move |core: CoreId| factory.make(core),
        move |addresses, post| {
            let address = addresses.first().copied().unwrap_or(listen);
            if let Some(node) = node {
                let cores = cores as u16;
                node.serves(Box::new(Shards { post, cores }));
            }
            announce(&told, cores, address, ops_address);
            ready(&told, address);
        },
    )
    .map_err(|error| say(&error))?;
    drop(endpoint);
    // The cores have written to it since.
    let mut superblock = Superblock::open(&disk).map_err(|error| say(&error))?;
    superblock
        .mark_clean(&mut disk)
        .map_err(|error| say(&error))?;
    Ok(())
}

/// Metrics and health over HTTP, if they are wanted. Recovery can take a while: `/ready` says so.
fn start_endpoint(identity: &NodeIdentity) -> Result<Option<Endpoint>, BootError> {
    let say = |error: &dyn std::fmt::Display| BootError(error.to_string());
    let config = &identity.config;
    let Some(address) = config.ops_address().map_err(|error| say(&error))? else {
        return Ok(None);
    };
    let (host, port) = &identity.advertised;
    let facts = NodeFacts {
        node_id: config.node_id,
        cluster_id: identity.cluster_id.to_string(),
        version: crate::VERSION.to_owned(),
        started_ms: highwater_reactor::now().wall_ms,
        advertised: format!("{host}:{port}"),
        config: serde_json::to_value(&**config).map_err(|error| say(&error))?,
        metrics_topics_max: config.metrics_topics_max,
        memory_budget: memory_pools(&MemoryBudget::of(config, identity.cores)),
    };
    let quarantine = quarantine_source(config.data_dir.clone());
    let endpoint = Endpoint::start(address, facts, process_figures, quarantine);
    endpoint.map(Some).map_err(|error| say(&error))
}

fn memory_pools(budget: &MemoryBudget) -> Vec<MemoryPool> {
    let pools = budget.pools().into_iter();
    pools
        .map(|(pool, bytes)| MemoryPool {
            pool,
            bytes_max: bytes as u64,
        })
        .collect()
}

/// The number of shards: what is configured, or one per CPU.
fn core_count(config: &NodeConfig) -> Result<usize, BootError> {
    let available = std::thread::available_parallelism()
        .map_err(|error| BootError(format!("cannot count CPUs: {error}; set cores = N")))?
        .get();
    Ok(if config.cores == 0 {
        available
    } else {
        config.cores
    })
}

fn describe_memory(config: &NodeConfig, cores: usize) {
    let budget = MemoryBudget::of(config, cores);
    tracing::info!(
        total_mb = budget.total_bytes() >> 20,
        tail_cache_mb = budget.tail_cache_bytes >> 20,
        receive_buffers_mb = budget.receive_bytes >> 20,
        copies_mb = budget.copies_bytes >> 20,
        connections_mb = budget.connections_bytes >> 20,
        groups_mb = budget.groups_bytes >> 20,
        "memory budget"
    );
}

fn describe_disk(probe: &DiskProbe) {
    if let Some(found) = &probe.buffered {
        tracing::warn!(
            directory = %found.directory.display(),
            filesystem = %probe.filesystem,
            why = %found.why,
            "no direct I/O: every write is buffered and flushed by itself, slower but as safe; use \
             a plain directory of ext4 or XFS on a local disk for full speed"
        );
    }
    let choice = barrier::choose(probe);
    tracing::info!(
        device = %probe.device.name,
        filesystem = %probe.filesystem,
        write_cache = ?probe.device.write_cache,
        fua = ?probe.device.fua,
        barrier = ?choice.barrier,
        because = %choice.because,
        "durability barrier chosen: {}",
        barrier::describe(choice.barrier)
    );
}

/// Refuses a directory whose flushes do not reach the device, unless that is wanted.
fn require_flushes(probe: &DiskProbe, allowed: bool) -> Result<(), BootError> {
    match &probe.never_flushed {
        None => Ok(()),
        Some(why) if allowed => {
            tracing::warn!(
                %why,
                "allow_no_barrier is set: what is acknowledged is lost when the power fails, unless \
                 a battery keeps the device's cache"
            );
            Ok(())
        }
        Some(why) => Err(BootError(format!(
            "{why}. What is acknowledged there is lost when the power fails; if a battery keeps the \
             device's cache alive, set allow_no_barrier = true"
        ))),
    }
}

/// The line scripts wait for: it contains `ready`.
fn announce(config: &NodeConfig, cores: usize, address: SocketAddr, ops: Option<SocketAddr>) {
    let ops = ops.map_or_else(String::new, |ops| {
        format!(", metrics on http://{ops}/metrics")
    });
    let mode = match config.advertise {
        Advertise::Node => "",
        Advertise::Core => ", direct ports follow",
    };
    let mut out = std::io::stdout().lock();
    let line = format!(
        "highwater: ready on {address} with {cores} core(s), data in {}{mode}{ops}\n",
        config.data_dir.display()
    );
    // A closed stdout is no reason to stop serving.
    let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use highwater_reactor::WriteCache;

    use super::*;

    #[test]
    fn a_directory_that_is_never_flushed_is_refused_with_the_way_out() {
        let mut probe = barrier::tests::probe(WriteCache::WriteBack, Some(false));
        require_flushes(&probe, false).expect("flushes arrive");
        probe.never_flushed = Some("/data is mounted with nobarrier".to_string());
        let error = require_flushes(&probe, false).expect_err("refused").0;
        assert!(error.contains("/data is mounted with nobarrier"), "{error}");
        assert!(error.contains("set allow_no_barrier = true"), "{error}");
        require_flushes(&probe, true).expect("it is wanted");
    }
}

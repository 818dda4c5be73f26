//! Which barrier makes a write survive power loss, and why: decided from what the reactor found out
//! about the filesystem and the device, once at the start. The log and `highwater doctor` say it.
//!
//! Many writes may share one barrier only where all of this is known: a completed write is on the
//! device and nowhere else (direct I/O that is direct), where the old bytes were (nothing is left to
//! commit before they are found), and a durable write of any other file flushes the device's cache,
//! which a device that makes single writes durable (FUA) does not. Anything else, and whatever is not
//! known, makes each write its own barrier: slower where there are many partitions, and as safe.

use highwater_reactor::{DiskProbe, WriteCache};
use highwater_store::Barrier;

/// A barrier, and the reason in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BarrierChoice {
    pub barrier: Barrier,
    pub because: String,
}

/// Chooses the barrier for a data directory.
#[must_use]
pub fn choose(probe: &DiskProbe) -> BarrierChoice {
    let each = |because: String| BarrierChoice {
        barrier: Barrier::PerWrite,
        because,
    };
    if let Some(found) = &probe.buffered {
        let directory = found.directory.display();
        return each(format!("no direct I/O in {directory}: {}", found.why));
    }
    if let Some(why) = &probe.moves {
        return each(format!("blocks may move: {why}"));
    }
    if let Some(why) = &probe.never_flushed {
        return each(why.clone());
    }
    let name = &probe.device.name;
    match (probe.device.write_cache, probe.device.fua) {
        (WriteCache::WriteThrough, _) => through(probe).unwrap_or_else(|part| {
            each(format!(
                "{name} says that it has no volatile cache, which is not known of {part} below it"
            ))
        }),
        (WriteCache::WriteBack, Some(true)) if !cfg!(mutant = "B06") => each(format!(
            "{name} makes single writes durable (FUA), which leaves other writes in its cache"
        )),
        (WriteCache::WriteBack, None) => each(format!(
            "it is not known whether a durable write flushes the cache of {name}"
        )),
        (WriteCache::WriteBack, Some(_)) => BarrierChoice {
            barrier: Barrier::DeviceFlush,
            because: format!("a durable write flushes the whole cache of {name}"),
        },
        (WriteCache::Unknown, _) => each(format!("the cache of {name} is not known")),
    }
}

/// Nothing to flush, also below; or the part of which that is not known.
fn through(probe: &DiskProbe) -> Result<BarrierChoice, String> {
    let parts = &probe.device.parts;
    let doubtful = parts
        .iter()
        .find(|(_, cache)| *cache != WriteCache::WriteThrough);
    match doubtful {
        Some((part, _)) => Err(part.clone()),
        None => Ok(BarrierChoice {
            barrier: Barrier::WriteThrough,
            because: format!("{} has no volatile cache", probe.device.name),
        }),
    }
}

/// What a barrier is, for people.
#[must_use]
pub fn describe(barrier: Barrier) -> &'static str {
    match barrier {
        Barrier::WriteThrough => "a completed write is durable",
        Barrier::DeviceFlush => "many writes share one flush of the device",
        Barrier::PerWrite => "each write is its own barrier",
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::PathBuf;

    use highwater_reactor::{Device, Finding};

    use super::*;

    /// A direct, in-place filesystem on a device with this cache.
    pub(crate) fn probe(write_cache: WriteCache, fua: Option<bool>) -> DiskProbe {
        DiskProbe {
            filesystem: "ext4".to_string(),
            device: Device {
                name: "dm-0".to_string(),
                write_cache,
                fua,
                parts: Vec::new(),
                rotational: false,
                read_ahead_bytes: 128 << 10,
            },
            buffered: None,
            moves: None,
            never_flushed: None,
        }
    }

    #[test]
    fn a_shared_barrier_needs_a_cache_that_is_known_to_be_flushed_as_a_whole() {
        use Barrier::{DeviceFlush, PerWrite};
        use WriteCache::{Unknown, WriteBack};
        for (cache, fua, expected) in [
            (WriteBack, Some(false), DeviceFlush),
            (WriteBack, Some(true), PerWrite),
            // Stacked devices and unknown ones were taken for such that flush everything once.
            (WriteBack, None, PerWrite),
            (Unknown, Some(false), PerWrite),
            (Unknown, None, PerWrite),
        ] {
            let choice = choose(&probe(cache, fua));
            assert_eq!(choice.barrier, expected, "{cache:?} {fua:?}: {choice:?}");
        }
    }

    #[test]
    fn a_shared_barrier_needs_direct_writes_into_blocks_that_stay_where_they_are() {
        for cache in [WriteCache::WriteBack, WriteCache::WriteThrough] {
            let good = probe(cache, Some(false));
            assert_ne!(choose(&good).barrier, Barrier::PerWrite);
            let buffered = DiskProbe {
                buffered: Some(Finding {
                    directory: PathBuf::from("/data/topics"),
                    why: "it is encrypted".to_string(),
                }),
                ..good.clone()
            };
            let choice = choose(&buffered);
            assert_eq!(choice.barrier, Barrier::PerWrite);
            assert!(choice.because.contains("/data/topics"), "{choice:?}");
            let moves = DiskProbe {
                moves: Some("it can share blocks".to_string()),
                ..good.clone()
            };
            assert_eq!(choose(&moves).barrier, Barrier::PerWrite);
            let never_flushed = DiskProbe {
                never_flushed: Some("mounted with nobarrier".to_string()),
                ..good
            };
            assert_eq!(choose(&never_flushed).barrier, Barrier::PerWrite);
        }
    }

    #[test]
    fn nothing_is_flushed_only_where_no_part_of_the_device_has_a_cache() {
        use WriteCache::{Unknown, WriteBack, WriteThrough};
        for (parts, expected) in [
            (vec![], Barrier::WriteThrough),
            (vec![WriteThrough, WriteThrough], Barrier::WriteThrough),
            (vec![WriteThrough, WriteBack], Barrier::PerWrite),
            (vec![Unknown], Barrier::PerWrite),
        ] {
            let mut probe = probe(WriteThrough, Some(false));
            let named = |(at, cache)| (format!("sd{at}"), cache);
            probe.device.parts = parts.into_iter().enumerate().map(named).collect();
            let choice = choose(&probe);
            assert_eq!(choice.barrier, expected, "{:?}", probe.device.parts);
        }
    }
}

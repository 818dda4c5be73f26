//! `highwater doctor`: looks at the machine and says what to change for safety and speed.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use highwater_reactor::{DescriptorBudget, DiskProbe};
use serde::Serialize;

use crate::barrier;
use crate::config::NodeConfig;
use crate::memory_budget::MemoryBudget;

/// Flags of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// The data directory to check, or where it will be.
    #[arg(long, value_name = "DIR", default_value = "highwater-data")]
    pub data_dir: PathBuf,
    /// One JSON object instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Advice,
    Problem,
}

#[derive(Debug, Serialize)]
struct Check {
    check: &'static str,
    verdict: Verdict,
    found: String,
    /// What to do; empty when all is well.
    remedy: String,
}

fn ok(check: &'static str, found: impl Into<String>) -> Check {
    Check {
        check,
        verdict: Verdict::Ok,
        found: found.into(),
        remedy: String::new(),
    }
}

fn advice(check: &'static str, found: impl Into<String>, remedy: &str) -> Check {
    Check {
        check,
        verdict: Verdict::Advice,
        found: found.into(),
        remedy: remedy.to_string(),
    }
}

fn problem(check: &'static str, found: impl Into<String>, remedy: &str) -> Check {
    Check {
        check,
        verdict: Verdict::Problem,
        found: found.into(),
        remedy: remedy.to_string(),
    }
}

fn read_line(path: &str) -> Option<String> {
    std::fs::read_to_string(path)
        .ok()
        .map(|text| text.trim().to_string())
}

fn check_kernel() -> Check {
    let release = read_line("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= (6, 1) {
        ok("kernel", release)
    } else {
        problem(
            "kernel",
            release,
            "io_uring with deferred task work needs Linux 6.1 or later",
        )
    }
}

fn check_io_uring() -> Check {
    match highwater_reactor::check_io_uring() {
        Ok(()) => ok("io_uring", "available"),
        Err(error) => problem("io_uring", error.to_string(), "enable io_uring as said"),
    }
}

const KEPT_IN_MEMORY: [&str; 2] = ["tmpfs", "ramfs"];
const SLOWER: &str = "every write is its own barrier there, slower with many partitions but as safe; \
                      use ext4, or XFS made with -m reflink=0";

/// Whether files are written directly and in place, so that many writes can share one barrier.
fn check_filesystem(probe: &DiskProbe) -> Check {
    let found = format!("{} on {}", probe.filesystem, probe.device.name);
    if KEPT_IN_MEMORY.contains(&probe.filesystem.as_str()) {
        let found = format!("{found}: kept in memory");
        return advice(
            "filesystem",
            found,
            "nothing survives power loss there; use ext4 or XFS",
        );
    }
    if let Some(buffered) = &probe.buffered {
        let directory = buffered.directory.display();
        let found = format!("{found}: no direct I/O in {directory}: {}", buffered.why);
        return advice("filesystem", found, SLOWER);
    }
    match &probe.moves {
        None => ok("filesystem", format!("{found}: direct writes in place")),
        Some(why) => advice("filesystem", format!("{found}: {why}"), SLOWER),
    }
}

/// Whether a flush of a file is one of the device.
fn check_flushes(probe: &DiskProbe) -> Check {
    match &probe.never_flushed {
        None => ok("flushes", "the filesystem flushes the device"),
        Some(why) => problem(
            "flushes",
            why.clone(),
            "do as said; `serve` refuses the directory unless allow_no_barrier is set",
        ),
    }
}

fn check_barrier(probe: &DiskProbe) -> Check {
    let choice = barrier::choose(probe);
    let found = format!(
        "{:?}, {}: {}",
        choice.barrier,
        barrier::describe(choice.barrier),
        choice.because
    );
    match choice.barrier {
        highwater_store::Barrier::DeviceFlush => advice(
            "durability barrier",
            found,
            "each acknowledgement costs a device cache flush; a drive with power-loss protection \
             is several times faster",
        ),
        highwater_store::Barrier::PerWrite | highwater_store::Barrier::WriteThrough => {
            ok("durability barrier", found)
        }
    }
}

fn check_disk(data_dir: &Path) -> Vec<Check> {
    let mut existing = data_dir;
    while !existing.exists() {
        match existing.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => existing = parent,
            _ => existing = Path::new("."),
        }
    }
    let probe = match highwater_reactor::probe_disk(existing) {
        Ok(probe) => probe,
        Err(error) => {
            return vec![problem(
                "disk",
                error.to_string(),
                "choose a directory you may write to",
            )];
        }
    };
    let mut checks = vec![
        check_filesystem(&probe),
        check_flushes(&probe),
        check_barrier(&probe),
    ];
    if probe.device.rotational {
        checks.push(advice("disk kind", "rotating", "use a solid-state drive"));
    }
    checks
}

/// Open files with which a core reopens few: below the default bound, above what most topics need.
const FILES_PER_CORE_PLENTY: usize = 8192;

fn check_limits() -> Check {
    let limits = read_line("/proc/self/limits").unwrap_or_default();
    let name = "Max open files";
    let line = limits.lines().find_map(|line| line.strip_prefix(name));
    // The broker raises its soft limit to the hard one, which comes second.
    let hard = line.and_then(|line| line.split_whitespace().nth(1));
    let limit = match hard {
        Some("unlimited") => usize::MAX,
        Some(number) => number.parse().unwrap_or(0),
        None => 0,
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    match NodeConfig::load(None, [], &[]) {
        Ok(config) => {
            check_descriptors(limit, cores, config.connections_max, config.open_files_max)
        }
        Err(error) => problem("open files", error.to_string(), "reinstall this binary"),
    }
}

/// What the broker may take at its default bounds, against what the machine has.
fn check_memory() -> Check {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let budget = match NodeConfig::load(None, [], &[]) {
        Ok(config) => MemoryBudget::of(&config, cores).total_bytes() >> 20,
        Err(error) => return problem("memory", error.to_string(), "reinstall this binary"),
    };
    let info = read_line("/proc/meminfo").unwrap_or_default();
    let total = info.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes = total.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    let has = kibibytes.unwrap_or(0) >> 10;
    judge_memory(budget, has, cores)
}

fn judge_memory(budget_mb: usize, has_mb: usize, cores: usize) -> Check {
    let found = format!(
        "{has_mb} MiB; the broker takes at most {budget_mb} MiB with the defaults on {cores} core(s)"
    );
    // Readers of older records live from the page cache: it should get as much again.
    match budget_mb * 2 <= has_mb {
        true => ok("memory", found),
        false => advice(
            "memory",
            found,
            "lower tail_cache_mb or receive_buffers_mb, so that half is left for the page cache",
        ),
    }
}

fn check_descriptors(
    limit: usize,
    cores: usize,
    connections_max: usize,
    open_files_max: usize,
) -> Check {
    let budget = DescriptorBudget::of(limit, cores, connections_max, open_files_max);
    let hard = match limit {
        usize::MAX => "unlimited".to_string(),
        limit => format!("hard limit {limit}"),
    };
    let found = format!(
        "{hard}: enough for {} connections and {} open segment files on each of {cores} core(s)",
        budget.connections_max, budget.open_files_max
    );
    let remedy = |what: &str| {
        format!(
            "{what}; the defaults of connections_max and open_files_max need LimitNOFILE={} here",
            budget.wanted
        )
    };
    if budget.connections_max < connections_max {
        let what = "the broker refuses more connections than that";
        advice("open files", found, &remedy(what))
    } else if budget.open_files_max < open_files_max {
        let what = "fine unless a core works on more segments at once, which are then opened anew \
                    for each use";
        match budget.open_files_max >= FILES_PER_CORE_PLENTY {
            true => ok("open files", found),
            false => advice("open files", found, &remedy(what)),
        }
    } else {
        ok("open files", found)
    }
}

fn check_cpu() -> Vec<Check> {
    let governor = read_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
    let mut checks = vec![match governor.as_deref() {
        None => ok(
            "CPU governor",
            "not controlled here (virtual machine or firmware)",
        ),
        Some("performance") => ok("CPU governor", "performance"),
        Some(other) => advice(
            "CPU governor",
            other,
            "cpupower frequency-set -g performance keeps latency even",
        ),
    }];
    let pressure = read_line("/proc/pressure/io").is_some();
    if pressure {
        checks.push(ok(
            "I/O pressure",
            "a core that waits in its ring counts as waiting for I/O: pressure near 100 % on an \
             idle broker is not load",
        ));
    }
    checks
}

fn check_clock() -> Check {
    let source = read_line("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    match source.as_deref() {
        Some(source @ ("tsc" | "kvm-clock" | "arch_sys_counter")) => ok("clock", source),
        Some(other) => advice(
            "clock",
            other,
            "reading this clock is slow; boot with a stable TSC (clocksource=tsc) if the CPU has it",
        ),
        None => advice("clock", "unknown", "check the kernel's clocksource"),
    }
}

/// Runs all checks and prints them. Fails when one is a problem.
#[must_use]
pub fn run(args: &DoctorArgs) -> ExitCode {
    let mut checks = vec![check_kernel(), check_io_uring()];
    checks.extend(check_disk(&args.data_dir));
    checks.push(check_limits());
    checks.push(check_memory());
    checks.extend(check_cpu());
    checks.push(check_clock());
    let bad = checks.iter().any(|check| check.verdict == Verdict::Problem);
    if args.json {
        println!(
            "{}",
            serde_json::json!({ "healthy": !bad, "checks": checks })
        );
    } else {
        for check in &checks {
            let mark = match check.verdict {
                Verdict::Ok => "ok     ",
                Verdict::Advice => "advice ",
                Verdict::Problem => "PROBLEM",
            };
            println!("{mark}  {:<20} {}", check.check, check.found);
            if !check.remedy.is_empty() {
                println!("{:30}-> {}", "", check.remedy);
            }
        }
    }
    if bad {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

#[cfg(test)]
mod tests {
    use highwater_reactor::{Finding, WriteCache};

    use super::*;

    #[test]
    fn a_budget_that_leaves_no_page_cache_is_told() {
        assert_eq!(judge_memory(1000, 2000, 2).verdict, Verdict::Ok);
        let check = judge_memory(1001, 2000, 2);
        assert_eq!(check.verdict, Verdict::Advice);
        assert!(check.found.contains("at most 1001 MiB"), "{check:?}");
    }

    #[test]
    fn a_filesystem_that_makes_each_write_its_own_barrier_is_told() {
        let good = barrier::tests::probe(WriteCache::WriteBack, Some(false));
        assert_eq!(check_filesystem(&good).verdict, Verdict::Ok);
        assert_eq!(check_flushes(&good).verdict, Verdict::Ok);
        let moves = DiskProbe {
            moves: Some("btrfs copies on write".to_string()),
            ..good.clone()
        };
        let buffered = DiskProbe {
            buffered: Some(Finding {
                directory: PathBuf::from("/data/topics"),
                why: "it is encrypted".to_string(),
            }),
            ..good.clone()
        };
        for (probe, reason) in [
            (&moves, "copies on write"),
            (&buffered, "/data/topics: it is encrypted"),
        ] {
            let check = check_filesystem(probe);
            assert_eq!(check.verdict, Verdict::Advice, "{check:?}");
            assert!(check.found.contains(reason), "{check:?}");
            assert!(
                check.remedy.contains("its own barrier") && check.remedy.contains("as safe"),
                "{check:?}"
            );
            let barrier = check_barrier(probe);
            assert!(barrier.found.contains(reason), "{barrier:?}");
        }
        let memory = DiskProbe {
            filesystem: "tmpfs".to_string(),
            ..good
        };
        let check = check_filesystem(&memory);
        assert!(check.remedy.contains("nothing survives"), "{check:?}");
    }

    #[test]
    fn a_directory_that_is_never_flushed_is_a_problem() {
        let probe = DiskProbe {
            never_flushed: Some("/data is mounted with nobarrier".to_string()),
            ..barrier::tests::probe(WriteCache::WriteBack, Some(true))
        };
        let check = check_flushes(&probe);
        assert_eq!(check.verdict, Verdict::Problem, "{check:?}");
        assert!(check.found.contains("nobarrier"), "{check:?}");
    }

    #[test]
    fn a_limit_below_the_bounds_says_what_it_is_enough_for() {
        let full = check_descriptors(1 << 20, 4, 20_000, 65_536);
        assert_eq!(full.verdict, Verdict::Ok, "{full:?}");
        assert!(full.found.contains("20000 connections"), "{full:?}");
        assert!(full.found.contains("65536 open segment files"), "{full:?}");

        let low = check_descriptors(20_000, 4, 20_000, 65_536);
        assert_eq!(low.verdict, Verdict::Advice, "{low:?}");
        assert!(low.found.contains("14664 connections"), "{low:?}");
        assert!(low.found.contains("1286 open segment files"), "{low:?}");
        let wanted = DescriptorBudget::of(0, 4, 20_000, 65_536).wanted;
        assert!(low.remedy.contains(&wanted.to_string()), "{low:?}");
    }
}

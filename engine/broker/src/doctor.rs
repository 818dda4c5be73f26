//! `highwater doctor`: looks at the machine and says what to change for safety and speed.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use crate::boot;

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
    let device = format!("{} on {}", probe.filesystem, probe.device);
    let mut checks = vec![if probe.direct_io {
        ok("direct I/O", format!("O_DIRECT works ({device})"))
    } else {
        advice(
            "direct I/O",
            format!("refused ({device})"),
            "works buffered with the same durability, but slower; prefer ext4 or XFS",
        )
    }];
    let barrier = boot::barrier_for(&probe);
    let found = format!(
        "write cache {:?}, fua {}: {barrier:?}",
        probe.write_cache, probe.fua
    );
    checks.push(match barrier {
        highwater_store::Barrier::DeviceFlush => advice(
            "durability barrier",
            found,
            "each acknowledgement costs a device cache flush; a drive with power-loss protection \
             is several times faster",
        ),
        _ => ok("durability barrier", found),
    });
    if probe.rotational {
        checks.push(advice("disk kind", "rotating", "use a solid-state drive"));
    }
    checks
}

fn check_limits() -> Vec<Check> {
    let limits = read_line("/proc/self/limits").unwrap_or_default();
    let hard = |name: &str| -> Option<String> {
        let line = limits.lines().find(|line| line.starts_with(name))?;
        line.get(name.len()..)?
            .split_whitespace()
            .nth(1)
            .map(String::from)
    };
    let files = hard("Max open files").unwrap_or_default();
    let enough = files == "unlimited" || files.parse::<u64>().is_ok_and(|n| n >= 65_536);
    vec![if enough {
        ok("open files", files)
    } else {
        advice(
            "open files",
            files,
            "raise the hard limit to 65536 or more (LimitNOFILE=1048576)",
        )
    }]
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
    checks.extend(check_limits());
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

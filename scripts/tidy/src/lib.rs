//! What the compiler does not check about this repository, as a test: which crate may depend on
//! which, what the sans-io crates may never call, where `unsafe` lives, the shape of files.
//!
//! Works on text, so it can be fooled; it is here to catch the honest mistake.

#![forbid(unsafe_code)]

pub mod mutants;

use std::fs;
use std::path::{Path, PathBuf};

/// Longest line, in characters: what rustfmt makes, and a little more for prose.
pub const LINE_CHARS_MAX: usize = 108;
/// Longest source file, tests included, in lines.
pub const FILE_LINES_MAX: usize = 800;

/// What each crate may depend on among ours.
pub const EDGES: &[(&str, &[&str])] = &[
    ("highwater-base", &[]),
    ("highwater-store", &["highwater-base"]),
    ("highwater-wire", &["highwater-base"]),
    ("highwater-groups", &["highwater-base", "highwater-wire"]),
    ("highwater-ops", &[]),
    ("highwater-reactor", &["highwater-base"]),
    ("highwater-client", &["highwater-base", "highwater-wire"]),
    (
        "highwater-cli",
        &["highwater-base", "highwater-client", "highwater-wire"],
    ),
    (
        "highwater-broker",
        &[
            "highwater-base",
            "highwater-bench",
            "highwater-cli",
            "highwater-groups",
            "highwater-ops",
            "highwater-reactor",
            "highwater-store",
            "highwater-wire",
        ],
    ),
    ("highwater-floor", &[]),
    ("highwater-bench-report", &[]),
    (
        "highwater-bench",
        &[
            "highwater-base",
            "highwater-bench-report",
            "highwater-cli",
            "highwater-client",
            "highwater-wire",
        ],
    ),
    (
        "highwater-perf-micro",
        &[
            "highwater-base",
            "highwater-broker",
            "highwater-reactor",
            "highwater-store",
            "highwater-wire",
        ],
    ),
    ("highwater-tidy", &[]),
];

/// Directories of crates that are state machines only.
pub const SANS_IO: &[&str] = &[
    "engine/base/src",
    "engine/store/src",
    "engine/groups/src",
    "net/wire/src",
];

/// What state machines never touch.
pub const FORBIDDEN_IN_SANS_IO: &[&str] = &[
    "std::net",
    "std::fs",
    "std::thread",
    "std::process",
    "Instant::now",
    "SystemTime",
    "rand::",
    "getrandom",
    "RandomState",
    "HashSet",
    "monoio",
    "libc::",
    "io_uring",
];

/// Where `unsafe` may be written.
pub const UNSAFE_ALLOWED: &[&str] = &[
    "engine/base/src/buffer.rs",
    "net/reactor/",
    "perf/floor/",
    "bench-harness/load/src/clock.rs",
    "/tests/allocations.rs",
];

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub file: String,
    pub line: usize,
    pub what: String,
}

/// The repository's root, from this crate's own directory.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every file of interest below `root`, as path relative to it, in order.
#[must_use]
pub fn files(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    walk(root, Path::new(""), &mut found);
    found.sort();
    found
}

fn walk(root: &Path, relative: &Path, found: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(root.join(relative)) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = relative.join(&name);
        if entry.path().is_dir() {
            let skipped = [
                "target",
                "node_modules",
                "corpus",
                "artifacts",
                "highwater-data",
            ];
            if !name.starts_with('.') && !skipped.contains(&name.as_str()) {
                walk(root, &path, found);
            }
        } else if ["rs", "toml", "md", "py", "txt"]
            .iter()
            .any(|end| path.extension().is_some_and(|extension| extension == *end))
        {
            found.push(path.to_string_lossy().into_owned());
        }
    }
}

/// Dependencies among our own crates that the table does not allow.
#[must_use]
pub fn check_edges(file: &str, text: &str) -> Vec<Finding> {
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("name = \""))
        .and_then(|rest| rest.split('"').next())
        .unwrap_or_default();
    let Some((_, allowed)) = EDGES.iter().find(|(known, _)| *known == name) else {
        return Vec::new();
    };
    let mut section = "";
    let mut findings = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if line.starts_with('[') {
            section = line;
        }
        let dependency = line.split(['.', ' ', '=']).next().unwrap_or_default();
        if section == "[dependencies]"
            && dependency.starts_with("highwater-")
            && !allowed.contains(&dependency)
        {
            findings.push(Finding {
                file: file.to_string(),
                line: at + 1,
                what: format!("{name} may not depend on {dependency}"),
            });
        }
    }
    findings
}

/// What is wrong with one Rust source file.
#[must_use]
pub fn check_source(file: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |line: usize, what: String| {
        findings.push(Finding {
            file: file.to_string(),
            line,
            what,
        });
    };
    let sans_io = SANS_IO.iter().any(|directory| file.starts_with(directory));
    let may_be_unsafe = UNSAFE_ALLOWED.iter().any(|place| file.contains(place));
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        find(
            lines,
            format!("{lines} lines; split it by meaning below {FILE_LINES_MAX}"),
        );
    }
    for (at, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        if line.chars().count() > LINE_CHARS_MAX {
            find(at + 1, format!("longer than {LINE_CHARS_MAX} characters"));
        }
        if line.ends_with([' ', '\t']) {
            find(at + 1, "ends in white space".to_string());
        }
        if sans_io {
            for forbidden in FORBIDDEN_IN_SANS_IO {
                if code.contains(forbidden) {
                    find(at + 1, format!("a state machine uses {forbidden}"));
                }
            }
        }
        if !may_be_unsafe && (code.contains("unsafe {") || code.contains("unsafe fn")) {
            find(
                at + 1,
                "unsafe outside the reactor, the buffer type, the yardsticks and the clock of the load".to_string(),
            );
        }
    }
    findings
}

/// What is wrong with a Markdown file.
#[must_use]
pub fn check_markdown(file: &str, text: &str) -> Vec<Finding> {
    let mut fenced = false;
    let mut titles = 0;
    for line in text.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if !fenced && line.starts_with("# ") {
            titles += 1;
        }
    }
    if titles == 1 {
        return Vec::new();
    }
    vec![Finding {
        file: file.to_string(),
        line: 1,
        what: format!("{titles} titles, wanted one"),
    }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_is_tidy() {
        let root = root();
        let mut findings = Vec::new();
        for file in files(&root) {
            let text = fs::read_to_string(root.join(&file)).unwrap_or_default();
            if file.ends_with("Cargo.toml") {
                findings.extend(check_edges(&file, &text));
            } else if file.ends_with(".rs") && !file.starts_with("scripts/tidy/") {
                findings.extend(check_source(&file, &text));
            } else if file.ends_with(".md") {
                findings.extend(check_markdown(&file, &text));
            }
        }
        let report: Vec<String> = findings
            .iter()
            .map(|finding| format!("{}:{}: {}", finding.file, finding.line, finding.what))
            .collect();
        assert!(findings.is_empty(), "\n{}", report.join("\n"));
    }

    #[test]
    fn forbidden_edges_and_calls_are_found() {
        let manifest = "[package]\nname = \"highwater-store\"\n\n[dependencies]\n\
                        highwater-reactor.workspace = true\n";
        assert_eq!(check_edges("engine/store/Cargo.toml", manifest).len(), 1);
        let source = "fn now() { std::time::SystemTime::now(); }\n";
        assert_eq!(check_source("engine/store/src/log.rs", source).len(), 1);
        assert!(check_source("net/reactor/src/clock.rs", source).is_empty());
        assert_eq!(
            check_source("engine/broker/src/a.rs", "unsafe { boom() }\n").len(),
            1
        );
        assert_eq!(check_markdown("a.md", "# one\n# two\n").len(), 1);
        assert!(check_markdown("a.md", "# one\n```\n# not a title\n```\n").is_empty());
    }
}

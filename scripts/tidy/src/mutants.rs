//! Holds the table of mutants, `docs/mutants.md`, against the source: the same ids, where the table
//! says they are, in its order, and each killer a test or a script that is there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::Finding;

/// The table, from the repository's root.
pub const TABLE: &str = "docs/mutants.md";
/// How a cell begins that names no killer because none can be.
const SECOND_LINE: &str = "second line of defence";
/// The cell of a mutant that survives: a test is missing.
const NOTHING_YET: &str = "nothing yet";

/// One row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub line: usize,
    pub id: String,
    pub places: Vec<String>,
    pub killed_by: String,
}

/// The rows of the table in their order.
#[must_use]
pub fn rows(table: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    for (at, line) in table.lines().enumerate() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, id, _, places, killed_by, _] = cells[..] else {
            continue;
        };
        if is_id(id) {
            rows.push(Row {
                line: at + 1,
                id: id.to_string(),
                places: code_spans(places),
                killed_by: killed_by.to_string(),
            });
        }
    }
    rows
}

fn is_id(word: &str) -> bool {
    let digits = word.trim_start_matches(|first: char| first.is_ascii_uppercase());
    digits.len() + 1 == word.len()
        && !digits.is_empty()
        && digits.bytes().all(|it| it.is_ascii_digit())
}

fn code_spans(text: &str) -> Vec<String> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_string)
        .collect()
}

/// The ids that a source file takes rules out by.
#[must_use]
pub fn ids_in(source: &str) -> BTreeSet<String> {
    let uses = source.split("cfg!(mutant = \"").skip(1);
    uses.filter_map(|rest| Some(rest.split_once('"')?.0.to_string()))
        .collect()
}

/// What does not fit between the table and the sources, which map paths to the ids in them.
#[must_use]
pub fn check(
    root: &Path,
    table: &str,
    sources: &BTreeMap<String, BTreeSet<String>>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |line: usize, what: String| {
        findings.push(Finding {
            file: TABLE.to_string(),
            line,
            what,
        });
    };
    let rows = rows(table);
    for pair in rows.windows(2) {
        if pair[0].id >= pair[1].id {
            find(pair[1].line, format!("{} is out of order", pair[1].id));
        }
    }
    for row in &rows {
        let found: Vec<&String> = sources
            .iter()
            .filter(|(_, ids)| ids.contains(&row.id))
            .map(|(path, _)| path)
            .collect();
        if found.is_empty() || !found.iter().eq(&row.places.iter().collect::<Vec<_>>()) {
            find(row.line, format!("{} is in {found:?}", row.id));
        }
        for problem in killer_problems(root, &row.killed_by) {
            find(row.line, format!("{}: {problem}", row.id));
        }
    }
    let known: BTreeSet<&String> = rows.iter().map(|row| &row.id).collect();
    for id in sources.values().flatten().collect::<BTreeSet<_>>() {
        if !known.contains(id) {
            find(1, format!("{id} is in the source and has no row"));
        }
    }
    findings
}

/// What is wrong with a cell of the last column.
fn killer_problems(root: &Path, cell: &str) -> Vec<String> {
    if cell.starts_with(SECOND_LINE) || cell == NOTHING_YET {
        return Vec::new();
    }
    let killers = code_spans(cell);
    if killers.is_empty() {
        return vec!["nothing kills it".to_string()];
    }
    let missing = |killer: &&String| !exists(root, killer);
    let missing = killers.iter().filter(missing);
    missing
        .map(|killer| format!("there is no `{killer}`"))
        .collect()
}

/// Whether a killer, `package target::name` or a script with its arguments, is there.
fn exists(root: &Path, killer: &str) -> bool {
    let Some((first, rest)) = killer.split_once(' ') else {
        return root.join(killer).is_file();
    };
    if first.starts_with("scripts/") {
        return root.join(first).is_file();
    }
    let (Some(target), Some(name)) = (rest.split("::").next(), rest.rsplit("::").next()) else {
        return false;
    };
    let directory = ["engine", "net", "client"].iter().find_map(|group| {
        let directory = root.join(group).join(first.strip_prefix("highwater-")?);
        directory.is_dir().then_some(directory)
    });
    let Some(directory) = directory else {
        return false;
    };
    let place = match target {
        "lib" => directory.join("src"),
        _ => directory.join("tests"),
    };
    let wanted = format!("fn {name}(");
    crate::files(&place).iter().any(|file| {
        let is_targets = target == "lib"
            || file.starts_with(&format!("{target}.rs"))
            || file.starts_with(&format!("{target}/"));
        let text = fs::read_to_string(place.join(file)).unwrap_or_default();
        is_targets && text.contains(&wanted)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_mutants_fits_the_source() {
        let root = crate::root();
        let mut sources = BTreeMap::new();
        for file in crate::files(&root) {
            if file.ends_with(".rs") && !file.starts_with("scripts/") {
                let ids = ids_in(&fs::read_to_string(root.join(&file)).unwrap_or_default());
                if !ids.is_empty() {
                    sources.insert(file, ids);
                }
            }
        }
        let table = fs::read_to_string(root.join(TABLE)).expect("the table");
        let findings = check(&root, &table, &sources);
        assert!(findings.is_empty(), "\n{findings:#?}");
        assert!(sources.len() > 5, "mutants were found: {sources:?}");
    }

    #[test]
    fn what_does_not_fit_is_found() {
        let source = |file: &str, ids: &[&str]| {
            let ids = ids.iter().map(|id| id.to_string()).collect();
            (file.to_string(), ids)
        };
        let sources = BTreeMap::from([source("a.rs", &["S01", "S02"]), source("b.rs", &["S01"])]);
        let table = |rows: &[&str]| rows.join("\n");
        let second = "| S02 | rule | `a.rs` | second line of defence: x |";
        let fits = table(&[
            "| S01 | rule | `a.rs` `b.rs` | `scripts/mutants S01` |",
            second,
        ]);
        assert_eq!(check(&crate::root(), &fits, &sources), []);
        let wrong = [
            "| S01 | rule | `a.rs` | `scripts/mutants` |",
            "| S01 | rule | `a.rs` `b.rs` | `scripts/no-such-thing` |",
            "| S01 | rule | `a.rs` `b.rs` | `highwater-tidy lib::no_such_test` |",
            "| S01 | rule | `a.rs` `b.rs` | nothing |",
            "| S03 | rule | `a.rs` `b.rs` | `scripts/mutants` |",
        ];
        for row in wrong {
            let found = check(&crate::root(), &table(&[row, second]), &sources);
            assert!(!found.is_empty(), "{row}");
        }
        assert_eq!(
            ids_in("if cfg!(mutant = \"X1\") || cfg!(mutant = \"X2\") {"),
            { ["X1", "X2"].map(str::to_string).into() }
        );
    }
}

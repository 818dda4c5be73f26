//! Tables for people, JSON for programs.

use std::io::{self, Write};

use highwater_client::ClientError;
use serde_json::Value;

/// Which way a column leans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lean {
    Left,
    Right,
}

/// Rows under aligned headings.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Lean)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(columns: &[(&'static str, Lean)]) -> Table {
        Table {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Appends a row of as many cells as there are columns.
    pub fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.columns.len(), "a cell for every column");
        self.rows.push(cells);
    }

    /// The table as lines, columns two spaces apart, nothing behind the last cell.
    pub fn render(&self) -> String {
        let width = |at: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(at));
            let widest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
            widest.max(self.columns[at].0.len())
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let mut text = String::new();
            for ((cell, width), (_, lean)) in cells.zip(&widths).zip(&self.columns) {
                if !text.is_empty() {
                    text.push_str("  ");
                }
                let gap = " ".repeat(width.saturating_sub(cell.chars().count()));
                match lean {
                    Lean::Left => text.extend([cell, &gap]),
                    Lean::Right => text.extend([&gap, cell]),
                }
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
            text
        };
        let mut text = line(&mut self.columns.iter().map(|(name, _)| *name));
        for row in &self.rows {
            text.push_str(&line(&mut row.iter().map(String::as_str)));
        }
        text
    }
}

/// Prints text.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Prints one JSON document.
pub(crate) fn print_json(value: &Value) -> io::Result<()> {
    print(&format!("{value:#}\n"))
}

/// Prints JSON or text, as asked for.
pub(crate) fn print_either(json: bool, value: &Value, text: &str) -> io::Result<()> {
    if json { print_json(value) } else { print(text) }
}

/// A number in groups of three digits.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Ids in a cell.
pub(crate) fn listed(ids: &[i32]) -> String {
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    ids.join(",")
}

/// Tells on stderr why nothing comes, once per reason.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    told: Option<ClientError>,
}

impl Waiting {
    pub fn tell(&mut self, why: Option<ClientError>) {
        if let Some(line) = self.line(why) {
            // Standard output goes on without it.
            let _ = io::stderr().write_all(line.as_bytes());
        }
    }

    /// What to say now.
    fn line(&mut self, why: Option<ClientError>) -> Option<String> {
        if why == self.told {
            return None;
        }
        let line = match &why {
            Some(why) => format!("highwater: waiting, because {why}\n"),
            None => "highwater: that passed, going on\n".to_string(),
        };
        self.told = why;
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_with_their_last_cell() {
        let mut table = Table::new(&[("NAME", Lean::Left), ("N", Lean::Right), ("X", Lean::Left)]);
        table.row(vec!["grün".to_string(), "7".to_string(), "a".to_string()]);
        table.row(vec![
            "longer".to_string(),
            "1234".to_string(),
            String::new(),
        ]);
        let expected = "NAME       N  X\ngrün       7  a\nlonger  1234\n";
        assert_eq!(table.render(), expected);
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(1234), "1,234");
        assert_eq!(grouped(123_456_789), "123,456,789");
    }

    #[test]
    fn a_reason_to_wait_is_told_once_and_so_is_its_end() {
        let why = || Some(ClientError::Usage("the broker is down".to_string()));
        let mut waiting = Waiting::default();
        assert_eq!(waiting.line(None), None);
        let told = waiting.line(why()).expect("a line");
        assert_eq!(told, "highwater: waiting, because the broker is down\n");
        assert_eq!(waiting.line(why()), None);
        assert!(waiting.line(None).expect("a line").contains("passed"));
        assert_eq!(waiting.line(None), None);
    }
}

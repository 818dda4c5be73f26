//! The summary for a terminal.
//!
//! Owns its columns and the place of the warnings: last, where a reader's eyes are when the prompt
//! comes back. It is text without colours; who prints it decides where.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, Table};

use crate::html::kind_words;
use crate::model::{Report, Run, Series};
use crate::words::{bytes_rate, grouped, latency, percents, rate, seconds, sentence};

/// Warnings are wrapped at this many characters.
const TEXT_WIDTH: u16 = 100;
/// Columns from the left that hold words and not figures.
const WORD_COLUMNS: usize = 2;

const HEADINGS: [&str; 11] = [
    "RUN",
    "SERIES",
    "RATE",
    "THROUGHPUT",
    "ERRORS",
    "P50",
    "P90",
    "P99",
    "P99.9",
    "P99.99",
    "MAX",
];

/// The whole summary, ending in a line feed.
#[must_use]
pub fn summary(report: &Report) -> String {
    let mut table = bare_table();
    table.set_header(HEADINGS);
    for run in &report.runs {
        for series in &run.series {
            table.add_row(cells(run, series));
        }
    }
    for (at, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if at >= WORD_COLUMNS {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text = format!("{}\n\n{}\n", sentence(report), table.trim_fmt());
    text.push_str(&footnotes(report));
    for warning in &report.warnings {
        text.push('\n');
        text.push_str(&wrapped(&format!(
            "WARNING: {}. {}",
            kind_words(warning.kind),
            warning.text
        )));
    }
    text
}

fn bare_table() -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table
}

fn cells(run: &Run, series: &Series) -> [String; HEADINGS.len()] {
    let of = &series.latency;
    [
        run.label.clone(),
        series.name.clone(),
        rate(series.records_per_s),
        bytes_rate(series.bytes_per_s),
        grouped(series.errors),
        latency(of.p50_us),
        latency(of.p90_us),
        latency(of.p99_us),
        latency(of.p99_9_us),
        latency(of.p99_99_us),
        latency(of.max_us),
    ]
}

/// What holds of the runs, once for all that it holds of.
fn footnotes(report: &Report) -> String {
    let mut notes: Vec<String> = report.runs.iter().map(footnote).collect();
    notes.dedup();
    let mut text = String::new();
    for note in notes {
        text.push_str(&note);
    }
    if let Some(busiest) = report
        .runs
        .iter()
        .map(|run| run.client_cpu_share)
        .reduce(f64::max)
    {
        text.push_str(&format!(
            "The busiest load thread used {} of its core.\n",
            percents(busiest)
        ));
    }
    text
}

fn footnote(run: &Run) -> String {
    let from = match run.rate_target_per_s {
        Some(_) => "open loop, latency counts from when a record was due",
        None => "closed loop, latency counts from when a record was sent",
    };
    format!(
        "{} measured after {} of warm-up; {from}.\n",
        seconds(run.measured_s),
        seconds(run.warm_up_s)
    )
}

fn wrapped(text: &str) -> String {
    let mut table = bare_table();
    table
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(TEXT_WIDTH);
    table.add_row([text]);
    for column in table.column_iter_mut() {
        column.set_padding((0, 0));
    }
    format!("{}\n", table.trim_fmt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up;
    use crate::model::{Warning, WarningKind};

    #[test]
    fn columns_are_aligned_and_have_units() {
        let text = summary(&made_up::ladder());
        let lines: Vec<&str> = text.lines().collect();
        let head = lines
            .iter()
            .position(|line| line.starts_with("RUN"))
            .expect("headings");
        let end_of = |line: &str, word: &str| {
            let at = line.find(word).map(|at| at + word.len())?;
            Some(line[..at].chars().count())
        };
        let wanted = end_of(lines[head], "THROUGHPUT");
        for line in &lines[head + 1..=head + 12] {
            assert_eq!(end_of(line, " MB/s"), wanted, "{text}");
        }
        assert!(lines[head + 1].starts_with("20,000/s"), "{text}");
        assert!(text.lines().all(|line| line == line.trim_end()), "{text}");
    }

    #[test]
    fn warnings_come_last_and_are_wrapped() {
        let mut report = made_up::single();
        report.warnings.push(Warning {
            kind: WarningKind::Errors,
            text: "word ".repeat(60) + "end of it.",
        });
        let text = summary(&report);
        assert!(text.ends_with("end of it.\n"), "{text}");
        let warning = text.find("WARNING: Errors. word").expect("the warning");
        let widths = text[warning..].lines().map(|line| line.chars().count());
        assert!(
            widths.clone().all(|width| width <= usize::from(TEXT_WIDTH)),
            "{text}"
        );
        assert!(widths.count() >= 3, "{text}");
    }

    #[test]
    fn nothing_measured_is_said() {
        let mut report = made_up::single();
        report.runs.clear();
        assert!(summary(&report).starts_with("Nothing was measured."));
    }
}

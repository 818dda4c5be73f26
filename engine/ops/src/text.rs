//! Prometheus' text format, version 0.0.4: families with their help and type, then their samples.

use std::fmt::Write;

use crate::catalog::{Kind, Metric};
use crate::figures::{Distribution, LADDER_NS};

/// The content type of what is written here.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Labels of a sample.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

/// An exposition that is being written.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
    current: Option<Metric>,
}

impl Exposition {
    /// Begins a family; its samples follow.
    pub fn family(&mut self, metric: Metric) {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let Metric { name, help, .. } = metric;
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        self.current = Some(metric);
    }

    /// A sample of the family begun last.
    pub fn sample(&mut self, labels: Labels<'_>, value: f64) {
        self.line("", labels, None, value);
    }

    /// A family with one sample and no labels.
    pub fn single(&mut self, metric: Metric, value: f64) {
        self.family(metric);
        self.sample(&[], value);
    }

    /// A histogram of the family begun last.
    pub fn distribution(&mut self, labels: Labels<'_>, times: &Distribution) {
        let mut cumulative = 0;
        for (end_ns, count) in LADDER_NS.iter().zip(&times.buckets) {
            cumulative += count;
            let end = seconds(*end_ns).to_string();
            self.line("_bucket", labels, Some(&end), cumulative as f64);
        }
        self.line("_bucket", labels, Some("+Inf"), times.count as f64);
        self.line("_sum", labels, None, seconds(times.sum_ns));
        self.line("_count", labels, None, times.count as f64);
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, end: Option<&str>, value: f64) {
        let name = self.current.map_or("", |metric| metric.name);
        let _ = write!(self.text, "{name}{suffix}");
        let ends = end.map(|end| ("le", end));
        let mut separator = '{';
        for (label, value) in labels.iter().copied().chain(ends) {
            let _ = write!(self.text, "{separator}{label}=\"");
            escape(&mut self.text, value);
            self.text.push('"');
            separator = ',';
        }
        if separator == ',' {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }

    /// What was written.
    #[must_use]
    pub fn finish(self) -> String {
        self.text
    }
}

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

fn escape(text: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog;

    #[test]
    fn label_values_are_escaped() {
        let mut text = Exposition::default();
        text.family(catalog::CLIENTS);
        text.sample(&[("software", "a\"b\\c\nd"), ("version", "1")], 3.0);
        let text = text.finish();
        let last = text.lines().last().expect("a sample");
        let wanted = r#"highwater_client_connections{software="a\"b\\c\nd",version="1"} 3"#;
        assert_eq!(last, wanted);
        assert!(text.contains("# TYPE highwater_client_connections gauge\n"));
    }

    #[test]
    fn buckets_are_cumulative_and_end_with_everything() {
        let mut times = Distribution::default();
        times.add(20_000, 3);
        times.add(60_000_000_000, 2);
        times.sum_ns = 1_500_000_000;
        let mut text = Exposition::default();
        text.family(catalog::TURN);
        text.distribution(&[("core", "0")], &times);
        let text = text.finish();
        for line in [
            r#"highwater_turn_seconds_bucket{core="0",le="0.00001"} 0"#,
            r#"highwater_turn_seconds_bucket{core="0",le="0.000025"} 3"#,
            r#"highwater_turn_seconds_bucket{core="0",le="30"} 3"#,
            r#"highwater_turn_seconds_bucket{core="0",le="+Inf"} 5"#,
            r#"highwater_turn_seconds_sum{core="0"} 1.5"#,
            r#"highwater_turn_seconds_count{core="0"} 5"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}

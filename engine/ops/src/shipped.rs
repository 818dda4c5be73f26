//! What is shipped beside the endpoint speaks of metrics that exist: the Grafana dashboard and the
//! alert rules. Nothing of this is in the program.

use std::collections::BTreeSet;

use crate::catalog::{ALL, Kind};

const DASHBOARD: &str = include_str!("../dashboard/highwater.json");
const ALERTS: &str = include_str!("../alerts/highwater.rules.yml");

/// Every name of a time series that is exported.
fn series() -> BTreeSet<String> {
    let names = ALL.iter().flat_map(|metric| {
        let suffixes: &[&str] = match metric.kind {
            Kind::Histogram => &["_bucket", "_sum", "_count"],
            Kind::Counter | Kind::Gauge => &[""],
        };
        suffixes
            .iter()
            .map(|suffix| format!("{}{suffix}", metric.name))
    });
    names.collect()
}

/// Names of series in an expression.
fn named(expression: &str) -> BTreeSet<&str> {
    let is_outside = |character: char| !character.is_ascii_alphanumeric() && character != '_';
    let words = expression.split(is_outside);
    words
        .filter(|word| word.starts_with("highwater_"))
        .collect()
}

/// All strings under the key `expr`, at any depth.
fn expressions(value: &serde_json::Value, found: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (key, value) in fields {
                match value.as_str() {
                    Some(text) if key == "expr" => found.push(text.to_owned()),
                    _ => expressions(value, found),
                }
            }
        }
        serde_json::Value::Array(values) => {
            values.iter().for_each(|value| expressions(value, found));
        }
        _ => {}
    }
}

#[test]
fn the_dashboard_shows_only_metrics_that_are_exported() {
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).expect("valid JSON");
    let mut found = Vec::new();
    expressions(&dashboard, &mut found);
    let panels = dashboard["panels"].as_array().expect("a list of panels");
    assert!(found.len() >= panels.len(), "panels without a query");
    let known = series();
    for expression in &found {
        let names = named(expression);
        assert!(!names.is_empty(), "{expression} is about nothing of ours");
        for name in names {
            assert!(known.contains(name), "{name} in {expression}");
        }
    }
}

#[test]
fn the_alerts_watch_only_metrics_that_are_exported() {
    let known = series();
    let rules = ALERTS.matches("- alert: ").count();
    let mut expressions = 0;
    let mut lines = ALERTS.lines().map(str::trim).peekable();
    while let Some(line) = lines.next() {
        let Some(first) = line.strip_prefix("expr: ") else {
            continue;
        };
        expressions += 1;
        let mut expression = first.to_owned();
        while let Some(more) = lines.next_if(|line| !is_key(line)) {
            expression.push_str(more);
            expression.push(' ');
        }
        for name in named(&expression) {
            assert!(known.contains(name), "{name} in {expression}");
        }
        let is_about_us = !named(&expression).is_empty() || expression.starts_with("up{");
        assert!(is_about_us, "{expression} is about nothing of ours");
    }
    assert!(rules > 0);
    assert_eq!(expressions, rules);
}

/// Whether a line of a rule begins a new key.
fn is_key(line: &str) -> bool {
    ["for: ", "labels: ", "annotations:", "- alert: "]
        .iter()
        .any(|key| line.starts_with(key))
}

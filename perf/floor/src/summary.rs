//! Latencies of a measured window and their JSON form. Units are in the names: `_us` microseconds,
//! `_per_s` per second, `_mb_` 10^6 bytes, `_gb_` 10^9 bytes.

use std::io;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

const LONGEST_NS: u64 = 60_000_000_000;

/// Latencies with three significant digits, up to a minute.
pub struct Latencies {
    histogram: Histogram<u64>,
}

impl Latencies {
    /// An empty record.
    ///
    /// # Errors
    /// Never in practice: the bounds are constants.
    pub fn new() -> io::Result<Latencies> {
        let histogram = Histogram::new_with_bounds(1, LONGEST_NS, 3).map_err(io::Error::other)?;
        Ok(Latencies { histogram })
    }

    /// Adds one latency; longer ones count as a minute.
    pub fn record(&mut self, latency: Duration) {
        let latency_ns = u64::try_from(latency.as_nanos()).unwrap_or(LONGEST_NS);
        self.histogram.saturating_record(latency_ns);
    }

    /// How many were added.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// Adds all of another record.
    ///
    /// # Errors
    /// Never in practice: all records have the same bounds.
    pub fn merge(&mut self, other: &Latencies) -> io::Result<()> {
        self.histogram
            .add(&other.histogram)
            .map_err(io::Error::other)
    }

    /// `p50_us`, `p99_us`, `p99_9_us`, `p99_99_us`, `max_us`, `count` into `object`.
    pub fn describe(&self, object: &mut Map<String, Value>) {
        let quantiles = [
            ("p50_us", 0.50),
            ("p99_us", 0.99),
            ("p99_9_us", 0.999),
            ("p99_99_us", 0.9999),
        ];
        for (name, quantile) in quantiles {
            let value_ns = self.histogram.value_at_quantile(quantile);
            object.insert(name.to_string(), json!(value_ns as f64 / 1000.0));
        }
        object.insert(
            "max_us".to_string(),
            json!(self.histogram.max() as f64 / 1000.0),
        );
        object.insert("count".to_string(), json!(self.count()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_in_microseconds() {
        let mut latencies = Latencies::new().unwrap();
        for micros in 1..=100 {
            latencies.record(Duration::from_micros(micros));
        }
        let mut object = Map::new();
        latencies.describe(&mut object);
        let p50 = object["p50_us"].as_f64().unwrap();
        assert!((49.9..50.2).contains(&p50), "{p50}");
        assert_eq!(object["count"], json!(100));
    }
}

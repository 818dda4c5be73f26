//! The model of a measurement, as it is handed over, written to JSON and read back.
//!
//! Owns the shapes and the conversion between a histogram and what is said of it. Histograms hold
//! nanoseconds; what is said of them is microseconds. Field names are an interface: they are never
//! renamed, new ones may come. It judges nothing; that is `warnings`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{
    DeserializeError, Deserializer, Serializer, V2DeflateSerializer,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Everything one invocation measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What was measured, in a few words.
    pub title: String,
    pub broker: Broker,
    pub client: ClientMachine,
    /// What the load was told to do, in the order in which it is shown.
    pub settings: Vec<Setting>,
    /// One run, or one for each step of a ladder of rates.
    pub runs: Vec<Run>,
    /// The result of a ladder, where one was asked for and a rate held the bound.
    pub knee: Option<Knee>,
    /// What a reader has to know before the figures are believed.
    pub warnings: Vec<Warning>,
}

/// The cluster under load, as far as the client can know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broker {
    /// The addresses that were given, `host:port` separated by commas.
    pub bootstrap: String,
    /// Name and version of the software, where it tells or the caller said so.
    pub software: Option<String>,
    /// How many brokers the cluster has.
    pub brokers: usize,
}

/// The machine that made the load, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientMachine {
    /// Release of the kernel.
    pub kernel: String,
    /// CPUs that this machine has online.
    pub cpus: usize,
    /// The kernel's current clock source, such as `tsc`.
    pub clock_source: String,
    pub highwater_version: String,
    /// When the first run started, milliseconds since 1970, UTC.
    pub started_unix_ms: i64,
    /// Threads that made load, one a core.
    pub threads: usize,
}

/// One thing the load was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    pub name: String,
    /// The value with its unit.
    pub value: String,
}

/// One load at one rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// What distinguishes it from the other runs; unique within a report.
    pub label: String,
    /// Records that were to be sent, per second. None: a closed loop, as fast as answers come.
    pub rate_target_per_s: Option<f64>,
    /// Seconds in front of the measured time that count nowhere.
    pub warm_up_s: f64,
    /// Seconds that count.
    pub measured_s: f64,
    pub series: Vec<Series>,
    /// The measured time in pieces, series by series, in order of time.
    pub intervals: Vec<Interval>,
    /// CPU time of the busiest thread over measured time: 1.0 is one core in full.
    pub client_cpu_share: f64,
}

/// One kind of operation of a run, over the whole measured time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// "produce", "end to end" or "fetch".
    pub name: String,
    /// Records that succeeded.
    pub records: u64,
    /// Bytes of keys and values of those records.
    pub bytes: u64,
    /// Records that failed.
    pub errors: u64,
    /// A few of the failures in words, each kind once.
    pub error_examples: Vec<String>,
    /// Records that succeeded, per second of measured time.
    pub records_per_s: f64,
    /// Bytes of those records per second of measured time.
    pub bytes_per_s: f64,
    pub latency: Latency,
}

/// A distribution of latencies, each counted from the moment its record was due.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// How many values there are.
    pub samples: u64,
    /// Microseconds, as all that follow; 0 where there are no values.
    pub mean_us: f64,
    pub p50_us: f64,
    pub p90_us: f64,
    pub p99_us: f64,
    pub p99_9_us: f64,
    pub p99_99_us: f64,
    pub max_us: f64,
    /// The whole distribution in nanoseconds: HdrHistogram's V2 encoding, deflated, in base64, as
    /// its interval logs and the libraries of other languages have it.
    pub histogram: String,
}

/// One piece of a run's time, for one series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Name of the series it belongs to.
    pub series: String,
    /// Seconds from the start of the measured time.
    pub start_s: f64,
    /// Seconds that it covers.
    pub length_s: f64,
    /// Records that succeeded in it.
    pub records: u64,
    /// Bytes of those records.
    pub bytes: u64,
    /// Records that failed in it.
    pub errors: u64,
    /// Microseconds, as all that follow, of what ended in it; 0 where nothing did.
    pub p50_us: f64,
    pub p99_us: f64,
    pub p99_9_us: f64,
    pub max_us: f64,
    /// Records due but not yet sent at its end.
    pub overdue: u64,
}

/// Where a ladder of rates ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Knee {
    /// The bound that p99 had to hold, in microseconds.
    pub p99_bound_us: f64,
    /// The highest rate held under the bound, in records per second.
    pub rate_per_s: f64,
    /// p99 at that rate, in microseconds.
    pub p99_us: f64,
    /// How many rates were tried.
    pub tried: usize,
}

/// A reason to doubt figures, in words for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    pub kind: WarningKind,
    /// What was seen, what it means and what to do.
    pub text: String,
}

/// Kinds of reasons to doubt, by which programs can tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WarningKind {
    /// The client's own core was near its limit.
    ClientBottleneck,
    /// Time was read from something slow, or was set meanwhile.
    Clock,
    /// A percentile rests on too few values.
    TooFewSamples,
    /// Records were not sent as fast as they were due.
    RateNotReached,
    /// Requests failed.
    Errors,
    /// The client had to share its core with something else.
    SharedCore,
}

/// Why a histogram's text could not be read.
#[derive(Debug, Error)]
pub enum DecodeError {
    #[error("the field `histogram` is not base64: {0}")]
    Text(#[from] base64::DecodeError),
    #[error("the field `histogram` is not a deflated HdrHistogram V2: {0}")]
    Bytes(#[from] DeserializeError),
}

impl Latency {
    /// What there is to say of a histogram of nanoseconds.
    #[must_use]
    pub fn of(histogram: &Histogram<u64>) -> Latency {
        let us = |quantile: f64| {
            if histogram.is_empty() {
                return 0.0;
            }
            microseconds(histogram.value_at_quantile(quantile))
        };
        Latency {
            samples: histogram.len(),
            mean_us: histogram.mean() / 1e3,
            p50_us: us(0.5),
            p90_us: us(0.9),
            p99_us: us(0.99),
            p99_9_us: us(0.999),
            p99_99_us: us(0.9999),
            max_us: us(1.0),
            histogram: encode(histogram),
        }
    }

    /// The whole distribution, in nanoseconds.
    ///
    /// # Errors
    /// When the text is none that [`Latency::of`] could have written.
    pub fn decode(&self) -> Result<Histogram<u64>, DecodeError> {
        let bytes = STANDARD.decode(&self.histogram)?;
        Ok(Deserializer::new().deserialize(&mut bytes.as_slice())?)
    }
}

/// Nanoseconds as microseconds.
#[expect(
    clippy::cast_precision_loss,
    reason = "53 bits of nanoseconds are a hundred days"
)]
fn microseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e3
}

fn encode(histogram: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new()
        .serialize(histogram, &mut bytes)
        .expect("a vector takes every byte, and a histogram that exists has room to be encoded");
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(values: impl IntoIterator<Item = u64>) -> Histogram<u64> {
        let mut histogram = Histogram::new(3).expect("three digits are allowed");
        for value in values {
            histogram.record(value).expect("the histogram grows");
        }
        histogram
    }

    #[test]
    fn a_histogram_survives_its_text() {
        let original = histogram((1..=10_000).map(|n| n * 1_000));
        let latency = Latency::of(&original);
        assert_eq!(latency.decode().expect("own text"), original);
        assert!(
            latency.histogram.starts_with("HISTF"),
            "the deflated cookie"
        );
    }

    #[test]
    fn percentiles_are_microseconds() {
        let latency = Latency::of(&histogram((1..=10_000).map(|n| n * 1_000)));
        assert_eq!(latency.samples, 10_000);
        let near = |got: f64, wanted: f64| (got - wanted).abs() <= wanted / 1_000.0;
        assert!(near(latency.mean_us, 5_000.5), "{latency:?}");
        assert!(near(latency.p50_us, 5_000.0), "{latency:?}");
        assert!(near(latency.p90_us, 9_000.0), "{latency:?}");
        assert!(near(latency.p99_us, 9_900.0), "{latency:?}");
        assert!(near(latency.p99_9_us, 9_990.0), "{latency:?}");
        assert!(near(latency.p99_99_us, 9_999.0), "{latency:?}");
        assert!(near(latency.max_us, 10_000.0), "{latency:?}");
    }

    #[test]
    fn nothing_measured_is_zero_and_no_error() {
        let latency = Latency::of(&histogram([]));
        assert_eq!(
            (latency.samples, latency.max_us, latency.mean_us),
            (0, 0.0, 0.0)
        );
        assert!(latency.decode().expect("own text").is_empty());
    }

    #[test]
    fn what_is_no_histogram_is_refused() {
        let mut latency = Latency::of(&histogram([1]));
        latency.histogram = "no base64!".to_string();
        assert!(matches!(latency.decode(), Err(DecodeError::Text(_))));
        latency.histogram = STANDARD.encode("no histogram, but long enough to look like one");
        assert!(matches!(latency.decode(), Err(DecodeError::Bytes(_))));
        latency.histogram.clear();
        assert!(matches!(latency.decode(), Err(DecodeError::Bytes(_))));
    }

    #[test]
    fn kinds_of_warnings_have_names_for_programs() {
        let names = |kind: WarningKind| serde_json::to_string(&kind).expect("a string");
        assert_eq!(
            names(WarningKind::ClientBottleneck),
            "\"client-bottleneck\""
        );
        assert_eq!(names(WarningKind::TooFewSamples), "\"too-few-samples\"");
    }
}

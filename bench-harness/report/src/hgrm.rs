//! A distribution as HdrHistogram's percentile text, the `.hgrm` that its plotter and wrk2's users
//! read.
//!
//! Owns that format only: four columns, values in milliseconds, a footer of three lines. Each
//! halving of the distance to the maximum has five lines. Values have six digits behind the point,
//! where other writers have three: a short latency would lose its digits.

use std::fmt::Write;

use hdrhistogram::Histogram;

use crate::words::real;

/// Lines for each halving of the distance to 100 %.
const TICKS_PER_HALF_DISTANCE: u32 = 5;
/// Nanoseconds in the unit of the text.
const NANOSECONDS_PER_MS: f64 = 1e6;

/// The text of a histogram of nanoseconds.
#[must_use]
pub fn text(histogram: &Histogram<u64>) -> String {
    let ms = |nanoseconds: u64| real(nanoseconds) / NANOSECONDS_PER_MS;
    let mut text = format!(
        "{:>12} {:>14} {:>10} {:>14}\n\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    );
    let mut total = 0;
    for step in histogram.iter_quantiles(TICKS_PER_HALF_DISTANCE) {
        total += step.count_since_last_iteration();
        let value = ms(step.value_iterated_to());
        let quantile = step.quantile_iterated_to();
        // The last line has no fourth column: it would be infinite, which no reader can plot.
        let _ = if quantile < 1.0 {
            let distance = 1.0 / (1.0 - quantile);
            writeln!(
                text,
                "{value:12.6} {quantile:.12} {total:10} {distance:14.2}"
            )
        } else {
            writeln!(text, "{value:12.6} {quantile:.12} {total:10}")
        };
    }
    let _ = writeln!(
        text,
        "#[Mean    = {:12.6}, StdDeviation   = {:12.6}]\n\
         #[Max     = {:12.6}, Total count    = {:12}]\n\
         #[Buckets = {:12}, SubBuckets     = {:12}]",
        histogram.mean() / NANOSECONDS_PER_MS,
        histogram.stdev() / NANOSECONDS_PER_MS,
        ms(histogram.max()),
        histogram.len(),
        histogram.buckets(),
        sub_buckets(histogram.sigfig()),
    );
    text
}

/// How many buckets each power of two has: enough for the digits of both its halves.
fn sub_buckets(significant_digits: u8) -> u64 {
    (2 * 10_u64.pow(u32::from(significant_digits))).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram() -> Histogram<u64> {
        let mut histogram = Histogram::new(3).expect("three digits are allowed");
        for n in 1..=100_000_u64 {
            histogram.record(n * 1_000).expect("the histogram grows");
        }
        histogram
    }

    /// Lines as a plotter reads them: of four columns, those without a number sign.
    fn parsed(text: &str) -> Vec<[f64; 4]> {
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| {
                let cells: Vec<f64> = line
                    .split_whitespace()
                    .map_while(|c| c.parse().ok())
                    .collect();
                cells.try_into().ok()
            })
            .collect()
    }

    #[test]
    fn what_is_read_back_is_the_distribution() {
        let histogram = histogram();
        let lines = parsed(&text(&histogram));
        assert!(lines.len() > 50, "{}", lines.len());
        for [value, quantile, total, distance] in lines {
            let wanted_ms = real(histogram.value_at_quantile(quantile)) / 1e6;
            assert!(
                (value - wanted_ms).abs() <= wanted_ms * 0.002,
                "{value} at {quantile}"
            );
            assert!(
                total / 100_000.0 >= quantile - 1e-9,
                "{total} at {quantile}"
            );
            let wanted = 1.0 / (1.0 - quantile);
            assert!(
                (distance - wanted).abs() <= 0.005 + wanted * 1e-6,
                "{distance}"
            );
        }
    }

    #[test]
    fn the_shape_is_what_readers_expect() {
        let text = text(&histogram());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "       Value     Percentile TotalCount 1/(1-Percentile)"
        );
        assert_eq!(lines[1], "");
        let last = lines[lines.len() - 4];
        let cells: Vec<&str> = last.split_whitespace().collect();
        assert_eq!(cells[1..], ["1.000000000000", "100000"], "{last}");
        assert!(
            lines[lines.len() - 3].starts_with("#[Mean    =    50."),
            "{text}"
        );
        let max = lines[lines.len() - 2];
        assert!(max.starts_with("#[Max     =   100.0"), "{max}");
        assert!(max.ends_with("Total count    =       100000]"), "{max}");
        assert!(
            lines[lines.len() - 1].ends_with("SubBuckets     =         2048]"),
            "{text}"
        );
    }

    #[test]
    fn an_empty_histogram_has_only_head_and_footer() {
        let empty = Histogram::new(3).expect("three digits are allowed");
        let text = text(&empty);
        assert!(parsed(&text).is_empty());
        assert!(text.contains("Total count    =            0]"), "{text}");
    }
}

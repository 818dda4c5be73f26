//! Figures in words: units, digits and the one sentence that says what came out.
//!
//! Owns how a number is written wherever people read it, so that page, table and live view agree.
//! MB is 10^6 bytes. Programs read the JSON instead.

use crate::model::{Report, Run, Series};

/// A number in groups of three digits.
#[must_use]
pub fn grouped(number: u64) -> String {
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

/// Microseconds with three digits that mean something and the unit that fits.
#[must_use]
pub fn latency(us: f64) -> String {
    // What rounds to the next unit is written in it.
    if us < 999.5 {
        format!("{} µs", three_digits(us))
    } else if us < 999_500.0 {
        format!("{} ms", three_digits(us / 1e3))
    } else {
        format!("{} s", three_digits(us / 1e6))
    }
}

/// Per second, in groups of three digits; slow rates with their fraction.
#[must_use]
pub fn rate(per_s: f64) -> String {
    if per_s < 99.5 {
        return format!("{}/s", three_digits(per_s));
    }
    format!("{}/s", grouped(whole(per_s)))
}

/// Records per second, with the word.
#[must_use]
pub fn records_rate(per_s: f64) -> String {
    format!("{} records/s", rate(per_s).trim_end_matches("/s"))
}

/// Bytes per second as MB/s.
#[must_use]
pub fn bytes_rate(per_s: f64) -> String {
    format!("{} MB/s", three_digits(per_s / 1e6))
}

/// Seconds, without a fraction that says nothing.
#[must_use]
pub fn seconds(s: f64) -> String {
    if s >= 100.0 || (s - s.round()).abs() < 0.05 {
        return format!("{s:.0} s");
    }
    format!("{s:.1} s")
}

/// A share as percents.
#[must_use]
pub fn percents(share: f64) -> String {
    format!("{} %", three_digits(share * 100.0))
}

/// Three digits, or all in front of the point where there are more.
fn three_digits(number: f64) -> String {
    let size = number.abs();
    if size < 0.000_5 {
        "0".to_string()
    } else if size < 9.995 {
        format!("{number:.2}")
    } else if size < 99.95 {
        format!("{number:.1}")
    } else {
        format!("{number:.0}")
    }
}

/// The nearest whole number, none below zero.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast saturates, and rates are far below 2^64"
)]
pub(crate) fn whole(number: f64) -> u64 {
    number.round().max(0.0) as u64
}

/// A count as a number to calculate with.
#[expect(
    clippy::cast_precision_loss,
    reason = "exact up to 2^53, for figures with three digits"
)]
pub(crate) fn real(count: u64) -> f64 {
    count as f64
}

/// The run that is spoken of first: the one at the knee, else the one that delivered most.
#[must_use]
pub fn headline_run(report: &Report) -> Option<&Run> {
    let off = |run: &&Run| match &report.knee {
        Some(knee) => run
            .rate_target_per_s
            .map_or(f64::INFINITY, |target| (target - knee.rate_per_s).abs()),
        None => -main_series(run).map_or(0.0, |series| series.records_per_s),
    };
    report.runs.iter().min_by(|a, b| off(a).total_cmp(&off(b)))
}

/// The series of a run that its rate target speaks of: what is produced, else the first.
#[must_use]
pub fn main_series(run: &Run) -> Option<&Series> {
    let produced = run.series.iter().find(|series| series.name == "produce");
    produced.or(run.series.first())
}

/// What came out, in one sentence.
#[must_use]
pub fn sentence(report: &Report) -> String {
    if let Some(knee) = &report.knee {
        return format!(
            "{} of {} rates were held with a p99 of at most {}: the highest is {}, with a \
             p99 of {}.",
            held(report),
            knee.tried,
            latency(knee.p99_bound_us),
            records_rate(knee.rate_per_s),
            latency(knee.p99_us),
        );
    }
    let Some((run, series)) = headline_run(report).and_then(|run| Some((run, main_series(run)?)))
    else {
        return "Nothing was measured.".to_string();
    };
    let asked = match run.rate_target_per_s {
        Some(target) => format!(" of {} asked for", rate(target)),
        None => " in a closed loop".to_string(),
    };
    format!(
        "{}: {}{asked} ({}), p99 {}, p99.9 {}, over {}.",
        capital(&series.name),
        records_rate(series.records_per_s),
        bytes_rate(series.bytes_per_s),
        latency(series.latency.p99_us),
        latency(series.latency.p99_9_us),
        seconds(run.measured_s),
    )
}

/// How many rates are not above the knee.
fn held(report: &Report) -> usize {
    let limit = report.knee.as_ref().map_or(0.0, |knee| knee.rate_per_s);
    let targets = report.runs.iter().filter_map(|run| run.rate_target_per_s);
    targets.filter(|target| *target <= limit).count()
}

/// With a capital in front.
pub(crate) fn capital(text: &str) -> String {
    let mut rest = text.chars();
    rest.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(rest).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up;

    #[test]
    fn latencies_have_three_digits_and_a_unit() {
        assert_eq!(latency(0.0), "0 µs");
        assert_eq!(latency(7.256), "7.26 µs");
        assert_eq!(latency(999.4), "999 µs");
        assert_eq!(latency(999.6), "1.00 ms");
        assert_eq!(latency(12_345.0), "12.3 ms");
        assert_eq!(latency(999_600.0), "1.00 s");
        assert_eq!(latency(75_000_000.0), "75.0 s");
    }

    #[test]
    fn rates_are_grouped() {
        assert_eq!(rate(1_234_567.4), "1,234,567/s");
        assert_eq!(rate(2.5), "2.50/s");
        assert_eq!(rate(0.0), "0/s");
        assert_eq!(bytes_rate(51_200_000.0), "51.2 MB/s");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(seconds(30.01), "30 s");
        assert_eq!(seconds(2.5), "2.5 s");
        assert_eq!(percents(0.934), "93.4 %");
    }

    #[test]
    fn one_sentence_says_what_came_out() {
        let single = made_up::single();
        let text = sentence(&single);
        assert!(
            text.starts_with("Produce: 50,000 records/s of 50,000/s asked for"),
            "{text}"
        );
        let ladder = made_up::ladder();
        let text = sentence(&ladder);
        assert!(text.contains("the highest is 80,000 records/s"), "{text}");
        assert!(text.starts_with("4 of 6 rates"), "{text}");
        let mut nothing = single;
        nothing.runs.clear();
        assert_eq!(sentence(&nothing), "Nothing was measured.");
    }

    #[test]
    fn the_run_at_the_knee_is_spoken_of_first() {
        let ladder = made_up::ladder();
        let run = headline_run(&ladder).expect("there are runs");
        assert_eq!(run.rate_target_per_s, Some(80_000.0));
        let mut without = ladder;
        without.knee = None;
        let run = headline_run(&without).expect("there are runs");
        let most = without.runs.iter().filter_map(main_series);
        let most = most.map(|series| series.records_per_s).fold(0.0, f64::max);
        assert_eq!(
            main_series(run).map(|series| series.records_per_s),
            Some(most)
        );
    }
}

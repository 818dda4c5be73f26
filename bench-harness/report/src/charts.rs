//! Which plots a report has and what is in them.
//!
//! Owns the way from runs, series and intervals to lines and axes, and the words around each plot.
//! How a plot is drawn is `plot`, where it stands on the page `html`.

use crate::model::{Interval, Latency, Report, Run, Series};
use crate::plot::{Axis, Line, Mark, Plot, Point, Scale};
use crate::words::{grouped, latency, main_series, rate, real, records_rate, whole};

/// More pieces of time than this are put together, so that a line stays a line.
const PIECES_MAX: usize = 240;
/// Points for each halving of the distance to 100 %.
const TICKS_PER_HALF_DISTANCE: u32 = 5;

/// A plot with what stands around it.
#[derive(Clone, Debug)]
pub(crate) struct Chart {
    pub title: String,
    pub caption: String,
    /// None: there is nothing to draw.
    pub svg: Option<String>,
    /// Names of the lines, by place.
    pub legend: Vec<String>,
}

/// A percentile of an interval, by name.
type Percentile = (&'static str, fn(&Interval) -> f64);

const PERCENTILES: [Percentile; 4] = [
    ("p50", |interval| interval.p50_us),
    ("p99", |interval| interval.p99_us),
    ("p99.9", |interval| interval.p99_9_us),
    ("max", |interval| interval.max_us),
];

/// Latency by percentile: one plot with all series of one run, or one for each series of many.
pub(crate) fn by_percentile(report: &Report) -> Vec<Chart> {
    if let [run] = report.runs.as_slice() {
        let curves = run.series.iter().map(|s| (s.name.clone(), &s.latency));
        return vec![percentile_chart("Latency by percentile", curves.collect())];
    }
    let chart = |name: String| {
        let of = |run: &&Run| run.series.iter().any(|series| series.name == name);
        let runs = report.runs.iter().filter(of);
        let curve = |run: &'_ Run| {
            let series = run.series.iter().find(|series| series.name == name);
            series.map(|series| (run.label.clone(), series.latency.clone()))
        };
        let curves: Vec<(String, Latency)> = runs.filter_map(curve).collect();
        let borrowed = curves
            .iter()
            .map(|(label, latency)| (label.clone(), latency));
        let title = format!("Latency by percentile: {name}");
        percentile_chart(&title, borrowed.collect())
    };
    series_names(report).into_iter().map(chart).collect()
}

fn percentile_chart(title: &str, curves: Vec<(String, &Latency)>) -> Chart {
    let mut lines = Vec::new();
    let mut legend = Vec::new();
    for (place, (label, latency)) in curves.into_iter().enumerate() {
        let points = percentile_points(&label, latency);
        lines.push(Line { place, points });
        legend.push(label);
    }
    let nines_max = extent(&lines, |point| point.x).map_or(1.0, |(_, to)| to);
    let x = Axis {
        title: "percentile (%)".to_string(),
        scale: Scale::Linear,
        from: 0.0,
        to: nines_max.max(1.0) * 1.03,
        ticks: (0..=9_u32)
            .map(f64::from)
            .filter(|nines| *nines <= nines_max.max(1.0))
            .collect(),
        label: percentile_at,
    };
    drawn(
        title,
        "Each step to the right is one nine more: a tenth of the values is left. The line ends with \
         the largest value.",
        x,
        lines,
        legend,
        Vec::new(),
    )
}

/// The percentile at which one value in ten to the `nines` is beyond.
fn percentile_at(nines: f64) -> String {
    match whole(nines) {
        0 => "0".to_string(),
        1 => "90".to_string(),
        2 => "99".to_string(),
        more => {
            let digits = "9".repeat(usize::try_from(more).unwrap_or(0).saturating_sub(2));
            format!("99.{digits}")
        }
    }
}

fn percentile_points(label: &str, of: &Latency) -> Vec<Point> {
    // A report made elsewhere may hold what cannot be read; the figures of the table remain.
    let Ok(histogram) = of.decode() else {
        return Vec::new();
    };
    let nines_max = real(of.samples.max(1)).log10();
    let mut points: Vec<Point> = Vec::new();
    for step in histogram.iter_quantiles(TICKS_PER_HALF_DISTANCE) {
        let quantile = step.quantile_iterated_to();
        let nines = if quantile < 1.0 {
            (-(1.0 - quantile).log10()).min(nines_max)
        } else {
            nines_max
        };
        let us = real(step.value_iterated_to()) / 1e3;
        let name = if quantile < 1.0 {
            format!("{:.*} %", digits_of(nines), quantile * 100.0)
        } else {
            "max".to_string()
        };
        points.push(Point {
            x: nines,
            y: us,
            tip: format!("{label}\n{name}: {}", latency(us)),
        });
    }
    points
}

/// Digits behind the point that tell a percentile from 100.
fn digits_of(nines: f64) -> usize {
    usize::try_from(whole(nines.ceil())).unwrap_or(0)
}

/// Latency of one series over the time of its run.
pub(crate) fn latency_over_time(run: &Run, series: &Series) -> Chart {
    let (pieces, together) = pieces(run, &series.name);
    let line = |(place, (name, of)): (usize, &Percentile)| {
        let point = |piece: &Interval| Point {
            x: middle(piece),
            y: of(piece),
            tip: format!("{name} at {}: {}", at(piece), latency(of(piece))),
        };
        let points = pieces.iter().map(point).collect();
        Line { place, points }
    };
    let lines = PERCENTILES.iter().enumerate().map(line).collect();
    let caption = if together > 1 {
        format!("{together} intervals are one point: the highest of their values.")
    } else {
        "What ended in each interval, counted from when it was due.".to_string()
    };
    drawn(
        &format!("Latency over time: {}", series.name),
        &caption,
        time_axis(run),
        lines,
        PERCENTILES
            .iter()
            .map(|(name, _)| (*name).to_string())
            .collect(),
        Vec::new(),
    )
}

/// Records per second of every series of a run over its time.
pub(crate) fn throughput_over_time(run: &Run) -> Chart {
    let line = |(place, series): (usize, &Series)| {
        let (pieces, _) = pieces(run, &series.name);
        let point = |piece: &Interval| {
            let per_s = real(piece.records) / piece.length_s;
            Point {
                x: middle(piece),
                y: per_s,
                tip: format!("{} at {}: {}", series.name, at(piece), records_rate(per_s)),
            }
        };
        let usable = pieces.iter().filter(|piece| piece.length_s > 0.0);
        let points = usable.map(point).collect();
        Line { place, points }
    };
    let lines: Vec<Line> = run.series.iter().enumerate().map(line).collect();
    let target = run.rate_target_per_s;
    let highest = extent(&lines, |point| point.y).map_or(0.0, |(_, to)| to);
    let top = highest.max(target.unwrap_or(0.0)) * 1.08;
    let mark = |y: f64| Mark::Across {
        y,
        words: format!("asked for: {}", rate(y)),
    };
    let plot = Plot {
        description: format!("Throughput over time, highest {}", records_rate(highest)),
        x: time_axis(run),
        y: Axis::linear("records per second", 0.0, top, |per_s| {
            grouped(whole(per_s))
        }),
        lines,
        marks: target.map(mark).into_iter().collect(),
    };
    Chart {
        title: "Throughput over time".to_string(),
        caption: "Records that succeeded in each interval.".to_string(),
        svg: plot.svg(),
        legend: run
            .series
            .iter()
            .map(|series| series.name.clone())
            .collect(),
    }
}

/// p99 over the rate that was asked for, where there was more than one.
pub(crate) fn ladder(report: &Report) -> Option<Chart> {
    let mut steps: Vec<(f64, &Run)> = report
        .runs
        .iter()
        .filter_map(|run| Some((run.rate_target_per_s?, run)))
        .collect();
    if steps.len() < 2 {
        return None;
    }
    steps.sort_by(|a, b| a.0.total_cmp(&b.0));
    let names = series_names(report);
    let line = |(place, name): (usize, &String)| {
        let point = |(target, run): &(f64, &Run)| {
            let series = run.series.iter().find(|series| series.name == *name)?;
            let delivered = main_series(run).map_or(0.0, |series| series.records_per_s);
            let us = series.latency.p99_us;
            Some(Point {
                x: *target,
                y: us,
                tip: format!(
                    "{name}: p99 {} at {} asked for, {} delivered",
                    latency(us),
                    rate(*target),
                    rate(delivered)
                ),
            })
        };
        let points = steps.iter().filter_map(point).collect();
        Line { place, points }
    };
    let lines = names.iter().enumerate().map(line).collect();
    let mut marks = Vec::new();
    if let Some(knee) = &report.knee {
        marks.push(Mark::Across {
            y: knee.p99_bound_us,
            words: format!("bound: {}", latency(knee.p99_bound_us)),
        });
        marks.push(Mark::Upright {
            x: knee.rate_per_s,
            words: format!("knee: {}", records_rate(knee.rate_per_s)),
        });
    }
    let highest = steps.last().map_or(0.0, |(target, _)| *target);
    let x = Axis::linear("records per second asked for", 0.0, highest, |per_s| {
        grouped(whole(per_s))
    });
    let caption = "p99 of each step of the ladder. Beyond the knee records queue, and latency says \
                   how long was measured.";
    Some(drawn("p99 over rate", caption, x, lines, names, marks))
}

/// A plot of latencies, on a scale of powers.
fn drawn(
    title: &str,
    caption: &str,
    x: Axis,
    mut lines: Vec<Line>,
    legend: Vec<String>,
    marks: Vec<Mark>,
) -> Chart {
    for line in &mut lines {
        // Nothing ended there; a scale of powers has no place for it.
        line.points
            .retain(|point| point.y > 0.0 && point.x.is_finite());
    }
    let bounds = marks.iter().filter_map(|mark| match mark {
        Mark::Across { y, .. } => Some(*y),
        Mark::Upright { .. } => None,
    });
    let measured = extent(&lines, |point| point.y).unwrap_or((1.0, 10.0));
    let (from, to) = bounds.fold(measured, |(from, to), y| (from.min(y), to.max(y)));
    let plot = Plot {
        description: format!(
            "{title}, from {} to {}",
            latency(measured.0),
            latency(measured.1)
        ),
        x,
        y: Axis::logarithmic("latency", from, to, tick_latency),
        lines,
        marks,
    };
    Chart {
        title: title.to_string(),
        caption: caption.to_string(),
        svg: plot.svg(),
        legend,
    }
}

/// A tick's latency: round values need no digits behind the point.
fn tick_latency(us: f64) -> String {
    let (value, unit) = match us {
        us if us < 999.5 => (us, "µs"),
        us if us < 999_500.0 => (us / 1e3, "ms"),
        us => (us / 1e6, "s"),
    };
    let rounded = (value * 100.0).round() / 100.0;
    format!("{rounded} {unit}")
}

/// Names of all series, in the order in which they come.
fn series_names(report: &Report) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for series in report.runs.iter().flat_map(|run| &run.series) {
        if !names.contains(&series.name) {
            names.push(series.name.clone());
        }
    }
    names
}

/// The smallest and largest of what `of` says of all points.
fn extent(lines: &[Line], of: fn(&Point) -> f64) -> Option<(f64, f64)> {
    let values = lines.iter().flat_map(|line| line.points.iter().map(of));
    values
        .filter(|value| value.is_finite())
        .fold(None, |seen, value| {
            let (from, to) = seen.unwrap_or((value, value));
            Some((f64::min(from, value), f64::max(to, value)))
        })
}

/// The intervals of a series in at most [`PIECES_MAX`] pieces, and how many are in one.
fn pieces(run: &Run, series: &str) -> (Vec<Interval>, usize) {
    let of = |interval: &&Interval| interval.series == series;
    let all: Vec<&Interval> = run.intervals.iter().filter(of).collect();
    let together = all.len().div_ceil(PIECES_MAX).max(1);
    let pieces = all.chunks(together).filter_map(|chunk| {
        let (first, rest) = chunk.split_first()?;
        let mut piece = (*first).clone();
        for next in rest {
            piece.length_s += next.length_s;
            piece.records += next.records;
            piece.bytes += next.bytes;
            piece.errors += next.errors;
            piece.p50_us = piece.p50_us.max(next.p50_us);
            piece.p99_us = piece.p99_us.max(next.p99_us);
            piece.p99_9_us = piece.p99_9_us.max(next.p99_9_us);
            piece.max_us = piece.max_us.max(next.max_us);
            piece.overdue = next.overdue;
        }
        Some(piece)
    });
    (pieces.collect(), together)
}

fn middle(piece: &Interval) -> f64 {
    piece.start_s + piece.length_s / 2.0
}

fn at(piece: &Interval) -> String {
    format!(
        "{:.0} to {:.0} s",
        piece.start_s,
        piece.start_s + piece.length_s
    )
}

fn time_axis(run: &Run) -> Axis {
    Axis::linear("measured time (s)", 0.0, run.measured_s, |s| {
        format!("{}", (s * 100.0).round() / 100.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up;

    #[test]
    fn nines_are_named() {
        let names: Vec<String> = (0..6_u32).map(f64::from).map(percentile_at).collect();
        assert_eq!(names, ["0", "90", "99", "99.9", "99.99", "99.999"]);
        assert_eq!(tick_latency(500.0), "500 µs");
        assert_eq!(tick_latency(2_000.0), "2 ms");
        assert_eq!(tick_latency(1e6), "1 s");
    }

    #[test]
    fn one_run_is_one_plot_and_a_ladder_one_for_each_series() {
        let single = by_percentile(&made_up::single());
        assert_eq!(single.len(), 1);
        assert_eq!(single[0].legend, ["produce", "end to end"]);
        let ladder = by_percentile(&made_up::ladder());
        assert_eq!(ladder.len(), 2);
        assert_eq!(ladder[0].legend.len(), 6);
        let svg = ladder[1].svg.as_ref().expect("an image");
        assert!(svg.contains("99.999\n"), "{svg}");
    }

    #[test]
    fn the_last_point_is_the_largest_value() {
        let report = made_up::single();
        let of = &report.runs[0].series[0].latency;
        let points = percentile_points("produce", of);
        let last = points.last().expect("points");
        assert!((last.y - of.max_us).abs() <= of.max_us * 0.002, "{last:?}");
        assert!(last.tip.contains("max"), "{last:?}");
        assert!(
            points
                .windows(2)
                .all(|two| two[0].x <= two[1].x && two[0].y <= two[1].y)
        );
    }

    #[test]
    fn a_histogram_that_cannot_be_read_is_no_plot() {
        let mut report = made_up::single();
        for series in &mut report.runs[0].series {
            series.latency.histogram = "?".to_string();
        }
        assert!(by_percentile(&report)[0].svg.is_none());
    }

    #[test]
    fn long_runs_are_put_together_without_losing_a_record_or_a_peak() {
        let mut run = made_up::single().runs.remove(0);
        run.intervals
            .retain(|interval| interval.series == "produce");
        let one = run.intervals[0].clone();
        run.intervals = vec![one; 1_000];
        run.intervals[501].max_us = 1e9;
        let (pieces, together) = pieces(&run, "produce");
        assert_eq!((pieces.len(), together), (200, 5));
        let records: u64 = pieces.iter().map(|piece| piece.records).sum();
        assert_eq!(records, run.intervals[0].records * 1_000);
        assert!(pieces.iter().any(|piece| piece.max_us >= 1e9));
    }

    #[test]
    fn a_ladder_shows_bound_and_knee() {
        let chart = ladder(&made_up::ladder()).expect("more than one rate");
        let svg = chart.svg.expect("an image");
        assert!(svg.contains("bound: 10.0 ms"), "{svg}");
        assert!(svg.contains("knee: 80,000 records/s"), "{svg}");
        assert!(ladder(&made_up::single()).is_none());
    }

    #[test]
    fn seconds_in_which_nothing_ended_are_left_out_of_latency_and_are_zero_in_throughput() {
        let mut run = made_up::single().runs.remove(0);
        for interval in &mut run.intervals {
            (interval.records, interval.p50_us, interval.p99_us) = (0, 0.0, 0.0);
            (interval.p99_9_us, interval.max_us) = (0.0, 0.0);
        }
        let series = run.series[0].clone();
        assert!(latency_over_time(&run, &series).svg.is_none());
        let svg = throughput_over_time(&run).svg.expect("an image");
        assert!(svg.contains("0/s") || svg.contains("0 records/s"), "{svg}");
    }
}

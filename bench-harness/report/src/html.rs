//! The report as one page that needs nothing else: no network, no script, no font.
//!
//! Owns what stands where on the page and the words of the method. What the plots show is `charts`;
//! everything from outside (titles, settings, errors of a broker) is escaped by the templates.

use std::fmt::Write;
use std::time::{Duration, UNIX_EPOCH};

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::charts::{self, Chart};
use crate::model::{Report, Run, Series, WarningKind};
use crate::plot::{COLOURS, dash, hexadecimal};
use crate::words::{
    bytes_rate, capital, grouped, headline_run, latency, percents, rate, seconds, sentence,
};

const STYLE: &str = include_str!("style.css");

/// The whole page.
#[must_use]
pub fn page(report: &Report) -> String {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (report.title) }
                style { (PreEscaped(STYLE)) (PreEscaped(colour_rules())) }
            }
            body { main {
                h1 { (report.title) }
                p.result { (sentence(report)) }
                p.facts { (origin(report)) }
                (warnings(report))
                (cards(report))
                (plots(report))
                h2 { "Percentiles" }
                div.box { div.scroll { (percentiles(report)) } }
                h2 { "Method" }
                p { (method(report)) }
                div.two { (settings(report)) (machine(report)) }
                footer {
                    "Made by highwater " (report.client.highwater_version)
                    ". Every figure is in report.json beside this page; the .hgrm files hold the \
                     distributions for HdrHistogram's plotter."
                }
            } }
        }
    };
    markup.into_string()
}

/// Rules that put the page's colours in the place of those the plots were drawn with.
fn colour_rules() -> String {
    let mut rules = String::new();
    for (place, colour) in COLOURS.iter().enumerate() {
        let drawn = hexadecimal(*colour);
        let _ = writeln!(
            rules,
            "svg.plot [stroke=\"{drawn}\"] {{ stroke: var(--c{place}); }}\n\
             svg.plot [fill=\"{drawn}\"] {{ fill: var(--c{place}); }}"
        );
    }
    rules
}

fn origin(report: &Report) -> String {
    let software = report
        .broker
        .software
        .as_deref()
        .unwrap_or("unknown software");
    let brokers = match report.broker.brokers {
        1 => "1 broker".to_string(),
        many => format!("{many} brokers"),
    };
    format!(
        "{} at {} ({brokers}), {}",
        software,
        report.broker.bootstrap,
        moment(report.client.started_unix_ms)
    )
}

/// A moment in UTC, to the second.
fn moment(unix_ms: i64) -> String {
    // Moments before 1970 or after the year 9999 come from a clock nobody set.
    let known = u64::try_from(unix_ms)
        .ok()
        .filter(|ms| *ms < 253_402_300_800_000);
    known.map_or_else(
        || "at an unknown time".to_string(),
        |ms| {
            let moment = UNIX_EPOCH + Duration::from_millis(ms);
            humantime::format_rfc3339_seconds(moment)
                .to_string()
                .replace('T', " ")
                .replace('Z', " UTC")
        },
    )
}

fn warnings(report: &Report) -> Markup {
    html! {
        @if !report.warnings.is_empty() {
            section.warnings role="note" {
                h2 { "Before these figures are quoted" }
                ul {
                    @for warning in &report.warnings {
                        li { b { (kind_words(warning.kind)) ". " } (warning.text) }
                    }
                }
            }
        }
    }
}

/// A kind of warning for people.
pub(crate) fn kind_words(kind: WarningKind) -> &'static str {
    match kind {
        WarningKind::ClientBottleneck => "The client was busy",
        WarningKind::Clock => "Clock",
        WarningKind::TooFewSamples => "Too few values",
        WarningKind::RateNotReached => "Rate not reached",
        WarningKind::Errors => "Errors",
        WarningKind::SharedCore => "Shared core",
    }
}

fn cards(report: &Report) -> Markup {
    html! {
        @if let Some(run) = headline_run(report) {
            @for series in &run.series {
                h2 {
                    (capital(&series.name))
                    @if report.runs.len() > 1 { " at " (run.label) }
                }
                (cards_of(series))
            }
        }
    }
}

fn cards_of(series: &Series) -> Markup {
    let of = &series.latency;
    let mut cards = vec![
        ("records", rate(series.records_per_s)),
        ("throughput", bytes_rate(series.bytes_per_s)),
        ("p50", latency(of.p50_us)),
        ("p99", latency(of.p99_us)),
        ("p99.9", latency(of.p99_9_us)),
        ("max", latency(of.max_us)),
    ];
    if series.errors > 0 {
        cards.push(("records failed", grouped(series.errors)));
    }
    html! {
        div.cards {
            @for (name, value) in &cards {
                div.card { b { (value) } span { (name) } }
            }
        }
    }
}

fn plots(report: &Report) -> Markup {
    html! {
        @if let Some(ladder) = charts::ladder(report) {
            h2 { "The ladder" }
            (figure(&ladder))
        }
        @if let [run] = report.runs.as_slice() {
            h2 { "Plots" }
            div.plots {
                @for chart in charts::by_percentile(report) { (figure(&chart)) }
                (figure(&charts::throughput_over_time(run)))
                (latencies_over_time(run))
            }
        } @else if !report.runs.is_empty() {
            h2 { "Latency" }
            div.plots { @for chart in charts::by_percentile(report) { (figure(&chart)) } }
            h2 { "Over time" }
            @for run in &report.runs {
                details {
                    summary { (run.label) }
                    div.plots {
                        (latencies_over_time(run))
                        (figure(&charts::throughput_over_time(run)))
                    }
                }
            }
        }
    }
}

fn latencies_over_time(run: &Run) -> Markup {
    html! {
        @for series in &run.series { (figure(&charts::latency_over_time(run, series))) }
    }
}

fn figure(chart: &Chart) -> Markup {
    html! {
        figure {
            h3 { (chart.title) }
            @match &chart.svg {
                Some(svg) => {
                    div.scroll { (PreEscaped(svg)) }
                    ul.legend {
                        @for (place, name) in chart.legend.iter().enumerate() {
                            li { i style=(swatch(place)) {} (name) }
                        }
                    }
                    figcaption { (chart.caption) }
                }
                None => p.soft { "Nothing was measured that could be drawn." }
            }
        }
    }
}

/// How a line looks in the legend.
fn swatch(place: usize) -> String {
    let colour = place % COLOURS.len();
    let style = match dash(place) {
        None => "solid",
        Some((long, _)) if long > 4 => "dashed",
        Some(_) => "dotted",
    };
    format!("border-top-color:var(--c{colour});border-top-style:{style}")
}

fn percentiles(report: &Report) -> Markup {
    let heads = [
        "run", "series", "records", "rate", "MB/s", "errors", "mean", "p50", "p90", "p99", "p99.9",
        "p99.99", "max",
    ];
    html! {
        table.figures {
            thead { tr { @for head in heads { th { (head) } } } }
            tbody {
                @for run in &report.runs {
                    @for series in &run.series {
                        tr { @for cell in row(run, series) { td { (cell) } } }
                    }
                }
            }
        }
    }
}

fn row(run: &Run, series: &Series) -> [String; 13] {
    let of = &series.latency;
    [
        run.label.clone(),
        series.name.clone(),
        grouped(series.records),
        rate(series.records_per_s),
        bytes_rate(series.bytes_per_s).replace(" MB/s", ""),
        grouped(series.errors),
        latency(of.mean_us),
        latency(of.p50_us),
        latency(of.p90_us),
        latency(of.p99_us),
        latency(of.p99_9_us),
        latency(of.p99_99_us),
        latency(of.max_us),
    ]
}

/// How it was measured, as far as a reader has to know.
fn method(report: &Report) -> String {
    let mut text = String::new();
    let open = report
        .runs
        .iter()
        .any(|run| run.rate_target_per_s.is_some());
    let closed = report
        .runs
        .iter()
        .any(|run| run.rate_target_per_s.is_none());
    if open {
        text.push_str(
            "Open loop: each record is due at a fixed moment, whether or not earlier ones were \
             answered, and its latency counts from that moment. A broker that stalls delays all \
             that became due meanwhile, and each of them counts; nothing is omitted because the \
             client was waiting. ",
        );
    }
    if closed {
        text.push_str(
            "Closed loop: a record is sent when there is room for it, so the load adapts to the \
             broker. This finds throughput; its latencies do not show what a client with a load \
             of its own would wait. ",
        );
    }
    let mut warm_ups: Vec<String> = report.runs.iter().map(|r| seconds(r.warm_up_s)).collect();
    warm_ups.dedup();
    let mut measured: Vec<String> = report.runs.iter().map(|r| seconds(r.measured_s)).collect();
    measured.dedup();
    if !report.runs.is_empty() {
        let _ = write!(
            text,
            "A warm-up of {} came first and counts nowhere; then {} were measured{}. ",
            warm_ups.join(", "),
            measured.join(", "),
            if report.runs.len() > 1 {
                " in each run"
            } else {
                ""
            }
        );
    }
    text.push_str(
        "Every latency is recorded in an HDR histogram with three digits; percentiles of the whole \
         run come from that histogram and are not averages of percentiles. MB is 10^6 bytes of \
         keys and values.",
    );
    text
}

fn settings(report: &Report) -> Markup {
    html! {
        div.box {
            h3 { "Settings" }
            table.pairs { tbody {
                @for setting in &report.settings {
                    tr { td { (setting.name) } td { (setting.value) } }
                }
            } }
        }
    }
}

fn machine(report: &Report) -> Markup {
    let client = &report.client;
    let busiest = report
        .runs
        .iter()
        .map(|run| run.client_cpu_share)
        .fold(0.0, f64::max);
    let pairs = [
        ("kernel", client.kernel.clone()),
        ("CPUs", client.cpus.to_string()),
        ("load threads", client.threads.to_string()),
        (
            "busiest thread",
            format!("{} of its core", percents(busiest)),
        ),
        ("clock source", client.clock_source.clone()),
        ("started", moment(client.started_unix_ms)),
        ("highwater", client.highwater_version.clone()),
    ];
    html! {
        div.box {
            h3 { "The client's machine" }
            table.pairs { tbody {
                @for (name, value) in &pairs { tr { td { (name) } td { (value) } } }
            } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up;
    use crate::model::Warning;
    use crate::plot::{GRID, INK, MARK};

    #[test]
    fn the_page_needs_nothing_from_outside() {
        for report in [made_up::single(), made_up::ladder()] {
            let page = page(&report);
            let links = page.replace("http://www.w3.org/2000/svg", "");
            for outside in [
                "http:", "https:", "<script", "<link", "url(", "@import", " src=",
            ] {
                assert!(!links.contains(outside), "{outside}");
            }
        }
    }

    #[test]
    fn everything_that_was_measured_is_on_it() {
        let report = made_up::single();
        let page = page(&report);
        for words in [
            "Made up: one rate",
            "50,000/s",
            "51.2 MB/s",
            "end to end",
            "12 partitions",
            "warm-up of 5 s",
            "then 60 s were measured",
            "Open loop",
            "2023-11-14 22:13:20 UTC",
        ] {
            assert!(page.contains(words), "{words}");
        }
        assert_eq!(page.matches("<svg").count(), 4);
        assert!(!page.contains("class=\"warnings\""));
        assert!(!page.contains("Closed loop"));
    }

    #[test]
    fn warnings_stand_in_front_of_the_figures() {
        let mut report = made_up::ladder();
        report.warnings.push(Warning {
            kind: WarningKind::Clock,
            text: "slow clock".to_string(),
        });
        let page = page(&report);
        let warning = page.find("slow clock").expect("the warning");
        let cards = page.find("class=\"cards\"").expect("cards");
        assert!(warning < cards);
    }

    #[test]
    fn what_comes_from_outside_is_escaped() {
        let mut report = made_up::single();
        report.title = "<script>alert(1)</script>".to_string();
        report.runs[0].label = "<b>".to_string();
        report.runs[0].series[0].name = "<i>\"&".to_string();
        for interval in &mut report.runs[0].intervals {
            interval.series = "<i>\"&".to_string();
        }
        let page = page(&report);
        assert!(!page.contains("<script>"));
        assert!(!page.contains("<b>&lt;") && !page.contains("<i>\"&"));
        assert!(page.contains("&lt;i&gt;&quot;&amp;"));
    }

    #[test]
    fn every_colour_of_a_plot_has_one_of_the_page() {
        let page = page(&made_up::single());
        for colour in COLOURS.iter().chain([&INK, &GRID, &MARK]) {
            let drawn = hexadecimal(*colour);
            assert!(page.contains(&format!("=\"{drawn}\"] {{")), "{drawn}");
        }
    }

    #[test]
    fn an_empty_report_is_still_a_page() {
        let mut report = made_up::single();
        report.runs.clear();
        report.client.started_unix_ms = -1;
        let page = page(&report);
        assert!(page.contains("Nothing was measured."));
        assert!(page.contains("at an unknown time"));
    }
}

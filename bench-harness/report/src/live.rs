//! What is going on, while it goes on, on standard error.
//!
//! Owns three ways to tell it: lines drawn again in place on a terminal, a line every few seconds
//! where nobody looks at a terminal, and nothing. It reads no clock: time comes with each sample.
//! A standard error that cannot be written to never stops a measurement.

use std::io::{self, IsTerminal, Write};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::words::{bytes_rate, grouped, latency, rate};

/// Seconds of the run between two lines where there is no terminal.
pub const LINES_EVERY_S: f64 = 5.0;
/// Samples drawn per second on a terminal, at most.
const DRAWN_PER_S: u8 = 10;

/// How it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LiveMode {
    /// Lines drawn again in place.
    Terminal,
    /// Plain lines every [`LINES_EVERY_S`].
    Lines,
    /// Nothing.
    Quiet,
}

impl LiveMode {
    /// What fits the standard error of this process, where something is to be told.
    #[must_use]
    pub fn of_stderr() -> LiveMode {
        if io::stderr().is_terminal() {
            LiveMode::Terminal
        } else {
            LiveMode::Lines
        }
    }
}

/// Whether what happens now counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LivePhase {
    WarmUp,
    Measured,
}

/// The state of a run at a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveSample {
    /// The step of a ladder, where there is one.
    pub step: Option<LiveStep>,
    pub phase: LivePhase,
    /// Seconds of this phase that are over.
    pub elapsed_s: f64,
    /// Seconds that this phase takes.
    pub total_s: f64,
    pub series: Vec<LiveSeries>,
}

/// Where in a ladder a run is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LiveStep {
    /// Counted from one.
    pub number: usize,
    /// How many there will be; None where that depends on what is found.
    pub of: Option<usize>,
    /// Records per second asked for.
    pub rate_per_s: f64,
}

/// One series over the last second, but for errors, which are all of the run.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveSeries {
    pub name: String,
    pub records_per_s: f64,
    pub bytes_per_s: f64,
    /// Microseconds, as those that follow; 0 where nothing ended.
    pub p50_us: f64,
    pub p99_us: f64,
    pub p99_9_us: f64,
    /// Records that failed since the run started.
    pub errors: u64,
    /// Records due but not yet sent.
    pub overdue: u64,
}

/// The view. Dropped without [`Live::end`], it leaves its last lines where they are.
pub struct Live(Way);

enum Way {
    Drawn {
        lines: MultiProgress,
        bars: Vec<ProgressBar>,
    },
    Written(Lines),
    Quiet,
}

/// Plain lines and when the last ones were written.
struct Lines {
    out: Box<dyn Write + Send>,
    last: Option<(Option<usize>, LivePhase, f64)>,
}

impl Live {
    /// A view of standard error.
    #[must_use]
    pub fn new(mode: LiveMode) -> Live {
        match mode {
            LiveMode::Terminal => Live::drawn_to(ProgressDrawTarget::stderr_with_hz(DRAWN_PER_S)),
            LiveMode::Lines => Live::written_to(Box::new(io::stderr())),
            LiveMode::Quiet => Live(Way::Quiet),
        }
    }

    fn drawn_to(target: ProgressDrawTarget) -> Live {
        Live(Way::Drawn {
            lines: MultiProgress::with_draw_target(target),
            bars: Vec::new(),
        })
    }

    fn written_to(out: Box<dyn Write + Send>) -> Live {
        Live(Way::Written(Lines { out, last: None }))
    }

    /// Tells a sample, where its time has come.
    pub fn update(&mut self, sample: &LiveSample) {
        match &mut self.0 {
            Way::Drawn { lines, bars } => draw(lines, bars, sample),
            Way::Written(lines) => lines.update(sample),
            Way::Quiet => {}
        }
    }

    /// Takes the drawn lines away, so that what comes next begins on a clean line.
    pub fn end(&mut self) {
        if let Way::Drawn { lines, bars } = &mut self.0 {
            bars.drain(..).for_each(|bar| bar.finish_and_clear());
            // A terminal that went away has nothing left to clear.
            let _ = lines.clear();
        }
    }
}

fn draw(lines: &MultiProgress, bars: &mut Vec<ProgressBar>, sample: &LiveSample) {
    let texts = texts(sample);
    while bars.len() < texts.len() {
        let bar = lines.add(ProgressBar::no_length());
        bar.set_style(
            ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| {
                // Only a template that is not one; the library's own style shows the text as well.
                ProgressStyle::default_spinner()
            }),
        );
        bars.push(bar);
    }
    while bars.len() > texts.len() {
        if let Some(bar) = bars.pop() {
            bar.finish_and_clear();
            lines.remove(&bar);
        }
    }
    for (bar, text) in bars.iter().zip(texts) {
        bar.set_message(text);
        bar.tick();
    }
}

impl Lines {
    fn update(&mut self, sample: &LiveSample) {
        let step = sample.step.map(|step| step.number);
        let due = match self.last {
            None => true,
            Some((last_step, last_phase, last_s)) => {
                last_step != step
                    || last_phase != sample.phase
                    || sample.elapsed_s - last_s >= LINES_EVERY_S
            }
        };
        if !due {
            return;
        }
        self.last = Some((step, sample.phase, sample.elapsed_s));
        let mut text = texts(sample).join("\n");
        text.push('\n');
        // A closed standard error must not end a measurement.
        let _ = self.out.write_all(text.as_bytes());
        let _ = self.out.flush();
    }
}

/// A line for each series.
fn texts(sample: &LiveSample) -> Vec<String> {
    let mut place = String::new();
    if let Some(step) = sample.step {
        place = match step.of {
            Some(of) => format!("step {}/{of} at {}, ", step.number, rate(step.rate_per_s)),
            None => format!("step {} at {}, ", step.number, rate(step.rate_per_s)),
        };
    }
    let phase = match sample.phase {
        LivePhase::WarmUp => "warm-up ",
        LivePhase::Measured => "",
    };
    let widest = sample.series.iter().map(|s| s.name.chars().count()).max();
    let width = widest.unwrap_or(0);
    let line = |series: &LiveSeries| {
        format!(
            "{place}{phase}{:.0}/{:.0} s  {:width$}  {:>11}  {:>9}  p50 {:>7}  p99 {:>7}  p99.9 \
             {:>7}  errors {}  overdue {}",
            sample.elapsed_s,
            sample.total_s,
            series.name,
            rate(series.records_per_s),
            bytes_rate(series.bytes_per_s),
            latency(series.p50_us),
            latency(series.p99_us),
            latency(series.p99_9_us),
            grouped(series.errors),
            grouped(series.overdue),
        )
    };
    sample.series.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use indicatif::{InMemoryTerm, TermLike};

    use super::*;

    /// What was written, seen from outside.
    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<Vec<u8>>>);

    impl Write for Seen {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("one thread").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Seen {
        fn lines(&self) -> Vec<String> {
            let bytes = self.0.lock().expect("one thread").clone();
            let text = String::from_utf8(bytes).expect("text");
            text.lines().map(ToString::to_string).collect()
        }
    }

    fn sample(elapsed_s: f64, phase: LivePhase) -> LiveSample {
        let series = |name: &str| LiveSeries {
            name: name.to_string(),
            records_per_s: 50_000.0,
            bytes_per_s: 51.2e6,
            p50_us: 812.0,
            p99_us: 3_210.0,
            p99_9_us: 12_300.0,
            errors: 3,
            overdue: 1_234,
        };
        LiveSample {
            step: None,
            phase,
            elapsed_s,
            total_s: 30.0,
            series: vec![series("produce"), series("end to end")],
        }
    }

    #[test]
    fn a_line_has_every_figure_with_its_unit() {
        let lines = texts(&sample(7.2, LivePhase::Measured));
        assert_eq!(lines.len(), 2);
        for words in [
            "7/30 s",
            "produce",
            "50,000/s",
            "51.2 MB/s",
            "p50  812 µs",
            "p99 3.21 ms",
            "p99.9 12.3 ms",
            "errors 3",
            "overdue 1,234",
        ] {
            assert!(lines[0].contains(words), "{words} in {}", lines[0]);
        }
        let column = |line: &str| line.find("50,000/s");
        assert_eq!(column(&lines[0]), column(&lines[1]), "{lines:?}");
    }

    #[test]
    fn a_ladder_tells_its_step_and_a_warm_up_that_it_is_one() {
        let mut sample = sample(1.0, LivePhase::WarmUp);
        sample.step = Some(LiveStep {
            number: 2,
            of: Some(6),
            rate_per_s: 40_000.0,
        });
        assert!(texts(&sample)[0].starts_with("step 2/6 at 40,000/s, warm-up 1/30 s"));
        sample.step = Some(LiveStep {
            number: 2,
            of: None,
            rate_per_s: 40_000.0,
        });
        assert!(texts(&sample)[0].starts_with("step 2 at 40,000/s, "));
    }

    #[test]
    fn without_a_terminal_lines_come_every_few_seconds_and_at_each_change() {
        let seen = Seen::default();
        let mut live = Live::written_to(Box::new(seen.clone()));
        for second in 0..=4_u32 {
            live.update(&sample(f64::from(second), LivePhase::WarmUp));
        }
        assert_eq!(seen.lines().len(), 2, "the first sample only");
        live.update(&sample(5.0, LivePhase::WarmUp));
        assert_eq!(seen.lines().len(), 4);
        live.update(&sample(1.0, LivePhase::Measured));
        assert_eq!(seen.lines().len(), 6, "another phase");
        let mut next = sample(2.0, LivePhase::Measured);
        next.step = Some(LiveStep {
            number: 1,
            of: None,
            rate_per_s: 1.0,
        });
        live.update(&next);
        assert_eq!(seen.lines().len(), 8, "another step");
        live.end();
        assert_eq!(seen.lines().len(), 8);
        assert!(seen.lines().iter().all(|line| !line.contains('\u{1b}')));
    }

    #[test]
    fn a_terminal_shows_the_last_sample_and_is_clean_in_the_end() {
        let terminal = InMemoryTerm::new(10, 160);
        let target = ProgressDrawTarget::term_like(Box::new(terminal.clone()));
        let mut live = Live::drawn_to(target);
        live.update(&sample(1.0, LivePhase::Measured));
        live.update(&sample(2.0, LivePhase::Measured));
        let shown = terminal.contents();
        assert_eq!(shown.lines().count(), 2, "{shown}");
        assert!(
            shown.contains("2/30 s") && !shown.contains("1/30 s"),
            "{shown}"
        );
        live.end();
        assert_eq!(terminal.contents(), "");
        assert_eq!(terminal.width(), 160);
    }

    #[test]
    fn quiet_is_quiet() {
        let mut live = Live::new(LiveMode::Quiet);
        live.update(&sample(1.0, LivePhase::Measured));
        live.end();
        assert!(matches!(live.0, Way::Quiet));
    }
}

//! One plot as an SVG that takes its colours from the page around it.
//!
//! Owns axes, lines, marks and what the pointer is told. Lines have the colours of [`COLOURS`], ink
//! and grid those of [`INK`] and [`GRID`]: the page's style sheet selects by these values and puts
//! others in their place where it is dark. It knows nothing of runs or latencies.

use std::fmt::Write;
use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Colours that stay apart in the common kinds of colour blindness.
pub(crate) const COLOURS: [RGBColor; 6] = [
    RGBColor(0x00, 0x72, 0xB2),
    RGBColor(0xD5, 0x5E, 0x00),
    RGBColor(0x00, 0x9E, 0x73),
    RGBColor(0xAA, 0x44, 0x99),
    RGBColor(0xB8, 0x86, 0x00),
    RGBColor(0x33, 0x22, 0x88),
];
/// Text and axes.
pub(crate) const INK: RGBColor = RGBColor(0x22, 0x27, 0x2E);
/// Lines behind the data.
pub(crate) const GRID: RGBColor = RGBColor(0xDD, 0xE1, 0xE6);
/// Bounds and other lines that were not measured.
pub(crate) const MARK: RGBColor = RGBColor(0x6B, 0x72, 0x80);

const WIDTH: u32 = 660;
const HEIGHT: u32 = 350;
/// The style sheet sets the size of text; this is for the room that is left for it.
const TEXT_SIZE: f64 = 18.0;

/// How values are placed along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    Linear,
    Logarithmic,
}

/// One axis: its values in their own unit, which the labels name.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    pub title: String,
    pub scale: Scale,
    pub from: f64,
    pub to: f64,
    pub ticks: Vec<f64>,
    pub label: fn(f64) -> String,
}

/// A line through points, by its place in the legend.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub place: usize,
    pub points: Vec<Point>,
}

/// A point and what the pointer over it is told.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    pub x: f64,
    pub y: f64,
    pub tip: String,
}

/// A line across the plot with words at its end.
#[derive(Clone, Debug)]
pub(crate) enum Mark {
    Across { y: f64, words: String },
    Upright { x: f64, words: String },
}

/// Everything that is drawn.
#[derive(Clone, Debug)]
pub(crate) struct Plot {
    /// For those who hear the page.
    pub description: String,
    pub x: Axis,
    pub y: Axis,
    pub lines: Vec<Line>,
    pub marks: Vec<Mark>,
}

/// Places along an axis with the ticks that were chosen for it.
struct Places {
    range: RangedCoordf64,
    ticks: Vec<f64>,
}

impl Ranged for Places {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        self.range.map(value, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() {
            return Vec::new();
        }
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.range.range()
    }
}

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Places, Places>>;
type DrawError<'a> = DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>;

impl Axis {
    /// An axis from zero, or from `from`, to above `to`, with ticks at round values.
    pub fn linear(title: &str, from: f64, to: f64, label: fn(f64) -> String) -> Axis {
        let to = if to > from { to } else { from + 1.0 };
        Axis {
            title: title.to_string(),
            scale: Scale::Linear,
            from,
            to: from + (to - from) * 1.04,
            ticks: linear_ticks(from, to),
            label,
        }
    }

    /// An axis of powers around what there is, which is above zero.
    pub fn logarithmic(title: &str, from: f64, to: f64, label: fn(f64) -> String) -> Axis {
        let (from, to) = (from / 1.3, to * 1.3);
        Axis {
            title: title.to_string(),
            scale: Scale::Logarithmic,
            from,
            to,
            ticks: logarithmic_ticks(from, to),
            label,
        }
    }

    fn place(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => value,
            Scale::Logarithmic => value.max(f64::MIN_POSITIVE).log10(),
        }
    }

    fn label_at(&self, place: f64) -> String {
        (self.label)(match self.scale {
            Scale::Linear => place,
            Scale::Logarithmic => 10_f64.powf(place),
        })
    }

    fn places(&self) -> Places {
        Places {
            range: (self.place(self.from)..self.place(self.to)).into(),
            ticks: self.ticks.iter().map(|tick| self.place(*tick)).collect(),
        }
    }
}

/// Round values, about six of them.
fn linear_ticks(from: f64, to: f64) -> Vec<f64> {
    let rough = (to - from) / 6.0;
    let power = 10_f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    let step = steps
        .into_iter()
        .find(|step| *step >= rough)
        .unwrap_or(rough);
    let mut ticks = Vec::new();
    let mut tick = (from / step).ceil() * step;
    while tick <= to + step * 1e-6 && ticks.len() < 20 {
        ticks.push(tick);
        tick += step;
    }
    ticks
}

/// Powers of ten, with 2 and 5 times those where there are few.
fn logarithmic_ticks(from: f64, to: f64) -> Vec<f64> {
    let decades = (to / from).log10();
    let factors: &[f64] = if decades > 3.5 {
        &[1.0]
    } else {
        &[1.0, 2.0, 5.0]
    };
    let mut ticks = Vec::new();
    let mut power = 10_f64.powf(from.log10().floor());
    while power <= to && ticks.len() < 40 {
        let here = factors.iter().map(|factor| factor * power);
        ticks.extend(here.filter(|tick| (from..=to).contains(tick)));
        power *= 10.0;
    }
    ticks
}

impl Plot {
    /// The SVG element, or none where there is nothing to draw.
    pub fn svg(&self) -> Option<String> {
        if self.lines.iter().all(|line| line.points.is_empty()) {
            return None;
        }
        let mut text = String::new();
        // Drawing into a string cannot fail; a plot that did would be left out of the page.
        let tips = self.draw(&mut text).ok()?;
        let drawn = text.split_once('>').map(|(_, rest)| rest)?;
        let drawn = drawn.trim_end().strip_suffix("</svg>")?;
        Some(format!(
            "<svg class=\"plot\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\
             {drawn}{tips}</svg>",
            escaped(&self.description)
        ))
    }

    fn draw<'a>(&self, text: &'a mut String) -> Result<String, DrawError<'a>> {
        let root = SVGBackend::with_string(text, (WIDTH, HEIGHT)).into_drawing_area();
        let mut chart = self.frame(&root)?;
        for mark in &self.marks {
            self.draw_mark(&mut chart, mark)?;
        }
        for line in &self.lines {
            self.draw_line(&mut chart, line)?;
        }
        let tips = self.tips(&chart);
        root.present()?;
        Ok(tips)
    }

    fn frame<'a, 'b>(
        &self,
        root: &'a DrawingArea<SVGBackend<'b>, Shift>,
    ) -> Result<Chart<'a, 'b>, DrawError<'b>> {
        let mut chart = ChartBuilder::on(root)
            .margin(8)
            .margin_right(20)
            .x_label_area_size(56)
            .y_label_area_size(92)
            .build_cartesian_2d(self.x.places(), self.y.places())?;
        let font = ("sans-serif", TEXT_SIZE).into_font().color(&INK);
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(MARK)
            .label_style(font.clone())
            .axis_desc_style(font)
            .x_desc(&self.x.title)
            .y_desc(&self.y.title)
            .x_labels(self.x.ticks.len())
            .y_labels(self.y.ticks.len())
            .x_label_formatter(&|place| self.x.label_at(*place))
            .y_label_formatter(&|place| self.y.label_at(*place))
            .draw()?;
        Ok(chart)
    }

    fn draw_line<'b>(&self, chart: &mut Chart<'_, 'b>, line: &Line) -> Result<(), DrawError<'b>> {
        // The first is a little wider, so that it is seen below another that runs along it.
        let width = if line.place == 0 { 4 } else { 2 };
        let style = COLOURS[line.place % COLOURS.len()].stroke_width(width);
        let points: Vec<(f64, f64)> = line.points.iter().map(|point| self.placed(point)).collect();
        if let [only] = points.as_slice() {
            chart.draw_series([Circle::new(*only, 3, style.filled())])?;
        }
        match dash(line.place) {
            None => chart.draw_series(LineSeries::new(points, style))?,
            Some((long, gap)) => {
                chart.draw_series(DashedLineSeries::new(points, long, gap, style))?
            }
        };
        Ok(())
    }

    fn draw_mark<'b>(&self, chart: &mut Chart<'_, 'b>, mark: &Mark) -> Result<(), DrawError<'b>> {
        let (x, y) = (&self.x, &self.y);
        let (ends, words, at, pos) = match mark {
            Mark::Across { y: value, words } => {
                let value = y.place(*value);
                let ends = [(x.place(x.from), value), (x.place(x.to), value)];
                (ends, words, ends[0], Pos::new(HPos::Left, VPos::Bottom))
            }
            Mark::Upright { x: value, words } => {
                let pos = if *value > x.from + (x.to - x.from) / 2.0 {
                    HPos::Right
                } else {
                    HPos::Left
                };
                let value = x.place(*value);
                let ends = [(value, y.place(y.from)), (value, y.place(y.to))];
                (ends, words, ends[1], Pos::new(pos, VPos::Top))
            }
        };
        chart.draw_series(DashedLineSeries::new(ends, 6, 4, MARK.stroke_width(1)))?;
        let font = ("sans-serif", TEXT_SIZE).into_font().color(&MARK).pos(pos);
        let words = format!(" {words} ");
        chart.draw_series([Text::new(words, at, font)])?;
        Ok(())
    }

    fn placed(&self, point: &Point) -> (f64, f64) {
        (self.x.place(point.x), self.y.place(point.y))
    }

    /// Unseen circles over the points, so that a pointer near them is told what is there.
    fn tips(&self, chart: &Chart<'_, '_>) -> String {
        let area = chart.plotting_area();
        let mut text = String::from("<g class=\"tips\">");
        for point in self.lines.iter().flat_map(|line| &line.points) {
            let (x, y) = area.map_coordinate(&self.placed(point));
            let tip = escaped(&point.tip);
            let _ = write!(
                text,
                "<circle cx=\"{x}\" cy=\"{y}\" r=\"6\"><title>{tip}</title></circle>"
            );
        }
        text.push_str("</g>");
        text
    }
}

/// Pixels of dash and gap; lines beyond the colours that there are differ by these.
pub(crate) fn dash(place: usize) -> Option<(u32, u32)> {
    [None, Some((8, 4)), Some((2, 3))][(place / COLOURS.len()) % 3]
}

/// A colour as the SVG has it.
pub(crate) fn hexadecimal(colour: RGBColor) -> String {
    format!("#{:02X}{:02X}{:02X}", colour.0, colour.1, colour.2)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(points: Vec<Point>) -> Plot {
        Plot {
            description: "a <b> & \"c\"".to_string(),
            x: Axis::linear("time (s)", 0.0, 10.0, |s| format!("{s}")),
            y: Axis::logarithmic("latency", 100.0, 10_000.0, |us| format!("{us:.0} µs")),
            lines: vec![Line { place: 0, points }],
            marks: vec![Mark::Across {
                y: 5_000.0,
                words: "bound".to_string(),
            }],
        }
    }

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(
            linear_ticks(0.0, 60.0),
            [0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0]
        );
        assert_eq!(linear_ticks(0.0, 0.7).len(), 4);
        let ticks = logarithmic_ticks(150.0, 2_500.0);
        let rounded: Vec<f64> = ticks.iter().map(|tick| tick.round()).collect();
        assert_eq!(rounded, [200.0, 500.0, 1_000.0, 2_000.0]);
        assert!(logarithmic_ticks(1.0, 1e9).len() <= 10);
    }

    #[test]
    fn a_plot_is_one_element_with_its_words() {
        let at = |x: f64, y: f64| Point {
            x,
            y,
            tip: format!("<{x}>"),
        };
        let svg = plot(vec![at(0.0, 100.0), at(5.0, 9_000.0)])
            .svg()
            .expect("an image");
        assert!(svg.starts_with("<svg class=\"plot\" viewBox="), "{svg}");
        assert_eq!(svg.matches("<svg").count(), 1);
        assert_eq!(svg.matches("</svg>").count(), 1);
        assert!(
            svg.contains("aria-label=\"a &lt;b&gt; &amp; &quot;c&quot;\""),
            "{svg}"
        );
        assert!(svg.contains("<title>&lt;5&gt;</title>"), "{svg}");
        for words in ["time (s)", "latency", "bound", "1000 µs"] {
            assert!(svg.contains(words), "{words} in {svg}");
        }
        assert!(svg.contains(&hexadecimal(COLOURS[0])), "{svg}");
    }

    #[test]
    fn higher_values_are_drawn_higher() {
        let at = |x: f64, y: f64| Point {
            x,
            y,
            tip: String::new(),
        };
        let svg = plot(vec![at(1.0, 200.0), at(9.0, 8_000.0)])
            .svg()
            .expect("an image");
        let heights: Vec<i32> = svg
            .split(" cy=\"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next()?.parse().ok())
            .collect();
        assert_eq!(heights.len(), 2);
        assert!(heights[0] > heights[1], "{heights:?}");
    }

    #[test]
    fn nothing_is_no_plot() {
        assert_eq!(plot(Vec::new()).svg(), None);
    }

    #[test]
    fn lines_beyond_the_colours_are_dashed() {
        assert_eq!(dash(0), None);
        assert!(dash(6).is_some());
        assert_ne!(dash(6), dash(12));
    }
}

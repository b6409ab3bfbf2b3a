//! Charts as SVG: lines over an axis of steps, and weight curves over a histogram.

use super::{WeightCurves, escape};
use std::fmt::Write;

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 270.0;
const LEFT: f64 = 50.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 40.0;
/// Points of a drawn line; longer series are averaged in groups.
const DRAWN_POINTS: usize = 240;
/// Points of the bold line through a noisy series; shorter series are drawn as they are.
const SMOOTH_POINTS: usize = 40;
/// Share of the plot's height that the tallest bar of a histogram takes.
const HISTOGRAM_HEIGHT: f64 = 0.92;

/// A named line. `style` is a CSS class that gives colour and dashes.
pub struct Series {
    pub name: &'static str,
    pub style: &'static str,
    pub points: Vec<(f64, f64)>,
}

/// Lines that share their axes.
pub struct LineChart {
    pub title: &'static str,
    pub x_label: &'static str,
    pub percent: bool,
    pub markers: bool,
    pub series: Vec<Series>,
}

/// Linear map of values to the plot's pixels.
struct Axes {
    x: (f64, f64),
    y: (f64, f64),
}

impl Axes {
    fn x(&self, value: f64) -> f64 {
        LEFT + (value - self.x.0) / (self.x.1 - self.x.0) * (WIDTH - LEFT - RIGHT)
    }
    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - (value - self.y.0) / (self.y.1 - self.y.0) * (HEIGHT - TOP - BOTTOM)
    }
}

impl LineChart {
    /// The chart with its legend, or nothing when there is no point to draw.
    pub fn render(mut self) -> String {
        for series in &mut self.series {
            series.points.retain(|(x, y)| x.is_finite() && y.is_finite());
            series.points = averaged(&series.points, DRAWN_POINTS);
        }
        self.series.retain(|series| !series.points.is_empty());
        let points = || self.series.iter().flat_map(|series| &series.points);
        let Some(last_step) = points().map(|point| point.0).reduce(f64::max) else { return String::new() };
        let first_step = points().map(|point| point.0).fold(last_step, f64::min);
        let largest = points().map(|point| point.1).fold(0.0, f64::max);
        let smallest = points().map(|point| point.1).fold(0.0, f64::min);
        let y_ticks = ticks(smallest, if largest > smallest { largest } else { smallest + 1.0 });
        let x_end = if last_step > first_step { last_step } else { first_step + 1.0 };
        let axes = Axes { x: (first_step, x_end), y: (y_ticks[0], y_ticks[y_ticks.len() - 1]) };
        let mut svg = open(self.title, &self.summary());
        let format = |value: f64, step: f64| if self.percent { percent(value) } else { number(value, step) };
        draw_axes(&mut svg, &axes, &y_ticks, format, self.x_label);
        for series in &self.series {
            if series.points.len() > 2 * SMOOTH_POINTS {
                draw_line(&mut svg, &axes, &format!("noise {}", series.style), &series.points);
            }
            draw_line(&mut svg, &axes, series.style, &smoothed(&series.points));
            if self.markers {
                draw_markers(&mut svg, &axes, series);
            }
        }
        svg.push_str("</svg>");
        figure(self.title, &svg, &self.series.iter().map(|series| (series.name, series.style)).collect::<Vec<_>>(), "")
    }

    /// The chart in words, for those who do not see it.
    fn summary(&self) -> String {
        let mut summary = String::new();
        for series in &self.series {
            let (first, last) = (series.points[0], series.points[series.points.len() - 1]);
            let _ = write!(
                summary,
                "{}: {} at step {}, {} at step {}. ",
                series.name,
                number(first.1, 0.01),
                first.0,
                number(last.1, 0.01),
                last.0
            );
        }
        summary
    }
}

/// The weights of positive and negative pairs over the distribution of their similarities.
pub fn weight_chart(curves: &WeightCurves) -> String {
    let finite = |points: &[(f64, f64)]| points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).collect::<Vec<_>>();
    let (positive, negative) = (finite(&curves.positive), finite(&curves.negative));
    let largest = positive.iter().chain(&negative).map(|point| point.1).fold(0.0, f64::max);
    let top = if largest > 0.0 { largest * 1.15 } else { 1.0 };
    let y_ticks = ticks_within(0.0, top);
    let axes = Axes { x: (-1.0, 1.0), y: (0.0, top) };
    let title = "Pair weight by similarity";
    let mut svg = open(title, &format!("Weights of the {} weighting for similarities from -1 to 1.", curves.name));
    let mut legend = Vec::new();
    if let Some(histogram) = &curves.histogram {
        let tallest = histogram.positive.iter().chain(&histogram.negative).copied().fold(0.0, f64::max);
        draw_histogram(&mut svg, &axes, "area negative", &histogram.negative, tallest);
        draw_histogram(&mut svg, &axes, "area positive", &histogram.positive, tallest);
        legend.extend([("positive pairs (share)", "area positive"), ("negative pairs (share)", "area negative")]);
    }
    draw_axes(&mut svg, &axes, &y_ticks, number, "similarity");
    draw_line(&mut svg, &axes, "positive", &positive);
    draw_line(&mut svg, &axes, "negative dashed", &negative);
    svg.push_str("</svg>");
    legend.splice(0..0, [("weight of a positive pair", "positive"), ("weight of a negative pair", "negative dashed")]);
    let note =
        "Filled: how the similarities of random pairs of unseen images are distributed after training, drawn to a common scale.";
    let row = curves.row.as_ref().map(|row| format!("Weights depend on the row; drawn for one of {row}. "));
    let note = row.unwrap_or_default() + if curves.histogram.is_some() { note } else { "" };
    figure(title, &svg, &legend, &note)
}

fn open(title: &str, description: &str) -> String {
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\"><title>{}</title><desc>{}</desc>",
        escape(title),
        escape(description)
    )
}

fn figure(title: &str, svg: &str, legend: &[(&str, &str)], note: &str) -> String {
    let mut html = format!("<figure class=\"card\"><figcaption>{}</figcaption>{svg}<ul class=\"legend\">", escape(title));
    for (name, style) in legend {
        let shape = if style.starts_with("area") {
            format!("<rect class=\"{style}\" x=\"1\" y=\"1\" width=\"24\" height=\"10\"/>")
        } else {
            format!("<path class=\"line {style}\" d=\"M1 6H25\"/>")
        };
        let _ = write!(html, "<li><svg viewBox=\"0 0 26 12\" aria-hidden=\"true\">{shape}</svg>{}</li>", escape(name));
    }
    html.push_str("</ul>");
    if !note.is_empty() {
        let _ = write!(html, "<p class=\"small\">{}</p>", escape(note));
    }
    html + "</figure>"
}

fn draw_axes(svg: &mut String, axes: &Axes, y_ticks: &[f64], format: impl Fn(f64, f64) -> String, x_label: &str) {
    let step = y_ticks[1] - y_ticks[0];
    for &tick in y_ticks {
        let y = axes.y(tick);
        let _ = write!(svg, "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{:.1}\"/>", WIDTH - RIGHT);
        let _ = write!(svg, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>", LEFT - 7.0, y + 4.0, format(tick, step));
    }
    let x_ticks = ticks_within(axes.x.0, axes.x.1);
    for &tick in &x_ticks {
        let text = number(tick, x_ticks.get(1).map_or(1.0, |second| second - x_ticks[0]));
        let _ =
            write!(svg, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{text}</text>", axes.x(tick), HEIGHT - BOTTOM + 18.0);
    }
    let middle = (LEFT + WIDTH - RIGHT) / 2.0;
    let _ =
        write!(svg, "<text class=\"axis\" x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>", HEIGHT - 5.0, escape(x_label));
}

fn draw_line(svg: &mut String, axes: &Axes, style: &str, points: &[(f64, f64)]) {
    let _ = write!(svg, "<path class=\"line {style}\" d=\"");
    for (index, &(x, y)) in points.iter().enumerate() {
        let _ = write!(svg, "{}{:.1} {:.1}", if index == 0 { 'M' } else { 'L' }, axes.x(x), axes.y(y));
    }
    svg.push_str("\"/>");
}

/// A dot on every point, and the value beside the last.
fn draw_markers(svg: &mut String, axes: &Axes, series: &Series) {
    for &(x, y) in &series.points {
        let (style, value) = (series.style, percent(y));
        let _ = write!(svg, "<circle class=\"dot {style}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\">", axes.x(x), axes.y(y));
        let _ = write!(svg, "<title>step {x}: {value}</title></circle>");
    }
    if let Some(&(x, y)) = series.points.last() {
        let below = if axes.y(y) < TOP + 20.0 { 20.0 } else { -10.0 };
        let (x, y, text) = (axes.x(x) - 2.0, axes.y(y) + below, percent(y));
        let _ = write!(svg, "<text class=\"value\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"end\">{text}</text>");
    }
}

fn draw_histogram(svg: &mut String, axes: &Axes, style: &str, bins: &[f64], tallest: f64) {
    if tallest <= 0.0 {
        return;
    }
    let bin_width = 2.0 / bins.len() as f64;
    let _ = write!(svg, "<path class=\"{style}\" d=\"M{:.1} {:.1}", axes.x(-1.0), axes.y(0.0));
    for (bin, share) in bins.iter().enumerate() {
        let (left, right) = (-1.0 + bin as f64 * bin_width, -1.0 + (bin + 1) as f64 * bin_width);
        let height = axes.y(share / tallest * axes.y.1 * HISTOGRAM_HEIGHT);
        let _ = write!(svg, "L{:.1} {height:.1}L{:.1} {height:.1}", axes.x(left), axes.x(right));
    }
    let _ = write!(svg, "L{:.1} {:.1}Z\"/>", axes.x(1.0), axes.y(0.0));
}

/// The means of groups of consecutive points, so that at most `len` remain.
fn averaged(points: &[(f64, f64)], len: usize) -> Vec<(f64, f64)> {
    points.chunks(points.len().div_ceil(len).max(1)).map(mean).collect()
}

/// A line through noisy points that begins and ends where they do.
fn smoothed(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= 2 * SMOOTH_POINTS {
        return points.to_vec();
    }
    let group = points.len().div_ceil(SMOOTH_POINTS);
    let mut line = averaged(points, SMOOTH_POINTS);
    line.insert(0, (points[0].0, mean(&points[..group / 2]).1));
    line.push((points[points.len() - 1].0, mean(&points[points.len() - group / 2..]).1));
    line
}

fn mean(points: &[(f64, f64)]) -> (f64, f64) {
    let sum = points.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
    (sum.0 / points.len() as f64, sum.1 / points.len() as f64)
}

/// Distance between ticks: 1, 2 or 5 times a power of ten, about five of them.
pub(super) fn tick_distance(range: f64) -> f64 {
    let rough = range / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= rough * 0.999).unwrap_or(10.0);
    factor * power
}

/// Ticks whose first and last enclose the range.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let distance = tick_distance(high - low);
    let (first, last) = ((low / distance + 1e-9).floor() as i64, (high / distance - 1e-9).ceil() as i64);
    (first..=last.max(first + 1)).map(|index| index as f64 * distance).collect()
}

/// Ticks inside the range.
fn ticks_within(low: f64, high: f64) -> Vec<f64> {
    let distance = tick_distance(high - low);
    let (first, last) = ((low / distance - 1e-9).ceil() as i64, (high / distance + 1e-9).floor() as i64);
    (first..=last).map(|index| index as f64 * distance).collect()
}

/// A number with the decimals that a distance between ticks needs.
pub(super) fn number(value: f64, step: f64) -> String {
    let value = if value == 0.0 { 0.0 } else { value };
    if value.abs() >= 10_000.0 {
        return format!("{}k", number(value / 1000.0, (step / 1000.0).max(0.1)));
    }
    let decimals = (-step.abs().max(1e-9).log10() - 1e-9).ceil().clamp(0.0, 6.0) as usize;
    let sign = if value < 0.0 { "\u{2212}" } else { "" };
    format!("{sign}{:.decimals$}", value.abs())
}

/// A share as a percentage.
pub fn percent(share: f64) -> String {
    let value = share * 100.0;
    if (value - value.round()).abs() < 0.05 { format!("{value:.0}%") } else { format!("{value:.1}%") }
}

//! Lines over steps.

use super::card::{Card, TOP, axes, line, plot};
use super::plot::{Plot, Point};
use super::ticks::{labelled, number, percent, tick_distance, ticks_around};
use maud::{Markup, html};
use std::fmt::Write;

/// Points of a drawn line; longer series are averaged in groups.
const DRAWN_POINTS: usize = 240;
/// Points of the bold line through a noisy series; shorter series are drawn as they are.
const SMOOTH_POINTS: usize = 40;

/// A named line. `style` is a CSS class that gives colour and dashes.
pub struct Series {
    pub name: &'static str,
    pub style: &'static str,
    pub points: Vec<Point>,
}

/// Lines that share their axes.
pub struct LineChart {
    pub title: &'static str,
    pub x_label: &'static str,
    pub percent: bool,
    pub markers: bool,
    pub series: Vec<Series>,
}

impl LineChart {
    /// The chart with its legend, or nothing when there is no point to draw.
    pub fn render(mut self) -> Option<Markup> {
        for series in &mut self.series {
            series.points.retain(|(x, y)| x.is_finite() && y.is_finite());
            series.points = averaged(&series.points, DRAWN_POINTS);
        }
        self.series.retain(|series| !series.points.is_empty());
        let points = || self.series.iter().flat_map(|series| &series.points);
        let last_step = points().map(|point| point.0).reduce(f64::max)?;
        let first_step = points().map(|point| point.0).fold(last_step, f64::min);
        let x_end = if last_step > first_step { last_step } else { first_step + 1.0 };
        let largest = points().map(|point| point.1).fold(0.0, f64::max);
        let smallest = points().map(|point| point.1).fold(0.0, f64::min);
        let largest = if largest > smallest { largest } else { smallest + 1.0 };
        let y_ticks = ticks_around(smallest, largest, tick_distance(largest - smallest));
        let plot = plot((first_step, x_end), (y_ticks[0], y_ticks[y_ticks.len() - 1]));
        let y_labels = labelled(&y_ticks).map(|(tick, text)| (tick, if self.percent { percent(tick) } else { text }));
        let picture = html! {
            (axes(&plot, y_labels, self.x_label))
            @for series in &self.series {
                @if series.points.len() > 2 * SMOOTH_POINTS {
                    (line(&format!("noise {}", series.style), &plot.path(&series.points)))
                }
                (line(series.style, &plot.path(&smoothed(&series.points))))
                @if self.markers { (markers(&plot, series)) }
            }
        };
        let legend: Vec<_> = self.series.iter().map(|series| (series.name, series.style)).collect();
        Some(Card { title: self.title, description: &self.summary(), picture, legend: &legend, note: "" }.render())
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

/// A dot on every point, and the value beside the last.
fn markers(plot: &Plot, series: &Series) -> Markup {
    html! {
        @for &(x, y) in &series.points {
            @let (across, down) = (plot.x.at(x), plot.y.at(y));
            circle class={ "dot " (series.style) } cx=(format_args!("{across:.1}")) cy=(format_args!("{down:.1}")) r="3.5" {
                title { "step " (x) ": " (percent(y)) }
            }
        }
        @if let Some(&(x, y)) = series.points.last() {
            @let below = if plot.y.at(y) < TOP + 20.0 { 20.0 } else { -10.0 };
            @let (across, down) = (plot.x.at(x) - 2.0, plot.y.at(y) + below);
            text class="value" x=(format_args!("{across:.1}")) y=(format_args!("{down:.1}")) text-anchor="end" { (percent(y)) }
        }
    }
}

/// The means of groups of consecutive points, so that at most `len` remain.
fn averaged(points: &[Point], len: usize) -> Vec<Point> {
    points.chunks(points.len().div_ceil(len).max(1)).map(mean).collect()
}

/// A line through noisy points that begins and ends where they do.
fn smoothed(points: &[Point]) -> Vec<Point> {
    if points.len() <= 2 * SMOOTH_POINTS {
        return points.to_vec();
    }
    let group = points.len().div_ceil(SMOOTH_POINTS);
    let mut line = averaged(points, SMOOTH_POINTS);
    line.insert(0, (points[0].0, mean(&points[..group / 2]).1));
    line.push((points[points.len() - 1].0, mean(&points[points.len() - group / 2..]).1));
    line
}

fn mean(points: &[Point]) -> Point {
    let sum = points.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
    (sum.0 / points.len() as f64, sum.1 / points.len() as f64)
}

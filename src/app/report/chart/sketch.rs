//! Small drawings for a table: weight curves, and the scores of single seeds on a common axis.

use super::card::line;
use super::plot::{Plot, Point, Scale};
use maud::{Markup, html};

const WIDTH: f64 = 120.0;
const HEIGHT: f64 = 40.0;
const PAD: f64 = 4.0;

/// Positive (full line) and negative (dashed) weight over similarities from -1 to 1, scaled to the larger of both.
pub fn curves_sketch(positive: &[Point], negative: &[Point]) -> Markup {
    let weights = positive.iter().chain(negative).map(|point| point.1).filter(|weight| weight.is_finite());
    let largest = weights.fold(1e-9, f64::max);
    let plot = plot((-1.0, 1.0), (0.0, largest));
    let drawn = |points: &[Point]| points.iter().map(|&(s, weight)| (s, weight.clamp(0.0, largest))).collect::<Vec<_>>();
    let ((left, right), (bottom, top)) = (plot.x.pixels, plot.y.pixels);
    let grid = format!("M{left} {bottom}H{right}M{} {top}V{bottom}", plot.x.at(0.0));
    sketch(
        "weights of positive and negative pairs by similarity",
        &html! {
            path class="grid" d=(grid) {}
            (line("positive", &plot.path(&drawn(positive))))
            (line("negative dashed", &plot.path(&drawn(negative))))
        },
    )
}

/// A dot for each score and a bar at their mean, on an axis from `low` to `high`.
pub fn scores_sketch(scores: &[f64], low: f64, high: f64) -> Markup {
    let Plot { x, y } = plot((low, high.max(low + 1e-9)), (0.0, 1.0));
    let (left, right) = x.pixels;
    let middle = y.at(0.5);
    let mean = scores.iter().sum::<f64>() / scores.len() as f64;
    sketch(
        "the score of each seed, and their mean",
        &html! {
            path class="grid" d=(format_args!("M{left} {middle}H{right}")) {}
            @for &score in scores {
                circle class="dot batch" cx=(format_args!("{:.1}", x.at(score))) cy=(middle) r="3.5" {}
            }
            @if !scores.is_empty() {
                (line("positive", &format!("M{:.1} {:.1}V{:.1}", x.at(mean), 0.2 * HEIGHT, 0.8 * HEIGHT)))
            }
        },
    )
}

fn plot(x: (f64, f64), y: (f64, f64)) -> Plot {
    Plot { x: Scale { values: x, pixels: (PAD, WIDTH - PAD) }, y: Scale { values: y, pixels: (HEIGHT - PAD, PAD) } }
}

fn sketch(title: &str, picture: &Markup) -> Markup {
    html! {
        svg class="sketch" viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" {
            title { (title) }
            (picture)
        }
    }
}

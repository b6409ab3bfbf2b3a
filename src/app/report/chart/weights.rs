//! Weight curves over the distribution of similarity.

use super::card::{Card, axes, line, plot};
use super::plot::Point;
use super::ticks::{labelled, ticks_within};
use crate::app::report::WeightCurves;
use maud::{Markup, html};

/// Room above the largest weight, as a share of it.
const HEADROOM: f64 = 0.15;

/// The weights of positive and negative pairs over the distribution of their similarities.
pub fn weight_chart(curves: &WeightCurves) -> Markup {
    let finite = |points: &[Point]| points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).collect::<Vec<_>>();
    let (positive, negative) = (finite(&curves.positive), finite(&curves.negative));
    let largest = positive.iter().chain(&negative).map(|point| point.1).fold(0.0, f64::max);
    let top = if largest > 0.0 { largest * (1.0 + HEADROOM) } else { 1.0 };
    let plot = plot((-1.0, 1.0), (0.0, top));
    let mut legend = vec![("weight of a positive pair", "positive"), ("weight of a negative pair", "negative dashed")];
    if curves.histogram.is_some() {
        legend.extend([("positive pairs (share)", "area positive"), ("negative pairs (share)", "area negative")]);
    }
    let picture = html! {
        @if let Some(histogram) = &curves.histogram {
            @let tallest = histogram.positive.iter().chain(&histogram.negative).copied().fold(0.0, f64::max);
            @if tallest > 0.0 {
                path class="area negative" d=(plot.histogram(&histogram.negative, tallest)) {}
                path class="area positive" d=(plot.histogram(&histogram.positive, tallest)) {}
            }
        }
        (axes(&plot, labelled(&ticks_within(0.0, top)), "similarity"))
        (line("positive", &plot.path(&positive)))
        (line("negative dashed", &plot.path(&negative)))
    };
    let filled =
        "Filled: how the similarities of random pairs of unseen images are distributed after training, drawn to a common scale.";
    let row = curves.row.as_ref().map(|row| format!("Weights depend on the row; drawn for one of {row}. "));
    let note = row.unwrap_or_default() + if curves.histogram.is_some() { filled } else { "" };
    let description = format!("Weights of the {} weighting for similarities from -1 to 1.", curves.name);
    Card { title: "Pair weight by similarity", description: &description, picture, legend: &legend, note: &note }.render()
}

//! Small drawings for a table: weight curves, and the scores of single seeds on a common axis.

use crate::loss::{PairWeighting, ReferenceRow};
use std::fmt::Write;

const WIDTH: f64 = 120.0;
const HEIGHT: f64 = 40.0;
const PAD: f64 = 4.0;
const POINTS: usize = 81;

/// Positive (full line) and negative (dashed) weight over similarities from -1 to 1, scaled to the larger of both.
pub fn curves(weighting: &PairWeighting) -> String {
    let similarity = |point: usize| 2.0 * point as f32 / (POINTS - 1) as f32 - 1.0;
    let sampled = |weight: &dyn Fn(f32) -> f32| (0..POINTS).map(|point| f64::from(weight(similarity(point)))).collect::<Vec<_>>();
    let row = ReferenceRow::default();
    let positive = sampled(&|s| row.weight(weighting, true, s));
    let negative = sampled(&|s| row.weight(weighting, false, s));
    let largest = positive.iter().chain(&negative).copied().filter(|weight| weight.is_finite()).fold(1e-9, f64::max);
    let mut svg = open("weights of positive and negative pairs by similarity");
    let (left, right, bottom) = (PAD, WIDTH - PAD, HEIGHT - PAD);
    let middle = 0.5 * WIDTH;
    let _ = write!(svg, "<path class=\"grid\" d=\"M{left} {bottom}H{right}M{middle} {PAD}V{bottom}\"/>");
    for (style, weights) in [("positive", positive), ("negative dashed", negative)] {
        let _ = write!(svg, "<path class=\"line {style}\" d=\"");
        for (point, weight) in weights.iter().enumerate() {
            let x = left + point as f64 / (POINTS - 1) as f64 * (right - left);
            let y = bottom - (weight / largest).clamp(0.0, 1.0) * (bottom - PAD);
            let _ = write!(svg, "{}{x:.1} {y:.1}", if point == 0 { 'M' } else { 'L' });
        }
        svg.push_str("\"/>");
    }
    svg + "</svg>"
}

/// A dot for each score and a bar at their mean, on an axis from `low` to `high`.
pub fn dots(scores: &[f64], low: f64, high: f64) -> String {
    let x = |score: f64| PAD + (score - low) / (high - low).max(1e-9) * (WIDTH - 2.0 * PAD);
    let mut svg = open("the score of each seed, and their mean");
    let _ = write!(svg, "<path class=\"grid\" d=\"M{PAD} {0}H{1}\"/>", 0.5 * HEIGHT, WIDTH - PAD);
    for &score in scores {
        let _ = write!(svg, "<circle class=\"dot batch\" cx=\"{:.1}\" cy=\"{}\" r=\"3.5\"/>", x(score), 0.5 * HEIGHT);
    }
    if !scores.is_empty() {
        let mean = x(scores.iter().sum::<f64>() / scores.len() as f64);
        let _ = write!(svg, "<path class=\"line positive\" d=\"M{mean:.1} {:.1}V{:.1}\"/>", 0.2 * HEIGHT, 0.8 * HEIGHT);
    }
    svg + "</svg>"
}

fn open(title: &str) -> String {
    format!("<svg class=\"sketch\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\"><title>{title}</title>")
}

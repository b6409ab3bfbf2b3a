//! From values to pixels, and to the data of SVG paths.

use std::fmt::Write;

/// A point of a series in its own units, or of a picture in pixels.
pub type Point = (f64, f64);

/// Height of the tallest bar of a histogram, as a share of the plot's.
const HISTOGRAM_HEIGHT: f64 = 0.92;

/// Linear map of values to pixels.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// The least and the largest value.
    pub values: (f64, f64),
    /// Where they are drawn.
    pub pixels: (f64, f64),
}

impl Scale {
    /// Where a value is drawn.
    pub fn at(&self, value: f64) -> f64 {
        let ((low, high), (from, to)) = (self.values, self.pixels);
        from + (value - low) / (high - low) * (to - from)
    }
}

/// Two scales; the pixels of `y` go from the bottom to the top.
#[derive(Clone, Copy, Debug)]
pub struct Plot {
    pub x: Scale,
    pub y: Scale,
}

impl Plot {
    /// The path through points.
    pub fn path(&self, points: &[Point]) -> String {
        path(points.iter().map(|&(x, y)| (self.x.at(x), self.y.at(y))))
    }

    /// The outline of a histogram whose bins share the width of the plot; a bin of `tallest` reaches up to [`HISTOGRAM_HEIGHT`].
    pub fn histogram(&self, bins: &[f64], tallest: f64) -> String {
        let ((left, right), (bottom, top)) = (self.x.pixels, self.y.pixels);
        let edge = |index: usize| left + index as f64 / bins.len() as f64 * (right - left);
        let tops = bins.iter().enumerate().flat_map(|(bin, share)| {
            let y = bottom + share / tallest * HISTOGRAM_HEIGHT * (top - bottom);
            [(edge(bin), y), (edge(bin + 1), y)]
        });
        path([(left, bottom)].into_iter().chain(tops).chain([(right, bottom)])) + "Z"
    }
}

/// The path through points in pixels.
pub fn path(points: impl IntoIterator<Item = Point>) -> String {
    let mut path = String::new();
    for (index, (x, y)) in points.into_iter().enumerate() {
        let _ = write!(path, "{}{x:.1} {y:.1}", if index == 0 { 'M' } else { 'L' });
    }
    path
}

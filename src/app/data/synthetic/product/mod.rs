//! The products: sixteen families, each a handful of parts whose proportions, colours and presence are drawn from the class's stream.

mod carried;
mod household;

use carried::{backpack, guitar, handbag, hat, headphones, shirt, shoe, umbrella, watch};
use household::{bottle, chair, lamp, mug, parcel, teapot, vase};

use super::paint::{Colour, PALETTE, Paint, Pattern, contrasting};
use super::shape::{Point, Shape};
use crate::rng::Rng;

/// A painted outline; later parts cover earlier ones.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) shape: Shape,
    pub(super) paint: Paint,
}

/// Classes take families in turn, so that any range of classes holds all of them.
const FAMILIES: [fn(&mut Maker); 16] =
    [bottle, mug, shirt, shoe, lamp, handbag, chair, parcel, vase, watch, teapot, guitar, hat, umbrella, backpack, headphones];

/// The parts of a product, from the back to the front.
pub(super) fn product(class: usize, mut stream: Rng) -> Vec<Part> {
    let main = PALETTE[stream.below(PALETTE.len())];
    let second = contrasting(&mut stream, &[main]);
    let accent = contrasting(&mut stream, &[main, second]);
    let pattern = (stream.unit() < 0.85).then(|| Pattern::random(&mut stream, second));
    let gloss = if stream.unit() < 0.5 { stream.uniform(0.3, 1.0) } else { 0.0 };
    let body = Paint { colour: main, pattern, roundness: 1.0, gloss };
    let mut maker = Maker { parts: Vec::new(), body, second, accent, stream };
    FAMILIES[class % FAMILIES.len()](&mut maker);
    maker.parts
}

/// Collects parts, and knows the colours and the stream of the product.
struct Maker {
    parts: Vec<Part>,
    /// The main surface, with the pattern.
    body: Paint,
    second: Colour,
    accent: Colour,
    stream: Rng,
}

impl Maker {
    fn range(&mut self, low: f32, high: f32) -> f32 {
        self.stream.uniform(low, high)
    }

    fn chance(&mut self, probability: f32) -> bool {
        self.stream.unit() < probability
    }

    fn second(&self) -> Paint {
        Paint::plain(self.second)
    }

    fn accent(&self) -> Paint {
        Paint::plain(self.accent)
    }

    /// The main colour without its pattern.
    fn plain_body(&self) -> Paint {
        Paint { pattern: None, ..self.body }
    }

    fn push(&mut self, shape: Shape, paint: Paint) {
        self.parts.push(Part { shape, paint });
    }

    fn ellipse(&mut self, centre: Point, radii: Point, paint: Paint) {
        self.push(Shape::Ellipse { centre, radii }, paint);
    }

    fn stroke(&mut self, points: Vec<Point>, radius: f32, paint: Paint) {
        self.push(Shape::Stroke { points, radius }, paint);
    }

    /// A polygon whose rounded outline goes through about the given corners: they are moved in by the rounding first, those that are
    /// near the middle on an axis by less.
    fn polygon(&mut self, points: &[Point], rounding: f32, paint: Paint) {
        const NEAR: f32 = 0.1;
        let count = points.len() as f32;
        let middle = [0, 1].map(|axis| points.iter().map(|point| point[axis]).sum::<f32>() / count);
        let inward = |value: f32, middle: f32| value - rounding * ((value - middle) / NEAR).clamp(-1.0, 1.0);
        let inset = |point: &Point| [inward(point[0], middle[0]), inward(point[1], middle[1])];
        self.push(Shape::Polygon { points: points.iter().map(inset).collect(), rounding }, paint);
    }

    fn rectangle(&mut self, low: Point, high: Point, rounding: f32, paint: Paint) {
        self.polygon(&[low, [high[0], low[1]], high, [low[0], high[1]]], rounding, paint);
    }

    /// The outline given by its right half, from top to bottom.
    fn symmetric(&mut self, right: &[Point], rounding: f32, paint: Paint) {
        let left = right.iter().rev().map(|&[x, y]| [-x, y]);
        let points: Vec<Point> = right.iter().copied().chain(left).collect();
        self.polygon(&points, rounding, paint);
    }
}

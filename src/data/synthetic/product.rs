//! The products: sixteen families, each a handful of parts whose proportions, colours and presence are drawn from the class's stream.

use super::paint::{Colour, INK, PALETTE, PAPER, Paint, Pattern, STEEL, WOOD, contrasting, mix, scale};
use super::shape::{Point, Shape, arc};
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

    /// A polygon whose rounded outline goes through about the given corners.
    fn polygon(&mut self, points: &[Point], rounding: f32, paint: Paint) {
        let count = points.len() as f32;
        let middle = [0, 1].map(|axis| points.iter().map(|point| point[axis]).sum::<f32>() / count);
        let inset =
            |point: &Point| [0, 1].map(|axis| point[axis] - rounding * (point[axis] - middle[axis]).clamp(-0.1, 0.1) * 10.0);
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

fn bottle(maker: &mut Maker) {
    let (width, neck) = (maker.range(0.24, 0.46), maker.range(0.09, 0.17));
    let (shoulder, neck_end) = (maker.range(-0.35, 0.1), maker.range(-0.62, -0.45));
    let waist = width * maker.range(0.8, 1.1);
    let on_label = maker.chance(0.5);
    let glass = if on_label { maker.plain_body() } else { maker.body };
    maker.symmetric(&[[neck, -0.85], [neck, neck_end], [width, shoulder], [waist, 0.4], [width, 0.95]], 0.07, glass);
    let cap = maker.accent();
    maker.rectangle([-neck - 0.04, -1.0], [neck + 0.04, -0.8], 0.03, cap);
    let (top, bottom) = (shoulder + maker.range(0.1, 0.2), maker.range(0.55, 0.8));
    if on_label {
        let label = Paint { gloss: 0.0, colour: mix(PAPER, maker.body.colour, 0.1), ..maker.body };
        maker.rectangle([-width * 0.94, top], [width * 0.94, bottom], 0.02, label);
    } else if maker.chance(0.5) {
        let label = maker.second();
        maker.ellipse([0.0, (top + bottom) / 2.0], [width * 0.6, 0.2], label);
    }
}

fn mug(maker: &mut Maker) {
    let (top, bottom) = (maker.range(0.45, 0.62), maker.range(0.36, 0.6));
    let (low, high) = (maker.range(0.55, 0.85), maker.range(-0.8, -0.5));
    let handle = if maker.chance(0.5) { maker.plain_body() } else { maker.accent() };
    let (reach, radius) = (maker.range(0.25, 0.4), maker.range(0.06, 0.11));
    let points = arc([bottom.max(top) - 0.08, (low + high) / 2.0], [reach, (low - high) * 0.3], (-0.27, 0.27));
    maker.stroke(points, radius, handle);
    let body = maker.body;
    maker.symmetric(&[[top, high], [bottom, low]], 0.08, body);
    let (rim, inside) = (maker.plain_body(), Paint::plain(scale(maker.second, 0.7)));
    maker.ellipse([0.0, high], [top, 0.14], rim);
    maker.ellipse([0.0, high], [top - 0.07, 0.09], inside);
    if maker.chance(0.4) {
        let band = maker.accent();
        maker.rectangle([-bottom, low - 0.16], [bottom, low - 0.04], 0.02, band);
    }
}

fn shirt(maker: &mut Maker) {
    let (hem, length) = (maker.range(0.42, 0.58), maker.range(0.6, 0.95));
    let (drop, reach) = (maker.range(-0.2, 0.6), maker.range(0.7, 0.98));
    let cuff = maker.range(0.16, 0.26);
    let sleeve = if maker.chance(0.4) { maker.second() } else { maker.body };
    for side in [-1.0, 1.0] {
        let points = [[0.36, -0.74], [reach, drop - cuff / 2.0], [reach - cuff, drop + cuff / 2.0], [0.34, -0.2]];
        maker.polygon(&points.map(|[x, y]| [x * side, y]), 0.03, sleeve);
    }
    let body = maker.body;
    maker.symmetric(&[[0.2, -0.8], [0.46, -0.72], [0.42, -0.2], [hem, length]], 0.04, body);
    let collar = maker.accent();
    let inside = Paint::plain(scale(maker.body.colour, 0.55));
    let deep = maker.range(0.1, 0.3);
    if maker.chance(0.5) {
        maker.ellipse([0.0, -0.8], [0.24, deep + 0.05], collar);
        maker.ellipse([0.0, -0.82], [0.17, deep - 0.02], inside);
    } else {
        maker.polygon(&[[-0.24, -0.82], [0.24, -0.82], [0.0, -0.72 + deep]], 0.02, collar);
        maker.polygon(&[[-0.14, -0.84], [0.14, -0.84], [0.0, -0.82 + deep]], 0.01, inside);
    }
    if maker.chance(0.35) {
        let pocket = maker.second();
        maker.rectangle([0.08, -0.35], [0.32, -0.08], 0.03, pocket);
    }
    if maker.chance(0.35) {
        for button in 0..4 {
            let paint = maker.accent();
            maker.ellipse([0.0, -0.4 + 0.28 * button as f32], [0.045, 0.045], paint);
        }
    }
}

fn shoe(maker: &mut Maker) {
    let (ankle, toe) = (maker.range(-0.75, -0.1), maker.range(0.05, 0.25));
    let (body, sole) = (maker.body, maker.accent());
    let collar = maker.range(-0.15, 0.05);
    maker.polygon(&[[-0.88, ankle], [collar, ankle], [collar + 0.2, -0.02], [0.75, toe], [0.95, 0.5], [-0.9, 0.5]], 0.09, body);
    if maker.chance(0.5) {
        let cap = maker.second();
        maker.ellipse([0.76, 0.4], [0.2, 0.17], cap);
    }
    if maker.chance(0.5) {
        let heel = maker.second();
        maker.rectangle([-0.92, ankle + 0.1], [-0.66, 0.5], 0.05, heel);
    }
    let height = maker.range(0.08, 0.2);
    maker.rectangle([-0.95, 0.5], [0.98, 0.5 + height], 0.06, sole);
    if maker.chance(0.35) {
        maker.rectangle([-0.95, 0.55], [-0.45, 0.72 + height], 0.04, sole);
    }
    let laces = if maker.chance(0.5) { Paint::plain(PAPER) } else { maker.accent() };
    let count = 1 + maker.stream.below(4);
    for lace in 0..count {
        let (x, y) = (collar + 0.1 + 0.15 * lace as f32, ankle.max(-0.3) * 0.3 + 0.1 * lace as f32);
        maker.stroke(vec![[x - 0.12, y + 0.12], [x + 0.08, y - 0.08]], 0.035, laces);
    }
}

fn lamp(maker: &mut Maker) {
    let (top, bottom) = (maker.range(0.14, 0.5), maker.range(0.45, 0.75));
    let edge = maker.range(-0.25, 0.05);
    let metal = if maker.chance(0.4) { Paint::plain(STEEL) } else { maker.accent() };
    let thick = maker.range(0.035, 0.1);
    maker.stroke(vec![[0.0, edge], [0.0, 0.85]], thick, metal);
    if maker.chance(0.5) {
        let (swell, knob) = (maker.range(0.14, 0.3), maker.second());
        maker.ellipse([0.0, 0.5], [swell, 0.24], knob);
    }
    let foot = maker.range(0.28, 0.5);
    if maker.chance(0.5) {
        maker.ellipse([0.0, 0.88], [foot, 0.11], metal);
    } else {
        maker.symmetric(&[[foot * 0.4, 0.72], [foot, 0.95]], 0.03, metal);
    }
    let shade = maker.body;
    maker.symmetric(&[[top, -0.92], [bottom, edge]], 0.04, shade);
    if maker.chance(0.5) {
        let trim = maker.second();
        maker.stroke(vec![[-bottom, edge], [bottom, edge]], 0.045, trim);
    }
}

fn handbag(maker: &mut Maker) {
    let (top, bottom) = (maker.range(0.45, 0.8), maker.range(0.6, 0.9));
    let (high, low) = (maker.range(-0.25, 0.05), maker.range(0.6, 0.9));
    let handle = maker.accent();
    let (reach, tall, radius) = (maker.range(0.22, 0.5), maker.range(0.4, 0.75), maker.range(0.04, 0.075));
    maker.stroke(arc([0.0, high + 0.08], [reach, tall], (0.5, 1.0)), radius, handle);
    let body = maker.body;
    maker.symmetric(&[[top, high], [bottom, low]], 0.09, body);
    match maker.stream.below(3) {
        0 => {
            let flap = maker.second();
            maker.polygon(&[[-top, high], [top, high], [0.0, high + 0.5]], 0.05, flap);
        }
        1 => {
            let pocket = maker.second();
            maker.rectangle([-0.35, high + 0.3], [0.35, low - 0.12], 0.06, pocket);
        }
        _ => {
            let seam = maker.second();
            maker.stroke(vec![[-bottom, low - 0.18], [bottom, low - 0.18]], 0.05, seam);
        }
    }
    let clasp = if maker.chance(0.5) { Paint::plain(STEEL) } else { maker.accent() };
    maker.ellipse([0.0, high + 0.4], [0.08, 0.08], clasp);
}

fn chair(maker: &mut Maker) {
    let (width, top) = (maker.range(0.38, 0.58), maker.range(-0.98, -0.7));
    let (seat, splay) = (maker.range(0.05, 0.25), maker.range(0.0, 0.22));
    let leg = if maker.chance(0.5) { Paint::plain(WOOD) } else { maker.accent() };
    let radius = maker.range(0.04, 0.075);
    for side in [-1.0, 1.0] {
        maker.stroke(vec![[side * (width - 0.08), seat], [side * (width + splay), 0.95]], radius, leg);
        maker.stroke(vec![[side * (width - 0.3), seat], [side * (width - 0.3 + splay * 0.4), 0.78]], radius * 0.8, leg);
    }
    let body = maker.body;
    match maker.stream.below(3) {
        0 => maker.symmetric(&[[width * 0.8, top], [width, seat]], 0.1, body),
        1 => {
            for slat in -1..=1 {
                let x = slat as f32 * width * 0.66;
                maker.rectangle([x - 0.1, top], [x + 0.1, seat], 0.05, body);
            }
            maker.rectangle([-width, top], [width, top + 0.22], 0.05, body);
        }
        _ => maker.ellipse([0.0, (top + seat) / 2.0 - 0.05], [width, (seat - top) / 2.0 + 0.08], body),
    }
    if maker.chance(0.35) {
        for side in [-1.0, 1.0] {
            maker.stroke(
                vec![[side * width, seat - 0.32], [side * (width + 0.14), seat - 0.3], [side * (width + 0.1), seat + 0.1]],
                0.055,
                leg,
            );
        }
    }
    let cushion = maker.second();
    maker.symmetric(&[[width, seat - 0.02], [width + 0.1, seat + 0.16]], 0.05, cushion);
}

fn parcel(maker: &mut Maker) {
    let (left, right) = (maker.range(-0.85, -0.5), maker.range(0.15, 0.5));
    let (high, low) = (maker.range(-0.45, 0.0), maker.range(0.6, 0.9));
    let (depth, rise) = (maker.range(0.25, 0.42), maker.range(0.2, 0.4));
    let front = Paint { roundness: 0.3, ..maker.body };
    let side = Paint { colour: scale(maker.body.colour, 0.72), pattern: None, roundness: 0.3, gloss: 0.0 };
    let lid = if maker.chance(0.5) {
        Paint { roundness: 0.2, ..maker.second() }
    } else {
        Paint { colour: mix(front.colour, PAPER, 0.3), ..side }
    };
    maker.polygon(&[[left, high], [right, high], [right, low], [left, low]], 0.0, front);
    maker.polygon(&[[right, high], [right + depth, high - rise], [right + depth, low - rise], [right, low]], 0.0, side);
    maker.polygon(&[[left, high], [left + depth, high - rise], [right + depth, high - rise], [right, high]], 0.0, lid);
    let middle = left + (right - left) * maker.range(0.3, 0.7);
    let half = maker.range(0.04, 0.09);
    let ribbon = Paint { roundness: 0.2, ..maker.accent() };
    if maker.chance(0.7) {
        maker.rectangle([middle - half, high], [middle + half, low], 0.0, ribbon);
        maker.polygon(
            &[
                [middle - half, high],
                [middle - half + depth, high - rise],
                [middle + half + depth, high - rise],
                [middle + half, high],
            ],
            0.0,
            ribbon,
        );
    }
    if maker.chance(0.5) {
        let knot = [middle + depth / 2.0, high - rise / 2.0];
        for lean in [-0.2, 0.2] {
            maker.ellipse([knot[0] + lean, knot[1] - 0.14], [0.19, 0.12], ribbon);
        }
        maker.ellipse([knot[0], knot[1] - 0.08], [0.08, 0.08], ribbon);
    } else {
        let (x, y) = (left + 0.08, low - 0.36);
        maker.rectangle([x, y], [x + 0.3, y + 0.26], 0.02, Paint::plain(PAPER));
    }
}

fn vase(maker: &mut Maker) {
    let (belly, middle) = (maker.range(0.3, 0.58), maker.range(0.05, 0.5));
    let (neck, lip) = (maker.range(0.1, 0.24), maker.range(0.16, 0.4));
    let mouth = maker.range(-0.6, -0.3);
    if maker.chance(0.5) {
        let (stem, flower, heart) = (Paint::plain(PALETTE[4]), maker.accent(), maker.second());
        for lean in [-0.42_f32, 0.02, 0.4] {
            let head = [lean, mouth - 0.32 + lean.abs() * 0.4];
            maker.stroke(vec![[0.0, mouth + 0.1], head], 0.03, stem);
            maker.ellipse(head, [0.15, 0.15], flower);
            maker.ellipse(head, [0.055, 0.055], heart);
        }
    }
    let body = maker.body;
    let foot = maker.range(0.18, 0.34);
    let right = [
        [lip, mouth],
        [neck, mouth + 0.22],
        [belly * 0.85, middle - 0.25],
        [belly, middle],
        [belly * 0.9, middle + 0.2],
        [foot, 0.95],
    ];
    maker.symmetric(&right, 0.05, body);
    let rim = maker.second();
    maker.ellipse([0.0, mouth], [lip, 0.07], rim);
    if maker.chance(0.4) {
        let ear = maker.accent();
        for side in [-1.0, 1.0] {
            let points = arc([side * neck, mouth + 0.32], [side * 0.28, 0.2], (-0.25, 0.25));
            maker.stroke(points, 0.05, ear);
        }
    }
}

fn watch(maker: &mut Maker) {
    let (strap, radius) = (maker.range(0.16, 0.3), maker.range(0.4, 0.58));
    let body = maker.body;
    maker.symmetric(&[[strap * 0.75, -1.0], [strap, 0.0], [strap * 0.75, 1.0]], 0.05, body);
    let case = if maker.chance(0.4) { Paint { gloss: 0.8, ..Paint::plain(STEEL) } } else { maker.accent() };
    let dial = if maker.chance(0.5) { Paint::plain(PAPER) } else { maker.second() };
    maker.stroke(vec![[radius, 0.0], [radius + 0.1, 0.0]], 0.07, case);
    if maker.chance(0.35) {
        maker.rectangle([-radius, -radius], [radius, radius], 0.14, case);
        maker.rectangle([-radius + 0.1, -radius + 0.1], [radius - 0.1, radius - 0.1], 0.1, dial);
    } else {
        maker.ellipse([0.0, 0.0], [radius, radius], case);
        maker.ellipse([0.0, 0.0], [radius - 0.1, radius - 0.1], dial);
    }
    let ink = Paint::plain(if dial.colour.iter().sum::<f32>() > 1.2 { INK } else { PAPER });
    let marks = [4, 12, 8][maker.stream.below(3)];
    for mark in arc([0.0, 0.0], [radius - 0.18; 2], (0.0, 1.0)).iter().step_by(if marks == 4 { 5 } else { 12 / marks }) {
        maker.ellipse(*mark, [0.035, 0.035], ink);
    }
    for (length, thick) in [(0.5, 0.05), (0.75, 0.035)] {
        let hand = arc([0.0, 0.0], [(radius - 0.1) * length; 2], (maker.range(0.0, 1.0), 0.0))[0];
        maker.stroke(vec![[0.0, 0.0], hand], thick, ink);
    }
}

fn teapot(maker: &mut Maker) {
    let (width, height) = (maker.range(0.45, 0.6), maker.range(0.38, 0.58));
    let (trim, plain) = (maker.accent(), maker.plain_body());
    let (lift, radius) = (maker.range(0.2, 0.5), maker.range(0.06, 0.11));
    maker.stroke(vec![[width * 0.6, 0.35], [width + 0.15, 0.15], [width + 0.3, 0.2 - lift]], radius, plain);
    if maker.chance(0.5) {
        maker.stroke(arc([-width, 0.15], [0.3, height * 0.75], (0.2, 0.8)), radius * 0.8, trim);
    } else {
        maker.stroke(arc([0.0, 0.0], [width * 0.8, height + 0.38], (0.53, 0.97)), radius * 0.7, trim);
    }
    let body = maker.body;
    maker.ellipse([0.0, 0.2], [width, height], body);
    let lid = maker.second();
    maker.ellipse([0.0, 0.24 - height], [width * 0.55, 0.13], lid);
    maker.ellipse([0.0, 0.08 - height], [0.09, 0.09], trim);
    maker.rectangle([-width * 0.5, 0.15 + height], [width * 0.5, 0.27 + height], 0.04, lid);
}

fn guitar(maker: &mut Maker) {
    let (lower, upper) = (maker.range(0.42, 0.56), maker.range(0.28, 0.42));
    let (neck, bend) = (maker.range(0.06, 0.09), maker.range(0.05, 0.3));
    let body = maker.body;
    maker.ellipse([0.0, 0.12], [upper, 0.32 + bend * 0.2], Paint { pattern: None, ..body });
    maker.ellipse([0.0, 0.52], [lower, 0.43], body);
    if maker.chance(0.4) {
        let guard = maker.second();
        maker.ellipse([lower * 0.45, 0.5], [0.14, 0.25], guard);
    }
    let (wood, head) = (Paint::plain(if maker.chance(0.5) { WOOD } else { INK }), maker.accent());
    let hole = maker.range(0.1, 0.17);
    maker.ellipse([0.0, 0.3], [hole, hole], Paint::plain(INK));
    maker.rectangle([-neck, -0.75], [neck, 0.2], 0.0, wood);
    let flare = maker.range(0.1, 0.2);
    maker.symmetric(&[[flare, -1.0], [neck, -0.7]], 0.02, head);
    maker.rectangle([-0.2, 0.66], [0.2, 0.74], 0.02, wood);
    maker.stroke(vec![[0.0, -0.75], [0.0, 0.7]], 0.015, Paint::plain(PAPER));
}

fn hat(maker: &mut Maker) {
    let (crown, top) = (maker.range(0.38, 0.52), maker.range(0.25, 0.5));
    let high = maker.range(-0.7, -0.35);
    let (body, band) = (maker.body, maker.accent());
    match maker.stream.below(3) {
        0 => {
            let brim = maker.range(0.75, 1.0);
            maker.ellipse([0.0, 0.4], [brim, 0.2], maker.plain_body());
            maker.symmetric(&[[top, high], [crown, 0.42]], 0.1, body);
            maker.symmetric(&[[crown - 0.02, 0.2], [crown, 0.4]], 0.02, band);
        }
        1 => {
            maker.push(Shape::Polygon { points: arc([0.0, 0.4], [crown + 0.08, 0.4 - high], (0.5, 1.0)), rounding: 0.03 }, body);
            let peak = maker.second();
            maker.polygon(&[[0.0, 0.28], [crown, 0.26], [0.98, 0.46], [0.9, 0.54], [0.0, 0.46]], 0.04, peak);
            maker.ellipse([0.0, high], [0.08, 0.06], band);
        }
        _ => {
            let pompom = maker.second();
            maker.push(Shape::Polygon { points: arc([0.0, 0.4], [crown + 0.12, 0.5 - high], (0.5, 1.0)), rounding: 0.03 }, body);
            maker.rectangle([-crown - 0.2, 0.3], [crown + 0.2, 0.62], 0.1, band);
            maker.ellipse([0.0, high - 0.1], [0.2, 0.2], pompom);
        }
    }
}

fn umbrella(maker: &mut Maker) {
    let (reach, tall) = (maker.range(0.75, 0.98), maker.range(0.5, 0.8));
    let edge = maker.range(-0.2, 0.1);
    let stick = if maker.chance(0.5) { Paint::plain(WOOD) } else { maker.accent() };
    let hook = maker.range(0.1, 0.2);
    let mut points = vec![[0.0, edge - tall - 0.08], [0.0, 0.78]];
    points.extend(arc([hook, 0.78], [hook, hook * 0.9], (0.5, 0.0)));
    maker.stroke(points, 0.04, stick);
    let body = maker.body;
    let mut canopy = arc([0.0, edge], [reach, tall], (0.5, 1.0));
    let scallops = 3 + maker.stream.below(3);
    for scallop in (0..scallops).rev() {
        let (width, half) = (reach / scallops as f32, scallops as f32 / 2.0);
        let middle = (scallop as f32 + 0.5 - half) * 2.0 * width;
        canopy.extend(arc([middle, edge], [width, 0.12], (1.0, 0.5)));
    }
    maker.push(Shape::Polygon { points: canopy, rounding: 0.0 }, body);
    if maker.chance(0.6) {
        let gore = maker.second();
        let mut panel = arc([0.0, edge], [reach * 0.35, tall], (0.5, 1.0));
        panel.reverse();
        maker.push(Shape::Polygon { points: panel, rounding: 0.0 }, gore);
    }
}

fn backpack(maker: &mut Maker) {
    let (width, top) = (maker.range(0.42, 0.62), maker.range(-0.8, -0.55));
    let strap = maker.accent();
    maker.stroke(arc([0.0, top + 0.05], [0.2, 0.2], (0.5, 1.0)), 0.055, strap);
    for side in [-1.0, 1.0] {
        maker.stroke(arc([side * width, 0.15], [side * 0.2, 0.45], (-0.22, 0.22)), 0.06, strap);
    }
    let body = maker.body;
    let shoulder = maker.range(0.6, 0.95);
    maker.symmetric(&[[width * shoulder, top], [width, top + 0.4], [width, 0.9]], 0.12, body);
    let (pocket, shape) = (maker.second(), maker.stream.below(3));
    let (high, inset) = (maker.range(0.1, 0.4), maker.range(0.08, 0.18));
    match shape {
        0 => maker.rectangle([-width + inset, high], [width - inset, 0.82], 0.08, pocket),
        1 => {
            maker.rectangle([-width + 0.06, high], [-0.04, 0.82], 0.06, pocket);
            maker.rectangle([0.04, high], [width - 0.06, 0.82], 0.06, pocket);
        }
        _ => maker.symmetric(&[[width * shoulder, top], [width, top + 0.3], [width * 0.7, 0.1]], 0.06, pocket),
    }
    let zip = maker.accent();
    maker.stroke(vec![[-width * 0.6, high + 0.08], [width * 0.6, high + 0.08]], 0.03, zip);
}

fn headphones(maker: &mut Maker) {
    let (width, tall) = (maker.range(0.55, 0.75), maker.range(0.65, 0.95));
    let (band, body) = (maker.accent(), maker.body);
    let radius = maker.range(0.05, 0.11);
    maker.stroke(arc([0.0, 0.2], [width, tall], (0.5, 1.0)), radius, band);
    if maker.chance(0.5) {
        let cushion = maker.second();
        maker.stroke(arc([0.0, 0.2], [width, tall], (0.66, 0.84)), radius + 0.06, cushion);
    }
    let (cup, height) = (maker.range(0.2, 0.3), maker.range(0.28, 0.42));
    let pad = maker.second();
    let square = maker.chance(0.4);
    for side in [-1.0, 1.0] {
        maker.ellipse([side * (width - 0.14), 0.3], [0.16, height], pad);
        let x = side * (width + 0.06);
        if square {
            maker.rectangle([x - cup, 0.3 - height], [x + cup, 0.3 + height], 0.08, body);
        } else {
            maker.ellipse([x, 0.3], [cup, height], body);
        }
    }
    if maker.chance(0.4) {
        maker.stroke(vec![[-width, 0.5], [-width + 0.1, 0.85], [-0.25, 0.9]], 0.035, band);
    }
}

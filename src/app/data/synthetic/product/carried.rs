//! Products that are worn or carried.

use super::Maker;
use crate::app::data::synthetic::paint::{INK, PAPER, Paint, STEEL, WOOD, scale};
use crate::app::data::synthetic::shape::{Shape, arc};

pub(super) fn shirt(maker: &mut Maker) {
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

pub(super) fn shoe(maker: &mut Maker) {
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

pub(super) fn handbag(maker: &mut Maker) {
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

pub(super) fn watch(maker: &mut Maker) {
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

pub(super) fn guitar(maker: &mut Maker) {
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

pub(super) fn hat(maker: &mut Maker) {
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

pub(super) fn umbrella(maker: &mut Maker) {
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

pub(super) fn backpack(maker: &mut Maker) {
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

pub(super) fn headphones(maker: &mut Maker) {
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

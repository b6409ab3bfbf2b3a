//! Products that stand in a house.

use super::Maker;
use crate::app::data::synthetic::paint::{PALETTE, PAPER, Paint, STEEL, WOOD, mix, scale};
use crate::app::data::synthetic::shape::arc;

pub(super) fn bottle(maker: &mut Maker) {
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

pub(super) fn mug(maker: &mut Maker) {
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

pub(super) fn lamp(maker: &mut Maker) {
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

pub(super) fn chair(maker: &mut Maker) {
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

pub(super) fn parcel(maker: &mut Maker) {
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

pub(super) fn vase(maker: &mut Maker) {
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

pub(super) fn teapot(maker: &mut Maker) {
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

//! Colours, patterns and the shading of a part.

use super::shape::Point;
use crate::rng::Rng;

/// Red, green and blue in `[0, 1]`, as stored in a file.
pub(super) type Colour = [f32; 3];

const fn rgb(red: u8, green: u8, blue: u8) -> Colour {
    [red as f32 / 255.0, green as f32 / 255.0, blue as f32 / 255.0]
}

/// Every colour of every product and background: few, so that many classes share each.
pub(super) const PALETTE: [Colour; 16] = [
    rgb(226, 86, 78),
    rgb(240, 145, 62),
    rgb(236, 192, 72),
    rgb(150, 166, 74),
    rgb(70, 150, 98),
    rgb(48, 146, 146),
    rgb(96, 170, 216),
    rgb(58, 98, 176),
    rgb(92, 82, 160),
    rgb(148, 92, 168),
    rgb(228, 136, 166),
    rgb(140, 94, 64),
    rgb(240, 228, 204),
    rgb(64, 66, 78),
    rgb(242, 242, 240),
    rgb(150, 154, 162),
];
pub(super) const INK: Colour = rgb(46, 46, 56);
pub(super) const STEEL: Colour = rgb(176, 182, 190);
pub(super) const WOOD: Colour = rgb(168, 118, 78);
pub(super) const PAPER: Colour = rgb(246, 244, 238);

pub(super) fn mix(from: Colour, to: Colour, share: f32) -> Colour {
    [0, 1, 2].map(|channel| from[channel] + (to[channel] - from[channel]) * share)
}

pub(super) fn scale(colour: Colour, factor: f32) -> Colour {
    colour.map(|value| value * factor)
}

pub(super) fn any_colour(stream: &mut Rng) -> Colour {
    PALETTE[stream.below(PALETTE.len())]
}

fn difference(one: Colour, other: Colour) -> f32 {
    one.iter().zip(other).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt()
}

/// A palette colour that is told apart from each of `others`.
pub(super) fn contrasting(stream: &mut Rng, others: &[Colour]) -> Colour {
    const SMALLEST_DIFFERENCE: f32 = 0.4;
    let far = |colour: &Colour| others.iter().all(|&other| difference(*colour, other) >= SMALLEST_DIFFERENCE);
    let candidates: Vec<Colour> = PALETTE.into_iter().filter(far).collect();
    candidates[stream.below(candidates.len())]
}

/// What is repeated on a surface.
#[derive(Clone, Copy, Debug)]
pub(super) enum Motif {
    Stripes,
    Pinstripes,
    Dots,
    Checks,
    Grid,
    Zigzag,
    Diamonds,
    Halves,
    Band,
    Star,
    Disc,
    Cross,
}

const MOTIFS: [Motif; 12] = [
    Motif::Stripes,
    Motif::Pinstripes,
    Motif::Dots,
    Motif::Checks,
    Motif::Grid,
    Motif::Zigzag,
    Motif::Diamonds,
    Motif::Halves,
    Motif::Band,
    Motif::Star,
    Motif::Disc,
    Motif::Cross,
];

/// A motif in a colour, turned and sized, in product units.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pattern {
    motif: Motif,
    colour: Colour,
    period: f32,
    turn: (f32, f32),
    centre: Point,
}

impl Pattern {
    pub(super) fn random(stream: &mut Rng, colour: Colour) -> Self {
        const ANGLES: [f32; 4] = [0.0, 0.125, 0.25, 0.375];
        let motif = MOTIFS[stream.below(MOTIFS.len())];
        let angle = std::f32::consts::TAU * ANGLES[stream.below(ANGLES.len())];
        let period = stream.uniform(0.22, 0.42);
        Self {
            motif,
            colour,
            period,
            turn: (angle.cos(), angle.sin()),
            centre: [stream.uniform(-0.1, 0.1), stream.uniform(-0.05, 0.25)],
        }
    }

    /// The share of the pattern's colour at a point, antialiased over `pixel` product units.
    fn coverage(&self, point: Point, pixel: f32) -> f32 {
        let (x, y) = (point[0] - self.centre[0], point[1] - self.centre[1]);
        let (along, across) = (x * self.turn.0 + y * self.turn.1, y * self.turn.0 - x * self.turn.1);
        // Distances below are in product units; a triangle wave is the distance to the nearest multiple of its period.
        let wave = |value: f32, period: f32| (value - period * (value / period).round()).abs();
        let period = self.period;
        let inside = match self.motif {
            Motif::Stripes => period / 4.0 - wave(along, period),
            Motif::Pinstripes => period / 7.0 - wave(along, period * 0.7),
            Motif::Dots => period / 3.4 - wave(along, period).hypot(wave(across, period)),
            Motif::Checks => {
                let (one, other) = (wave(along, period) - period / 4.0, wave(across, period) - period / 4.0);
                one.abs().min(other.abs()) * (one * other).signum()
            }
            Motif::Grid => period / 9.0 - wave(along, period).min(wave(across, period)),
            Motif::Zigzag => period / 4.0 - wave(along + wave(across, period), period),
            Motif::Diamonds => period / 2.6 - wave(along, period) - wave(across, period * 1.5),
            Motif::Halves => along,
            Motif::Band => period / 2.0 - across.abs(),
            Motif::Star => {
                let (radius, angle) = (along.hypot(across), across.atan2(along));
                period * (0.62 + 0.3 * (5.0 * angle).cos()) - radius
            }
            Motif::Disc => period * 0.18 - (along.hypot(across) - period * 0.62).abs(),
            Motif::Cross => (period * 0.26 - along.abs().min(across.abs())).min(period - along.abs().max(across.abs())),
        };
        (inside / pixel + 0.5).clamp(0.0, 1.0)
    }
}

/// How the surface of a part looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint {
    pub(super) colour: Colour,
    pub(super) pattern: Option<Pattern>,
    /// How much the surface seems to bend away towards its outline, in `[0, 1]`.
    pub(super) roundness: f32,
    /// Strength of the highlight, in `[0, 1]`.
    pub(super) gloss: f32,
}

impl Paint {
    pub(super) fn plain(colour: Colour) -> Self {
        Self { colour, pattern: None, roundness: 0.7, gloss: 0.0 }
    }

    /// The colour at a point that is `depth` inside the outline and at `place` between the part's bounds (-1 to 1 in both
    /// directions), with light from the direction `light`.
    pub(super) fn at(&self, point: Point, surface: Surface) -> Colour {
        let Surface { depth, place, light, pixel } = surface;
        let patterned = match &self.pattern {
            Some(pattern) => mix(self.colour, pattern.colour, pattern.coverage(point, pixel)),
            None => self.colour,
        };
        const BEND: f32 = 0.16;
        let rim = 1.0 - (depth / BEND).clamp(0.0, 1.0);
        let facing = place[0] * light[0] + place[1] * light[1];
        let shade = 1.0 - 0.36 * self.roundness * rim * rim + 0.16 * self.roundness * facing;
        let (x, y) = (place[0] - 0.45 * light[0], place[1] - 0.45 * light[1]);
        let highlight = self.gloss * 0.55 * (-7.0 * (x * x + y * y)).exp();
        mix(scale(patterned, shade), [1.0; 3], highlight)
    }
}

/// Where on a part a colour is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surface {
    /// Distance to the outline, positive inside.
    pub(super) depth: f32,
    /// Position between the bounds of the part, -1 to 1.
    pub(super) place: Point,
    /// Direction the light comes from, of length 1.
    pub(super) light: Point,
    /// Edge of a pixel in product units.
    pub(super) pixel: f32,
}

//! A photograph of a product: pose, light, background, shadow, something in the way, blur and noise.

use super::paint::{Colour, Paint, Surface, any_colour, mix, scale};
use super::product::Part;
use super::shape::{Point, Shape};
use crate::rng::Rng;

/// Draws the product as 8-bit RGB of `size x size`; everything the product does not decide comes from `stream`.
pub(super) fn photograph(parts: &[Part], size: usize, stream: &Rng) -> Vec<u8> {
    let mut pose_stream = stream.at("pose");
    let pose = Pose::random(&mut pose_stream, size);
    let angle = pose_stream.uniform(0.5, 1.0) * std::f32::consts::TAU;
    let light = [angle.cos(), angle.sin()];

    let mut canvas = Canvas::background(size, &mut stream.at("background"));
    let mut product = Canvas::clear(size);
    for part in parts {
        product.draw(part, &pose, light);
    }
    canvas.shadow_of(&product, light, &mut stream.at("shadow"));
    canvas.lay(&product);
    canvas.occlude(light, &mut stream.at("occlusion"));
    canvas.develop(&stream.at("light"))
}

/// Where product coordinates lie in the image: `pixel = matrix * product + offset`.
struct Pose {
    matrix: [Point; 2],
    offset: Point,
}

impl Pose {
    fn random(stream: &mut Rng, size: usize) -> Self {
        const LARGEST_TURN: f32 = 0.35;
        let size = size as f32;
        let (sin, cos) = (stream.uniform(-LARGEST_TURN, LARGEST_TURN)).sin_cos();
        let zoom = size * stream.uniform(0.36, 0.48);
        let (wide, shear) = (stream.uniform(0.88, 1.12), stream.uniform(-0.15, 0.15));
        let [right, down] = [[zoom * wide, zoom * shear], [0.0, zoom]];
        let turned = |[x, y]: Point| [x * cos - y * sin, x * sin + y * cos];
        let (right, down) = (turned(right), turned(down));
        let offset = [0, 1].map(|_| size * stream.uniform(0.45, 0.55));
        Self { matrix: [[right[0], down[0]], [right[1], down[1]]], offset }
    }

    /// Image coordinates taken as they are, with `size` pixels for the range from -1 to 1.
    fn frame(size: usize) -> Self {
        let half = size as f32 / 2.0;
        Self { matrix: [[half, 0.0], [0.0, half]], offset: [half, half] }
    }

    fn to_image(&self, [x, y]: Point) -> Point {
        [0, 1].map(|row| self.matrix[row][0] * x + self.matrix[row][1] * y + self.offset[row])
    }

    fn determinant(&self) -> f32 {
        self.matrix[0][0] * self.matrix[1][1] - self.matrix[0][1] * self.matrix[1][0]
    }

    fn to_product(&self, pixel: Point) -> Point {
        let ([[a, b], [c, d]], determinant) = (self.matrix, self.determinant());
        let (x, y) = (pixel[0] - self.offset[0], pixel[1] - self.offset[1]);
        [(d * x - b * y) / determinant, (a * y - c * x) / determinant]
    }
}

/// Colours premultiplied by their coverage, and the coverage.
struct Canvas {
    size: usize,
    pixels: Vec<[f32; 4]>,
}

impl Canvas {
    fn clear(size: usize) -> Self {
        Self { size, pixels: vec![[0.0; 4]; size * size] }
    }

    /// Lays a part over what is there, antialiased by its distance.
    fn draw(&mut self, part: &Part, pose: &Pose, light: Point) {
        let (low, high) = part.shape.bounds();
        let corners = [low, [high[0], low[1]], high, [low[0], high[1]]].map(|corner| pose.to_image(corner));
        let range = |axis: usize| {
            let start = corners.iter().map(|corner| corner[axis]).fold(f32::INFINITY, f32::min).floor() - 1.0;
            let end = corners.iter().map(|corner| corner[axis]).fold(f32::NEG_INFINITY, f32::max).ceil() + 1.0;
            start.max(0.0) as usize..(end.max(0.0) as usize).min(self.size)
        };
        let pixel = pose.determinant().abs().sqrt().recip();
        for row in range(1) {
            for column in range(0) {
                let point = pose.to_product([column as f32 + 0.5, row as f32 + 0.5]);
                let depth = -part.shape.distance(point);
                let coverage = (depth / pixel + 0.5).clamp(0.0, 1.0);
                if coverage > 0.0 {
                    let place = [0, 1].map(|axis| (2.0 * point[axis] - low[axis] - high[axis]) / (high[axis] - low[axis]));
                    let colour = part.paint.at(point, Surface { depth, place, light, pixel });
                    over(&mut self.pixels[row * self.size + column], colour, coverage);
                }
            }
        }
    }

    fn lay(&mut self, upper: &Self) {
        for (below, above) in self.pixels.iter_mut().zip(&upper.pixels) {
            for (value, &added) in below.iter_mut().zip(above) {
                *value = *value * (1.0 - above[3]) + added;
            }
        }
    }

    /// Darkens where the product, blurred and moved away from the light, keeps light off.
    fn shadow_of(&mut self, product: &Self, light: Point, stream: &mut Rng) {
        let strength = stream.uniform(0.15, 0.5);
        let away = stream.uniform(0.02, 0.07) * self.size as f32;
        let radius = (self.size / 24).max(1);
        let mut shade: Vec<f32> = product.pixels.iter().map(|pixel| pixel[3]).collect();
        for _ in 0..2 {
            shade = blurred(&shade, self.size, radius);
        }
        let [right, down] = [light[0], light[1] - 0.6].map(|toward| (-toward * away).round() as isize);
        let side = self.size as isize;
        for row in 0..side {
            for column in 0..side {
                let (from_row, from_column) = (row - down, column - right);
                if (0..side).contains(&from_row) && (0..side).contains(&from_column) {
                    let factor = 1.0 - strength * shade[(from_row * side + from_column) as usize];
                    let pixel = &mut self.pixels[(row * side + column) as usize];
                    pixel[..3].iter_mut().for_each(|value| *value *= factor);
                }
            }
        }
    }

    /// Often something covers a part of the picture: a rod across it, a blob from its edge, or a tag.
    fn occlude(&mut self, light: Point, stream: &mut Rng) {
        if stream.unit() > 0.33 {
            return;
        }
        let angle = stream.uniform(0.0, std::f32::consts::TAU);
        let (sin, cos) = angle.sin_cos();
        let shape = match stream.below(3) {
            0 => {
                let middle = [cos * 0.35, sin * 0.35];
                let along = [-sin * 2.0, cos * 2.0];
                let points = vec![[middle[0] - along[0], middle[1] - along[1]], [middle[0] + along[0], middle[1] + along[1]]];
                Shape::Stroke { points, radius: stream.uniform(0.04, 0.1) }
            }
            1 => {
                let away = stream.uniform(0.85, 1.05);
                Shape::Ellipse { centre: [cos * away, sin * away], radii: [stream.uniform(0.3, 0.6), stream.uniform(0.3, 0.6)] }
            }
            _ => {
                let radius = stream.uniform(0.14, 0.26);
                Shape::Ellipse { centre: [cos * 0.4, sin * 0.4], radii: [radius, radius] }
            }
        };
        let part = Part { shape, paint: Paint::plain(any_colour(stream)) };
        self.draw(&part, &Pose::frame(self.size), light);
    }

    /// Light, lens and sensor: gain, tint, a gradient across the picture, sometimes blur, and noise.
    fn develop(mut self, stream: &Rng) -> Vec<u8> {
        let mut light = stream.at("light");
        let gain = light.uniform(0.76, 1.18);
        let tint = [0, 1, 2].map(|_| gain * light.uniform(0.88, 1.12));
        let fall = [0, 1].map(|_| light.uniform(-0.2, 0.2));
        if light.unit() < 0.2 {
            self.soften(light.uniform(0.4, 1.0));
        }
        let noise = light.uniform(0.0, 0.05);
        let mut grain = stream.at("grain");
        let mut rgb = Vec::with_capacity(self.pixels.len() * 3);
        for (index, pixel) in self.pixels.iter().enumerate() {
            let across = |position: usize| 2.0 * position as f32 / self.size as f32 - 1.0;
            let lit = 1.0 + fall[0] * across(index % self.size) + fall[1] * across(index / self.size);
            let bits = grain.bits();
            for channel in 0..3 {
                let random = ((bits >> (16 * channel)) & 0xFFFF) as f32 / 65536.0 - 0.5;
                let value = pixel[channel] * tint[channel] * lit + noise * random;
                rgb.push((value * 255.0 + 0.5).clamp(0.0, 255.0) as u8);
            }
        }
        rgb
    }

    /// Mixes each pixel with the mean of its neighbourhood.
    fn soften(&mut self, share: f32) {
        let radius = (self.size / 64).max(1);
        for channel in 0..3 {
            let plane: Vec<f32> = self.pixels.iter().map(|pixel| pixel[channel]).collect();
            for (pixel, mean) in self.pixels.iter_mut().zip(blurred(&plane, self.size, radius)) {
                pixel[channel] += share * (mean - pixel[channel]);
            }
        }
    }

    /// One of six kinds of surroundings.
    fn background(size: usize, stream: &mut Rng) -> Self {
        let muted = |stream: &mut Rng| {
            let grey = stream.uniform(0.45, 0.95);
            mix(any_colour(stream), [grey; 3], stream.uniform(0.35, 0.85))
        };
        let (first, second) = (muted(stream), muted(stream));
        let angle = stream.uniform(0.0, std::f32::consts::TAU);
        let (sin, cos) = angle.sin_cos();
        let period = stream.uniform(0.2, 0.7);
        let horizon = stream.uniform(0.1, 0.7);
        let kind = stream.below(6);
        let grain = Noise::random(stream);
        let mut canvas = Self::clear(size);
        let position = |index: usize| 2.0 * (index as f32 + 0.5) / size as f32 - 1.0;
        for (index, pixel) in canvas.pixels.iter_mut().enumerate() {
            let (x, y) = (position(index % size), position(index / size));
            let (along, across) = (x * cos + y * sin, y * cos - x * sin);
            let rough = grain.at(x, y) - 0.5;
            let colour = match kind {
                0 => scale(first, 1.0 + 0.1 * rough),
                1 => mix(first, second, (0.5 + 0.4 * along).clamp(0.0, 1.0)),
                2 if y > horizon => scale(second, 1.1 - 0.3 * (1.0 - y) + 0.1 * rough),
                2 => scale(first, 1.0 + 0.12 * y),
                3 => {
                    let board = (along / period).floor();
                    let shade = 0.86 + 0.14 * (board * 12.9898).sin() + 0.25 * rough * (across * 9.0).cos();
                    scale(first, shade)
                }
                4 => {
                    let odd = ((along / period).floor() + (across / period).floor()).rem_euclid(2.0);
                    mix(first, second, 0.6 * odd)
                }
                _ => mix(first, second, (0.5 + 1.6 * rough).clamp(0.0, 1.0)),
            };
            *pixel = [colour[0], colour[1], colour[2], 1.0];
        }
        if stream.unit() < 0.3 {
            canvas.clutter(stream);
        }
        canvas
    }

    /// Other things behind the product.
    fn clutter(&mut self, stream: &mut Rng) {
        let pose = Pose::frame(self.size);
        for _ in 0..3 + stream.below(5) {
            let centre = [0, 1].map(|_| stream.uniform(-1.0, 1.0));
            let reach = stream.uniform(0.12, 0.45);
            let shape = match stream.below(3) {
                0 => Shape::Ellipse { centre, radii: [reach, reach * stream.uniform(0.4, 1.0)] },
                1 => {
                    let corners = [0, 1, 2, 3].map(|_| [0, 1].map(|axis: usize| centre[axis] + stream.uniform(-reach, reach)));
                    Shape::Polygon { points: corners.to_vec(), rounding: 0.05 }
                }
                _ => Shape::Stroke { points: vec![centre, [centre[0] + reach, centre[1] - reach]], radius: reach * 0.3 },
            };
            let paint = Paint { roundness: 0.4, ..Paint::plain(mix(any_colour(stream), [0.6; 3], stream.uniform(0.2, 0.7))) };
            self.draw(&Part { shape, paint }, &pose, [0.0, -1.0]);
        }
    }
}

fn over(pixel: &mut [f32; 4], colour: Colour, coverage: f32) {
    for (value, added) in pixel.iter_mut().zip([colour[0], colour[1], colour[2], 1.0]) {
        *value += (added - *value) * coverage;
    }
}

/// Mean over a square of `2 * radius + 1`, with the border repeated.
fn blurred(plane: &[f32], size: usize, radius: usize) -> Vec<f32> {
    let weight = 1.0 / (2 * radius + 1) as f32;
    let along = |plane: &[f32], stride: usize, line_stride: usize| {
        let mut out = vec![0.0; plane.len()];
        for line in 0..size {
            let at = |position: isize| plane[line * line_stride + position.clamp(0, size as isize - 1) as usize * stride];
            let reach = radius as isize;
            let mut sum: f32 = (-reach..=reach).map(at).sum();
            for position in 0..size as isize {
                out[line * line_stride + position as usize * stride] = sum * weight;
                sum += at(position + reach + 1) - at(position - reach);
            }
        }
        out
    };
    along(&along(plane, 1, size), size, 1)
}

/// Smooth random values in `[0, 1]` over the frame from -1 to 1.
struct Noise {
    lattice: [[f32; Self::CELLS + 1]; Self::CELLS + 1],
}

impl Noise {
    const CELLS: usize = 8;

    fn random(stream: &mut Rng) -> Self {
        Self { lattice: std::array::from_fn(|_| std::array::from_fn(|_| stream.unit())) }
    }

    fn at(&self, x: f32, y: f32) -> f32 {
        let place = |value: f32| {
            let cell = ((value + 1.0) / 2.0 * Self::CELLS as f32).clamp(0.0, Self::CELLS as f32 - 1e-3);
            let part = cell.fract();
            (cell as usize, part * part * (3.0 - 2.0 * part))
        };
        let ((column, right), (row, down)) = (place(x), place(y));
        let line = |row: usize| self.lattice[row][column] + (self.lattice[row][column + 1] - self.lattice[row][column]) * right;
        line(row) + (line(row + 1) - line(row)) * down
    }
}

//! A figure as PNG: shapes become outlines, and outlines cover pixels.
//!
//! There is one operation, filling outlines by the non-zero rule, with [`SAMPLES`] lines a pixel and exact coverage along each. A stroke is
//! the outline of each of its pieces, joined by discs; a letter is the outline in [`super::letters`].

use super::letters::{self, UNITS};
use super::{Anchor, Colour, MARK, Point, Shape};
use image::{ImageFormat, Rgb, RgbImage};
use std::io::Cursor;

/// Lines that each row of pixels is looked at along.
const SAMPLES: usize = 4;
/// Corners of the disc at a joint.
const DISC: usize = 12;
/// How much wider bold letters are drawn, in units of their size.
const BOLD: f64 = 0.05;
/// Bytes of a PNG's signature and of its first chunk, which says the size.
const HEADER: usize = 8 + 25;

pub(super) fn render(shapes: &[Shape], width: f64, height: f64, scale: f64) -> Vec<u8> {
    let size = |length: f64| (length * scale).round() as u32;
    let mut canvas = RgbImage::from_pixel(size(width), size(height), Rgb([255; 3]));
    for shape in shapes {
        let (mut outlines, colour) = outlines(shape);
        outlines.iter_mut().flatten().for_each(|point| *point = (point.0 * scale, point.1 * scale));
        fill(&mut canvas, &outlines, colour);
    }
    let mut bytes = Cursor::new(Vec::new());
    canvas.write_to(&mut bytes, ImageFormat::Png).expect("memory takes an image of 8-bit RGB");
    marked(&bytes.into_inner())
}

/// With the program's name as the text `Software`, behind the header.
fn marked(png: &[u8]) -> Vec<u8> {
    let chunk = format!("tEXtSoftware\0{MARK}");
    let (header, rest) = png.split_at(HEADER);
    let mut checksum = flate2::Crc::new();
    checksum.update(chunk.as_bytes());
    let length = (chunk.len() - b"tEXt".len()) as u32;
    [header, &length.to_be_bytes(), chunk.as_bytes(), &checksum.sum().to_be_bytes(), rest].concat()
}

fn outlines(shape: &Shape) -> (Vec<Vec<Point>>, Colour) {
    match shape {
        Shape::Area { points, colour } => (vec![points.clone()], *colour),
        Shape::Line { points, colour, width, dashes } => {
            let pieces = if dashes.is_empty() { vec![points.clone()] } else { dashed(points, dashes) };
            (pieces.iter().flat_map(|piece| stroke(piece, *width)).collect(), *colour)
        }
        Shape::Text { at, text, size, bold, anchor, colour } => (words(*at, text, *size, *bold, *anchor), *colour),
    }
}

/// The letters of a text.
fn words((x, y): Point, text: &str, size: f64, bold: bool, anchor: Anchor) -> Vec<Vec<Point>> {
    let scale = size / UNITS;
    let length: f64 = text.chars().map(|letter| letters::of(letter).advance * scale).sum();
    let mut pen = match anchor {
        Anchor::Start => 0.0,
        Anchor::Middle | Anchor::Upwards => -length / 2.0,
        Anchor::End => -length,
    };
    let mut outlines = Vec::new();
    for letter in text.chars().map(letters::of) {
        for outline in &letter.outlines {
            let place = |&(right, up): &Point| {
                let (right, up) = (pen + right * scale, up * scale);
                if anchor == Anchor::Upwards { (x - up, y - right) } else { (x + right, y - up) }
            };
            let outline: Vec<Point> = outline.iter().map(place).collect();
            if bold {
                let closed: Vec<Point> = outline.iter().chain(outline.first()).copied().collect();
                outlines.extend(stroke(&closed, BOLD * size));
            }
            outlines.push(outline);
        }
        pen += letter.advance * scale;
    }
    outlines
}

/// The pieces of a line that its dashes leave.
fn dashed(points: &[Point], dashes: &[f64]) -> Vec<Vec<Point>> {
    let (mut pieces, mut piece) = (Vec::new(), points[..1].to_vec());
    let (mut dash, mut left) = (0, dashes[0]);
    for pair in points.windows(2) {
        let ((mut x, mut y), (to_x, to_y)) = (pair[0], pair[1]);
        loop {
            let length = (to_x - x).hypot(to_y - y);
            if length <= left {
                left -= length;
                piece.push((to_x, to_y));
                break;
            }
            (x, y) = (x + (to_x - x) * left / length, y + (to_y - y) * left / length);
            piece.push((x, y));
            let done = std::mem::replace(&mut piece, vec![(x, y)]);
            if dash % 2 == 0 {
                pieces.push(done);
            }
            dash += 1;
            left = dashes[dash % dashes.len()];
        }
    }
    if dash % 2 == 0 {
        pieces.push(piece);
    }
    pieces
}

/// A rectangle for each piece of a line, and a disc at each joint. All wind the same way, so that they add up to one area.
fn stroke(points: &[Point], width: f64) -> Vec<Vec<Point>> {
    let half = width / 2.0;
    let rectangle = |pair: &[Point]| {
        let ((x, y), (to_x, to_y)) = (pair[0], pair[1]);
        let length = (to_x - x).hypot(to_y - y);
        let (across_x, across_y) = (-(to_y - y) / length * half, (to_x - x) / length * half);
        (length > 0.0).then(|| {
            vec![
                (x - across_x, y - across_y),
                (to_x - across_x, to_y - across_y),
                (to_x + across_x, to_y + across_y),
                (x + across_x, y + across_y),
            ]
        })
    };
    let disc = |&(x, y): &Point| {
        let angle = |corner: usize| corner as f64 / DISC as f64 * std::f64::consts::TAU;
        (0..DISC).map(|corner| (x + half * angle(corner).cos(), y + half * angle(corner).sin())).collect()
    };
    let joints = points.get(1..points.len().saturating_sub(1)).unwrap_or_default();
    points.windows(2).filter_map(rectangle).chain(joints.iter().map(disc)).collect()
}

/// Covers what lies inside the outlines.
fn fill(canvas: &mut RgbImage, outlines: &[Vec<Point>], colour: Colour) {
    let edges = || outlines.iter().flat_map(|outline| outline.iter().zip(outline.iter().cycle().skip(1)));
    let ends = |bound: fn(f64, f64) -> f64, start: f64| outlines.iter().flatten().map(|point| point.1).fold(start, bound);
    let first = ends(f64::min, f64::INFINITY).floor().max(0.0) as u32;
    let last = (ends(f64::max, 0.0).ceil().max(0.0) as u32).min(canvas.height());
    let mut coverage = vec![0.0; canvas.width() as usize];
    for row in first..last {
        coverage.fill(0.0);
        for sample in 0..SAMPLES {
            let y = f64::from(row) + (sample as f64 + 0.5) / SAMPLES as f64;
            let crossing = |(&(x, from), &(to_x, to)): (&Point, &Point)| {
                let crosses = (from <= y) != (to <= y);
                crosses.then(|| (x + (to_x - x) * (y - from) / (to - from), if to > from { 1 } else { -1 }))
            };
            let mut crossings: Vec<(f64, i32)> = edges().filter_map(crossing).collect();
            crossings.sort_by(|a, b| a.0.total_cmp(&b.0));
            let mut winding = 0;
            for pair in crossings.windows(2) {
                winding += pair[0].1;
                if winding != 0 {
                    cover(&mut coverage, pair[0].0, pair[1].0);
                }
            }
        }
        for (x, share) in
            coverage.iter().map(|lines| (lines / SAMPLES as f64).min(1.0)).enumerate().filter(|(_, share)| *share > 0.0)
        {
            let pixel = canvas.get_pixel_mut(x as u32, row);
            for (old, new) in pixel.0.iter_mut().zip(colour) {
                *old = (f64::from(*old) * (1.0 - share) + f64::from(new) * share).round() as u8;
            }
        }
    }
}

/// Adds the share of each pixel that lies between two places of a line.
fn cover(coverage: &mut [f64], from: f64, to: f64) {
    let (from, to) = (from.max(0.0), to.min(coverage.len() as f64));
    if from >= to {
        return;
    }
    let first = from as usize;
    for (offset, covered) in coverage[first..to.ceil() as usize].iter_mut().enumerate() {
        let left = (first + offset) as f64;
        *covered += (to.min(left + 1.0) - from.max(left)).max(0.0);
    }
}

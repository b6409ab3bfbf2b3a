//! Which part of an image the network sees, with the geometry of torchvision's `RandomResizedCrop` (training) and of `Resize`
//! followed by `CenterCrop` (tests).

use super::{Crop, Pixels};
use crate::error::{Error, Result};
use crate::rng::Rng;

/// Aspect ratios (width over height) of a random crop.
const RATIO: (f32, f32) = (3.0 / 4.0, 4.0 / 3.0);
/// Random crops tried before the largest centred one is taken.
const TRIES: usize = 10;
/// How much larger than its crop a test image is made.
const RESIZE_PER_CROP: f64 = 256.0 / 224.0;

/// Random crops and flips for training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RandomResizedCrop {
    scale: (f32, f32),
    flip: bool,
    seed: u64,
}

impl RandomResizedCrop {
    /// Crops of a share of the image's area in `scale` (usually 0.2 to 1), mirrored half of the time if `flip`.
    ///
    /// # Errors
    /// [`Error::Config`] unless `0 < scale.0 <= scale.1 <= 1`.
    pub fn new(scale: (f32, f32), flip: bool, seed: u64) -> Result<Self> {
        if !(scale.0 > 0.0 && scale.0 <= scale.1 && scale.1 <= 1.0) {
            return Err(Error::config(format!("crop scale: expected 0 < low <= high <= 1, found {} and {}", scale.0, scale.1)));
        }
        Ok(Self { scale, flip, seed })
    }

    /// The crop of the image at `position` of batch `step`. Different purposes ("query", "key") see independent crops.
    pub fn crop(&self, purpose: &str, step: u64, position: usize, image: Pixels<'_>) -> Crop {
        let mut stream = Rng::new(self.seed).at("view").at(purpose).at(step).at(position);
        let flip = self.flip && stream.unit() < 0.5;
        let (top, left, height, width) = self.part(&mut stream, image.height, image.width);
        let [top, left, height, width] = [top, left, height, width].map(|value| value as f32);
        Crop { top, left, height, width, sees_surroundings: false, flip }
    }

    /// Top, left, height and width in pixels.
    fn part(&self, stream: &mut Rng, height: usize, width: usize) -> (usize, usize, usize, usize) {
        let area = (height * width) as f32;
        for _ in 0..TRIES {
            let target = area * stream.uniform(self.scale.0, self.scale.1);
            let ratio = stream.uniform(RATIO.0.ln(), RATIO.1.ln()).exp();
            let part_width = (target * ratio).sqrt().round_ties_even() as usize;
            let part_height = (target / ratio).sqrt().round_ties_even() as usize;
            if (1..=width).contains(&part_width) && (1..=height).contains(&part_height) {
                let top = stream.below(height - part_height + 1);
                let left = stream.below(width - part_width + 1);
                return (top, left, part_height, part_width);
            }
        }
        centred_part(height, width)
    }
}

/// The largest centred part whose aspect ratio is allowed.
fn centred_part(height: usize, width: usize) -> (usize, usize, usize, usize) {
    let ratio = width as f32 / height as f32;
    let (part_height, part_width) = if ratio < RATIO.0 {
        ((width as f32 / RATIO.0).round_ties_even() as usize, width)
    } else if ratio > RATIO.1 {
        (height, (height as f32 * RATIO.1).round_ties_even() as usize)
    } else {
        (height, width)
    };
    ((height - part_height) / 2, (width - part_width) / 2, part_height, part_width)
}

/// The centre of an image, for tests: its short side resized to `256 / 224` of `size`, then the middle `size x size` of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResizedCenterCrop {
    /// Edge of the network's input, in pixels.
    pub size: usize,
}

impl ResizedCenterCrop {
    /// The crop of an image, in its own pixels.
    pub fn crop(&self, image: Pixels<'_>) -> Crop {
        let short = (self.size as f64 * RESIZE_PER_CROP).round_ties_even() as usize;
        let side = |own: usize, other: usize| if own <= other { short } else { short * own / other };
        let (top, height) = middle(self.size, side(image.height, image.width), image.height);
        let (left, width) = middle(self.size, side(image.width, image.height), image.width);
        Crop { top, left, height, width, sees_surroundings: true, flip: false }
    }
}

/// Start and length, in source pixels, of the middle `size` of `resized` pixels that stand for `source` pixels. The start is rounded
/// to a resized pixel, halves to even, as Python's `round` does.
fn middle(size: usize, resized: usize, source: usize) -> (f32, f32) {
    let start = ((resized - size) as f64 / 2.0).round_ties_even();
    let step = source as f64 / resized as f64;
    ((start * step) as f32, (size as f64 * step) as f32)
}

use crate::device::{Gpu, on_every_schedule, rounding, width};
use crate::support::assert_close;
use xbm_fast::device::cuda::kernel::Format::{self, Bf16, F16, F32};
use xbm_fast::kernel_args::augment::{AugmentImage, AugmentParams, shape};
use xbm_fast::ops::augment::{DEVIATION, MEAN};
use xbm_fast::rng::Rng;

/// Weights and sums in single precision.
const ARITHMETIC: f64 = 2e-6;

/// Weights of the source pixels of one output pixel: Pillow's triangle filter, stretched by the reduction factor.
fn taps(start: f32, length: f32, available: usize, sees_surroundings: bool, size: usize, index: usize) -> Vec<(usize, f64)> {
    let (start, length) = (f64::from(start), f64::from(length));
    let scale = length / size as f64;
    let (support, centre) = (scale.max(1.0), start + (index as f64 + 0.5) * scale);
    let inside = |pixel: usize| sees_surroundings || (pixel + 1) as f64 > start && (pixel as f64) < start + length;
    let weight = |pixel: usize| (1.0 - ((pixel as f64 + 0.5 - centre) / support).abs()).max(0.0);
    let weights: Vec<(usize, f64)> = (0..available).filter(|&p| inside(p)).map(|p| (p, weight(p))).collect();
    let sum: f64 = weights.iter().map(|(_, weight)| weight).sum();
    weights.into_iter().map(|(pixel, weight)| (pixel, weight / sum)).collect()
}

fn reference(pixels: &[u8], image: &AugmentImage, size: usize) -> Vec<f64> {
    let (height, width, surroundings) = (image.height as usize, image.width as usize, image.sees_surroundings == 1);
    let mut output = Vec::new();
    for row in 0..size {
        let down = taps(image.top, image.crop_height, height, surroundings, size, row);
        for column in 0..size {
            let source = if image.flip == 1 { size - 1 - column } else { column };
            let across = taps(image.left, image.crop_width, width, surroundings, size, source);
            for channel in 0..3 {
                let value = |y: usize, x: usize| f64::from(pixels[image.offset as usize + (y * width + x) * 3 + channel]);
                let sum: f64 = down.iter().flat_map(|&(y, wy)| across.iter().map(move |&(x, wx)| wy * wx * value(y, x))).sum();
                output.push((sum / 255.0 - f64::from(MEAN[channel])) / f64::from(DEVIATION[channel]));
            }
        }
    }
    output
}

/// Images of different sizes one after another, each with a crop of its own.
fn images() -> (Vec<u8>, Vec<AugmentImage>) {
    let crops = [
        (20, 31, (0.0, 0.0, 20.0, 31.0), 0, 0),
        (40, 33, (3.25, 5.5, 30.0, 21.75), 0, 1),
        (40, 33, (3.25, 5.5, 30.0, 21.75), 1, 0),
        (5, 4, (1.0, 1.0, 3.0, 2.0), 0, 0),
        (1, 1, (0.0, 0.0, 1.0, 1.0), 1, 1),
        // Far from the start, where a position in single precision is a ten-thousandth of a pixel off.
        (3, 3100, (0.0, 3050.3, 3.0, 20.7), 0, 0),
        (2, 3100, (0.0, 3020.3, 2.0, 60.7), 1, 1),
    ];
    let (mut pixels, mut images) = (Vec::new(), Vec::new());
    let mut rng = Rng::new(5);
    for (height, width, (top, left, crop_height, crop_width), sees_surroundings, flip) in crops {
        let offset = pixels.len() as u64;
        images.push(AugmentImage { offset, height, width, top, left, crop_height, crop_width, sees_surroundings, flip });
        pixels.extend((0..height * width * 3).map(|_| rng.below(256) as u8));
    }
    (pixels, images)
}

fn check(gpu: &Gpu, format: Format, size: usize) {
    let (pixels, images) = images();
    let expected: Vec<f64> = images.iter().flat_map(|image| reference(&pixels, image, size)).collect();
    let (pixel_buffer, image_buffer) = (gpu.upload(&pixels), gpu.upload(bytemuck::cast_slice::<_, u8>(&images)));
    let output = gpu.uninitialised::<u8>(expected.len() * width(format));
    let params = AugmentParams {
        pixels: gpu.address(&pixel_buffer),
        images: gpu.address(&image_buffer),
        output: gpu.address(&output),
        count: images.len() as u32,
        size: size as u32,
    };
    gpu.launch(&gpu.kernel("augment", &format!("augment_{}", format.suffix()), 0), shape(images.len(), size), params);
    assert_close("images", &gpu.decode(&output, format), &expected, ARITHMETIC + rounding(format));
}

#[test]
fn crops_are_filtered_flipped_and_normalised_as_pillow_would_without_rounding() {
    on_every_schedule(|gpu| {
        for format in [F32, F16, Bf16] {
            for size in [1, 8, 24] {
                check(gpu, format, size);
            }
        }
    });
}

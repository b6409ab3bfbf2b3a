//! Augmentation against golden values of torchvision on PIL images (`golden/augment.py`) and against a double-precision reference.


use crate::support::{assert_close, buffer, cpu, on_gpu, values};
use xbm_fast::device::SpanMut;
use xbm_fast::ops::augment::{Augment, Crop, DEVIATION, MEAN, Pixels};
use xbm_fast::rng::Rng;

/// Pillow rounds to 8 bits after each of its two passes.
const LEVELS: f32 = 1.01;
/// A few products of 32-bit numbers.
const ROUNDING: f64 = 2e-6;

const HEIGHT: usize = 37;
const WIDTH: usize = 53;

// Pixels at the upper left, upper right, (size / 2, size / 3), lower left and lower right.
const CROP_SHRUNK: [[u8; 3]; 5] = [[71, 111, 151], [106, 48, 88], [182, 200, 129], [153, 193, 208], [89, 129, 169]];
const CROP_ENLARGED: [[u8; 3]; 5] = [[160, 200, 240], [252, 36, 76], [199, 213, 23], [175, 215, 255], [2, 42, 82]];
const FLIPPED: [[u8; 3]; 5] = [[106, 48, 88], [71, 111, 151], [187, 49, 65], [89, 129, 169], [153, 193, 208]];
const CENTRE: [[u8; 3]; 5] = [[107, 147, 187], [171, 30, 70], [182, 201, 155], [189, 229, 90], [73, 113, 153]];

fn picture() -> Vec<u8> {
    let level = |x: usize, y: usize, c: usize| (x * 5 + y * 3 + c * 40 + 9 * ((x * y) % 7)) as u8;
    (0..HEIGHT * WIDTH * 3).map(|index| level(index / 3 % WIDTH, index / 3 / WIDTH, index % 3)).collect()
}

fn crop(top: f32, left: f32, height: f32, width: f32) -> Crop {
    Crop { top, left, height, width, sees_surroundings: false, flip: false }
}

fn augment<B: Augment>(backend: &B, size: usize, images: &[Pixels<'_>], crops: &[Crop]) -> Vec<f32> {
    let len = images.len() * size * size * 3;
    let mut output = buffer(backend, &vec![f32::NAN; len]);
    backend.augment(size, images, crops, SpanMut::new(&mut output, 0, len)).unwrap();
    values(backend, &output, len)
}

fn agrees_with_torchvision<B: Augment>(backend: &B) {
    let rgb = picture();
    let image = Pixels { rgb: &rgb, height: HEIGHT, width: WIDTH };
    let shrunk = crop(3.0, 6.0, 30.0, 41.0);
    // Resized to 20 x 28, the middle 16 x 16 of which begins at (2, 6).
    let (row, column) = (HEIGHT as f32 / 20.0, WIDTH as f32 / 28.0);
    let centre = Crop { sees_surroundings: true, ..crop(2.0 * row, 6.0 * column, 16.0 * row, 16.0 * column) };
    let cases = [
        ("shrunk", 12, shrunk, CROP_SHRUNK),
        ("enlarged", 24, crop(11.0, 20.0, 9.0, 14.0), CROP_ENLARGED),
        ("flipped", 12, Crop { flip: true, ..shrunk }, FLIPPED),
        ("centre", 16, centre, CENTRE),
    ];
    for (what, size, crop, expected) in cases {
        let found = augment(backend, size, &[image], &[crop]);
        let places = [(0, 0), (0, size - 1), (size / 2, size / 3), (size - 1, 0), (size - 1, size - 1)];
        for ((y, x), expected) in places.into_iter().zip(expected) {
            for channel in 0..3 {
                let level = (found[(y * size + x) * 3 + channel] * DEVIATION[channel] + MEAN[channel]) * 255.0;
                let expected = f32::from(expected[channel]);
                assert!((level - expected).abs() <= LEVELS, "{what} ({y}, {x}) {channel}: found {level}, expected {expected}");
            }
        }
    }
}

/// Weights of all source pixels for output pixel `index` along one axis.
fn weights((start, length): (f32, f32), available: usize, size: usize, surroundings: bool, index: usize) -> Vec<f64> {
    let (start, length) = (f64::from(start), f64::from(length));
    let scale = length / size as f64;
    let centre = start + (index as f64 + 0.5) * scale;
    let (low, high) = if surroundings { (0.0, available as f64) } else { (start.floor(), (start + length).ceil()) };
    let weight = |pixel: usize| {
        let inside = pixel as f64 >= low && (pixel as f64) < high;
        if inside { (1.0 - (pixel as f64 + 0.5 - centre).abs() / scale.max(1.0)).max(0.0) } else { 0.0 }
    };
    let weights: Vec<f64> = (0..available).map(weight).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

fn reference(size: usize, image: &Pixels<'_>, crop: &Crop) -> Vec<f64> {
    let mut output = Vec::new();
    for y in 0..size {
        let rows = weights((crop.top, crop.height), image.height, size, crop.sees_surroundings, y);
        for x in 0..size {
            let x = if crop.flip { size - 1 - x } else { x };
            let columns = weights((crop.left, crop.width), image.width, size, crop.sees_surroundings, x);
            for channel in 0..3 {
                let pixel = |row: usize, column: usize| f64::from(image.rgb[(row * image.width + column) * 3 + channel]) / 255.0;
                let in_row =
                    |row: usize| -> f64 { columns.iter().enumerate().map(|(column, weight)| weight * pixel(row, column)).sum() };
                let value: f64 = rows.iter().enumerate().map(|(row, weight)| weight * in_row(row)).sum();
                output.push((value - f64::from(MEAN[channel])) / f64::from(DEVIATION[channel]));
            }
        }
    }
    output
}

/// Noise of several sizes, with crops of all kinds: whole, tiny, shrunk more than threefold, fractional, mirrored, in a corner.
fn noise() -> Vec<(Vec<u8>, usize, usize, Crop)> {
    let crops = [
        (1, 1, crop(0.0, 0.0, 1.0, 1.0)),
        (7, 90, crop(0.0, 0.0, 7.0, 90.0)),
        (64, 48, Crop { flip: true, ..crop(20.0, 11.0, 3.0, 2.0) }),
        (50, 60, Crop { sees_surroundings: true, ..crop(3.25, 10.5, 40.125, 41.75) }),
        (50, 60, Crop { flip: true, ..crop(3.25, 10.5, 40.125, 49.5) }),
        (50, 60, crop(49.5, 59.75, 0.5, 0.25)),
    ];
    let mut rng = Rng::new(1).at("noise");
    let mut bytes = |len: usize| (0..len).map(|_| rng.below(256) as u8).collect();
    crops.map(|(height, width, crop)| (bytes(height * width * 3), height, width, crop)).into()
}

#[test]
fn crops_are_torchvisions_within_pillows_rounding() {
    agrees_with_torchvision(&cpu(1));
}

#[test]
fn every_pixel_agrees_with_the_reference() {
    let backend = cpu(2);
    // At 30, pixels are made of three and of four source pixels along an axis, at the others of one, two or many.
    for size in [1, 5, 13, 30] {
        for (rgb, height, width, crop) in noise() {
            let image = Pixels { rgb: &rgb, height, width };
            assert_close("pixels", &augment(&backend, size, &[image], &[crop]), &reference(size, &image, &crop), ROUNDING);
        }
    }
}

#[test]
fn a_batch_is_its_images_one_after_the_other_on_any_number_of_threads() {
    let noise = noise();
    let images: Vec<_> = noise.iter().map(|(rgb, height, width, _)| Pixels { rgb, height: *height, width: *width }).collect();
    let crops: Vec<_> = noise.iter().map(|(_, _, _, crop)| *crop).collect();
    let together = augment(&cpu(2), 11, &images, &crops);
    let one = cpu(1);
    let apart: Vec<f32> = images.iter().zip(&crops).flat_map(|(&image, &crop)| augment(&one, 11, &[image], &[crop])).collect();
    assert_eq!(together, apart);
}

#[test]
fn what_does_not_fit_is_refused() {
    let backend = cpu(1);
    let rgb = picture();
    let attempt = |image: Pixels<'_>, crops: &[Crop], len: usize| {
        let mut output = vec![0.0; len];
        backend.augment(4, &[image], crops, SpanMut::all(&mut output)).err().map(|error| error.to_string())
    };
    let image = Pixels { rgb: &rgb, height: HEIGHT, width: WIDTH };
    let good = crop(0.0, 0.0, 37.0, 53.0);
    assert_eq!(attempt(image, &[good], 48), None);
    assert_eq!(attempt(image, &[good, good], 48).unwrap(), "crops, one per image: expected 1 values, found 2 values");
    assert_eq!(attempt(image, &[good], 47).unwrap(), "augmented images: expected 48 values, found 47 values");
    assert_eq!(
        attempt(Pixels { height: 0, ..image }, &[good], 48).unwrap(),
        "image 0: expected at least 1 x 1 pixels, found 0 x 53"
    );
    assert_eq!(
        attempt(Pixels { height: 36, ..image }, &[good], 48).unwrap(),
        "image 0 of 36 x 53 pixels: expected 5724 values, found 5883 values"
    );
    for bad in [crop(1.0, 0.0, 37.0, 53.0), crop(-1.0, 0.0, 5.0, 5.0), crop(0.0, 0.0, 0.0, 5.0), crop(f32::NAN, 0.0, 5.0, 5.0)] {
        let error = attempt(image, &[bad], 48).unwrap();
        assert!(error.starts_with("crop 0: expected a part of 37 x 53 pixels, found "), "{error}");
    }
}

#[test]
fn a_gpu_agrees_with_torchvision() {
    on_gpu(agrees_with_torchvision);
}

//! A batch of decoded photographs to network input, one crop of each.

use crate::gpu::{Gpu, agree};
use crate::measure::Floor;
use criterion::Criterion;
use half::f16;
use xbm_fast::device::{Cpu, SpanMut};
use xbm_fast::kernel_args::augment::{AugmentImage, AugmentParams, shape};
use xbm_fast::ops::augment::{Augment, Crop, Pixels};
use xbm_fast::rng::Rng;

/// Half a unit in the last place of 16 bit, relative to the largest value.
const ROUNDING: f64 = 1e-3;
const CHANNELS: usize = 3;

/// A crop of half the image's area or so, at a place of its own.
fn crop(index: usize, height: usize, width: usize) -> Crop {
    let (height, width) = (height as f32, width as f32);
    let shift = 0.25 * index as f32 % 1.0;
    Crop {
        top: 0.25 * shift * height,
        left: 0.25 * (1.0 - shift) * width,
        height: 0.75 * height,
        width: 0.75 * width,
        sees_surroundings: false,
        flip: index % 2 == 1,
    }
}

pub fn group(criterion: &mut Criterion, gpu: &Gpu) {
    let (count, height, width, size) = if gpu.software { (2, 20, 24, 8) } else { (64, 375, 500, 224) };
    let image_bytes = height * width * CHANNELS;
    let mut rng = Rng::new(1);
    let pixels: Vec<u8> = (0..count * image_bytes).map(|_| rng.below(256) as u8).collect();
    let crops: Vec<Crop> = (0..count).map(|index| crop(index, height, width)).collect();
    let images: Vec<AugmentImage> = crops
        .iter()
        .enumerate()
        .map(|(index, crop)| AugmentImage {
            offset: (index * image_bytes) as u64,
            height: height as u32,
            width: width as u32,
            top: crop.top,
            left: crop.left,
            crop_height: crop.height,
            crop_width: crop.width,
            sees_surroundings: u32::from(crop.sees_surroundings),
            flip: u32::from(crop.flip),
        })
        .collect();
    let len = count * size * size * CHANNELS;
    let (source, parts, output) = (gpu.upload(&pixels), gpu.upload(bytemuck::cast_slice::<_, u8>(&images)), gpu.zeros::<f16>(len));
    let params = AugmentParams {
        pixels: gpu.address(&source),
        images: gpu.address(&parts),
        output: gpu.address(&output),
        count: count as u32,
        size: size as u32,
    };
    let kernel = gpu.kernel("augment", "augment_f16", 0);
    gpu.launch(&kernel, shape(count, size), params);

    let host: Vec<Pixels<'_>> = pixels.chunks(image_bytes).map(|rgb| Pixels { rgb, height, width }).collect();
    let mut expected = vec![0.0; len];
    let cpu = Cpu::new(None).expect("threads start");
    cpu.augment(size, &host, &crops, SpanMut::all(&mut expected)).expect("the crops are inside their images");
    agree("augment", &gpu.download(&output), ROUNDING, |i| f64::from(expected[i]));
    let read: f32 = crops.iter().map(|crop| crop.height * crop.width * CHANNELS as f32).sum();
    let floor = Floor { bytes: f64::from(read) + 2.0 * len as f64, flops: 0.0 };
    gpu.measure(criterion, &format!("augment/{count}x{height}x{width}to{size}"), floor, (&kernel, shape(count, size), params));
}

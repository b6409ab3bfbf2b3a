//! Class-balanced batches and the views of their images.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;
use xbm_fast::app::data::{Image, Sampler, SamplerOptions, Sampling};
use xbm_fast::ops::augment::{Crop, Pixels, RandomResizedCrop, ResizedCenterCrop};

/// Crops are computed in f32 from source sizes of at most a few hundred pixels.
const CROP_TOLERANCE: f32 = 1e-3;

/// Labels of classes with the given numbers of images; the image at position `i` has index `100 + i`.
fn labels(counts: &[usize]) -> (Vec<usize>, Vec<i32>) {
    let labels: Vec<i32> = counts.iter().enumerate().flat_map(|(class, &count)| vec![class as i32; count]).collect();
    ((100..100 + labels.len()).collect(), labels)
}

fn sampler(counts: &[usize], batch_size: usize, samples_per_class: usize, seed: u64) -> xbm_fast::Result<Sampler> {
    let (indices, labels) = labels(counts);
    Sampler::new(&indices, &labels, SamplerOptions { batch_size, samples_per_class, sampling: Sampling::Epochs, seed })
}

proptest! {
    #[test]
    fn batches_are_balanced_and_epochs_visit_every_class(
        counts in prop::collection::vec(1_usize..9, 6..40), samples in 1_usize..5, classes in 1_usize..7, seed in any::<u64>(),
    ) {
        let sampler = sampler(&counts, samples * classes, samples, seed).unwrap();
        let (_, labels) = labels(&counts);
        let epoch = sampler.report().batches_per_epoch as u64;
        for start in [0, 3 * epoch] {
            let mut visited = Vec::new();
            for step in start..start + epoch {
                let batch = sampler.batch(step);
                prop_assert_eq!(&batch, &sampler.batch(step));
                let of_classes: Vec<i32> = batch.chunks(samples).map(|images| labels[images[0] - 100]).collect();
                prop_assert_eq!(of_classes.iter().collect::<HashSet<_>>().len(), classes);
                for (images, class) in batch.chunks(samples).zip(&of_classes) {
                    prop_assert!(images.iter().all(|&index| labels[index - 100] == *class));
                    let distinct = images.iter().collect::<HashSet<_>>().len();
                    prop_assert_eq!(distinct, samples.min(counts[*class as usize]));
                }
                visited.extend(of_classes);
            }
            let first_pass: HashSet<_> = visited[..counts.len()].iter().collect();
            prop_assert_eq!(first_pass.len(), counts.len(), "a class came again before all were visited");
        }
    }

    #[test]
    fn random_crops_lie_in_the_image_and_keep_scale_and_ratio(height in 1_usize..200, width in 1_usize..200, step in any::<u64>()) {
        let image = Image { rgb: Vec::new().into(), height, width };
        let crop = RandomResizedCrop::new((0.2, 1.0), true, 3).unwrap().crop("query", step, 0, image.pixels());
        prop_assert!(crop.top >= 0.0 && crop.left >= 0.0 && crop.height >= 1.0 && crop.width >= 1.0);
        prop_assert!(crop.top + crop.height <= height as f32 && crop.left + crop.width <= width as f32);
        prop_assert!(!crop.sees_surroundings);
        if height.min(width) >= 60 && height.max(width) <= 2 * height.min(width) {
            let share = crop.height * crop.width / (height * width) as f32;
            prop_assert!((0.18..=1.0).contains(&share), "share {share}");
            prop_assert!((0.72..1.38).contains(&(crop.width / crop.height)));
        }
    }
}

#[test]
fn independent_batches_are_balanced_and_visit_classes_at_random() {
    const CLASSES: usize = 12;
    const BATCHES: u64 = 2000;
    let (indices, labels) = labels(&[5; CLASSES]);
    let options = SamplerOptions { batch_size: 9, samples_per_class: 3, sampling: Sampling::Independent, seed: 4 };
    let sampler = Sampler::new(&indices, &labels, options).unwrap();
    let mut visits = [0_u32; CLASSES];
    let mut repeated = 0;
    let mut before = HashSet::new();
    for step in 0..BATCHES {
        let batch = sampler.batch(step);
        assert_eq!(batch, sampler.batch(step));
        assert_eq!(batch.iter().collect::<HashSet<_>>().len(), 9, "an image came twice");
        let classes: HashSet<i32> = batch.chunks(3).map(|images| labels[images[0] - 100]).collect();
        assert_eq!(classes.len(), 3);
        assert!(batch.chunks(3).all(|images| images.iter().all(|&index| labels[index - 100] == labels[images[0] - 100])));
        classes.iter().for_each(|&class| visits[class as usize] += 1);
        repeated += classes.intersection(&before).count();
        before = classes;
    }
    // Binomial(2000, 1/4) has a deviation of 19; a class of this batch was in the last one with probability 1/4.
    assert!(visits.iter().all(|&visits| (400..600).contains(&visits)), "{visits:?}");
    assert!((1300..1700).contains(&repeated), "{repeated}");
}

#[test]
fn images_of_a_class_take_turns() {
    let sampler = sampler(&[8, 8, 8], 6, 2, 0).unwrap();
    let mut seen: HashMap<usize, usize> = HashMap::new();
    // An epoch is one batch; eight images at two per visit take four epochs.
    (40..44).flat_map(|step| sampler.batch(step)).for_each(|index| *seen.entry(index).or_default() += 1);
    assert_eq!(seen.len(), 24);
    assert!(seen.values().all(|&times| times == 1), "{seen:?}");
}

#[test]
fn another_seed_or_epoch_is_another_order() {
    let counts = [4; 30];
    let first = sampler(&counts, 12, 2, 0).unwrap();
    assert_ne!(first.batch(0), sampler(&counts, 12, 2, 1).unwrap().batch(0));
    assert_ne!(first.batch(0), first.batch(first.report().batches_per_epoch as u64));
}

#[test]
fn a_report_counts_classes_too_small_for_the_batch() {
    let report = sampler(&[1, 2, 3, 4, 9], 8, 4, 0).unwrap().report();
    assert_eq!((report.classes, report.images, report.singletons, report.filled), (5, 19, 1, 3));
    assert_eq!(report.batches_per_epoch, 3);
}

#[test]
fn batches_that_cannot_be_filled_are_refused() {
    let message = |batch_size, samples| sampler(&[4; 10], batch_size, samples, 0).unwrap_err().to_string();
    assert!(message(63, 4).contains("the nearest is 64"), "{}", message(63, 4));
    assert!(message(65, 4).contains("found 65; the nearest is 64"), "{}", message(65, 4));
    assert!(message(2, 4).contains("the nearest is 4"), "{}", message(2, 4));
    assert!(message(44, 4).contains("needs 11 classes") && message(44, 4).contains("at most 40"), "{}", message(44, 4));
    assert!(message(0, 4).contains("at least 1"));
    assert!(message(4, 0).contains("at least 1"));
}

#[test]
fn views_differ_by_purpose_step_and_position_and_flip_half_of_the_time() {
    let image = Image { rgb: Vec::new().into(), height: 64, width: 64 };
    let view = RandomResizedCrop::new((0.2, 1.0), true, 0).unwrap();
    let crop = view.crop("query", 5, 2, image.pixels());
    assert_eq!(crop, view.crop("query", 5, 2, image.pixels()));
    for other in
        [view.crop("key", 5, 2, image.pixels()), view.crop("query", 6, 2, image.pixels()), view.crop("query", 5, 3, image.pixels())]
    {
        assert_ne!(crop, other);
    }
    let flips = (0..1000).filter(|&step| view.crop("query", step, 0, image.pixels()).flip).count();
    assert!((400..600).contains(&flips), "{flips}");
    let unflipped = RandomResizedCrop::new((0.2, 1.0), false, 0).unwrap();
    assert!((0..100).all(|step| !unflipped.crop("query", step, 0, image.pixels()).flip));
}

#[test]
fn an_image_too_long_for_any_ratio_is_cropped_in_its_centre() {
    let image = Image { rgb: Vec::new().into(), height: 10, width: 400 };
    let crop = RandomResizedCrop::new((0.9, 1.0), false, 0).unwrap().crop("query", 0, 0, image.pixels());
    let expected = Crop { top: 0.0, left: 193.0, height: 10.0, width: 13.0, sees_surroundings: false, flip: false };
    assert_eq!(crop, expected);
}

#[test]
fn crop_scales_out_of_range_are_refused() {
    for scale in [(0.0, 1.0), (0.5, 0.2), (0.5, 1.1), (f32::NAN, 1.0)] {
        assert!(RandomResizedCrop::new(scale, true, 0).is_err(), "{scale:?}");
    }
}

/// Size, image height and width; then torchvision's resized height and width, and the top and left edge of its centre crop.
const TORCHVISION: [[usize; 7]; 10] = [
    [40, 64, 64, 46, 46, 3, 3],
    [40, 48, 100, 46, 95, 3, 28],
    [40, 333, 500, 46, 69, 3, 14],
    [40, 500, 333, 69, 46, 14, 3],
    [100, 48, 100, 114, 237, 7, 68],
    [100, 333, 500, 114, 171, 7, 36],
    [100, 57, 58, 114, 116, 7, 8],
    [224, 48, 100, 256, 533, 16, 154],
    [224, 500, 333, 384, 256, 80, 16],
    [224, 57, 58, 256, 260, 16, 18],
];

#[test]
fn the_test_view_is_torchvisions_resize_and_centre_crop() {
    for [size, height, width, resized_height, resized_width, top, left] in TORCHVISION {
        let crop = ResizedCenterCrop { size }.crop(Pixels { rgb: &[], height, width });
        let (down, right) = (height as f32 / resized_height as f32, width as f32 / resized_width as f32);
        let expected = [top as f32 * down, left as f32 * right, size as f32 * down, size as f32 * right];
        for (found, expected) in [crop.top, crop.left, crop.height, crop.width].into_iter().zip(expected) {
            assert!((found - expected).abs() < CROP_TOLERANCE, "{size} of {height} x {width}: {crop:?}, expected {expected}");
        }
        assert!(crop.sees_surroundings && !crop.flip);
    }
}

//! Batches: how many images of how many classes, which come again, and that everything random follows the seed.

use std::collections::{HashMap, HashSet};
use xbm_fast::app::data::{Image, Sampler, SamplerOptions, Sampling};
use xbm_fast::ops::augment::RandomResizedCrop;

/// Classes of these numbers of images; labels by image.
fn labels(counts: &[usize]) -> Vec<i32> {
    counts.iter().enumerate().flat_map(|(class, &count)| vec![class as i32; count]).collect()
}

fn sampler(counts: &[usize], batch_size: usize, samples_per_class: usize) -> xbm_fast::Result<Sampler> {
    let labels = labels(counts);
    let images: Vec<usize> = (0..labels.len()).collect();
    Sampler::new(&images, &labels, SamplerOptions { batch_size, samples_per_class, sampling: Sampling::Epochs, seed: 3 })
}

/// The batches of an epoch.
fn epoch(sampler: &Sampler, number: u64) -> Vec<Vec<usize>> {
    let length = sampler.report().batches_per_epoch as u64;
    (number * length..(number + 1) * length).map(|step| sampler.batch(step)).collect()
}

// github.com/KevinMusgrave/pytorch-metric-learning/issues/124: a batch did not always hold m images of each of its classes.
#[test]
fn every_batch_holds_the_same_number_of_images_of_each_of_its_classes() {
    let counts = [3, 5, 8, 4, 6, 7, 3];
    let (sampler, labels) = (sampler(&counts, 12, 3).unwrap(), labels(&counts));
    for batch in (0..4).flat_map(|number| epoch(&sampler, number)) {
        let mut images_of: HashMap<i32, HashSet<usize>> = HashMap::new();
        batch.iter().for_each(|&image| _ = images_of.entry(labels[image]).or_default().insert(image));
        assert_eq!(images_of.len(), 4);
        assert!(images_of.values().all(|images| images.len() == 3), "{images_of:?}");
    }
}

// github.com/KevinMusgrave/pytorch-metric-learning/issues/684: epochs left out classes, and training some of the images.
#[test]
fn an_epoch_visits_every_class_and_a_few_epochs_every_image() {
    let counts = [6; 20];
    let (sampler, labels) = (sampler(&counts, 8, 2).unwrap(), labels(&counts));
    let first: HashSet<i32> = epoch(&sampler, 0).concat().into_iter().map(|image| labels[image]).collect();
    assert_eq!(first.len(), 20);
    // Six images at two a visit.
    let seen: HashSet<usize> = (0..3).flat_map(|number| epoch(&sampler, number).concat()).collect();
    assert_eq!(seen.len(), 120);
}

// github.com/KevinMusgrave/pytorch-metric-learning/issues/725: a class came in consecutive batches while others waited.
#[test]
fn no_class_comes_again_before_the_others_have_come() {
    let counts = [2; 12];
    let (sampler, labels) = (sampler(&counts, 8, 2).unwrap(), labels(&counts));
    for number in 0..5 {
        let visits: Vec<i32> = epoch(&sampler, number)
            .iter()
            .flat_map(|batch| batch.chunks(2).map(|images| labels[images[0]]).collect::<Vec<_>>())
            .collect();
        assert_eq!(visits.iter().collect::<HashSet<_>>().len(), visits.len(), "{visits:?}");
    }
}

// github.com/KevinMusgrave/pytorch-metric-learning/issues/258: sizes of batches that do not fit the images of a class were taken.
#[test]
fn a_batch_that_is_no_multiple_of_the_images_of_a_class_is_refused_with_the_next_that_is() {
    let message = sampler(&[9; 20], 30, 4).unwrap_err().to_string();
    assert!(message.contains("28") || message.contains("32"), "no size that would do in: {message}");
}

// github.com/POSTECH-CVLab/PyTorch-StudioGAN/issues/43: more classes were asked for than there are.
#[test]
fn a_batch_of_more_classes_than_there_are_is_refused_with_the_largest_that_fits() {
    let message = sampler(&[9; 14], 64, 4).unwrap_err().to_string();
    assert!(message.contains("14") && message.contains("56"), "{message}");
}

// github.com/OML-Team/open-metric-learning/issues/370: what becomes of a class with fewer images than a batch takes.
// github.com/sicara/easy-few-shot-learning/issues/68: a sample larger than its population ended the epoch.
#[test]
fn a_class_with_too_few_images_is_filled_up_and_counted() {
    let counts = [1, 2, 4, 9];
    let (sampler, labels) = (sampler(&counts, 16, 4).unwrap(), labels(&counts));
    for batch in (0..3).flat_map(|number| epoch(&sampler, number)) {
        for images in batch.chunks(4) {
            let class = labels[images[0]] as usize;
            assert_eq!(images.iter().collect::<HashSet<_>>().len(), counts[class].min(4));
        }
    }
    let report = sampler.report();
    assert_eq!((report.singletons, report.filled), (1, 2));
}

// github.com/KevinMusgrave/powerful-benchmarker/issues/79: one image of each class in a batch ended the program.
#[test]
fn one_image_of_each_class_is_a_batch() {
    let sampler = sampler(&[3; 6], 6, 1).unwrap();
    let labels = labels(&[3; 6]);
    for batch in epoch(&sampler, 0) {
        assert_eq!(batch.iter().map(|&image| labels[image]).collect::<HashSet<_>>().len(), 6);
    }
}

// github.com/KevinMusgrave/pytorch-metric-learning/issues/28: the length that a sampler states was not that of a pass.
#[test]
fn an_epoch_has_as_many_batches_as_it_takes_to_visit_every_class_once() {
    for (classes, expected) in [(12, 3), (13, 4), (4, 1)] {
        assert_eq!(sampler(&vec![5; classes], 8, 2).unwrap().report().batches_per_epoch, expected, "{classes} classes");
    }
}

// github.com/KevinMusgrave/pytorch-metric-learning/issues/237: thousands of labels with few images each.
#[test]
fn thousands_of_small_classes_are_sampled_like_few() {
    let counts = vec![2; 5000];
    let sampler = sampler(&counts, 100, 2).unwrap();
    let images = epoch(&sampler, 0).concat();
    assert_eq!((images.len(), images.iter().collect::<HashSet<_>>().len()), (10_000, 10_000));
}

// github.com/pytorch/pytorch/issues/5059: every worker drew the same random numbers, epoch after epoch.
// github.com/ultralytics/ultralytics/pull/25815: the seed of a run did not reach the augmentation.
#[test]
fn crops_differ_by_seed_step_and_place_and_are_the_same_again() {
    let image = Image { rgb: Vec::new().into(), height: 90, width: 120 };
    let crops = |seed: u64| -> Vec<String> {
        let view = RandomResizedCrop::new((0.2, 1.0), true, seed).unwrap();
        let at = |step, place| format!("{:?}", view.crop("query", step, place, image.pixels()));
        (0..10).flat_map(|step| (0..10).map(move |place| (step, place))).map(|(step, place)| at(step, place)).collect()
    };
    assert_eq!(crops(1), crops(1));
    let different: HashSet<String> = crops(1).into_iter().chain(crops(2)).collect();
    assert_eq!(different.len(), 200);
}

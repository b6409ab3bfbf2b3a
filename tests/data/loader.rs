//! Batches prepared ahead of the loop: in order, the same for any number of threads, and honest about files that cannot be read.

use std::fs;
use std::sync::Arc;

use tempfile::TempDir;
use xbm_fast::app::data::{
    Batch, Dataset, EvaluationBatches, Loader, LoaderOptions, OpenOptions, Sampler, SamplerOptions, Sampling, Split,
};

const SAMPLES_PER_CLASS: usize = 4;
const BATCH_SIZE: usize = 16;

fn options(threads: usize) -> LoaderOptions {
    LoaderOptions { threads, ahead: 3, cache_bytes: 1 << 20, ..Default::default() }
}

fn drawn() -> Arc<Dataset> {
    Arc::new(Dataset::open("synthetic:classes=16,views=5,size=16", &OpenOptions::default()).unwrap())
}

fn loader(dataset: &Arc<Dataset>, start: u64, options: &LoaderOptions) -> Loader {
    let train = dataset.indices(Split::Train);
    let sampler = Sampler::new(
        &train,
        &dataset.labels(&train),
        SamplerOptions { batch_size: BATCH_SIZE, samples_per_class: SAMPLES_PER_CLASS, sampling: Sampling::Epochs, seed: 9 },
    )
    .unwrap();
    Loader::new(dataset.clone(), sampler, start, options).unwrap()
}

fn contents(batch: Batch) -> (u64, Vec<i32>, Vec<i32>, Vec<Vec<u8>>) {
    (batch.step, batch.labels, batch.ids, batch.images.iter().map(|image| image.rgb.to_vec()).collect())
}

/// Twenty classes of six images, all trained on, of which the images at `broken` (in the order of the data set) are no images.
fn folder(broken: &[usize]) -> (TempDir, Arc<Dataset>) {
    let root = tempfile::tempdir().unwrap();
    for index in 0..120 {
        let class = root.path().join(format!("{:02}", index / 6));
        fs::create_dir_all(&class).unwrap();
        let path = class.join(format!("{}.png", index % 6));
        image::RgbImage::from_pixel(4, 4, image::Rgb([index as u8; 3])).save(&path).unwrap();
        if broken.contains(&index) {
            fs::write(&path, "no image").unwrap();
        }
    }
    let options = OpenOptions { holdout: 0.0, ..Default::default() };
    let dataset = Dataset::open(&format!("folder:{}", root.path().display()), &options).unwrap();
    (root, Arc::new(dataset))
}

#[test]
fn batches_do_not_depend_on_threads_lead_or_cache() {
    let dataset = drawn();
    let run = |options: &LoaderOptions| {
        let mut loader = loader(&dataset, 0, options);
        (0..12).map(|_| contents(loader.next().unwrap())).collect::<Vec<_>>()
    };
    let expected = run(&options(1));
    for (step, (number, labels, ids, _)) in expected.iter().enumerate() {
        assert_eq!(*number, step as u64);
        assert_eq!(ids.len(), BATCH_SIZE);
        let own: Vec<i32> = ids.iter().map(|&id| dataset.images[id as usize].label).collect();
        assert_eq!(*labels, own);
    }
    assert_eq!(expected[0].3[0], dataset.decode(expected[0].2[0] as usize).unwrap().rgb.to_vec());
    assert_eq!(expected, run(&options(3)));
    assert_eq!(expected, run(&LoaderOptions { threads: 2, ahead: 1, cache_bytes: 0, ..Default::default() }));
    assert_eq!(expected, run(&LoaderOptions { threads: 2, ahead: 9, cache_bytes: 2000, ..Default::default() }));
}

#[test]
fn a_resumed_loader_goes_on_with_the_same_batches() {
    let dataset = drawn();
    let mut whole = loader(&dataset, 0, &options(2));
    let whole: Vec<_> = (0..10).map(|_| contents(whole.next().unwrap())).collect();
    let mut resumed = loader(&dataset, 6, &options(2));
    for expected in &whole[6..] {
        assert_eq!(*expected, contents(resumed.next().unwrap()));
    }
}

#[test]
fn images_are_decoded_once_while_the_cache_has_room() {
    let dataset = drawn();
    let mut kept = loader(&dataset, 0, &options(1));
    let mut dropped = loader(&dataset, 0, &LoaderOptions { cache_bytes: 0, ..options(1) });
    let mut first: std::collections::HashMap<i32, Arc<_>> = Default::default();
    let (mut repeats, mut copies) = (0, 0);
    for _ in 0..8 {
        let batch = kept.next().unwrap();
        for (id, image) in batch.ids.into_iter().zip(batch.images) {
            let earlier = first.entry(id).or_insert_with(|| image.clone());
            assert!(Arc::ptr_eq(earlier, &image), "image {id} was decoded twice");
            repeats += usize::from(Arc::strong_count(earlier) > 2);
        }
        copies += dropped.next().unwrap().images.iter().filter(|image| Arc::strong_count(image) == 1).count();
    }
    assert!(repeats > 0 && copies == 8 * BATCH_SIZE, "{repeats} repeats, {copies} copies");
}

#[test]
fn an_unreadable_image_is_replaced_by_another_of_its_class_and_listed() {
    let (_root, dataset) = folder(&[7, 8, 60]);
    let run = |start, options: &LoaderOptions| {
        let mut loader = loader(&dataset, start, options);
        let batches: Vec<_> = (start..20).map(|_| contents(loader.next().unwrap())).collect();
        (batches, loader.unreadable())
    };
    let (batches, unreadable) = run(0, &options(1));
    assert_eq!(unreadable.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [7, 8, 60]);
    assert!(unreadable[0].1.contains("01/1.png") && unreadable[0].1.contains("expected an image"), "{}", unreadable[0].1);
    for (_, labels, ids, images) in &batches {
        for (class, group) in labels.chunks(SAMPLES_PER_CLASS).zip(ids.chunks(SAMPLES_PER_CLASS)) {
            assert!(class.iter().all(|label| label == &class[0]), "{class:?}");
            assert!(group.iter().all(|id| ![7, 8, 60].contains(id)));
        }
        assert!(ids.iter().zip(images).all(|(&id, rgb)| rgb[0] == id as u8), "an id does not belong to its pixels");
    }
    assert_eq!(batches, run(0, &options(3)).0);
    assert_eq!(batches[13..], run(13, &options(2)).0);
}

#[test]
fn a_class_that_cannot_be_read_is_replaced_by_its_neighbour() {
    let (_root, dataset) = folder(&[12, 13, 14, 15, 16, 17]);
    let mut loader = loader(&dataset, 0, &options(2));
    for _ in 0..20 {
        let batch = loader.next().unwrap();
        assert!(batch.labels.iter().all(|&label| label != 2));
        assert_eq!(batch.ids.len(), BATCH_SIZE);
    }
    assert_eq!(loader.unreadable().len(), 6);
}

#[test]
fn too_many_unreadable_images_end_the_training() {
    let broken: Vec<usize> = (0..120).step_by(10).collect();
    let (_root, dataset) = folder(&broken);
    let mut loader = loader(&dataset, 0, &options(2));
    let error = (0..100).find_map(|_| loader.next().err()).expect("training went on").to_string();
    assert!(error.contains("of 120 training images cannot be read, more than the 5.0 %") && error.contains(".png"), "{error}");
    assert!(loader.next().is_err());
}

#[test]
fn a_dropped_loader_does_not_hang() {
    let dataset = drawn();
    drop(loader(&dataset, 0, &options(3)));
    let mut used = loader(&dataset, 0, &options(3));
    used.next().unwrap();
    drop(used);
    assert_eq!(Arc::strong_count(&dataset), 1, "a thread still holds the data set");
}

#[test]
fn evaluation_sees_every_image_once_in_order() {
    let dataset = drawn();
    let test = dataset.indices(Split::Test);
    for threads in [1, 3] {
        let batches = EvaluationBatches::new(dataset.clone(), test.clone(), 7, &options(threads)).unwrap();
        let batches: Vec<Batch> = batches.map(Result::unwrap).collect();
        assert_eq!(batches.iter().map(|batch| batch.ids.len()).collect::<Vec<_>>(), [7, 7, 7, 7, 7, 5]);
        let ids: Vec<usize> = batches.iter().flat_map(|batch| &batch.ids).map(|&id| id as usize).collect();
        assert_eq!(ids, test);
    }
    assert!(EvaluationBatches::new(dataset, test, 0, &options(1)).is_err());
}

#[test]
fn evaluation_leaves_out_what_cannot_be_read() {
    let (_root, dataset) = folder(&[1, 50]);
    let mut batches = EvaluationBatches::new(dataset, (0..60).collect(), 20, &options(2)).unwrap();
    let sizes: Vec<usize> = batches.by_ref().map(|batch| batch.unwrap().images.len()).collect();
    assert_eq!(sizes, [19, 20, 19]);
    assert_eq!(batches.unreadable().len(), 2);
}

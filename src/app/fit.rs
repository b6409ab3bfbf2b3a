//! Settings that follow from the images: what nobody gave is chosen by what is there.
//!
//! Each rule is a function of counts; `docs/defaults.md` has them as a table, with their reasons. The built-in products keep the defaults
//! that `train --help` shows, and so does a recipe.

use crate::app::config::TrainConfig;
use crate::app::data::survey::{Sides, SplitSurvey};
use crate::words::counted;

/// The inputs are whole multiples of this: a ResNet halves them five times.
const SIDE_STEP: usize = 32;
/// Largest input that is chosen for a network from random weights: detail beyond costs more than it gives at first.
const LARGEST_SIDE: usize = 128;
/// The same from published weights: what those were trained on.
const LARGEST_PRETRAINED_SIDE: usize = 224;
/// Images of a batch where the classes allow it.
const BATCH: usize = 64;
/// Images of a class in a batch, at least and at most, where a batch has room for many classes.
const SAMPLES: [usize; 2] = [2, 4];
/// How often each image is seen.
const EPOCHS: u64 = 30;
/// Steps that are chosen, at least and at most.
const STEPS: [u64; 2] = [300, 20_000];
/// Rows of a memory, at most: 32 MB of 128 numbers.
const LARGEST_MEMORY: usize = 65_536;
/// Latest start of a memory.
const LATEST_START: u64 = 1000;
/// Steps between evaluations, at least.
const LEAST_INTERVAL: u64 = 50;
/// Training classes from which a share of them validates, and that share: the more there are, the less it takes.
const VALIDATION: [(usize, f32); 2] = [(100, 0.1), (20, 0.2)];

/// What the training images are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Images to train on.
    pub images: usize,
    /// Classes of them.
    pub classes: usize,
    /// Images of the class in the middle.
    pub median: usize,
    /// How large they are, if any could be read.
    pub sides: Option<Sides>,
}

impl Found {
    /// Of the training images of a data set.
    pub fn new(training: &SplitSurvey, sides: Option<Sides>) -> Self {
        Self { images: training.images, classes: training.classes, median: training.median, sides }
    }

    /// What was seen, in one line.
    pub fn words(&self) -> String {
        let size = match self.sides {
            Some(Sides { median, looked_at }) => {
                format!("{median} pixels on the shorter side (the middle of {looked_at} looked at)")
            }
            None => "of unknown size".to_owned(),
        };
        format!(
            "{} of {} to train on, {} in the middle class, {size}",
            counted(self.images, "image"),
            counted(self.classes, "class"),
            counted(self.median, "image")
        )
    }
}

/// A setting that was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Its flag.
    pub flag: String,
    /// Its value as it is typed.
    pub value: String,
    /// Why.
    pub why: String,
}

impl Choice {
    fn new(key: &str, value: impl ToString, why: String) -> Self {
        Self { flag: format!("--{}", key.replace('_', "-")), value: value.to_string(), why }
    }
}

impl std::fmt::Display for Choice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: {}", self.flag, self.value, self.why)
    }
}

/// Share of `classes` training classes that choose the best checkpoint; 0 where there are too few to spare any.
pub fn validation(classes: usize) -> f32 {
    VALIDATION.iter().find(|(least, _)| classes >= *least).map_or(0.0, |(_, share)| *share)
}

/// Side of the network's input: the largest multiple of 32 within 7/8 of the pictures' shorter side, which is what a centre crop keeps of it.
pub fn image_size(shorter_side: usize, is_pretrained: bool) -> usize {
    let largest = if is_pretrained { LARGEST_PRETRAINED_SIDE } else { LARGEST_SIDE };
    (shorter_side.saturating_mul(7) / 8 / SIDE_STEP * SIDE_STEP).clamp(SIDE_STEP, largest)
}

/// Images of each class in a batch: as many as most classes have, 2 to 4; more where there are so few classes that the batch has room.
pub fn samples_per_class(classes: usize, median: usize) -> usize {
    let [least, most] = SAMPLES;
    let samples = median.clamp(least, most);
    let room = BATCH / classes.clamp(1, BATCH / samples);
    median.clamp(least, room.max(samples))
}

/// Images of a batch: 64, or as many as there are classes for.
pub fn batch_size(classes: usize, samples_per_class: usize) -> usize {
    classes.clamp(1, (BATCH / samples_per_class).max(1)) * samples_per_class
}

/// Steps in which `images` images are drawn `epochs` times.
pub fn steps_of(epochs: u64, images: usize, batch: usize) -> u64 {
    epochs.saturating_mul(images as u64).div_ceil(batch.max(1) as u64).max(1)
}

/// Steps of the run: each image 30 times, within 300 to 20,000.
pub fn steps(images: usize, batch: usize) -> u64 {
    let [least, most] = STEPS;
    steps_of(EPOCHS, images, batch).clamp(least, most)
}

/// Rows of the memory: one for each training image, in whole batches, so that several processes can share it.
pub fn memory_size(images: usize, batch: usize) -> usize {
    let batch = batch.max(1);
    (images.min(LARGEST_MEMORY) / batch).max(1) * batch
}

/// First step with the memory: after a quarter of the run, when embeddings move less, and after 1,000 steps at most.
pub fn memory_start(steps: u64) -> u64 {
    (steps / 4).min(LATEST_START)
}

/// Steps between evaluations: ten in a run, and no closer than 50.
pub fn eval_every(steps: u64) -> u64 {
    steps.div_ceil(10).max(LEAST_INTERVAL)
}

/// Chooses the share of the training classes that validate, where nobody did.
pub fn choose_validation(classes: usize, config: &mut TrainConfig, given: &toml::Table) -> Option<Choice> {
    let share = validation(classes);
    if given.contains_key("validation") || share == 0.0 {
        return None;
    }
    config.data.validation = share;
    let why = format!("of {}, to choose the best checkpoint by", counted(classes, "training class"));
    Some(Choice::new("validation", share, why))
}

/// Counts the run in steps, and chooses what is not among the settings that were `given`: nothing where those are not known.
pub fn choose(found: &Found, config: &mut TrainConfig, given: Option<&toml::Table>) -> Vec<Choice> {
    let is_free = |key: &str| given.is_some_and(|given| !given.contains_key(key));
    let mut choices = Vec::new();
    let mut chosen = |key: &str, value: u64, why: String| choices.push(Choice::new(key, value, why));
    let TrainConfig { data, train, sampling, record, .. } = config;
    if let (true, Some(sides)) = (is_free("image_size"), found.sides) {
        let is_pretrained = !data.pretrained.as_os_str().is_empty();
        train.model.image_size = image_size(sides.median as usize, is_pretrained);
        let from = if is_pretrained { "published weights" } else { "random weights" };
        chosen("image_size", train.model.image_size as u64, format!("for pictures of {} pixels, from {from}", sides.median));
    }
    // A batch that was given is divided as ever.
    if is_free("batch_size") {
        if is_free("samples_per_class") {
            sampling.samples_per_class = samples_per_class(found.classes, found.median);
            let why = format!("the middle class has {}", counted(found.median, "image"));
            chosen("samples_per_class", sampling.samples_per_class as u64, why);
        }
        train.batch.size = batch_size(found.classes, sampling.samples_per_class);
        let classes = train.batch.size / sampling.samples_per_class;
        chosen("batch_size", train.batch.size as u64, format!("{} of each of {classes} classes", sampling.samples_per_class));
    }
    let batch = train.batch.size;
    if sampling.epochs > 0 {
        train.batch.steps = steps_of(sampling.epochs, found.images, batch);
        let why = format!("{} of {}", counted(sampling.epochs as usize, "epoch"), counted(found.images, "image"));
        chosen("steps", train.batch.steps, why);
        sampling.epochs = 0;
    } else if is_free("steps") {
        train.batch.steps = steps(found.images, batch);
        let times = train.batch.steps as f64 * batch as f64 / found.images.max(1) as f64;
        chosen("steps", train.batch.steps, format!("every image about {times:.0} times"));
    }
    let steps = train.batch.steps;
    if is_free("memory_size") && train.memory.is_ring() {
        train.memory.size = memory_size(found.images, batch);
        chosen(
            "memory_size",
            train.memory.size as u64,
            "a row for each training image, in whole batches and within limits".to_owned(),
        );
    }
    if is_free("memory_start") && train.memory.filling().is_some() {
        train.memory.start = memory_start(steps);
        chosen("memory_start", train.memory.start, "after a quarter of the steps, or 1000".to_owned());
    }
    if is_free("eval_every") {
        record.eval_every = eval_every(steps);
        chosen("eval_every", record.eval_every, "ten times in a run, at least 50 steps apart".to_owned());
    }
    choices
}

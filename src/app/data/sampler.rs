//! Which images form a batch: `samples_per_class` images of each of `batch_size / samples_per_class` classes.
//!
//! A batch is a pure function of seed and step, so a resumed run needs no state of the sampler. A class with fewer than
//! `samples_per_class` images is filled by repetition: positions of the batch then share an instance id, and the loss does not count
//! them as positives. Classes come in one of two orders ([`Sampling`]); with a memory the order decides how old an anchor's positives
//! in it are.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::error::{Error, Result};
use crate::rng::Rng;
use crate::settings::choice;
use crate::words::counted;

choice! {
    /// The order in which classes are drawn.
    pub enum Sampling {
        /// By epochs: an epoch is a fresh permutation of the classes, so that every class is visited once before any is visited again; its
        /// last batch is filled from the permutation's start. The images of a class take turns in the same way, over visits. The youngest
        /// positives that a memory holds of an anchor, its own batch left out, are about an epoch old.
        Epochs = "epochs",
        /// Independently for each batch, as pytorch-metric-learning's `MPerClassSampler` does: some positives in the memory are young.
        Independent = "independent",
    }
}

/// What a batch is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SamplerOptions {
    /// Images of a batch.
    pub batch_size: usize,
    /// Images of each class in it.
    pub samples_per_class: usize,
    /// The order of the classes.
    pub sampling: Sampling,
    /// Seed of the order.
    pub seed: u64,
}

/// Draws class-balanced batches.
#[derive(Clone, Debug)]
pub struct Sampler {
    /// Image indices of each class.
    classes: Vec<Vec<usize>>,
    classes_per_batch: usize,
    options: SamplerOptions,
    /// Which images of a batch are asked for.
    part: Range<usize>,
}

/// What a sampler found in the labels that its user may want to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SamplerReport {
    /// Classes to draw from.
    pub classes: usize,
    /// Images to draw from.
    pub images: usize,
    /// Batches that hold as many classes as there are: until every class was visited, if they are visited by epochs.
    pub batches_per_epoch: usize,
    /// Classes of one image: they have no positive, and only push others away.
    pub singletons: usize,
    /// Classes with fewer images than samples per class (singletons among them), filled by repetition.
    pub filled: usize,
}

impl Sampler {
    /// A sampler over the images `indices[i]` with class `labels[i]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the lists differ in length; [`Error::Config`] if the batch size is no multiple of the samples per class,
    /// or if there are fewer classes than a batch needs.
    pub fn new(indices: &[usize], labels: &[i32], options: SamplerOptions) -> Result<Self> {
        let SamplerOptions { batch_size, samples_per_class, .. } = options;
        crate::error::expect_len("labels of the sampler", indices.len(), labels.len())?;
        let classes_per_batch = classes_per_batch(batch_size, samples_per_class)?;
        let mut by_label: BTreeMap<i32, Vec<usize>> = BTreeMap::new();
        for (&index, &label) in indices.iter().zip(labels) {
            by_label.entry(label).or_default().push(index);
        }
        if by_label.len() < classes_per_batch {
            let needed = format!(
                "a batch of {batch_size} with {} per class needs {}",
                counted(samples_per_class, "image"),
                counted(classes_per_batch, "class")
            );
            let found = counted(by_label.len(), "class");
            let advice = fewer(by_label.len(), batch_size, samples_per_class);
            return Err(Error::config(format!("{needed} to train on, found {found}; {advice}")));
        }
        Ok(Self { classes: by_label.into_values().collect(), classes_per_batch, options, part: 0..options.batch_size })
    }

    /// The images of batch `step`, as the indices given to [`Sampler::new`]; the images of a class are neighbours.
    pub fn batch(&self, step: u64) -> Vec<usize> {
        let mut images = match self.options.sampling {
            Sampling::Epochs => self.batch_of_epoch(step),
            Sampling::Independent => self.independent_batch(step),
        };
        images.truncate(self.part.end);
        images.drain(..self.part.start);
        images
    }

    /// The same for a rank that embeds a part of every batch.
    #[must_use]
    pub fn for_part(self, part: Range<usize>) -> Self {
        Self { part, ..self }
    }

    fn independent_batch(&self, step: u64) -> Vec<usize> {
        let root = Rng::new(self.options.seed).at("sampler").at("batch").at(step);
        let mut order = permutation(self.classes.len(), root.at("classes"));
        order.truncate(self.classes_per_batch);
        order.into_iter().flat_map(|class| self.visit(class, 0, root.at("images").at(class))).collect()
    }

    fn batch_of_epoch(&self, step: u64) -> Vec<usize> {
        let epoch_length = self.batches_per_epoch() as u64;
        let (epoch, batch) = (step / epoch_length, (step % epoch_length) as usize);
        let root = Rng::new(self.options.seed).at("sampler");
        let order = permutation(self.classes.len(), root.at("classes").at(epoch));
        let mut images = Vec::with_capacity(self.options.batch_size);
        for slot in 0..self.classes_per_batch {
            let turn = batch * self.classes_per_batch + slot;
            let class = order[turn % order.len()];
            // A class that fills the last batch is visited out of turn: its regular turns must not skip images for it.
            let purpose = if turn < order.len() { "images" } else { "images of a fill" };
            images.extend(self.visit(class, epoch, root.at(purpose).at(class)));
        }
        images
    }

    /// Counts of the classes and images drawn from.
    pub fn report(&self) -> SamplerReport {
        let smaller_than = |images: usize| self.classes.iter().filter(|class| class.len() < images).count();
        SamplerReport {
            classes: self.classes.len(),
            images: self.classes.iter().map(Vec::len).sum(),
            batches_per_epoch: self.batches_per_epoch(),
            singletons: smaller_than(2),
            filled: smaller_than(self.options.samples_per_class),
        }
    }

    /// Every image drawn from, class by class.
    pub fn images(&self) -> impl Iterator<Item = usize> {
        self.classes.iter().flatten().copied()
    }

    /// The images of one visit. A round of visits shows every image of the class; the round's last visit is filled from its start.
    fn visit(&self, class: usize, visit: u64, stream: Rng) -> impl Iterator<Item = usize> {
        let images = &self.classes[class];
        let samples = self.options.samples_per_class;
        let visits_per_round = images.len().div_ceil(samples) as u64;
        let (round, turn) = (visit / visits_per_round, (visit % visits_per_round) as usize);
        let order = permutation(images.len(), stream.at(round));
        (0..samples).map(move |sample| images[order[(turn * samples + sample) % order.len()]])
    }

    fn batches_per_epoch(&self) -> usize {
        self.classes.len().div_ceil(self.classes_per_batch)
    }
}

/// Says, if it is so, that `classes` have too few images to fill their part of a batch.
pub fn repetition(classes: usize, samples_per_class: usize) -> Option<String> {
    let (these, have) = if classes == 1 { ("class", "has") } else { ("classes", "have") };
    let repeated = "a batch repeats their images, which are no positives of themselves";
    (classes > 0).then(|| {
        format!("{classes} {these} to train on {have} fewer than {samples_per_class} images (--samples-per-class): {repeated}")
    })
}

/// What draws batches from no more than `classes` classes.
fn fewer(classes: usize, batch_size: usize, samples_per_class: usize) -> String {
    if classes == 0 {
        return "the data needs images of the split `train`".to_owned();
    }
    let fits = |samples: &usize| batch_size.is_multiple_of(*samples) && batch_size / samples <= classes;
    let samples = (samples_per_class..=batch_size).find(fits).unwrap_or(batch_size);
    let largest = classes * samples_per_class;
    format!("give it a --batch-size of at most {largest}, or --samples-per-class {samples}")
}

fn classes_per_batch(batch_size: usize, samples_per_class: usize) -> Result<usize> {
    if samples_per_class == 0 || batch_size == 0 {
        return Err(Error::config(format!(
            "expected a batch size and samples per class of at least 1, found {batch_size} and {samples_per_class}"
        )));
    }
    if !batch_size.is_multiple_of(samples_per_class) {
        let below = batch_size / samples_per_class * samples_per_class;
        let nearest = if below == 0 || batch_size - below > samples_per_class / 2 { below + samples_per_class } else { below };
        return Err(Error::config(format!(
            "batch size: expected a multiple of the samples per class ({samples_per_class}), found {batch_size}; the nearest is {nearest}"
        )));
    }
    Ok(batch_size / samples_per_class)
}

fn permutation(len: usize, mut stream: Rng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    stream.shuffle(&mut order);
    order
}

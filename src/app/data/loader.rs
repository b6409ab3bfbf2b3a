//! Batches of decoded images, prepared by background threads ahead of the training loop.
//!
//! What a batch holds depends on seed, step and files only, never on timing. An image that cannot be read is replaced by the next
//! one of its class (in the order of the data set), or by the next one of a following class if its class has none left, so that a
//! resumed run makes the same replacement; it is counted and listed. Evaluation replaces nothing: what cannot be read is left out.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::pipeline::Pipeline;
use super::{Content, Dataset, Image, Sampler};
use crate::error::{Error, Result};
use crate::train;
use crate::words::quoted;

/// Above this share of unreadable images, training on the rest would be another experiment.
pub const DEFAULT_MAX_UNREADABLE: f32 = 0.05;

/// How much a loader may use.
#[derive(Clone, Copy, Debug)]
pub struct LoaderOptions {
    /// Background threads that decode.
    pub threads: usize,
    /// Batches prepared ahead of the loop.
    pub ahead: usize,
    /// Bytes of decoded images that are kept, so that small sets are decoded once.
    pub cache_bytes: usize,
    /// Largest share of the images that may be unreadable.
    pub max_unreadable: f64,
}

impl Default for LoaderOptions {
    /// A thread per core (at most 8), four batches ahead, 1 GiB of decoded images, and the unreadable share of a run's settings.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { threads: cores.min(8), ahead: 4, cache_bytes: 1 << 30, max_unreadable: f64::from(DEFAULT_MAX_UNREADABLE) }
    }
}

/// The images of one step.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The step it is for, or its number in an evaluation.
    pub step: u64,
    /// Decoded images.
    pub images: Vec<Arc<Image>>,
    /// Their classes.
    pub labels: Vec<i32>,
    /// Their instance ids: positions in [`Dataset::images`].
    pub ids: Vec<i32>,
    /// How long the caller waited for this batch.
    pub waited: Duration,
}

impl Batch {
    /// As a step of training takes it.
    pub fn plain(&self) -> train::Batch<'_> {
        let images = self.images.iter().map(|image| image.pixels()).collect();
        train::Batch { step: self.step, images, labels: &self.labels, ids: &self.ids }
    }
}

/// An endless sequence of training batches.
pub struct Loader {
    pipeline: Pipeline<Batch>,
    reader: Arc<Reader>,
}

impl Loader {
    /// Starts preparing the batches of `sampler` (whose indices are those of `dataset`) from `start_step` on.
    ///
    /// # Errors
    /// [`Error::Config`] if no thread can be started.
    pub fn new(dataset: Arc<Dataset>, sampler: Sampler, start_step: u64, options: &LoaderOptions) -> Result<Self> {
        let train = sampler.report().images;
        let reader = Arc::new(Reader::new(dataset, options.cache_bytes, Tolerance::new("training ", train, options)));
        let training = Training::new(reader.clone(), sampler);
        let pipeline = Pipeline::start(start_step..u64::MAX, options.threads, options.ahead, move |step| training.batch(step))?;
        Ok(Self { pipeline, reader })
    }

    /// The next batch, in the order of steps.
    ///
    /// # Errors
    /// [`Error::Training`] when more images than [`LoaderOptions::max_unreadable`] cannot be read, or if a thread panicked; after an error there are no
    /// more batches.
    #[expect(clippy::should_implement_trait, reason = "the sequence has no end, an iterator's None would have no meaning")]
    pub fn next(&mut self) -> Result<Batch> {
        timed_next(&mut self.pipeline)
            .unwrap_or_else(|| Err(Error::Training("the loader stopped after an earlier error".to_owned())))
    }

    /// What the image at `index` of the data set is, if it was decoded.
    pub fn content(&self, index: usize) -> Option<Content> {
        self.reader.content(index)
    }

    /// Images that could not be read so far, with the reason, in the order of the data set.
    pub fn unreadable(&self) -> Vec<(usize, String)> {
        self.reader.unreadable()
    }
}

/// The images at given positions, in order, in chunks of a fixed size (the last may be shorter, as may one with unreadable images).
pub struct EvaluationBatches {
    pipeline: Pipeline<Batch>,
    reader: Arc<Reader>,
}

impl EvaluationBatches {
    /// Starts reading the images of `dataset` at `indices`, `chunk` at a time; images are not kept.
    ///
    /// # Errors
    /// [`Error::Config`] if `chunk` is 0 or no thread can be started.
    pub fn new(dataset: Arc<Dataset>, indices: Vec<usize>, chunk: usize, options: &LoaderOptions) -> Result<Self> {
        if chunk == 0 {
            return Err(Error::config("evaluation batch size: expected at least 1, found 0"));
        }
        let reader = Arc::new(Reader::new(dataset, 0, Tolerance::new("", indices.len(), options)));
        let batches = indices.len().div_ceil(chunk) as u64;
        let shared = reader.clone();
        let pipeline = Pipeline::start(0..batches, options.threads, options.ahead, move |step| {
            let start = step as usize * chunk;
            let chosen = &indices[start..indices.len().min(start + chunk)];
            let readable = chosen.iter().filter_map(|&index| Some((index, shared.image(index)?)));
            let batch = shared.batch(step, readable);
            shared.check_unreadable().map(|()| batch)
        })?;
        Ok(Self { pipeline, reader })
    }

    /// What the image at `index` of the data set is, if it was decoded.
    pub fn content(&self, index: usize) -> Option<Content> {
        self.reader.content(index)
    }

    /// Images that could not be read so far, with the reason, in the order of the data set. Complete after the last batch.
    pub fn unreadable(&self) -> Vec<(usize, String)> {
        self.reader.unreadable()
    }
}

impl Iterator for EvaluationBatches {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        timed_next(&mut self.pipeline)
    }
}

fn timed_next(pipeline: &mut Pipeline<Batch>) -> Option<Result<Batch>> {
    let asked = Instant::now();
    let mut next = pipeline.next();
    if let Some(Ok(batch)) = &mut next {
        batch.waited = asked.elapsed();
    }
    next
}

/// Decodes images, keeps them within a budget, and remembers those that cannot be read.
struct Reader {
    dataset: Arc<Dataset>,
    cached: Vec<OnceLock<Arc<Image>>>,
    cached_bytes: AtomicUsize,
    budget: usize,
    /// Of the images that were decoded.
    contents: Vec<OnceLock<Content>>,
    unreadable: Mutex<BTreeMap<usize, String>>,
    tolerance: Tolerance,
}

/// Fails if too large a share of `images` is `unreadable`; `purpose` is an adjective of them, with its blank.
///
/// # Errors
/// [`Error::Training`] with the first of them.
pub fn check_unreadable(
    dataset: &str,
    (purpose, images): (&str, usize),
    (unreadable, share): (&[(usize, String)], f64),
) -> Result<()> {
    tolerate(dataset, (purpose, images), (unreadable.len(), unreadable.first().map(|(_, reason)| reason.as_str())), share)
}

fn tolerate(dataset: &str, (purpose, images): (&str, usize), (found, first): (usize, Option<&str>), share: f64) -> Result<()> {
    let Some(first) = first.filter(|_| found as f64 > share * images as f64) else { return Ok(()) };
    Err(Error::Training(format!(
        "{found} of {images} {purpose}images cannot be read, more than the {:.1} % of --max-unreadable; the first: {first}; `xbm-fast data \
         {} --decode` lists all, and a larger --max-unreadable goes on without them",
        100.0 * share,
        quoted(dataset)
    )))
}

/// How many unreadable images are too many.
struct Tolerance {
    /// An adjective of the images, with its blank.
    purpose: &'static str,
    images: usize,
    share: f64,
}

impl Tolerance {
    fn new(purpose: &'static str, images: usize, options: &LoaderOptions) -> Self {
        Self { purpose, images, share: options.max_unreadable }
    }
}

impl Reader {
    fn new(dataset: Arc<Dataset>, budget: usize, tolerance: Tolerance) -> Self {
        let slots = if budget == 0 { 0 } else { dataset.images.len() };
        let cached = (0..slots).map(|_| OnceLock::new()).collect();
        let contents = (0..dataset.images.len()).map(|_| OnceLock::new()).collect();
        Self {
            dataset,
            cached,
            cached_bytes: AtomicUsize::new(0),
            budget,
            contents,
            unreadable: Mutex::new(BTreeMap::new()),
            tolerance,
        }
    }

    /// The image at `index`, or none if it cannot be read.
    fn image(&self, index: usize) -> Option<Arc<Image>> {
        if let Some(image) = self.cached.get(index).and_then(OnceLock::get) {
            return Some(image.clone());
        }
        if self.unreadable.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&index) {
            return None;
        }
        match self.dataset.decode(index) {
            Ok(image) => {
                self.contents[index].get_or_init(|| image.content());
                Some(self.cache(index, Arc::new(image)))
            }
            Err(error) => {
                self.unreadable.lock().unwrap_or_else(PoisonError::into_inner).insert(index, error.to_string());
                None
            }
        }
    }

    /// Nothing is ever dropped to make room: with images drawn at random, which ones are kept makes no difference.
    fn cache(&self, index: usize, image: Arc<Image>) -> Arc<Image> {
        let Some(slot) = self.cached.get(index) else { return image };
        let bytes = image.rgb.owned_len();
        if self.cached_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > self.budget || slot.set(image.clone()).is_err() {
            self.cached_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        image
    }

    fn content(&self, index: usize) -> Option<Content> {
        self.contents.get(index)?.get().copied()
    }

    fn unreadable(&self) -> Vec<(usize, String)> {
        let unreadable = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
        unreadable.iter().map(|(&index, reason)| (index, reason.clone())).collect()
    }

    fn check_unreadable(&self) -> Result<()> {
        let Tolerance { purpose, images, share } = self.tolerance;
        let unreadable = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
        let first = unreadable.first_key_value().map(|(_, reason)| reason.as_str());
        tolerate(&self.dataset.name, (purpose, images), (unreadable.len(), first), share)
    }

    fn batch(&self, step: u64, chosen: impl Iterator<Item = (usize, Arc<Image>)>) -> Batch {
        let (indices, images): (Vec<usize>, Vec<_>) = chosen.unzip();
        let ids = indices.iter().map(|&index| index as i32).collect();
        Batch { step, images, labels: self.dataset.labels(&indices), ids, waited: Duration::ZERO }
    }
}

/// Prepares training batches.
struct Training {
    reader: Arc<Reader>,
    sampler: Sampler,
    /// Every image of the sampler, class by class.
    order: Vec<usize>,
    /// Where an image is in `order`, by its index in the data set.
    places: BTreeMap<usize, usize>,
}

impl Training {
    fn new(reader: Arc<Reader>, sampler: Sampler) -> Self {
        let order: Vec<usize> = sampler.images().collect();
        let places = order.iter().enumerate().map(|(place, &index)| (index, place)).collect();
        Self { reader, sampler, order, places }
    }

    fn batch(&self, step: u64) -> Result<Batch> {
        let mut chosen = Vec::new();
        for index in self.sampler.batch(step) {
            chosen.push(match self.reader.image(index) {
                Some(image) => (index, image),
                None => self.replacement(index)?,
            });
        }
        self.reader.check_unreadable()?;
        Ok(self.reader.batch(step, chosen.into_iter()))
    }

    /// The next readable image after `index`: of its class first, going round, then of the classes after it.
    fn replacement(&self, index: usize) -> Result<(usize, Arc<Image>)> {
        let label = |index: usize| self.reader.dataset.images[index].label;
        let place = self.places[&index];
        let others = || self.order[place + 1..].iter().chain(&self.order[..place]).copied();
        let same_class = others().filter(|&other| label(other) == label(index));
        let other_classes = others().filter(|&other| label(other) != label(index));
        for candidate in same_class.chain(other_classes) {
            self.reader.check_unreadable()?;
            if let Some(image) = self.reader.image(candidate) {
                return Ok((candidate, image));
            }
        }
        Err(Error::Training(format!("none of the images of {} to train on can be read", self.reader.dataset.name)))
    }
}

//! The data that a trained model is put to: what was asked for, and otherwise what the model remembers of its run.

use super::scoring::no_test_images;
use crate::app::data::{Dataset, Labels, OpenOptions, Provenance, Split};
use crate::error::{Error, Result};
use std::collections::BTreeSet;

/// What was said about the data.
#[derive(Clone, Copy, Debug, Default)]
pub struct DataRequest<'a> {
    /// SPEC of the data set; the model's own by default.
    pub spec: Option<&'a str>,
    /// Share of the classes held out for testing, in the place of the run's.
    pub holdout: Option<f64>,
    /// Seed of the held-out classes, in the place of the run's.
    pub seed: Option<u64>,
    /// Largest image that is decoded, in millions of pixels, in the place of the default.
    pub max_megapixels: Option<u32>,
    /// What an image has to have to be taken.
    pub labels: Labels,
}

/// A data set, divided as the model's run divided it.
#[derive(Debug)]
pub struct ModelData {
    /// The images.
    pub dataset: Dataset,
    /// How it was opened.
    pub options: OpenOptions,
    /// What to know about it.
    pub notes: Vec<String>,
}

impl ModelData {
    /// Opens the data set for a model with this record.
    ///
    /// # Errors
    /// Data that cannot be opened; no SPEC, and no record of one.
    pub fn open(request: DataRequest<'_>, provenance: Option<&Provenance>) -> Result<Self> {
        let Some(spec) = request.spec.or(provenance.map(|run| run.data.as_str())) else {
            return Err(Error::config("the model does not record the data it was trained on; say which with --data"));
        };
        let defaults = OpenOptions::default();
        let options = OpenOptions {
            holdout: request.holdout.or(provenance.map(|run| run.holdout)).unwrap_or(defaults.holdout),
            seed: request.seed.or(provenance.map(|run| run.seed)).unwrap_or(defaults.seed),
            max_megapixels: request.max_megapixels.unwrap_or(defaults.max_megapixels),
            labels: request.labels,
            ..defaults
        };
        let dataset = Dataset::open(spec, &options).map_err(|error| match request.spec {
            Some(_) => error,
            None => Error::config(format!("{error}; this is the data the model was trained on: say with --data where it is now")),
        })?;
        let mut data = Self { dataset, options, notes: Vec::new() };
        match provenance {
            Some(provenance) => data.divide(request, provenance)?,
            None if request.labels == Labels::Optional => {}
            None => data.notes.push(
                "the model does not record what it was trained on: whether these test classes are new to it cannot be told"
                    .to_owned(),
            ),
        }
        Ok(data)
    }

    /// As the run did, unless another draw was asked for.
    fn divide(&mut self, request: DataRequest<'_>, provenance: &Provenance) -> Result<()> {
        let Self { dataset, options, notes } = self;
        let changes = provenance.changes(dataset)?;
        if !changes.is_empty() {
            notes.push(format!("{} has changed since the model was trained: {changes}", dataset.name));
        }
        let drawn_anew = options.holdout != provenance.holdout || options.seed != provenance.seed;
        if !dataset.split_is_drawn {
            if request.holdout.is_some() || request.seed.is_some() {
                notes.push(format!("--holdout and --seed change nothing: {} has a split of its own", dataset.name));
            }
            return Ok(());
        }
        if !drawn_anew {
            if request.labels == Labels::Needed && !provenance.is_about(dataset)? {
                notes
                    .push(format!("{} is not the data that the model was trained on: all of its classes are tested", dataset.name));
            }
            return provenance.divide(dataset);
        }
        let trained = provenance.trained_classes()?;
        let tested: BTreeSet<&str> = dataset.indices(Split::Test).into_iter().map(|index| dataset.class_of(index)).collect();
        let known: Vec<&&str> = tested.iter().filter(|&&class| trained.contains(class)).collect();
        if let Some(first) = known.first() {
            notes.push(format!(
                "--holdout and --seed draw other test classes than the run's: {} of {} were trained on (the first: {first}); leave them \
                 out to score the run's own (holdout {}, seed {})",
                known.len(),
                tested.len(),
                provenance.holdout,
                provenance.seed
            ));
        }
        Ok(())
    }

    /// Whether there is nothing to test on.
    pub fn test_set_is_empty(&self) -> bool {
        self.dataset.images.iter().all(|image| !matches!(image.split, Split::Test | Split::Query))
    }

    /// That there is nothing to test on, in words.
    pub fn without_test_images(&self) -> Error {
        let name = &self.dataset.name;
        if !self.dataset.split_is_drawn || self.options.holdout == 0.0 {
            return no_test_images(&self.dataset, self.options.holdout);
        }
        Error::config(format!(
            "{name} has no test images: all of its classes were trained on; hold some out with --holdout to score these"
        ))
    }
}

//! What a model was trained on, recorded with it: so that it is tested on what it has not seen, and that a run goes on with what it began
//! with.

use std::collections::BTreeSet;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Changes, Content, Dataset, Listing, OpenOptions, Split};
use crate::error::{Error, Result};

/// The data of a run, as it was when the run began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// SPEC of the data set.
    pub data: String,
    /// Share of its classes held out for testing, where it has no split of its own.
    pub holdout: f64,
    /// Seed of everything random.
    pub seed: u64,
    /// Share of the training classes that chose its best checkpoint, or scored it in the place of the test images.
    pub validation: f32,
    /// Names of those classes.
    validation_classes: Vec<String>,
    /// A [`Listing`] of all images.
    images: String,
    /// Hashes of the images that were trained on so far, 8 bytes each, ascending, in base64.
    seen: String,
}

impl Provenance {
    /// For the header of a checkpoint or a model.
    pub fn to_value(&self) -> Value {
        serde_json::to_value(self).expect("names and numbers are plain values")
    }

    /// Of the header of a checkpoint or a model at `path`, which is for messages; unknown in files of earlier versions.
    ///
    /// # Errors
    /// [`Error::Data`] if it is not what [`Provenance::to_value`] gives.
    pub fn from_value(value: Option<Value>, path: &Path) -> Result<Option<Self>> {
        let read = |value| serde_json::from_value(value).map_err(|error| Error::data(path, format!("damaged header: {error}")));
        value.map(read).transpose()
    }

    /// Of a data set that was opened with `options`.
    pub fn of(dataset: &Dataset, options: &OpenOptions) -> Self {
        Self {
            data: dataset.name.clone(),
            holdout: options.holdout,
            seed: options.seed,
            validation: 0.0,
            validation_classes: Vec::new(),
            images: Listing::of(dataset).to_text(),
            seen: String::new(),
        }
    }

    /// With a share of the training classes taken for validation, as they are in `dataset`.
    #[must_use]
    pub fn with_validation(self, share: f32, dataset: &Dataset) -> Self {
        let classes: BTreeSet<&str> = dataset.indices(Split::Validation).into_iter().map(|index| dataset.class_of(index)).collect();
        Self { validation: share, validation_classes: classes.into_iter().map(str::to_owned).collect(), ..self }
    }

    /// With the images trained on so far.
    #[must_use]
    pub fn with_seen(&self, seen: &BTreeSet<Content>) -> Self {
        let bytes: Vec<u8> = seen.iter().flat_map(|content| content.0.to_le_bytes()).collect();
        Self { seen: STANDARD.encode(bytes), ..self.clone() }
    }

    /// The images that were trained on.
    ///
    /// # Errors
    /// [`Error::Config`] if the record is damaged.
    pub fn seen(&self) -> Result<BTreeSet<Content>> {
        let bytes = STANDARD.decode(&self.seen).map_err(|error| damaged(&error.to_string()))?;
        let (hashes, rest) = bytes.as_chunks();
        if !rest.is_empty() {
            return Err(damaged("hashes of 8 bytes that are cut short"));
        }
        Ok(hashes.iter().map(|&hash| Content(u64::from_le_bytes(hash))).collect())
    }

    /// All images as they were.
    ///
    /// # Errors
    /// [`Error::Config`] if the record is damaged.
    pub fn listing(&self) -> Result<Listing> {
        Listing::from_text(&self.images).map_err(|reason| damaged(&reason))
    }

    /// Names of the classes that were trained on.
    ///
    /// # Errors
    /// As [`Provenance::listing`].
    pub fn trained_classes(&self) -> Result<BTreeSet<String>> {
        let listing = self.listing()?;
        let mut classes: BTreeSet<String> = listing.classes_in(Split::Train).into_iter().map(str::to_owned).collect();
        self.validation_classes.iter().for_each(|class| {
            classes.remove(class);
        });
        Ok(classes)
    }

    /// Gives a data set without a split of its own the run's: classes that the run trained on or chose by are for training, all others
    /// are for tests; all of them in another data set.
    ///
    /// # Errors
    /// As [`Provenance::listing`].
    pub fn divide(&self, dataset: &mut Dataset) -> Result<()> {
        let listing = self.listing()?;
        let trained = if self.is_about(dataset)? { listing.classes_in(Split::Train) } else { BTreeSet::new() };
        for index in 0..dataset.images.len() {
            let is_trained = trained.contains(dataset.class_of(index));
            dataset.images[index].split = if is_trained { Split::Train } else { Split::Test };
        }
        Ok(())
    }

    /// Whether `dataset` is the run's, perhaps moved or packed: names of classes then mean the same.
    ///
    /// # Errors
    /// As [`Provenance::listing`].
    pub fn is_about(&self, dataset: &Dataset) -> Result<bool> {
        Ok(self.data == dataset.name || self.listing()?.shares_an_image(dataset))
    }

    /// How `dataset` differs from what it was; nothing if none of its images is listed under its name.
    ///
    /// # Errors
    /// As [`Provenance::listing`].
    pub fn changes(&self, dataset: &Dataset) -> Result<Changes> {
        let changes = self.listing()?.changes(dataset);
        let is_another = self.data != dataset.name && changes.added.len() == dataset.images.len();
        Ok(if is_another { Changes::default() } else { changes })
    }
}

fn damaged(reason: &str) -> Error {
    Error::config(format!("the record of the training data in the checkpoint is damaged: {reason}"))
}

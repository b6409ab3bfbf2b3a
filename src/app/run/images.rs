//! What a run trains and tests on: its data set, with the split and the order that it began with.

use super::TestSet;
use super::scoring::no_test_images;
use crate::app::config::TrainConfig;
use crate::app::data::{Dataset, LoaderOptions, OpenOptions, Provenance, Sampler, Split};
use crate::error::{Error, Result};
use std::sync::Arc;

/// That a share other than the default holds nothing out.
pub(super) fn idle_holdout(dataset: &Dataset, config: &TrainConfig) -> Option<String> {
    let idle = !dataset.split_is_drawn && config.data.holdout != TrainConfig::default().data.holdout;
    idle.then(|| format!("--holdout {} has no effect: {} has a split of its own", config.data.holdout, dataset.name))
}

/// What a run trains and tests on.
pub(super) struct Images {
    pub dataset: Arc<Dataset>,
    pub sampler: Sampler,
    pub test: TestSet,
    pub loading: LoaderOptions,
    pub provenance: Provenance,
    pub notes: Vec<String>,
}

impl Images {
    /// Everything that can be wrong with the data is found here, before the run's folder is made. A run that goes on does so with the
    /// images and the split that it began with.
    pub fn open(config: &TrainConfig, recorded: Option<Provenance>) -> Result<Self> {
        let options = OpenOptions {
            holdout: f64::from(config.data.holdout),
            seed: config.train.execution.seed,
            max_megapixels: config.data.max_megapixels,
            ..OpenOptions::default()
        };
        let (mut dataset, mut notes) = (Dataset::open(&config.data.spec, &options)?, Vec::new());
        if let Some(recorded) = &recorded {
            dataset = restored(recorded, dataset, &mut notes)?;
        }
        let mut provenance = recorded.unwrap_or_else(|| Provenance::of(&dataset, &options));
        provenance.data.clone_from(&config.data.spec);
        if config.data.validation > 0.0 {
            dataset.hold_out(f64::from(config.data.validation), config.train.execution.seed)?;
            provenance = provenance.with_validation(config.data.validation, &dataset);
        }
        let dataset = Arc::new(dataset);
        if config.train.weighting.negative.soft.is_some() && dataset.soft_labels.is_empty() {
            let hint = "give its csv a column `soft_label` with a number for each image";
            return Err(Error::config(format!("--negative-soft: {} has no soft labels; {hint}", config.data.spec)));
        }
        let loading = LoaderOptions {
            cache_bytes: config.data.cache_mb.saturating_mul(1 << 20),
            max_unreadable: f64::from(config.data.max_unreadable),
            ..LoaderOptions::default()
        };
        let train = dataset.indices(Split::Train);
        let sampler = Sampler::new(&train, &dataset.labels(&train), config.sampler())?;
        let test = TestSet::new(&dataset, loading).same_set(config.data.same_set);
        if test.is_empty() {
            return Err(no_test_images(&dataset, options.holdout));
        }
        Ok(Self { dataset, sampler, test, loading, provenance, notes })
    }

    pub fn size_memory(&self, config: &mut TrainConfig) {
        let sampled = self.sampler.report();
        config.train.memory.set_size(sampled.images, sampled.classes);
    }
}

/// The data set as it was when the run began; what was added since is left out.
fn restored(recorded: &Provenance, dataset: Dataset, notes: &mut Vec<String>) -> Result<Dataset> {
    let changes = recorded.listing()?.changes(&dataset);
    if !changes.is_empty() {
        notes.push(format!("{} has changed since the run began: {changes}; what was added is left out", dataset.name));
    }
    let name = dataset.name.clone();
    recorded.listing()?.restore(dataset).map_err(|changes| {
        let words = format!("has changed since the run began: {changes}; put back what was removed, or start a new run");
        Error::data(name, words)
    })
}

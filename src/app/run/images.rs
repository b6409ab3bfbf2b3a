//! What a run trains and tests on: its data set, with the split and the order that it began with.

use super::TestSet;
use super::scoring::no_test_images;
use crate::app::config::{ScoredOn, TrainConfig};
use crate::app::data::survey::{Sides, SplitSurvey, Survey};
use crate::app::data::{Dataset, LoaderOptions, OpenOptions, Provenance, Sampler, Source, Split};
use crate::app::fit::{self, Choice, Found};
use crate::error::{Error, Result};
use crate::train::schedule::ScheduleKind;
use std::sync::Arc;

/// That a share other than the default holds nothing out.
pub(super) fn idle_holdout(dataset: &Dataset, config: &TrainConfig) -> Option<String> {
    let asked = config.data.holdout != TrainConfig::default().data.holdout;
    let idle = !dataset.split_is_drawn && asked && has_tests(dataset);
    idle.then(|| format!("--holdout {} has no effect: {} has a split of its own", config.data.holdout, dataset.name))
}

/// Whether anything could be scored.
fn has_tests(dataset: &Dataset) -> bool {
    dataset.images.iter().any(|image| matches!(image.split, Split::Test | Split::Query))
}

/// What a run trains and tests on.
pub(super) struct Images {
    pub dataset: Arc<Dataset>,
    pub sampler: Sampler,
    /// What the score is of; empty where nothing is scored.
    pub test: TestSet,
    /// What the best checkpoint is chosen on; empty where that is the test set.
    pub validation: TestSet,
    /// What was seen, and the settings that were chosen by it.
    pub chosen: Vec<String>,
    pub loading: LoaderOptions,
    pub provenance: Provenance,
    pub notes: Vec<String>,
}

impl Images {
    /// Everything that can be wrong with the data is found here, before the run's folder is made. A run that goes on does so with the
    /// images and the split that it began with. Where it is known which settings were `given`, the others are chosen by the images.
    pub fn open(config: &mut TrainConfig, recorded: Option<Provenance>, given: Option<&toml::Table>) -> Result<Self> {
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
        if config.data.validation == 0.0 && config.data.score_on == ScoredOn::Validation {
            return Err(Error::config("--score-on validation needs classes to score on: give a share of them by --validation 0.3"));
        }
        // Drawn products are what the defaults are for.
        let is_drawn = dataset.images.iter().any(|image| matches!(image.source, Source::Drawn(_)));
        let given = given.filter(|_| !is_drawn);
        let mut choices = Vec::new();
        // Classes that are tested though they are trained on are all to be trained on.
        if let (Some(given), Some(training), 0) = (given, SplitSurvey::of_training(&dataset), Survey::new(&dataset).shared_classes)
        {
            choices.extend(fit::choose_validation(training.classes, config, given));
        }
        if config.data.validation > 0.0 {
            dataset.hold_out(f64::from(config.data.validation), config.train.execution.seed)?;
            provenance = provenance.with_validation(config.data.validation, &dataset);
            if config.data.score_on == ScoredOn::Validation {
                dataset.test_on_validation();
            }
        }
        let chosen = settle(&dataset, config, given, choices)?;
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
        let validation = TestSet::of_validation(&dataset, loading).same_set(config.data.same_set);
        if test.is_empty() && options.holdout > 0.0 {
            return Err(no_test_images(&dataset, options.holdout));
        }
        if test.is_empty() && validation.is_empty() && config.train.schedule.kind == ScheduleKind::Plateau {
            let words = "--schedule plateau follows the scores of evaluations, and --holdout 0 scores nothing";
            return Err(Error::config(format!("{words}; choose another schedule, or give it classes by --validation 0.1")));
        }
        Ok(Self { dataset, sampler, test, validation, chosen, loading, provenance, notes })
    }

    pub fn size_memory(&self, config: &mut TrainConfig) {
        let sampled = self.sampler.report();
        config.train.memory.set_size(sampled.images, sampled.classes);
    }
}

/// Counts the steps and chooses what was not given by the training images; what there is to say about it.
fn settle(
    dataset: &Dataset,
    config: &mut TrainConfig,
    given: Option<&toml::Table>,
    mut choices: Vec<Choice>,
) -> Result<Vec<String>> {
    let Some(training) = SplitSurvey::of_training(dataset) else { return Ok(Vec::new()) };
    let found = Found::new(&training, given.and_then(|_| Sides::of(dataset)));
    choices.extend(fit::choose(&found, config, given));
    config.check()?;
    let seen = (given.is_some() && !choices.is_empty()).then(|| format!("seen      {}", found.words()));
    Ok(seen.into_iter().chain(choices.iter().map(|choice| format!("chosen    {choice}"))).collect())
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

//! A training run: data in, steps, evaluations, checkpoints, records, and a report at the end.
//!
//! The algorithm is in [`crate::train`]; this room is everything around it that makes a run repeatable, resumable and visible.

mod collect;
mod console;
mod embed;
mod eval;
mod folder;
mod images;
mod leakage;
mod model_data;
mod near;
mod pictures;
mod progress;
mod queries;
mod ranks;
mod report_data;
mod scoring;
mod search;
mod serve;
mod session;
mod similarities;

pub use collect::{Collected, Collector};
pub use console::{Console, Verbosity};
pub use embed::{EmbeddedSet, embed_set};
pub use eval::{EvalOptions, EvalReport, eval};
pub use folder::{RunFolder, model_file};
pub use model_data::DataRequest;
pub use near::NearDuplicates;
pub use progress::Progress;
pub use queries::Query;
pub use scoring::{TestResult, TestSet};
pub use search::{Found, Hit, Search};
pub use serve::serve_search;
pub use similarities::similarities;

use crate::app::config::{FILE_NAME, TrainConfig};
use crate::app::data::Provenance;
use crate::app::runlog::Summary;
use crate::checkpoint::{list, load_record};
use crate::error::{Error, Result};
use crate::ops::Backend;
use crate::train::{Learner, State};
use crate::words::quoted;
use images::Images;
use pictures::Pictures;
use session::Run;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    /// All steps were taken; why there is no report of them, if it could not be written.
    Finished(Box<Summary>, RunFolder, Option<String>),
    /// Somebody asked to stop; the checkpoint to resume from.
    Interrupted(PathBuf, RunFolder),
}

/// Trains a network from the start.
///
/// # Errors
/// Data, settings and folders that cannot be used; a loss that is not finite; what the device reports.
pub fn start<B: Backend>(backend: &B, config: TrainConfig, interrupted: &AtomicBool, verbosity: Verbosity) -> Result<Ending> {
    start_with(backend, config, None, (interrupted, verbosity))
}

/// Trains a network from the start, with settings that follow from the images where they are not among those `given`.
///
/// # Errors
/// As [`start`].
pub fn start_fitted<B: Backend>(
    backend: &B,
    config: TrainConfig,
    given: &toml::Table,
    interrupted: &AtomicBool,
    verbosity: Verbosity,
) -> Result<Ending> {
    start_with(backend, config, Some(given), (interrupted, verbosity))
}

fn start_with<B: Backend>(
    backend: &B,
    mut config: TrainConfig,
    given: Option<&toml::Table>,
    watched: (&AtomicBool, Verbosity),
) -> Result<Ending> {
    let images = Images::open(&mut config, None, given)?;
    images.size_memory(&mut config);
    ranks::agree(backend.group(), &config, &images.provenance)?;
    let learner = Learner::new(backend, &config.train, first_state(backend, &config)?)?;
    let folder = ranks::create_folder(backend.group(), &mut config)?;
    Run::new(backend, (config, folder, images), learner, Progress::default(), watched)?.execute()
}

/// Continues the run in `folder` with the settings in `config`, from its last checkpoint, or from the start if it had none yet.
///
/// # Errors
/// As [`start`]; [`Error::Data`] if the checkpoint does not belong to these settings, or is gone.
pub fn resume<B: Backend>(
    backend: &B,
    folder: RunFolder,
    mut config: TrainConfig,
    interrupted: &AtomicBool,
    verbosity: Verbosity,
) -> Result<Ending> {
    refuse_another_draw(&folder, &config)?;
    let checkpoint = folder.last_checkpoint()?;
    let recorded = checkpoint.as_deref().map(recorded_data).transpose()?.flatten();
    let is_recorded = recorded.is_some();
    let mut images = Images::open(&mut config, recorded, None)?;
    if checkpoint.is_some() && !is_recorded {
        images
            .notes
            .push("the checkpoint does not record the run's images: they and their split are taken as they are now".to_owned());
    }
    images.size_memory(&mut config);
    ranks::agree(backend.group(), &config, &images.provenance)?;
    let (mut progress, mut notes) = (Progress::default(), Vec::new());
    let state = match checkpoint {
        Some(path) => {
            let (state, record) = State::from_checkpoint(backend, &config.train, &path)?;
            progress = Progress::from_record(record, &path)?;
            progress.seconds = folder.seconds_until(&path, state.step).unwrap_or(progress.seconds);
            if progress.best.is_some() && !folder.best().is_file() {
                progress.best = None;
                notes.push(format!("{} is gone; the best model from here on is kept", folder.best().display()));
            }
            state
        }
        None => {
            let state = first_state(backend, &config)?;
            if backend.group().is_first() {
                notes.push(folder.start_over()?);
            }
            state
        }
    };
    let learner = Learner::new(backend, &config.train, state)?;
    if backend.group().is_first() {
        folder.write_config(&config)?;
    }
    let mut run = Run::new(backend, (config, folder, images), learner, progress, (interrupted, verbosity))?;
    notes.into_iter().for_each(|words| run.note(words));
    run.execute()
}

/// Fails where a run with these settings would for its data, before anything is trained.
///
/// # Errors
/// Data that cannot be opened, has too few classes to draw a batch from, or nothing to test on.
pub fn check_data(config: &TrainConfig) -> Result<()> {
    let images = Images::open(&mut config.clone(), None, None)?;
    if images.test.is_empty() {
        return Err(scoring::no_test_images(&images.dataset, f64::from(config.data.holdout)));
    }
    Ok(())
}

/// The split and the order of the images were drawn when the run began, and are part of it.
fn refuse_another_draw(folder: &RunFolder, config: &TrainConfig) -> Result<()> {
    let began = folder.settings(toml::Table::new())?;
    for (flag, began, asked) in [
        ("seed", began.train.execution.seed.to_string(), config.train.execution.seed.to_string()),
        ("holdout", began.data.holdout.to_string(), config.data.holdout.to_string()),
        ("validation", began.data.validation.to_string(), config.data.validation.to_string()),
        ("score-on", began.data.score_on.name().to_owned(), config.data.score_on.name().to_owned()),
    ] {
        if began != asked {
            return Err(Error::config(format!(
                "--{flag} {asked}: the run began with {began}, by which its test classes were drawn; resume without --{flag}, or start a \
                 new run"
            )));
        }
    }
    Ok(())
}

/// The state before the first step, with published weights where the settings name them.
fn first_state<B: Backend>(backend: &B, config: &TrainConfig) -> Result<State<B>> {
    match config.data.pretrained.as_path() {
        path if path.as_os_str().is_empty() => State::initial(backend, &config.train),
        path => State::from_pretrained(backend, &config.train, path),
    }
}

/// The data of the run whose checkpoint is at `path`. A file that cannot be read is named with what to do without it.
fn recorded_data(path: &Path) -> Result<Option<Provenance>> {
    let record = load_record(path).map_err(|error| Error::config(format!("{error}; {}", without(path))))?;
    Provenance::from_value(record.trained_on, path)
}

/// How a run goes on that cannot go on from the checkpoint at `path`.
fn without(path: &Path) -> String {
    let folder = path.parent().unwrap_or(Path::new(""));
    let older = list(folder).unwrap_or_default().into_iter().map(|(_, other)| other).rfind(|other| other != path);
    match older {
        Some(older) => format!("delete it to go on from {}", older.display()),
        None => {
            let settings = folder.with_file_name(FILE_NAME);
            format!("there is no older one; `xbm-fast train --config {}` starts again", quoted(&settings.to_string_lossy()))
        }
    }
}

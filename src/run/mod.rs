//! A training run: data in, steps, evaluations, checkpoints, records, and a report at the end.
//!
//! The algorithm is in [`crate::train`]; this room is everything around it that makes a run repeatable, resumable and visible.

mod console;
mod embed;
mod eval;
mod folder;
mod gather;
mod leakage;
mod model_data;
mod near;
mod pictures;
mod scoring;
mod search;
mod similarities;

pub use console::{Console, Voice};
pub use embed::{EmbeddedSet, embed_set};
pub use eval::{EvalOptions, EvalReport, eval};
pub use folder::RunFolder;
pub use model_data::DataRequest;
pub use near::NearDuplicates;
use scoring::no_test_images;
pub use scoring::{TestResult, TestSet};
pub use search::{Found, Hit, Search};
pub use similarities::similarities;

use crate::backbone::Weights;
use crate::checkpoint::{self, Progress};
use crate::config::{MemoryKind, TrainConfig};
use crate::data::{Dataset, Loader, LoaderOptions, OpenOptions, Provenance, SameImages, Sampler, Split, sampler, survey};
use crate::error::{Error, Result};
use crate::evaluate::COLLAPSED;
use crate::files::write_atomically;
use crate::ops::Backend;
use crate::report::{self, Note, Report, Score};
use crate::runlog::{MetricsLog, StepMetrics, Summary, read_metrics};
use crate::schedule::Schedule;
use crate::tensorboard::EventFile;
use crate::train::{Balance, Learner};
use crate::words::{counted, quoted};
use leakage::{Leakage, Seen};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    /// All steps were taken; why there is no report of them, if it could not be written.
    Finished(Box<Summary>, RunFolder, Option<String>),
    /// Somebody asked to stop; the checkpoint to resume from.
    Interrupted(PathBuf, RunFolder),
}

/// A run that is under way.
pub struct Run<'a, B: Backend> {
    backend: &'a B,
    config: TrainConfig,
    folder: RunFolder,
    dataset: Arc<Dataset>,
    test: TestSet,
    learner: Learner<B>,
    /// The encoder as it was before the first step, until it is scored.
    untrained: Option<Weights<B>>,
    loader: Loader,
    schedule: Schedule,
    progress: Progress,
    metrics: MetricsLog,
    /// None once it could not be written.
    events: Option<EventFile>,
    console: Console,
    notes: Vec<String>,
    /// Which images are the same, by their files.
    same: SameImages,
    /// What of the test is not new, as far as files tell.
    leakage: Leakage,
    seen: Seen,
    /// Times of the steps whose outcomes have not been read: of the step, and of waiting for its batch.
    unread: Vec<(Duration, Duration)>,
    interrupted: &'a AtomicBool,
}

/// Trains a network from the start.
///
/// # Errors
/// Data, settings and folders that cannot be used; a loss that is not finite; what the device reports.
pub fn start<B: Backend>(backend: &B, mut config: TrainConfig, interrupted: &AtomicBool, voice: Voice) -> Result<Ending> {
    let images = Images::open(&config, None)?;
    images.size_memory(&mut config);
    let learner = fresh_learner(backend, &config)?;
    let folder = RunFolder::create(&mut config)?;
    Run::new(backend, (config, folder, images), learner, Progress::default(), (interrupted, voice))?.execute()
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
    voice: Voice,
) -> Result<Ending> {
    refuse_another_draw(&folder, &config)?;
    let checkpoint = folder.last_checkpoint()?;
    let recorded = checkpoint.as_deref().map(checkpoint::load_provenance).transpose()?.flatten();
    let is_recorded = recorded.is_some();
    let mut images = Images::open(&config, recorded)?;
    if checkpoint.is_some() && !is_recorded {
        images
            .notes
            .push("the checkpoint does not record the run's images: they and their split are taken as they are now".to_owned());
    }
    images.size_memory(&mut config);
    let (mut progress, mut notes) = (Progress::default(), Vec::new());
    let learner = match checkpoint {
        Some(path) => {
            let mut learner = Learner::new(backend, &config)?;
            (learner.state, progress) = checkpoint::load(backend, &path, &config)?;
            learner.state_was_replaced()?;
            if progress.best.is_some() && !folder.best().is_file() {
                progress.best = None;
                notes.push(format!("{} is gone; the best model from here on is kept", folder.best().display()));
            }
            learner
        }
        None => {
            let learner = fresh_learner(backend, &config)?;
            notes.push(folder.start_over()?);
            learner
        }
    };
    folder.write_config(&config)?;
    let mut run = Run::new(backend, (config, folder, images), learner, progress, (interrupted, voice))?;
    notes.into_iter().for_each(|words| run.note(words));
    run.execute()
}

/// Fails where a run with these settings would for its data, before anything is trained.
///
/// # Errors
/// Data that cannot be opened, has too few classes to draw a batch from, or nothing to test on.
pub fn check_data(config: &TrainConfig) -> Result<()> {
    Images::open(config, None).map(|_| ())
}

/// The split and the order of the images were drawn when the run began, and are part of it.
fn refuse_another_draw(folder: &RunFolder, config: &TrainConfig) -> Result<()> {
    let began = TrainConfig::merged(Some(&folder.config()), toml::Table::new())?;
    for (flag, began, asked) in [
        ("seed", began.seed.to_string(), config.seed.to_string()),
        ("holdout", began.holdout.to_string(), config.holdout.to_string()),
        ("validation", began.validation.to_string(), config.validation.to_string()),
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

/// A learner before its first step, with published weights where the settings name them.
fn fresh_learner<B: Backend>(backend: &B, config: &TrainConfig) -> Result<Learner<B>> {
    let mut learner = Learner::new(backend, config)?;
    if !config.pretrained.as_os_str().is_empty() {
        let architecture = learner.network.architecture();
        let weights = checkpoint::load_pretrained(backend, &config.pretrained, architecture, config.seed)?;
        learner.state.start_from(backend, weights)?;
        learner.state_was_replaced()?;
    }
    Ok(learner)
}

/// That a share other than the default holds nothing out.
fn idle_holdout(dataset: &Dataset, config: &TrainConfig) -> Option<String> {
    let idle = !dataset.split_is_drawn && config.holdout != TrainConfig::default().holdout;
    idle.then(|| format!("--holdout {} has no effect: {} has a split of its own", config.holdout, dataset.name))
}

/// What a run trains and tests on.
struct Images {
    dataset: Arc<Dataset>,
    sampler: Sampler,
    test: TestSet,
    loading: LoaderOptions,
    provenance: Provenance,
    notes: Vec<String>,
}

impl Images {
    /// Everything that can be wrong with the data is found here, before the run's folder is made. A run that goes on does so with the
    /// images and the split that it began with.
    fn open(config: &TrainConfig, recorded: Option<Provenance>) -> Result<Self> {
        let options = OpenOptions {
            holdout: f64::from(config.holdout),
            seed: config.seed,
            max_megapixels: config.max_megapixels,
            ..OpenOptions::default()
        };
        let (mut dataset, mut notes) = (Dataset::open(&config.data, &options)?, Vec::new());
        if let Some(recorded) = &recorded {
            dataset = restored(recorded, dataset, &mut notes)?;
        }
        let mut provenance = recorded.unwrap_or_else(|| Provenance::of(&dataset, &options));
        provenance.data.clone_from(&config.data);
        if config.validation > 0.0 {
            dataset.hold_out(f64::from(config.validation), config.seed)?;
            provenance = provenance.with_validation(config.validation, &dataset);
        }
        let dataset = Arc::new(dataset);
        if config.weighting.negative.soft.is_some() && dataset.soft_labels.is_empty() {
            let hint = "give its csv a column `soft_label` with a number for each image";
            return Err(Error::config(format!("--negative-soft: {} has no soft labels; {hint}", config.data)));
        }
        let loading = LoaderOptions {
            cache_bytes: config.cache_mb.saturating_mul(1 << 20),
            max_unreadable: f64::from(config.max_unreadable),
            ..LoaderOptions::default()
        };
        let train = dataset.indices(Split::Train);
        let sampler = Sampler::new(&train, &dataset.labels(&train), config.sampler())?;
        let test = TestSet::new(&dataset, loading).same_set(config.same_set);
        if test.is_empty() {
            return Err(no_test_images(&dataset, options.holdout));
        }
        Ok(Self { dataset, sampler, test, loading, provenance, notes })
    }

    fn size_memory(&self, config: &mut TrainConfig) {
        let sampled = self.sampler.report();
        config.size_memory(sampled.images, sampled.classes);
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

impl<'a, B: Backend> Run<'a, B> {
    fn new(
        backend: &'a B,
        (config, folder, images): (TrainConfig, RunFolder, Images),
        mut learner: Learner<B>,
        progress: Progress,
        (interrupted, voice): (&'a AtomicBool, Voice),
    ) -> Result<Self> {
        let step = learner.state.step;
        let Images { dataset, sampler, test, loading, provenance, notes } = images;
        let seen = Seen::new(dataset.images.len(), provenance.seen()?);
        let same = SameImages::by_files(&dataset);
        let mut leakage = Leakage::of_training(&dataset, &same);
        if config.same_set {
            leakage.leave_out_copies();
        }
        let progress = Progress { provenance: Some(provenance), ..progress };
        learner.set_soft_labels(&dataset.soft_labels)?;
        let sampled = sampler.report();
        let console = Console::new(voice, config.steps, step);
        let architecture = learner.network.architecture();
        console.say(&format!("device    {}", backend.description()));
        console.say(&format!(
            "data      {}: {} of {}, {}",
            dataset.name,
            counted(sampled.images, "training image"),
            counted(sampled.classes, "class"),
            counted(test.len(), "test image")
        ));
        console.say(&format!(
            "network   {:?}, {:.1} M parameters, {} px, {:.0} MB of activations",
            architecture.depth,
            architecture.parameters_len as f64 / 1e6,
            architecture.image_size,
            learner.network.planned_len() as f64 * 4e-6
        ));
        console.say(&format!("run       {}", folder.root().display()));
        let resumed = (step > 0).then_some(step);
        let mut schedule = Schedule::new(&config);
        schedule.plateau = progress.plateau;
        let mut run = Self {
            loader: Loader::new(dataset.clone(), sampler, step, &loading)?,
            metrics: MetricsLog::open(folder.root(), resumed)?,
            events: None,
            notes: Vec::new(),
            same,
            leakage,
            seen,
            unread: Vec::new(),
            backend,
            config,
            folder,
            dataset,
            test,
            learner,
            untrained: None,
            schedule,
            progress,
            console,
            interrupted,
        };
        match EventFile::create(run.folder.root(), resumed) {
            Ok(events) => run.events = Some(events),
            Err(error) => run.note(format!("nothing is written for TensorBoard: {error}")),
        }
        if sampled.singletons > 0 {
            let rest = if sampled.singletons == 1 { "has one image: it has" } else { "have one image: they have" };
            run.note(format!("{} {rest} no positives", counted(sampled.singletons, "class")));
        }
        if let Some(words) = idle_holdout(&run.dataset, &run.config) {
            run.note(words);
        }
        let found = sampler::repetition(sampled.filled, run.config.samples_per_class);
        for note in found.into_iter().chain(run.dataset.notes.clone()) {
            run.note(note);
        }
        for skips in survey::skips(&run.dataset) {
            run.note(format!("left out {skips}"));
        }
        notes.into_iter().for_each(|words| run.note(words));
        for copies in &run.leakage.copies {
            run.console.say(&format!("note      {copies}"));
        }
        Ok(run)
    }

    fn note(&mut self, words: String) {
        self.console.say(&format!("note      {words}"));
        self.notes.push(words);
    }

    fn execute(mut self) -> Result<Ending> {
        match self.learner.state.step {
            0 => self.untrained = Some(self.learner.state.encoder().duplicate(self.backend)?),
            step if step < self.config.steps => self.console.say(&format!("resumed at step {step}")),
            step => {
                let root = self.folder.root().to_string_lossy();
                let more = format!("to go on: xbm-fast train --resume {} --steps and a number above {step}", quoted(&root));
                self.console.say(&format!("finished  all {step} steps were taken already; {more}"));
            }
        }
        while self.learner.state.step < self.config.steps {
            self.step()?;
            if self.interrupted.load(Ordering::Relaxed) {
                let path = self.save_checkpoint()?;
                self.console.finish();
                return Ok(Ending::Interrupted(path, self.folder));
            }
        }
        self.score_untrained()?;
        self.finish()
    }

    /// Scores the network that training began with, if that was not done yet: after the first step, which shows at once that training
    /// works and need not wait until every test image is embedded, and before anything is recorded.
    fn score_untrained(&mut self) -> Result<()> {
        let Some(weights) = self.untrained.take() else { return Ok(()) };
        let result = self.test.score(self.backend, &mut self.learner.network, &weights).map_err(|error| self.explain(error, 0))?;
        let recall = result.scores.recall_at(1).unwrap_or(0.0);
        self.progress.initial_recall_at_1 = recall;
        self.console.say(&format!("untrained {}: {:.1} %", self.leakage.classes.headline(), 100.0 * recall));
        self.record(&StepMetrics { step: 0, recall_at_1: Some(recall), ..StepMetrics::default() })
    }

    fn step(&mut self) -> Result<()> {
        let begun = Instant::now();
        let batch = self.loader.next()?;
        for &id in &batch.ids {
            self.seen.take(id as usize, self.loader.content(id as usize));
        }
        let learning_rate = self.schedule.learning_rate(self.learner.state.step);
        let (step, last) = (self.learner.state.step + 1, self.learner.state.step + 1 == self.config.steps);
        let due = |interval: u64| last || (interval > 0 && step.is_multiple_of(interval));
        let (logs, evaluates, saves) = (due(self.config.log_every), due(self.config.eval_every), due(self.config.checkpoint_every));
        let taken = if logs || evaluates {
            self.learner.advance_balanced(&batch, learning_rate).map(Some)
        } else {
            self.learner.advance(&batch, learning_rate).map(|()| None)
        };
        let balance = taken.map_err(|error| self.explain(error, step))?;
        let time = begun.elapsed();
        self.progress.seconds += time.as_secs_f64();
        self.unread.push((time, batch.waited));
        self.console.advance();

        if logs || evaluates || saves {
            self.read_outcomes()?;
        }
        let metrics = balance.map(|balance| self.measure(learning_rate, &balance, evaluates)).transpose()?;
        self.score_untrained()?;
        if let Some(metrics) = metrics {
            self.record(&metrics)?;
        }
        if saves {
            self.save_checkpoint()?;
        }
        Ok(())
    }

    /// What the log says about the steps since its last line, shown to whoever watches.
    fn measure(&mut self, learning_rate: f32, balance: &Balance, evaluates: bool) -> Result<StepMetrics> {
        let mut metrics = self.progress.window.close(self.learner.state.step, learning_rate, self.config.batch_size);
        metrics.seconds = Some(self.progress.seconds);
        metrics.memory_drift = self.learner.state.memory.iter().flat_map(|memory| memory.drift().by_age()).collect();
        self.warn_of_collapse(&metrics);
        self.warn_of_zero_rows(&metrics);
        (metrics.positive_gradient, metrics.negative_gradient) = (Some(balance.positive), Some(balance.negative));
        metrics.gradient_balance = balance.ratio();
        if evaluates {
            self.evaluate(&mut metrics)?;
        }
        self.console.show(&metrics);
        Ok(metrics)
    }

    /// Waits for the steps that were asked for, and takes them into the log's window.
    fn read_outcomes(&mut self) -> Result<()> {
        let begun = Instant::now();
        let outcomes = self.learner.outcomes().map_err(|error| self.explain(error, self.learner.state.step))?;
        let waiting = begun.elapsed();
        self.progress.seconds += waiting.as_secs_f64();
        if let Some((time, _)) = self.unread.last_mut() {
            *time += waiting;
        }
        for (outcome, (time, waited)) in outcomes.iter().zip(self.unread.drain(..)) {
            self.progress.window.add(outcome, time, waited);
        }
        Ok(())
    }

    fn record(&mut self, metrics: &StepMetrics) -> Result<()> {
        self.metrics.log(metrics)?;
        if let Some(Err(error)) = self.events.as_mut().map(|events| events.log(metrics)) {
            self.events = None;
            self.note(format!("nothing more is written for TensorBoard: {error}"));
        }
        Ok(())
    }

    fn score(&mut self) -> Result<TestResult> {
        let Learner { network, state, .. } = &mut self.learner;
        let scored = self.test.score(self.backend, network, state.encoder());
        scored.map_err(|error| self.explain(error, self.learner.state.step))
    }

    fn evaluate(&mut self, metrics: &mut StepMetrics) -> Result<()> {
        let scores = self.score()?.scores;
        let recall = scores.recall_at(1).unwrap_or(0.0);
        metrics.recall_at_1 = Some(recall);
        metrics.map_at_r = Some(scores.map_at_r);
        self.schedule.observe(recall);
        if self.progress.best.is_none_or(|(best, _)| recall > best) {
            self.progress.best = Some((recall, self.learner.state.step));
            let (path, weights) = (self.folder.best(), self.learner.state.encoder());
            let provenance = self.provenance();
            checkpoint::save_trained_model(self.backend, &path, &self.config, weights, provenance)?;
        }
        Ok(())
    }

    fn warn_of_collapse(&mut self, metrics: &StepMetrics) {
        let similarity = metrics.mean_similarity.unwrap_or(0.0);
        let warned = self.notes.iter().any(|note| note.starts_with("collapse"));
        if similarity > COLLAPSED && !warned {
            let memory = match self.config.memory {
                MemoryKind::None => "",
                _ => ", a later --memory-start, a --memory-ramp or a smaller --memory-weight",
            };
            self.note(format!(
                "collapse: at step {} the mean similarity of two images is {similarity:.2}, the network maps nearly everything to one \
                 point; try a smaller --lr{memory}",
                metrics.step
            ));
        }
    }

    fn warn_of_zero_rows(&mut self, metrics: &StepMetrics) {
        let Some(rows) = metrics.zero_rows else { return };
        if !self.notes.iter().any(|note| note.starts_with("zero rows")) {
            self.note(format!(
                "zero rows: up to step {} the network gave {rows} embeddings of length 0, which are like nothing and get no gradient; \
                 try a smaller --lr or --weight-decay (metrics.jsonl counts them as zero_rows)",
                metrics.step
            ));
        }
    }

    /// Never overwrites a good checkpoint by one that holds NaN.
    fn save_checkpoint(&mut self) -> Result<PathBuf> {
        self.read_outcomes()?;
        let parameters = self.learner.state.query.parameters.all();
        if !self.backend.squared_norm(parameters)?.is_finite() {
            return Err(self.explain(Error::NotFinite { what: "the network", row: 0 }, self.learner.state.step));
        }
        self.progress.plateau = self.schedule.plateau;
        let path = self.folder.checkpoint(self.learner.state.step);
        self.progress.provenance = self.provenance();
        checkpoint::save(self.backend, &path, &self.config, &self.learner.state, &self.progress)?;
        self.folder.note_checkpoint(self.learner.state.step)?;
        self.folder.prune(self.config.keep_checkpoints)?;
        Ok(path)
    }

    /// What the encoder was trained on so far.
    fn provenance(&self) -> Option<Provenance> {
        self.progress.provenance.as_ref().map(|run| run.with_seen(self.seen.contents()))
    }

    /// What to do about a loss or an embedding that is not finite.
    fn explain(&self, error: Error, step: u64) -> Error {
        let (untrained, words) = match error {
            Error::NotFinite { .. } => (self.learner.state.step == 0, format!("stopped at step {step}: {error}")),
            Error::Diverged { step, .. } => (step == 1, error.to_string()),
            other => return other,
        };
        if untrained {
            let advice = "no weight was changed yet, so look at --weighting, --positive and --negative, and at --pretrained";
            return Error::Training(format!("{words}; {advice}"));
        }
        let calmer = format!("a smaller --lr than {:?}", self.config.lr);
        let advice = match self.folder.last_checkpoint() {
            Ok(Some(path)) => format!(
                "the last good checkpoint is {}; go on from it by `xbm-fast train --resume {}` with {calmer}",
                path.display(),
                quoted(&self.folder.root().to_string_lossy())
            ),
            _ => format!("there is no checkpoint yet; start again with {calmer}"),
        };
        Error::Training(format!("{words}; {advice}"))
    }

    fn finish(mut self) -> Result<Ending> {
        let result = self.score()?;
        self.console.finish();
        for (index, reason) in self.loader.unreadable().into_iter().chain(result.unreadable().cloned()) {
            let (place, reason) = self.dataset.fault(index, &reason);
            self.note(format!("left out {place}: {reason}"));
        }
        if let Some(words) = self.dataset.first_frames() {
            self.note(words);
        }
        self.look_for_leakage(&result);
        let scores = &result.scores;
        let steps = self.learner.state.step;
        let summary = Summary {
            recall_at_1: scores.recall_at(1).unwrap_or(0.0),
            recall_at_10: scores.recall_at(10),
            map_at_r: scores.map_at_r,
            r_precision: scores.r_precision,
            initial_recall_at_1: self.progress.initial_recall_at_1,
            steps,
            seconds: self.progress.seconds,
            images_per_second: steps as f64 * self.config.batch_size as f64 / self.progress.seconds.max(1e-9),
            device: self.backend.description(),
            seed: self.config.seed,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            data: self.dataset.name.clone(),
            images: self.progress.provenance.as_ref().map(Provenance::listing).transpose()?.map(|listing| listing.fingerprint()),
            classes: self.leakage.classes,
            copies: self.leakage.copies.clone(),
        };
        summary.write(self.folder.root())?;
        let unreported = self.write_report(&result).err().map(|error| error.to_string());
        Ok(Ending::Finished(Box::new(summary), self.folder, unreported))
    }

    /// By what the images show, as far as they were decoded; says what files had not told.
    fn look_for_leakage(&mut self, result: &TestResult) {
        let trained = self.seen.images().filter_map(|image| Some((image, self.loader.content(image)?)));
        self.same.add(trained.chain(result.contents()));
        let trained = leakage::trained_classes(&self.dataset);
        let mut found = Leakage::of_result((&self.dataset, &self.same), result, Some(&trained), self.seen.contents());
        if self.config.same_set {
            found.leave_out_copies();
        }
        for copies in &found.copies {
            if !self.leakage.copies.contains(copies) {
                self.console.say(&format!("note      {copies}"));
            }
            self.notes.push(copies.to_string());
        }
        self.leakage = found;
    }

    fn write_report(&self, result: &TestResult) -> Result<()> {
        let before = self.progress.initial_recall_at_1;
        let after = result.scores.recall_at(1).unwrap_or(0.0);
        let mut notes: Vec<Note> = self.notes.iter().cloned().map(Note::Warning).collect();
        if let Some((recall, step)) = self.progress.best {
            notes.push(Note::Information(format!(
                "Best Recall@1 {:.1} % at step {step}: checkpoints/best.safetensors",
                100.0 * recall
            )));
        }
        let report = Report {
            title: format!("Retrieval on {}", self.dataset.name),
            subtitle: gather::subtitle(&self.config, &self.backend.description()),
            headline: Some(Score { name: self.leakage.classes.headline(), before: Some(before), after }),
            scores: gather::scores(result, before),
            settings: gather::settings(&self.config),
            steps: read_metrics(self.folder.root())?,
            weights: Some(gather::weight_curves(&self.config, result)),
            galleries: gather::galleries(self.backend, &self.dataset, result, self.config.seed)?,
            notes,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        write_atomically(self.folder.report(), |file| file.write_all(report::render(&report).as_bytes()))
    }
}

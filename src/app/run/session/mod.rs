//! A run that is under way: steps, evaluations, records and checkpoints, until the last step or until somebody asks to stop.

mod estimate;
mod remarks;
mod scores;
mod summary;

use super::images::{Images, idle_holdout};
use super::leakage::{Leakage, Seen};
use super::{Console, Ending, Progress, RunFolder, TestSet, Verbosity};
use crate::app::config::TrainConfig;
use crate::app::data::{Dataset, Loader, Provenance, SameImages, sampler, survey};
use crate::app::runlog::{MetricsLog, StepMetrics};
use crate::app::tensorboard::EventFile;
use crate::checkpoint;
use crate::error::{Error, Result};
use crate::model::Weights;
use crate::ops::Backend;
use crate::train::schedule::Schedule;
use crate::train::{Balance, Learner};
use crate::words::{counted, quoted};
use estimate::Estimate;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A run that is under way.
pub(super) struct Run<'a, B: Backend> {
    backend: &'a B,
    config: TrainConfig,
    folder: RunFolder,
    dataset: Arc<Dataset>,
    test: TestSet,
    /// What the best checkpoint is chosen on; empty where that is the test set.
    validation: TestSet,
    /// Validation images that could not be read, with the reason.
    unvalidated: Vec<(usize, String)>,
    learner: Learner<B>,
    /// The encoder as it was before the first step, until it is scored.
    untrained: Option<Weights<B>>,
    loader: Loader,
    schedule: Schedule,
    progress: Progress,
    /// Of the first rank, which writes for all.
    metrics: Option<MetricsLog>,
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
    estimate: Estimate,
    interrupted: &'a AtomicBool,
}

impl<'a, B: Backend> Run<'a, B> {
    pub fn new(
        backend: &'a B,
        (config, folder, images): (TrainConfig, RunFolder, Images),
        mut learner: Learner<B>,
        progress: Progress,
        (interrupted, verbosity): (&'a AtomicBool, Verbosity),
    ) -> Result<Self> {
        let step = learner.state().step;
        let Images { dataset, sampler, test, validation, chosen, loading, provenance, notes } = images;
        let seen = Seen::new(dataset.images.len(), provenance.seen()?);
        let same = SameImages::by_files(&dataset);
        let mut leakage = Leakage::of_training(&dataset, &same);
        if config.data.same_set {
            leakage.leave_out_copies();
        }
        let progress = Progress { provenance: Some(provenance), ..progress };
        learner.set_soft_labels(&dataset.soft_labels)?;
        let sampled = sampler.report();
        let verbosity = if backend.group().is_first() { verbosity } else { Verbosity::Silent };
        let console = Console::new(verbosity, config.train.batch.steps, step);
        let architecture = learner.network().architecture();
        console.say(&format!("device    {}", backend.description()));
        let validating = match validation.len() {
            0 => String::new(),
            images => format!("{}, ", counted(images, "validation image")),
        };
        console.say(&format!(
            "data      {}: {} of {}, {validating}{}",
            dataset.name,
            counted(sampled.images, "training image"),
            counted(sampled.classes, "class"),
            counted(test.len(), "test image")
        ));
        chosen.iter().for_each(|line| console.say(line));
        console.say(&format!(
            "network   {:?}, {:.1} M parameters, {} px, {:.0} MB of activations",
            architecture.depth,
            architecture.parameters_len as f64 / 1e6,
            architecture.image_size,
            learner.network().planned_len() as f64 * 4e-6
        ));
        console.say(&format!("run       {}", folder.root().display()));
        let resumed = (step > 0).then_some(step);
        let mut schedule = Schedule::new(&config.train);
        schedule.plateau = progress.plateau;
        let mut run = Self {
            loader: Loader::new(dataset.clone(), sampler.for_part(backend.group().part(config.train.batch.size)), step, &loading)?,
            metrics: if backend.group().is_first() { Some(MetricsLog::open(folder.root(), resumed)?) } else { None },
            events: None,
            notes: Vec::new(),
            same,
            leakage,
            seen,
            unread: Vec::new(),
            estimate: Estimate::new(&config, step),
            backend,
            config,
            folder,
            dataset,
            test,
            validation,
            unvalidated: Vec::new(),
            learner,
            untrained: None,
            schedule,
            progress,
            console,
            interrupted,
        };
        match run.metrics.as_ref().map(|_| EventFile::create(run.folder.root(), resumed)).transpose() {
            Ok(events) => run.events = events,
            Err(error) => run.note(format!("nothing is written for TensorBoard: {error}")),
        }
        if sampled.singletons > 0 {
            let rest = if sampled.singletons == 1 { "has one image: it has" } else { "have one image: they have" };
            run.note(format!("{} {rest} no positives", counted(sampled.singletons, "class")));
        }
        if run.selecting().is_empty() {
            let words = "nothing is held out, so nothing is scored: best.safetensors is the last model";
            run.note(format!("{words}; --holdout 0.1 would test on a tenth of the classes"));
        }
        for words in idle_holdout(&run.dataset, &run.config).into_iter().chain(run.config.late_memory()) {
            run.note(words);
        }
        let found = sampler::repetition(sampled.filled, run.config.sampling.samples_per_class);
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

    pub fn execute(mut self) -> Result<Ending> {
        match self.learner.state().step {
            0 => self.untrained = Some(self.learner.state().encoder().duplicate(self.backend)?),
            step if step < self.config.train.batch.steps => self.console.say(&format!("resumed at step {step}")),
            step => {
                let root = self.folder.root().to_string_lossy();
                let more = format!("to go on: xbm-fast train --resume {} --steps and a number above {step}", quoted(&root));
                self.console.say(&format!("finished  all {step} steps were taken already; {more}"));
            }
        }
        while self.learner.state().step < self.config.train.batch.steps {
            self.step()?;
            if self.backend.group().any("whether to stop", self.interrupted.load(Ordering::Relaxed))? {
                let path = self.save_checkpoint()?;
                self.console.finish();
                return Ok(Ending::Interrupted(path, self.folder));
            }
        }
        self.score_untrained()?;
        self.finish()
    }

    fn step(&mut self) -> Result<()> {
        let begun = Instant::now();
        let batch = self.loader.next()?;
        for &id in &batch.ids {
            self.seen.take(id as usize, self.loader.content(id as usize));
        }
        let learning_rate = self.schedule.learning_rate(self.learner.state().step);
        let (step, last) = (self.learner.state().step + 1, self.learner.state().step + 1 == self.config.train.batch.steps);
        let due = |interval: u64| last || (interval > 0 && step.is_multiple_of(interval));
        let (logs, evaluates, saves) =
            (due(self.config.record.log_every), due(self.config.record.eval_every), due(self.config.record.checkpoint_every));
        let taken = if logs || evaluates {
            self.learner.advance_balanced(&batch.plain(), learning_rate).map(Some)
        } else {
            self.learner.advance(&batch.plain(), learning_rate).map(|()| None)
        };
        let balance = taken.map_err(|error| self.explain(error, step))?;
        let time = begun.elapsed();
        self.progress.seconds += time.as_secs_f64();
        self.unread.push((time, batch.waited));
        self.console.advance();

        if logs || evaluates || saves || self.estimate.needs(step) {
            self.read_outcomes()?;
        }
        self.estimate.observe(step, self.progress.seconds);
        let metrics = balance.map(|balance| self.measure(learning_rate, &balance, evaluates)).transpose()?;
        self.score_untrained()?;
        self.say_estimate(step);
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
        let mut metrics = self.progress.window.close(self.learner.state().step, learning_rate, self.config.train.batch.size);
        metrics.seconds = Some(self.progress.seconds);
        metrics.memory_drift = self.learner.state().memory.iter().flat_map(|memory| memory.drift().by_age()).collect();
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
        let outcomes = self.learner.outcomes().map_err(|error| self.explain(error, self.learner.state().step))?;
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
        self.metrics.as_mut().map_or(Ok(()), |log| log.log(metrics))?;
        if let Some(Err(error)) = self.events.as_mut().map(|events| events.log(metrics)) {
            self.events = None;
            self.note(format!("nothing more is written for TensorBoard: {error}"));
        }
        Ok(())
    }

    /// Never overwrites a good checkpoint by one that holds NaN.
    fn save_checkpoint(&mut self) -> Result<PathBuf> {
        self.read_outcomes()?;
        let parameters = self.learner.state().query.parameters.all();
        if !self.backend.squared_norm(parameters)?.is_finite() {
            return Err(self.explain(Error::NotFinite { what: "the network", row: 0 }, self.learner.state().step));
        }
        self.progress.plateau = self.schedule.plateau;
        let path = self.folder.checkpoint(self.learner.state().step);
        self.progress.provenance = self.provenance()?;
        checkpoint::save(self.backend, &path, &self.config.train, self.learner.state(), &self.progress.to_record())?;
        if self.backend.group().is_first() {
            self.folder.note_checkpoint(self.learner.state().step, self.progress.seconds)?;
            self.folder.prune(self.config.record.keep_checkpoints)?;
        }
        Ok(path)
    }

    /// What the encoder was trained on so far, by all ranks.
    fn provenance(&mut self) -> Result<Option<Provenance>> {
        self.seen.join(self.backend.group())?;
        Ok(self.progress.provenance.as_ref().map(|run| run.with_seen(self.seen.contents())))
    }
}

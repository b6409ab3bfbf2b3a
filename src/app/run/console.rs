//! What a person sees while a run goes on: a progress bar on a terminal, plain lines elsewhere, always on stderr.

use crate::app::runlog::StepMetrics;
use crate::app::terminal::{self, Bar};
use std::fmt::Write as _;

/// Whether a run says what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbosity {
    /// On stderr.
    Aloud,
    /// Its files tell.
    Silent,
}

/// Progress on stderr.
#[derive(Debug)]
pub struct Console {
    verbosity: Verbosity,
    bar: Option<Bar>,
    steps: u64,
}

impl Console {
    /// Shows progress through `steps` steps, the first `done` of which were taken earlier.
    pub fn new(verbosity: Verbosity, steps: u64, done: u64) -> Self {
        let bar = if verbosity == Verbosity::Aloud { Bar::new(steps, done, "") } else { None };
        Self { verbosity, bar, steps }
    }

    /// A line that stays.
    pub fn say(&self, line: &str) {
        if self.verbosity == Verbosity::Aloud {
            terminal::say(line);
        }
    }

    /// A step was taken.
    pub fn advance(&self) {
        if let Some(bar) = &self.bar {
            bar.advance();
        }
    }

    /// A step was logged: its line stays, but where a bar shows it already and nothing was evaluated.
    pub fn show(&self, metrics: &StepMetrics) {
        let line = describe(metrics);
        if self.bar.is_none() || metrics.recall_at_1.is_some() {
            self.say(&format!("step {:>6}/{}  {line}", metrics.step, self.steps));
        }
        if let Some(bar) = &self.bar {
            bar.set_message(line);
        }
    }

    /// Takes the bar away.
    pub fn finish(&mut self) {
        self.bar = None;
    }
}

fn describe(metrics: &StepMetrics) -> String {
    let mut line = format!("loss {:.3}", metrics.loss.unwrap_or(f64::NAN));
    if let Some(memory) = metrics.memory_loss.filter(|loss| *loss > 0.0) {
        let _ = write!(line, " (memory {memory:.3})");
    }
    let kept = (metrics.kept_positives.unwrap_or(0.0), metrics.kept_negatives.unwrap_or(0.0));
    let _ = write!(line, "  kept +{:.1} -{:.1}", kept.0, kept.1);
    if let Some(rate) = metrics.images_per_second {
        let _ = write!(line, "  {rate:.0} images/s");
    }
    if let Some(wait) = metrics.data_wait {
        let _ = write!(line, "  data wait {:.0}%", 100.0 * wait);
    }
    if let Some(recall) = metrics.recall_at_1 {
        let _ = write!(line, "  Recall@1 {:.1}%", 100.0 * recall);
    }
    line
}

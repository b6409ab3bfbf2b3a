//! What a person sees while a run goes on: a progress bar on a terminal, plain lines elsewhere, always on stderr.

use crate::runlog::StepMetrics;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::fmt::Write as _;
use std::io::IsTerminal;

/// Whether a run says what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    /// On stderr.
    Aloud,
    /// Its files tell.
    Silent,
}

/// Progress on stderr.
#[derive(Debug)]
pub struct Console {
    voice: Voice,
    bar: Option<ProgressBar>,
    steps: u64,
}

impl Console {
    /// Shows progress through `steps` steps, the first `done` of which were taken earlier.
    pub fn new(voice: Voice, steps: u64, done: u64) -> Self {
        let bar = (voice == Voice::Aloud && std::io::stderr().is_terminal()).then(|| {
            let style = ProgressStyle::with_template("{bar:24} {pos}/{len} [{elapsed}<{eta}] {msg}").expect("a valid template");
            ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr()).with_style(style).with_position(done)
        });
        Self { voice, bar, steps }
    }

    /// A line that stays.
    pub fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{line}")),
            None if self.voice == Voice::Silent => {}
            None => eprintln!("{line}"),
        }
    }

    /// A step was taken.
    pub fn advance(&self) {
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
    }

    /// A step was logged.
    pub fn show(&self, metrics: &StepMetrics) {
        let line = describe(metrics);
        match &self.bar {
            Some(bar) => bar.set_message(line),
            None if self.voice == Voice::Silent => {}
            None => eprintln!("step {:>6}/{}  {line}", metrics.step, self.steps),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
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

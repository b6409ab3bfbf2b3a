//! How long a run will take and how much memory it has, measured on its first steps, and again once the memory takes part.

use super::Run;
use crate::app::config::TrainConfig;
use crate::ops::Backend;
use std::time::Duration;

/// Steps that are timed.
const TIMED: u64 = 5;
/// Fewer steps than this need no estimate.
const SHORTEST: u64 = 30;

/// The clock of the first steps.
#[derive(Debug)]
pub(super) struct Estimate {
    /// Steps after which timing begins: the first of a run, which makes its buffers, and the first with the memory.
    from: Vec<u64>,
    /// Seconds of training at the end of that step.
    begun: Option<f64>,
    /// Seconds of a step, once it is known, until that was said.
    per_step: Option<f64>,
    /// Seconds of embedding and scoring an image.
    per_image: Option<f64>,
}

impl Estimate {
    /// Of a run that goes on after `done` steps.
    pub fn new(config: &TrainConfig, done: u64) -> Self {
        let start = config.train.memory.start + 1;
        let later = config.train.filling().is_some() && start > done + 2 * TIMED;
        let all = [Some(done + 1), later.then_some(start + 1)].into_iter().flatten();
        let from = all.filter(|from| from + SHORTEST <= config.train.batch.steps).collect();
        Self { from, begun: None, per_step: None, per_image: None }
    }

    /// Whether the clock has to be right after this step.
    pub fn needs(&self, step: u64) -> bool {
        self.from.iter().any(|from| [*from, from + TIMED].contains(&step))
    }

    /// A step has ended, after so many seconds of training.
    pub fn observe(&mut self, step: u64, seconds: f64) {
        if self.from.contains(&step) {
            self.begun = Some(seconds);
        }
        if let Some(begun) = self.begun.filter(|_| self.from.iter().any(|from| from + TIMED == step)) {
            self.per_step = Some((seconds - begun) / TIMED as f64);
        }
    }

    /// So many images were embedded and scored.
    pub fn evaluated(&mut self, time: Duration, images: usize) {
        self.per_image = Some(time.as_secs_f64() / images.max(1) as f64);
    }
}

impl<B: Backend> Run<'_, B> {
    /// Says how long the rest of the run will take, once that was measured.
    pub(super) fn say_estimate(&mut self, step: u64) {
        let Some(per_step) = self.estimate.per_step.take() else { return };
        let (steps, every) = (self.config.train.batch.steps, self.config.record.eval_every);
        let evaluations = steps / every.max(1) - step / every.max(1) + u64::from(every == 0 || !steps.is_multiple_of(every));
        let images = evaluations as usize * self.selecting().len() + self.test.len();
        let scoring = self.estimate.per_image.map(|seconds| seconds * images as f64);
        let total = per_step * (steps - step) as f64 + scoring.unwrap_or(0.0);
        let scoring = scoring.map_or(String::new(), |seconds| format!(", of it {} of evaluations", lasting(seconds)));
        let memory = resident_peak().map_or(String::new(), |bytes| format!("; {:.0} MB of memory so far", bytes as f64 / 1e6));
        let later = self.estimate.from.iter().any(|from| *from > step);
        let later = if later { "; with the memory's start steps take longer, and this is said again" } else { "" };
        self.console.say(&format!("estimate  about {} more{scoring}, by steps of {per_step:.3} s{memory}{later}", lasting(total)));
    }
}

/// Seconds, minutes or hours.
fn lasting(seconds: f64) -> String {
    match seconds {
        ..100.0 => format!("{seconds:.0} s"),
        ..6000.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3600.0),
    }
}

/// Most memory that the process has had, in bytes, where the system tells.
fn resident_peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

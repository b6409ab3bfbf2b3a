//! Averages over the steps between two lines of the log.

use crate::app::runlog::StepMetrics;
use crate::train::StepOutcome;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The steps since the last line. It is part of every checkpoint, so that a resumed run logs the same averages; times are not, so that
/// equal runs write equal checkpoints.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Window {
    steps: f64,
    sums: StepOutcome,
    #[serde(skip)]
    times: Times,
}

/// What the steps took that this process has taken.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Times {
    steps: f64,
    time: Duration,
    waited: Duration,
}

impl Window {
    /// Takes a step in.
    pub fn add(&mut self, outcome: &StepOutcome, time: Duration, waited: Duration) {
        self.steps += 1.0;
        self.sums.batch_loss += outcome.batch_loss;
        self.sums.memory_loss += outcome.memory_loss;
        self.sums.kept_positives += outcome.kept_positives;
        self.sums.kept_negatives += outcome.kept_negatives;
        self.sums.mean_similarity += outcome.mean_similarity;
        self.sums.memory_rows = outcome.memory_rows;
        self.sums.zero_rows += outcome.zero_rows;
        self.times.steps += 1.0;
        self.times.time += time;
        self.times.waited += waited;
    }

    /// The averages as a line of the log, absent without a step; the window starts anew. `data_wait` is a share of the time.
    pub fn close(&mut self, step: u64, learning_rate: f32, batch_size: usize) -> StepMetrics {
        let Self { steps, sums, times } = std::mem::take(self);
        let seconds = times.time.as_secs_f64().max(1e-9);
        let mean = |sum: f64| (steps > 0.0).then(|| sum / steps);
        StepMetrics {
            step,
            loss: mean(sums.batch_loss + sums.memory_loss),
            batch_loss: mean(sums.batch_loss),
            memory_loss: mean(sums.memory_loss),
            kept_positives: mean(sums.kept_positives),
            kept_negatives: mean(sums.kept_negatives),
            mean_similarity: mean(sums.mean_similarity),
            zero_rows: (sums.zero_rows > 0).then_some(sums.zero_rows),
            memory_rows: Some(sums.memory_rows as u64),
            lr: Some(as_written(learning_rate)),
            images_per_second: Some(times.steps * batch_size as f64 / seconds),
            data_wait: Some((times.waited.as_secs_f64() / seconds).min(1.0)),
            ..StepMetrics::default()
        }
    }
}

/// The value that reads as `value` does: 0.001, not the 32-bit number nearest to it.
fn as_written(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

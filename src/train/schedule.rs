//! The learning rate over the steps of a run.

use super::TrainSettings;
use crate::settings::Range::AtLeast;
use crate::settings::{choice, settings};
use serde::{Deserialize, Serialize};

choice! {
    /// How the learning rate moves after the warm-up.
    pub enum ScheduleKind {
        /// Not at all.
        Constant = "constant",
        /// Times `schedule_factor` every `schedule_steps` steps.
        Step = "step",
        /// Half a cosine down to zero.
        Cosine = "cosine",
        /// Times `schedule_factor` after `schedule_patience` evaluations without a better Recall@1.
        Plateau = "plateau",
    }
}

/// Schedules that drop by a factor.
const DROPS: &[&str] = &["step", "plateau"];

settings! {
    /// How the learning rate moves.
    pub struct ScheduleSettings in "Optimiser" {
        /// How the learning rate moves after the warm-up: not at all, by a factor every --schedule-steps steps, down to 0 by half a
        /// cosine, or by a factor after --schedule-patience evaluations without a better Recall@1.
        "schedule" => kind: ScheduleKind = ScheduleKind::Constant, unit("KIND");
        /// Steps of linear warm-up.
        "warmup" => warmup: u64 = 0, unit("STEPS");
        /// Steps between two drops of the step schedule.
        "schedule_steps" => interval: u64 = 1000, unit("STEPS"), needs("schedule", &["step"]);
        /// Factor of a drop of the step or the plateau schedule.
        "schedule_factor" => factor: f32 = 0.1, unit("FACTOR"), within(AtLeast(0.0)), needs("schedule", DROPS);
        /// Evaluations without improvement before the plateau schedule drops.
        "schedule_patience" => patience: u32 = 4, unit("EVALUATIONS"), needs("schedule", &["plateau"]);
    }
}

/// A learning-rate schedule. Only the plateau schedule has state, and it is part of every checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    kind: ScheduleKind,
    peak: f32,
    steps: u64,
    warmup: u64,
    interval: u64,
    factor: f32,
    patience: u32,
    /// What the plateau schedule has seen.
    pub plateau: Plateau,
}

/// State of the plateau schedule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plateau {
    best: f64,
    evaluations_without_improvement: u32,
    drops: u32,
}

impl Schedule {
    /// The schedule that a run's settings describe.
    pub fn new(settings: &TrainSettings) -> Self {
        let ScheduleSettings { kind, warmup, interval, factor, patience } = settings.schedule;
        Self {
            kind,
            peak: settings.optimizer.lr,
            steps: settings.batch.steps,
            warmup,
            interval: interval.max(1),
            factor,
            patience,
            plateau: Plateau::default(),
        }
    }

    /// Learning rate of a step, counted from 0.
    pub fn learning_rate(&self, step: u64) -> f32 {
        if step < self.warmup {
            return self.peak * (step + 1) as f32 / self.warmup as f32;
        }
        let after_warmup = step - self.warmup;
        self.peak
            * match self.kind {
                ScheduleKind::Constant => 1.0,
                ScheduleKind::Step => self.factor.powi((after_warmup / self.interval) as i32),
                ScheduleKind::Cosine => {
                    let length = self.steps.saturating_sub(self.warmup).max(1);
                    let progress = (after_warmup as f64 / length as f64).min(1.0);
                    (0.5 * (1.0 + (std::f64::consts::PI * progress).cos())) as f32
                }
                ScheduleKind::Plateau => self.factor.powi(self.plateau.drops as i32),
            }
    }

    /// Tells the plateau schedule a new score, higher being better.
    pub fn observe(&mut self, score: f64) {
        let plateau = &mut self.plateau;
        if score > plateau.best {
            plateau.best = score;
            plateau.evaluations_without_improvement = 0;
            return;
        }
        plateau.evaluations_without_improvement += 1;
        if plateau.evaluations_without_improvement > self.patience {
            plateau.drops += 1;
            plateau.evaluations_without_improvement = 0;
        }
    }
}

//! The learning rate over the steps of a run.

use crate::app::config::{ScheduleKind, TrainConfig};
use serde::{Deserialize, Serialize};

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
    pub fn new(config: &TrainConfig) -> Self {
        Self {
            kind: config.schedule,
            peak: config.lr,
            steps: config.steps,
            warmup: config.warmup,
            interval: config.schedule_steps.max(1),
            factor: config.schedule_factor,
            patience: config.schedule_patience,
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

//! Optimiser steps over one flat buffer of parameters: SGD with momentum, Adam, AdamW, each as torch defines them; the global norm
//! of the gradient; and the exponential moving average that a momentum encoder is.

use super::{In, Out};
use crate::backend::Storage;
use crate::error::Result;
use serde::{Deserialize, Serialize};

/// Which update is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// `v = momentum v + g; p -= lr v`, weight decay added to the gradient.
    Sgd,
    /// Adam, weight decay added to the gradient.
    Adam,
    /// Adam with decoupled weight decay.
    AdamW,
}

/// A range of the flat buffer with its own rate and decay (a parameter group).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ParameterGroup {
    /// First parameter.
    pub start: usize,
    /// Number of parameters.
    pub len: usize,
    /// Learning rate of this step.
    pub learning_rate: f32,
    /// Weight decay.
    pub weight_decay: f32,
}

/// One step's settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OptimizerStep {
    /// Which update.
    pub rule: Rule,
    /// Momentum of SGD, or Adam's first decay.
    pub beta1: f32,
    /// Adam's second decay.
    pub beta2: f32,
    /// Adam's denominator term.
    pub epsilon: f32,
    /// Number of this step, from 1: Adam's bias correction.
    pub step: u64,
    /// Factor on the gradient (clipping, loss un-scaling).
    pub gradient_scale: f32,
}

/// Parameters and moments that a step updates, all of one length.
#[derive(Debug)]
pub struct OptimizerState<'a, B: Storage> {
    /// The parameters.
    pub parameters: Out<'a, B>,
    /// Momentum, or Adam's first moment.
    pub first_moment: Out<'a, B>,
    /// Adam's second moment; ignored by SGD, may then be empty.
    pub second_moment: Out<'a, B>,
}

/// Optimiser operations on flat buffers.
pub trait Optimizer: Storage {
    /// One step on each group; parameters outside all groups are untouched.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if lengths differ or a group reaches past the end.
    fn optimizer_step(
        &self,
        step: &OptimizerStep,
        groups: &[ParameterGroup],
        gradients: In<'_, Self>,
        state: OptimizerState<'_, Self>,
    ) -> Result<()>;

    /// Sum of squares in double precision, in a fixed order; not finite when any value is not.
    ///
    /// # Errors
    /// What the device reports.
    fn squared_norm(&self, values: In<'_, Self>) -> Result<f64>;

    /// `target = momentum * target + (1 - momentum) * source`.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if lengths differ.
    fn moving_average(&self, momentum: f32, source: In<'_, Self>, target: Out<'_, Self>) -> Result<()>;
}

//! Optimiser steps over one flat buffer of parameters: SGD with momentum, Adam, AdamW, each as torch defines them; the global norm
//! of the gradient; and the exponential moving average that a momentum encoder is.
//!
//! A backward pass in 16 bit starts from a gradient that is multiplied by a loss scale, so that small values survive; it is taken off
//! before the step. A gradient that overflows makes the step change nothing and the scale half as large; many that do not double it. All
//! of that is four numbers on the device, the scaler: loss scale, clean steps since it changed, steps left out, and 1 or 0 for a gradient
//! that is finite or not.

mod cuda;

use super::{In, Out};
use crate::cpu::dot::dot_f64;
use crate::cpu::simd::vectorized;
use crate::device::{Cpu, Span, Storage};
use crate::error::{Error, Result, expect_len};
use crate::settings::choice;
use rayon::prelude::*;

choice! {
    /// Which update is made.
    pub enum Algorithm {
        /// `v = momentum v + g; p -= lr v`, weight decay added to the gradient.
        Sgd = "sgd",
        /// Adam, weight decay added to the gradient.
        Adam = "adam",
        /// Adam with decoupled weight decay.
        AdamW = "adamw",
    }
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
    pub algorithm: Algorithm,
    /// Momentum of SGD, or Adam's first decay.
    pub beta1: f32,
    /// Adam's second decay.
    pub beta2: f32,
    /// Adam's denominator term.
    pub epsilon: f32,
    /// Number of this step, from 1: Adam's bias correction.
    pub step: u64,
}

/// The gradients of a step, as long as the parameters.
#[derive(Debug)]
pub struct Gradients<'a, B: Optimizer> {
    /// The gradients.
    pub values: In<'a, B>,
    /// Where they are clipped: the largest norm, and the sum of squares of all gradients in use, of [`Optimizer::squared_norm_of`].
    pub clip: Option<(f32, &'a B::SquaredNorm)>,
}

impl<'a, B: Optimizer> Gradients<'a, B> {
    /// As they are, however long.
    pub fn unclipped(values: In<'a, B>) -> Self {
        Self { values, clip: None }
    }
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
    /// [`SCALER_LEN`] numbers: see the head of this module.
    pub scaler: In<'a, B>,
}

/// Length of the scaler.
pub const SCALER_LEN: usize = 4;

/// Optimiser operations on flat buffers.
pub trait Optimizer: Storage {
    /// A sum of squares in double precision, where the device keeps it.
    type SquaredNorm: std::fmt::Debug;

    /// The scaler of a run that begins, on the host.
    fn initial_scaler(&self) -> [f32; SCALER_LEN] {
        [1.0, 0.0, 0.0, 1.0]
    }

    /// Multiplies the gradient that a backward pass starts from by the loss scale.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the scaler has another length.
    fn scale_loss(&self, scaler: In<'_, Self>, gradient: Out<'_, Self>) -> Result<()>;

    /// Takes the loss scale off all gradients after a backward pass, notes in the scaler whether they are finite, and moves the scale.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the scaler has another length.
    fn unscale(&self, gradients: Out<'_, Self>, scaler: Out<'_, Self>) -> Result<()>;

    /// One step on each group; parameters outside all groups are untouched. A GPU changes nothing if the scaler says that the gradient is
    /// not finite.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if lengths differ or a group reaches past the end.
    fn optimizer_step(
        &self,
        step: &OptimizerStep,
        groups: &[ParameterGroup],
        gradients: Gradients<'_, Self>,
        state: OptimizerState<'_, Self>,
    ) -> Result<()>;

    /// Sum of squares of the gradients of these groups, in a fixed order, for the clipping of a step. A GPU returns nothing to the host.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if a group reaches past the end.
    fn squared_norm_of(&self, groups: &[ParameterGroup], gradients: In<'_, Self>) -> Result<Self::SquaredNorm>;

    /// Sum of squares in double precision, in a fixed order, read back to the host; not finite when any value is not.
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

/// Values per task.
const CHUNK: usize = 16 * 1024;
/// Partial sums of [`Optimizer::squared_norm`]: each covers a fixed share of the buffer.
const NORM_BLOCKS: usize = 64;
/// Independent sums within one block.
const LANES: usize = 16;

/// Fails unless lengths agree and groups lie within the parameters.
fn check<B: Storage>(
    step: &OptimizerStep,
    groups: &[ParameterGroup],
    gradients: usize,
    state: &OptimizerState<'_, B>,
) -> Result<()> {
    let len = state.parameters.len;
    expect_len("gradients", len, gradients)?;
    expect_len("first moment", len, state.first_moment.len)?;
    expect_len("scaler", SCALER_LEN, state.scaler.len)?;
    if step.algorithm != Algorithm::Sgd {
        expect_len("second moment", len, state.second_moment.len)?;
        if step.step == 0 {
            return Err(Error::shape("step of Adam's bias correction", "at least 1", 0));
        }
    }
    check_groups(groups, len)
}

/// Fails unless groups lie within `len` parameters.
fn check_groups(groups: &[ParameterGroup], len: usize) -> Result<()> {
    if let Some(group) = groups.iter().find(|group| group.start.checked_add(group.len).is_none_or(|end| end > len)) {
        let found = format!("{} parameters from {}", group.len, group.start);
        return Err(Error::shape("parameter group", format_args!("a part of {len} parameters"), found));
    }
    Ok(())
}

impl Optimizer for Cpu {
    type SquaredNorm = f64;

    fn scale_loss(&self, scaler: In<'_, Self>, _gradient: Out<'_, Self>) -> Result<()> {
        expect_len("scaler", SCALER_LEN, scaler.len)
    }

    fn unscale(&self, _gradients: Out<'_, Self>, scaler: Out<'_, Self>) -> Result<()> {
        expect_len("scaler", SCALER_LEN, scaler.len)
    }

    fn optimizer_step(
        &self,
        step: &OptimizerStep,
        groups: &[ParameterGroup],
        gradients: Gradients<'_, Self>,
        state: OptimizerState<'_, Self>,
    ) -> Result<()> {
        check(step, groups, gradients.values.len, &state)?;
        let gradient_scale = gradients.clip.map_or(1.0, |(largest, &squared_norm)| clip_scale(largest, squared_norm));
        let (gradients, parameters) = (gradients.values.as_slice(), state.parameters.into_slice());
        let (first_moment, second_moment) = (state.first_moment.into_slice(), state.second_moment.into_slice());
        self.run(|| {
            for group in groups {
                let range = group.start..group.start + group.len;
                let chunks = (parameters[range.clone()].par_chunks_mut(CHUNK)).zip(gradients[range.clone()].par_chunks(CHUNK));
                let chunks = chunks.zip(first_moment[range.clone()].par_chunks_mut(CHUNK));
                if step.algorithm == Algorithm::Sgd {
                    let update = SgdUpdate { gradient_scale, momentum: step.beta1, group };
                    chunks.for_each(|((parameters, gradients), velocity)| update.apply(gradients, parameters, velocity));
                } else {
                    let update = AdamUpdate::new(step, group, gradient_scale);
                    let chunks = chunks.zip(second_moment[range].par_chunks_mut(CHUNK));
                    chunks
                        .for_each(|(((parameters, gradients), first), second)| update.apply(gradients, parameters, first, second));
                }
            }
        });
        Ok(())
    }

    fn squared_norm_of(&self, groups: &[ParameterGroup], gradients: In<'_, Self>) -> Result<f64> {
        check_groups(groups, gradients.len)?;
        let part = |group: &ParameterGroup| Span::new(gradients.buffer, gradients.start + group.start, group.len);
        groups.iter().try_fold(0.0, |sum, group| Ok(sum + self.squared_norm(part(group))?))
    }

    fn squared_norm(&self, values: In<'_, Self>) -> Result<f64> {
        let values = values.as_slice();
        let block = values.len().div_ceil(NORM_BLOCKS).next_multiple_of(LANES).max(LANES);
        let mut sums = [0.0; NORM_BLOCKS];
        self.run(|| sums.par_iter_mut().zip(values.par_chunks(block)).for_each(|(sum, block)| *sum = sum_of_squares(block)));
        Ok(sums.iter().sum())
    }

    fn moving_average(&self, momentum: f32, source: In<'_, Self>, target: Out<'_, Self>) -> Result<()> {
        expect_len("source of the moving average", target.len, source.len)?;
        let chunks = target.into_slice().par_chunks_mut(CHUNK).zip(source.as_slice().par_chunks(CHUNK));
        self.run(|| {
            chunks.for_each(|(target, source)| {
                vectorized(
                    #[inline(always)]
                    || {
                        for (target, &source) in target.iter_mut().zip(source) {
                            *target = momentum * *target + (1.0 - momentum) * source;
                        }
                    },
                );
            });
        });
        Ok(())
    }
}

/// What brings the norm of all gradients in use down to the largest one allowed.
fn clip_scale(largest: f32, squared_norm: f64) -> f32 {
    let largest = f64::from(largest);
    (largest / squared_norm.sqrt().max(largest)) as f32
}

/// The constants of one step of stochastic gradient descent on one group; the velocity starts from zeros.
struct SgdUpdate<'a> {
    gradient_scale: f32,
    momentum: f32,
    group: &'a ParameterGroup,
}

impl SgdUpdate<'_> {
    /// One chunk.
    fn apply(&self, gradients: &[f32], parameters: &mut [f32], velocity: &mut [f32]) {
        let &ParameterGroup { learning_rate, weight_decay, .. } = self.group;
        vectorized(
            #[inline(always)]
            || {
                for ((parameter, &gradient), velocity) in parameters.iter_mut().zip(gradients).zip(velocity) {
                    let gradient = gradient * self.gradient_scale + weight_decay * *parameter;
                    *velocity = self.momentum * *velocity + gradient;
                    *parameter -= learning_rate * *velocity;
                }
            },
        );
    }
}

/// The constants of one Adam step on one group.
struct AdamUpdate {
    gradient_scale: f32,
    /// Weight decay added to the gradient: Adam's.
    coupled_decay: f32,
    /// Factor on the parameter before the update: AdamW's.
    keep: f32,
    beta1: f32,
    beta2: f32,
    /// Learning rate over the first moment's bias correction.
    step_size: f32,
    /// Square root of the second moment's bias correction.
    deviation: f32,
    epsilon: f32,
}

impl AdamUpdate {
    fn new(step: &OptimizerStep, group: &ParameterGroup, gradient_scale: f32) -> Self {
        let correction = |beta: f32| 1.0 - f64::from(beta).powf(step.step as f64);
        let decoupled = step.algorithm == Algorithm::AdamW;
        let decay = f64::from(group.learning_rate) * f64::from(group.weight_decay);
        Self {
            gradient_scale,
            coupled_decay: if decoupled { 0.0 } else { group.weight_decay },
            keep: if decoupled { (1.0 - decay) as f32 } else { 1.0 },
            beta1: step.beta1,
            beta2: step.beta2,
            step_size: (f64::from(group.learning_rate) / correction(step.beta1)) as f32,
            deviation: correction(step.beta2).sqrt() as f32,
            epsilon: step.epsilon,
        }
    }

    /// One chunk.
    fn apply(&self, gradients: &[f32], parameters: &mut [f32], first_moment: &mut [f32], second_moment: &mut [f32]) {
        vectorized(
            #[inline(always)]
            || {
                let moments = first_moment.iter_mut().zip(second_moment);
                for ((parameter, &gradient), (first, second)) in parameters.iter_mut().zip(gradients).zip(moments) {
                    let gradient = gradient * self.gradient_scale + self.coupled_decay * *parameter;
                    *first += (1.0 - self.beta1) * (gradient - *first);
                    *second = self.beta2 * *second + (1.0 - self.beta2) * gradient * gradient;
                    let denominator = second.sqrt() / self.deviation + self.epsilon;
                    *parameter = self.keep * *parameter - self.step_size * *first / denominator;
                }
            },
        );
    }
}

fn sum_of_squares(values: &[f32]) -> f64 {
    vectorized(
        #[inline(always)]
        || dot_f64::<LANES>(values, values),
    )
}

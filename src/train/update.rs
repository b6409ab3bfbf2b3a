//! What a step changes, and how fast: the head from the first step on, the trunk after the head's warm-up and at a rate of its own, and
//! never the scales and shifts of frozen batch norms.

use super::{OptimizerSettings, TrainSettings};
use crate::device::Tensor;
use crate::error::Result;
use crate::model::{Architecture, Role};
use crate::ops::Backend;
use crate::ops::optimizer::{OptimizerState, OptimizerStep, ParameterGroup};

/// The optimiser's side of a run: its constants, and the ranges of the flat parameters that it may change.
#[derive(Debug)]
pub struct Update {
    constants: OptimizerStep,
    clip_norm: f32,
    trunk_factor: f32,
    head: Vec<ParameterGroup>,
    trunk: Vec<ParameterGroup>,
    /// The first step, counted from 0, that changes the trunk.
    trunk_start: u64,
}

impl Update {
    /// What `settings` train of `architecture`.
    pub fn new(architecture: &Architecture, settings: &TrainSettings) -> Self {
        let OptimizerSettings { rule, beta1, beta2, weight_decay, clip_norm, backbone_lr_factor, head_warmup, .. } =
            settings.optimizer;
        let head_start = architecture.head_start();
        let (mut head, mut trunk) = (Vec::new(), Vec::new());
        for parameter in &architecture.parameters {
            if settings.model.freeze_batch_norm && matches!(parameter.role, Role::Scale | Role::Shift) {
                continue;
            }
            let groups: &mut Vec<ParameterGroup> = if parameter.start < head_start { &mut trunk } else { &mut head };
            match groups.last_mut().filter(|last| last.start + last.len == parameter.start) {
                Some(last) => last.len += parameter.len(),
                None => {
                    groups.push(ParameterGroup { start: parameter.start, len: parameter.len(), learning_rate: 0.0, weight_decay })
                }
            }
        }
        let constants = OptimizerStep { rule, beta1, beta2, epsilon: 1e-8, step: 0, gradient_scale: 1.0 };
        Self { constants, clip_norm, trunk_factor: backbone_lr_factor, head, trunk, trunk_start: head_warmup }
    }

    /// Whether `step`, counted from 0, changes more than the head.
    pub fn trains_trunk(&self, step: u64) -> bool {
        step >= self.trunk_start
    }

    /// Changes the parameters of `state` by one step. Moments of the trunk count from its first step, as torch's do.
    ///
    /// # Errors
    /// What the device reports.
    pub fn apply<B: Backend>(
        &mut self,
        backend: &B,
        step: u64,
        learning_rate: f32,
        gradients: &Tensor<B>,
        mut state: OptimizerState<'_, B>,
    ) -> Result<()> {
        self.head.iter_mut().for_each(|group| group.learning_rate = learning_rate);
        self.trunk.iter_mut().for_each(|group| group.learning_rate = learning_rate * self.trunk_factor);
        let trunk = if self.trains_trunk(step) { &self.trunk[..] } else { &[] };
        let gradient_scale = self.gradient_scale(backend, trunk, gradients)?;
        for (groups, start) in [(trunk, self.trunk_start), (&self.head, 0)] {
            if groups.is_empty() {
                continue;
            }
            let constants = OptimizerStep { step: step + 1 - start, gradient_scale, ..self.constants };
            let state = OptimizerState {
                parameters: state.parameters.reborrow(),
                first_moment: state.first_moment.reborrow(),
                second_moment: state.second_moment.reborrow(),
                scaler: state.scaler,
            };
            backend.optimizer_step(&constants, groups, gradients.all(), state)?;
        }
        Ok(())
    }

    /// What brings the norm of all gradients in use down to the largest one allowed.
    fn gradient_scale<B: Backend>(&self, backend: &B, trunk: &[ParameterGroup], gradients: &Tensor<B>) -> Result<f32> {
        if self.clip_norm <= 0.0 {
            return Ok(1.0);
        }
        let mut square = 0.0;
        for group in trunk.iter().chain(&self.head) {
            square += backend.squared_norm(gradients.part(group.start, group.len))?;
        }
        let largest = f64::from(self.clip_norm);
        Ok((largest / square.sqrt().max(largest)) as f32)
    }
}

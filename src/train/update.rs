//! What a step changes, and how fast: the head from the first step on, the trunk after the head's warm-up and at a rate of its own, and
//! never the scales and shifts of frozen batch norms.

use super::{OptimizerSettings, TrainSettings};
use crate::device::Tensor;
use crate::error::Result;
use crate::model::{Architecture, Role};
use crate::ops::Backend;
use crate::ops::optimizer::{Gradients, OptimizerState, OptimizerStep, ParameterGroup};

/// The optimiser's side of a run: its constants, and the ranges of the flat parameters that it may change.
#[derive(Debug)]
pub struct Update {
    constants: OptimizerStep,
    clip_norm: f32,
    trunk_factor: f32,
    /// Those of the trunk, then those of the head.
    groups: Vec<ParameterGroup>,
    /// How many are the trunk's.
    trunk_groups: usize,
    /// The first step, counted from 0, that changes the trunk.
    trunk_start: u64,
}

impl Update {
    /// What `settings` train of `architecture`.
    pub fn new(architecture: &Architecture, settings: &TrainSettings) -> Self {
        let OptimizerSettings { algorithm, beta1, beta2, weight_decay, clip_norm, backbone_lr_factor, head_warmup, .. } =
            settings.optimizer;
        let head_start = architecture.head_start();
        let (mut head, mut trunk) = (Vec::new(), Vec::new());
        for parameter in &architecture.parameters {
            if settings.model.freeze_batch_norm && matches!(parameter.role, Role::Scale | Role::Shift) {
                continue;
            }
            let part: &mut Vec<ParameterGroup> = if parameter.start < head_start { &mut trunk } else { &mut head };
            match part.last_mut().filter(|last| last.start + last.len == parameter.start) {
                Some(last) => last.len += parameter.len(),
                None => {
                    part.push(ParameterGroup { start: parameter.start, len: parameter.len(), learning_rate: 0.0, weight_decay })
                }
            }
        }
        let constants = OptimizerStep { algorithm, beta1, beta2, epsilon: 1e-8, step: 0 };
        let (trunk_groups, trunk_factor, trunk_start) = (trunk.len(), backbone_lr_factor, head_warmup);
        Self { constants, clip_norm, trunk_factor, groups: [trunk, head].concat(), trunk_groups, trunk_start }
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
        let (trunk, head) = self.groups.split_at_mut(self.trunk_groups);
        head.iter_mut().for_each(|group| group.learning_rate = learning_rate);
        trunk.iter_mut().for_each(|group| group.learning_rate = learning_rate * self.trunk_factor);
        let first = if self.trains_trunk(step) { 0 } else { self.trunk_groups };
        let (in_use, (trunk, head)) = (&self.groups[first..], self.groups.split_at(self.trunk_groups));
        // One norm of all gradients in use, whichever launch updates them.
        let norm = (self.clip_norm > 0.0).then(|| backend.squared_norm_of(in_use, gradients.all())).transpose()?;
        for (groups, start) in [(&trunk[first.min(trunk.len())..], self.trunk_start), (head, 0)] {
            if groups.is_empty() {
                continue;
            }
            let constants = OptimizerStep { step: step + 1 - start, ..self.constants };
            let gradients = Gradients { values: gradients.all(), clip: norm.as_ref().map(|norm| (self.clip_norm, norm)) };
            let state = OptimizerState {
                parameters: state.parameters.reborrow(),
                first_moment: state.first_moment.reborrow(),
                second_moment: state.second_moment.reborrow(),
                scaler: state.scaler,
            };
            backend.optimizer_step(&constants, groups, gradients, state)?;
        }
        Ok(())
    }
}

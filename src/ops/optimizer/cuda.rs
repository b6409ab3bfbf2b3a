//! Optimiser steps on a GPU: `kernels/optimizer.cu`. Loss scale, counts and the norm that clips a step stay on the device.

use super::{Algorithm, Gradients, Optimizer, OptimizerState, OptimizerStep, ParameterGroup, SCALER_LEN, check, check_groups};
use crate::device::Cuda;
use crate::device::cuda::kernel::Format;
use crate::device::cuda::{DeviceMemory, expect_full};
use crate::error::{Result, expect_len};
use crate::kernel_args::optimizer::{
    DeviceGroup, FollowScaleParams, MovingAverageParams, OptimizerBeginParams, OptimizerParams, OptimizerScalars, ScaleLossParams,
    SquaredNormParams, norm_shape, shape, single, total_shape,
};
use crate::ops::{In, Out};

/// The loss scale of 16-bit floats to begin with. Embeddings' gradients are sums over pairs, larger than those of a mean over classes.
const INITIAL_LOSS_SCALE: f32 = 1024.0;
/// Clean steps before the loss scale doubles, as torch's `GradScaler`.
const GROWTH_INTERVAL: u32 = 2000;

/// One f64 on the device.
#[derive(Debug)]
pub struct DeviceNorm(DeviceMemory);

impl Cuda {
    /// The sum of squares of all values, or of those in some groups; the order of sums depends on the length only.
    fn device_squared_norm(&self, values: In<'_, Self>, groups: Option<&[ParameterGroup]>) -> Result<DeviceNorm> {
        expect_full("values of a norm", values)?;
        let groups =
            groups.map(|groups| self.stage_values(&device_groups(groups)).map(|staged| (staged, groups.len()))).transpose()?;
        let launch = norm_shape(values.len);
        let partials = self.scratch(launch.grid.0 as usize * size_of::<f64>())?;
        let result = self.scratch(size_of::<f64>())?;
        let params = SquaredNormParams {
            values: self.address(values),
            groups: groups.as_ref().map_or(0, |(staged, _)| staged.address()),
            partials: partials.address(),
            result: result.address(),
            len: values.len as u64,
            group_count: groups.map_or(0, |(_, count)| count as u32),
            partial_count: launch.grid.0,
        };
        // SAFETY: there is a partial sum for each block.
        unsafe {
            self.launch("optimizer", "squared_norm_partial", launch, params)?;
            self.launch("optimizer", "squared_norm_total", total_shape(), params)?;
        }
        Ok(DeviceNorm(result))
    }
}

impl Optimizer for Cuda {
    type SquaredNorm = DeviceNorm;

    fn initial_scaler(&self) -> [f32; SCALER_LEN] {
        [if self.format() == Format::F16 { INITIAL_LOSS_SCALE } else { 1.0 }, 0.0, 0.0, 1.0]
    }

    fn scale_loss(&self, scaler: In<'_, Self>, mut gradient: Out<'_, Self>) -> Result<()> {
        expect_len("scaler", SCALER_LEN, scaler.len)?;
        expect_full("gradient of the embeddings", gradient.read())?;
        if self.format() != Format::F16 || gradient.len == 0 {
            return Ok(());
        }
        let values = self.address_mut(&mut gradient);
        let params = ScaleLossParams { values, scaler: self.address(scaler), len: gradient.len as u64 };
        // SAFETY: the scaler has its length, checked above.
        unsafe { self.launch("optimizer", "scale_loss", shape(gradient.len), params) }
    }

    fn unscale(&self, mut gradients: Out<'_, Self>, mut scaler: Out<'_, Self>) -> Result<()> {
        expect_len("scaler", SCALER_LEN, scaler.len)?;
        expect_full("scaler", scaler.read())?;
        let squared_norm = self.device_squared_norm(gradients.read(), None)?;
        let scaled = self.format() == Format::F16;
        let scaler = self.address_mut(&mut scaler);
        let follow = FollowScaleParams {
            scaler,
            squared_norm: squared_norm.0.address(),
            growth_interval: if scaled { GROWTH_INTERVAL } else { 0 },
            padding: 0,
        };
        let params = ScaleLossParams { values: self.address_mut(&mut gradients), scaler, len: gradients.len as u64 };
        // SAFETY: the scaler has its length, checked above; the gradients are 32 bit, as their norm has checked.
        unsafe {
            if scaled {
                self.launch("optimizer", "unscale", shape(gradients.len), params)?;
            }
            self.launch("optimizer", "follow_scale", single(), follow)
        }
    }

    fn optimizer_step(
        &self,
        step: &OptimizerStep,
        groups: &[ParameterGroup],
        gradients: Gradients<'_, Self>,
        mut state: OptimizerState<'_, Self>,
    ) -> Result<()> {
        let Gradients { values: gradients, clip } = gradients;
        check(step, groups, gradients.len, &state)?;
        for span in [gradients, state.parameters.read(), state.first_moment.read(), state.second_moment.read(), state.scaler] {
            expect_full("optimiser state", span)?;
        }
        if groups.is_empty() || gradients.len == 0 {
            return Ok(());
        }
        // The number of the step is uploaded: passed by value, no step would be like the one before.
        let scalars = self.stage_values(&[OptimizerScalars { step: step.step as u32, ..OptimizerScalars::default() }])?;
        let begin = OptimizerBeginParams {
            scalars: scalars.address(),
            scaler: self.address(state.scaler),
            squared_norm: clip.map_or(0, |(_, norm)| norm.0.address()),
            clip_norm: clip.map_or(0.0, |(largest, _)| largest),
            beta1: step.beta1,
            beta2: step.beta2,
            padding: 0,
        };
        let (parameters, twin) = self.address_mut_with_twin(&mut state.parameters);
        let device_groups = self.stage_values(&device_groups(groups))?;
        let params = OptimizerParams {
            gradients: self.address(gradients),
            parameters,
            first_moment: self.address_mut(&mut state.first_moment),
            second_moment: self.address_mut(&mut state.second_moment),
            copy: twin.map_or(0, |(address, _)| address),
            groups: device_groups.address(),
            scalars: scalars.address(),
            len: gradients.len as u64,
            group_count: groups.len() as u32,
            rule: algorithm_number(step.algorithm),
            copy_format: twin.map_or(0, |(_, format)| if format == Format::F16 { 1 } else { 2 }),
            beta1: step.beta1,
            beta2: step.beta2,
            epsilon: step.epsilon,
        };
        // SAFETY: all buffers have the length of the parameters, checked above, and the groups lie within them.
        unsafe {
            self.launch("optimizer", "optimizer_begin", single(), begin)?;
            self.launch("optimizer", "optimizer_step", shape(gradients.len), params)
        }
    }

    fn squared_norm_of(&self, groups: &[ParameterGroup], gradients: In<'_, Self>) -> Result<DeviceNorm> {
        check_groups(groups, gradients.len)?;
        self.device_squared_norm(gradients, Some(groups))
    }

    fn squared_norm(&self, values: In<'_, Self>) -> Result<f64> {
        let mut norm = [0.0f64];
        self.read(self.device_squared_norm(values, None)?.0.address(), &mut norm)?;
        Ok(norm[0])
    }

    fn moving_average(&self, momentum: f32, source: In<'_, Self>, mut target: Out<'_, Self>) -> Result<()> {
        expect_len("source of the moving average", target.len, source.len)?;
        expect_full("source of the moving average", source)?;
        expect_full("target of the moving average", target.read())?;
        if source.len == 0 {
            return Ok(());
        }
        let params = MovingAverageParams {
            source: self.address(source),
            target: self.address_mut(&mut target),
            len: source.len as u64,
            momentum,
            padding: 0,
        };
        // SAFETY: both spans have this length and format, checked above.
        unsafe { self.launch("optimizer", "moving_average", shape(source.len), params) }
    }
}

/// In ascending order, as the kernel looks a parameter's group up.
fn device_groups(groups: &[ParameterGroup]) -> Vec<DeviceGroup> {
    let device = |group: &ParameterGroup| DeviceGroup {
        start: group.start as u64,
        len: group.len as u64,
        learning_rate: group.learning_rate,
        weight_decay: group.weight_decay,
    };
    let mut groups: Vec<_> = groups.iter().map(device).collect();
    groups.sort_by_key(|group| group.start);
    groups
}

fn algorithm_number(algorithm: Algorithm) -> u32 {
    match algorithm {
        Algorithm::Sgd => 0,
        Algorithm::Adam => 1,
        Algorithm::AdamW => 2,
    }
}

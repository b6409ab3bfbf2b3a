use crate::device::{Gpu, on_every_schedule, rounding, width};
use crate::support::{assert_close, normals};
use cudarc::driver::CudaSlice;
use xbm_fast::device::cuda::kernel::Format::F16;
use xbm_fast::kernel_args::optimizer::{
    DeviceGroup, FollowScaleParams, GradientScaler, MovingAverageParams, OptimizerBeginParams, OptimizerParams, OptimizerScalars,
    ScaleLossParams, SquaredNormParams, norm_shape, shape, single, total_shape,
};

/// A few single-precision operations a step, for a few steps.
const ARITHMETIC: f64 = 2e-6;
/// No whole number of vectors; the groups begin and end within them, and the last group at the end.
const LEN: usize = 3003;
/// What a launch has threads for, fewer than there are vectors: a thread takes several, as in a large network.
const LAUNCHED: usize = 256;
/// Of each step: the gradient of the second is not finite, which halves the scale.
const LOSS_SCALES: [f32; 3] = [8.0, 8.0, 4.0];
const BETA1: f32 = 0.9;
const BETA2: f32 = 0.99;
const EPSILON: f32 = 1e-6;
const GROUPS: [DeviceGroup; 4] = [
    DeviceGroup { start: 0, len: 300, learning_rate: 0.125, weight_decay: 0.0 },
    DeviceGroup { start: 300, len: 1, learning_rate: 0.25, weight_decay: 0.5 },
    DeviceGroup { start: 350, len: 600, learning_rate: 0.0625, weight_decay: 0.25 },
    DeviceGroup { start: 1101, len: 1902, learning_rate: 0.03125, weight_decay: 0.125 },
];

/// One of torch's optimisers in double precision.
struct Reference {
    rule: u32,
    parameters: Vec<f64>,
    first: Vec<f64>,
    second: Vec<f64>,
    step: i32,
}

impl Reference {
    fn step(&mut self, gradients: &[f32], clip_norm: f64) {
        self.step += 1;
        let in_use = GROUPS.iter().flat_map(|group| &gradients[group.start as usize..][..group.len as usize]);
        let norm = in_use.map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
        let clip = if clip_norm > 0.0 && norm > clip_norm { clip_norm / norm } else { 1.0 };
        let (beta1, beta2) = (f64::from(BETA1), f64::from(BETA2));
        for group in GROUPS {
            let (rate, decay) = (f64::from(group.learning_rate), f64::from(group.weight_decay));
            let range = group.start as usize..(group.start + group.len) as usize;
            for (i, &gradient) in gradients.iter().enumerate().take(range.end).skip(range.start) {
                let mut gradient = f64::from(gradient) * clip;
                if self.rule == 2 {
                    self.parameters[i] *= 1.0 - rate * decay;
                } else {
                    gradient += decay * self.parameters[i];
                }
                if self.rule == 0 {
                    self.first[i] = beta1 * self.first[i] + gradient;
                    self.parameters[i] -= rate * self.first[i];
                } else {
                    self.first[i] = beta1 * self.first[i] + (1.0 - beta1) * gradient;
                    self.second[i] = beta2 * self.second[i] + (1.0 - beta2) * gradient * gradient;
                    let corrected = self.first[i] / (1.0 - beta1.powi(self.step));
                    let deviation = (self.second[i] / (1.0 - beta2.powi(self.step))).sqrt() + f64::from(EPSILON);
                    self.parameters[i] -= rate * corrected / deviation;
                }
            }
        }
    }
}

/// What a run has on the device.
struct Buffers {
    parameters: CudaSlice<f32>,
    first: CudaSlice<f32>,
    second: CudaSlice<f32>,
    copy: CudaSlice<u8>,
    groups: CudaSlice<u8>,
    scaler: CudaSlice<u8>,
    /// Of every buffer of numbers, to the first one used: vectors need buffers that start on 16 bytes.
    offset: usize,
}

/// Numbers behind some that may not be used.
fn behind(offset: usize, values: &[f32]) -> Vec<f32> {
    [&vec![f32::NAN; offset], values].concat()
}

impl Buffers {
    fn new(gpu: &Gpu, start: &[f32], offset: usize) -> Self {
        let scaler = GradientScaler { loss_scale: LOSS_SCALES[0], clean: 0.0, skipped: 0.0, finite: 1.0 };
        Self {
            parameters: gpu.upload(&behind(offset, start)),
            first: gpu.upload(&behind(offset, &[0f32; LEN])),
            second: gpu.upload(&behind(offset, &[0f32; LEN])),
            copy: gpu.encode(&behind(offset, start), F16),
            groups: gpu.upload(bytemuck::cast_slice::<_, u8>(&GROUPS)),
            scaler: gpu.upload(bytemuck::bytes_of(&scaler)),
            offset,
        }
    }

    /// Of the first number used.
    fn address(&self, gpu: &Gpu, buffer: &CudaSlice<f32>) -> u64 {
        gpu.address(buffer) + (self.offset * size_of::<f32>()) as u64
    }

    /// The launches of a step, in the engine's order.
    fn step(&self, gpu: &Gpu, (rule, clip_norm): (u32, f32), step: u32, gradients: &[f32]) {
        let gradients = gpu.upload(&behind(self.offset, gradients));
        let (len, scaler, values) = (LEN as u64, gpu.address(&self.scaler), self.address(gpu, &gradients));
        let norm = gpu.uninitialised::<f64>(1);
        let squared_norm = gpu.address(&norm);
        self.squared_norm(gpu, &gradients, &norm, false);
        gpu.launch(&gpu.kernel("optimizer", "unscale", 0), shape(LAUNCHED), ScaleLossParams { values, scaler, len });
        let follow = FollowScaleParams { scaler, squared_norm, growth_interval: 2000, padding: 0 };
        gpu.launch(&gpu.kernel("optimizer", "follow_scale", 0), single(), follow);
        self.squared_norm(gpu, &gradients, &norm, true);
        let scalars = gpu.upload(bytemuck::bytes_of(&OptimizerScalars { step, ..OptimizerScalars::default() }));
        let begin = OptimizerBeginParams {
            scalars: gpu.address(&scalars),
            scaler,
            squared_norm: if clip_norm > 0.0 { squared_norm } else { 0 },
            clip_norm,
            beta1: BETA1,
            beta2: BETA2,
            padding: 0,
        };
        gpu.launch(&gpu.kernel("optimizer", "optimizer_begin", 0), single(), begin);
        let params = OptimizerParams {
            gradients: values,
            parameters: self.address(gpu, &self.parameters),
            first_moment: self.address(gpu, &self.first),
            second_moment: self.address(gpu, &self.second),
            copy: gpu.address(&self.copy) + (self.offset * width(F16)) as u64,
            groups: gpu.address(&self.groups),
            scalars: gpu.address(&scalars),
            len,
            group_count: GROUPS.len() as u32,
            rule,
            copy_format: 1,
            beta1: BETA1,
            beta2: BETA2,
            epsilon: EPSILON,
        };
        gpu.launch(&gpu.kernel("optimizer", "optimizer_step", 0), shape(LAUNCHED), params);
        gpu.stream.synchronize().unwrap();
    }

    /// Of all gradients, or of those in the groups.
    fn squared_norm(&self, gpu: &Gpu, gradients: &CudaSlice<f32>, norm: &CudaSlice<f64>, grouped: bool) {
        let blocks = norm_shape(LAUNCHED).grid.0;
        let partials = gpu.uninitialised::<f64>(blocks as usize);
        let params = SquaredNormParams {
            values: self.address(gpu, gradients),
            groups: if grouped { gpu.address(&self.groups) } else { 0 },
            partials: gpu.address(&partials),
            result: gpu.address(norm),
            len: LEN as u64,
            group_count: if grouped { GROUPS.len() as u32 } else { 0 },
            partial_count: blocks,
        };
        gpu.launch(&gpu.kernel("optimizer", "squared_norm_partial", 0), norm_shape(LAUNCHED), params);
        gpu.launch(&gpu.kernel("optimizer", "squared_norm_total", 0), total_shape(), params);
        gpu.stream.synchronize().unwrap();
    }
}

fn run(gpu: &Gpu, rule: u32, clip_norm: f32, offset: usize) {
    let start = normals("parameters", LEN);
    let parameters = start.iter().map(|&v| f64::from(v)).collect();
    let mut reference = Reference { rule, parameters, first: vec![0.0; LEN], second: vec![0.0; LEN], step: 0 };
    let buffers = Buffers::new(gpu, &start, offset);
    for (index, loss_scale) in LOSS_SCALES.into_iter().enumerate() {
        let mut gradients = normals(&format!("gradient {index}"), LEN);
        // The second step's gradient overflows: nothing may change.
        if index == 1 {
            gradients[17] = f32::INFINITY;
        } else {
            reference.step(&gradients, f64::from(clip_norm));
        }
        gradients.iter_mut().for_each(|value| *value *= loss_scale);
        buffers.step(gpu, (rule, clip_norm), [1, 2, 2][index], &gradients);
    }
    let found = gpu.download(&buffers.parameters).split_off(offset);
    assert_close("parameters", &found, &reference.parameters, ARITHMETIC);
    assert_close(
        "16-bit copy",
        &gpu.decode(&buffers.copy, F16).split_off(offset),
        &reference.parameters,
        ARITHMETIC + rounding(F16),
    );
    for outside in [301..350, 950..1101] {
        assert_eq!(found[outside.clone()], start[outside], "parameters outside all groups");
    }
    let scaler: GradientScaler = *bytemuck::from_bytes(&gpu.download(&buffers.scaler));
    assert_eq!(scaler, GradientScaler { loss_scale: 4.0, clean: 1.0, skipped: 1.0, finite: 1.0 });
}

/// Every rule, and the norm.
pub fn check_thoroughly(gpu: &Gpu) {
    for rule in 0..3 {
        run(gpu, rule, 5.0, 0);
    }
    run(gpu, 0, 5.0, 1);
}

#[test]
fn three_rules_step_as_torch_does_and_leave_out_a_gradient_that_is_not_finite() {
    on_every_schedule(|gpu| {
        for rule in 0..3 {
            run(gpu, rule, 0.0, 0);
        }
        run(gpu, 2, 0.0, 1);
    });
}

#[test]
fn the_gradient_is_clipped_to_a_norm() {
    on_every_schedule(|gpu| run(gpu, 0, 5.0, 0));
}

/// More partial sums than the threads that add them up.
#[test]
fn partial_sums_are_added_up() {
    on_every_schedule(|gpu| {
        let partials: Vec<f64> = normals("partials", 600).into_iter().map(f64::from).collect();
        let (buffer, result) = (gpu.upload(&partials), gpu.uninitialised::<f64>(1));
        let params = SquaredNormParams {
            values: 0,
            groups: 0,
            partials: gpu.address(&buffer),
            result: gpu.address(&result),
            len: 0,
            group_count: 0,
            partial_count: partials.len() as u32,
        };
        gpu.launch(&gpu.kernel("optimizer", "squared_norm_total", 0), total_shape(), params);
        assert!((gpu.download(&result)[0] - partials.iter().sum::<f64>()).abs() < 1e-12);
    });
}

#[test]
fn a_moving_average_moves() {
    on_every_schedule(|gpu| {
        for offset in [0, 1] {
            let (source, target) = (normals("source", LEN), normals("target", LEN));
            let (source_buffer, target_buffer) = (gpu.upload(&behind(offset, &source)), gpu.upload(&target));
            let params = MovingAverageParams {
                source: gpu.address(&source_buffer) + (offset * size_of::<f32>()) as u64,
                target: gpu.address(&target_buffer),
                len: LEN as u64,
                momentum: 0.75,
                padding: 0,
            };
            gpu.launch(&gpu.kernel("optimizer", "moving_average", 0), shape(LAUNCHED), params);
            let expected: Vec<f64> = target.iter().zip(&source).map(|(&t, &s)| 0.75 * f64::from(t) + 0.25 * f64::from(s)).collect();
            assert_close("average", &gpu.download(&target_buffer), &expected, ARITHMETIC);
        }
    });
}

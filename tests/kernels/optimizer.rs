use crate::device::{Gpu, on_every_schedule, rounding};
use crate::support::{assert_close, normals};
use xbm_fast::cuda::optimizer::{
    DeviceGroup, MovingAverageParams, OptimizerBeginParams, OptimizerParams, OptimizerScalars, SquaredNormParams, norm_shape,
    shape, single,
};
use xbm_fast::device::cuda::kernel::Format::F16;

/// A few single-precision operations a step, for a few steps.
const ARITHMETIC: f64 = 2e-6;
const LEN: usize = 1000;
const LOSS_SCALE: f32 = 8.0;
const BETA1: f32 = 0.9;
const BETA2: f32 = 0.99;
const EPSILON: f32 = 1e-6;
const AVERAGE_MOMENTUM: f32 = 0.75;
const GROUPS: [DeviceGroup; 3] = [
    DeviceGroup { start: 0, len: 300, learning_rate: 0.125, weight_decay: 0.0 },
    DeviceGroup { start: 300, len: 1, learning_rate: 0.25, weight_decay: 0.5 },
    DeviceGroup { start: 350, len: 600, learning_rate: 0.0625, weight_decay: 0.25 },
];

/// One of torch's optimisers in double precision.
struct Reference {
    rule: u32,
    parameters: Vec<f64>,
    first: Vec<f64>,
    second: Vec<f64>,
    average: Vec<f64>,
    step: i32,
}

impl Reference {
    fn step(&mut self, gradients: &[f32], clip_norm: f64) {
        self.step += 1;
        let norm = gradients.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt() / f64::from(LOSS_SCALE);
        let clip = if clip_norm > 0.0 && norm > clip_norm { clip_norm / norm } else { 1.0 };
        let (beta1, beta2) = (f64::from(BETA1), f64::from(BETA2));
        for group in GROUPS {
            let (rate, decay) = (f64::from(group.learning_rate), f64::from(group.weight_decay));
            let range = group.start as usize..(group.start + group.len) as usize;
            for (i, &gradient) in gradients.iter().enumerate().take(range.end).skip(range.start) {
                let mut gradient = f64::from(gradient) * clip / f64::from(LOSS_SCALE);
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
                let momentum = f64::from(AVERAGE_MOMENTUM);
                self.average[i] = momentum * self.average[i] + (1.0 - momentum) * self.parameters[i];
            }
        }
    }
}

fn run(gpu: &Gpu, rule: u32, clip_norm: f32) {
    let start = normals("parameters", LEN);
    let wide: Vec<f64> = start.iter().map(|&v| f64::from(v)).collect();
    let mut reference =
        Reference { rule, parameters: wide.clone(), first: vec![0.0; LEN], second: vec![0.0; LEN], average: wide, step: 0 };
    let (parameters, average) = (gpu.upload(&start), gpu.upload(&start));
    let (first, second) = (gpu.upload(&[0f32; LEN]), gpu.upload(&[0f32; LEN]));
    let copy = gpu.encode(&start, F16);
    let groups = gpu.upload(bytemuck::cast_slice::<_, u8>(&GROUPS));
    let scalars = gpu.upload(bytemuck::bytes_of(&OptimizerScalars::default()));
    let norm = gpu.uninitialised::<f64>(1);
    let partials = gpu.uninitialised::<f64>(norm_shape(LEN).grid.0 as usize);
    for step in 0..3 {
        let mut values = normals(&format!("gradient {step}"), LEN);
        values.iter_mut().for_each(|v| *v *= LOSS_SCALE);
        // The second step's gradient overflows: nothing may change, and the step must not count.
        if step == 1 {
            values[17] = f32::INFINITY;
        } else {
            reference.step(&values, f64::from(clip_norm));
        }
        let gradients = gpu.upload(&values);
        let squared = SquaredNormParams {
            values: gpu.address(&gradients),
            partials: gpu.address(&partials),
            result: gpu.address(&norm),
            len: LEN as u64,
            partial_count: norm_shape(LEN).grid.0,
            padding: 0,
        };
        gpu.launch(&gpu.kernel("optimizer", "squared_norm_partial", 0), norm_shape(LEN), squared);
        gpu.launch(&gpu.kernel("optimizer", "squared_norm_total", 0), single(), squared);
        let begin = OptimizerBeginParams {
            scalars: gpu.address(&scalars),
            squared_norm: gpu.address(&norm),
            scaler: 0,
            loss_scale: LOSS_SCALE,
            clip_norm,
            beta1: BETA1,
            beta2: BETA2,
            step: 0,
            padding: 0,
        };
        gpu.launch(&gpu.kernel("optimizer", "optimizer_begin", 0), single(), begin);
        let params = OptimizerParams {
            gradients: gpu.address(&gradients),
            parameters: gpu.address(&parameters),
            first_moment: gpu.address(&first),
            second_moment: gpu.address(&second),
            average: gpu.address(&average),
            copy: gpu.address(&copy),
            groups: gpu.address(&groups),
            scalars: gpu.address(&scalars),
            len: LEN as u64,
            group_count: GROUPS.len() as u32,
            rule,
            copy_format: 1,
            beta1: BETA1,
            beta2: BETA2,
            epsilon: EPSILON,
            average_momentum: AVERAGE_MOMENTUM,
            padding: 0,
        };
        gpu.launch(&gpu.kernel("optimizer", "optimizer_step", 0), shape(LEN), params);
        gpu.stream.synchronize().unwrap();
    }
    let found = gpu.download(&parameters);
    assert_close("parameters", &found, &reference.parameters, ARITHMETIC);
    assert_close("average", &gpu.download(&average), &reference.average, ARITHMETIC);
    assert_close("16-bit copy", &gpu.decode(&copy, F16), &reference.parameters, ARITHMETIC + rounding(F16));
    assert_eq!(found[300 + 1..350], start[300 + 1..350], "parameters outside all groups");
    let scalars: OptimizerScalars = *bytemuck::from_bytes(&gpu.download(&scalars));
    assert_eq!((scalars.step, scalars.skipped, scalars.skip), (2, 1, 0));
}

#[test]
fn three_rules_step_as_torch_does_and_leave_out_a_gradient_that_is_not_finite() {
    on_every_schedule(|gpu| {
        for rule in 0..3 {
            run(gpu, rule, 0.0);
        }
    });
}

#[test]
fn the_gradient_is_clipped_to_a_norm() {
    on_every_schedule(|gpu| run(gpu, 0, 5.0));
}

#[test]
fn a_moving_average_moves() {
    on_every_schedule(|gpu| {
        let (source, target) = (normals("source", LEN), normals("target", LEN));
        let (source_buffer, target_buffer) = (gpu.upload(&source), gpu.upload(&target));
        let params = MovingAverageParams {
            source: gpu.address(&source_buffer),
            target: gpu.address(&target_buffer),
            len: LEN as u64,
            momentum: AVERAGE_MOMENTUM,
            padding: 0,
        };
        gpu.launch(&gpu.kernel("optimizer", "moving_average", 0), shape(LEN), params);
        let expected: Vec<f64> = target.iter().zip(&source).map(|(&t, &s)| 0.75 * f64::from(t) + 0.25 * f64::from(s)).collect();
        assert_close("average", &gpu.download(&target_buffer), &expected, ARITHMETIC);
    });
}

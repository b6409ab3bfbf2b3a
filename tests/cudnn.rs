//! Convolutions through the graph API: equal to the CPU backend's in all directions and formats, fused and added; plans kept, engines
//! chosen, refusals survived. On a machine without a GPU the library is the software GPU's stand-in.

#[path = "kernels/device.rs"]
#[allow(dead_code, reason = "shared with the kernels' suite")]
mod device;
mod support;

use cudarc::driver::sys::CUgraphInstantiate_flags;
use cudarc::driver::sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL as THREAD_LOCAL;
use device::{Gpu, rounded, rounding};
use proptest::prelude::*;
use software_gpu::{Refusal, SCHEDULES, refuse_engine};
use std::sync::{Mutex, PoisonError};
use support::{assert_close, cpu, normals};
use xbm_fast::device::cuda::kernel::Format;
use xbm_fast::device::cudnn::{Convolution, Cudnn, Direction, Fusion, Operands, Policy};
use xbm_fast::device::{ConvGeometry, Span, SpanMut, Workspace};
use xbm_fast::ops::conv::Convolution as _;

const FORMATS: [Format; 3] = [Format::F32, Format::F16, Format::Bf16];
/// Sums of up to some thousand products in 32 bit, on both sides, the CPU's through tile transforms.
const SUMS: f64 = 4e-5;
/// Kernel, stride and padding of every convolution of a ResNet.
const KERNELS: [(usize, usize, usize); 5] = [(7, 2, 3), (3, 1, 1), (3, 2, 1), (1, 1, 0), (1, 2, 0)];
/// Engines of the stand-in, as `tests/software-gpu/cudnn/engines.cpp` describes them.
mod engine {
    pub const FALLBACK: i64 = 0;
    pub const PLAIN: i64 = 10;
    pub const TENSOR_CORES: i64 = 20;
    pub const MORE_TENSOR_CORES: i64 = 21;
    pub const NONDETERMINISTIC: i64 = 40;
}

/// Runs `body` on the device, alone: what engines refuse is a setting of the process.
fn on_the_device(body: impl FnMut(&Gpu)) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    device::on(SCHEDULES[0], body);
}

fn on_the_software_gpu(mut body: impl FnMut(&Gpu)) {
    on_the_device(|gpu| {
        if *software_gpu::device() == software_gpu::Device::Software {
            body(gpu);
        }
    });
}

fn open(gpu: &Gpu, policy: Policy) -> Cudnn {
    Cudnn::new(gpu.stream.clone(), policy).unwrap()
}

fn geometry(kernel: (usize, usize, usize), images: [usize; 3], channels: [usize; 2]) -> ConvGeometry {
    let (kernel, stride, padding) = kernel;
    let [batch, height, width] = images;
    let [in_channels, out_channels] = channels;
    ConvGeometry { batch, height, width, in_channels, out_channels, kernel, stride, padding }
}

fn forward(geometry: ConvGeometry) -> Convolution {
    Convolution { geometry, format: Format::F16, direction: Direction::Forward(None) }
}

/// Host values of a convolution's tensors, as the format holds them.
struct Tensors {
    input: Vec<f32>,
    filter: Vec<f32>,
    output: Vec<f32>,
    residual: Vec<f32>,
    scale: Vec<f32>,
    bias: Vec<f32>,
}

impl Tensors {
    fn new(g: &ConvGeometry, format: Format) -> Self {
        let values = |name: &str, len| rounded(&normals(name, len), format);
        Self {
            input: values("input", g.input_len()),
            filter: values("filter", g.filter_len()),
            output: values("output", g.output_len()),
            residual: values("residual", g.output_len()),
            scale: normals("scale", g.out_channels),
            bias: normals("bias", g.out_channels),
        }
    }

    /// Runs a convolution on the device and returns what it writes.
    fn run(&self, gpu: &Gpu, cudnn: &Cudnn, convolution: &Convolution) -> xbm_fast::Result<Vec<f32>> {
        let format = convolution.format;
        let wide_gradient = convolution.direction == Direction::FilterGradient { full_precision: true };
        let result_format = if wide_gradient { Format::F32 } else { format };
        let filter_format = result_format;
        let [input, output, residual] = [&self.input, &self.output, &self.residual].map(|values| gpu.encode(values, format));
        let filter = gpu.encode(&self.filter, filter_format);
        let [scale, bias] = [&self.scale, &self.bias].map(|values| gpu.upload(values));
        let bytes = cudnn.workspace_bytes(convolution)?;
        let workspace = gpu.uninitialised::<u8>(bytes.max(1));
        let operands = Operands {
            input: gpu.address(&input),
            filter: gpu.address(&filter),
            output: gpu.address(&output),
            scale: gpu.address(&scale),
            bias: gpu.address(&bias),
            residual: gpu.address(&residual),
        };
        // SAFETY: every buffer is as large as the geometry says and lives until the result has been read.
        unsafe { cudnn.convolution(convolution, &operands, Workspace { address: gpu.address(&workspace), bytes }) }?;
        let result = match convolution.direction {
            Direction::Forward(_) => &output,
            Direction::InputGradient { .. } => &input,
            Direction::FilterGradient { .. } => &filter,
        };
        Ok(gpu.decode(result, result_format))
    }

    /// The same on the CPU, from the same rounded values.
    fn expected(&self, convolution: &Convolution) -> Vec<f64> {
        let (g, cpu) = (&convolution.geometry, cpu(2));
        let [input, filter, output] = [&self.input, &self.filter, &self.output];
        let mut result = match convolution.direction {
            Direction::Forward(_) => output.clone(),
            Direction::InputGradient { .. } => input.clone(),
            Direction::FilterGradient { .. } => filter.clone(),
        };
        let [input, filter, output] = [input, filter, output].map(Span::all);
        let to = SpanMut::all(&mut result);
        match convolution.direction {
            Direction::Forward(_) => cpu.conv_forward(g, input, filter, to),
            Direction::InputGradient { accumulate } => cpu.conv_backward_input(g, output, filter, to, accumulate),
            Direction::FilterGradient { .. } => cpu.conv_backward_filter(g, input, output, to),
        }
        .unwrap();
        let mut result: Vec<f64> = result.into_iter().map(f64::from).collect();
        if let Direction::Forward(Some(fusion)) = convolution.direction {
            self.fuse(fusion, &mut result);
        }
        result
    }

    fn fuse(&self, fusion: Fusion, values: &mut [f64]) {
        let channels = self.scale.len();
        for (index, value) in values.iter_mut().enumerate() {
            *value = *value * f64::from(self.scale[index % channels]) + f64::from(self.bias[index % channels]);
            if fusion.residual {
                *value += f64::from(self.residual[index]);
            }
            if fusion.relu {
                *value = value.max(0.0);
            }
        }
    }
}

const DIRECTIONS: [Direction; 8] = [
    Direction::Forward(None),
    Direction::InputGradient { accumulate: false },
    Direction::InputGradient { accumulate: true },
    Direction::FilterGradient { full_precision: false },
    Direction::FilterGradient { full_precision: true },
    Direction::Forward(Some(Fusion { residual: false, relu: false })),
    Direction::Forward(Some(Fusion { residual: false, relu: true })),
    Direction::Forward(Some(Fusion { residual: true, relu: true })),
];

fn check(gpu: &Gpu, cudnn: &Cudnn, geometry: ConvGeometry, format: Format) {
    let tensors = Tensors::new(&geometry, format);
    for direction in DIRECTIONS {
        let convolution = Convolution { geometry, format, direction };
        let found = tensors.run(gpu, cudnn, &convolution).unwrap();
        let wide = direction == Direction::FilterGradient { full_precision: true };
        let tolerance = SUMS + rounding(if wide { Format::F32 } else { format });
        assert_close(&format!("{convolution:?}"), &found, &tensors.expected(&convolution), tolerance);
    }
}

#[test]
fn agrees_with_the_cpu_on_the_shapes_of_resnets_and_on_ragged_ones() {
    on_the_device(|gpu| {
        let cudnn = open(gpu, Policy::default());
        for format in FORMATS {
            for kernel in KERNELS {
                check(gpu, &cudnn, geometry(kernel, [2, 8, 8], [16, 32]), format);
                check(gpu, &cudnn, geometry(kernel, [1, 7, 10], [24, 8]), format);
            }
            check(gpu, &cudnn, geometry((7, 2, 3), [2, 18, 18], [4, 64]), format);
            check(gpu, &cudnn, geometry((7, 2, 3), [1, 20, 15], [8, 64]), format);
            check(gpu, &cudnn, geometry((3, 1, 1), [1, 1, 1], [64, 40]), format);
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn agrees_with_the_cpu_on_any_shape(
        kernel in prop::sample::select(KERNELS.to_vec()),
        images in (1_usize..4, 1_usize..10, 1_usize..10),
        channels in (1_usize..6, 1_usize..6),
        format in prop::sample::select(FORMATS.to_vec()),
    ) {
        on_the_device(|gpu| {
            let channels = [8 * channels.0, 8 * channels.1];
            check(gpu, &open(gpu, Policy::default()), geometry(kernel, [images.0, images.1, images.2], channels), format);
        });
    }
}

#[test]
fn a_captured_convolution_runs_when_its_graph_does_and_sees_new_data() {
    on_the_device(|gpu| {
        let cudnn = open(gpu, Policy::default());
        let convolution = Convolution { format: Format::F32, ..forward(geometry((1, 1, 0), [1, 2, 2], [8, 8])) };
        let tensors = Tensors::new(&convolution.geometry, Format::F32);
        let expected = tensors.run(gpu, &cudnn, &convolution).unwrap();
        let mut input = gpu.upload(&vec![0f32; tensors.input.len()]);
        let (filter, output) = (gpu.upload(&tensors.filter), gpu.uninitialised::<f32>(tensors.output.len()));
        let addresses = [&input, &filter, &output].map(|buffer| gpu.address(buffer));
        let operands = Operands { input: addresses[0], filter: addresses[1], output: addresses[2], ..Operands::default() };
        let bytes = cudnn.workspace_bytes(&convolution).unwrap();
        let scratch = gpu.uninitialised::<u8>(bytes.max(1));
        gpu.stream.begin_capture(THREAD_LOCAL).unwrap();
        // SAFETY: all buffers outlive the graph.
        unsafe { cudnn.convolution(&convolution, &operands, Workspace { address: gpu.address(&scratch), bytes }) }.unwrap();
        let graph = gpu.stream.end_capture(CUgraphInstantiate_flags(0)).unwrap().unwrap();
        graph.launch().unwrap();
        assert_eq!(gpu.download(&output), vec![0.0; tensors.output.len()]);
        gpu.stream.memcpy_htod(&tensors.input, &mut input).unwrap();
        graph.launch().unwrap();
        assert_eq!(gpu.download(&output), expected);
    });
}

#[test]
fn a_convolution_is_planned_once() {
    on_the_device(|gpu| {
        let cudnn = open(gpu, Policy::default());
        let convolution = forward(geometry((3, 1, 1), [2, 4, 4], [8, 16]));
        let tensors = Tensors::new(&convolution.geometry, Format::F16);
        let first = tensors.run(gpu, &cudnn, &convolution).unwrap();
        let engine = cudnn.engine(&convolution).unwrap();
        assert_eq!(tensors.run(gpu, &cudnn, &convolution).unwrap(), first);
        assert_eq!((cudnn.planned(), cudnn.engine(&convolution).unwrap()), (1, engine));
        let other = Convolution { format: Format::Bf16, ..convolution };
        tensors.run(gpu, &cudnn, &other).unwrap();
        assert_eq!(cudnn.planned(), 2);
    });
}

#[test]
fn engines_are_deterministic_and_on_the_tensor_cores_where_the_policy_lets_them() {
    on_the_software_gpu(|gpu| {
        let index = |format, policy| {
            let convolution = Convolution { format, ..forward(geometry((3, 1, 1), [2, 4, 4], [8, 16])) };
            open(gpu, policy).engine(&convolution).unwrap().index
        };
        let policy = Policy::default();
        assert_eq!(index(Format::F16, policy), engine::TENSOR_CORES);
        assert_eq!(index(Format::F32, policy), engine::PLAIN);
        assert_eq!(index(Format::F32, Policy { tf32: true, ..policy }), engine::TENSOR_CORES);
        assert_eq!(index(Format::F16, Policy { deterministic: false, ..policy }), engine::NONDETERMINISTIC);
    });
}

/// The engines of the software GPU that a test has made refuse, until it ends.
struct Refusing(Vec<i64>);

impl Refusing {
    fn new(engines: &[i64], when: Refusal) -> Self {
        engines.iter().for_each(|&index| refuse_engine(index, when));
        Self(engines.to_vec())
    }
}

impl Drop for Refusing {
    fn drop(&mut self) {
        self.0.iter().for_each(|&index| refuse_engine(index, Refusal::Never));
    }
}

#[test]
fn where_an_engine_refuses_the_next_one_takes_its_place() {
    on_the_software_gpu(|gpu| {
        let convolution = forward(geometry((3, 2, 1), [2, 5, 5], [8, 16]));
        let tensors = Tensors::new(&convolution.geometry, Format::F16);
        let expected = tensors.run(gpu, &open(gpu, Policy::default()), &convolution).unwrap();
        for when in [Refusal::WhenPlanned, Refusal::WhenRun] {
            let _refusing = Refusing::new(&[engine::TENSOR_CORES], when);
            let cudnn = open(gpu, Policy::default());
            assert_eq!(tensors.run(gpu, &cudnn, &convolution).unwrap(), expected);
            assert_eq!(cudnn.engine(&convolution).unwrap().index, engine::MORE_TENSOR_CORES);
        }
        let all_but_fallback = [engine::TENSOR_CORES, engine::MORE_TENSOR_CORES, engine::PLAIN];
        let _refusing = Refusing::new(&all_but_fallback, Refusal::WhenPlanned);
        let cudnn = open(gpu, Policy::default());
        assert_eq!(tensors.run(gpu, &cudnn, &convolution).unwrap(), expected);
        assert_eq!(cudnn.engine(&convolution).unwrap().index, engine::FALLBACK);
        let _fallback_too = Refusing::new(&[engine::FALLBACK], Refusal::WhenPlanned);
        let error = open(gpu, Policy::default()).engine(&convolution).unwrap_err().to_string();
        assert!(error.contains("none of 4 engines can run") && error.contains("engine 0 was told to refuse"), "{error}");
    });
}

#[test]
fn plans_over_the_workspace_limit_are_not_used() {
    on_the_software_gpu(|gpu| {
        let gradient = Convolution {
            direction: Direction::FilterGradient { full_precision: false },
            ..forward(geometry((3, 1, 1), [2, 4, 4], [8, 16]))
        };
        let needed = open(gpu, Policy::default()).workspace_bytes(&gradient).unwrap();
        assert!(needed > 0);
        let error =
            open(gpu, Policy { workspace_limit: needed - 1, ..Policy::default() }).engine(&gradient).unwrap_err().to_string();
        assert!(error.contains("bytes of workspace, more than"), "{error}");
    });
}

#[test]
fn wrong_arguments_are_errors_that_say_which() {
    on_the_device(|gpu| {
        let cudnn = open(gpu, Policy::default());
        let gradient = Convolution {
            direction: Direction::FilterGradient { full_precision: false },
            ..forward(geometry((3, 1, 1), [2, 4, 4], [8, 16]))
        };
        let buffer = gpu.upload(&vec![0u16; 4096]);
        let address = gpu.address(&buffer);
        let whole = Operands { input: address, filter: address + 2048, output: address + 4096, ..Operands::default() };
        let failure = |operands: Operands, bytes| {
            // SAFETY: refused before anything runs.
            unsafe { cudnn.convolution(&gradient, &operands, Workspace { address, bytes }) }.unwrap_err().to_string()
        };
        let enough = cudnn.workspace_bytes(&gradient).unwrap();
        assert!(failure(Operands { input: address + 2, ..whole }, enough).contains("convolution input: expected a device address"));
        assert!(failure(Operands { filter: 0, ..whole }, enough).contains("convolution filter"));
        assert!(failure(Operands { output: address + 8, ..whole }, enough).contains("multiple of 16"));
        if enough > 0 {
            assert!(failure(whole, enough - 1).contains("convolution workspace: expected"));
        }
        let empty = Convolution { geometry: ConvGeometry { batch: 0, ..gradient.geometry }, ..gradient };
        assert!(cudnn.workspace_bytes(&empty).unwrap_err().to_string().contains("at least one image"));
    });
}

#[test]
fn memory_that_is_too_short_is_reported_by_the_software_gpu() {
    on_the_software_gpu(|gpu| {
        let cudnn = open(gpu, Policy::default());
        let convolution = forward(geometry((1, 1, 0), [1, 4, 4], [8, 8]));
        let short = gpu.upload(&[0u16; 64]);
        let whole = gpu.upload(&vec![0u16; 256]);
        let operands = Operands {
            input: gpu.address(&short),
            filter: gpu.address(&whole),
            output: gpu.address(&whole) + 256,
            ..Operands::default()
        };
        // SAFETY: the short buffer is what the test is about; the software GPU refuses it.
        let error = unsafe { cudnn.convolution(&convolution, &operands, Workspace::default()) }.unwrap_err().to_string();
        assert!(error.contains("CUDNN_STATUS_BAD_PARAM_OUT_OF_BOUND") && error.contains("outside of device memory"), "{error}");
        assert!(software_gpu::take_reports().join("; ").contains("a tensor of 256 bytes"));
    });
}

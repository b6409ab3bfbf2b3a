//! Real cuDNN, no device: every convolution of the ResNets has a deterministic plan on every architecture, made by the engine's own plan
//! builder from a description of the device. What is found is compared with `.ci/cudnn-plans.tsv`.
//!
//! That a plan exists says that an engine of the library accepts the operation, not that it ran or is fast.
//! `.ci/cudnn-plans` installs the library and runs this; `UPDATE=1 .ci/cudnn-plans` writes the table anew.

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use xbm_fast::device::ConvGeometry;
use xbm_fast::device::cuda::kernel::Format;
use xbm_fast::device::cudnn::{Convolution, Direction, Fusion, Planner, Policy};
use xbm_fast::model::{Architecture, Depth, Layer};
use xbm_fast::ops::pool::GlobalPooling;

/// Images are this large in the published networks.
const IMAGE_SIZE: usize = 224;
const BATCHES: [usize; 2] = [64, 256];
/// The stem's three channels are padded to one of these.
const STEM_CHANNELS: [usize; 2] = [4, 8];

/// What cuDNN wants to know about a device. Figures from NVIDIA's architecture white papers and data sheets.
struct Device {
    name: &'static str,
    /// Compute capability, times a hundred.
    capability: u32,
    multiprocessors: u32,
    shared_bytes: u32,
    blocks: u32,
    threads: u32,
    clock_khz: u32,
    memory_clock_khz: u32,
    cache_bytes: u64,
    memory_bytes: u64,
}

#[rustfmt::skip]
const DEVICES: [Device; 7] = [
    Device { name: "A100", capability: 800, multiprocessors: 108, shared_bytes: 166_912, blocks: 32, threads: 2048, clock_khz: 1_410_000, memory_clock_khz: 1_215_000, cache_bytes: 40 << 20, memory_bytes: 80 << 30 },
    Device { name: "RTX 3090", capability: 860, multiprocessors: 82, shared_bytes: 101_376, blocks: 16, threads: 1536, clock_khz: 1_695_000, memory_clock_khz: 9_751_000, cache_bytes: 6 << 20, memory_bytes: 24 << 30 },
    Device { name: "L4", capability: 890, multiprocessors: 58, shared_bytes: 101_376, blocks: 24, threads: 1536, clock_khz: 2_040_000, memory_clock_khz: 6_251_000, cache_bytes: 48 << 20, memory_bytes: 24 << 30 },
    Device { name: "H100", capability: 900, multiprocessors: 132, shared_bytes: 232_448, blocks: 32, threads: 2048, clock_khz: 1_980_000, memory_clock_khz: 2_619_000, cache_bytes: 50 << 20, memory_bytes: 80 << 30 },
    Device { name: "H200", capability: 900, multiprocessors: 132, shared_bytes: 232_448, blocks: 32, threads: 2048, clock_khz: 1_980_000, memory_clock_khz: 3_201_000, cache_bytes: 50 << 20, memory_bytes: 141 << 30 },
    Device { name: "B200", capability: 1000, multiprocessors: 148, shared_bytes: 232_448, blocks: 32, threads: 2048, clock_khz: 1_965_000, memory_clock_khz: 3_996_000, cache_bytes: 126 << 20, memory_bytes: 180 << 30 },
    Device { name: "RTX 5090", capability: 1200, multiprocessors: 170, shared_bytes: 101_376, blocks: 24, threads: 1536, clock_khz: 2_407_000, memory_clock_khz: 14_001_000, cache_bytes: 96 << 20, memory_bytes: 32 << 30 },
];

impl Device {
    fn planner(&self, policy: Policy) -> Planner {
        let properties = serde_json::json!({
            "deviceVer": self.capability, "deviceName": self.name, "multiProcessorCount": self.multiprocessors,
            "maxSharedMemoryPerBlockOptin": self.shared_bytes, "maxCtasPerSM": self.blocks, "maxThreadsPerSM": self.threads,
            "smClockRateKHz": self.clock_khz, "memClockRateKHz": self.memory_clock_khz, "l2CacheSize": self.cache_bytes,
            "totalGlobalMem": self.memory_bytes, "warpSize": 32, "maxSharedMemoryPerBlock": 48 << 10,
            "reservedSharedMemoryPerBlock": 1024, "maxRegistersPerSM": 65536, "maxThreadsPerBlock": 1024, "regsPerBlock": 65536,
            "maxBlockSize": [1024, 1024, 64], "maxGridSize": [i32::MAX, 65535, 65535], "supportCoopLaunch": 1, "pciDeviceId": 0,
            "isTccDriver": 0, "cudaDeviceId": 0, "driverVer": 13000,
        });
        Planner::described(&properties.to_string(), policy).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }
}

/// Convolutions of the networks, without their number of images, and what follows each in evaluation.
type Shapes = BTreeMap<[usize; 5], BTreeSet<(bool, bool)>>;

/// Kernel, stride, side, channels read and written of every distinct convolution, the stem with padded channels; and whether a residual is
/// added and a ReLU follows.
fn shapes(depths: &[Depth]) -> Shapes {
    let mut shapes = Shapes::new();
    for &depth in depths {
        let network = Architecture::new(depth, IMAGE_SIZE, 128, GlobalPooling::Avg).unwrap();
        for node in &network.nodes {
            let (Layer::BatchNorm { relu, residual, .. }, Some(conv)) = (node.layer, node.input) else { continue };
            let Layer::Conv { kernel, stride, .. } = network.nodes[conv].layer else { continue };
            let input = network.input(conv);
            let padded: &[usize] = if network.nodes[conv].input.is_none() { &STEM_CHANNELS } else { &[input.channels] };
            for &channels in padded {
                let shape = [kernel, stride, input.height, channels, node.output.channels];
                shapes.entry(shape).or_default().insert((residual.is_some(), relu));
            }
        }
    }
    shapes
}

fn geometry([kernel, stride, side, in_channels, out_channels]: [usize; 5], batch: usize) -> ConvGeometry {
    ConvGeometry { batch, height: side, width: side, in_channels, out_channels, kernel, stride, padding: kernel / 2 }
}

/// A row of the table: one convolution in one format, with all the batches it is planned for.
struct Row {
    name: String,
    batches: &'static [usize],
    convolution: Convolution,
}

impl Row {
    fn new(shape: [usize; 5], batches: &'static [usize], format: Format, direction: (&str, Direction)) -> Self {
        let [kernel, stride, side, from, to] = shape;
        let name = format!("{kernel}x{kernel}/{stride}\t{side}\t{from}-{to}\t{}\t{}", format.suffix(), direction.0);
        let convolution = Convolution { geometry: geometry(shape, batches[0]), format, direction: direction.1 };
        Self { name, batches, convolution }
    }
}

/// Every convolution in every format and direction that training uses; the stem has no input gradient.
fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for shape in shapes(&[Depth::ResNet18, Depth::ResNet34, Depth::ResNet50, Depth::ResNet101]).into_keys() {
        let stem = STEM_CHANNELS.contains(&shape[3]);
        for format in [Format::F16, Format::Bf16, Format::F32] {
            let mut push = |name, direction| rows.push(Row::new(shape, &BATCHES, format, (name, direction)));
            push("forward", Direction::Forward(None));
            push("filter gradient", Direction::FilterGradient { full_precision: false });
            if !stem {
                push("input gradient", Direction::InputGradient { accumulate: false });
                push("added input gradient", Direction::InputGradient { accumulate: true });
            }
        }
    }
    rows
}

/// Every convolution of ResNet-18 and ResNet-50 with what follows it in evaluation, as embedding runs it: the stem padded as it is padded
/// there, batches of 64. cuDNN compiles these at run time, which takes up to seconds each, so one batch.
fn fused_rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (shape, followers) in shapes(&[Depth::ResNet18, Depth::ResNet50]) {
        if shape[3] == STEM_CHANNELS[0] {
            continue;
        }
        for (format, (residual, relu)) in
            [Format::F16, Format::Bf16].into_iter().flat_map(|format| followers.iter().map(move |&follower| (format, follower)))
        {
            let name = match (residual, relu) {
                (true, _) => "forward, scale, bias, residual, ReLU",
                (false, true) => "forward, scale, bias, ReLU",
                (false, false) => "forward, scale, bias",
            };
            let fused = Direction::Forward(Some(Fusion { residual, relu }));
            rows.push(Row::new(shape, &BATCHES[..1], format, (name, fused)));
        }
    }
    rows
}

/// Filter gradients in 32 bit, which cuDNN compiles at run time: each kernel and stride once.
fn compiled_rows() -> Vec<Row> {
    let mut sampled = BTreeSet::new();
    let shapes = shapes(&[Depth::ResNet18, Depth::ResNet50]).into_keys().filter(|shape| sampled.insert([shape[0], shape[1]]));
    let wide = Direction::FilterGradient { full_precision: true };
    shapes.map(|shape| Row::new(shape, &BATCHES[..1], Format::F16, ("filter gradient in f32", wide))).collect()
}

/// The engine of the largest batch and the most workspace of any batch, such as `62t 4K`: on the tensor cores, 4 KiB.
fn cell(planner: &Planner, row: &Row) -> xbm_fast::Result<String> {
    let (mut engine, mut bytes) = (String::new(), 0);
    for &batch in row.batches {
        let geometry = ConvGeometry { batch, ..row.convolution.geometry };
        let plan = planner.plan(&Convolution { geometry, ..row.convolution })?;
        bytes = bytes.max(plan.workspace_bytes());
        let notes = [
            ("t", plan.engine().uses_tensor_cores()),
            ("c", plan.engine().is_compiled_at_run_time()),
            ("r", plan.engine().reduces_in_low_precision()),
        ];
        assert!(plan.engine().is_deterministic(), "{}: {}", row.name, plan.engine());
        engine = plan.engine().index.to_string() + &notes.map(|(letter, has)| if has { letter } else { "" }).concat();
    }
    Ok(format!("{engine} {}K", bytes.div_ceil(1024)))
}

/// Loads a driver and the wheels' libraries, the sub-libraries before what looks for them.
fn load(driver: &Path, wheels: &Path) {
    let names = [
        "cu13/lib/libnvrtc-builtins.so.13.0",
        "cu13/lib/libnvrtc.so.13",
        "cu13/lib/libcublasLt.so.13",
        "cudnn/lib/libcudnn_graph.so.9",
        "cudnn/lib/libcudnn_engines_precompiled.so.9",
        "cudnn/lib/libcudnn_engines_runtime_compiled.so.9",
        "cudnn/lib/libcudnn_engines_tensor_ir.so.9",
        "cudnn/lib/libcudnn_heuristic.so.9",
        "cudnn/lib/libcudnn.so.9",
    ];
    for path in std::iter::once(driver.to_owned()).chain(names.map(|name| wheels.join(name))) {
        // SAFETY: NVIDIA's libraries and a driver that does nothing, whose initialisers have no requirement; cudarc then finds them by name.
        let opened = unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_GLOBAL) };
        std::mem::forget(opened.unwrap_or_else(|error| panic!("{}: {error}", path.display())));
    }
}

fn path(variable: &str) -> PathBuf {
    PathBuf::from(std::env::var_os(variable).unwrap_or_else(|| panic!("{variable} is not set: run .ci/cudnn-plans")))
}

/// The devices for which code is compiled: all, or the one that `XBM_CUDNN_COMPILED_FOR` names.
fn compiled_for() -> Vec<&'static Device> {
    let wished = std::env::var("XBM_CUDNN_COMPILED_FOR").ok();
    let devices: Vec<_> = DEVICES.iter().filter(|device| wished.as_ref().is_none_or(|name| name == device.name)).collect();
    assert!(!devices.is_empty(), "XBM_CUDNN_COMPILED_FOR={}: no device of that name", wished.unwrap());
    devices
}

/// For each device, the cell of each row. The devices side by side.
fn plan(rows: &[Row], devices: &[&Device]) -> Vec<Vec<xbm_fast::Result<String>>> {
    load(&path("XBM_CUDNN_DRIVER"), &path("XBM_CUDNN_WHEELS"));
    let column = |device: &Device| {
        let planner = device.planner(Policy::default());
        rows.iter().map(|row| cell(&planner, row)).collect()
    };
    std::thread::scope(|scope| {
        let started: Vec<_> = devices.iter().map(|&device| scope.spawn(move || column(device))).collect();
        started.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[track_caller]
fn all_are_planned(columns: &[Vec<xbm_fast::Result<String>>]) {
    let missing: Vec<String> = columns.iter().flatten().filter_map(|cell| cell.as_ref().err().map(ToString::to_string)).collect();
    println!("{} convolutions for {} devices", columns[0].len(), columns.len());
    assert!(missing.is_empty(), "{} without a plan; the first: {}", missing.len(), missing[0]);
}

#[test]
#[ignore = "needs cuDNN: run .ci/cudnn-plans"]
fn every_convolution_of_the_resnets_has_a_deterministic_plan_on_every_architecture() {
    let rows = rows();
    let columns = plan(&rows, &DEVICES.each_ref());
    let mut table = String::from("filter/stride\tside\tchannels\tformat\tcomputed");
    DEVICES.iter().for_each(|device| write!(table, "\t{}", device.name).unwrap());
    for (index, row) in rows.iter().enumerate() {
        write!(table, "\n{}", row.name).unwrap();
        for column in &columns {
            write!(table, "\t{}", column[index].as_deref().unwrap_or("none")).unwrap();
        }
    }
    std::fs::write(path("XBM_CUDNN_PLANS"), table + "\n").unwrap();
    all_are_planned(&columns);
}

#[test]
#[ignore = "needs cuDNN: run .ci/cudnn-plans"]
fn what_cudnn_compiles_at_run_time_has_a_deterministic_plan() {
    let rows: Vec<Row> = fused_rows().into_iter().chain(compiled_rows()).collect();
    let columns = plan(&rows, &compiled_for());
    for (index, row) in rows.iter().enumerate() {
        let cells: Vec<&str> = columns.iter().map(|column| column[index].as_deref().unwrap_or("none")).collect();
        println!("{}\t{}", row.name, cells.join("\t"));
    }
    all_are_planned(&columns);
}

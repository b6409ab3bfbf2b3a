//! The device under measurement, its ceilings, and timing by events.

use bytemuck::Pod;
use criterion::Criterion;
use cudarc::driver::sys::CUevent_flags;
use cudarc::driver::{CudaContext, CudaSlice, CudaStream, DevicePtr, DeviceRepr, ValidAsZeroBits};
use std::sync::Arc;
use std::time::Duration;
use xbm_fast::kernel::{Kernel, LaunchShape, Module, image};
use xbm_fast::rng::Rng;

/// Launches between two events: their clock ticks in half microseconds.
const LAUNCHES: u64 = 16;
/// Ceilings of an H200 as others have measured them, used where none are given.
const TFLOPS: f64 = 790.0;
const TERABYTES: f64 = 4.3;

/// A device and one stream.
pub struct Gpu {
    context: Arc<CudaContext>,
    /// Where everything is launched.
    pub stream: Arc<CudaStream>,
    /// Whether this is the software GPU, on which only the smallest size makes sense.
    pub software: bool,
}

/// What a benchmark cannot take less than.
#[derive(Clone, Copy, Debug)]
pub struct Floor {
    /// Read and written, in bytes.
    pub bytes: f64,
    /// 16-bit matrix products.
    pub flops: f64,
}

impl Floor {
    fn seconds(self) -> f64 {
        let ceiling = |name: &str, otherwise: f64| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise);
        let (flops, bytes) = (ceiling("XBM_PEAK_TFLOPS", TFLOPS) * 1e12, ceiling("XBM_PEAK_TBS", TERABYTES) * 1e12);
        (self.flops / flops).max(self.bytes / bytes)
    }
}

impl Gpu {
    /// The first device, or `None` with a message.
    pub fn new() -> Option<Self> {
        let software = std::env::var("SOFTWARE_GPU").is_ok_and(|value| value == "force");
        let real = *software_gpu::device() == software_gpu::Device::Real;
        if !(real || software && software_gpu::available()) {
            println!("no CUDA device: nothing to measure");
            return None;
        }
        let context = CudaContext::new(0).expect("the driver has a device");
        // SAFETY: one stream.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream().expect("the device has streams");
        println!("measuring on {}", context.name().unwrap_or_default());
        Some(Self { context, stream, software })
    }

    /// A kernel of `kernels/<stem>.cu`.
    pub fn kernel<Params: Pod>(&self, stem: &str, name: &str, shared_bytes: u32) -> Kernel<Params> {
        let module = Module::load(&self.context, image(&self.context, stem).expect("an image")).expect("a module");
        module.kernel(name, shared_bytes).expect("a kernel")
    }

    /// A buffer holding these values.
    pub fn upload<T: DeviceRepr>(&self, values: &[T]) -> CudaSlice<T> {
        self.stream.clone_htod(values).expect("device memory")
    }

    /// A buffer of zeros.
    pub fn zeros<T: DeviceRepr + ValidAsZeroBits>(&self, len: usize) -> CudaSlice<T> {
        self.stream.alloc_zeros(len).expect("device memory")
    }

    /// Standard normal values: never zeros, which cost less power.
    pub fn normals(&self, len: usize) -> CudaSlice<f32> {
        let mut rng = Rng::new(1);
        self.upload(&(0..len).map(|_| rng.normal()).collect::<Vec<_>>())
    }

    /// The address of a buffer.
    pub fn address<T>(&self, buffer: &CudaSlice<T>) -> u64 {
        buffer.device_ptr(&self.stream).0
    }

    /// One benchmark of a kernel: its time on the device, beside its floor.
    pub fn measure<Params: Pod>(
        &self,
        criterion: &mut Criterion,
        name: &str,
        floor: Floor,
        launch: (&Kernel<Params>, LaunchShape, Params),
    ) {
        let (kernel, shape, params) = launch;
        let mut best = f64::INFINITY;
        criterion.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                let seconds = self.time(iterations.div_ceil(LAUNCHES) * LAUNCHES, || {
                    // SAFETY: the caller's buffers have the sizes in `params` and outlive the measurement.
                    unsafe { kernel.launch(&self.stream, shape, params) }.expect("a launch");
                }) / iterations.div_ceil(LAUNCHES) as f64
                    / LAUNCHES as f64;
                best = best.min(seconds);
                Duration::from_secs_f64(seconds * iterations as f64)
            });
        });
        if best.is_finite() && !self.software {
            println!(
                "{name}: floor {:.2} us, best {:.2} us, ratio {:.2}",
                floor.seconds() * 1e6,
                best * 1e6,
                best / floor.seconds()
            );
        }
    }

    /// Seconds between two events around `count` calls.
    fn time(&self, count: u64, call: impl Fn()) -> f64 {
        let record = || self.stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT)).expect("an event");
        let start = record();
        (0..count).for_each(|_| call());
        let end = record();
        self.stream.synchronize().expect("the launches succeed");
        f64::from(start.elapsed_ms(&end).expect("both events have passed")) / 1e3
    }
}

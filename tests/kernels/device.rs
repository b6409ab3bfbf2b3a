//! A stream on whatever device there is, buffers by value, and the teardown that every test ends with.

use bytemuck::Pod;
use cudarc::driver::sys::CUdevice_attribute_enum::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
use cudarc::driver::{CudaContext, CudaSlice, CudaStream, DevicePtr, DeviceRepr, ValidAsZeroBits};
use half::{bf16, f16};
use software_gpu::Schedule;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use xbm_fast::device::cuda::kernel::{Format, Image, Kernel, LaunchShape, Module, Part, image};
use xbm_fast::kernel_args::pair_loss::fused::Epilogue;
use xbm_fast::kernel_args::pair_loss::tiling::{LARGE_SHARED_LIMIT, Tiling};
use xbm_fast::kernel_args::pair_loss::warpgroup::{STEM, WarpgroupTiling};

/// The device under test.
pub struct Gpu {
    pub context: Arc<CudaContext>,
    pub stream: Arc<CudaStream>,
    /// A stem whose kernels come from another image than this build's.
    replaced: Option<(&'static str, Image)>,
}

/// Runs `body` once under each schedule of the software GPU (once on a real device), and fails if the device has anything to report.
pub fn on_every_schedule(body: impl Fn(&Gpu)) {
    for &schedule in software_gpu::schedules() {
        if !on(schedule, &body) {
            return;
        }
    }
}

/// Runs `body` under one schedule; returns whether further schedules would differ.
pub fn on(schedule: Schedule, mut body: impl FnMut(&Gpu)) -> bool {
    if !software_gpu::available() {
        return false;
    }
    let context = context();
    // One stream, and kernels that take raw addresses: cudarc's tracking would see nothing.
    let stream = context.new_stream().unwrap();
    software_gpu::set_schedule(schedule);
    body(&Gpu { context, stream: stream.clone(), replaced: None });
    stream.synchronize().unwrap_or_else(|error| panic!("{error:?} under {schedule:?}: {:?}", software_gpu::take_reports()));
    let reports = software_gpu::take_reports();
    assert!(reports.is_empty(), "under {schedule:?}: {reports:?}");
    *software_gpu::device() == software_gpu::Device::Software
}

/// Runs `body` with the kernels of one stem replaced, on a context of its own that a fault ends with; returns what went wrong.
pub fn with_kernels(schedule: Schedule, stem: &'static str, image: &Image, body: impl Fn(&Gpu)) -> Result<(), String> {
    software_gpu::set_schedule(schedule);
    let context = CudaContext::new(0).unwrap();
    // SAFETY: one stream.
    unsafe { context.disable_event_tracking() };
    let stream = context.new_stream().unwrap();
    let gpu = Gpu { context, stream, replaced: Some((stem, image.clone())) };
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| body(&gpu)));
    let finished = gpu.stream.synchronize();
    drop(gpu);
    let reports = software_gpu::take_reports();
    match outcome {
        _ if !reports.is_empty() => Err(reports[0].clone()),
        Err(panic) => Err(panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "a panic".into())),
        Ok(()) => finished.map_err(|error| format!("{error:?}")),
    }
}

fn context() -> Arc<CudaContext> {
    static CONTEXT: OnceLock<Arc<CudaContext>> = OnceLock::new();
    CONTEXT
        .get_or_init(|| {
            let context = CudaContext::new(0).unwrap();
            // SAFETY: every test uses one stream.
            unsafe { context.disable_event_tracking() };
            context
        })
        .clone()
}

impl Gpu {
    /// The kernels of `kernels/<stem>.cu`.
    fn module(&self, stem: &str) -> Module {
        let replaced = self.replaced.as_ref().filter(|(replaced, _)| *replaced == stem);
        let image = if let Some((_, image)) = replaced {
            image.clone()
        } else if *software_gpu::device() == software_gpu::Device::Software {
            Image(b"the kernels of this build\0".to_vec())
        } else {
            image(&self.context, stem, Part::Whole).unwrap()
        };
        Module::load(&self.context, image).unwrap()
    }

    /// The kernel of that name in `kernels/<stem>.cu`, checked against its argument struct.
    pub fn kernel<Params: Pod>(&self, stem: &str, name: &str, shared_bytes: u32) -> Kernel<Params> {
        let kernel = self.module(stem).kernel(name, shared_bytes).unwrap();
        assert!(kernel.takes_its_params().unwrap(), "{name}: argument struct");
        kernel
    }

    /// Compute capability, such as 80.
    pub fn capability(&self) -> i32 {
        let (major, minor) = self.context.compute_capability().unwrap();
        10 * major + minor
    }

    /// Every tiling for rows of `dim` numbers that this device has shared memory for.
    pub fn tilings(&self, dim: usize) -> Vec<Tiling> {
        let limit = self.context.attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN).unwrap() as usize;
        let mut found: Vec<Tiling> = [0, limit].into_iter().filter_map(|limit| Tiling::new(dim, limit)).collect();
        found.dedup();
        assert!(limit < LARGE_SHARED_LIMIT || !found.is_empty(), "a tiling for rows of {dim}");
        found
    }

    /// Every tiling of warpgroups for rows of `dim` numbers, where this device has them: on the software GPU where `SOFTWARE_GPU_PTX` names PTX
    /// of sm_90a, and it pretends to be one.
    pub fn warpgroup_tilings(&self, dim: usize) -> Vec<WarpgroupTiling> {
        let has = |tiling: &WarpgroupTiling| self.module(STEM).has(&tiling.kernel(Epilogue::Constant, Format::F16));
        WarpgroupTiling::all_of(dim).into_iter().filter(has).collect()
    }

    /// Launches; the test's buffers are large enough for what the kernel's source says it touches, or the software GPU reports it.
    pub fn launch<Params: Pod>(&self, kernel: &Kernel<Params>, shape: LaunchShape, params: Params) {
        // SAFETY: the buffers outlive the launch (every test synchronises before dropping them) and have the sizes in `params`.
        unsafe { kernel.launch(&self.stream, shape, params) }
            .unwrap_or_else(|error| panic!("{error}: {:?}", software_gpu::take_reports()));
    }

    /// A buffer holding these values.
    pub fn upload<T: DeviceRepr>(&self, values: &[T]) -> CudaSlice<T> {
        self.stream.clone_htod(values).unwrap()
    }

    /// An uninitialised buffer: on the software GPU it holds NaN.
    pub fn uninitialised<T: DeviceRepr + ValidAsZeroBits>(&self, len: usize) -> CudaSlice<T> {
        // SAFETY: every bit pattern of `T` is a value, and the tests write before they read.
        unsafe { self.stream.alloc(len) }.unwrap()
    }

    /// The values of a buffer, once everything before has run.
    pub fn download<T: DeviceRepr + Clone + Default>(&self, buffer: &CudaSlice<T>) -> Vec<T> {
        let values = self.stream.clone_dtoh(buffer);
        let values = values.unwrap_or_else(|error| panic!("{error:?}: {:?}", software_gpu::take_reports()));
        self.stream.synchronize().unwrap();
        bits::note(&values);
        values
    }

    /// The address of a buffer.
    pub fn address<T>(&self, buffer: &CudaSlice<T>) -> u64 {
        buffer.device_ptr(&self.stream).0
    }

    /// Values rounded to a format, as a buffer of bytes.
    pub fn encode(&self, values: &[f32], format: Format) -> CudaSlice<u8> {
        self.upload(&encoded(values, format))
    }

    /// The values of a buffer that holds numbers of a format.
    pub fn decode(&self, buffer: &CudaSlice<u8>, format: Format) -> Vec<f32> {
        decoded(&self.download(buffer), format)
    }
}

/// `XBM_KERNEL_BITS` names a file to which every result is appended, by the test that downloads it: two engines that ran the same tests can be
/// compared to the bit.
mod bits {
    use std::fs::File;
    use std::io::Write as _;
    use std::sync::{LazyLock, Mutex};

    static FILE: LazyLock<Option<Mutex<File>>> = LazyLock::new(|| {
        let path = std::env::var_os("XBM_KERNEL_BITS")?;
        Some(Mutex::new(File::create(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))))
    });

    pub fn note<T>(values: &[T]) {
        let Some(file) = &*FILE else { return };
        // SAFETY: what was downloaded are numbers, whose bytes are all written.
        let bytes = unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values)) };
        let thread = std::thread::current();
        let line = format!("{}\t{}\t{:08x}\n", thread.name().unwrap_or_default(), values.len(), crc32c::crc32c(bytes));
        file.lock().unwrap().write_all(line.as_bytes()).unwrap();
    }
}

/// Bytes of a number.
pub fn width(format: Format) -> usize {
    if format == Format::F32 { 4 } else { 2 }
}

/// The bytes of values in a format.
pub fn encoded(values: &[f32], format: Format) -> Vec<u8> {
    let bytes = |value: &f32| match format {
        Format::F32 => value.to_le_bytes().to_vec(),
        Format::F16 => f16::from_f32(*value).to_le_bytes().to_vec(),
        Format::Bf16 => bf16::from_f32(*value).to_le_bytes().to_vec(),
    };
    values.iter().flat_map(bytes).collect()
}

/// The values of bytes in a format.
pub fn decoded(bytes: &[u8], format: Format) -> Vec<f32> {
    match format {
        Format::F32 => bytes.as_chunks().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect(),
        Format::F16 => bytes.as_chunks().0.iter().map(|chunk| f16::from_le_bytes(*chunk).to_f32()).collect(),
        Format::Bf16 => bytes.as_chunks().0.iter().map(|chunk| bf16::from_le_bytes(*chunk).to_f32()).collect(),
    }
}

/// Values as a buffer of that format will hold them.
pub fn rounded(values: &[f32], format: Format) -> Vec<f32> {
    decoded(&encoded(values, format), format)
}

/// Half a unit in the last place of a number near 1.
pub fn rounding(format: Format) -> f64 {
    match format {
        Format::F32 => 2f64.powi(-24),
        Format::F16 => 2f64.powi(-11),
        Format::Bf16 => 2f64.powi(-8),
    }
}

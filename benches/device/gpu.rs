//! The device under measurement: buffers, launches, and the agreement that comes before any timing.

use bytemuck::Pod;
use cudarc::driver::sys::CUdevice_attribute_enum::{
    CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
};
use cudarc::driver::{CudaContext, CudaSlice, CudaStream, DevicePtr, DeviceRepr, ValidAsZeroBits};
use half::f16;
use std::sync::Arc;
use xbm_fast::device::cuda::kernel::{Kernel, LaunchShape, Module, Part, image};
use xbm_fast::kernel_args::pair_loss::tiling::Tiling;
use xbm_fast::rng::Rng;

/// Values of a result that are compared with the reference.
const COMPARED: usize = 257;

/// A device and one stream.
pub struct Gpu {
    context: Arc<CudaContext>,
    /// Where everything is launched.
    pub stream: Arc<CudaStream>,
    /// Whether this is the software GPU, on which only the smallest size makes sense.
    pub software: bool,
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
        let gpu = Self { context, stream, software };
        println!("measuring on {}", gpu.name());
        Some(gpu)
    }

    /// What the driver calls the device.
    pub fn name(&self) -> String {
        self.context.name().unwrap_or_default()
    }

    /// The kernels of `kernels/<stem>.cu`.
    pub fn module(&self, stem: &str) -> Module {
        Module::load(&self.context, image(&self.context, stem, Part::Whole).expect("an image")).expect("a module")
    }

    /// One of them.
    pub fn kernel<Params: Pod>(&self, stem: &str, name: &str, shared_bytes: u32) -> Kernel<Params> {
        self.module(stem).kernel(name, shared_bytes).expect("a kernel")
    }

    /// The tiling of this device for rows of `dim` numbers.
    pub fn tiling(&self, dim: usize) -> Tiling {
        let limit = self.context.attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN).expect("an attribute");
        Tiling::new(dim, limit as usize).expect("a length with a tiling")
    }

    /// Blocks that run on the whole device at a time.
    pub fn resident_blocks<Params: Pod>(&self, kernel: &Kernel<Params>, threads: u32, shared_bytes: u32) -> usize {
        let multiprocessors = self.context.attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT).expect("an attribute") as usize;
        multiprocessors * kernel.resident_blocks(threads, shared_bytes).expect("an occupancy")
    }

    /// A buffer holding these values.
    pub fn upload<T: DeviceRepr>(&self, values: &[T]) -> CudaSlice<T> {
        self.stream.clone_htod(values).expect("device memory")
    }

    /// A buffer of zeros.
    pub fn zeros<T: DeviceRepr + ValidAsZeroBits>(&self, len: usize) -> CudaSlice<T> {
        self.stream.alloc_zeros(len).expect("device memory")
    }

    /// The values of a buffer, once everything before has run.
    pub fn download<T: DeviceRepr + Clone + Default>(&self, buffer: &CudaSlice<T>) -> Vec<T> {
        self.stream.clone_dtoh(buffer).unwrap_or_else(|error| panic!("{error:?}: {:?}", software_gpu::take_reports()))
    }

    /// The address of a buffer.
    pub fn address<T>(&self, buffer: &CudaSlice<T>) -> u64 {
        buffer.device_ptr(&self.stream).0
    }

    /// One launch.
    pub fn launch<Params: Pod>(&self, kernel: &Kernel<Params>, shape: LaunchShape, params: Params) {
        // SAFETY: the caller's buffers have the sizes in `params` and outlive the stream's work, which a download waits for.
        unsafe { kernel.launch(&self.stream, shape, params) }.expect("a launch");
    }
}

/// Standard normal values: never zeros, which cost less power.
pub fn normals(len: usize) -> Vec<f32> {
    let mut rng = Rng::new(len as u64);
    (0..len).map(|_| rng.normal()).collect()
}

/// Values in 16 bit.
pub fn halves(values: &[f32]) -> Vec<f16> {
    values.iter().map(|&value| f16::from_f32(value)).collect()
}

/// Unit rows in 16 bit.
pub fn unit_rows(rows: usize, dim: usize) -> Vec<f16> {
    let mut values = normals(rows * dim);
    for row in values.chunks_mut(dim) {
        let norm = row.iter().map(|value| value * value).sum::<f32>().sqrt();
        row.iter_mut().for_each(|value| *value /= norm);
    }
    halves(&values)
}

/// Panics unless values all over the result are those of the reference, within a tolerance relative to the largest of them: what is
/// wrong is not measured.
pub fn agree<T: Copy + Into<f64>>(what: &str, found: &[T], tolerance: f64, reference: impl Fn(usize) -> f64) {
    let places: Vec<usize> = (0..COMPARED.min(found.len())).map(|i| i * (found.len() - 1) / COMPARED.min(found.len())).collect();
    let expected: Vec<f64> = places.iter().map(|&place| reference(place)).collect();
    let largest = expected.iter().fold(1e-30, |largest: f64, value| largest.max(value.abs()));
    for (&place, &expected) in places.iter().zip(&expected) {
        let value: f64 = found[place].into();
        let agrees = (value - expected).abs() <= tolerance * largest;
        assert!(agrees, "{what} is not measured: at {place} expected {expected}, found {value}");
    }
}

//! NVIDIA GPUs: one device, one stream, buffers of 32 or 16 bits, and the launches of our kernels.
//!
//! Activations and memory rows are held in the format the backend was opened with ([`NumberFormat::Compute`]); parameters, their gradients
//! and statistics in 32 bit ([`NumberFormat::Full`]). A 32-bit buffer that an operation wants to read in 16 bits gets a half copy that is made
//! when it is first asked for and made again when the buffer has been written since. So the filters of a network are converted once a step,
//! by one launch, however many layers there are.
//!
//! [`NumberFormat::Compute`]: super::NumberFormat::Compute
//! [`NumberFormat::Full`]: super::NumberFormat::Full
//!
//! Nothing waits for the device but downloads and uploads.

pub mod cast;
mod foreign;
mod image;
pub mod kernel;
pub mod libraries;
mod memory;
mod options;
mod probe;
mod resources;
mod span;
mod staging;
mod step_graph;
mod storage;
pub mod tensor_map;
mod transfer;
mod work;

pub use memory::ALIGNMENT;
pub(crate) use memory::DeviceMemory;
pub use options::{CudaOptions, PairLossPath, Precision};
pub use probe::{DeviceReport, Probe, driver_verdict, gpu_in_sight, version_words};
pub use resources::{Resources, resources};
pub use step_graph::StepGraph;

pub(crate) use kernel::width;
pub(crate) use span::{common_format, expect_full};

use super::Storage;
use super::cublaslt::CublasLt;
use super::cudnn::{Cudnn, Policy};
use crate::device::cuda::kernel::{Format, Module, Part, device_error};
use crate::error::Result;
use cudarc::driver::sys::CUdevice_attribute_enum::{
    CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN,
    CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
};
use cudarc::driver::{CudaContext, CudaStream};
use half::{bf16, f16};
use memory::Pool;
use staging::Staging;
use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use step_graph::Queue;
use storage::narrowed;

/// The GPU backend. Cloning shares the device, its stream and its memory.
#[derive(Clone)]
pub struct Cuda {
    device: Arc<Device>,
}

struct Device {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    multiprocessors: usize,
    shared_limit: usize,
    second_level_cache: usize,
    capability: i32,
    pool: Arc<Pool>,
    modules: Mutex<HashMap<(&'static str, Part), Module>>,
    kernels: Mutex<HashMap<String, Arc<dyn Any + Send + Sync>>>,
    staging: Mutex<Staging>,
    cudnn: OnceLock<Cudnn>,
    cublaslt: OnceLock<CublasLt>,
    ones: Mutex<HashMap<(usize, Format), DeviceMemory>>,
    waiting: Mutex<Waiting>,
    options: CudaOptions,
}

/// What happens to work that is asked for.
enum Waiting {
    /// It is put on the stream.
    Nothing,
    /// It waits in a queue.
    Queue(Queue),
    /// It waited until something had to be read back; the memory that it was given is kept until the end of the step.
    Ran(#[expect(dead_code, reason = "held for its memory")] Queue),
}

/// Workspace that libraries may ask for, in bytes.
const WORKSPACE_LIMIT: usize = 256 << 20;

/// Numbers in device memory.
#[derive(Debug)]
pub struct CudaBuffer {
    memory: DeviceMemory,
    format: Format,
    len: usize,
    half_copy: Mutex<Option<HalfCopy>>,
}

/// The 16-bit copy of a 32-bit buffer.
#[derive(Debug)]
struct HalfCopy {
    memory: DeviceMemory,
    format: Format,
    fresh: bool,
}

/// Integers in device memory.
#[derive(Debug)]
pub struct CudaIntegers {
    memory: DeviceMemory,
    len: usize,
}

impl fmt::Debug for Cuda {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cuda({})", self.description())
    }
}

impl Cuda {
    /// The first device.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) with a sentence that says what is missing and what to install.
    pub fn open(options: CudaOptions) -> Result<Self> {
        Self::open_ordinal(0, options)
    }

    /// The device of that number, as CUDA counts them.
    ///
    /// # Errors
    /// As [`Cuda::open`].
    pub fn open_ordinal(ordinal: usize, options: CudaOptions) -> Result<Self> {
        let context = probe::open(ordinal)?;
        // SAFETY: everything is put on one stream, so there is nothing for events to order.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream().map_err(device_error("making a stream"))?;
        let size =
            |attribute, what: &str| context.attribute(attribute).map(|size| size.max(0) as usize).map_err(device_error(what));
        let multiprocessors = size(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, "asking for the multiprocessors")?;
        let shared_limit = size(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, "asking for the shared memory of a block")?;
        let second_level_cache = size(CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE, "asking for the second-level cache")?;
        let (major, minor) = context.compute_capability().map_err(device_error("asking for the compute capability"))?;
        let device = Device {
            capability: 10 * major + minor,
            pool: Pool::new(context.clone(), stream.clone()),
            staging: Mutex::new(Staging::new(context.clone(), stream.clone())),
            context,
            stream,
            options,
            cudnn: OnceLock::new(),
            cublaslt: OnceLock::new(),
            ones: Mutex::default(),
            waiting: Mutex::new(Waiting::Nothing),
            multiprocessors: multiprocessors.max(1),
            shared_limit,
            second_level_cache,
            modules: Mutex::default(),
            kernels: Mutex::default(),
        };
        Ok(Self { device: Arc::new(device) })
    }

    /// The format of activations and memory rows.
    pub fn format(&self) -> Format {
        self.device.options.precision.format()
    }

    pub(crate) fn options(&self) -> CudaOptions {
        self.device.options
    }

    pub(crate) fn cudnn(&self) -> Result<&Cudnn> {
        if let Some(cudnn) = self.device.cudnn.get() {
            return Ok(cudnn);
        }
        let tf32 = self.device.options.precision == Precision::Tf32;
        let policy = Policy { deterministic: true, tf32, workspace_limit: WORKSPACE_LIMIT };
        let opened = Cudnn::new(self.device.stream.clone(), policy)?;
        Ok(self.device.cudnn.get_or_init(|| opened))
    }

    fn cublaslt(&self) -> Result<&CublasLt> {
        if let Some(cublaslt) = self.device.cublaslt.get() {
            return Ok(cublaslt);
        }
        let tf32 = self.device.options.precision == Precision::Tf32;
        let opened = CublasLt::new(self.device.stream.clone(), WORKSPACE_LIMIT, tf32)?;
        Ok(self.device.cublaslt.get_or_init(|| opened))
    }

    /// Address of `len` ones.
    pub(crate) fn ones(&self, len: usize, format: Format) -> Result<u64> {
        let mut ones = lock(&self.device.ones);
        if let Some(memory) = ones.get(&(len, format)) {
            return Ok(memory.address());
        }
        // Written at once, so by no means where work that waits would write later.
        let memory = self.device.pool.allocate_untouched(len * width(format))?;
        let values = vec![1.0; len];
        match format {
            Format::F32 => self.write_now(&values, memory.address())?,
            Format::F16 => self.write_now(&narrowed(&values, f16::from_f32), memory.address())?,
            Format::Bf16 => self.write_now(&narrowed(&values, bf16::from_f32), memory.address())?,
        }
        Ok(ones.entry((len, format)).or_insert(memory).address())
    }

    /// Shared memory that a block may ask for, in bytes.
    pub(crate) fn shared_limit(&self) -> usize {
        self.device.shared_limit
    }

    /// Size of the second-level cache in bytes.
    pub(crate) fn second_level_cache(&self) -> usize {
        self.device.second_level_cache
    }

    /// Compute capability, such as 90.
    pub(crate) fn capability(&self) -> i32 {
        self.device.capability
    }

    pub(crate) fn stream(&self) -> &Arc<CudaStream> {
        &self.device.stream
    }

    fn pool(&self) -> &Arc<Pool> {
        &self.device.pool
    }

    /// Device memory with undefined content, for one operation: it may be dropped as soon as its last user has been asked for.
    pub(crate) fn scratch(&self, bytes: usize) -> Result<DeviceMemory> {
        match &mut *lock(&self.device.waiting) {
            Waiting::Queue(queue) => queue.scratch(self.pool(), bytes),
            _ => self.pool().allocate(bytes),
        }
    }

    /// Scratch memory of zeros.
    pub(crate) fn zeroed_scratch(&self, bytes: usize) -> Result<DeviceMemory> {
        let memory = self.scratch(bytes)?;
        self.clear(memory.address(), bytes)?;
        Ok(memory)
    }

    /// Device memory of zeros, to be kept.
    pub(crate) fn zeroed(&self, bytes: usize) -> Result<DeviceMemory> {
        let memory = self.pool().allocate(bytes)?;
        self.clear(memory.address(), bytes)?;
        Ok(memory)
    }

    fn bind(&self) -> Result<()> {
        self.device.context.bind_to_thread().map_err(device_error("using the device"))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! NVIDIA GPUs: one device, one stream, buffers of 32 or 16 bits, and the launches of our kernels.
//!
//! Activations and memory rows are held in the format the backend was opened with ([`Precision::Compute`](super::Precision::Compute)); parameters, their gradients
//! and statistics in 32 bit ([`Precision::Full`](super::Precision::Full)). A 32-bit buffer that an operation wants to read in 16 bits gets a twin: a 16-bit copy
//! that is made when it is first asked for and made again when the buffer has been written since. So the filters of a network are
//! converted once a step, by one launch, however many layers there are.
//!
//! Nothing waits for the device but downloads and uploads.

mod foreign;
pub mod libraries;
mod memory;
mod options;
mod probe;
mod queue;
mod span;
mod staging;
mod storage;

pub use memory::ALIGNMENT;
pub(crate) use memory::DeviceMemory;
pub use options::{CudaOptions, Numbers, PairLossPath};
pub use probe::{DeviceReport, Probe, version_words};
pub use queue::Repeated;

pub(crate) use span::{common_format, expect_full, width};

use super::cublaslt::{CublasLt, Matmul, Matrices};
use super::cudnn::{Convolution, Cudnn, Operands, Policy};
use super::{Storage, Workspace};
use crate::error::Result;
use crate::kernel::{Format, Kernel, LaunchShape, Module, device_error, image};
use bytemuck::Pod;
use cudarc::driver::sys::CUdevice_attribute_enum::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
use cudarc::driver::{CudaContext, CudaStream, result};
use half::{bf16, f16};
use memory::Pool;
use queue::{Mark, Queue, Work};
use staging::Staging;
use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
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
    capability: i32,
    pool: Arc<Pool>,
    modules: Mutex<HashMap<&'static str, Module>>,
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
    twin: Mutex<Option<Twin>>,
}

/// The 16-bit copy of a 32-bit buffer.
#[derive(Debug)]
struct Twin {
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
        let multiprocessors =
            context.attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT).map_err(device_error("asking for the multiprocessors"))?;
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
            multiprocessors: multiprocessors.max(1) as usize,
            modules: Mutex::default(),
            kernels: Mutex::default(),
        };
        Ok(Self { device: Arc::new(device) })
    }

    /// The format of activations and memory rows.
    pub fn format(&self) -> Format {
        self.device.options.numbers.format()
    }

    pub(crate) fn options(&self) -> CudaOptions {
        self.device.options
    }

    pub(crate) fn cudnn(&self) -> Result<&Cudnn> {
        if let Some(cudnn) = self.device.cudnn.get() {
            return Ok(cudnn);
        }
        let tf32 = self.device.options.numbers == Numbers::Tf32;
        let policy = Policy { deterministic: true, tf32, workspace_limit: WORKSPACE_LIMIT };
        let opened = Cudnn::new(self.device.stream.clone(), policy)?;
        Ok(self.device.cudnn.get_or_init(|| opened))
    }

    fn cublaslt(&self) -> Result<&CublasLt> {
        if let Some(cublaslt) = self.device.cublaslt.get() {
            return Ok(cublaslt);
        }
        let tf32 = self.device.options.numbers == Numbers::Tf32;
        let opened = CublasLt::new(self.device.stream.clone(), WORKSPACE_LIMIT, tf32)?;
        Ok(self.device.cublaslt.get_or_init(|| opened))
    }

    /// Puts a matrix product on the stream.
    ///
    /// # Errors
    /// As [`CublasLt::matmul`].
    ///
    /// # Safety
    /// The addresses must be those of matrices as large as the product says.
    pub(crate) unsafe fn matmul(&self, product: &Matmul, scale: f32, matrices: &Matrices) -> Result<()> {
        let cublaslt = self.cublaslt()?;
        let bytes = cublaslt.workspace_bytes(product)?;
        let memory = self.scratch(bytes).map_err(|error| error.allocating("the workspace of a matrix product", "--batch-size"))?;
        let workspace = Workspace { address: memory.address(), bytes };
        let (product, matrices) = (*product, *matrices);
        let mark = Mark::of("matmul", &(product, scale.to_bits(), matrices, workspace.address));
        // SAFETY: the caller's promise; the workspace is used on this stream only.
        self.put(mark, Box::new(move |cuda| unsafe { cuda.cublaslt()?.matmul(&product, scale, &matrices, workspace) }))
    }

    /// Puts a convolution on the stream.
    ///
    /// # Errors
    /// As [`Cudnn::convolution`].
    ///
    /// # Safety
    /// The addresses must be those of tensors as large as the convolution says.
    pub(crate) unsafe fn put_convolution(&self, convolution: Convolution, operands: Operands, workspace: Workspace) -> Result<()> {
        let mark = Mark::of("convolution", &(convolution, operands, workspace.address));
        // SAFETY: the caller's promise; the workspace is used on this stream only.
        self.put(mark, Box::new(move |cuda| unsafe { cuda.cudnn()?.convolution(&convolution, &operands, workspace) }))
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

    pub(crate) fn multiprocessors(&self) -> usize {
        self.device.multiprocessors
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

    /// Puts an operation on the stream, or into the queue.
    fn put(&self, mark: Mark, work: Work) -> Result<()> {
        if let Waiting::Queue(queue) = &mut *lock(&self.device.waiting) {
            queue.push(mark, work);
            return Ok(());
        }
        work(self)
    }

    /// Puts everything that waits on the stream; what is asked for from now on does not wait.
    fn stop_waiting(&self) -> Result<()> {
        let mut waiting = lock(&self.device.waiting);
        let Waiting::Queue(mut queue) = std::mem::replace(&mut *waiting, Waiting::Nothing) else { return Ok(()) };
        drop(waiting);
        let outcome = queue.run(self);
        self.pool().stop_waiting();
        *lock(&self.device.waiting) = Waiting::Ran(queue);
        outcome
    }

    /// See [`Storage::repeat`].
    fn repeat_step<R>(&self, repeated: &mut Repeated, step: impl FnOnce() -> Result<R>) -> Result<R> {
        self.pool().await_work();
        *lock(&self.device.waiting) = Waiting::Queue(Queue::following(repeated));
        let outcome = step();
        if outcome.is_err() {
            // As without a queue: what was asked for before the error is done. Its own errors say no more than the first.
            let _ = self.stop_waiting();
        }
        let ended = std::mem::replace(&mut *lock(&self.device.waiting), Waiting::Nothing);
        let finished = match ended {
            Waiting::Queue(queue) => queue.finish(self, repeated),
            _ => Ok(()),
        };
        self.pool().stop_waiting();
        outcome.and_then(|outcome| finished.map(|()| outcome))
    }

    pub(crate) fn clear(&self, address: u64, bytes: usize) -> Result<()> {
        let clear = move |cuda: &Self| {
            cuda.bind()?;
            // SAFETY: the callers own `bytes` bytes from this address.
            unsafe { result::memset_d8_async(address, 0, bytes, cuda.stream().cu_stream()) }
                .map_err(device_error("clearing memory"))
        };
        self.put(Mark::of("clear", &(address, bytes)), Box::new(clear))
    }

    fn bind(&self) -> Result<()> {
        self.device.context.bind_to_thread().map_err(device_error("using the device"))
    }

    /// Puts a launch of a kernel of `kernels/<stem>.cu` on the stream.
    ///
    /// # Errors
    /// As [`Kernel::launch`], and those of loading the kernel when it is launched first.
    ///
    /// # Safety
    /// As [`Kernel::launch`].
    pub(crate) unsafe fn launch<Params: Pod + Send>(
        &self,
        stem: &'static str,
        name: &str,
        shape: LaunchShape,
        params: Params,
    ) -> Result<()> {
        let kernel = self.kernel::<Params>(stem, name, shape.shared_bytes)?;
        let mark = Mark::of(name, &shape).and(bytemuck::bytes_of(&params));
        // SAFETY: the caller vouches for the addresses.
        self.put(mark, Box::new(move |cuda| unsafe { kernel.launch(cuda.stream(), shape, params) }))
    }

    fn kernel<Params: Pod>(&self, stem: &'static str, name: &str, shared_bytes: u32) -> Result<Arc<Kernel<Params>>> {
        let mut kernels = lock(&self.device.kernels);
        if let Some(kernel) = kernels.get(name) {
            return Ok(kernel.clone().downcast().expect("a kernel has one argument struct"));
        }
        let module = self.module(stem)?;
        let kernel = Arc::new(module.kernel::<Params>(name, shared_bytes)?);
        kernels.insert(name.to_owned(), kernel.clone());
        Ok(kernel)
    }

    fn module(&self, stem: &'static str) -> Result<Module> {
        let mut modules = lock(&self.device.modules);
        if let Some(module) = modules.get(stem) {
            return Ok(module.clone());
        }
        let module = Module::load(&self.device.context, image(&self.device.context, stem)?)?;
        modules.insert(stem, module.clone());
        Ok(module)
    }

    /// Copies host bytes to new device memory through pinned memory, without waiting.
    pub(crate) fn stage(&self, bytes: usize, fill: impl FnOnce(&mut [u8])) -> Result<DeviceMemory> {
        let memory = match &mut *lock(&self.device.waiting) {
            Waiting::Queue(queue) => queue.upload(self.pool(), bytes)?,
            _ => self.pool().allocate(bytes)?,
        };
        lock(&self.device.staging).send(bytes, memory.address(), fill)?;
        Ok(memory)
    }

    /// Device memory that may be written at once, whatever waits.
    pub(crate) fn memory_to_keep(&self, bytes: usize) -> Result<DeviceMemory> {
        self.pool().allocate_untouched(bytes)
    }

    /// Copies host bytes to memory of [`Cuda::memory_to_keep`] through pinned memory, at once and without waiting.
    pub(crate) fn send(&self, address: u64, bytes: usize, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        lock(&self.device.staging).send(bytes, address, fill)
    }

    /// Copies a few values to new device memory, without waiting.
    pub(crate) fn stage_values<T: Pod>(&self, values: &[T]) -> Result<DeviceMemory> {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        self.stage(bytes.len(), |target| target.copy_from_slice(bytes))
    }

    /// Copies device memory to the host and waits for it.
    pub(crate) fn read<T: Pod>(&self, address: u64, values: &mut [T]) -> Result<()> {
        self.stop_waiting()?;
        self.bind()?;
        // SAFETY: the callers own the device memory from this address on, and `values` stays borrowed until the stream is waited for.
        unsafe { result::memcpy_dtoh_async(values, address, self.stream().cu_stream()) }.map_err(device_error("downloading"))?;
        self.stream().synchronize().map_err(device_error("waiting for the device"))
    }

    /// Copies host values to memory that is somebody's.
    fn write<T: Pod>(&self, values: &[T], address: u64) -> Result<()> {
        if !matches!(*lock(&self.device.waiting), Waiting::Queue(_)) {
            return self.write_now(values, address);
        }
        let staged = self.stage_values(values)?;
        self.copy_bytes(staged.address(), address, size_of_val(values))
    }

    fn write_now<T: Pod>(&self, values: &[T], address: u64) -> Result<()> {
        self.bind()?;
        // SAFETY: the callers own the device memory from this address on; a copy from pageable memory has read it when it returns.
        unsafe { result::memcpy_htod_async(address, values, self.stream().cu_stream()) }.map_err(device_error("uploading"))
    }

    pub(crate) fn copy_bytes(&self, from: u64, to: u64, bytes: usize) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let copy = move |cuda: &Self| {
            cuda.bind()?;
            // SAFETY: the callers own both spans, which are of different buffers.
            unsafe { result::memcpy_dtod_async(to, from, bytes, cuda.stream().cu_stream()) }.map_err(device_error("copying"))
        };
        self.put(Mark::of("copy", &(from, to, bytes)), Box::new(copy))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

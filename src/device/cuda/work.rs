//! What is put on the stream: launches of our kernels, the libraries' products and convolutions, copies on the device; at once, or, while a
//! step is repeated, by way of its queue.

use super::step_graph::{Mark, Queue, Work};
use super::{Cuda, StepGraph, Waiting, lock};
use crate::device::Workspace;
use crate::device::cublaslt::{Matmul, Matrices};
use crate::device::cuda::kernel::{Kernel, LaunchShape, Module, Part, device_error, image};
use crate::device::cudnn::{Convolution, Operands};
use crate::error::Result;
use bytemuck::Pod;
use cudarc::driver::result;
use std::sync::Arc;

impl Cuda {
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

    /// Puts an operation on the stream, or into the queue.
    pub(super) fn put(&self, mark: Mark, work: Work) -> Result<()> {
        if let Waiting::Queue(queue) = &mut *lock(&self.device.waiting) {
            queue.push(mark, work);
            return Ok(());
        }
        work(self)
    }

    /// Puts everything that waits on the stream; what is asked for from now on does not wait.
    pub(super) fn stop_waiting(&self) -> Result<()> {
        let mut waiting = lock(&self.device.waiting);
        let Waiting::Queue(mut queue) = std::mem::replace(&mut *waiting, Waiting::Nothing) else { return Ok(()) };
        drop(waiting);
        let outcome = queue.run(self);
        self.pool().stop_waiting();
        *lock(&self.device.waiting) = Waiting::Ran(queue);
        outcome
    }

    /// See [`Storage::capture`].
    pub(super) fn repeat_step<R>(&self, repeated: &mut StepGraph, step: impl FnOnce() -> Result<R>) -> Result<R> {
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

    /// Blocks of that many threads and bytes of shared memory that run on the whole device at a time; at least 1.
    ///
    /// # Errors
    /// Those of loading the kernel, and the driver's.
    pub(crate) fn resident_blocks<Params: Pod>(
        &self,
        stem: &'static str,
        name: &str,
        threads: u32,
        shared_bytes: u32,
    ) -> Result<usize> {
        let kernel = self.kernel::<Params>(stem, name, shared_bytes)?;
        Ok((self.device.multiprocessors * kernel.resident_blocks(threads, shared_bytes)?).max(1))
    }

    /// Clusters of launches of this shape that run on the whole device at a time; at least 1.
    ///
    /// # Errors
    /// Those of loading the kernel, and the driver's.
    pub(crate) fn resident_clusters<Params: Pod>(&self, stem: &'static str, name: &str, shape: LaunchShape) -> Result<usize> {
        Ok(self.kernel::<Params>(stem, name, shape.shared_bytes)?.resident_clusters(shape)?.max(1))
    }

    /// Whether this build has that kernel of `kernels/<stem>.cu` for the device.
    ///
    /// # Errors
    /// Those of loading the kernels.
    pub(crate) fn has_kernel(&self, stem: &'static str, name: &str) -> Result<bool> {
        let known = lock(&self.device.kernels).contains_key(name);
        Ok(known || self.module(stem, Part::with(stem, name)?)?.has(name))
    }

    fn kernel<Params: Pod>(&self, stem: &'static str, name: &str, shared_bytes: u32) -> Result<Arc<Kernel<Params>>> {
        let mut kernels = lock(&self.device.kernels);
        if let Some(kernel) = kernels.get(name) {
            return Ok(kernel.clone().downcast().expect("a kernel has one argument struct"));
        }
        let module = self.module(stem, Part::with(stem, name)?)?;
        let kernel = Arc::new(module.kernel::<Params>(name, shared_bytes)?);
        kernels.insert(name.to_owned(), kernel.clone());
        Ok(kernel)
    }

    /// Loads the kernels of `kernels/<stem>.cu` before they are needed, compiling them where this build has only the source: of those for
    /// rows of many lengths, the kernels for up to `length` numbers.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) in the driver's or the compiler's words.
    pub fn load_kernels(&self, stem: &'static str, length: u32) -> Result<()> {
        self.module(stem, Part::of_length(stem, length)?).map(drop)
    }

    fn module(&self, stem: &'static str, part: Part) -> Result<Module> {
        let mut modules = lock(&self.device.modules);
        if let Some(module) = modules.get(&(stem, part)) {
            return Ok(module.clone());
        }
        let module = Module::load(&self.device.context, image(&self.device.context, stem, part)?)?;
        modules.insert((stem, part), module.clone());
        Ok(module)
    }
}

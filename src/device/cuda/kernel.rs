//! Launching device code: a [`Kernel`] is a name, one argument struct by value, and a launch shape.
//!
//! The argument structs are in [`crate::kernel_args`], one module for each source in `kernels/`, of the same stem.

pub use super::image::{
    Image, Part, architecture_for, cache_folder, compile, compiled_by, compiled_for, compiler_version, image, image_cached_in,
    needs_compiler, source, stems,
};

use crate::error::{Error, Result};
use cudarc::driver::sys::CUfunction_attribute_enum::{
    CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT,
};
use cudarc::driver::{
    CudaContext, CudaFunction, CudaModule, CudaStream, DeviceRepr, DriverError, LaunchConfig, PushKernelArg, sys,
};
use std::marker::PhantomData;
use std::ptr::from_mut;
use std::sync::Arc;

/// Lanes of a warp.
pub const WARP_SIZE: u32 = 32;
/// Shared memory that a block may have without asking, in bytes.
const SHARED_WITHOUT_ASKING: u32 = 48 << 10;

/// Grid and block of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LaunchShape {
    /// Blocks along x and y.
    pub grid: (u32, u32),
    /// Threads of a block, a whole number of warps.
    pub threads: u32,
    /// Shared memory of a block in bytes.
    pub shared_bytes: u32,
    /// Blocks of a cluster along x and y, of which a grid has whole ones; only compute capability 9.0 and later have larger ones than 1.
    pub cluster: (u32, u32),
}

impl LaunchShape {
    /// Blocks that know nothing of each other.
    pub fn new(grid: (u32, u32), threads: u32, shared_bytes: u32) -> Self {
        Self { grid, threads, shared_bytes, cluster: (1, 1) }
    }

    /// Blocks along x only, without shared memory.
    pub fn linear(blocks: usize, threads: u32) -> Self {
        let blocks = u32::try_from(blocks).expect("a grid has at most 2^31 blocks");
        Self::new((blocks.max(1), 1), threads, 0)
    }

    /// The same in clusters.
    #[must_use]
    pub fn in_clusters(self, cluster: (u32, u32)) -> Self {
        Self { cluster, ..self }
    }

    /// The same with shared memory.
    #[must_use]
    pub fn with_shared(self, shared_bytes: u32) -> Self {
        Self { shared_bytes, ..self }
    }
}

/// The kernels of one source file, loaded on a device.
#[derive(Clone, Debug)]
pub struct Module {
    module: Arc<CudaModule>,
}

impl Module {
    /// Loads an image: see [`image()`].
    ///
    /// # Errors
    /// [`Error::Device`] with the driver's words.
    pub fn load(context: &Arc<CudaContext>, image: Image) -> Result<Self> {
        let module = context.load_module(image.into()).map_err(device_error("loading kernels"))?;
        Ok(Self { module })
    }

    /// Whether there is a kernel of that name: not where it was compiled for other devices only.
    pub fn has(&self, name: &str) -> bool {
        self.module.load_function(name).is_ok()
    }

    /// The kernel of that name, prepared for blocks with up to `shared_bytes` of shared memory.
    ///
    /// # Errors
    /// [`Error::Device`] if there is no such kernel or the device has less shared memory.
    pub fn kernel<Params: bytemuck::Pod>(&self, name: &str, shared_bytes: u32) -> Result<Kernel<Params>> {
        let function = self.module.load_function(name).map_err(device_error(name))?;
        if shared_bytes > SHARED_WITHOUT_ASKING {
            let bytes = i32::try_from(shared_bytes).expect("shared memory is less than 2 GiB");
            function.set_attribute(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, bytes).map_err(device_error(name))?;
            // Several blocks fit on a multiprocessor only if all of its memory is shared memory, in percent.
            function.set_attribute(CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT, 100).map_err(device_error(name))?;
        }
        Ok(Kernel { function, name: name.to_owned(), params: PhantomData })
    }
}

/// A kernel that takes one `Params` by value.
#[derive(Debug)]
pub struct Kernel<Params> {
    function: CudaFunction,
    name: String,
    params: PhantomData<fn(Params)>,
}

#[repr(transparent)]
struct Argument<Params>(Params);

// SAFETY: `Pod` has no padding, no pointers to host data that the driver would have to follow, and no destructor; the kernel reads
// exactly these bytes.
unsafe impl<Params: bytemuck::Pod> DeviceRepr for Argument<Params> {}

impl<Params: bytemuck::Pod> Kernel<Params> {
    /// Puts one launch on the stream.
    ///
    /// # Errors
    /// [`Error::Device`] if the shape is outside the device's or the kernel's limits, or an earlier launch has failed.
    ///
    /// # Safety
    /// Every device address in `params` must be valid, for as many elements as the kernel's source says it reads or writes for these
    /// sizes, until the stream has executed the launch; what it writes must not be used by other streams meanwhile.
    pub unsafe fn launch(&self, stream: &CudaStream, shape: LaunchShape, params: Params) -> Result<()> {
        if shape.cluster != (1, 1) {
            // SAFETY: as below.
            return unsafe { self.launch_clusters(stream, shape, params) };
        }
        let config = LaunchConfig {
            grid_dim: (shape.grid.0, shape.grid.1, 1),
            block_dim: (shape.threads, 1, 1),
            shared_mem_bytes: shape.shared_bytes,
        };
        let argument = Argument(params);
        let mut builder = stream.launch_builder(&self.function);
        builder.arg(&argument);
        // SAFETY: the kernel takes one argument of this type (see `takes_its_params`); the caller vouches for the addresses in it.
        unsafe { builder.launch(config) }.map_err(device_error(&self.name))?;
        Ok(())
    }

    /// cudarc's builder knows no clusters.
    unsafe fn launch_clusters(&self, stream: &CudaStream, shape: LaunchShape, mut params: Params) -> Result<()> {
        stream.context().bind_to_thread().map_err(device_error(&self.name))?;
        let mut attribute = cluster_attribute(shape.cluster);
        let config = cluster_config(&shape, &mut attribute, stream.cu_stream());
        let mut arguments = [from_mut(&mut params).cast()];
        // SAFETY: the caller vouches for the addresses; the driver copies the argument, which the kernel takes, before the call returns.
        unsafe { sys::cuLaunchKernelEx(&config, self.function.cu_function(), arguments.as_mut_ptr(), std::ptr::null_mut()) }
            .result()
            .map_err(device_error(&self.name))
    }

    /// Clusters of launches of this shape that the device runs at a time.
    ///
    /// # Errors
    /// [`Error::Device`] with the driver's words.
    pub fn resident_clusters(&self, shape: LaunchShape) -> Result<usize> {
        let mut attribute = cluster_attribute(shape.cluster);
        let config = cluster_config(&shape, &mut attribute, std::ptr::null_mut());
        let mut clusters = 0;
        // SAFETY: the function is loaded, and the result is written before it is read.
        unsafe { sys::cuOccupancyMaxActiveClusters(&mut clusters, self.function.cu_function(), &config) }
            .result()
            .map_err(device_error(&self.name))?;
        Ok(clusters.unsigned_abs() as usize)
    }

    /// Blocks of that many threads and bytes of shared memory that one multiprocessor runs at a time.
    ///
    /// # Errors
    /// [`Error::Device`] with the driver's words.
    pub fn resident_blocks(&self, threads: u32, shared_bytes: u32) -> Result<usize> {
        let blocks = self.function.occupancy_max_active_blocks_per_multiprocessor(threads, shared_bytes as usize, None);
        blocks.map(|blocks| blocks as usize).map_err(device_error(&self.name))
    }

    /// Whether the loaded kernel takes an argument of exactly this size. Needs a driver of CUDA 12.4 or later.
    ///
    /// # Errors
    /// [`Error::Device`] with the driver's words.
    pub fn takes_its_params(&self) -> Result<bool> {
        let (mut offset, mut bytes) = (0, 0);
        // SAFETY: the function is loaded, and both results are written before they are read.
        unsafe { sys::cuFuncGetParamInfo(self.function.cu_function(), 0, &mut offset, &mut bytes) }
            .result()
            .map_err(device_error(&self.name))?;
        Ok(bytes == size_of::<Params>())
    }

    /// The kernel's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

fn cluster_attribute(cluster: (u32, u32)) -> sys::CUlaunchAttribute {
    // SAFETY: integers and a union of them.
    let mut attribute: sys::CUlaunchAttribute = unsafe { std::mem::zeroed() };
    attribute.id = sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
    attribute.value.clusterDim = sys::CUlaunchAttributeValue_union__bindgen_ty_1 { x: cluster.0, y: cluster.1, z: 1 };
    attribute
}

fn cluster_config(shape: &LaunchShape, attribute: &mut sys::CUlaunchAttribute, stream: sys::CUstream) -> sys::CUlaunchConfig {
    sys::CUlaunchConfig {
        gridDimX: shape.grid.0,
        gridDimY: shape.grid.1,
        gridDimZ: 1,
        blockDimX: shape.threads,
        blockDimY: 1,
        blockDimZ: 1,
        sharedMemBytes: shape.shared_bytes,
        hStream: stream,
        attrs: attribute,
        numAttrs: 1,
    }
}

/// For `map_err` on a call of the driver.
pub(crate) fn device_error(what: &str) -> impl FnOnce(DriverError) -> Error {
    let what = what.to_owned();
    move |error| Error::Device { what, reason: format!("{error:?}") }
}

/// Number formats a kernel exists in; the last part of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// 32 bit.
    F32,
    /// 16 bit with 10 bits of mantissa.
    F16,
    /// 16 bit with 7 bits of mantissa.
    Bf16,
}

impl Format {
    /// As in the names of kernels.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }
}

/// Bytes of a number.
pub(crate) fn width(format: Format) -> usize {
    match format {
        Format::F32 => 4,
        Format::F16 | Format::Bf16 => 2,
    }
}

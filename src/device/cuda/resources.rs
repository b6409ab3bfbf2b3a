//! What every kernel of this build takes of a multiprocessor, as the driver has loaded it.

use super::probe::{self, Probe, version_words};
use crate::device::cuda::kernel::{Part, device_error, image, stems};
use crate::error::{Error, Result};
use cudarc::driver::sys;
use cudarc::driver::sys::CUfunction_attribute_enum as Attribute;
use std::collections::BTreeMap;
use std::ffi::CStr;

/// CUDA version whose drivers list the kernels of an image.
const LISTING_DRIVER: i32 = 12_040;

/// Of one kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resources {
    /// Most threads of a block, by its launch bounds.
    pub threads: u32,
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes of a thread that did not fit into registers, or that it indexes.
    pub local_bytes: u32,
    /// Shared memory of a block in bytes, static and dynamic; `None` where the sizes of a launch decide.
    pub shared_bytes: Option<u32>,
    /// Blocks that one multiprocessor runs at a time: without that memory, where the sizes of a launch decide.
    pub blocks: u32,
}

/// Of every kernel of a device, by name. `shared_bytes` knows the dynamic shared memory of those that always ask for the same. Kernels that
/// need more than the device has are left out. Compiles what nvcc did not.
///
/// # Errors
/// [`Error::Device`] with what is missing, such as a driver of CUDA 12.4, or with the driver's words.
pub fn resources(ordinal: usize, shared_bytes: impl Fn(&str) -> Option<u32>) -> Result<BTreeMap<String, Resources>> {
    if let Some(version) = Probe::run().driver.ok().filter(|&version| version < LISTING_DRIVER) {
        let (found, needed) = (version_words(version), version_words(LISTING_DRIVER));
        let reason = format!("the NVIDIA driver supports CUDA {found}, and CUDA {needed} is needed for it");
        return Err(Error::Device { what: "listing kernels".into(), reason });
    }
    let context = probe::open(ordinal)?;
    context.bind_to_thread().map_err(device_error("the device's context"))?;
    let mut found = BTreeMap::new();
    for stem in stems() {
        let module = Loaded::new(&image(&context, stem, Part::Whole)?.0)?;
        for function in module.functions()? {
            let name = name_of(function)?;
            if let Some(resources) = of(function, shared_bytes(&name)).map_err(device_error(&name))? {
                found.insert(name, resources);
            }
        }
    }
    Ok(found)
}

/// An image in the driver, until it is dropped.
struct Loaded(sys::CUmodule);

impl Loaded {
    fn new(image: &[u8]) -> Result<Self> {
        let mut module = std::ptr::null_mut();
        // SAFETY: the context is current, and the image is whole; the handle is written before it is read.
        unsafe { sys::cuModuleLoadData(&mut module, image.as_ptr().cast()) }.result().map_err(device_error("loading kernels"))?;
        Ok(Self(module))
    }

    fn functions(&self) -> Result<Vec<sys::CUfunction>> {
        let mut count = 0;
        // SAFETY: the module is loaded; the count is written before it is read.
        unsafe { sys::cuModuleGetFunctionCount(&mut count, self.0) }.result().map_err(device_error("counting kernels"))?;
        let mut functions = vec![std::ptr::null_mut(); count as usize];
        // SAFETY: there is room for that many handles.
        unsafe { sys::cuModuleEnumerateFunctions(functions.as_mut_ptr(), count, self.0) }
            .result()
            .map_err(device_error("listing kernels"))?;
        Ok(functions)
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        // SAFETY: loaded by `new`; no function of it is used any more. An error would be that of earlier work.
        let _ = unsafe { sys::cuModuleUnload(self.0) };
    }
}

fn name_of(function: sys::CUfunction) -> Result<String> {
    let mut name = std::ptr::null();
    // SAFETY: the function is loaded; the driver's string lives as long as its module.
    let name = unsafe {
        sys::cuFuncGetName(&mut name, function).result().map_err(device_error("the name of a kernel"))?;
        CStr::from_ptr(name)
    };
    Ok(name.to_string_lossy().into_owned())
}

/// `None` where the device has less shared memory.
fn of(
    function: sys::CUfunction,
    dynamic_bytes: Option<u32>,
) -> std::result::Result<Option<Resources>, cudarc::driver::DriverError> {
    let attribute = |which| {
        let mut value = 0;
        // SAFETY: the function is loaded; the value is written before it is read.
        unsafe { sys::cuFuncGetAttribute(&mut value, which, function) }.result().map(|()| value.unsigned_abs())
    };
    let dynamic = dynamic_bytes.unwrap_or_default();
    let limit = Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    // SAFETY: the function is loaded.
    if dynamic > attribute(limit)? && unsafe { sys::cuFuncSetAttribute(function, limit, dynamic as i32) }.result().is_err() {
        return Ok(None);
    }
    let threads = attribute(Attribute::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK)?;
    let mut blocks = 0;
    // SAFETY: the function is loaded; the number is written before it is read.
    unsafe {
        sys::cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(&mut blocks, function, threads as i32, dynamic as usize, 0)
            .result()?;
    }
    let fixed = attribute(Attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)?;
    Ok(Some(Resources {
        threads,
        registers: attribute(Attribute::CU_FUNC_ATTRIBUTE_NUM_REGS)?,
        local_bytes: attribute(Attribute::CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES)?,
        shared_bytes: dynamic_bytes.map(|dynamic| fixed + dynamic),
        blocks: blocks.unsigned_abs(),
    }))
}

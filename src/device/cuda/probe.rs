//! What a machine has for the GPU backend: never a panic, always a sentence.

use super::libraries::{self, Found, Library};
use crate::device::cuda::kernel;
use crate::device::cudnn;
use crate::error::{Error, Result};
use cudarc::driver::{CudaContext, result, sys};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// The oldest CUDA version whose driver will do.
const OLDEST_DRIVER: i32 = 12_000;
/// The oldest compute capability that the kernels' instructions exist on: asynchronous copies and `mma.m16n8k16`.
const OLDEST_CAPABILITY: i32 = 80;

/// A device that the driver lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceReport {
    /// Its name.
    pub name: String,
    /// Compute capability, such as 90.
    pub capability: i32,
    /// Bytes of memory.
    pub memory: usize,
    /// Its own number, also that of a part of a device (MIG).
    pub uuid: [u8; 16],
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Probe {
    /// CUDA version the driver supports, such as 13000; or why there is no driver.
    pub driver: std::result::Result<i32, String>,
    /// Its devices.
    pub devices: Vec<DeviceReport>,
    /// The libraries.
    pub libraries: Vec<Found>,
}

impl Probe {
    /// Looks; loads what it finds, changes nothing else.
    pub fn run() -> Self {
        // The driver first: libraries that depend on it load only where it is.
        let driver = Self::missing_driver().map_or_else(driver_version, Err);
        let devices = if driver.is_ok() { devices() } else { Ok(Vec::new()) };
        let (driver, devices) = match devices {
            Ok(devices) => (driver, devices),
            Err(reason) => (Err(reason), Vec::new()),
        };
        Self { driver, devices, libraries: libraries::libraries().to_vec() }
    }

    /// What to say where the driver's library is not installed. No function of it is called.
    pub fn missing_driver() -> Option<String> {
        // SAFETY: the call only tries to open the library.
        let present = unsafe { sys::is_culib_present() };
        let words = "the NVIDIA driver (libcuda.so.1) was not found; install it if this machine has an NVIDIA GPU";
        (!present).then(|| words.to_owned())
    }

    /// Why the GPU backend cannot run here, in one sentence with what to do; `Ok` if nothing is known to be in the way.
    ///
    /// # Errors
    /// The sentence.
    pub fn verdict(&self) -> std::result::Result<(), String> {
        self.hardware_verdict(0)?;
        let needed = [Library::Cudnn, Library::CublasLt, Library::Nvrtc];
        let mut needed = needed.into_iter().filter(|&library| library != Library::Nvrtc || kernel::needs_compiler());
        let missing = |library: &Library| !self.libraries.iter().any(|found| found.library == *library && found.path.is_some());
        match needed.find(missing) {
            None => cudnn::version().map(drop).map_err(|error| error.to_string()),
            Some(library) => Err(format!("{} was not found; {}", library.name(), library.advice())),
        }
    }

    fn hardware_verdict(&self, ordinal: usize) -> std::result::Result<(), String> {
        let version = self.driver.as_ref().map_err(Clone::clone)?;
        driver_verdict(*version, kernel::compiled_by())?;
        let Some(device) = self.devices.get(ordinal) else {
            let listed = match self.devices.len() {
                0 => "no device".to_owned(),
                count => format!("{count} of them, numbered from 0, and number {ordinal} was asked for"),
            };
            return Err(format!("the NVIDIA driver lists {listed}; check `nvidia-smi` and CUDA_VISIBLE_DEVICES"));
        };
        if device.capability < OLDEST_CAPABILITY {
            return Err(format!(
                "{} has compute capability {}.{}, and 8.0 is needed (Ampere or newer)",
                device.name,
                device.capability / 10,
                device.capability % 10
            ));
        }
        Ok(())
    }
}

/// Why a driver of this CUDA version will not do, where the kernels were compiled for those of `compiled_by`.
///
/// # Errors
/// The sentence.
pub fn driver_verdict(version: i32, compiled_by: Option<i32>) -> std::result::Result<(), String> {
    let needed = compiled_by.unwrap_or(OLDEST_DRIVER).max(OLDEST_DRIVER);
    if version >= needed {
        return Ok(());
    }
    let (found, words) = (version_words(version), version_words(needed));
    // CUDA 13 came with driver 580. A driver loads machine code of its own major version and older ones.
    Err(match needed {
        OLDEST_DRIVER => {
            format!("the NVIDIA driver supports CUDA {found}, and CUDA {words} is needed; install driver 525 or newer")
        }
        _ => format!(
            "the NVIDIA driver supports CUDA {found}, and CUDA {words} is needed, because this build's kernels were compiled by nvcc \
             {words}; install a newer driver (580 for CUDA 13.0), or build with XBM_NVCC=none, which compiles them on first use"
        ),
    })
}

/// Whether there is anything of NVIDIA's about this machine: its driver, or a device of its on the bus.
pub fn gpu_in_sight() -> bool {
    const VENDOR: &str = "0x10de";
    /// Class of display controllers, in front of its subclasses.
    const DISPLAY: &str = "0x03";
    let devices = std::fs::read_dir("/sys/bus/pci/devices").into_iter().flatten().flatten();
    let says = |device: &std::path::Path, what: &str, prefix: &str| {
        std::fs::read_to_string(device.join(what)).is_ok_and(|text| text.starts_with(prefix))
    };
    let on_the_bus = |path: std::path::PathBuf| says(&path, "vendor", VENDOR) && says(&path, "class", DISPLAY);
    Probe::missing_driver().is_none() || devices.map(|device| device.path()).any(on_the_bus)
}

/// `13.0` for 13000.
pub fn version_words(version: i32) -> String {
    format!("{}.{}", version / 1000, version % 1000 / 10)
}

/// The context of a device. Libraries that are missing are reported by what needs them first.
///
/// # Errors
/// [`Error::Device`] with a sentence that says what is missing.
pub(super) fn open(ordinal: usize) -> Result<Arc<CudaContext>> {
    let no_device = |reason: String| Error::Device { what: "this machine has no usable CUDA device".into(), reason };
    Probe::run().hardware_verdict(ordinal).map_err(no_device)?;
    guarded(|| CudaContext::new(ordinal)).map_err(no_device)
}

fn driver_version() -> std::result::Result<i32, String> {
    let mut version = 0;
    // SAFETY: the library is present, and the result is written before it is read.
    guarded(|| unsafe { sys::cuDriverGetVersion(&mut version) }.result())?;
    Ok(version)
}

fn devices() -> std::result::Result<Vec<DeviceReport>, String> {
    match guarded(CudaContext::device_count) {
        Ok(count) => (0..count).map(|ordinal| guarded(|| report(ordinal))).collect(),
        Err(reason) if reason.contains("CUDA_ERROR_NO_DEVICE") => Ok(Vec::new()),
        Err(reason) => Err(reason),
    }
}

fn report(ordinal: i32) -> std::result::Result<DeviceReport, cudarc::driver::DriverError> {
    use sys::CUdevice_attribute_enum as Attribute;
    let device = result::device::get(ordinal)?;
    // SAFETY: the device exists.
    let attribute = |which| unsafe { result::device::get_attribute(device, which) };
    let major = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    let minor = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
    // SAFETY: the device exists.
    let memory = unsafe { result::device::total_mem(device) }?;
    let uuid = result::device::get_uuid(device)?.bytes.map(|byte| byte as u8);
    Ok(DeviceReport { name: result::device::get_name(device)?, capability: 10 * major + minor, memory, uuid })
}

/// What to do about a refusal that has a common cause.
fn advice(error: sys::CUresult) -> &'static str {
    match error {
        sys::CUresult::CUDA_ERROR_DEVICE_UNAVAILABLE => {
            "another process may have the device to itself (compute mode exclusive); `nvidia-smi` lists it"
        }
        sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => "other processes have taken its memory; `nvidia-smi` lists them",
        sys::CUresult::CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE | sys::CUresult::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH => {
            "libcuda.so.1 and the kernel module are of different versions; restart the machine, or leave the compat folder out of \
             LD_LIBRARY_PATH"
        }
        sys::CUresult::CUDA_ERROR_OPERATING_SYSTEM | sys::CUresult::CUDA_ERROR_NOT_PERMITTED => {
            "this user may not be allowed to open /dev/nvidia*; in a container start it with its GPUs (`--gpus all`)"
        }
        _ => "check `nvidia-smi`",
    }
}

/// The driver's own errors, and the panics by which the binding reports a function that an old driver does not have, as words.
fn guarded<T>(call: impl FnOnce() -> std::result::Result<T, cudarc::driver::DriverError>) -> std::result::Result<T, String> {
    let silent = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let outcome = catch_unwind(AssertUnwindSafe(call));
    std::panic::set_hook(silent);
    match outcome {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(format!("the NVIDIA driver refused: {:?}; {}", error.0, advice(error.0))),
        Err(_) => Err("the NVIDIA driver lacks a function that is needed; install driver 525 or newer".into()),
    }
}

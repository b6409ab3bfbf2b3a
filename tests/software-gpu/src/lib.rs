//! A CUDA device in software, for tests on machines without a GPU.
//!
//! [`device`] decides which GPU this process uses and must run before the first call into cudarc, which looks its libraries up once
//! and keeps them. A machine with a real device keeps its driver: nothing is loaded. `SOFTWARE_GPU=force` loads the software GPU
//! even there, `SOFTWARE_GPU=off` never does; `SOFTWARE_GPU=real` takes the driver where a device has no node to tell it by.

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

pub mod ptx;
pub mod tensor_map;

/// Which GPU the tests of this process run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// A device node exists: cudarc finds the driver by itself.
    Real,
    /// The software GPU was loaded.
    Software,
    /// Neither, and why.
    None(String),
}

/// The driver first, because the others are linked against it; the unversioned names last, because they depend on the versioned ones.
const LIBRARIES: [&str; 8] = [
    "libcuda.so.1",
    "libnvrtc.so.13",
    "libcudnn.so.9",
    "libcublasLt.so.13",
    "libcuda.so",
    "libnvrtc.so",
    "libcudnn.so",
    "libcublasLt.so",
];

/// Chooses and loads the device, once per process.
pub fn device() -> &'static Device {
    static CHOICE: OnceLock<Device> = OnceLock::new();
    CHOICE.get_or_init(|| {
        let wish = std::env::var("SOFTWARE_GPU").unwrap_or_default();
        // Device nodes, not a call of the real driver: opening it would already decide what its name means in this process.
        let real = ["/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg"].iter().any(|node| Path::new(node).exists());
        match wish.as_str() {
            "force" => load(),
            "real" => Device::Real,
            _ if real => Device::Real,
            "off" => Device::None("SOFTWARE_GPU=off".into()),
            _ => load(),
        }
    })
}

/// Whether there is a device to test on; says so loudly when there is none.
pub fn available() -> bool {
    if let Device::None(reason) = device() {
        eprintln!("SKIPPED, THE CUDA KERNELS ARE NOT TESTED: {reason}");
        return false;
    }
    true
}

/// The folder of the software GPU's libraries, for the path of another process's loader.
pub fn folder() -> Option<&'static Path> {
    option_env!("SOFTWARE_GPU_DIR").map(Path::new)
}

fn load() -> Device {
    let Some(folder) = option_env!("SOFTWARE_GPU_DIR") else {
        return Device::None("no C++ compiler was found when the tests were built; install g++".into());
    };
    for name in LIBRARIES {
        let path = Path::new(folder).join(name);
        // SAFETY: these libraries are built by this crate, and their initialisers only register kernels. From now on the dynamic
        // linker answers requests for their names with these copies.
        match unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_GLOBAL) } {
            Ok(library) => std::mem::forget(library),
            Err(error) => panic!("the software GPU cannot be loaded: {error}"),
        }
    }
    if let Some(folder) = std::env::var_os("SOFTWARE_GPU_PTX") {
        ptx::hook::install(Path::new(&folder));
    }
    Device::Software
}

fn loaded(name: &str) -> Option<Library> {
    const RTLD_NOLOAD: i32 = 4;
    // SAFETY: nothing is loaded, so no initialiser runs.
    unsafe { Library::open(Some(name), RTLD_NOW | RTLD_NOLOAD).ok() }
}

/// Calls a function of the software GPU, of the driver unless another library is named; does nothing on a real device.
macro_rules! call {
    ($name:literal, ($($type:ty),*) $(-> $result:ty)?, $($argument:expr),*) => {
        call!("libcuda.so.1", $name, ($($type),*) $(-> $result)?, $($argument),*)
    };
    ($library:literal, $name:literal, ($($type:ty),*) $(-> $result:ty)?, $($argument:expr),*) => {
        (*device() == Device::Software).then(|| {
            let library = loaded($library).expect("the software GPU is loaded");
            // SAFETY: the function has this signature where the library defines it, in driver/context.cpp or cudnn/engines.cpp.
            unsafe {
                let function = library.get::<unsafe extern "C" fn($($type),*) $(-> $result)?>($name).expect("the software GPU has this function");
                function($($argument),*)
            }
        })
    };
}

/// In which order the threads of a block continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// First come, first served.
    Fifo = 0,
    /// Last come, first served.
    Reverse = 1,
    /// Any, drawn from the seed; asynchronous copies land at random times too.
    Random = 2,
    /// One warp as far as it can go, then the next.
    Greedy = 3,
}

/// How kernels launched by this thread are run.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// Order of threads and blocks.
    pub order: Order,
    /// Of the random order.
    pub seed: u64,
    /// Whether asynchronous copies land at the wait that needs them rather than at issue.
    pub late_copies: bool,
}

/// The schedules every kernel is run under: between them they show most missing synchronisation; the race build shows the rest.
pub const SCHEDULES: [Schedule; 4] = [
    Schedule { order: Order::Fifo, seed: 1, late_copies: true },
    Schedule { order: Order::Reverse, seed: 1, late_copies: false },
    Schedule { order: Order::Greedy, seed: 1, late_copies: false },
    Schedule { order: Order::Random, seed: 1, late_copies: true },
];

/// Those that a test of a kernel runs under: all of them, but one under AddressSanitizer, which sees the same accesses in any order.
pub fn schedules() -> &'static [Schedule] {
    if option_env!("XBM_SOFTWARE_GPU") == Some("asan") { &SCHEDULES[3..] } else { &SCHEDULES }
}

/// Sets the schedule of kernels launched by this thread.
pub fn set_schedule(schedule: Schedule) {
    call!(b"software_gpu_schedule", (i32, u64, bool), schedule.order as i32, schedule.seed, schedule.late_copies);
}

/// Whether work waits in its stream until something synchronises with it (the default), or runs at once.
pub fn set_late_execution(late: bool) {
    call!(b"software_gpu_execution", (bool), late);
}

/// The compute capability the device pretends to have, such as 80.
pub fn set_capability(capability: i32) {
    call!(b"software_gpu_capability", (i32), capability);
}

/// When an engine of the stand-in cuDNN refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not any more.
    Never = 0,
    /// When its plan is made.
    WhenPlanned = 1,
    /// When its plan is executed.
    WhenRun = 2,
}

/// Makes an engine of the stand-in cuDNN refuse, for all tests of this process.
pub fn refuse_engine(index: i64, when: Refusal) {
    call!("libcudnn.so.9", b"software_gpu_refuse_engine", (i64, i32), index, when as i32);
}

/// What the emulator has counted on this thread.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Statistics {
    /// Kernels.
    pub launches: u64,
    /// Switches between threads.
    pub switches: u64,
    /// Matrix products of a warp.
    pub multiplications: u64,
    /// Loads of four 8 x 8 matrices.
    pub matrix_loads: u64,
    /// Rows of matrix loads that had to wait for a memory bank.
    pub bank_conflicts: u64,
    /// Races found.
    pub races: u64,
    /// Bytes read from device memory: by every access if [`counts_every_access`], by asynchronous copies alone if not.
    pub bytes_read: u64,
    /// Bytes written there, likewise.
    pub bytes_written: u64,
}

/// Whether every access is counted: `XBM_SOFTWARE_GPU=race` compiles the kernels with hooks, and the PTX machine always counts.
pub fn counts_every_access() -> bool {
    option_env!("XBM_SOFTWARE_GPU") == Some("race") || std::env::var_os("SOFTWARE_GPU_PTX").is_some()
}

/// What the emulator has counted on this thread; zeros on a real device.
pub fn statistics() -> Statistics {
    call!(b"software_gpu_statistics", () -> Statistics,).unwrap_or_default()
}

/// Device allocations that are alive; `None` on a real device.
pub fn live_allocations() -> Option<usize> {
    call!(b"software_gpu_live_allocations", () -> usize,)
}

/// Takes what the software GPU has reported so far: faults, races, leaks, deadlocks, in words.
pub fn take_reports() -> Vec<String> {
    let mut reports = Vec::new();
    loop {
        let mut text = [0u8; 1024];
        let taken = call!(b"software_gpu_take_report", (*mut u8, usize) -> bool, text.as_mut_ptr(), text.len());
        if taken != Some(true) {
            return reports;
        }
        let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
        reports.push(String::from_utf8_lossy(&text[..end]).into_owned());
    }
}

/// How a kernel library is compiled for the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// As it stands.
    Plain,
    /// With a hook at every memory access, for the race detector.
    Race,
}

/// Compiles one kernel source for the host into `folder`; the result is an image that the software GPU's `cuModuleLoadData` accepts.
///
/// # Errors
/// The compiler's words.
pub fn compile(source: &Path, build: Build, folder: &Path) -> Result<Vec<u8>, String> {
    let (Some(program), Some(includes), Some(driver)) =
        (option_env!("SOFTWARE_GPU_CXX"), option_env!("SOFTWARE_GPU_INCLUDES"), option_env!("SOFTWARE_GPU_DIR"))
    else {
        return Err("no C++ compiler".into());
    };
    let stem = folder.join(format!("{}-{build:?}", source.file_stem().unwrap_or_default().to_string_lossy()));
    let (object, library): (PathBuf, PathBuf) = (stem.with_extension("o"), stem.with_extension("so"));
    let mut compiler = Command::new(program);
    compiler.args(["-std=c++17", "-O1", "-g1", "-fPIC", "-fvisibility=hidden", "-w"]);
    if build == Build::Race {
        compiler.args(["-fsanitize=thread", "--param", "tsan-instrument-func-entry-exit=0"]);
    }
    compiler.args(includes.split(':').map(|folder| format!("-I{folder}")));
    run(compiler.args(["-x", "c++", "-c"]).arg(source).arg("-o").arg(&object))?;
    // Linked without the sanitizer's own run time: the emulator has the hooks.
    run(Command::new(program).arg("-shared").arg(&object).arg(Path::new(driver).join("libcuda.so.1")).arg("-o").arg(&library))?;
    Ok(format!("software-gpu:{}\0", library.display()).into_bytes())
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

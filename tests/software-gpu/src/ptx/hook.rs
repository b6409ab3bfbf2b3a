//! Gives the stand-in driver this machine: `SOFTWARE_GPU_PTX` names a folder of PTX files, and the kernels in them are executed here
//! instead of in the emulator.

use super::{Class, Counts, Launch, Library, Program, Region, report, run};
use crate::{Order, Statistics};
use std::collections::HashMap;
use std::ffi::{CStr, c_char};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::{fs, slice};

/// As in driver/interpreter.cpp.
#[repr(C)]
struct RegionOfLaunch {
    start: u64,
    bytes: u64,
    number: u64,
}

/// As in driver/interpreter.cpp.
#[repr(C)]
struct InterpretedLaunch {
    name: *const c_char,
    grid: [u32; 3],
    block: [u32; 3],
    cluster: [u32; 3],
    shared_bytes: u32,
    order: i32,
    seed: u64,
    params: *const u8,
    params_bytes: u64,
    regions: *const RegionOfLaunch,
    regions_count: u64,
    statistics: *mut Statistics,
    error: *mut c_char,
    error_bytes: u64,
    late_copies: bool,
}

const UNKNOWN: i32 = 0;
const DONE: i32 = 1;
const FAILED: i32 = 2;
const ILLEGAL_ADDRESS: i32 = 3;

static KERNELS: OnceLock<HashMap<String, Program>> = OnceLock::new();

/// Every PTX file of a folder and of those in it.
///
/// # Panics
/// When a folder cannot be read.
#[must_use]
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut found = Vec::new();
    for path in entries.map(|entry| entry.expect("an entry of the folder").path()) {
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "ptx") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Reads the folder and registers this machine with the driver.
///
/// # Panics
/// When a file holds what the machine does not know.
pub fn install(folder: &Path) {
    let mut kernels = HashMap::new();
    for path in files(folder) {
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let library = Library::parse(&text).unwrap_or_else(|words| panic!("{}: {words}", path.display()));
        kernels.extend(library.kernels.into_iter().map(|kernel| (kernel.name.clone(), kernel)));
    }
    assert!(!kernels.is_empty(), "SOFTWARE_GPU_PTX={}: expected files of PTX there", folder.display());
    eprintln!("software gpu: {} kernels are executed from the PTX in {}", kernels.len(), folder.display());
    KERNELS.set(kernels).unwrap_or_else(|_| panic!("installed once"));
    report::write_at_exit();
    let library = crate::loaded("libcuda.so.1").expect("the software GPU is loaded");
    // SAFETY: driver/interpreter.cpp defines the function with this signature.
    unsafe {
        let register =
            library.get::<unsafe extern "C" fn(unsafe extern "C" fn(*const InterpretedLaunch) -> i32)>(b"software_gpu_interpreter");
        register.expect("the software GPU has this function")(interpret);
    }
}

/// # Safety
/// Everything that the launch points at is alive, as many as it says.
unsafe extern "C" fn interpret(launch: *const InterpretedLaunch) -> i32 {
    // SAFETY: the driver's own, alive during the call.
    let launch = unsafe { &*launch };
    // SAFETY: the name of a registered kernel.
    let name = unsafe { CStr::from_ptr(launch.name) }.to_str().unwrap_or_default();
    let Some(program) = KERNELS.get().and_then(|kernels| kernels.get(name)) else { return UNKNOWN };
    // SAFETY: the lengths are the driver's.
    let (params, ranges) = unsafe {
        (
            slice::from_raw_parts(launch.params, launch.params_bytes as usize),
            slice::from_raw_parts(launch.regions, launch.regions_count as usize),
        )
    };
    let regions = ranges.iter().map(|&RegionOfLaunch { start, bytes, number }| Region { start, bytes, number, writable: true });
    let order = match launch.order {
        0 => Order::Fifo,
        1 => Order::Reverse,
        2 => Order::Random,
        _ => Order::Greedy,
    };
    let (grid, block, shared_bytes) = (launch.grid, launch.block, launch.shared_bytes);
    let cluster = program.cluster.unwrap_or(launch.cluster);
    let described = Launch {
        grid,
        block,
        cluster,
        shared_bytes,
        order,
        seed: launch.seed,
        late_copies: launch.late_copies,
        needs_written: true,
    };
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| run(program, &described, params, regions.collect())));
    let words = match outcome {
        Ok(Ok(counts)) => {
            // SAFETY: of the thread that launches, which waits.
            unsafe { note(&mut *launch.statistics, &counts) };
            report::note(name, &counts);
            return DONE;
        }
        Ok(Err(words)) => words,
        Err(_) => format!("{name}: the machine panicked"),
    };
    let length = words.len().min(launch.error_bytes as usize - 1);
    // SAFETY: the buffer has that many bytes and one for the end.
    unsafe {
        launch.error.copy_from_nonoverlapping(words.as_ptr().cast(), length);
        launch.error.add(length).write(0);
    }
    if words.contains("illegal address") { ILLEGAL_ADDRESS } else { FAILED }
}

/// What the emulator would have counted.
fn note(statistics: &mut Statistics, counts: &Counts) {
    statistics.launches += 1;
    statistics.multiplications += counts.of(Class::Product);
    statistics.matrix_loads += counts.of(Class::LoadMatrix);
    statistics.bank_conflicts += counts.matrix_conflicts;
    if crate::counts_every_access() {
        statistics.bytes_read += counts.bytes_read;
        statistics.bytes_written += counts.bytes_written;
    } else {
        statistics.bytes_read += counts.bytes_copied;
    }
}

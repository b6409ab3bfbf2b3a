//! A table of what every kernel has done, written when the process ends where `SOFTWARE_GPU_PTX_COUNTS` names a file.

use super::{Class, Counts};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

/// Launches of a kernel, and the counts of all of them.
static DONE: Mutex<BTreeMap<String, (u64, Counts)>> = Mutex::new(BTreeMap::new());

unsafe extern "C" {
    fn atexit(callback: extern "C" fn()) -> i32;
}

/// Adds a launch.
pub fn note(kernel: &str, counts: &Counts) {
    let mut done = DONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (launches, all) = done.entry(kernel.to_owned()).or_default();
    *launches += 1;
    all.add(counts);
}

/// Has the table written when the process ends.
pub fn write_at_exit() {
    if std::env::var_os("SOFTWARE_GPU_PTX_COUNTS").is_some() {
        // SAFETY: the function takes nothing and does not unwind.
        unsafe { atexit(write) };
    }
}

extern "C" fn write() {
    let Some(path) = std::env::var_os("SOFTWARE_GPU_PTX_COUNTS") else { return };
    let done = DONE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(error) = std::fs::write(&path, table(&done)) {
        eprintln!("{}: {error}", path.display());
    }
}

/// A line for every kernel, with tabs.
#[must_use]
pub fn table(done: &BTreeMap<String, (u64, Counts)>) -> String {
    let mut text = format!("kernel\tlaunches\t{}", Class::NAMES.join("\t"));
    text.push_str("\twavefronts\twithout conflicts\tsectors read\tsectors written\n");
    for (kernel, (launches, counts)) in done {
        let _ = write!(text, "{kernel}\t{launches}");
        let memory = [counts.wavefronts, counts.least_wavefronts, counts.sectors_read, counts.sectors_written];
        for count in counts.instructions.iter().chain(&memory) {
            let _ = write!(text, "\t{count}");
        }
        text.push('\n');
    }
    text
}

//! Time and memory of this process, on Linux; zeros where the system does not say.

use std::time::Instant;

/// A moment on the wall's clock and on the processor's.
pub struct Reading {
    instant: Instant,
    processor: f64,
}

impl Reading {
    pub fn now() -> Self {
        Self { instant: Instant::now(), processor: processor_seconds() }
    }

    pub fn wall_since(&self, before: &Self) -> f64 {
        self.instant.duration_since(before.instant).as_secs_f64()
    }

    pub fn processor_since(&self, before: &Self) -> f64 {
        self.processor - before.processor
    }
}

/// Time that the living threads have had a processor, to the last tick of the scheduler.
fn processor_seconds() -> f64 {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let nanoseconds = threads.filter_map(|thread| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<f64>().ok()
    });
    nanoseconds.sum::<f64>() * 1e-9
}

/// Most memory that this process has held.
pub fn peak_megabytes() -> f64 {
    status("VmHWM:")
}

/// Memory that it holds.
pub fn held_megabytes() -> f64 {
    status("VmRSS:")
}

fn status(name: &str) -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let kibibytes: f64 = line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0.0);
    kibibytes * 1024.0 / 1e6
}

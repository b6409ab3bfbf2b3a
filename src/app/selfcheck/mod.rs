//! Whether this machine's GPU computes what the CPU does: every kernel family, both libraries and a training step, in a few seconds.
//!
//! A driver, a library or a kernel that is broken refuses, gives wrong numbers, crashes, or never comes back. So the check runs in a
//! process of its own: this program started again (`worker`), which tells step by step what it does (`event`), watched by the one that
//! wants to know (`child`), with a time limit for each step. Until that process has shown that the driver and the libraries can be
//! loaded, they are not loaded into this one.
//!
//! What came out is kept (`cache`), by device, driver, libraries and program, so that it is found out once: a machine that passed has
//! passed; a failure is kept for an hour, so that a command need not wait for the same hang again; an error that the driver reported is
//! not kept, since it may be due to another process on the GPU.
//!
//! Only the program itself may call [`verdict`], [`look`] and [`examine`]: they start the running executable again.

mod cache;
mod child;
mod compare;
mod event;
mod failure;
mod machine;
mod steps;
mod watch;
mod worker;

pub use compare::Comparison;
pub use event::Ran;
pub use failure::{Failure, FailureKind};
pub use machine::{Machine, system};
pub use watch::{Extent, Verdict};
pub use worker::work;

use crate::device::cuda::CudaOptions;
use watch::Watch;

/// Every step of the check by name, in order.
pub fn step_names() -> Vec<&'static str> {
    worker::PREPARATIONS.iter().copied().chain(steps::STEPS.iter().map(|step| step.name)).collect()
}

/// What is known of the GPU, found out if nobody knows. `first` is called before that, as it takes a while.
pub fn verdict(options: CudaOptions, mut first: impl FnMut()) -> Verdict {
    Watch::new(options, |_| {}, |_| first()).follow(Extent::Once, 0)
}

/// What the machine has, and what is known of its GPU without running anything on it.
pub fn look(options: CudaOptions) -> (Option<Machine>, Verdict) {
    let mut watch = Watch::new(options, |_| {}, |_| {});
    let verdict = watch.follow(Extent::Look, 0);
    (watch.machine, verdict)
}

/// Runs every step, whatever failed before it, and tells of each; `first` is told of the machine before. The verdict is that of the first
/// step that failed.
pub fn examine(options: CudaOptions, tell: impl FnMut(&Ran), first: impl FnMut(&Machine)) -> (Option<Machine>, Verdict) {
    let mut watch = Watch::new(options, tell, first);
    let verdict = watch.follow(Extent::Every, 0);
    // A step that failed takes its process with it: those after it run in another one.
    let mut last = verdict.clone();
    while let Some(next) = last.step_after() {
        last = watch.follow(Extent::Every, next);
    }
    (watch.machine, verdict)
}

//! `xbm-fast doctor`: what this machine has for the GPU backend, and with `--check` whether it computes what the CPU does.

use super::one_of;
use crate::app::selfcheck::{self, Comparison, FailureKind, Machine, Ran, Verdict};
use crate::app::terminal;
use crate::device::cuda::{CudaOptions, PairLossPath, Precision, Probe, Resources, resources};
use crate::device::{Cpu, Storage};
use crate::error::Result;
use crate::group;
use crate::kernel_args::shared_bytes_of;
use clap::Args;
use std::cell::RefCell;
use std::fmt::Write as _;
use std::process::ExitCode;

/// What is to be found out.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Try every part of the GPU path beside the CPU, and say what to attach to a report
    #[arg(long)]
    pub check: bool,

    /// Also list what every kernel takes of a multiprocessor: threads, registers, local and shared memory, blocks
    #[arg(long)]
    pub kernels: bool,

    /// What the GPU computes in, for --check
    #[arg(long, value_parser = one_of::<Precision>(), default_value = "fp16")]
    pub precision: Precision,
}

impl DoctorArgs {
    /// Prints what was found. A machine without a GPU is not ill: the exit code is 0, unless a GPU fails its check.
    ///
    /// # Errors
    /// Threads that cannot be started, standard output that cannot be written; with `--kernels`, a driver before CUDA 12.4.
    pub fn run(self) -> Result<ExitCode> {
        let cpu = Cpu::new(None)?.description();
        let version = env!("CARGO_PKG_VERSION");
        let system = selfcheck::system();
        terminal::print(&format!("program   xbm-fast {version}\nsystem    {system}\ncpu       {cpu}\nmpi       {}\n", mpi()))?;
        let (findings, verdict) = if self.check { self.check()? } else { self.look() };
        terminal::print(&format!("{findings}verdict   {}\n", words(&verdict)))?;
        if self.kernels && !matches!(verdict, Verdict::Unavailable(_)) {
            terminal::print(&kernels()?)?;
        }
        if !(self.check && matches!(verdict, Verdict::Failed(..))) {
            return Ok(ExitCode::SUCCESS);
        }
        terminal::print("attach    all of the above to a report; it names no files but those of libraries\n")?;
        Ok(ExitCode::FAILURE)
    }

    fn options(&self) -> CudaOptions {
        CudaOptions { precision: self.precision, pair_loss: PairLossPath::Auto }
    }

    /// What the machine has, to be printed, and what is known of its GPU.
    fn look(&self) -> (String, Verdict) {
        let (machine, verdict) = selfcheck::look(self.options());
        (seen(machine.as_ref(), &verdict), verdict)
    }

    /// Prints what the machine has, and each step as it comes; returns what is left to print.
    fn check(&self) -> Result<(String, Verdict)> {
        let written = RefCell::new(Ok(()));
        let write = |text: &str| {
            let mut written = written.borrow_mut();
            if written.is_ok() {
                *written = terminal::print(text);
            }
        };
        let (machine, verdict) = selfcheck::examine(self.options(), |ran| write(&step(ran)), |machine| write(&of_machine(machine)));
        written.into_inner()?;
        let left = if matches!(verdict, Verdict::Unavailable(_)) { seen(machine.as_ref(), &verdict) } else { String::new() };
        Ok((left, verdict))
    }
}

/// What brings several processes together. NCCL is not asked for: nothing uses it yet.
fn mpi() -> String {
    match group::launched() {
        Some(launch) => format!("{}; started as one of {} processes{}", group::mpi_version(), launch.size(), on_this_machine()),
        None => group::mpi_version(),
    }
}

fn on_this_machine() -> String {
    group::launched_here().map_or_else(String::new, |here| format!(", {here} of them on this machine"))
}

/// A line for every kernel. `-` where a launch decides how much shared memory it takes.
fn kernels() -> Result<String> {
    let found = resources(0, shared_bytes_of)?;
    let width = found.keys().map(String::len).max().unwrap_or_default();
    let mut text =
        format!("{:width$} {:>7} {:>9} {:>5} {:>6} {:>6}\n", "kernel", "threads", "registers", "local", "shared", "blocks");
    for (name, Resources { threads, registers, local_bytes, shared_bytes, blocks }) in &found {
        let shared = shared_bytes.map_or_else(|| "-".to_owned(), |bytes| bytes.to_string());
        let _ = writeln!(text, "{name:width$} {threads:>7} {registers:>9} {local_bytes:>5} {shared:>6} {blocks:>6}");
    }
    Ok(text)
}

fn seen(machine: Option<&Machine>, verdict: &Verdict) -> String {
    match (machine, verdict) {
        (Some(machine), _) => of_machine(machine),
        // There is no driver, so there is no harm in looking from here.
        (None, Verdict::Unavailable(_)) => of_machine(&Machine::of(&Probe::run())),
        (None, _) => String::new(),
    }
}

fn of_machine(machine: &Machine) -> String {
    machine.0.iter().map(|(label, text)| format!("{label:<9} {text}\n")).collect()
}

fn step(ran: &Ran) -> String {
    let Ran { step, comparisons, seconds, failure } = ran;
    let outcome = if failure.is_some() { "FAILED" } else { "ok" };
    let mut text = format!("check     {outcome:<7} {step:<24} {seconds:>6.2} s  {}\n", largest_error(comparisons));
    let mut add = |line: &str| {
        let _ = writeln!(text, "{:17} {line}", "");
    };
    // Every number that is wrong, or the words of who refused.
    comparisons.iter().filter(|comparison| !comparison.holds()).for_each(|wrong| add(&wrong.words()));
    if let Some(failure) = failure.as_ref().filter(|failure| failure.kind != FailureKind::Wrong) {
        add(&failure.words);
        failure.said.lines().for_each(|line| add(&format!("| {line}")));
    }
    text
}

/// The error that is nearest to what is allowed, or furthest above it.
fn largest_error(comparisons: &[Comparison]) -> String {
    match comparisons.iter().max_by(|left, right| left.share().total_cmp(&right.share())) {
        None => String::new(),
        Some(Comparison { error, tolerance, .. }) => {
            format!("{} comparisons, largest error {error:.1e}, allowed {tolerance:.0e}", comparisons.len())
        }
    }
}

fn words(verdict: &Verdict) -> String {
    match (verdict, verdict.reason()) {
        (_, Some(reason)) => format!("the CPU will be used: {reason}"),
        (Verdict::Unknown, _) => {
            "the GPU will be used if it passes its self-check, at the first command or by `xbm-fast doctor --check`".to_owned()
        }
        _ => "the GPU will be used: it passed its self-check".to_owned(),
    }
}

//! `xbm-fast doctor`: what this machine has for the GPU backend, and with `--check` whether it computes what the CPU does.

use crate::backend::cuda::{CudaOptions, Numbers, PairLossPath, Probe};
use crate::backend::{Cpu, Storage};
use crate::error::Result;
use crate::selfcheck::{self, Comparison, FailureKind, Machine, Ran, Verdict};
use clap::Args;
use std::process::ExitCode;

/// What is to be found out.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Try every part of the GPU path beside the CPU, and say what to attach to a report
    #[arg(long)]
    pub check: bool,

    /// What the GPU computes in, for --check
    #[arg(long, value_enum, default_value = "fp16")]
    pub precision: Numbers,
}

impl DoctorArgs {
    /// Prints what was found. A machine without a GPU is not ill: the exit code is 0, unless a GPU fails its check.
    ///
    /// # Errors
    /// Threads that cannot be started.
    pub fn run(self) -> Result<ExitCode> {
        println!("program   xbm-fast {}", env!("CARGO_PKG_VERSION"));
        println!("system    {}", selfcheck::system());
        println!("cpu       {}", Cpu::new(None)?.description());
        let options = CudaOptions { numbers: self.precision, pair_loss: PairLossPath::Auto };
        let (machine, verdict) =
            if self.check { selfcheck::examine(options, print_step, print_machine) } else { selfcheck::look(options) };
        match (machine, &verdict) {
            // During a check it was printed before the steps.
            (Some(_), Verdict::Passed | Verdict::Failed(..)) if self.check => {}
            (Some(machine), _) => print_machine(&machine),
            // There is no driver, so there is no harm in looking from here.
            (None, Verdict::Unavailable(_)) => print_machine(&Machine::of(&Probe::run())),
            (None, _) => {}
        }
        println!("verdict   {}", words(&verdict));
        let failed = self.check && matches!(verdict, Verdict::Failed(..));
        if failed {
            println!("attach    all of the above to a report; it names no files but those of libraries");
        }
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

fn print_machine(machine: &Machine) {
    machine.0.iter().for_each(|(label, text)| println!("{label:<9} {text}"));
}

fn print_step(ran: &Ran) {
    let Ran { step, comparisons, seconds, failure } = ran;
    let outcome = if failure.is_some() { "FAILED" } else { "ok" };
    println!("check     {outcome:<7} {step:<24} {:>6.2} s  {}", seconds, largest_error(comparisons));
    // Every number that is wrong, or the words of who refused.
    comparisons.iter().filter(|comparison| !comparison.holds()).for_each(|wrong| println!("{:17} {}", "", wrong.words()));
    if let Some(failure) = failure.as_ref().filter(|failure| failure.kind != FailureKind::Wrong) {
        println!("{:17} {}", "", failure.words);
        failure.said.lines().for_each(|line| println!("{:17} | {line}", ""));
    }
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

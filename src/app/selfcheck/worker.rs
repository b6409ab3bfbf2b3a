//! The checking process: runs the steps and tells of each, until one fails or the one who listens has gone.

use super::cache::Identity;
use super::compare::Comparison;
use super::event::{Event, Ran};
use super::failure::{Failure, FailureKind};
use super::machine::Machine;
use super::steps::{Bench, STEPS};
use crate::app::terminal;
use crate::device::cuda::kernel;
use crate::device::cuda::{CudaOptions, Probe};
use crate::error::Result;
use std::io::{BufRead, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

/// What comes before the steps. If one of these fails, no step can be run.
pub const PREPARATIONS: [&str; 3] = ["driver and libraries", "opening the device", "loading kernels"];

/// Looks at the machine, waits for the number of a step on standard input, and runs the steps from that one on. Ends with the input.
pub fn work(options: CudaOptions) -> ExitCode {
    tell(&Event::Begun { step: PREPARATIONS[0].to_owned(), part: None });
    let start = Instant::now();
    let probe = Probe::run();
    let machine = Machine::of(&probe);
    let identity = Identity::of(&probe, &machine, options);
    tell(&Event::Found { machine, identity, obstacle: probe.verdict().err() });
    let mut line = String::new();
    let Some(from) = std::io::stdin().lock().read_line(&mut line).ok().and_then(|_| line.trim().parse::<usize>().ok()) else {
        return ExitCode::SUCCESS;
    };
    std::thread::spawn(end_with_input);
    tell_of(PREPARATIONS[0], start, Ok(Vec::new()));
    if run(options, from).is_some() {
        tell(&Event::Finished);
        return ExitCode::SUCCESS;
    }
    ExitCode::FAILURE
}

/// `None` where a step failed.
fn run(options: CudaOptions, from: usize) -> Option<()> {
    let bench = attempt(PREPARATIONS[1], || Ok((Bench::open(options)?, Vec::new())))?;
    let start = Instant::now();
    for stem in kernel::stems() {
        // Each is told of, since each may have to be compiled.
        tell(&Event::Begun { step: PREPARATIONS[2].to_owned(), part: Some(stem.to_owned()) });
        let loaded = guarded(|| bench.load_kernels(stem));
        if loaded.is_err() {
            tell_of(PREPARATIONS[2], start, loaded.map(|()| Vec::new()));
            return None;
        }
    }
    tell_of(PREPARATIONS[2], start, Ok(Vec::new()));
    STEPS.iter().skip(from).try_for_each(|step| attempt(step.name, || Ok(((), (step.run)(&bench)?))))
}

/// Runs one step and tells of it.
fn attempt<T>(name: &str, step: impl FnOnce() -> Result<(T, Vec<Comparison>)>) -> Option<T> {
    tell(&Event::Begun { step: name.to_owned(), part: None });
    let start = Instant::now();
    let (value, outcome) = match guarded(step) {
        Ok((value, comparisons)) => (Some(value), Ok(comparisons)),
        Err(words) => (None, Err(words)),
    };
    let passed = tell_of(name, start, outcome);
    value.filter(|_| passed)
}

/// Errors and panics as words.
fn guarded<T>(work: impl FnOnce() -> Result<T>) -> std::result::Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(outcome) => outcome.map_err(|error| error.to_string()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            Err(text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_owned())
        }
    }
}

/// Tells of a step that came to an end; whether it passed.
fn tell_of(step: &str, start: Instant, outcome: std::result::Result<Vec<Comparison>, String>) -> bool {
    let failed = |kind, words| Failure { step: step.to_owned(), kind, words, said: String::new() };
    let (comparisons, failure) = match outcome {
        Ok(comparisons) => {
            let wrong = comparisons.iter().find(|comparison| !comparison.holds());
            let failure = wrong.map(|comparison| failed(FailureKind::Wrong, comparison.words()));
            (comparisons, failure)
        }
        Err(words) => (Vec::new(), Some(failed(FailureKind::Refused, words))),
    };
    let passed = failure.is_none();
    tell(&Event::Ran(Ran { step: step.to_owned(), comparisons, seconds: start.elapsed().as_secs_f64(), failure }));
    passed
}

/// One line of standard output. Where nobody listens any more, standard input has ended too, and with it the process.
fn tell(event: &Event) {
    let line = serde_json::to_string(event).expect("plain values");
    if terminal::print(&(line + "\n")).is_err() {
        std::process::exit(1);
    }
}

/// Who listens holds the other end of standard input for as long as it lives.
fn end_with_input() {
    let _ = std::io::stdin().lock().read_to_end(&mut Vec::new());
    std::process::exit(1);
}

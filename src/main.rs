//! The program: parses the command line, chooses the backend once, runs, and sets the exit code.

use clap::Parser;
use std::process::ExitCode;
use xbm_fast::backend::cuda::{CudaOptions, Probe};
use xbm_fast::backend::{Cpu, Cuda, Storage};
use xbm_fast::cli::{Cli, Command, DeviceRequest, Job};
use xbm_fast::config::DeviceChoice;
use xbm_fast::recipes;
use xbm_fast::{Error, Result};

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Train(args) if args.list_recipes => {
            print!("{}", recipes::list());
            Ok(ExitCode::SUCCESS)
        }
        Command::Train(args) => args.prepare().and_then(on_device),
        Command::Eval(args) => on_device(args),
        Command::Embed(args) => on_device(args),
        Command::Search(args) => on_device(args),
        Command::Study(args) => on_device(args),
        Command::Weights(args) => on_device(args),
        Command::Data(args) => args.run(),
        Command::Pack(args) => args.run(),
        Command::Doctor(args) => args.run(),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

/// The one place where a device is chosen.
fn on_device(job: impl Job) -> Result<ExitCode> {
    let DeviceRequest { choice, threads, numbers, pair_loss } = job.device();
    let cuda = || Cuda::open(CudaOptions { numbers, pair_loss });
    let why = match choice {
        DeviceChoice::Cpu => None,
        DeviceChoice::Cuda => {
            Probe::run().verdict().map_err(|reason| Error::Device { what: "--device cuda".into(), reason })?;
            return job.run(&cuda()?);
        }
        DeviceChoice::Auto => match Probe::run().verdict() {
            Ok(()) => {
                let cuda = cuda()?;
                eprintln!("auto      a GPU and its libraries were found: {}", cuda.description());
                return job.run(&cuda);
            }
            Err(reason) => Some(reason),
        },
    };
    if let Some(reason) = why {
        eprintln!("auto      computing on the CPU, because {reason}");
    }
    job.run(&Cpu::new((threads > 0).then_some(threads))?)
}

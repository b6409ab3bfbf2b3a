//! The program: parses the command line, chooses the backend once, runs, and sets the exit code.

use clap::Parser;
use std::process::ExitCode;
use xbm_fast::Result;
use xbm_fast::backend::Cpu;
use xbm_fast::cli::{Cli, Command, Job};
use xbm_fast::config::DeviceChoice;
use xbm_fast::recipes;

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Train(args) if args.list_recipes => {
            print!("{}", recipes::list());
            Ok(ExitCode::SUCCESS)
        }
        Command::Train(args) => args.prepare().and_then(on_device),
        Command::Eval(args) => on_device(args),
        Command::Study(args) => on_device(args),
        Command::Weights(args) => on_device(args),
        Command::Data(args) => args.run(),
        Command::Pack(args) => args.run(),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

/// The one place where a device is chosen.
fn on_device(job: impl Job) -> Result<ExitCode> {
    let request = job.device();
    match request.choice {
        DeviceChoice::Auto | DeviceChoice::Cpu => job.run(&Cpu::new((request.threads > 0).then_some(request.threads))?),
    }
}

//! The program: parses the command line, chooses the backend once, runs, and sets the exit code.

#![deny(clippy::print_stdout, clippy::print_stderr)]

use clap::Parser;
use std::process::ExitCode;
use xbm_fast::app::cli::{Cli, Command, DeviceRequest, IndexCommand, Job, TrainArgs};
use xbm_fast::app::config::DeviceChoice;
use xbm_fast::app::recipes;
use xbm_fast::app::selfcheck;
use xbm_fast::app::terminal::{self, say};
use xbm_fast::device::cuda::{CudaOptions, Probe, gpu_in_sight};
use xbm_fast::device::{Cpu, Cuda, Storage};
use xbm_fast::group::{self, ALONE, Group};
use xbm_fast::{Error, Result};

fn main() -> ExitCode {
    let outcome = match Cli::try_parse() {
        Ok(cli) => obey(cli.command),
        Err(answer) => explain(&answer),
    };
    outcome.unwrap_or_else(|error| {
        say(format_args!("error: {error}"));
        fail_as_json(&error.to_string());
        ExitCode::FAILURE
    })
}

/// Where `--json` was given, whoever reads standard output learns of a failure there.
fn fail_as_json(words: &str) {
    if std::env::args_os().any(|argument| argument == "--json") {
        // The failure was said; that nobody hears of it a second time is no other one.
        let _ = terminal::print_failure(words);
    }
}

/// Help, the version, or what is wrong with the command line.
fn explain(answer: &clap::Error) -> Result<ExitCode> {
    let written = answer.print();
    if !answer.use_stderr() {
        terminal::printed(written)?;
    } else {
        fail_as_json(answer.to_string().trim_start_matches("error: ").trim_end());
    }
    Ok(ExitCode::from(u8::try_from(answer.exit_code()).unwrap_or(2)))
}

fn obey(command: Command) -> Result<ExitCode> {
    match command {
        Command::Train(args) if args.list_recipes => terminal::print(&recipes::list()).map(|()| ExitCode::SUCCESS),
        Command::Train(args) => train(*args),
        Command::Eval(args) => on_device(args, &ALONE),
        Command::Embed(args) => on_device(args, &ALONE),
        Command::Index(args) => match args.command {
            IndexCommand::Add(args) => on_device(args, &ALONE),
            IndexCommand::Update(args) => on_device(args, &ALONE),
            IndexCommand::Remove(args) => args.run(),
            IndexCommand::Info(args) => args.run(),
            IndexCommand::Export(args) => args.run(),
        },
        Command::Search(args) => on_device(args, &ALONE),
        Command::Study(args) => on_device(args, &ALONE),
        Command::Weights(args) => on_device(args, &ALONE),
        Command::Data(args) => args.run(),
        Command::Pack(args) => args.run(),
        Command::Doctor(args) => args.run(),
        Command::Completions(args) => args.run(),
        Command::Man(args) => args.run(),
        Command::SelfCheck(args) => args.run(),
    }
}

/// Trains, with the processes that a launcher has started beside this one. What ends one of them ends all.
fn train(args: TrainArgs) -> Result<ExitCode> {
    let group = group::connect()?;
    let outcome = args.prepare(&group).and_then(|job| on_device(job, &group));
    if let Err(error) = &outcome
        && !group.is_alone()
    {
        say(format_args!("error: rank {} of {}: {error}", group.rank(), group.size()));
        group.abort();
    }
    outcome
}

/// The one place where a device is chosen.
fn on_device(job: impl Job, group: &Group) -> Result<ExitCode> {
    let DeviceRequest { choice, threads, precision, pair_loss } = job.device();
    let options = CudaOptions { precision, pair_loss };
    let gpu = match choice {
        DeviceChoice::Cuda if !group.is_alone() => {
            let words = "--device cuda: several processes compute on the CPU only so far; use --device cpu, or one process";
            return Err(Error::config(words));
        }
        DeviceChoice::Auto if !group.is_alone() => None,
        DeviceChoice::Cpu => None,
        DeviceChoice::Cuda => Some(wished(options).map_err(with_advice)?),
        DeviceChoice::Auto => best(options),
    };
    match gpu {
        Some(cuda) => job.run(&cuda).map_err(with_advice),
        None => job.run(&Cpu::new((threads > 0).then_some(threads))?.in_group(group.clone())),
    }
}

/// The GPU, or an error: who asks for it by name wants no other device.
fn wished(options: CudaOptions) -> Result<Cuda> {
    Probe::run().verdict().map_err(|reason| Error::Device { what: "--device cuda".into(), reason })?;
    Cuda::open(options)
}

/// The GPU if there is one that computes what the CPU does; otherwise why not, where somebody may expect one.
fn best(options: CudaOptions) -> Option<Cuda> {
    let checking = || {
        say("auto      a GPU was found; checking it beside the CPU, once (seconds; minutes where its kernels are compiled first)")
    };
    let verdict = selfcheck::verdict(options, checking);
    let reason = match verdict.reason() {
        None => match Cuda::open(options) {
            Ok(cuda) => {
                say(format_args!("auto      computing on {}, which passed its self-check", cuda.description()));
                return Some(cuda);
            }
            Err(error) => error.to_string(),
        },
        Some(reason) => reason,
    };
    if gpu_in_sight() {
        say(format_args!("auto      computing on the CPU, because {reason}"));
    }
    None
}

/// An error of the device, with the command that says more.
fn with_advice(error: Error) -> Error {
    match error {
        Error::Device { what, reason } => {
            Error::Device { what, reason: format!("{reason}; `xbm-fast doctor --check` tries every part of the GPU path") }
        }
        other => other,
    }
}

//! The program: parses the command line, chooses the backend once, runs, and sets the exit code.

use anyhow::Result;
use clap::Parser;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use xbm_fast::backend::Cpu;
use xbm_fast::cli::{Cli, Command, EvalArgs, TrainArgs};
use xbm_fast::config::TrainConfig;
use xbm_fast::data::OpenOptions;
use xbm_fast::run::{Ending, RunFolder};

/// Exit code of a run that was interrupted: what shells report for SIGINT.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Train(args) => train(&args),
        Command::Eval(args) => eval(&args),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

fn train(args: &TrainArgs) -> Result<ExitCode> {
    let resumed = args.resume.as_deref().map(RunFolder::open).transpose()?;
    let file = resumed.as_ref().map(RunFolder::config).or_else(|| args.config.clone());
    let mut config = TrainConfig::merged(file.as_deref(), args.flags.table()?)?;
    let backend = cpu(config.threads)?;
    let interrupted = interrupt_flag()?;
    let ending = match resumed {
        Some(folder) => {
            config.out = folder.root().to_owned();
            xbm_fast::run::resume(&backend, folder, config, &interrupted)?
        }
        None => xbm_fast::run::start(&backend, config, &interrupted)?,
    };
    match ending {
        Ending::Finished(summary, folder) => {
            let (before, after) = (100.0 * summary.initial_recall_at_1, 100.0 * summary.recall_at_1);
            eprintln!("Recall@1 on classes never trained on: {before:.1} % before, {after:.1} % after {:.0} s", summary.seconds);
            eprintln!("report    {}", folder.report().display());
            if args.json {
                println!("{}", serde_json::to_string_pretty(&*summary)?);
            }
            Ok(ExitCode::SUCCESS)
        }
        Ending::Interrupted(checkpoint, folder) => {
            eprintln!("interrupted; saved {}", checkpoint.display());
            eprintln!("continue with: xbm-fast train --resume {}", folder.root().display());
            Ok(ExitCode::from(INTERRUPTED))
        }
    }
}

fn eval(args: &EvalArgs) -> Result<ExitCode> {
    let backend = cpu(args.threads)?;
    let options = OpenOptions { holdout: f64::from(args.holdout), seed: args.seed, ..OpenOptions::default() };
    let scores = xbm_fast::run::eval(&backend, &args.checkpoint, &args.data, &options, args.batch_size)?;
    println!("{}", if args.json { serde_json::to_string_pretty(&scores)? } else { scores.to_string() });
    Ok(ExitCode::SUCCESS)
}

fn cpu(threads: usize) -> Result<Cpu> {
    Ok(Cpu::new((threads > 0).then_some(threads))?)
}

/// Set by the first Ctrl-C or SIGTERM; the second one ends the program at once.
fn interrupt_flag() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let shared = flag.clone();
    ctrlc::set_handler(move || {
        if shared.swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(INTERRUPTED));
        }
        eprintln!("stopping after this step; press Ctrl-C again to stop at once");
    })?;
    Ok(flag)
}

//! Drives the program as it is typed: a tiny run, its log, its signals, its one line of error.
#![allow(dead_code, reason = "each suite uses its own part")]

pub mod scene;

use std::path::Path;
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};
use xbm_fast::app::runlog::read_metrics;

/// The program.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_xbm-fast");
/// Settings of a run of seconds.
pub const TINY: [&str; 20] = [
    "--data=synthetic:classes=12,views=4,size=24",
    "--image-size=16",
    "--dim=16",
    "--batch-size=8",
    "--samples-per-class=2",
    "--memory-size=20",
    "--memory-start=2",
    "--memory-ramp=3",
    "--optimizer=sgd",
    "--lr=0.01",
    "--steps=12",
    "--warmup=2",
    "--log-every=2",
    "--eval-every=4",
    "--checkpoint-every=0",
    "--keep-checkpoints=1",
    "--schedule-patience=0",
    "--threads=2",
    "--memory=none",
    "--clip-norm=10",
];

/// `xbm-fast train` of a tiny network, with `flags` in the place of the [`TINY`] ones of the same name.
pub fn train(out: &Path, flags: &[&str]) -> Command {
    let name = |flag: &str| flag.split('=').next().unwrap_or_default().to_owned();
    let mut command = Command::new(PROGRAM);
    command.arg("train").arg("--out").arg(out);
    command.args(TINY.iter().filter(|tiny| flags.iter().all(|flag| name(flag) != name(tiny))));
    command.args(flags);
    command
}

/// `xbm-fast train --resume`.
pub fn resume(out: &Path) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("train").arg("--resume").arg(out);
    command
}

/// The output of a command that must succeed.
#[track_caller]
pub fn succeed(mut command: Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// The one `error:` line of a command that must fail with exit code 1.
#[track_caller]
pub fn error_of(mut command: Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{command:?}: {text}");
    assert!(output.stdout.is_empty());
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error:")).collect();
    assert_eq!(errors.len(), 1, "{text}");
    assert!(text.trim_end().ends_with(errors[0]), "something follows the error: {text}");
    errors[0].to_owned()
}

/// Fails unless all words are in the message.
#[track_caller]
pub fn assert_says(message: &str, words: &[&str]) {
    for word in words {
        assert!(message.contains(word), "expected `{word}` in: {message}");
    }
}

/// Starts a command and waits until its log has reached `step`.
pub fn run_until(mut command: Command, out: &Path, step: u64) -> Child {
    let mut child = command.spawn().unwrap();
    let begun = Instant::now();
    let reached = |out: &Path| read_metrics(out).is_ok_and(|lines| lines.last().is_some_and(|last| last.step >= step));
    while !reached(out) {
        assert!(begun.elapsed() < Duration::from_secs(60), "step {step} was not reached");
        assert!(child.try_wait().unwrap().is_none(), "the run ended before step {step}");
        std::thread::sleep(Duration::from_millis(1));
    }
    child
}

/// Sends a running command a signal by the name that `kill` knows it by.
pub fn signal(child: &Child, name: &str) {
    assert!(Command::new("sh").args(["-c", &format!("kill -{name} {}", child.id())]).status().unwrap().success());
}

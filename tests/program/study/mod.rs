//! Studies: their statistics against golden values, their declaration, runs that are killed, failed and taken up again, and the search
//! for settings.

mod declaration;
mod runs;
mod statistics;
mod tuning;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const PROGRAM: &str = env!("CARGO_BIN_EXE_xbm-fast");

/// Three variants of a tiny network, the last of which cannot train.
const TINY: &str = r#"
title = "tiny"
seeds = [0, 1]

[base]
data = "synthetic:classes=12,views=4,size=24"
backbone = "small"
image_size = 16
dim = 16
batch_size = 8
samples_per_class = 2
memory_size = 20
memory_start = 2
steps = 20
log_every = 5
eval_every = 0
checkpoint_every = 0

[[group]]
name = "memory"
axes = { memory = ["none", "momentum"] }

[[group]]
name = "same as no memory"
settings = { memory = "none" }

[[group]]
name = "explodes"
settings = { optimizer = "sgd", lr = 1e30 }

[[fact]]
name = "F"
statement = "A memory helps."
claim = [{ variant = "memory/memory=momentum", is = "better", than = "memory/memory=none" }]
"#;

fn study(folder: &Path) -> Command {
    std::fs::create_dir_all(folder).unwrap();
    let plan = folder.with_extension("toml");
    std::fs::write(&plan, TINY).unwrap();
    let mut command = Command::new(PROGRAM);
    command.arg("study").arg(&plan).arg("--out").arg(folder).args(["--threads", "2"]);
    command
}

#[track_caller]
fn succeed(mut command: Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn lines(folder: &Path) -> Vec<csv::StringRecord> {
    let mut reader = csv::Reader::from_path(folder.join("results.csv")).unwrap();
    reader.records().map(Result::unwrap).collect()
}

/// Variant, seed, status and Recall@1 of each run.
fn outcomes(folder: &Path) -> Vec<[String; 4]> {
    lines(folder).iter().map(|line| [0, 2, 3, 4].map(|column| line[column].to_owned())).collect()
}

fn run_folders(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder.join("runs")).map_or(vec![], |entries| entries.map(|entry| entry.unwrap().path()).collect())
}

fn finished(folder: &Path) -> Vec<PathBuf> {
    run_folders(folder).into_iter().filter(|run| run.join("summary.json").exists()).collect()
}

/// A study in `folder` of a declaration of one's own, which must fail with one line; that line, and all that was said.
#[track_caller]
fn refused(folder: &Path, declaration: &str, flags: &[&str]) -> (String, String) {
    let plan = folder.join("mine.toml");
    std::fs::write(&plan, declaration).unwrap();
    let mut command = Command::new(PROGRAM);
    command.arg("study").arg(&plan).arg("--out").arg(folder.join("out")).args(["--threads", "2"]).args(flags).current_dir(folder);
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{said}");
    (errors[0].to_owned(), said.clone())
}

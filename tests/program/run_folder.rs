//! Whose a run's folder is: one process at a time, one run to a folder, and no start from nothing without a word.


use crate::drive::{PROGRAM, assert_says, error_of, resume, run_until, signal, succeed, train};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use xbm_fast::app::runlog::read_metrics;

fn said(command: Command) -> String {
    String::from_utf8(succeed(command).stderr).unwrap()
}

fn delete_checkpoints(out: &Path) {
    for entry in fs::read_dir(out.join("checkpoints")).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
}

#[test]
fn two_runs_started_into_one_folder_at_once_are_one_run() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let start = || train(&out, &["--steps=20"]).stderr(Stdio::piped()).spawn().unwrap();
    let outputs = [start(), start(), start()].map(|child| child.wait_with_output().unwrap());
    let successes = outputs.iter().filter(|output| output.status.success()).count();
    let said: Vec<_> = outputs.iter().map(|output| String::from_utf8_lossy(&output.stderr)).collect();
    assert_eq!(successes, 1, "{said:?}");
    for (output, said) in outputs.iter().zip(&said).filter(|(output, _)| !output.status.success()) {
        assert_eq!(output.status.code(), Some(1));
        assert!(said.contains("another process") || said.contains("holds a run already"), "{said}");
    }
    let steps: Vec<u64> = read_metrics(&out).unwrap().iter().map(|line| line.step).collect();
    assert!(steps.is_sorted_by(|a, b| a < b), "one run alone has logged: {steps:?}");
}

#[test]
fn runs_without_a_name_that_start_at_once_get_folders_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let start = || {
        let named = train(Path::new("unused"), &["--steps=1"]);
        let mut command = Command::new(PROGRAM);
        command.args(named.get_args().filter(|word| *word != "--out" && *word != "unused")).current_dir(folder.path());
        command.stderr(Stdio::null()).spawn().unwrap()
    };
    for mut child in [start(), start(), start()] {
        assert!(child.wait().unwrap().success());
    }
    for name in ["001", "002", "003"] {
        assert!(folder.path().join("runs").join(name).join("summary.json").is_file(), "{name}");
    }
}

#[test]
fn a_run_under_way_cannot_be_resumed_and_one_that_was_killed_can() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let mut command = train(&out, &["--steps=2000", "--log-every=1", "--eval-every=0", "--checkpoint-every=2"]);
    command.stderr(Stdio::null());
    let mut child = run_until(command, &out, 3);
    let message = error_of(resume(&out));
    assert_says(&message, &["another process", &child.id().to_string(), "wait until it has ended"]);
    child.kill().unwrap();
    child.wait().unwrap();
    let mut command = resume(&out);
    command.arg("--steps=6");
    assert_says(&said(command), &["step"]);
}

#[test]
fn a_run_whose_checkpoints_are_gone_is_not_started_from_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (finished, stopped, other) = (folder.path().join("finished"), folder.path().join("stopped"), folder.path().join("other"));
    succeed(train(&finished, &[]));
    let mut command = train(&stopped, &["--steps=2000", "--log-every=1", "--eval-every=0"]);
    command.stderr(Stdio::null());
    let mut child = run_until(command, &stopped, 2);
    signal(&child, "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(143));
    for out in [&finished, &stopped] {
        let log = fs::read(out.join("metrics.jsonl")).unwrap();
        delete_checkpoints(out);
        let message = error_of(resume(out));
        assert_says(&message, &["checkpoints", "found none", "has logged", "put it back", "--config"]);
        assert!(fs::read(out.join("metrics.jsonl")).unwrap() == log);
    }
    // The advice of the message.
    let mut command = Command::new(PROGRAM);
    command.args(["train", "--steps=1", "--config"]).arg(finished.join("config.toml")).arg("--out").arg(&other);
    succeed(command);
}

#[test]
fn a_run_that_died_before_its_first_checkpoint_starts_over_aloud_and_keeps_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let mut command = train(&out, &["--steps=2000", "--log-every=1", "--eval-every=0"]);
    command.stderr(Stdio::null());
    let mut child = run_until(command, &out, 3);
    child.kill().unwrap();
    child.wait().unwrap();
    let before = read_metrics(&out).unwrap();
    let mut command = resume(&out);
    command.arg("--steps=2");
    assert_says(&said(command), &["no checkpoint was written", "step 0", "metrics-1.jsonl"]);
    let kept = fs::read_to_string(out.join("metrics-1.jsonl")).unwrap();
    assert_eq!(kept.lines().count(), before.len());
    assert_eq!(read_metrics(&out).unwrap().last().unwrap().step, 2);
}

#[test]
fn a_finished_run_says_so_and_how_to_go_on_misses_its_best_model_and_leaves_the_files_of_others() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    succeed(train(&out, &[]));
    assert_says(&said(resume(&out)), &["all 12 steps were taken already", "--steps", "above 12"]);
    let best = out.join("checkpoints/best.safetensors");
    fs::remove_file(&best).unwrap();
    // Left by a kill, and somebody's own.
    let [left, own] = ["summary.json.123.tmp", "notes.tmp"].map(|name| out.join(name));
    [&left, &own].iter().for_each(|path| fs::write(path, "").unwrap());
    let mut command = resume(&out);
    command.arg("--steps=16");
    assert_says(&said(command), &["resumed at step 12", "best.safetensors is gone"]);
    assert!(best.is_file() && own.is_file() && !left.exists());
}

#[test]
fn a_study_under_way_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("study");
    fs::create_dir(&out).unwrap();
    // As a study that is under way holds it.
    let held = fs::File::create(out.join(".lock")).unwrap();
    held.lock().unwrap();
    for flags in [&["--quick"][..], &["--tune"]] {
        let mut command = Command::new(PROGRAM);
        command.arg("study").args(flags).arg("--out").arg(&out);
        assert_says(&error_of(command), &["another process", "stop it first"]);
    }
    assert!(!out.join("runs").exists());
}

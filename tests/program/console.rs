//! The terminal is no part of the work: readers that go away, full disks and signals, and what becomes of the command each time.

use crate::drive::{PROGRAM, assert_says, error_of, run_until, signal, succeed, train};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use xbm_fast::device::{Cpu, MAX_THREADS};

/// Where nothing can be written.
#[derive(Clone, Copy, Debug)]
enum Dead {
    /// Its reader has gone.
    Pipe,
    #[cfg(target_os = "linux")]
    Full,
}

#[cfg(target_os = "linux")]
const DEAD: [Dead; 2] = [Dead::Pipe, Dead::Full];
#[cfg(not(target_os = "linux"))]
const DEAD: [Dead; 1] = [Dead::Pipe];

impl Dead {
    fn stdio(self) -> Stdio {
        match self {
            Self::Pipe => std::io::pipe().unwrap().1.into(),
            #[cfg(target_os = "linux")]
            Self::Full => std::fs::File::options().write(true).open("/dev/full").unwrap().into(),
        }
    }
}

/// Commands that print, each with nothing else to do.
fn printing() -> Vec<Vec<&'static str>> {
    let data = "synthetic:classes=12,views=4,size=24";
    vec![
        vec!["--help"],
        vec!["--version"],
        vec!["train", "--help"],
        vec!["train", "--list-recipes"],
        vec!["data", data],
        vec!["data", data, "--decode", "--json"],
        vec!["weights", "circle"],
        vec!["doctor"],
    ]
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(arguments);
    command
}

#[test]
fn a_reader_that_has_gone_ends_a_printing_command_quietly() {
    for arguments in printing() {
        let mut command = command(&arguments);
        let output = command.stdout(Dead::Pipe.stdio()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
        assert!(!said.contains("panicked") && !said.contains("error"), "{arguments:?}: {said}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_behind_standard_output_is_an_error() {
    for arguments in printing() {
        let mut command = command(&arguments);
        command.stdout(Dead::Full.stdio());
        assert_says(&error_of(command), &["standard output", "the disk is full"]);
    }
}

#[test]
fn an_error_with_nobody_to_read_it_keeps_its_exit_code() {
    for dead in DEAD {
        for (arguments, code) in [(["data", "folder:/no/such/folder"], 1), (["data", "--no-such-flag"], 2)] {
            let status = command(&arguments).stderr(dead.stdio()).status().unwrap();
            assert_eq!(status.code(), Some(code), "{arguments:?}, {dead:?}");
        }
    }
}

#[test]
fn outputs_that_are_closed_at_the_start_are_nobodys() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    for closed in [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"] {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("exec \"$0\" data synthetic:classes=12,views=4,size=24 {closed}"), PROGRAM]);
        succeed(shell);
    }
    let run = train(&out, &[]);
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec \"$0\" \"$@\" >&- 2>&-"]).arg(run.get_program()).args(run.get_args());
    succeed(shell);
    assert_is_whole(&out);
}

#[track_caller]
fn assert_is_whole(out: &Path) {
    for file in ["summary.json", "report.html", "metrics.jsonl", "checkpoints/step-000012.safetensors"] {
        assert!(out.join(file).is_file(), "{file} is missing");
    }
}

#[test]
fn a_run_goes_on_without_its_console() {
    for dead in DEAD {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("run");
        let status = train(&out, &["--log-every=1"]).stdout(dead.stdio()).stderr(dead.stdio()).status().unwrap();
        assert!(status.success(), "{dead:?}: {status}");
        assert_is_whole(&out);
    }
}

#[test]
fn a_summary_that_cannot_be_printed_fails_unless_its_reader_has_gone() {
    for dead in DEAD {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("run");
        let output = train(&out, &["--json"]).stdout(dead.stdio()).output().unwrap();
        let expected = if matches!(dead, Dead::Pipe) { 0 } else { 1 };
        assert_eq!(output.status.code(), Some(expected), "{dead:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert_is_whole(&out);
    }
}

/// Starts a run whose shell ignores signals, sends it these, and waits for its end.
fn signalled(out: &Path, ignored: &str, sent: &[&str], flags: &[&str]) -> (ExitStatus, String) {
    let run = train(out, &[&["--steps=40", "--log-every=1"], flags].concat());
    let mut shell = Command::new("sh");
    let script = format!("trap '' {ignored}; exec \"$0\" \"$@\"");
    let script = if ignored.is_empty() { "exec \"$0\" \"$@\"" } else { &script };
    shell.args(["-c", script]).arg(run.get_program()).args(run.get_args()).stderr(Stdio::piped());
    let child = run_until(shell, out, 2);
    sent.iter().for_each(|name| signal(&child, name));
    let output = child.wait_with_output().unwrap();
    (output.status, String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_signal_that_was_ignored_at_the_start_stays_ignored() {
    for name in ["HUP", "INT", "TERM"] {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("run");
        let (status, said) = signalled(&out, name, &[name, name], &[]);
        assert_eq!(status.code(), Some(0), "{name}: {said}");
        assert!(!said.contains("stopping"), "{name}: {said}");
        assert!(out.join("summary.json").is_file());
    }
    let folder = tempfile::tempdir().unwrap();
    let (status, said) = signalled(&folder.path().join("run"), "HUP", &["HUP", "TERM"], &[]);
    assert_eq!(status.code(), Some(143), "the others are heeded: {said}");
}

/// Whether this process, and so every command of it, ignores a signal: one in the background of a script does.
fn is_ignored_here(name: &str) -> bool {
    Command::new("sh").args(["-c", &format!("kill -{name} $$")]).status().unwrap().success()
}

#[test]
fn every_signal_saves_a_checkpoint_and_has_its_words_and_its_exit_code() {
    for (name, code, words) in [("INT", 130, "press Ctrl-C again"), ("TERM", 143, "a second SIGTERM"), ("HUP", 129, "SIGHUP")] {
        if is_ignored_here(name) {
            eprintln!("skipped: the tests were started with SIG{name} ignored");
            continue;
        }
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("run");
        // Twice in a burst, as `timeout` and a closed terminal do: one wish, which still saves.
        let (status, said) = signalled(&out, "", &[name, name], &[]);
        assert_eq!(status.code(), Some(code), "{said}");
        assert_says(&said, &[words, "stopping after this step", "interrupted; saved ", "continue with: xbm-fast train --resume"]);
        assert!(std::fs::read_dir(out.join("checkpoints")).unwrap().count() > 0);
    }
}

/// What a terminal of a kind shows of a run that is drawn on it; nothing where `script` (util-linux) is not there to make one.
fn on_terminal(term: &str, columns: usize, run: &Command) -> Option<String> {
    if Command::new("script").arg("--version").output().is_err() {
        eprintln!("skipped: no `script` on this machine");
        return None;
    }
    let words = std::iter::once(run.get_program()).chain(run.get_args()).map(|word| word.to_str().unwrap());
    // A size with no rows is no size.
    let typed = format!("stty cols {columns} rows 24; exec {}", words.collect::<Vec<_>>().join(" "));
    let mut script = Command::new("script");
    script.args(["-qec", &typed, "/dev/null"]).env("TERM", term).stdin(Stdio::null());
    Some(String::from_utf8_lossy(&succeed(script).stdout).into_owned())
}

/// What stood on a line at any time, without colours and movements.
fn drawn(shown: &str) -> Vec<String> {
    let mut plain = String::new();
    let mut rest = shown.chars();
    while let Some(letter) = rest.next() {
        if letter == '\u{1b}' {
            rest.by_ref().skip(1).find(char::is_ascii_alphabetic);
        } else {
            plain.push(letter);
        }
    }
    plain.split(['\r', '\n']).map(str::to_owned).collect()
}

#[test]
fn a_dumb_terminal_gets_plain_lines() {
    let folder = tempfile::tempdir().unwrap();
    let Some(shown) = on_terminal("dumb", 80, &train(&folder.path().join("run"), &[])) else { return };
    assert_says(&shown, &["step      2/12", "step     12/12", "Recall@1"]);
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
}

#[test]
fn the_bar_is_one_line_at_any_width_and_evaluations_leave_theirs() {
    for columns in [30, 40, 60, 80, 100, 160] {
        let folder = tempfile::tempdir().unwrap();
        let run = train(&folder.path().join("run"), &["--log-every=1"]);
        let Some(shown) = on_terminal("xterm", columns, &run) else { return };
        let lines = drawn(&shown);
        let bars: Vec<&String> = lines.iter().filter(|line| line.contains("/12 [")).collect();
        assert!(!bars.is_empty(), "{shown:?}");
        assert!(bars.iter().all(|line| line.chars().count() <= columns), "{columns}: {bars:?}");
        for step in ["step      4/12", "step      8/12", "step     12/12"] {
            assert!(lines.iter().any(|line| line.starts_with(step) && line.contains("Recall@1")), "{columns}: {lines:?}");
        }
        assert!(!lines.iter().any(|line| line.starts_with("step      3/12")), "{lines:?}");
    }
}

#[test]
fn threads_beyond_reason_are_refused_by_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.npy").display().to_string();
    let data = "synthetic:classes=12,views=4,size=24";
    for arguments in [
        &["train", "--device=cpu"][..],
        &["eval", "--device=cpu", "--checkpoint=none"],
        &["embed", "--device=cpu", "--checkpoint=none", "--data", data, "--out", &out],
        &["search", "--device=cpu", "--index=none.npy", "--query=none.png"],
        &["pack", "--data", data, "--out", &out],
    ] {
        let mut command = command(arguments);
        command.arg("--threads=100000").current_dir(folder.path());
        assert_says(&error_of(command), &["100000 worker threads", "at most 1024", "--threads"]);
    }
    let mut command = command(&["eval", "--device=cpu", "--checkpoint=none"]);
    command.env("RAYON_NUM_THREADS", "100000");
    assert_says(&error_of(command), &["100000 worker threads"]);
    assert!(Cpu::new(Some(MAX_THREADS + 1)).is_err());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

//! The program as it is typed, within a time limit.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_xbm-fast");

/// Longer than anything here takes on a busy machine; only what hangs reaches it.
const PATIENCE: Duration = Duration::from_secs(120);

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// Absent where a signal ended it.
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ended {
    pub fn both(&self) -> String {
        format!("{}\n{}", self.out, self.err)
    }
}

/// The program with these arguments.
pub fn xbm(arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(arguments);
    command
}

/// A few steps of training on drawn products, with `flags` in the place of those of the same name.
pub fn tiny_training(out: &Path, flags: &[&str]) -> Command {
    const TINY: [&str; 15] = [
        "--data=synthetic:classes=12,views=4,size=24",
        "--image-size=16",
        "--dim=8",
        "--batch-size=8",
        "--samples-per-class=2",
        "--memory=cross-batch",
        "--memory-size=20",
        "--memory-start=1",
        "--optimizer=sgd",
        "--lr=0.01",
        "--steps=4",
        "--warmup=0",
        "--log-every=1",
        "--eval-every=4",
        "--threads=1",
    ];
    let name = |flag: &str| flag.split('=').next().unwrap_or_default().to_owned();
    let mut command = xbm(&["train"]);
    command.arg("--out").arg(out);
    command.args(TINY.iter().filter(|tiny| flags.iter().all(|flag| name(flag) != name(tiny)))).args(flags);
    command
}

/// Runs a command to its end, and fails if that does not come.
#[track_caller]
pub fn run(command: &mut Command) -> Ended {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let out = read_aside(child.stdout.take().unwrap());
    let err = read_aside(child.stderr.take().unwrap());
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if begun.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("{command:?} does not end; it said {}", err.join().unwrap());
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    Ended { code: status.code(), out: out.join().unwrap(), err: err.join().unwrap() }
}

/// The text of a pipe, read while the program writes.
fn read_aside(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Runs a command that must succeed.
#[track_caller]
pub fn succeed(command: &mut Command) -> Ended {
    let ended = run(command);
    assert_eq!(ended.code, Some(0), "{command:?}: {}", ended.both());
    ended
}

/// Runs a command that must fail in words, and returns these.
#[track_caller]
pub fn refused(command: &mut Command) -> String {
    let ended = run(command);
    assert_eq!(ended.code, Some(1), "{command:?}: {}", ended.both());
    assert!(ended.err.contains("error:"), "{command:?}: {}", ended.both());
    ended.err
}

#[track_caller]
pub fn assert_says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "expected `{word}` in: {text}");
    }
}

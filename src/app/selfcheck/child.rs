//! The checking process as the one that started it sees it.

use super::event::Event;
use crate::device::cuda::CudaOptions;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long a process that was killed is waited for. One that sits in the driver may never end; it is then left to itself.
const PATIENCE: Duration = Duration::from_secs(2);
/// Of what the process says besides, the end that is kept, in bytes.
const SAID_BYTES: usize = 4096;

/// A running check. Dropping it ends the process.
pub struct Child {
    process: std::process::Child,
    events: Receiver<Event>,
    said: Arc<Mutex<Vec<u8>>>,
}

/// What came of listening.
pub enum Heard {
    /// Something happened.
    Event(Event),
    /// The process has ended, in words how.
    Ended(String),
    /// Nothing happened for too long.
    Silence,
}

impl Child {
    /// Starts this program again, to check the GPU.
    ///
    /// # Errors
    /// What the system says.
    pub fn start(options: CudaOptions) -> std::io::Result<Self> {
        let mut process = Command::new(this_program()?)
            .args(["self-check", "--precision", options.precision.name(), "--pair-loss", options.pair_loss.name()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (sender, events) = channel();
        let said = Arc::new(Mutex::new(Vec::new()));
        if let Some(output) = process.stdout.take() {
            // What a library prints on its own account is no event.
            let events = BufReader::new(output).lines().map_while(Result::ok).filter_map(|line| serde_json::from_str(&line).ok());
            thread::spawn(move || {
                // Nobody listens any more where it cannot be sent.
                for event in events {
                    if sender.send(event).is_err() {
                        break;
                    }
                }
            });
        }
        if let Some(output) = process.stderr.take() {
            let said = said.clone();
            thread::spawn(move || collect(output, &said));
        }
        Ok(Self { process, events, said })
    }

    /// Lets it run the steps from this one on.
    pub fn go(&mut self, from: usize) {
        if let Some(input) = &mut self.process.stdin {
            // If it has ended, listening says so.
            let _ = writeln!(input, "{from}").and_then(|()| input.flush());
        }
    }

    /// What happens next, if it happens within the limit.
    pub fn hear(&mut self, limit: Duration) -> Heard {
        match self.events.recv_timeout(limit) {
            Ok(event) => Heard::Event(event),
            Err(RecvTimeoutError::Timeout) => Heard::Silence,
            Err(RecvTimeoutError::Disconnected) => Heard::Ended(self.ending()),
        }
    }

    /// The end of what it wrote to its standard error.
    pub fn said(&self) -> String {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&said).trim().to_owned()
    }

    fn ending(&mut self) -> String {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Ok(Some(status)) = self.process.try_wait() {
                return format!("the process that ran it ended with {status}");
            }
            thread::sleep(Duration::from_millis(5));
        }
        "the process that ran it fell silent".to_owned()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Where the process has ended already there is nothing to kill, and waiting takes it off the system's list.
        let _ = self.process.kill();
        self.ending();
    }
}

/// The running executable, also where its file has been replaced since.
fn this_program() -> std::io::Result<PathBuf> {
    if cfg!(target_os = "linux") { Ok(PathBuf::from("/proc/self/exe")) } else { std::env::current_exe() }
}

fn collect(mut output: impl Read, said: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 1024];
    while let Ok(bytes @ 1..) = output.read(&mut buffer) {
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        said.extend_from_slice(&buffer[..bytes]);
        let surplus = said.len().saturating_sub(SAID_BYTES);
        said.drain(..surplus);
    }
}

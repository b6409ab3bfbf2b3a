//! Signals that ask a run to stop: the first one asks, the second one ends. A signal that was ignored when the program started
//! (`nohup`, a shell's background job) stays ignored.

use crate::app::terminal::say;
use crate::error::{Error, Result};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::{Duration, Instant};

#[cfg(unix)]
#[path = "unix.rs"]
mod system;
#[cfg(windows)]
#[path = "windows.rs"]
mod system;

/// Signals so close together are one wish: a closed terminal hangs up twice, by the kernel and by the shell, and `timeout` sends its
/// signal to the process and to its group.
const ONE_WISH: Duration = Duration::from_millis(500);

/// Whether somebody asked to stop, and how.
pub(super) struct Interrupt {
    flag: Arc<AtomicBool>,
    signal: Arc<AtomicI32>,
}

impl Interrupt {
    /// Listens from now on; `unit` is what will be finished before the work stops.
    pub fn listen(unit: &'static str) -> Result<Self> {
        let (flag, signal) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI32::new(0)));
        let (asked, by) = (flag.clone(), signal.clone());
        let mut first: Option<Instant> = None;
        let heard = move |signal: i32| match first {
            None => {
                first = Some(Instant::now());
                by.store(signal, Ordering::Relaxed);
                asked.store(true, Ordering::Release);
                let words = system::words(signal, unit);
                // On a thread of its own: a terminal that is held up must not hold up the second signal.
                let _ = std::thread::Builder::new().spawn(move || say(words));
            }
            Some(first) if first.elapsed() < ONE_WISH => {}
            Some(_) => system::end(exit_code(signal)),
        };
        system::listen(heard).map_err(|error| Error::config(format!("cannot listen for signals: {error}")))?;
        Ok(Self { flag, signal })
    }

    /// Set once somebody has asked to stop.
    pub fn flag(&self) -> &AtomicBool {
        &self.flag
    }

    /// What shells report for the signal.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(exit_code(self.signal.load(Ordering::Relaxed)))
    }
}

fn exit_code(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

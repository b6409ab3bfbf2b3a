//! Standard output and standard error: nothing else in the crate writes there.
//!
//! Standard output carries results. A reader that has gone (`| head`) has seen enough, which is no error; a full disk is one. Standard
//! error carries what is said beside the work: progress, notes, the error at the end. No work depends on it, and nobody may be there any
//! more to read it, so what cannot be written is dropped.

mod bar;

pub use bar::Bar;

use crate::error::{Error, Result};
use serde::Serialize;
use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether anything was written to standard output.
static HOLDS_TEXT: AtomicBool = AtomicBool::new(false);

/// Writes text to standard output.
///
/// # Errors
/// [`Error::Io`] where it cannot be written, unless its reader has gone.
pub fn print(text: &str) -> Result<()> {
    HOLDS_TEXT.store(true, Ordering::Relaxed);
    printed(bar::aside(|| io::stdout().lock().write_all(text.as_bytes())))
}

/// Writes a value as JSON to standard output.
///
/// # Errors
/// As [`print()`].
///
/// # Panics
/// On a value that JSON cannot hold, such as a map whose keys are no strings.
pub fn print_json(value: &impl Serialize) -> Result<()> {
    print(&(serde_json::to_string_pretty(value).expect("numbers and strings") + "\n"))
}

/// Says a failure as JSON, for a program that reads standard output; nothing where that holds something already, so that all of it is one
/// value.
///
/// # Errors
/// As [`print()`].
pub fn print_failure(words: &str) -> Result<()> {
    if HOLDS_TEXT.load(Ordering::Relaxed) { Ok(()) } else { print_json(&serde_json::json!({ "error": words })) }
}

/// What came of writing to standard output, the last of it included.
///
/// # Errors
/// As [`print()`].
pub fn printed(written: io::Result<()>) -> Result<()> {
    match written.and_then(|()| io::stdout().lock().flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(Error::io("standard output")),
    }
}

/// Writes a line to standard error, if it can be written.
pub fn say(line: impl Display) {
    let line = format!("{line}\n");
    // What cannot be written has no reader.
    let _ = bar::aside(|| io::stderr().lock().write_all(line.as_bytes()));
}

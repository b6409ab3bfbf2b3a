//! Ctrl-C: the first one asks, the second one ends.

use crate::error::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Exit code of a run that was interrupted: what shells report for SIGINT.
pub(super) const EXIT_CODE: u8 = 130;

/// Set by the first Ctrl-C or SIGTERM; the second one ends the program at once.
pub(super) fn flag() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let shared = flag.clone();
    let handler = move || {
        if shared.swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(EXIT_CODE));
        }
        eprintln!("stopping after this step; press Ctrl-C again to stop at once");
    };
    ctrlc::set_handler(handler).map_err(|error| Error::config(format!("cannot listen for Ctrl-C: {error}")))?;
    Ok(flag)
}

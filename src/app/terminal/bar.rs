//! The progress bar: one line on a terminal, whatever its width, and nothing elsewhere.

use console::Term;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Columns from which the bar itself is drawn beside its numbers.
const WIDE: u16 = 72;

/// The bar that is on the terminal now: lines are written above it.
static SHOWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Progress through a known number of things, on standard error. It leaves no trace when it is dropped.
#[derive(Debug)]
pub struct Bar {
    bar: ProgressBar,
    wide: AtomicBool,
}

impl Bar {
    /// A bar of `total` things, the first `done` of which are behind; none where standard error is no terminal, or one that cannot move
    /// its cursor (`TERM=dumb`).
    pub fn new(total: u64, done: u64, message: &'static str) -> Option<Self> {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        if bar.is_hidden() {
            return None;
        }
        let wide = is_wide();
        let bar = bar.with_style(style(wide)).with_position(done).with_message(message);
        *shown() = Some(bar.clone());
        Some(Self { bar, wide: AtomicBool::new(wide) })
    }

    /// Another one is done.
    pub fn advance(&self) {
        let wide = is_wide();
        if self.wide.swap(wide, Ordering::Relaxed) != wide {
            self.bar.set_style(style(wide));
        }
        self.bar.inc(1);
    }

    /// What stands behind the numbers, as far as there is room.
    pub fn set_message(&self, words: String) {
        self.bar.set_message(words);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        *shown() = None;
    }
}

/// Does `write` while the bar is off the terminal.
pub(super) fn aside<R>(write: impl FnOnce() -> R) -> R {
    let bar = shown().clone();
    match bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

fn shown() -> MutexGuard<'static, Option<ProgressBar>> {
    SHOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_wide() -> bool {
    Term::stderr().size().1 >= WIDE
}

/// A message fills the rest of the line and is cut at its end, so that no width wraps it.
fn style(wide: bool) -> ProgressStyle {
    let numbers = "{pos}/{len} [{elapsed}<{eta}] {wide_msg}";
    let template = if wide { format!("{{bar:24}} {numbers}") } else { numbers.to_owned() };
    ProgressStyle::with_template(&template).expect("a valid template")
}

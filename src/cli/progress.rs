//! A bar on a terminal, nothing elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;

/// Progress through a known number of images, on stderr.
pub(super) struct Progress(Option<ProgressBar>);

impl Progress {
    pub fn new(images: usize) -> Self {
        Self(std::io::stderr().is_terminal().then(|| {
            let template = "{bar:24} {pos}/{len} images [{elapsed}<{eta}] {per_sec}";
            let style = ProgressStyle::with_template(template).expect("a valid template");
            ProgressBar::with_draw_target(Some(images as u64), ProgressDrawTarget::stderr()).with_style(style)
        }))
    }

    pub fn advance(&self) {
        if let Some(bar) = &self.0 {
            bar.inc(1);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

//! Flags of the commands that embed a data set's images.

use crate::app::data::loader::DEFAULT_MAX_UNREADABLE;
use crate::app::embed::EmbedOptions;
use crate::error::{Error, Result};
use clap::Args;

/// How images are embedded.
#[derive(Debug, Args)]
pub struct EmbedFlags {
    /// Images embedded at a time
    #[arg(long, default_value_t = 64)]
    pub batch_size: usize,
    /// Largest share of images that may be unreadable; they are left out and listed
    #[arg(long, value_name = "SHARE", default_value_t = DEFAULT_MAX_UNREADABLE)]
    pub max_unreadable: f32,
}

impl EmbedFlags {
    /// The flags, checked.
    ///
    /// # Errors
    /// [`Error::Config`] on a batch of no images and a share that is none.
    pub fn options(&self) -> Result<EmbedOptions> {
        if self.batch_size == 0 {
            return Err(Error::config("--batch-size must be at least 1, found 0"));
        }
        check_share("--max-unreadable", self.max_unreadable)?;
        Ok(EmbedOptions { batch_size: self.batch_size, max_unreadable: f64::from(self.max_unreadable) })
    }
}

/// Fails unless the value of a flag lies in `[0, 1]`.
///
/// # Errors
/// [`Error::Config`] with the flag and its value.
pub(super) fn check_share(flag: &str, share: f32) -> Result<()> {
    if (0.0..=1.0).contains(&share) { Ok(()) } else { Err(Error::config(format!("{flag} must be in [0, 1], found {share}"))) }
}

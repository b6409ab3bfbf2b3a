//! Which images form a batch.

use crate::app::data::Sampling;
use crate::error::{Error, Result};
use crate::settings::Range::AtLeast;
use crate::settings::settings;

settings! {
    /// Which images form a batch.
    pub struct SamplingSettings in "Batch" {
        /// Times that as many images are drawn as there are to train on, in the place of --steps; 0 counts in steps.
        "epochs" => epochs: u64 = 0, unit("TIMES");
        /// Images of each class in a batch.
        "samples_per_class" => samples_per_class: usize = 4, unit("IMAGES"), within(AtLeast(1.0));
        /// The order of the classes: epochs visits all before any comes again, independent draws each batch anew.
        "sampling" => order: Sampling = Sampling::Epochs, unit("ORDER");
    }
}

impl SamplingSettings {
    pub(super) fn check(&self, batch_size: usize) -> Result<()> {
        self.check_ranges().map_err(Error::config)?;
        let samples_per_class = self.samples_per_class;
        if batch_size.is_multiple_of(samples_per_class) {
            return Ok(());
        }
        let below = (batch_size / samples_per_class).max(1).saturating_mul(samples_per_class);
        Err(Error::config(format!(
            "--batch-size {batch_size} is not a multiple of --samples-per-class {samples_per_class}; the nearest that are: {below} and {}",
            below.saturating_add(samples_per_class)
        )))
    }
}

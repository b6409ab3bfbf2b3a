//! Flags that choose the test classes of data without a split of its own.

use crate::app::data::{Dataset, OpenOptions};
use crate::app::terminal::say;
use clap::Args;

/// Which classes are held out.
#[derive(Debug, Args)]
pub struct SplitFlags {
    /// Share of the classes held out for testing, where the data has no split of its own [default: 0.5]
    #[arg(long, value_name = "SHARE")]
    pub holdout: Option<f32>,
    /// Seed of the held-out classes [default: 0]
    #[arg(long)]
    pub seed: Option<u64>,
}

impl SplitFlags {
    /// How the data is opened.
    pub fn options(&self) -> OpenOptions {
        let defaults = OpenOptions::default();
        OpenOptions {
            holdout: self.holdout.map_or(defaults.holdout, f64::from),
            seed: self.seed.unwrap_or(defaults.seed),
            ..defaults
        }
    }

    /// Says which of the flags choose nothing in this data set.
    pub fn say_if_idle(&self, dataset: &Dataset) {
        let given = [("--holdout", self.holdout.is_some()), ("--seed", self.seed.is_some())];
        for (flag, _) in given.into_iter().filter(|(_, given)| *given && !dataset.split_is_drawn) {
            say(format_args!("note      {flag} has no effect: {} has a split of its own", dataset.name));
        }
    }
}

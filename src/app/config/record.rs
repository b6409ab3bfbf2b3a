//! What a run writes, where, and how often.

use crate::settings::Range::AtLeast;
use crate::settings::settings;
use std::path::PathBuf;

settings! {
    /// What a run writes.
    pub struct RecordSettings in "Record" {
        /// Folder of the run.
        "out" => out: PathBuf = PathBuf::new(), unit("DIR"), empty("the next free runs/NNN");
        /// Steps between two lines of the log.
        "log_every" => log_every: u64 = 10, unit("STEPS"), within(AtLeast(1.0));
        /// Steps between two evaluations; 0 evaluates only at the end.
        "eval_every" => eval_every: u64 = 100, unit("STEPS");
        /// Steps between two checkpoints; 0 keeps only the last.
        "checkpoint_every" => checkpoint_every: u64 = 200, unit("STEPS");
        /// Checkpoints kept beside the best model.
        "keep_checkpoints" => keep_checkpoints: usize = 2, unit("COUNT");
    }
}

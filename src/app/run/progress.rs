//! What a run knows beside its tensors: the program's record in a checkpoint.

use crate::app::data::Provenance;
use crate::app::window::Window;
use crate::checkpoint::Record;
use crate::error::{Error, Result};
use crate::train::schedule::Plateau;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What a run knows beside its tensors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Recall@1 on the test images before the first step; 0 where nothing is scored.
    pub initial_recall_at_1: f64,
    /// Best Recall@1 so far, and its step.
    pub best: Option<(f64, u64)>,
    /// State of the plateau schedule.
    pub plateau: Plateau,
    /// Seconds of training so far. Not part of a checkpoint, so that equal runs write equal files: the run's folder notes them beside
    /// it. Checkpoints of earlier versions hold them.
    #[serde(default, skip_serializing)]
    pub seconds: f64,
    /// Steps taken since the last line of the log.
    pub window: Window,
    /// The run's data; unknown in checkpoints of earlier versions.
    #[serde(skip)]
    pub provenance: Option<Provenance>,
}

impl Progress {
    /// For a checkpoint.
    pub fn to_record(&self) -> Record {
        let progress = serde_json::to_value(self).expect("names and numbers are plain values");
        Record { progress, trained_on: self.provenance.as_ref().map(Provenance::to_value) }
    }

    /// Of a checkpoint at `path`, which is for messages.
    ///
    /// # Errors
    /// [`Error::Data`] if it is not what [`Progress::to_record`] gives.
    pub fn from_record(record: Record, path: &Path) -> Result<Self> {
        let progress: Self =
            serde_json::from_value(record.progress).map_err(|error| Error::data(path, format!("damaged header: {error}")))?;
        Ok(Self { provenance: Provenance::from_value(record.trained_on, path)?, ..progress })
    }
}

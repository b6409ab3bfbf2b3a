//! How a step of the check can fail.

use serde::{Deserialize, Serialize};

/// Why a step failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// The step.
    pub step: String,
    /// The kind.
    pub kind: FailureKind,
    /// In words.
    pub words: String,
    /// What the checking process wrote to its standard error, if it did not come to its own words.
    #[serde(default)]
    pub said: String,
}

/// How a step can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// Its numbers are wrong.
    Wrong,
    /// The driver or a library reported an error. It may be due to what another process does on the GPU, so it is not kept.
    Refused,
    /// The process ended in the middle of it.
    Crashed,
    /// It did not come to an end.
    TimedOut,
}

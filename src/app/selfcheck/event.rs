//! What the checking process tells the one that started it: one line of JSON each.

use super::Machine;
use super::cache::Identity;
use super::compare::Comparison;
use super::failure::Failure;
use serde::{Deserialize, Serialize};

/// Something happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// A step begins.
    Begun {
        /// Its name.
        step: String,
        /// Which part of it, where it has parts with a time limit of their own.
        part: Option<String>,
    },
    /// The machine was looked at. Nothing else happens until the listener asks for it.
    Found {
        /// What it has.
        machine: Machine,
        /// What an outcome is kept under.
        identity: Identity,
        /// Why there is nothing to check, in one sentence with what to do.
        obstacle: Option<String>,
    },
    /// A step is over.
    Ran(Ran),
    /// No step failed.
    Finished,
}

/// A step that was run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ran {
    /// Its name.
    pub step: String,
    /// What was compared.
    pub comparisons: Vec<Comparison>,
    /// How long it took.
    pub seconds: f64,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
}

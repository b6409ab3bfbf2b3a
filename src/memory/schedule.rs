//! When the memory takes part in the loss.

use serde::{Deserialize, Serialize};

/// When the memory takes part in the loss: not before `start`, then with a weight that rises linearly over `ramp` steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemorySchedule {
    /// First step of the memory.
    pub start: u64,
    /// Steps from weight 0 to the full weight; 0 for the full weight at once.
    pub ramp: u64,
    /// Full weight of the memory's loss.
    pub weight: f32,
}

impl MemorySchedule {
    /// Weight of the memory's loss at a step.
    pub fn weight_at(&self, step: u64) -> f32 {
        match step.checked_sub(self.start) {
            None => 0.0,
            Some(since) if since < self.ramp => self.weight * (since as f64 / self.ramp as f64) as f32,
            Some(_) => self.weight,
        }
    }
}

//! Settings that change nothing beside the others: whoever gives one is told.

use super::{MemoryKind, ScheduleKind, TrainConfig};
use crate::ops::optimizer::Rule;

/// Settings, the one that makes them of use, and whether it does.
type Need = (&'static [&'static str], &'static str, fn(&TrainConfig) -> bool);

const NEEDS: [Need; 8] = [
    (
        &["memory_precision", "memory_start", "memory_ramp", "memory_weight", "memory_enqueue", "memory_own", "memory_max_drift"],
        "memory",
        |config| config.memory != MemoryKind::None,
    ),
    (&["memory_size"], "memory", |config| matches!(config.memory, MemoryKind::CrossBatch | MemoryKind::Momentum)),
    (&["memory_average"], "memory", |config| matches!(config.memory, MemoryKind::Instance | MemoryKind::Prototype)),
    (&["momentum"], "memory", |config| config.memory == MemoryKind::Momentum),
    (&["schedule_steps"], "schedule", |config| config.schedule == ScheduleKind::Step),
    (&["schedule_patience"], "schedule", |config| config.schedule == ScheduleKind::Plateau),
    (&["schedule_factor"], "schedule", |config| matches!(config.schedule, ScheduleKind::Step | ScheduleKind::Plateau)),
    (&["beta2"], "optimizer", |config| config.optimizer != Rule::Sgd),
];

impl TrainConfig {
    /// A sentence for each of the given settings that has no effect beside the others, and for a memory that comes too late.
    pub fn idle(&self, given: &toml::Table) -> Vec<String> {
        let settings = toml::Table::try_from(self).expect("settings are plain values");
        let sentence = |name: &str, other: &str| {
            let value = settings[other].as_str().unwrap_or_default();
            format!("--{} has no effect with --{other} {value}", name.replace('_', "-"))
        };
        let idle = NEEDS.iter().filter(|(_, _, useful)| !useful(self));
        let named = idle.flat_map(|(names, other, _)| names.iter().map(move |name| (*name, *other)));
        let mut sentences: Vec<String> =
            named.filter(|(name, _)| given.contains_key(*name)).map(|(name, other)| sentence(name, other)).collect();
        if self.memory != MemoryKind::None && self.memory_start >= self.steps {
            sentences.push(format!(
                "the memory is never used: it starts at --memory-start {}, after --steps {}",
                self.memory_start, self.steps
            ));
        }
        sentences
    }
}

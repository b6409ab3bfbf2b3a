//! Settings that change nothing beside the others: whoever gives one is told.

use super::{TrainConfig, settings};
use crate::memory::MemoryKind;

impl TrainConfig {
    /// A sentence for each of the given settings that has no effect beside the others.
    pub fn idle(&self, given: &toml::Table) -> Vec<String> {
        let values = toml::Table::try_from(self).expect("settings are plain values");
        let mut sentences = Vec::new();
        for setting in settings().iter().filter(|setting| given.contains_key(setting.key)) {
            let Some((other, useful)) = setting.needs else { continue };
            let value = values[other].as_str().unwrap_or_default();
            if !useful.contains(&value) {
                sentences.push(format!("--{} has no effect with --{other} {value}", setting.flag()));
            }
        }
        sentences
    }

    /// That the memory comes too late, if it does.
    pub fn late_memory(&self) -> Option<String> {
        let (memory, steps) = (&self.train.memory, self.train.batch.steps);
        let is_late = memory.kind != MemoryKind::None && memory.start >= steps;
        let start = memory.start;
        is_late.then(|| format!("the memory is never used: it starts at --memory-start {start}, after --steps {steps}"))
    }
}

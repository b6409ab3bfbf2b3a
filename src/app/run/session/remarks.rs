//! What a run has to say beside its figures: notes, warnings, and what to do where it cannot go on.

use super::Run;
use crate::app::runlog::StepMetrics;
use crate::error::Error;
use crate::evaluate::COLLAPSED;
use crate::memory::MemoryKind;
use crate::ops::Backend;
use crate::words::quoted;

impl<B: Backend> Run<'_, B> {
    pub(in crate::app::run) fn note(&mut self, words: String) {
        self.console.say(&format!("note      {words}"));
        self.notes.push(words);
    }

    pub(super) fn warn_of_collapse(&mut self, metrics: &StepMetrics) {
        let similarity = metrics.mean_similarity.unwrap_or(0.0);
        let warned = self.notes.iter().any(|note| note.starts_with("collapse"));
        if similarity > COLLAPSED && !warned {
            let memory = match self.config.train.memory.kind {
                MemoryKind::None => "",
                _ => ", a later --memory-start, a --memory-ramp or a smaller --memory-weight",
            };
            self.note(format!(
                "collapse: at step {} the mean similarity of two images is {similarity:.2}, the network maps nearly everything to one \
                 point; try a smaller --lr{memory}",
                metrics.step
            ));
        }
    }

    pub(super) fn warn_of_zero_rows(&mut self, metrics: &StepMetrics) {
        let Some(rows) = metrics.zero_rows else { return };
        if !self.notes.iter().any(|note| note.starts_with("zero rows")) {
            self.note(format!(
                "zero rows: up to step {} the network gave {rows} embeddings of length 0, which are like nothing and get no gradient; \
                 try a smaller --lr or --weight-decay (metrics.jsonl counts them as zero_rows)",
                metrics.step
            ));
        }
    }

    /// What to do about a loss or an embedding that is not finite.
    pub(super) fn explain(&self, error: Error, step: u64) -> Error {
        let (untrained, words) = match error {
            Error::NotFinite { .. } => (self.learner.state().step == 0, format!("stopped at step {step}: {error}")),
            Error::Diverged { step, .. } => (step == 1, error.to_string()),
            other => return other,
        };
        if untrained {
            let advice = "no weight was changed yet, so look at --weighting, --positive and --negative, and at --pretrained";
            return Error::Training(format!("{words}; {advice}"));
        }
        let calmer = format!("a smaller --lr than {:?}", self.config.train.optimizer.lr);
        let advice = match self.folder.last_checkpoint() {
            Ok(Some(path)) => format!(
                "the last good checkpoint is {}; go on from it by `xbm-fast train --resume {}` with {calmer}",
                path.display(),
                quoted(&self.folder.root().to_string_lossy())
            ),
            _ => format!("there is no checkpoint yet; start again with {calmer}"),
        };
        Error::Training(format!("{words}; {advice}"))
    }
}

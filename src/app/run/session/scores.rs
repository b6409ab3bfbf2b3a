//! What a run is scored on, when, and which checkpoint is the best.

use super::Run;
use crate::app::data::Provenance;
use crate::app::run::{TestResult, TestSet};
use crate::app::runlog::{StepMetrics, Validated};
use crate::checkpoint::{self, Model};
use crate::error::Result;
use crate::ops::Backend;
use std::collections::BTreeSet;
use std::time::Instant;

impl<B: Backend> Run<'_, B> {
    /// What the best checkpoint is chosen on: the validation images, or else the test images; empty where nothing is scored.
    pub(super) fn selecting(&self) -> &TestSet {
        if self.validation.is_empty() { &self.test } else { &self.validation }
    }

    /// Scores the network that training began with, if that was not done yet: after the first step, which shows at once that training
    /// works and need not wait until every test image is embedded, and before anything is recorded.
    pub(super) fn score_untrained(&mut self) -> Result<()> {
        let Some(weights) = self.untrained.take() else { return Ok(()) };
        let mut recall = None;
        for set in [&self.test, &self.validation] {
            if set.is_empty() {
                continue;
            }
            let (is_test, begun) = (std::ptr::eq(set, &self.test), Instant::now());
            let scored = set.score(self.backend, self.learner.network_and_encoder().0, &weights);
            let found = scored.map_err(|error| self.explain(error, 0))?.scores.recall_at(1).unwrap_or(0.0);
            self.estimate.evaluated(begun.elapsed(), set.len());
            recall = Some(found);
            if is_test {
                self.progress.initial_recall_at_1 = found;
                self.console.say(&format!("untrained {}: {:.1} %", self.leakage.classes.headline(), 100.0 * found));
            }
        }
        self.record(&StepMetrics { step: 0, recall_at_1: recall, ..StepMetrics::default() })
    }

    /// Scores the encoder as it is now, and keeps it if it is the best so far, or if nothing tells a better one.
    pub(super) fn evaluate(&mut self, metrics: &mut StepMetrics) -> Result<()> {
        if self.selecting().is_empty() {
            return self.save_best();
        }
        let result = self.score_now()?;
        let recall = result.scores.recall_at(1).unwrap_or(0.0);
        metrics.recall_at_1 = Some(recall);
        metrics.map_at_r = Some(result.scores.map_at_r);
        self.schedule.observe(recall);
        if !self.validation.is_empty() {
            self.unvalidated = result.unreadable().cloned().collect();
        }
        if self.progress.best.is_none_or(|(best, _)| recall > best) {
            self.progress.best = Some((recall, self.learner.state().step));
            self.save_best()?;
        }
        Ok(())
    }

    /// Scores the encoder as it is now on what the best checkpoint is chosen on.
    fn score_now(&mut self) -> Result<TestResult> {
        let set = if self.validation.is_empty() { &self.test } else { &self.validation };
        let begun = Instant::now();
        let (network, encoder) = self.learner.network_and_encoder();
        let scored = set.score(self.backend, network, encoder);
        self.estimate.evaluated(begun.elapsed(), set.len());
        scored.map_err(|error| self.explain(error, self.learner.state().step))
    }

    /// The scores that are reported: of the last step, or of the checkpoint that the validation classes chose. `None` without test images.
    pub(super) fn final_scores(&mut self) -> Result<Option<(TestResult, Option<Validated>)>> {
        if self.test.is_empty() {
            return Ok(None);
        }
        let best = self.progress.best.filter(|_| !self.validation.is_empty() && self.folder.best().is_file());
        let scored = match best {
            Some((recall_at_1, step)) => {
                let Model { weights, .. } = checkpoint::load_model(self.backend, &self.folder.best())?;
                let validated = Validated { classes: self.validation_classes(), step, recall_at_1 };
                let network = self.learner.network_and_encoder().0;
                self.test.score(self.backend, network, &weights).map(|result| (result, Some(validated)))
            }
            None => {
                let (network, encoder) = self.learner.network_and_encoder();
                self.test.score(self.backend, network, encoder).map(|result| (result, None))
            }
        };
        scored.map(Some).map_err(|error| self.explain(error, self.learner.state().step))
    }

    fn validation_classes(&self) -> usize {
        self.dataset.labels(self.validation.queries()).into_iter().collect::<BTreeSet<i32>>().len()
    }

    /// On the first rank; the others go on when it is written, for they may read it.
    fn save_best(&mut self) -> Result<()> {
        let trained_on = self.provenance()?.as_ref().map(Provenance::to_value);
        let group = self.backend.group();
        if group.is_first() {
            let (path, weights) = (self.folder.best(), self.learner.state().encoder());
            checkpoint::save_trained_model(self.backend, &path, &self.config.train, weights, trained_on)?;
        }
        group.any("that the best model is written", false).map(|_| ())
    }
}

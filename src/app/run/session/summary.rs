//! The end of a run: the last scores, what of the test was not new, the summary and the report.

use super::Run;
use crate::app::data::Provenance;
use crate::app::report::{self, Note, Report, Score};
use crate::app::run::leakage::{self, Leakage};
use crate::app::run::{Ending, TestResult, ranks, report_data};
use crate::app::runlog::{Summary, read_metrics};
use crate::error::Result;
use crate::files::write_atomically;
use crate::ops::Backend;
use std::io::Write;

impl<B: Backend> Run<'_, B> {
    pub(super) fn finish(mut self) -> Result<Ending> {
        let result = self.score()?;
        self.console.finish();
        self.seen.join(self.backend.group())?;
        let unreadable = ranks::joined(self.backend.group(), "the images that cannot be read", self.loader.unreadable())?;
        for (index, reason) in unreadable.into_iter().chain(result.unreadable().cloned()) {
            let (place, reason) = self.dataset.fault(index, &reason);
            self.note(format!("left out {place}: {reason}"));
        }
        if let Some(words) = self.dataset.first_frames() {
            self.note(words);
        }
        self.look_for_leakage(&result);
        let scores = &result.scores;
        let steps = self.learner.state().step;
        let summary = Summary {
            recall_at_1: scores.recall_at(1).unwrap_or(0.0),
            recall_at_10: scores.recall_at(10),
            map_at_r: scores.map_at_r,
            r_precision: scores.r_precision,
            initial_recall_at_1: self.progress.initial_recall_at_1,
            steps,
            seconds: self.progress.seconds,
            images_per_second: steps as f64 * self.config.train.batch.size as f64 / self.progress.seconds.max(1e-9),
            device: self.backend.description(),
            seed: self.config.train.execution.seed,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            data: self.dataset.name.clone(),
            images: self.progress.provenance.as_ref().map(Provenance::listing).transpose()?.map(|listing| listing.fingerprint()),
            classes: self.leakage.classes,
            copies: self.leakage.copies.clone(),
        };
        let mut unreported = None;
        if self.backend.group().is_first() {
            summary.write(self.folder.root())?;
            unreported = self.write_report(&result).err().map(|error| error.to_string());
        }
        Ok(Ending::Finished(Box::new(summary), self.folder, unreported))
    }

    /// By what the images show, as far as they were decoded; says what files had not told.
    fn look_for_leakage(&mut self, result: &TestResult) {
        self.same.add(self.seen.images().chain(result.contents()));
        let trained = leakage::trained_classes(&self.dataset);
        let mut found = Leakage::of_result((&self.dataset, &self.same), result, Some(&trained), self.seen.contents());
        if self.config.data.same_set {
            found.leave_out_copies();
        }
        for copies in &found.copies {
            if !self.leakage.copies.contains(copies) {
                self.console.say(&format!("note      {copies}"));
            }
            self.notes.push(copies.to_string());
        }
        self.leakage = found;
    }

    fn write_report(&self, result: &TestResult) -> Result<()> {
        let before = self.progress.initial_recall_at_1;
        let after = result.scores.recall_at(1).unwrap_or(0.0);
        let mut notes: Vec<Note> = self.notes.iter().cloned().map(Note::Warning).collect();
        if let Some((recall, step)) = self.progress.best {
            notes.push(Note::Information(format!(
                "Best Recall@1 {:.1} % at step {step}: checkpoints/best.safetensors",
                100.0 * recall
            )));
        }
        let report = Report {
            title: format!("Retrieval on {}", self.dataset.name),
            subtitle: report_data::subtitle(&self.config, &self.backend.description()),
            headline: Some(Score { name: self.leakage.classes.headline(), before: Some(before), after }),
            scores: report_data::scores(result, before),
            settings: report_data::settings(&self.config),
            steps: read_metrics(self.folder.root())?,
            weights: Some(report_data::weight_curves(&self.config, result)),
            galleries: report_data::galleries(self.backend, &self.dataset, result, self.config.train.execution.seed)?,
            notes,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        write_atomically(self.folder.report(), |file| file.write_all(report::render(&report).as_bytes()))
    }
}

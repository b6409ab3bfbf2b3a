//! The end of a run: the last scores, what of the test was not new, the summary and the report.

use super::Run;
use crate::app::data::Provenance;
use crate::app::report::{self, Note, Report, Score};
use crate::app::run::leakage::{self, Leakage};
use crate::app::run::{Ending, TestResult, ranks, report_data};
use crate::app::runlog::{Summary, Validated, read_metrics};
use crate::error::Result;
use crate::files::write_atomically;
use crate::ops::Backend;
use crate::words::counted;
use std::io::Write;

impl<B: Backend> Run<'_, B> {
    pub(super) fn finish(mut self) -> Result<Ending> {
        let scored = self.final_scores()?;
        let (result, validation) = scored.map_or((None, None), |(result, validated)| (Some(result), validated));
        self.console.finish();
        self.seen.join(self.backend.group())?;
        let mut unreadable = ranks::joined(self.backend.group(), "the images that cannot be read", self.loader.unreadable())?;
        unreadable.extend(self.unvalidated.iter().chain(result.iter().flat_map(TestResult::unreadable)).cloned());
        for (index, reason) in unreadable {
            let (place, reason) = self.dataset.fault(index, &reason);
            self.note(format!("left out {place}: {reason}"));
        }
        if let Some(words) = self.dataset.first_frames() {
            self.note(words);
        }
        if let Some(result) = &result {
            self.look_for_leakage(result);
        }
        let scores = result.as_ref().map(|result| &result.scores);
        let steps = self.learner.state().step;
        let summary = Summary {
            recall_at_1: scores.map(|scores| scores.recall_at(1).unwrap_or(0.0)),
            recall_at_10: scores.and_then(|scores| scores.recall_at(10)),
            map_at_r: scores.map(|scores| scores.map_at_r),
            r_precision: scores.map(|scores| scores.r_precision),
            initial_recall_at_1: scores.map(|_| self.progress.initial_recall_at_1),
            validation,
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
            unreported = self.write_report(result.as_ref(), validation).err().map(|error| error.to_string());
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

    fn write_report(&self, result: Option<&TestResult>, validation: Option<Validated>) -> Result<()> {
        let before = self.progress.initial_recall_at_1;
        let mut notes: Vec<Note> = self.notes.iter().cloned().map(Note::Warning).collect();
        notes.extend(self.words_of_best(validation).map(Note::Information));
        let seed = self.config.train.execution.seed;
        let report = Report {
            title: format!("Retrieval on {}", self.dataset.name),
            subtitle: report_data::subtitle(&self.config, &self.backend.description()),
            headline: result.map(|result| Score {
                name: self.leakage.classes.headline(),
                before: Some(before),
                after: result.scores.recall_at(1).unwrap_or(0.0),
            }),
            scores: result.map_or(Vec::new(), |result| report_data::scores(result, before)),
            settings: report_data::settings(&self.config),
            steps: read_metrics(self.folder.root())?,
            weights: Some(report_data::weight_curves(&self.config, result)),
            galleries: match result {
                Some(result) => report_data::galleries(self.backend, &self.dataset, result, seed)?,
                None => Vec::new(),
            },
            notes,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        write_atomically(self.folder.report(), |file| file.write_all(report::render(&report).as_bytes()))
    }

    /// Which checkpoint is the best, on what, and what the scores are of.
    fn words_of_best(&self, validation: Option<Validated>) -> Option<String> {
        let (recall, step) = self.progress.best?;
        let best = format!("Best Recall@1 {:.1} %", 100.0 * recall);
        Some(match validation {
            Some(Validated { classes, .. }) => format!(
                "{best} on {} at step {step}: checkpoints/best.safetensors. The scores are that checkpoint's on the test images, which \
                 had no part in the choice; the curve of Recall@1 is of the validation classes.",
                counted(classes, "validation class")
            ),
            None => format!(
                "{best} at step {step}: checkpoints/best.safetensors. It was chosen on the images that are scored, which flatters it; \
                 the scores are the last step's. --validation 0.1 keeps classes to choose by."
            ),
        })
    }
}

//! Scores a trained model on a data set's test images.

use super::leakage::Leakage;
use super::model_data::{DataRequest, ModelData};
use super::near::NearDuplicates;
use super::scoring::{TestResult, TestSet};
use crate::app::data::{Copies, Dataset, Provenance, SameImages, TestClasses};
use crate::app::embed::EmbedOptions;
use crate::checkpoint::{self, Model, NetworkHeader};
use crate::error::Result;
use crate::evaluate::Scores;
use crate::files::{output, write_atomically};
use crate::model::{Network, plan::Purpose};
use crate::ops::Backend;
use crate::words::counted;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Everything there is to say about a model on a data set; as JSON, what `eval --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EvalReport {
    /// The model or checkpoint.
    pub checkpoint: PathBuf,
    /// Its network.
    pub network: NetworkHeader,
    /// SPEC of the data set.
    pub data: String,
    /// Who searches what.
    pub protocol: &'static str,
    /// Images that were searched.
    pub gallery: usize,
    /// Means over the queries.
    #[serde(flatten)]
    pub scores: Scores,
    /// Means over the classes, each counting once.
    pub class_means: Scores,
    /// Classes with a query that counts.
    pub classes: usize,
    /// How many of the test classes are new to the model.
    #[serde(flatten)]
    pub novelty: TestClasses,
    /// The same pictures in more than one place, where that misleads.
    pub copies: Vec<Copies>,
    /// Pictures that the model hardly tells apart, where they were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub near_duplicates: Vec<NearDuplicates>,
    /// What to know about the data.
    pub notes: Vec<String>,
    /// Images that could not be read and were left out, with the reason.
    pub unreadable: Vec<(String, String)>,
    /// Scores of each class, by name.
    #[serde(skip)]
    pub per_class: Vec<(String, Scores)>,
}

/// How to score.
#[derive(Clone, Copy, Debug)]
pub struct EvalOptions {
    /// How images are embedded.
    pub embedding: EmbedOptions,
    /// Queries and gallery are one set of pictures: none finds itself.
    pub same_set: bool,
    /// Look for pairs of at least this similarity.
    pub near_duplicates: Option<f32>,
}

/// Embeds the test images of the data that is asked for, by default those of the run that made the model or checkpoint at `path`,
/// and scores them.
///
/// # Errors
/// A file or a data set that cannot be read, one without test images, and what the device reports.
pub fn eval<B: Backend>(backend: &B, path: &Path, request: DataRequest<'_>, options: &EvalOptions) -> Result<EvalReport> {
    let Model { network, weights, trained_on } = checkpoint::load_model(backend, path)?;
    let provenance = Provenance::from_value(trained_on, path)?;
    let data = ModelData::open(request, provenance.as_ref())?;
    if data.test_set_is_empty() {
        return Err(data.without_test_images());
    }
    let (dataset, mut notes) = (Arc::new(data.dataset), data.notes);
    let test = TestSet::new(&dataset, options.embedding.loading()).same_set(options.same_set);
    let mut runner = Network::new(backend, network.architecture()?, options.embedding.batch_size.max(1), Purpose::Inference)?;
    let result = test.score(backend, &mut runner, &weights)?;
    let near_duplicates = match options.near_duplicates {
        Some(threshold) => {
            NearDuplicates::find(backend, (&mut runner, &weights), &dataset, &result, (threshold, &options.embedding.loading()))?
        }
        None => Vec::new(),
    };
    let ks: Vec<usize> = result.scores.recall.iter().map(|&(k, _)| k).collect();
    let named = |(label, scores): (i32, Scores)| (dataset.classes[label as usize].clone(), scores);
    let per_class: Vec<(String, Scores)> = result.evaluation.per_class(&ks).into_iter().map(named).collect();
    let unreadable = result.unreadable().map(|(image, reason)| dataset.fault(*image, reason));
    let mut leakage = leakage(&dataset, &result, provenance.as_ref())?;
    if options.same_set {
        leakage.leave_out_copies();
        notes.push(format!("{} copies of queries and of gallery images were left out", result.left_out()));
    }
    Ok(EvalReport {
        checkpoint: path.to_owned(),
        network,
        data: dataset.name.clone(),
        protocol: if result.is_all_against_all() { "all against all" } else { "queries against gallery" },
        gallery: result.gallery().images.len(),
        class_means: result.evaluation.class_means(&ks),
        classes: per_class.len(),
        novelty: leakage.classes,
        copies: leakage.copies,
        near_duplicates,
        notes,
        unreadable: unreadable.collect(),
        per_class,
        scores: result.scores,
    })
}

/// How the table of the classes' scores begins.
const TABLE_HEADER: [&str; 2] = ["class", "queries"];

/// What of the test is not new to the model.
fn leakage(dataset: &Dataset, result: &TestResult, provenance: Option<&Provenance>) -> Result<Leakage> {
    let mut same = SameImages::by_files(dataset);
    same.add(result.contents());
    let Some(provenance) = provenance else {
        return Ok(Leakage::of_result((dataset, &same), result, None, &BTreeSet::new()));
    };
    let trained = if provenance.is_about(dataset)? { provenance.trained_classes()? } else { BTreeSet::new() };
    Ok(Leakage::of_result((dataset, &same), result, Some(&trained), &provenance.seen()?))
}

impl EvalReport {
    /// Whether a file is a table of classes' scores.
    pub fn is_table(path: &Path) -> bool {
        let start = TABLE_HEADER.join(",") + ",recall_at_";
        output::head(path, start.len() as u64) == start.as_bytes()
    }

    /// What to know before believing the scores.
    pub fn remarks(&self) -> Vec<String> {
        let copies = self.copies.iter().map(ToString::to_string);
        self.notes.iter().cloned().chain(copies).chain(self.near_duplicates.iter().map(ToString::to_string)).collect()
    }

    /// Which data, what is new in it, and the table of scores.
    pub fn words(&self) -> String {
        let TestClasses { test_classes, trained_on } = self.novelty;
        let new = match trained_on {
            None => String::new(),
            Some(0) => ", none of them trained on".to_owned(),
            Some(some) => format!(", {some} of them trained on"),
        };
        format!("{}: {}{new}\n{}", self.data, counted(test_classes, "test class"), self.scores)
    }

    /// Writes a table of the classes' scores.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if it cannot be written.
    pub fn write_per_class(&self, path: &Path) -> Result<()> {
        write_atomically(path, |file| {
            let mut table = csv::Writer::from_writer(file);
            let recall = self.scores.recall.iter().map(|(k, _)| format!("recall_at_{k}"));
            let header = TABLE_HEADER.map(str::to_owned).into_iter().chain(recall);
            let header = header.chain(["map_at_r", "r_precision", "mean_reciprocal_rank"].map(str::to_owned));
            table.write_record(header.collect::<Vec<_>>())?;
            for (class, scores) in &self.per_class {
                let recall = scores.recall.iter().map(|(_, recall)| *recall);
                let numbers = recall.chain([scores.map_at_r, scores.r_precision, scores.mean_reciprocal_rank]);
                let start = [class.clone(), scores.queries.to_string()];
                table.write_record(start.into_iter().chain(numbers.map(|number| number.to_string())))?;
            }
            table.flush()
        })
    }
}

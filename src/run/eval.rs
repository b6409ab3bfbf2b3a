//! Scores a trained model on a data set's test images.

use super::scoring::{TestSet, no_test_images};
use crate::backbone::{Network, plan::Purpose};
use crate::checkpoint::{self, NetworkHeader};
use crate::data::{Dataset, OpenOptions};
use crate::embed::EmbedOptions;
use crate::error::Result;
use crate::evaluate::Scores;
use crate::files::{output, write_atomically};
use crate::ops::Backend;
use serde::Serialize;
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
    /// Images that could not be read and were left out, with the reason.
    pub unreadable: Vec<(String, String)>,
    /// Scores of each class, by name.
    #[serde(skip)]
    pub per_class: Vec<(String, Scores)>,
}

/// Embeds the test images of the data set `spec` with the model or checkpoint at `path`, as `embedding` says, and scores them.
///
/// # Errors
/// A file or a data set that cannot be read, one without test images, and what the device reports.
pub fn eval<B: Backend>(
    backend: &B,
    path: &Path,
    spec: &str,
    options: &OpenOptions,
    embedding: &EmbedOptions,
) -> Result<EvalReport> {
    let (network, weights) = checkpoint::load_encoder(backend, path)?;
    let dataset = Arc::new(Dataset::open(spec, options)?);
    let test = TestSet::new(&dataset, embedding.loading());
    if test.is_empty() {
        return Err(no_test_images(&dataset, options.holdout));
    }
    let mut runner = Network::new(backend, network.architecture()?, embedding.batch_size.max(1), Purpose::Inference)?;
    let result = test.score(backend, &mut runner, &weights)?;
    let ks: Vec<usize> = result.scores.recall.iter().map(|&(k, _)| k).collect();
    let named = |(label, scores): (i32, Scores)| (dataset.classes[label as usize].clone(), scores);
    let per_class: Vec<(String, Scores)> = result.evaluation.per_class(&ks).into_iter().map(named).collect();
    let unreadable = result.unreadable().map(|(image, reason)| dataset.fault(*image, reason));
    Ok(EvalReport {
        checkpoint: path.to_owned(),
        network,
        data: spec.to_owned(),
        protocol: if result.is_all_against_all() { "all against all" } else { "queries against gallery" },
        gallery: result.gallery().images.len(),
        class_means: result.evaluation.class_means(&ks),
        classes: per_class.len(),
        unreadable: unreadable.collect(),
        per_class,
        scores: result.scores,
    })
}

/// How the table of the classes' scores begins.
const TABLE_HEADER: [&str; 2] = ["class", "queries"];

impl EvalReport {
    /// Whether a file is a table of classes' scores.
    pub fn is_table(path: &Path) -> bool {
        let start = TABLE_HEADER.join(",") + ",recall_at_";
        output::head(path, start.len() as u64) == start.as_bytes()
    }

    /// Writes a table of the classes' scores.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written.
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

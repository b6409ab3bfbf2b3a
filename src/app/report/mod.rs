//! The report of a run: one self-contained HTML page without scripts or anything fetched, drawn from plain data.
//!
//! [`render`] is a pure function; nothing here knows a device. Markup is a type of its own (`maud`): what is text is escaped.

pub(crate) mod chart;
pub(crate) mod page;
mod thumbnail;

pub use chart::{Figure, FigureCurve};
pub use thumbnail::Thumbnail;

use crate::app::runlog::StepMetrics;
use crate::evaluate::SimilarityHistogram;
use crate::files::output;
use std::path::Path;

/// Whether a file is a page of this program.
pub fn is_page(path: &Path) -> bool {
    let end = output::tail(path, 200);
    output::head(path, 15) == b"<!DOCTYPE html>" && String::from_utf8_lossy(&end).contains("<footer>xbm-fast ")
}

/// What a report shows. Empty lists leave their section out.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What was trained, such as `synthetic products`.
    pub title: String,
    /// One sentence below the title: network, memory, device.
    pub subtitle: String,
    /// The score a reader looks for first.
    pub headline: Option<Score>,
    /// Scores before and after training.
    pub scores: Vec<Score>,
    /// Settings of the run, as name and value.
    pub settings: Vec<(String, String)>,
    /// Logged steps.
    pub steps: Vec<StepMetrics>,
    /// Weight curves and how similar pairs are.
    pub weights: Option<WeightCurves>,
    /// Queries with their neighbours, in sections.
    pub galleries: Vec<Gallery>,
    /// Warnings and remarks.
    pub notes: Vec<Note>,
    /// Version of the program.
    pub version: String,
}

/// A score in `[0, 1]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Score {
    /// Its name, such as `Recall@1 on classes never trained on`.
    pub name: String,
    /// Before training.
    pub before: Option<f64>,
    /// After training.
    pub after: f64,
}

/// Weight curves, sampled, over the distribution of similarity.
#[derive(Clone, Debug, Default)]
pub struct WeightCurves {
    /// Name of the weighting.
    pub name: String,
    /// The row that the weights are drawn in, where they depend on it.
    pub row: Option<String>,
    /// `(similarity, weight)` of positive pairs, similarities ascending in `[-1, 1]`.
    pub positive: Vec<(f64, f64)>,
    /// `(similarity, weight)` of negative pairs.
    pub negative: Vec<(f64, f64)>,
    /// Similarities of pairs after training.
    pub histogram: Option<SimilarityHistogram>,
}

/// Some queries with their nearest neighbours.
#[derive(Clone, Debug, Default)]
pub struct Gallery {
    /// Heading, such as `Hard failures`.
    pub title: String,
    /// One sentence: how these queries were chosen.
    pub description: String,
    /// The queries.
    pub queries: Vec<Query>,
}

/// A query image with its neighbours, nearest first.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// The image.
    pub image: Thumbnail,
    /// Name of its class.
    pub label: String,
    /// Its nearest gallery images.
    pub neighbours: Vec<Neighbour>,
}

/// A gallery image near a query.
#[derive(Clone, Debug, Default)]
pub struct Neighbour {
    /// The image.
    pub image: Thumbnail,
    /// Name of its class.
    pub label: String,
    /// Its similarity to the query.
    pub similarity: f32,
    /// Whether it has the query's class, where that is known.
    pub correct: Option<bool>,
}

/// A remark about the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// Something the reader should act on: a collapse, skipped files.
    Warning(String),
    /// Something good to know.
    Information(String),
}

/// The page, as HTML.
pub fn render(report: &Report) -> String {
    page::render(report)
}

//! Gathers what a finished run's report shows.

use super::scoring::TestResult;
use crate::app::config::TrainConfig;
use crate::app::data::Dataset;
use crate::app::report::{Gallery, Neighbour, Query, Score, Thumbnail, WeightCurves};
use crate::error::Result;
use crate::evaluate::similarity_histogram;
use crate::loss::ReferenceRow;
use crate::memory::MemoryKind;
use crate::ops::Backend;
use crate::rng::Rng;
use crate::words::counted;
use std::collections::HashMap;

const NEIGHBOURS: usize = 4;
const QUERIES_OF_EACH_KIND: usize = 6;
const HISTOGRAM_BINS: usize = 50;
const CURVE_POINTS: usize = 201;

/// Scores before and after training.
pub fn scores(result: &TestResult, initial_recall_at_1: f64) -> Vec<Score> {
    let scores = &result.scores;
    let mut rows: Vec<Score> = scores
        .recall
        .iter()
        .filter(|(k, _)| *k < result.gallery().images.len())
        .map(|&(k, after)| Score { name: format!("Recall@{k}"), before: (k == 1).then_some(initial_recall_at_1), after })
        .collect();
    rows.push(Score { name: "MAP@R".to_owned(), before: None, after: scores.map_at_r });
    rows.push(Score { name: "R-precision".to_owned(), before: None, after: scores.r_precision });
    rows
}

/// Network, memory and device in one line.
pub fn subtitle(config: &TrainConfig, device: &str) -> String {
    let named: HashMap<String, String> = settings(config).into_iter().collect();
    let memory = match config.train.memory.kind {
        MemoryKind::None => "no memory".to_owned(),
        _ => format!("a {} memory of {}", named["memory"], counted(config.train.memory.size, "row")),
    };
    format!("{}, batches of {}, {memory}, {device}", named["backbone"], config.train.batch.size)
}

/// The settings as flags and their values.
pub fn settings(config: &TrainConfig) -> Vec<(String, String)> {
    // By way of the text, in which 0.001 is 0.001 rather than the nearest 32-bit number.
    let table: toml::Table = config.to_toml().parse().expect("what was just written");
    let plain = |value: toml::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let shown = |name: &str, value| if name == "weighting" { config.train.weighting.to_string() } else { plain(value) };
    table.into_iter().map(|(name, value)| (name.replace('_', "-"), shown(&name, value))).collect()
}

/// The run's weight curves over the similarities of its test pairs.
pub fn weight_curves(config: &TrainConfig, result: Option<&TestResult>) -> WeightCurves {
    let (weighting, row) = (&config.train.weighting, ReferenceRow::default());
    WeightCurves {
        name: weighting.to_string(),
        row: (!weighting.depends_on_similarity_alone()).then(|| row.describe()),
        positive: row.curve(weighting, true, CURVE_POINTS),
        negative: row.curve(weighting, false, CURVE_POINTS),
        histogram: result
            .map(|result| similarity_histogram(&result.queries.embeddings, HISTOGRAM_BINS, config.train.execution.seed)),
    }
}

/// A few queries that find their class first, and a few that do not, with their nearest neighbours.
///
/// # Errors
/// What the device reports.
pub fn galleries<B: Backend>(backend: &B, dataset: &Dataset, result: &TestResult, seed: u64) -> Result<Vec<Gallery>> {
    let found = result.neighbours(backend, NEIGHBOURS)?;
    let (queries, gallery) = (&result.queries, result.gallery());
    let correct = |query: usize, row: i32| gallery.embeddings.labels[row as usize] == queries.embeddings.labels[query];
    let mut order: Vec<usize> = (0..queries.images.len()).collect();
    Rng::new(seed).at("gallery").shuffle(&mut order);
    let first = |query: usize| found.rows[query * NEIGHBOURS];
    let of_kind = |right: bool| {
        let fitting = order.iter().copied().filter(|&query| first(query) >= 0 && correct(query, first(query)) == right);
        fitting.take(QUERIES_OF_EACH_KIND).collect::<Vec<_>>()
    };
    let show = |query: usize| -> Query {
        let range = query * NEIGHBOURS..(query + 1) * NEIGHBOURS;
        let pairs = found.rows[range.clone()].iter().zip(&found.similarities[range]).filter(|(row, _)| **row >= 0);
        let neighbours = pairs.map(|(&row, &similarity)| {
            let (image, label) = picture(dataset, gallery.images[row as usize]);
            Neighbour { image, label, similarity, correct: Some(correct(query, row)) }
        });
        let (image, label) = picture(dataset, queries.images[query]);
        Query { image, label, neighbours: neighbours.collect() }
    };
    let section = |title: &str, description: &str, right: bool| -> Gallery {
        let queries = of_kind(right).into_iter().map(show).collect();
        Gallery { title: title.to_owned(), description: description.to_owned(), queries }
    };
    let all = [
        section("Missed", "Queries drawn at random from those whose nearest neighbour is of another class.", false),
        section("Found", "Queries drawn at random from those whose nearest neighbour is of their class.", true),
    ];
    Ok(all.into_iter().filter(|gallery| !gallery.queries.is_empty()).collect())
}

/// An image and what stands below it: its class, and why there is no picture, where the file has gone since it was embedded.
fn picture(dataset: &Dataset, index: usize) -> (Thumbnail, String) {
    let label = dataset.classes[dataset.images[index].label as usize].clone();
    let decoded = dataset.decode(index).and_then(|image| Thumbnail::from_rgb(&image.rgb, image.height, image.width));
    match decoded {
        Ok(image) => (image, label),
        Err(error) => (Thumbnail::missing(), format!("{label}; no picture: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::data::OpenOptions;

    #[test]
    fn a_picture_that_has_gone_is_crossed_out_and_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let mut table = "path,label,split\n".to_owned();
        for class in ["a", "b"] {
            image::RgbImage::new(4, 4).save(file(&format!("{class}.png"))).unwrap();
            table += &format!("{class}.png,{class},test\n");
        }
        std::fs::write(file("list.csv"), table).unwrap();
        let dataset = Dataset::open(&format!("csv:{}", file("list.csv").display()), &OpenOptions::default()).unwrap();
        std::fs::remove_file(file("a.png")).unwrap();
        let (gone, words) = picture(&dataset, 0);
        assert_eq!(gone, Thumbnail::missing());
        assert!(words.starts_with("a; no picture: ") && words.contains("a.png"), "{words}");
        assert_ne!(picture(&dataset, 1), (Thumbnail::missing(), "b".to_owned()));
    }
}

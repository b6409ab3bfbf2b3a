//! Means of the queries' scores: over all of them, over those of a class, and over the classes.

use crate::ops::retrieval::QueryScore;
use crate::words::counted;
use std::collections::BTreeMap;

/// What every query scored.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// In the order of the queries; `None` where the gallery holds no positive.
    pub queries: Vec<Option<QueryScore>>,
    /// Class of each query.
    pub labels: Vec<i32>,
}

impl Evaluation {
    /// Means over the queries, with recall at each of `ks`.
    pub fn scores(&self, ks: &[usize]) -> Scores {
        Scores::mean(self.queries.iter(), ks)
    }

    /// Means over the queries of each class, by label; classes without a query that counts are left out.
    pub fn per_class(&self, ks: &[usize]) -> Vec<(i32, Scores)> {
        let mut classes: BTreeMap<i32, Vec<&Option<QueryScore>>> = BTreeMap::new();
        for (query, &label) in self.queries.iter().zip(&self.labels) {
            classes.entry(label).or_default().push(query);
        }
        let means = classes.into_iter().map(|(label, queries)| (label, Scores::mean(queries.into_iter(), ks)));
        means.filter(|(_, scores)| scores.queries > 0).collect()
    }

    /// Means over the classes, each counting once however many queries it has (pytorch-metric-learning's `avg_of_avgs`).
    pub fn class_means(&self, ks: &[usize]) -> Scores {
        let classes = self.per_class(ks);
        let mean = |score: &dyn Fn(&Scores) -> f64| {
            classes.iter().map(|(_, scores)| score(scores)).sum::<f64>() / classes.len().max(1) as f64
        };
        let counted = classes.iter().map(|(_, scores)| scores.queries).sum();
        Scores {
            recall: ks.iter().enumerate().map(|(index, &k)| (k, mean(&|scores| scores.recall[index].1))).collect(),
            map_at_r: mean(&|scores| scores.map_at_r),
            r_precision: mean(&|scores| scores.r_precision),
            mean_reciprocal_rank: mean(&|scores| scores.mean_reciprocal_rank),
            queries: counted,
            excluded_queries: self.queries.len() - counted,
        }
    }
}

/// Scores of an embedding, each in `[0, 1]`.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Scores {
    /// `(k, recall at k)`, in the order in which they were asked for.
    pub recall: Vec<(usize, f64)>,
    /// Mean average precision at R.
    pub map_at_r: f64,
    /// R-precision.
    pub r_precision: f64,
    /// Mean reciprocal rank.
    pub mean_reciprocal_rank: f64,
    /// Queries that count.
    pub queries: usize,
    /// Queries left out because the gallery holds no positive of theirs.
    pub excluded_queries: usize,
}

impl std::fmt::Display for Scores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (k, recall) in &self.recall {
            writeln!(f, "Recall@{k:<6} {:6.2} %", 100.0 * recall)?;
        }
        writeln!(f, "MAP@R         {:6.2} %", 100.0 * self.map_at_r)?;
        writeln!(f, "R-precision   {:6.2} %", 100.0 * self.r_precision)?;
        writeln!(f, "MRR           {:6.2} %", 100.0 * self.mean_reciprocal_rank)?;
        write!(f, "{}, {} without a positive left out", counted(self.queries, "query"), self.excluded_queries)
    }
}

impl Scores {
    /// Recall at `k`, if it was asked for.
    pub fn recall_at(&self, k: usize) -> Option<f64> {
        self.recall.iter().find(|(at, _)| *at == k).map(|&(_, recall)| recall)
    }

    fn mean<'a>(queries: impl Iterator<Item = &'a Option<QueryScore>>, ks: &[usize]) -> Self {
        let (mut counted, mut excluded) = (Vec::new(), 0);
        queries.for_each(|query| query.as_ref().map_or_else(|| excluded += 1, |score| counted.push(score)));
        let mean = |score: &dyn Fn(&QueryScore) -> f64| {
            counted.iter().map(|query| score(query)).sum::<f64>() / counted.len().max(1) as f64
        };
        let within = |k: usize| counted.iter().filter(|query| (query.rank as usize) < k).count() as f64;
        Self {
            recall: ks.iter().map(|&k| (k, within(k) / counted.len().max(1) as f64)).collect(),
            map_at_r: mean(&|query| query.average_precision),
            r_precision: mean(&|query| query.r_precision),
            mean_reciprocal_rank: mean(&|query| 1.0 / (f64::from(query.rank) + 1.0)),
            queries: counted.len(),
            excluded_queries: excluded,
        }
    }
}

//! Scores from lists of neighbours: for devices that have no way of their own.

use super::{QueryScore, Retrieval, RetrievalGeometry, RetrievalInputs};
use crate::device::{NumberFormat, Span, SpanMut};
use crate::error::Result;
use crate::ops::IntegersIn;
use std::collections::HashMap;

/// Neighbours fetched from the device at once: bounds the memory that deep searches take.
const NEIGHBOURS_AT_ONCE: usize = 1 << 22;

/// As [`Retrieval::score`], from ranks and as many neighbours of each query as it has positives.
///
/// # Errors
/// As [`Retrieval::score`].
pub fn score<B: Retrieval>(
    backend: &B,
    geometry: &RetrievalGeometry,
    inputs: RetrievalInputs<'_, B>,
) -> Result<Vec<Option<QueryScore>>> {
    let mut ranks = backend.zero_integers(geometry.queries)?;
    backend.best_positive_rank(geometry, inputs, SpanMut::new(&mut ranks, 0, geometry.queries))?;
    let ranks = host(backend, Span::new(&ranks, 0, geometry.queries))?;
    let labels = host(backend, inputs.query_labels)?;
    let gallery_labels = host(backend, inputs.gallery_labels)?;
    let positives = count_positives(&labels, &gallery_labels, &host(backend, inputs.own_rows)?);
    let mut scores = Vec::with_capacity(labels.len());
    while scores.len() < labels.len() {
        let first = scores.len();
        let (queries, depth) = chunk(&positives[first..]);
        let rows = if depth == 0 { Vec::new() } else { nearest(backend, geometry, inputs, (first, queries, depth))? };
        for query in first..first + queries {
            let own = rows.get((query - first) * depth..).unwrap_or_default();
            let is_positive = |&row: &i32| usize::try_from(row).is_ok_and(|row| gallery_labels[row] == labels[query]);
            let nearest: Vec<bool> = own.iter().take(positives[query]).map(is_positive).collect();
            scores.push((ranks[query] >= 0).then(|| of_nearest(ranks[query] as u32, &nearest)));
        }
    }
    Ok(scores)
}

/// The score of a query, given for each of its `R` nearest whether it is a positive.
fn of_nearest(rank: u32, nearest: &[bool]) -> QueryScore {
    let (mut found, mut precisions) = (0.0, 0.0);
    for (place, _) in nearest.iter().enumerate().filter(|(_, is_positive)| **is_positive) {
        found += 1.0;
        precisions += found / (place as f64 + 1.0);
    }
    let positives = nearest.len() as f64;
    QueryScore { rank, average_precision: precisions / positives, r_precision: found / positives }
}

/// For each query the number of its positives in the gallery.
fn count_positives(labels: &[i32], gallery_labels: &[i32], own_rows: &[i32]) -> Vec<usize> {
    let mut counts: HashMap<i32, usize> = HashMap::new();
    for &label in gallery_labels {
        *counts.entry(label).or_default() += 1;
    }
    let positives = |(label, &own): (&i32, &i32)| {
        let is_own = usize::try_from(own).is_ok_and(|own| gallery_labels[own] == *label);
        counts.get(label).map_or(0, |count| count - usize::from(is_own))
    };
    labels.iter().zip(own_rows).map(positives).collect()
}

/// How many of the queries to search at once, and how deep.
fn chunk(positives: &[usize]) -> (usize, usize) {
    let (mut queries, mut depth) = (0, 0);
    while queries < positives.len() {
        let deeper = depth.max(positives[queries]);
        if queries > 0 && (queries + 1) * deeper > NEIGHBOURS_AT_ONCE {
            break;
        }
        (queries, depth) = (queries + 1, deeper);
    }
    (queries, depth)
}

fn nearest<B: Retrieval>(
    backend: &B,
    geometry: &RetrievalGeometry,
    inputs: RetrievalInputs<'_, B>,
    (first, queries, depth): (usize, usize, usize),
) -> Result<Vec<i32>> {
    let len = queries * depth;
    let (mut rows, mut similarities) = (backend.zero_integers(len)?, backend.zeros(len, NumberFormat::Full)?);
    let part = RetrievalInputs {
        queries: inputs.queries.part(first * geometry.dim, queries * geometry.dim),
        query_labels: inputs.query_labels.part(first, queries),
        own_rows: inputs.own_rows.part(first, queries),
        ..inputs
    };
    let outputs = (SpanMut::new(&mut rows, 0, len), SpanMut::new(&mut similarities, 0, len));
    backend.nearest(&RetrievalGeometry { queries, ..*geometry }, depth, part, outputs.0, outputs.1)?;
    host(backend, Span::new(&rows, 0, len))
}

fn host<B: Retrieval>(backend: &B, integers: IntegersIn<'_, B>) -> Result<Vec<i32>> {
    let mut values = vec![0; integers.len];
    backend.download_integers(integers, &mut values)?;
    Ok(values)
}

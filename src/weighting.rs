//! Pair weights as curves of similarity.

/// Weights of positive and negative pairs, chosen independently.
#[derive(Clone, Debug, PartialEq)]
pub struct PairWeighting {}

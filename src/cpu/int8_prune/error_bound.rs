//! Error bounds: how far codes can be from the numbers they stand for, and what that says of similarities.

/// Largest norm of a row that codes may stand for: 1, however its numbers are rounded.
pub(super) const MAX_NORM: f32 = 1.016;
/// An error bound, or the negative of a threshold, that keeps every pair a candidate: that of rows that are longer, or not finite.
const KEEPS_ALL: f32 = 16.0;
/// A threshold that keeps no pair, but for those.
pub(super) const KEEPS_NONE: f32 = 4.0;

/// How far two sums of the products of 32-bit numbers can be from each other or from the truth, whatever their order, for rows that have
/// an error bound: they are no longer than 1.5, and each term is rounded once or twice.
pub(crate) fn rounding_error(dim: usize) -> f32 {
    1.5 * 1.5 * 2.0 * f32::EPSILON * dim as f32
}

/// The threshold of similarities as 32-bit numbers of length `dim` are multiplied, as one of exact similarities.
pub(crate) fn threshold(similarity: f32, dim: usize) -> f32 {
    let threshold = similarity - rounding_error(dim);
    if threshold.is_nan() { -KEEPS_ALL } else { threshold.clamp(-KEEPS_ALL, KEEPS_NONE) }
}

/// What is known of a row whose codes `p` stand for `scale * p`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quantized {
    pub(super) scale: f32,
    /// A similarity is above the product of the codes and of both scales by no more than the error bounds of both rows together.
    pub(super) error_bound: f32,
}

impl Quantized {
    /// With the sums of the squares of the row, or of what its codes stand for, and of the differences between the two. Those of all
    /// anchors and rows are of the same kind.
    ///
    /// With `x = p + r` and `y = q + s` (what codes stand for, and differences), `x y - p q = r y + p s` is at most `|r| |y| + |p| |s|`.
    /// Where `L` bounds `|x|` and `|y|`, `|p| <= L + |r|`; where it bounds `|p|` and `|q|`, `|y| <= L + |s|`. In both cases that is at most
    /// `L |r| + L |s| + |r| |s| <= error_bound(r) + error_bound(s)` where `error_bound(r) = L |r| + |r|^2 / 2`.
    #[inline(always)]
    pub(super) fn new(scale: f32, squares: f32, differences: f32) -> Self {
        /// The sums are of rounded numbers, and rounded themselves, by 2^-24 of each at every addition.
        const SUMS: f32 = 1.001;
        /// Between the whole number that a product of codes is and the comparison with a threshold, four results below [`KEEPS_NONE`] are
        /// rounded; so was the threshold.
        const COMPARED: f32 = 2.0 * KEEPS_NONE * f32::EPSILON;
        /// Half the length of a row of length 1: what is worse quantised is not worth a bound.
        const LARGEST_DIFFERENCE: f32 = 0.5;
        let difference = SUMS * differences.sqrt();
        if squares <= MAX_NORM * MAX_NORM && difference <= LARGEST_DIFFERENCE {
            Self { scale, error_bound: SUMS * MAX_NORM * difference + 0.5 * difference * difference + COMPARED }
        } else {
            Self { scale: 0.0, error_bound: KEEPS_ALL }
        }
    }
}

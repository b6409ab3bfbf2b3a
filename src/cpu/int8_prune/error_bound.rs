//! How far codes can be from the numbers they stand for, and what that says of similarities.

/// Longest row that codes may stand for: those of length 1, however they are rounded.
pub(super) const LONGEST: f32 = 1.016;
/// A slack, or the negative of a limit, that lets every pair through: of rows that are longer, or not finite.
const ALWAYS: f32 = 16.0;
/// A limit that nothing else is above.
pub(super) const NEVER: f32 = 4.0;

/// How far two sums of the products of 32-bit numbers can be from each other or from the truth, whatever their order, for rows that have a
/// slack: they are no longer than 1.5, and each term is rounded once or twice.
pub(crate) fn rounding(dim: usize) -> f32 {
    1.5 * 1.5 * 2.0 * f32::EPSILON * dim as f32
}

/// The limit of similarities as 32-bit numbers of length `dim` are multiplied, as one of exact similarities.
pub(crate) fn limit(similarity: f32, dim: usize) -> f32 {
    let limit = similarity - rounding(dim);
    if limit.is_nan() { -ALWAYS } else { limit.clamp(-ALWAYS, NEVER) }
}

/// What is known of a row whose codes `p` stand for `step * p`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Encoded {
    pub(super) step: f32,
    /// A similarity is above the product of the codes and of both steps by no more than the slacks of both rows together.
    pub(super) slack: f32,
}

impl Encoded {
    /// With the sums of the squares of the row, or of what its codes stand for, and of the differences between the two. Those of all
    /// anchors and rows are of the same kind.
    ///
    /// With `x = p + r` and `y = q + s` (what codes stand for, and differences), `x y - p q = r y + p s` is at most `|r| |y| + |p| |s|`.
    /// Where `L` bounds `|x|` and `|y|`, `|p| <= L + |r|`; where it bounds `|p|` and `|q|`, `|y| <= L + |s|`. In both cases that is at most
    /// `L |r| + L |s| + |r| |s| <= slack(r) + slack(s)` where `slack(r) = L |r| + |r|^2 / 2`.
    #[inline(always)]
    pub(super) fn new(step: f32, squares: f32, differences: f32) -> Self {
        /// The sums are of rounded numbers, and rounded themselves, by 2^-24 of each at every addition.
        const SUMS: f32 = 1.001;
        /// Between the whole number that a product of codes is and the comparison with a limit, four results below [`NEVER`] are rounded; so
        /// was the limit.
        const COMPARED: f32 = 2.0 * NEVER * f32::EPSILON;
        /// Half the length of a row of length 1: what is worse encoded is not worth a bound.
        const LARGEST_DIFFERENCE: f32 = 0.5;
        let difference = SUMS * differences.sqrt();
        if squares <= LONGEST * LONGEST && difference <= LARGEST_DIFFERENCE {
            Self { step, slack: SUMS * LONGEST * difference + 0.5 * difference * difference + COMPARED }
        } else {
            Self { step: 0.0, slack: ALWAYS }
        }
    }
}

//! Rows in 8 bits: whole numbers around zero, as far from it as a product of two rows of length 1 can be summed in 16 bits.

/// A row is multiplied by this and rounded, so that similarities are the products of codes over its square.
pub(super) const SCALE: f32 = 178.0;
/// Largest code: two products of a code with one that is shifted by this much are summed in 16 bits, `2 * 180 * 90 < 2^15`.
pub(super) const LARGEST: i8 = 90;
/// Words that are encoded at a time, and their codes, four in each.
pub(super) const WORDS: usize = 8;
pub(super) const CODES: usize = 4 * WORDS;
/// Sum of the squares up to which a product of codes fits into 16 bits with its sign, again by Cauchy-Schwarz.
const LARGEST_SQUARES: f32 = i16::MAX as f32;
/// A slack, or the negative of a limit, that lets every pair through: of rows that are longer than 1, or not finite.
const ALWAYS: i32 = 1 << 27;
/// A limit that nothing is above.
pub(super) const NEVER: i32 = 1 << 26;

/// How far two sums of the products of 32-bit numbers can be from each other or from the truth, whatever their order, for rows that have a
/// slack: they are no longer than 1.5, and each term is rounded once or twice.
pub(crate) fn rounding(dim: usize) -> f32 {
    1.5 * 1.5 * 2.0 * f32::EPSILON * dim as f32
}

/// The limit of similarities, as 32-bit numbers of length `dim` are multiplied, in products of codes.
pub(crate) fn limit(similarity: f32, dim: usize) -> i32 {
    let scaled = f64::from(similarity - rounding(dim)) * f64::from(SCALE * SCALE);
    if scaled.is_nan() { -ALWAYS } else { scaled.floor().clamp(f64::from(-ALWAYS), f64::from(NEVER)) as i32 }
}

/// Shows the codes of a row to `write`, block after block, shifted so that none is negative, and returns its slack: a similarity is above
/// the product of the codes by no more than the slacks of both rows together.
pub(super) fn encode(values: &[f32], mut write: impl FnMut(usize, [i32; WORDS])) -> i32 {
    let (mut squares, mut rests) = (0.0, 0.0);
    for (block, values) in values.chunks(CODES).enumerate() {
        let mut codes = [LARGEST as u8; CODES];
        for (to, &value) in codes.iter_mut().zip(values) {
            let scaled = SCALE * value;
            let code = scaled.round_ties_even().clamp(f32::from(-LARGEST), f32::from(LARGEST));
            *to = (code as i16 + i16::from(LARGEST)) as u8;
            squares += code * code;
            rests += (scaled - code) * (scaled - code);
        }
        write(block, bytemuck::cast(codes));
    }
    slack(squares, rests)
}

/// With `x = p + r` and `y = q + s` (codes and differences), `x y - p q = r y + p s` is at most
/// `|r| (|q| + |s|) + |p| |s| <= slack(r) + slack(s)` where `slack(r) = L |r| + |r|^2 / 2` and `L` bounds `|p|` and `|q|`.
#[inline(always)]
pub(super) fn slack(squares: f32, rests: f32) -> i32 {
    /// The sums are of rounded numbers.
    const ROUNDING: f32 = 1.001;
    /// Half the length of a row of length 1: what is worse encoded is not worth a bound.
    const LONGEST: f32 = 0.5 * SCALE;
    let difference = ROUNDING * rests.sqrt();
    if squares <= LARGEST_SQUARES && difference <= LONGEST {
        (LARGEST_SQUARES.sqrt() * difference + 0.5 * difference * difference) as i32 + 2
    } else {
        ALWAYS
    }
}

/// Takes the shift out of codes, and returns what the products of the codes with shifted ones then have too much.
pub(super) fn to_signed(words: &mut [i32; WORDS]) -> i32 {
    let codes: &mut [i8] = bytemuck::cast_slice_mut(words);
    codes.iter_mut().for_each(|code| *code = code.wrapping_sub(LARGEST));
    i32::from(LARGEST) * codes.iter().map(|&code| i32::from(code)).sum::<i32>()
}

//! What counts as a unit row, wherever rows come from outside: a file, a caller, a query.

use crate::error::{Error, Result};

/// How far from 1 the length of an embedding may be: what rounding to 16 bit leaves, many times over.
const LENGTH_TOLERANCE: f32 = 0.01;

/// Fails unless every row is finite and of length 1, or 0 as a row of zeros stays when it is normalised.
///
/// # Errors
/// [`Error::NotFinite`], or [`Error::Shape`] with the first such row.
pub fn check_unit_rows(what: &'static str, values: &[f32], dim: usize) -> Result<()> {
    let length = |row: &[f32]| match squared_length(row).sqrt() {
        // Finite numbers that are too large to be squared.
        f32::INFINITY if row.iter().all(|value| value.is_finite()) => f32::MAX,
        length => length,
    };
    check_lengths(what, values.chunks_exact(dim.max(1)).map(length))
}

/// The same, from the lengths of the rows. Both a NaN and an infinity among the numbers of a row make its length one.
///
/// # Errors
/// As [`check_unit_rows`].
pub fn check_lengths(what: &'static str, lengths: impl Iterator<Item = f32>) -> Result<()> {
    for (row, length) in lengths.enumerate() {
        if !length.is_finite() {
            return Err(Error::NotFinite { what, row });
        }
        if length != 0.0 && (length - 1.0).abs() > LENGTH_TOLERANCE {
            let (what, found) = (format!("{what}, row {row}"), format!("one of length {length}; normalise the rows first"));
            return Err(Error::shape(what, "a vector of length 1", found));
        }
    }
    Ok(())
}

/// In independent partial sums, which the compiler turns into vector code.
fn squared_length(values: &[f32]) -> f32 {
    const LANES: usize = 16;
    let chunks = values.chunks_exact(LANES);
    let rest: f32 = chunks.remainder().iter().map(|value| value * value).sum();
    let mut sums = [0.0; LANES];
    for chunk in chunks {
        sums.iter_mut().zip(chunk).for_each(|(sum, value)| *sum += value * value);
    }
    sums.iter().sum::<f32>() + rest
}

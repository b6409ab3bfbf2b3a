//! Rows in 8 bits, for the first look at all of them: a quarter of the bytes, and a bound on what the look misses, so that the second
//! look, at the rows themselves, is only at those that may be among the nearest.
//!
//! A row `r` is `scale * code + rest`. Its similarity to a query `q`, which is `query_scale * query_code + query_rest`, is
//! `scale * query_scale * (code . query_code)`, off by at most `|rest| |q| + |scale * code| |query_rest|`.
//!
//! The file: codes, `(rows, dim)` signed bytes, zeros up to a multiple of 4 bytes, then a scale and a `|rest|` for each row, as 32-bit floats.

use crate::app::mapping::Mapping;
use crate::cpu::simd::vectorized;
use crate::error::{Error, Result};
use crate::files::{numbers, write_atomically};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

/// Largest magnitude of a code.
const LARGEST: f32 = 127.0;
/// Largest magnitude of a query's code: finer than those of rows, and small enough that a sum of [`MOST_NUMBERS`] products fits 32 bits.
const LARGEST_OF_QUERY: f32 = 2047.0;
/// Longest row that sums of products fit for.
pub const MOST_NUMBERS: usize = (i32::MAX / (127 * 2047)) as usize;
const WORD: usize = size_of::<f32>();
/// What rounding adds to a similarity that is computed in 32 bits, for rows of any length that fits.
const ROUNDING: f32 = 2e-5;

/// The codes of a shard.
#[derive(Debug)]
pub struct Codes {
    file: Arc<Mapping>,
    rows: usize,
    dim: usize,
}

impl Codes {
    /// Writes the codes of `rows`, `(rows, dim)`.
    pub fn write<'a>(path: &Path, rows: impl Iterator<Item = &'a [f32]> + Clone) -> Result<()> {
        write_atomically(path, |file| {
            let (mut scales, mut rests, mut len) = (Vec::new(), Vec::new(), 0_usize);
            for row in rows {
                let (codes, scale) = coded(row, LARGEST);
                let codes: Vec<i8> = codes.map(|code| code as i8).collect();
                let rest =
                    row.iter().zip(&codes).map(|(value, &code)| (f64::from(*value) - f64::from(scale) * f64::from(code)).powi(2));
                rests.push(rest.sum::<f64>().sqrt() as f32);
                scales.push(scale);
                len += codes.len();
                file.write_all(numbers::as_bytes(&codes))?;
            }
            file.write_all(&[0; WORD][..len.next_multiple_of(WORD) - len])?;
            file.write_all(numbers::as_bytes(&scales))?;
            file.write_all(numbers::as_bytes(&rests))
        })
    }

    /// Maps the codes of `(rows, dim)`.
    pub fn open(path: &Path, rows: usize, dim: usize) -> Result<Self> {
        let file = Mapping::open(path)?;
        let expected =
            rows.checked_mul(dim).and_then(|len| len.checked_next_multiple_of(WORD)?.checked_add(rows.checked_mul(2 * WORD)?));
        if expected != Some(file.len()) {
            let words = format!("expected the codes of {rows} rows of {dim} numbers, found {} bytes", file.len());
            return Err(Error::data(path, words));
        }
        Ok(Self { file, rows, dim })
    }

    pub fn bytes(&self) -> usize {
        self.file.len()
    }

    /// Calls `found` with each row from `start` on and the least and the most that its similarity may be.
    pub fn bounds(&self, query: &CodedQuery, start: usize, len: usize, mut found: impl FnMut(usize, f32, f32)) {
        let end = (self.rows * self.dim).next_multiple_of(WORD);
        let part =
            |at: usize, width: usize| self.file.get(at + start * width..at + (start + len) * width).expect("checked at opening");
        let codes: &[i8] = bytemuck::cast_slice(part(0, self.dim));
        let scales: &[f32] = bytemuck::cast_slice(part(end, WORD));
        let rests: &[f32] = bytemuck::cast_slice(part(end + self.rows * WORD, WORD));
        let mut products = vec![0_i32; len];
        let (dim, query_codes) = (self.dim, query.codes.as_slice());
        vectorized(
            #[inline(always)]
            || {
                for (codes, product) in codes.chunks_exact(dim).zip(&mut products) {
                    *product = codes.iter().zip(query_codes).map(|(&code, &of_query)| i32::from(code) * i32::from(of_query)).sum();
                }
            },
        );
        for (row, ((product, scale), rest)) in products.iter().zip(scales).zip(rests).enumerate() {
            let similarity = scale * query.scale * *product as f32;
            // A row of length 1 is at most 1 + rest long without its rest.
            let error = rest * query.length + (1.0 + rest) * query.rest + ROUNDING;
            found(start + row, similarity - error, similarity + error);
        }
    }
}

/// A query, coded.
pub struct CodedQuery {
    codes: Vec<i16>,
    scale: f32,
    length: f32,
    rest: f32,
}

impl CodedQuery {
    pub fn new(query: &[f32]) -> Self {
        let (codes, scale) = coded(query, LARGEST_OF_QUERY);
        let codes: Vec<i16> = codes.map(|code| code as i16).collect();
        let rest: f32 = query.iter().zip(&codes).map(|(value, &code)| (value - scale * f32::from(code)).powi(2)).sum();
        Self { codes, scale, length: query.iter().map(|value| value * value).sum::<f32>().sqrt(), rest: rest.sqrt() }
    }
}

/// The codes of a row, of at most a magnitude, and what they are multiples of.
fn coded(row: &[f32], largest: f32) -> (impl Iterator<Item = f32>, f32) {
    let most = row.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
    let scale = if most > 0.0 { most / largest } else { 1.0 };
    (row.iter().map(move |value| (value / scale).round().clamp(-largest, largest)), scale)
}

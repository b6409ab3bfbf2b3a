//! faiss's file of an `IndexFlatIP`: exact search by inner product, which is the similarity of unit rows. Written only; `faiss.read_index`
//! reads it, and an index of another kind takes its rows over (`reconstruct_n`).

use crate::error::Result;
use crate::files::{numbers, write_atomically};
use std::io::Write;
use std::path::Path;

/// A flat index that is compared by inner products.
const KIND: &[u8] = b"IxFI";
/// Stands in two places where versions of faiss before the first published one kept something.
const UNUSED: i64 = 1 << 20;
const IS_TRAINED: u8 = 1;
const INNER_PRODUCT: i32 = 0;

/// Writes a matrix of `shape`.
pub fn write(path: &Path, values: &[f32], [rows, dim]: [usize; 2]) -> Result<()> {
    write_atomically(path, |file| {
        file.write_all(KIND)?;
        file.write_all(&(dim as i32).to_le_bytes())?;
        for number in [rows as i64, UNUSED, UNUSED] {
            file.write_all(&number.to_le_bytes())?;
        }
        file.write_all(&[IS_TRAINED])?;
        file.write_all(&INNER_PRODUCT.to_le_bytes())?;
        file.write_all(&(values.len() as u64).to_le_bytes())?;
        file.write_all(numbers::as_bytes(values))
    })
}

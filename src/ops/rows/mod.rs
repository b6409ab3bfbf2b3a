//! Rows by number: gathered from a matrix, and scattered into one: what the memory reads and writes of its ring.
//!
//! A negative number stands for no row: it gathers zeros and scatters nowhere.

mod cuda;

use super::{In, IntegersOut, Out, RowsIn, RowsOut};
use crate::device::{Cpu, HostRows, SpanMut, Storage};
use crate::error::{Error, Result, expect_len};

/// Moving rows by number.
pub trait Rows: Storage {
    /// `output[i] = input[indices[i]]`, rows of length `dim`, in 32 bit.
    ///
    /// # Errors
    /// [`Error::Shape`] if `output` has not a row for each index, or an index lies past the end.
    fn gather_rows(&self, dim: usize, input: In<'_, Self>, indices: &[i32], output: Out<'_, Self>) -> Result<()>;

    /// As [`Rows::gather_rows`], of the rows of a memory.
    ///
    /// # Errors
    /// As [`Rows::gather_rows`].
    fn gather_stored_rows(&self, dim: usize, input: RowsIn<'_, Self>, indices: &[i32], output: Out<'_, Self>) -> Result<()>;

    /// `output[indices[i]] = input[i]`, rows of length `dim`, in the precision of `output`. No index may occur twice.
    ///
    /// # Errors
    /// As [`Rows::gather_rows`], of `input`.
    fn scatter_rows(&self, dim: usize, input: In<'_, Self>, indices: &[i32], output: RowsOut<'_, Self>) -> Result<()>;

    /// `output[indices[i]] = values[i]`. No index may occur twice.
    ///
    /// # Errors
    /// As [`Rows::gather_rows`], of `values`.
    fn scatter_integers(&self, values: &[i32], indices: &[i32], output: IntegersOut<'_, Self>) -> Result<()>;
}

/// Fails unless there is a row for each index, and each index is that of a row.
fn check(dim: usize, moved: usize, indices: &[i32], indexed: usize) -> Result<()> {
    if dim == 0 {
        return Err(Error::shape("row length", "at least 1", 0));
    }
    expect_len("rows moved by number", indices.len() * dim, moved)?;
    let past = |&&index: &&i32| usize::try_from(index).is_ok_and(|index| (index + 1) * dim > indexed);
    match indices.iter().find(past) {
        None => Ok(()),
        Some(index) => Err(Error::shape("number of a row", format_args!("less than {}", indexed / dim), index)),
    }
}

/// Pairs of a position and the row at it.
fn present(indices: &[i32]) -> impl Iterator<Item = (usize, usize)> {
    indices.iter().enumerate().filter_map(|(position, &index)| Some((position, usize::try_from(index).ok()?)))
}

impl Rows for Cpu {
    fn gather_rows(&self, dim: usize, input: In<'_, Self>, indices: &[i32], output: Out<'_, Self>) -> Result<()> {
        check(dim, output.len, indices, input.len)?;
        let (input, output) = (input.as_slice(), output.into_slice());
        output.fill(0.0);
        present(indices).for_each(|(to, from)| output[to * dim..][..dim].copy_from_slice(&input[from * dim..][..dim]));
        Ok(())
    }

    fn gather_stored_rows(&self, dim: usize, input: RowsIn<'_, Self>, indices: &[i32], output: Out<'_, Self>) -> Result<()> {
        check(dim, output.len, indices, input.len)?;
        let (input, output) = (input.view(), output.into_slice());
        output.fill(0.0);
        present(indices).for_each(|(to, from)| input.read(from * dim, &mut output[to * dim..][..dim]));
        Ok(())
    }

    fn scatter_rows(&self, dim: usize, input: In<'_, Self>, indices: &[i32], mut output: RowsOut<'_, Self>) -> Result<()> {
        check(dim, input.len, indices, output.len)?;
        let input = input.as_slice();
        present(indices).try_for_each(|(from, to)| {
            let output = output.reborrow();
            let row = SpanMut::new(output.buffer, output.start + to * dim, dim);
            HostRows::write(&input[from * dim..][..dim], row)
        })
    }

    fn scatter_integers(&self, values: &[i32], indices: &[i32], output: IntegersOut<'_, Self>) -> Result<()> {
        check(1, values.len(), indices, output.len)?;
        let output = output.into_slice();
        present(indices).for_each(|(from, to)| output[to] = values[from]);
        Ok(())
    }
}

//! NumPy's format, version 1: magic, header length, a Python dictionary, numbers. Only what an index is: a matrix of little-endian
//! floats, row after row.

use crate::error::{Error, Result};
use crate::files::{input, numbers, write_atomically};
use bytemuck::Pod;
use half::f16;
use std::io::Write;
use std::path::Path;

const MAGIC: &[u8] = b"\x93NUMPY\x01\x00";
/// The numbers start at a multiple of this.
const ALIGNMENT: usize = 64;
/// Magic and the two bytes of the header's length.
const PREFIX: usize = MAGIC.len() + 2;

/// Numbers that a matrix may hold.
pub trait Numbers: Pod {
    /// As NumPy calls them.
    const DESCRIPTION: &'static str;
}

impl Numbers for f32 {
    const DESCRIPTION: &'static str = "<f4";
}

impl Numbers for f16 {
    const DESCRIPTION: &'static str = "<f2";
}

fn header(description: &str, [rows, columns]: [usize; 2]) -> String {
    let dictionary = format!("{{'descr': '{description}', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    let len = (PREFIX + dictionary.len() + 1).next_multiple_of(ALIGNMENT) - PREFIX;
    format!("{dictionary:<width$}\n", width = len - 1)
}

/// Writes a matrix of `shape`.
pub fn write<T: Numbers>(path: &Path, values: &[T], shape: [usize; 2]) -> Result<()> {
    let header = header(T::DESCRIPTION, shape);
    write_atomically(path, |file| {
        file.write_all(MAGIC)?;
        file.write_all(&(header.len() as u16).to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        file.write_all(numbers::as_bytes(values))
    })
}

/// Reads a matrix and its shape.
pub fn read(path: &Path) -> Result<(Vec<f32>, [usize; 2])> {
    let bytes = input::read(path)?;
    let (shape, start) = matrix::<f32>(&bytes, path)?;
    Ok((numbers::from_bytes(&bytes[start..]), shape))
}

/// The shape of the matrix of these numbers that the bytes of a file are, and where its numbers begin; `path` is for messages.
pub fn matrix<T: Numbers>(bytes: &[u8], path: &Path) -> Result<([usize; 2], usize)> {
    let bits = 8 * size_of::<T>();
    let refused = |found: &str| {
        let expected = format!("expected a complete .npy file (version 1) of {bits}-bit floats in rows and columns");
        Error::data(path, format!("{expected}, found {found}"))
    };
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| refused("another kind of file"))?;
    let (len, rest) = rest.split_first_chunk().ok_or_else(|| refused("a truncated one"))?;
    let (header, content) =
        rest.split_at_checked(usize::from(u16::from_le_bytes(*len))).ok_or_else(|| refused("a truncated one"))?;
    let header = String::from_utf8_lossy(header);
    if !header.contains(&format!("'{}'", T::DESCRIPTION)) || !header.contains("'fortran_order': False") {
        return Err(refused(header.trim_end()));
    }
    let shape = shape_of(&header).ok_or_else(|| refused(header.trim_end()))?;
    if shape[0].checked_mul(shape[1]).and_then(|len| len.checked_mul(size_of::<T>())) != Some(content.len()) {
        return Err(refused(&format!("{} bytes for a shape of {} x {}", content.len(), shape[0], shape[1])));
    }
    Ok((shape, bytes.len() - content.len()))
}

/// The two numbers of `'shape': (rows, columns)`.
fn shape_of(header: &str) -> Option<[usize; 2]> {
    let (_, rest) = header.split_once("'shape': (")?;
    let (rows, columns) = rest.split_once(')')?.0.split_once(',')?;
    Some([rows.trim().parse().ok()?, columns.trim().parse().ok()?])
}

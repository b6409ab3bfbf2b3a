//! Which rows of a shard count no more: a bit for each.

use crate::error::{Error, Result};
use crate::files::{input, write_atomically};
use std::io::Write;
use std::path::Path;

/// A set of rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    bits: Vec<u8>,
    count: usize,
}

impl Removed {
    /// None of `rows`.
    pub fn none(rows: usize) -> Self {
        Self { bits: vec![0; rows.div_ceil(8)], count: 0 }
    }

    pub fn read(path: &Path, rows: usize) -> Result<Self> {
        let bits = input::read(path)?;
        if bits.len() != rows.div_ceil(8) {
            let words = format!("expected {} bytes for {rows} rows, found {}", rows.div_ceil(8), bits.len());
            return Err(Error::data(path, words));
        }
        let count = bits.iter().map(|byte| byte.count_ones() as usize).sum();
        Ok(Self { bits, count })
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        write_atomically(path, |file| file.write_all(&self.bits))
    }

    pub fn count(&self) -> usize {
        self.count
    }

    pub fn contains(&self, row: usize) -> bool {
        self.count > 0 && self.bits[row / 8] >> (row % 8) & 1 == 1
    }

    pub fn insert(&mut self, row: usize) {
        if !self.contains(row) {
            self.bits[row / 8] |= 1 << (row % 8);
            self.count += 1;
        }
    }
}

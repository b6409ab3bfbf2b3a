//! Numbers on a device, with their length: the thin layer between buffers and everything that trains.

use super::{NumberFormat, Span, SpanMut, Storage, host_memory};
use crate::error::Result;

/// A device buffer that knows its length; what everything above the operations holds its numbers in.
#[derive(Debug)]
pub struct Tensor<B: Storage> {
    buffer: B::Buffer,
    start: usize,
    len: usize,
}

impl<B: Storage> Tensor<B> {
    /// `len` 32-bit zeros.
    ///
    /// # Errors
    /// What the device reports.
    pub fn zeros(backend: &B, len: usize) -> Result<Self> {
        Self::with_format(backend, len, NumberFormat::Full)
    }

    /// `len` zeros of the given format.
    ///
    /// # Errors
    /// What the device reports.
    pub fn with_format(backend: &B, len: usize, format: NumberFormat) -> Result<Self> {
        let (buffer, start) = backend.aligned_zeros(len, format)?;
        Ok(Self { buffer, start, len })
    }

    /// Device memory holding `values`.
    ///
    /// # Errors
    /// What the device reports.
    pub fn from_host(backend: &B, values: &[f32]) -> Result<Self> {
        let mut flat = Self::zeros(backend, values.len())?;
        backend.upload(values, flat.all_mut())?;
        Ok(flat)
    }

    /// The values, on the host.
    ///
    /// # Errors
    /// What the device reports.
    pub fn to_host(&self, backend: &B) -> Result<Vec<f32>> {
        let mut values = host_memory::zeros(self.len)?;
        backend.download(self.all(), &mut values)?;
        Ok(values)
    }

    /// The same values in a buffer of their own.
    ///
    /// # Errors
    /// What the device reports.
    pub fn duplicate(&self, backend: &B) -> Result<Self> {
        let mut copy = Self::zeros(backend, self.len)?;
        backend.copy(self.all(), copy.all_mut())?;
        Ok(copy)
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Everything, to be read.
    pub fn all(&self) -> Span<'_, B::Buffer> {
        self.part(0, self.len)
    }

    /// Everything, to be written.
    pub fn all_mut(&mut self) -> SpanMut<'_, B::Buffer> {
        self.part_mut(0, self.len)
    }

    /// A range, to be read.
    pub fn part(&self, start: usize, len: usize) -> Span<'_, B::Buffer> {
        Span::new(&self.buffer, self.start, self.len).part(start, len)
    }

    /// A range, to be written.
    pub fn part_mut(&mut self, start: usize, len: usize) -> SpanMut<'_, B::Buffer> {
        SpanMut::new(&mut self.buffer, self.start, self.len).part(start, len)
    }
}

/// Integers on a device, with their length: labels and instance ids.
#[derive(Debug)]
pub struct IntegerTensor<B: Storage> {
    buffer: B::Integers,
    len: usize,
}

impl<B: Storage> IntegerTensor<B> {
    /// `len` zeros.
    ///
    /// # Errors
    /// What the device reports.
    pub fn zeros(backend: &B, len: usize) -> Result<Self> {
        Ok(Self { buffer: backend.zero_integers(len)?, len })
    }

    /// Replaces the values.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] on another length.
    pub fn upload(&mut self, backend: &B, values: &[i32]) -> Result<()> {
        backend.upload_integers(values, self.all_mut())
    }

    /// The values, on the host.
    ///
    /// # Errors
    /// What the device reports.
    pub fn to_host(&self, backend: &B) -> Result<Vec<i32>> {
        let mut values = host_memory::zeros(self.len)?;
        backend.download_integers(self.all(), &mut values)?;
        Ok(values)
    }

    /// Everything, to be read.
    pub fn all(&self) -> Span<'_, B::Integers> {
        self.part(0, self.len)
    }

    /// Everything, to be written.
    pub fn all_mut(&mut self) -> SpanMut<'_, B::Integers> {
        self.part_mut(0, self.len)
    }

    /// A range, to be read.
    pub fn part(&self, start: usize, len: usize) -> Span<'_, B::Integers> {
        Span::new(&self.buffer, start, len)
    }

    /// A range, to be written.
    pub fn part_mut(&mut self, start: usize, len: usize) -> SpanMut<'_, B::Integers> {
        SpanMut::new(&mut self.buffer, start, len)
    }
}

//! Where numbers live: storage and handles, no operation. The operations are in [`crate::ops`], one file each.

mod aligned_buf;
mod cpu;
pub mod cublaslt;
pub mod cuda;
pub mod cudnn;
mod geometry;
pub(crate) mod host_memory;
mod library;
mod stored;
mod tensor;

pub(crate) use aligned_buf::AlignedBuf;
pub use cpu::{Cpu, MAX_THREADS, Scratch, checked_threads};
pub use cuda::Cuda;
pub use geometry::ConvGeometry;
pub use library::Workspace;
pub use stored::HostRows;
pub(crate) use stored::RowsView;
pub use tensor::{IntegerTensor, Tensor};

use crate::error::Result;
use crate::group::{ALONE, Group};
use crate::settings::choice;
use std::fmt;

/// How a floating-point buffer is held, whatever the device; [`cuda::kernel::Format`] is what that comes to on a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberFormat {
    /// 32 bit everywhere: parameters, their gradients, statistics, the loss.
    Full,
    /// What the backend computes activations and memory rows in: 32 bit on the CPU, 16 bit on a GPU.
    Compute,
}

choice! {
    /// How the rows of an embedding memory are held.
    pub enum RowPrecision {
        /// As activations: 32 bit on the CPU, what `--precision` says on a GPU.
        Compute = "compute",
        /// 16 bit: half the memory, similarities off by up to 2^-11.
        F16 = "fp16",
    }
}

/// A device that holds buffers and moves them to and from the host.
pub trait Storage: Clone + fmt::Debug + Send + Sync + 'static {
    /// A buffer of floating-point numbers.
    type Buffer: fmt::Debug + Send + Sync;
    /// A buffer of `i32`: labels, instance ids, slots, counts.
    type Integers: fmt::Debug + Send + Sync;
    /// Rows of an embedding memory.
    type Rows: fmt::Debug + Send + Sync;
    /// What is kept of a step that is repeated.
    type StepGraph: fmt::Debug + Default + Send + Sync;

    /// What the log calls this device, such as `cpu, 2 threads`.
    fn description(&self) -> String;

    /// Runs a step of work that is much the same each time. A device that gains by it keeps the work in `repeated` and puts it on itself
    /// as one piece when it comes again; the results are the same either way. What the step reads back ends that for this time.
    ///
    /// # Errors
    /// Those of the step; what the device reports.
    fn capture<R>(&self, _graph: &mut Self::StepGraph, step: impl FnOnce() -> Result<R>) -> Result<R> {
        step()
    }

    /// Runs work that is made of many operations inside the device's thread pool, which is then entered once and not once an operation (as
    /// rayon's `ThreadPool::install`). A device without one just runs it.
    fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        work()
    }

    /// The processes that compute together, each on a device of its own.
    fn group(&self) -> &Group {
        &ALONE
    }

    /// [`Group::gather`] on the device.
    ///
    /// # Errors
    /// Those of [`Group::gather`], and of the device.
    fn gather_over_ranks(&self, what: &'static str, span: SpanMut<'_, Self::Buffer>) -> Result<()> {
        over_ranks(self, span, |values| self.group().gather(what, values))
    }

    /// [`Group::sum`] on the device.
    ///
    /// # Errors
    /// Those of [`Group::sum`], and of the device.
    fn sum_over_ranks(&self, what: &'static str, span: SpanMut<'_, Self::Buffer>) -> Result<()> {
        over_ranks(self, span, |values| self.group().sum(what, values))
    }

    /// Whether operations are only enqueued: reading a result waits for all that was enqueued before.
    fn is_async(&self) -> bool {
        false
    }

    /// A buffer of `len` zeros.
    ///
    /// # Errors
    /// Out of memory, where the device can tell.
    fn zeros(&self, len: usize, format: NumberFormat) -> Result<Self::Buffer>;

    /// A buffer in which `len` zeros begin where this device reads best, and where that is: on the CPU with a cache line.
    ///
    /// # Errors
    /// As [`Storage::zeros`].
    fn aligned_zeros(&self, len: usize, format: NumberFormat) -> Result<(Self::Buffer, usize)> {
        Ok((self.zeros(len, format)?, 0))
    }

    /// A buffer of `len` integers, all zero.
    ///
    /// # Errors
    /// Out of memory, where the device can tell.
    fn zero_integers(&self, len: usize) -> Result<Self::Integers>;

    /// Copies host values into a span of the same length.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the lengths differ.
    fn upload(&self, from: &[f32], to: SpanMut<'_, Self::Buffer>) -> Result<()>;

    /// Copies a span to host memory of the same length.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the lengths differ.
    fn download(&self, from: Span<'_, Self::Buffer>, to: &mut [f32]) -> Result<()>;

    /// Memory rows of `len` numbers together, all zero.
    ///
    /// # Errors
    /// Out of memory, where the device can tell; [`crate::Error::Config`] on a precision that the device does not mix with its own.
    fn zero_rows(&self, len: usize, precision: RowPrecision) -> Result<Self::Rows>;

    /// Copies host values into memory rows, rounded to their precision.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the lengths differ.
    fn upload_rows(&self, from: &[f32], to: SpanMut<'_, Self::Rows>) -> Result<()>;

    /// Copies memory rows to the host.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the lengths differ.
    fn download_rows(&self, from: Span<'_, Self::Rows>, to: &mut [f32]) -> Result<()>;

    /// Copies host integers into a span of the same length.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the lengths differ.
    fn upload_integers(&self, from: &[i32], to: SpanMut<'_, Self::Integers>) -> Result<()>;

    /// Copies a span of integers to host memory of the same length.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the lengths differ.
    fn download_integers(&self, from: Span<'_, Self::Integers>, to: &mut [i32]) -> Result<()>;

    /// Copies between spans of the same length on the device, converting between formats where they differ.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the lengths differ.
    fn copy(&self, from: Span<'_, Self::Buffer>, to: SpanMut<'_, Self::Buffer>) -> Result<()>;

    /// Copies integers between spans of the same length on the device.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the lengths differ.
    fn copy_integers(&self, from: Span<'_, Self::Integers>, to: SpanMut<'_, Self::Integers>) -> Result<()>;
}

/// By way of the host, where there is anybody to exchange with.
fn over_ranks<S: Storage>(
    storage: &S,
    span: SpanMut<'_, S::Buffer>,
    exchange: impl FnOnce(&mut [f32]) -> Result<()>,
) -> Result<()> {
    if storage.group().is_alone() {
        return Ok(());
    }
    let mut values = host_memory::zeros(span.len)?;
    storage.download(span.read(), &mut values)?;
    exchange(&mut values)?;
    storage.upload(&values, span)
}

/// A contiguous part of a buffer, to be read.
pub struct Span<'a, S> {
    /// The buffer.
    pub buffer: &'a S,
    /// First element.
    pub start: usize,
    /// Number of elements.
    pub len: usize,
}

impl<S> Clone for Span<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<S> Copy for Span<'_, S> {}

impl<S> fmt::Debug for Span<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Span({}..{})", self.start, self.start + self.len)
    }
}

impl<S> fmt::Debug for SpanMut<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpanMut({}..{})", self.start, self.start + self.len)
    }
}

/// A contiguous part of a buffer, to be written.
pub struct SpanMut<'a, S> {
    /// The buffer.
    pub buffer: &'a mut S,
    /// First element.
    pub start: usize,
    /// Number of elements.
    pub len: usize,
}

impl<'a, S> Span<'a, S> {
    /// Elements `start .. start + len` of `buffer`.
    pub fn new(buffer: &'a S, start: usize, len: usize) -> Self {
        Self { buffer, start, len }
    }

    /// A part of this span.
    #[must_use]
    pub fn part(self, start: usize, len: usize) -> Self {
        assert!(start + len <= self.len, "part {start}+{len} of a span of {}", self.len);
        Self { buffer: self.buffer, start: self.start + start, len }
    }
}

impl<'a, S> SpanMut<'a, S> {
    /// Elements `start .. start + len` of `buffer`.
    pub fn new(buffer: &'a mut S, start: usize, len: usize) -> Self {
        Self { buffer, start, len }
    }

    /// A part of this span.
    #[must_use]
    pub fn part(self, start: usize, len: usize) -> Self {
        assert!(start + len <= self.len, "part {start}+{len} of a span of {}", self.len);
        Self { buffer: self.buffer, start: self.start + start, len }
    }

    /// The same span, borrowed again for a shorter time.
    pub fn reborrow(&mut self) -> SpanMut<'_, S> {
        SpanMut { buffer: self.buffer, start: self.start, len: self.len }
    }

    /// The same span, to be read.
    pub fn read(&self) -> Span<'_, S> {
        Span { buffer: self.buffer, start: self.start, len: self.len }
    }
}

impl<'a, T> Span<'a, Vec<T>> {
    /// The whole of a host buffer.
    pub fn all(buffer: &'a Vec<T>) -> Self {
        Self { buffer, start: 0, len: buffer.len() }
    }

    /// The numbers, on the host.
    pub fn as_slice(self) -> &'a [T] {
        &self.buffer[self.start..self.start + self.len]
    }
}

impl<'a, T> SpanMut<'a, Vec<T>> {
    /// The whole of a host buffer.
    pub fn all(buffer: &'a mut Vec<T>) -> Self {
        let len = buffer.len();
        Self { buffer, start: 0, len }
    }

    /// The numbers, on the host.
    pub fn into_slice(self) -> &'a mut [T] {
        &mut self.buffer[self.start..self.start + self.len]
    }
}

//! Where the numbers of a span are, and in which format.

use super::cast;
use super::kernel::{Format, width};
use super::{Cuda, CudaBuffer, CudaIntegers, HalfCopy, lock};
use crate::device::{Span, SpanMut};
use crate::error::{Error, Result};
use std::sync::PoisonError;

impl Cuda {
    /// Address of a span in the buffer's own format, to be read.
    pub(crate) fn address(&self, span: Span<'_, CudaBuffer>) -> u64 {
        assert!(span.start + span.len <= span.buffer.len, "a span lies within its buffer");
        span.buffer.memory.address() + (span.start * width(span.buffer.format)) as u64
    }

    /// Address of a span to be written: what was derived from the buffer is stale from now on.
    pub(crate) fn address_mut(&self, span: &mut SpanMut<'_, CudaBuffer>) -> u64 {
        if let Some(half_copy) = span.buffer.half_copy.get_mut().unwrap_or_else(PoisonError::into_inner) {
            half_copy.fresh = false;
        }
        self.address(span.read())
    }

    /// Address of a span of 32-bit numbers to be written, and of its 16-bit half_copy if there is a fresh one, which the caller keeps fresh.
    pub(crate) fn address_mut_with_twin(&self, span: &mut SpanMut<'_, CudaBuffer>) -> (u64, Option<(u64, Format)>) {
        let address = self.address(span.read());
        let half_copy = span.buffer.half_copy.get_mut().unwrap_or_else(PoisonError::into_inner).as_ref();
        let fresh = half_copy.filter(|half_copy| half_copy.fresh);
        (
            address,
            fresh.map(|half_copy| (half_copy.memory.address() + (span.start * width(half_copy.format)) as u64, half_copy.format)),
        )
    }

    /// Address of a span's numbers in `format`: its own, or those of its buffer's half_copy.
    ///
    /// # Errors
    /// [`Error::Shape`] if the buffer is in another 16-bit format, or in 16 bits where 32 are wanted.
    pub(crate) fn address_in(&self, span: Span<'_, CudaBuffer>, format: Format) -> Result<u64> {
        let buffer = span.buffer;
        if buffer.format == format {
            return Ok(self.address(span));
        }
        if buffer.format != Format::F32 {
            return Err(Error::shape("format of a buffer", format.suffix(), buffer.format.suffix()));
        }
        assert!(span.start + span.len <= buffer.len, "a span lies within its buffer");
        let mut half_copy = lock(&buffer.half_copy);
        if half_copy.as_ref().is_none_or(|half_copy| half_copy.format != format) {
            *half_copy = Some(HalfCopy { memory: self.pool().allocate(buffer.len * width(format))?, format, fresh: false });
        }
        let half_copy = half_copy.as_mut().expect("made above");
        if !half_copy.fresh {
            self.cast((buffer.memory.address(), Format::F32), (half_copy.memory.address(), format), buffer.len)?;
            half_copy.fresh = true;
        }
        Ok(half_copy.memory.address() + (span.start * width(format)) as u64)
    }

    /// Copies `len` numbers between formats, of which at least one is 32 bit.
    pub(crate) fn cast(&self, from: (u64, Format), to: (u64, Format), len: usize) -> Result<()> {
        if len == 0 {
            return Ok(());
        }
        let Some(name) = cast::name(from.1, to.1) else {
            return Err(Error::shape("format of a copy", from.1.suffix(), to.1.suffix()));
        };
        let params = cast::CastParams { input: from.0, output: to.0, len: len as u64, scale: 1.0, padding: 0 };
        // SAFETY: the callers' addresses hold `len` numbers of these formats, in different blocks.
        unsafe { self.launch("cast", &name, cast::shape(len), params) }
    }

    /// Address of integers.
    pub(crate) fn integers(&self, span: Span<'_, CudaIntegers>) -> u64 {
        assert!(span.start + span.len <= span.buffer.len, "a span lies within its buffer");
        span.buffer.memory.address() + (span.start * size_of::<i32>()) as u64
    }
}

impl CudaBuffer {
    /// How many numbers there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// How its numbers are held.
    pub fn format(&self) -> Format {
        self.format
    }
}

/// The one format of several spans.
///
/// # Errors
/// [`Error::Shape`] if they differ.
pub(crate) fn common_format(what: &str, first: Span<'_, CudaBuffer>, others: &[Span<'_, CudaBuffer>]) -> Result<Format> {
    let format = first.buffer.format;
    match others.iter().find(|other| other.buffer.format != format) {
        None => Ok(format),
        Some(other) => Err(Error::shape(format!("{what}: number formats"), format.suffix(), other.buffer.format.suffix())),
    }
}

/// Fails unless a span holds 32-bit numbers.
///
/// # Errors
/// [`Error::Shape`] naming `what`.
pub(crate) fn expect_full(what: &str, span: Span<'_, CudaBuffer>) -> Result<()> {
    match span.buffer.format {
        Format::F32 => Ok(()),
        other => Err(Error::shape(format!("{what}: number format"), "f32", other.suffix())),
    }
}

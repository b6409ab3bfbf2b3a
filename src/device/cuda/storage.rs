//! Buffers of a GPU: made, filled, read back and copied.

use super::{Cuda, CudaBuffer, CudaIntegers, StepGraph, width};
use crate::device::cuda::kernel::Format;
use crate::device::{NumberFormat, RowPrecision, Span, SpanMut, Storage};
use crate::error::{Error, Result, expect_len};
use bytemuck::{Pod, Zeroable};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use std::sync::Mutex;

impl Storage for Cuda {
    type Buffer = CudaBuffer;
    type Integers = CudaIntegers;
    type Rows = CudaBuffer;
    type StepGraph = StepGraph;

    fn capture<R>(&self, repeated: &mut StepGraph, step: impl FnOnce() -> Result<R>) -> Result<R> {
        self.repeat_step(repeated, step)
    }

    fn is_async(&self) -> bool {
        true
    }

    fn description(&self) -> String {
        let name = self.device.context.name().unwrap_or_else(|_| "CUDA device".into());
        format!("{name}, {}", self.device.options.precision.name())
    }

    fn zeros(&self, len: usize, format: NumberFormat) -> Result<CudaBuffer> {
        let format = if format == NumberFormat::Full { Format::F32 } else { self.format() };
        let memory = self.zeroed((len * width(format)).max(1))?;
        Ok(CudaBuffer { memory, format, len, half_copy: Mutex::new(None) })
    }

    fn zero_integers(&self, len: usize) -> Result<CudaIntegers> {
        Ok(CudaIntegers { memory: self.zeroed((len * size_of::<i32>()).max(1))?, len })
    }

    fn upload(&self, from: &[f32], mut to: SpanMut<'_, CudaBuffer>) -> Result<()> {
        expect_len("upload", to.len, from.len())?;
        let address = self.address_mut(&mut to);
        match to.buffer.format {
            _ if from.is_empty() => Ok(()),
            Format::F32 => self.write(from, address),
            Format::F16 => self.write(&narrowed(from, f16::from_f32), address),
            Format::Bf16 => self.write(&narrowed(from, bf16::from_f32), address),
        }
    }

    fn download(&self, from: Span<'_, CudaBuffer>, to: &mut [f32]) -> Result<()> {
        expect_len("download", to.len(), from.len)?;
        let address = self.address(from);
        match from.buffer.format {
            _ if to.is_empty() => {}
            Format::F32 => self.read(address, to)?,
            Format::F16 => self.widened::<f16>(address, to.len())?.convert_to_f32_slice(to),
            Format::Bf16 => self.widened::<bf16>(address, to.len())?.convert_to_f32_slice(to),
        }
        Ok(())
    }

    fn zero_rows(&self, len: usize, precision: RowPrecision) -> Result<CudaBuffer> {
        match (precision, self.format()) {
            (RowPrecision::Compute, _) | (RowPrecision::F16, Format::F16) => self.zeros(len, NumberFormat::Compute),
            (RowPrecision::F16, _) => Err(Error::config(format!(
                "memory rows of 16 bit beside activations in {}: on a GPU both are of one kind; give --precision fp16, or leave \
                 --memory-precision out",
                self.device.options.precision.name()
            ))),
        }
    }

    fn upload_rows(&self, from: &[f32], to: SpanMut<'_, CudaBuffer>) -> Result<()> {
        self.upload(from, to)
    }

    fn download_rows(&self, from: Span<'_, CudaBuffer>, to: &mut [f32]) -> Result<()> {
        self.download(from, to)
    }

    fn upload_integers(&self, from: &[i32], to: SpanMut<'_, CudaIntegers>) -> Result<()> {
        expect_len("upload", to.len, from.len())?;
        let address = self.integers(to.read());
        if from.is_empty() { Ok(()) } else { self.write(from, address) }
    }

    fn download_integers(&self, from: Span<'_, CudaIntegers>, to: &mut [i32]) -> Result<()> {
        expect_len("download", to.len(), from.len)?;
        let address = self.integers(from);
        if to.is_empty() { Ok(()) } else { self.read(address, to) }
    }

    fn copy(&self, from: Span<'_, CudaBuffer>, mut to: SpanMut<'_, CudaBuffer>) -> Result<()> {
        expect_len("copy", to.len, from.len)?;
        let (source, target) = (self.address(from), self.address_mut(&mut to));
        let (source_format, format) = (from.buffer.format, to.buffer.format);
        if source_format == format {
            return self.copy_bytes(source, target, from.len * width(format));
        }
        self.cast((source, source_format), (target, format), from.len)
    }

    fn copy_integers(&self, from: Span<'_, CudaIntegers>, to: SpanMut<'_, CudaIntegers>) -> Result<()> {
        expect_len("copy", to.len, from.len)?;
        self.copy_bytes(self.integers(from), self.integers(to.read()), from.len * size_of::<i32>())
    }
}

impl Cuda {
    fn widened<T: Pod + Zeroable>(&self, address: u64, len: usize) -> Result<Vec<T>> {
        let mut values = vec![T::zeroed(); len];
        self.read(address, &mut values)?;
        Ok(values)
    }
}

pub(super) fn narrowed<T>(values: &[f32], convert: impl Fn(f32) -> T) -> Vec<T> {
    values.iter().copied().map(convert).collect()
}

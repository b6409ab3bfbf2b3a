//! Convolution of NHWC activations with OHWI filters (cuDNN's KRSC), no bias, square kernel, equal stride and padding on all sides.
//!
//! On the CPU the shape decides between three algorithms: `winograd` (3x3 filters at stride 1 on images of more than three pixels),
//! `im2row` (a large filter on few channels), and `indirect_gemm` for everything else. All of them split the work by shapes only, and multiply by
//! the filter in panels, made anew each time or once for many ([`Filter`]).

mod cuda;
mod filter;
mod im2row;
mod indirect_gemm;
mod winograd;

pub use crate::device::ConvGeometry;
pub use filter::{Filter, PreparedFilter};

pub(super) use filter::Operand;

use super::heuristics::ConvAlgorithm;
use super::{In, Out};
use crate::device::{Cpu, Storage};
use crate::error::{Result, expect_len};
use rayon::prelude::*;
use std::fmt;

/// What is done to a part of the output, whole pixels from the given number on, as soon as it is complete and while it is in the cache.
pub(super) type Finish<'a> = &'a (dyn Fn(usize, &mut [f32]) + Sync);

/// Convolution and its two gradients.
pub trait Convolution: Storage {
    /// What this device makes of a filter before it multiplies by it; see [`Filter`].
    type Prepared: fmt::Debug + Send + Sync;

    /// Makes it for many convolutions of this geometry; `None` where they would gain nothing that is worth the memory.
    ///
    /// # Errors
    /// As [`Convolution::conv_forward`], and what the device reports.
    fn conv_prepare(&self, geometry: &ConvGeometry, filter: In<'_, Self>) -> Result<Option<Self::Prepared>>;

    /// `output[n,y,x,o] = sum_{r,s,i} input[n, y*stride+r-padding, x*stride+s-padding, i] * filter[o,r,s,i]`.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if a span has not the length the geometry says.
    fn conv_forward(&self, geometry: &ConvGeometry, input: In<'_, Self>, filter: In<'_, Self>, output: Out<'_, Self>)
    -> Result<()>;

    /// Gradient with respect to the input; added to what `input_gradient` holds when `accumulate`.
    ///
    /// # Errors
    /// As [`Convolution::conv_forward`].
    fn conv_backward_input(
        &self,
        geometry: &ConvGeometry,
        output_gradient: In<'_, Self>,
        filter: In<'_, Self>,
        input_gradient: Out<'_, Self>,
        accumulate: bool,
    ) -> Result<()>;

    /// Gradient with respect to the filter, overwriting `filter_gradient`.
    ///
    /// # Errors
    /// As [`Convolution::conv_forward`].
    fn conv_backward_filter(
        &self,
        geometry: &ConvGeometry,
        input: In<'_, Self>,
        output_gradient: In<'_, Self>,
        filter_gradient: Out<'_, Self>,
    ) -> Result<()>;
}

impl Convolution for Cpu {
    type Prepared = PreparedFilter;

    fn conv_prepare(&self, geometry: &ConvGeometry, filter: In<'_, Self>) -> Result<Option<PreparedFilter>> {
        expect_len("convolution filter", geometry.filter_len(), filter.len)?;
        Ok(filter::prepare(self, geometry, filter.as_slice()))
    }

    fn conv_forward(
        &self,
        geometry: &ConvGeometry,
        input: In<'_, Self>,
        filter: In<'_, Self>,
        output: Out<'_, Self>,
    ) -> Result<()> {
        check(geometry, input.len, filter.len, output.len)?;
        let operands = (input.as_slice(), Operand::new(filter.as_slice()));
        forward(self, geometry, operands, output.into_slice(), &|_, _| {});
        Ok(())
    }

    fn conv_backward_input(
        &self,
        geometry: &ConvGeometry,
        output_gradient: In<'_, Self>,
        filter: In<'_, Self>,
        input_gradient: Out<'_, Self>,
        accumulate: bool,
    ) -> Result<()> {
        check(geometry, input_gradient.len, filter.len, output_gradient.len)?;
        let (gradient, filter, input_gradient) = (output_gradient.as_slice(), filter.as_slice(), input_gradient.into_slice());
        if geometry.batch == 0 {
            return Ok(());
        }
        if algorithm(geometry) == ConvAlgorithm::Winograd {
            winograd::backward_input(self, geometry, (gradient, filter), input_gradient, accumulate);
        } else {
            indirect_gemm::backward_input(self, geometry, (gradient, filter), input_gradient, accumulate);
        }
        Ok(())
    }

    fn conv_backward_filter(
        &self,
        geometry: &ConvGeometry,
        input: In<'_, Self>,
        output_gradient: In<'_, Self>,
        filter_gradient: Out<'_, Self>,
    ) -> Result<()> {
        check(geometry, input.len, filter_gradient.len, output_gradient.len)?;
        let (input, gradient, filter_gradient) = (input.as_slice(), output_gradient.as_slice(), filter_gradient.into_slice());
        if geometry.batch == 0 {
            filter_gradient.fill(0.0);
            return Ok(());
        }
        match algorithm(geometry) {
            ConvAlgorithm::Winograd => winograd::backward_filter(self, geometry, input, gradient, filter_gradient),
            ConvAlgorithm::Im2Row => im2row::backward_filter(self, geometry, input, gradient, filter_gradient),
            ConvAlgorithm::IndirectGemm => indirect_gemm::backward_filter(self, geometry, input, gradient, filter_gradient),
        }
        Ok(())
    }
}

/// How the CPU convolves.
fn algorithm(geometry: &ConvGeometry) -> ConvAlgorithm {
    ConvAlgorithm::chosen(geometry, winograd::is_possible(geometry))
}

impl ConvAlgorithm {
    /// Length of the panels that it makes of a filter.
    fn panels_len(self, geometry: &ConvGeometry) -> usize {
        match self {
            Self::Winograd => winograd::panels_len(geometry),
            Self::Im2Row => im2row::panels_len(geometry),
            Self::IndirectGemm => indirect_gemm::panels_len(geometry),
        }
    }

    /// Makes them, on the threads of the pool it is called in.
    fn pack(self, geometry: &ConvGeometry, filter: &[f32], panels: &mut [f32]) {
        match self {
            Self::Winograd => winograd::pack_filter(geometry, filter, panels),
            Self::Im2Row => im2row::pack_filter(geometry, filter, panels),
            Self::IndirectGemm => indirect_gemm::pack_filter(geometry, filter, panels),
        }
    }
}

/// Convolution of spans whose lengths were checked.
pub(super) fn forward(cpu: &Cpu, geometry: &ConvGeometry, operands: (&[f32], Operand<'_>), output: &mut [f32], finish: Finish<'_>) {
    if geometry.batch == 0 {
        return;
    }
    match algorithm(geometry) {
        ConvAlgorithm::Winograd => winograd::forward(cpu, geometry, operands, output, finish),
        ConvAlgorithm::Im2Row => im2row::forward(cpu, geometry, operands, output, finish),
        ConvAlgorithm::IndirectGemm => indirect_gemm::forward(cpu, geometry, operands, output, finish),
    }
}

pub(super) fn check(geometry: &ConvGeometry, input: usize, filter: usize, output: usize) -> Result<()> {
    expect_len("convolution input", geometry.input_len(), input)?;
    expect_len("convolution filter", geometry.filter_len(), filter)?;
    expect_len("convolution output", geometry.output_len(), output)
}

/// Adds parts, each as long as `total`, in their order.
fn add_parts(parts: &[f32], total: &mut [f32]) {
    const CHUNK: usize = 4096;
    let len = total.len();
    total.par_chunks_mut(CHUNK).enumerate().for_each(|(index, total)| {
        for part in parts.chunks_exact(len) {
            let part = &part[index * CHUNK..][..total.len()];
            total.iter_mut().zip(part).for_each(|(total, part)| *total += part);
        }
    });
}

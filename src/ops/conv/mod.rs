//! Convolution of NHWC activations with OHWI filters (cuDNN's KRSC), no bias, square kernel, equal stride and padding on all sides.
//!
//! On the CPU the shape decides between three algorithms: `winograd` (3x3 filters at stride 1 on images of more than three pixels),
//! `runs` (a large filter on few channels), and `taps` for everything else. All of them split the work by shapes only.

mod cuda;
mod runs;
mod taps;
mod tiles;
mod transform;
mod winograd;

pub use crate::backend::ConvGeometry;

use super::{In, Out};
use crate::backend::{Cpu, Storage};
use crate::error::{Result, expect_len};
use rayon::prelude::*;

/// What is done to a part of the output, whole pixels from the given number on, as soon as it is complete and while it is in the cache.
pub(super) type Finish<'a> = &'a (dyn Fn(usize, &mut [f32]) + Sync);

/// Convolution and its two gradients.
pub trait Convolution: Storage {
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
    fn conv_forward(
        &self,
        geometry: &ConvGeometry,
        input: In<'_, Self>,
        filter: In<'_, Self>,
        output: Out<'_, Self>,
    ) -> Result<()> {
        check(geometry, input.len, filter.len, output.len)?;
        forward(self, geometry, (input.as_slice(), filter.as_slice()), output.into_slice(), &|_, _| {});
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
        if winograd::fits(geometry) {
            winograd::backward_input(self, geometry, (gradient, filter), input_gradient, accumulate);
        } else {
            taps::backward_input(self, geometry, (gradient, filter), input_gradient, accumulate);
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
        if winograd::fits(geometry) {
            winograd::backward_filter(self, geometry, input, gradient, filter_gradient);
        } else if runs::fits(geometry) {
            runs::backward_filter(self, geometry, input, gradient, filter_gradient);
        } else {
            taps::backward_filter(self, geometry, input, gradient, filter_gradient);
        }
        Ok(())
    }
}

/// Convolution of spans whose lengths were checked.
pub(super) fn forward(cpu: &Cpu, geometry: &ConvGeometry, operands: (&[f32], &[f32]), output: &mut [f32], finish: Finish<'_>) {
    if geometry.batch == 0 {
        return;
    }
    if winograd::fits(geometry) {
        winograd::forward(cpu, geometry, operands, output, finish);
    } else if runs::fits(geometry) {
        runs::forward(cpu, geometry, operands, output, finish);
    } else {
        taps::forward(cpu, geometry, operands, output, finish);
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

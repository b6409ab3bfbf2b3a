//! Poolings on a GPU: `kernels/pool.cu`.

use super::cpu::expect_positions;
use super::{GlobalPooling, Pool, PoolGeometry};
use crate::device::Cuda;
use crate::device::cuda::common_format;
use crate::device::cuda::kernel::Format;
use crate::error::{Error, Result, expect_len};
use crate::kernel_args::pool::PoolParams;
use crate::ops::{In, Out};

fn params(geometry: &PoolGeometry) -> PoolParams {
    PoolParams {
        input: 0,
        output: 0,
        output_gradient: 0,
        input_gradient: 0,
        batch: geometry.batch as u32,
        height: geometry.height as u32,
        width: geometry.width as u32,
        channels: geometry.channels as u32,
        out_height: geometry.out_height() as u32,
        out_width: geometry.out_width() as u32,
        channels_at_once: 1,
        padding: 0,
    }
}

/// Launches `<what>_<format>` with a thread for each item.
///
/// # Safety
/// The addresses in `params` must be those of buffers as large as its sizes say.
unsafe fn launch(cuda: &Cuda, what: &str, format: Format, items: usize, params: PoolParams) -> Result<()> {
    if items == 0 {
        return Ok(());
    }
    let (image, params) = (params.height as usize * params.width as usize * params.channels as usize, params.in_vectors(format));
    if i32::try_from(image).is_err() || u32::try_from(items).is_err() {
        return Err(Error::shape("pooling", "images of less than 2^31 values, less than 2^32 in all", format!("{image}, {items}")));
    }
    // SAFETY: the caller's promise.
    unsafe { cuda.launch("pool", &format!("{what}_{}", format.suffix()), params.shape(items), params) }
}

fn name(pooling: GlobalPooling, direction: &str) -> String {
    let kind = match pooling {
        GlobalPooling::Avg => "avg",
        GlobalPooling::Max => "max",
    };
    format!("global_{kind}_pool_{direction}")
}

impl Pool for Cuda {
    fn max_pool_forward(&self, geometry: &PoolGeometry, input: In<'_, Self>, mut output: Out<'_, Self>) -> Result<()> {
        expect_positions(geometry)?;
        expect_len("max pool input", geometry.input_len(), input.len)?;
        expect_len("max pool output", geometry.output_len(), output.len)?;
        let format = common_format("max pool", input, &[output.read()])?;
        let params = PoolParams { input: self.address(input), output: self.address_mut(&mut output), ..params(geometry) };
        // SAFETY: both spans have the lengths of this geometry, checked above.
        unsafe { launch(self, "max_pool_forward", format, geometry.output_len(), params) }
    }

    fn max_pool_backward(
        &self,
        geometry: &PoolGeometry,
        input: In<'_, Self>,
        output_gradient: In<'_, Self>,
        mut input_gradient: Out<'_, Self>,
    ) -> Result<()> {
        expect_positions(geometry)?;
        expect_len("max pool input", geometry.input_len(), input.len)?;
        expect_len("max pool output gradient", geometry.output_len(), output_gradient.len)?;
        expect_len("max pool input gradient", geometry.input_len(), input_gradient.len)?;
        let format = common_format("max pool", input, &[output_gradient, input_gradient.read()])?;
        let params = PoolParams {
            input: self.address(input),
            output_gradient: self.address(output_gradient),
            input_gradient: self.address_mut(&mut input_gradient),
            ..params(geometry)
        };
        // SAFETY: the three spans have the lengths of this geometry, checked above.
        unsafe { launch(self, "max_pool_backward", format, params.strips(), params) }
    }

    fn global_pool_forward(
        &self,
        geometry: &PoolGeometry,
        pooling: GlobalPooling,
        input: In<'_, Self>,
        mut output: Out<'_, Self>,
    ) -> Result<()> {
        expect_positions(geometry)?;
        let items = geometry.batch * geometry.channels;
        expect_len("global pool input", geometry.input_len(), input.len)?;
        expect_len("global pool output", items, output.len)?;
        let format = common_format("global pool", input, &[output.read()])?;
        let params = PoolParams { input: self.address(input), output: self.address_mut(&mut output), ..params(geometry) };
        // SAFETY: both spans have the lengths of this geometry, checked above.
        unsafe { launch(self, &name(pooling, "forward"), format, items, params) }
    }

    fn global_pool_backward(
        &self,
        geometry: &PoolGeometry,
        pooling: GlobalPooling,
        input: In<'_, Self>,
        output_gradient: In<'_, Self>,
        mut input_gradient: Out<'_, Self>,
    ) -> Result<()> {
        expect_positions(geometry)?;
        let items = geometry.batch * geometry.channels;
        expect_len("global pool input", geometry.input_len(), input.len)?;
        expect_len("global pool output gradient", items, output_gradient.len)?;
        expect_len("global pool input gradient", geometry.input_len(), input_gradient.len)?;
        let format = common_format("global pool", input, &[output_gradient, input_gradient.read()])?;
        let params = PoolParams {
            input: self.address(input),
            output_gradient: self.address(output_gradient),
            input_gradient: self.address_mut(&mut input_gradient),
            ..params(geometry)
        };
        // SAFETY: the three spans have the lengths of this geometry, checked above.
        unsafe { launch(self, &name(pooling, "backward"), format, items, params) }
    }
}

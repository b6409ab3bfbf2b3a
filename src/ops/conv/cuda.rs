//! Convolutions on a GPU, by cuDNN. A 16-bit gradient of a filter is made in 16 bit and then widened, as cuDNN has no precompiled engine
//! that writes it in 32.

use super::{ConvGeometry, Convolution, check};
use crate::device::cuda::kernel::Format;
use crate::device::cuda::{DeviceMemory, common_format, expect_full, width};
use crate::device::cudnn::{self, Direction, Operands};
use crate::device::{Cuda, Workspace};
use crate::error::Result;
use crate::kernel_args::pad::{self, PadParams};
use crate::ops::{In, Out};
use std::convert::Infallible;

/// Bytes that a pixel is padded to where it has fewer, as the stem's three channels: a vector load of a thread. cuDNN pads to as much
/// itself, in its workspace; padded here, its engines round no partial sum to 16 bit (`.ci/cudnn-plans.tsv`, `r`).
const PIXEL_BYTES: usize = 16;

/// Channels as cuDNN gets them.
fn padded_channels(channels: usize, format: Format) -> usize {
    channels.max(PIXEL_BYTES / width(format))
}

impl Cuda {
    /// Whether cuDNN has an engine for this.
    ///
    /// # Errors
    /// Those of loading the library.
    pub(in crate::ops) fn offers(&self, geometry: &ConvGeometry, format: Format, direction: Direction) -> Result<bool> {
        let in_channels = padded_channels(geometry.in_channels, format);
        self.cudnn()?.offers(&cudnn::Convolution { geometry: ConvGeometry { in_channels, ..*geometry }, format, direction })
    }

    /// Puts a convolution on the stream, its input and filter padded where they have few channels. (The images' gradient is never asked for
    /// in training; it is made as it is.)
    ///
    /// # Safety
    /// The addresses must be those of tensors as large as the geometry says, in this format; a gradient of the filter has as many channels
    /// as [`padded_channels`] says.
    pub(in crate::ops) unsafe fn convolution(
        &self,
        geometry: &ConvGeometry,
        format: Format,
        direction: Direction,
        mut operands: Operands,
    ) -> Result<()> {
        let in_channels = match direction {
            Direction::InputGradient { .. } => geometry.in_channels,
            _ => padded_channels(geometry.in_channels, format),
        };
        let convolution = cudnn::Convolution { geometry: ConvGeometry { in_channels, ..*geometry }, format, direction };
        let mut padded = Vec::new();
        if in_channels != geometry.in_channels {
            let wider = (geometry.in_channels, in_channels);
            padded.push(self.padded((operands.input, format), geometry.input_len() / geometry.in_channels, wider)?);
            operands.input = padded[0].address();
            if matches!(direction, Direction::Forward(_)) {
                padded.push(self.padded((operands.filter, format), geometry.filter_len() / geometry.in_channels, wider)?);
                operands.filter = padded[1].address();
            }
        }
        let bytes = self.cudnn()?.workspace_bytes(&convolution)?;
        let memory = self.scratch(bytes).map_err(|error| error.allocating("a convolution's workspace", "--batch-size"))?;
        let workspace = Workspace { address: memory.address(), bytes };
        // SAFETY: the caller's promise; the workspace is used on this stream only.
        unsafe { self.put_convolution(convolution, operands, workspace) }
    }

    /// A copy of `rows` rows that are as wide as the second of `channels`, zeros behind the first of them.
    fn padded(&self, (from, format): (u64, Format), rows: usize, channels: (usize, usize)) -> Result<DeviceMemory> {
        let memory = self.scratch(rows * channels.1 * width(format))?;
        let params =
            PadParams { input: from, output: memory.address(), rows: rows as u64, from: channels.0 as u32, to: channels.1 as u32 };
        let name = format!("pad_{}_{}", format.suffix(), format.suffix());
        // SAFETY: the caller's rows are as many and as wide as said, and so are the copy's.
        unsafe { self.launch("pad", &name, pad::shape(rows * channels.1), params)? };
        Ok(memory)
    }
}

impl Convolution for Cuda {
    /// cuDNN takes filters as they are.
    type Prepared = Infallible;

    fn conv_prepare(&self, _geometry: &ConvGeometry, _filter: In<'_, Self>) -> Result<Option<Infallible>> {
        Ok(None)
    }

    fn conv_forward(
        &self,
        geometry: &ConvGeometry,
        input: In<'_, Self>,
        filter: In<'_, Self>,
        mut output: Out<'_, Self>,
    ) -> Result<()> {
        check(geometry, input.len, filter.len, output.len)?;
        let format = common_format("convolution", input, &[output.read()])?;
        if geometry.batch == 0 {
            return Ok(());
        }
        let operands = Operands {
            input: self.address(input),
            filter: self.address_in(filter, format)?,
            output: self.address_mut(&mut output),
            ..Operands::default()
        };
        // SAFETY: lengths and formats were checked above.
        unsafe { self.convolution(geometry, format, Direction::Forward(None), operands) }
    }

    fn conv_backward_input(
        &self,
        geometry: &ConvGeometry,
        output_gradient: In<'_, Self>,
        filter: In<'_, Self>,
        mut input_gradient: Out<'_, Self>,
        accumulate: bool,
    ) -> Result<()> {
        check(geometry, input_gradient.len, filter.len, output_gradient.len)?;
        let format = common_format("convolution", output_gradient, &[input_gradient.read()])?;
        if geometry.batch == 0 {
            return Ok(());
        }
        let target = self.address_mut(&mut input_gradient);
        let operands = Operands {
            input: target,
            filter: self.address_in(filter, format)?,
            output: self.address(output_gradient),
            ..Operands::default()
        };
        // SAFETY: lengths and formats were checked above.
        unsafe { self.convolution(geometry, format, Direction::InputGradient { accumulate }, operands) }
    }

    fn conv_backward_filter(
        &self,
        geometry: &ConvGeometry,
        input: In<'_, Self>,
        output_gradient: In<'_, Self>,
        mut filter_gradient: Out<'_, Self>,
    ) -> Result<()> {
        check(geometry, input.len, filter_gradient.len, output_gradient.len)?;
        let format = common_format("convolution", input, &[output_gradient])?;
        expect_full("filter gradient", filter_gradient.read())?;
        let result = self.address_mut(&mut filter_gradient);
        if geometry.batch == 0 {
            return self.clear(result, filter_gradient.len * width(Format::F32));
        }
        let rows = geometry.filter_len() / geometry.in_channels;
        let channels = padded_channels(geometry.in_channels, format);
        let direct = format == Format::F32 && channels == geometry.in_channels;
        let made = if direct { None } else { Some(self.scratch(rows * channels * width(format))?) };
        let target = made.as_ref().map_or(result, |made| made.address());
        let operands =
            Operands { input: self.address(input), filter: target, output: self.address(output_gradient), ..Operands::default() };
        // SAFETY: lengths and formats were checked above, and the gradient has its padded size.
        unsafe { self.convolution(geometry, format, Direction::FilterGradient { full_precision: false }, operands)? };
        match made {
            None => Ok(()),
            Some(made) if channels == geometry.in_channels => {
                self.cast((made.address(), format), (result, Format::F32), filter_gradient.len)
            }
            Some(made) => {
                let (from, to) = (channels as u32, geometry.in_channels as u32);
                let params = PadParams { input: made.address(), output: result, rows: rows as u64, from, to };
                let name = format!("pad_{}_f32", format.suffix());
                // SAFETY: both gradients have these rows, of these widths.
                unsafe { self.launch("pad", &name, pad::shape(filter_gradient.len), params) }
            }
        }
    }
}

//! What is to be computed, and as cuDNN's operation graph.
//!
//! cuDNN names sizes in the order (N, C, H, W) whatever the layout; the strides say that channels are innermost, which is NHWC for
//! activations and KRSC for filters.

use super::descriptor::{Attribute, Building, Descriptor, Kind, Value};
use crate::device::ConvGeometry;
use crate::device::cuda::kernel::Format;
use crate::error::{Error, Result};
use cudarc::cudnn::sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
use cudarc::cudnn::sys::cudnnPointwiseMode_t as Pointwise;
use std::ffi::c_void;
use std::sync::Arc;

/// Alignment that tensors are declared with and addresses must have, in bytes: the widest load of a thread. With less, the engines of
/// the tensor cores are not offered.
pub const ALIGNMENT: u64 = 16;

/// One convolution, forward or a gradient. The input is NHWC, the filter KRSC, all in `format`; sums are taken in 32 bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Convolution {
    /// Sizes.
    pub geometry: ConvGeometry,
    /// Format of activations, filters and their gradients.
    pub format: Format,
    /// Which of the three tensors is computed.
    pub direction: Direction,
}

/// Which tensor of a convolution is computed from the two others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The output, possibly with what follows the convolution.
    Forward(Option<Fusion>),
    /// The gradient of the input.
    InputGradient {
        /// Added to what the gradient holds, instead of overwriting it. The sum is rounded to `format`.
        accumulate: bool,
    },
    /// The gradient of the filter.
    FilterGradient {
        /// In 32 bit whatever the format. Offered by engines that cuDNN compiles at run time (NVRTC).
        full_precision: bool,
    },
}

/// What is applied to the output of a convolution before it is written: `output * scale + bias`, then `+ residual`, then ReLU. Scale and
/// bias are 32-bit vectors of one number for each channel; that is a frozen batch norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fusion {
    /// Whether a tensor of the output's shape and format is added.
    pub residual: bool,
    /// Whether a ReLU ends it.
    pub relu: bool,
}

/// Device addresses of a convolution's tensors, each a multiple of [`ALIGNMENT`]. Which is written depends on the direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Operands {
    /// Input, or its gradient.
    pub input: u64,
    /// Filter, or its gradient.
    pub filter: u64,
    /// Output, or its gradient.
    pub output: u64,
    /// Of a [`Fusion`]; else unused.
    pub scale: u64,
    /// Of a [`Fusion`]; else unused.
    pub bias: u64,
    /// Of a [`Fusion`] with residual; else unused.
    pub residual: u64,
}

/// Names of tensors within a graph.
mod id {
    pub(super) const INPUT: i64 = 1;
    pub(super) const FILTER: i64 = 2;
    pub(super) const OUTPUT: i64 = 3;
    pub(super) const SCALE: i64 = 4;
    pub(super) const BIAS: i64 = 5;
    pub(super) const RESIDUAL: i64 = 6;
    pub(super) const FIRST_VIRTUAL: i64 = 10;
}

impl Convolution {
    /// Names and addresses of the tensors that this convolution reads and writes.
    ///
    /// # Errors
    /// [`Error::Shape`] if an address is null or not aligned.
    pub(super) fn bind(&self, operands: &Operands) -> Result<(Vec<i64>, Vec<u64>)> {
        let mut bound = vec![
            ("input", id::INPUT, operands.input),
            ("filter", id::FILTER, operands.filter),
            ("output", id::OUTPUT, operands.output),
        ];
        if let Direction::Forward(Some(fusion)) = self.direction {
            bound.extend([("scale", id::SCALE, operands.scale), ("bias", id::BIAS, operands.bias)]);
            bound.extend(fusion.residual.then_some(("residual", id::RESIDUAL, operands.residual)));
        }
        for (name, _, address) in &bound {
            crate::device::library::check_address(&format!("convolution {name}"), *address, ALIGNMENT)?;
        }
        Ok(bound.into_iter().map(|(_, name, address)| (name, address)).unzip())
    }

    /// The operation graph, for a device that is there if a handle is given.
    pub(super) fn graph(&self, handle: Option<*mut c_void>) -> Result<Arc<Descriptor>> {
        if self.geometry.batch == 0 {
            return Err(Error::shape("cuDNN convolution", "at least one image", 0));
        }
        let operations = Graph::of(self)?.operations;
        let building = Building::new(Kind::CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR)?
            .set(Attribute::CUDNN_ATTR_OPERATIONGRAPH_OPS, Value::Descriptors(&operations))?;
        match handle {
            Some(handle) => building.set(Attribute::CUDNN_ATTR_OPERATIONGRAPH_HANDLE, Value::Handle(handle))?.finalize(),
            None => building.finalize(),
        }
    }
}

/// A graph under construction.
struct Graph {
    operations: Vec<Arc<Descriptor>>,
    next_virtual: i64,
}

/// Sizes in cuDNN's order.
type Sizes = [usize; 4];

impl Graph {
    fn of(convolution: &Convolution) -> Result<Self> {
        let g = &convolution.geometry;
        let format = convolution.format;
        let output_sizes = [g.batch, g.out_channels, g.out_height(), g.out_width()];
        let filter_sizes = [g.out_channels, g.in_channels, g.kernel, g.kernel];
        let input = tensor(id::INPUT, format, [g.batch, g.in_channels, g.height, g.width])?;
        let filter = tensor(id::FILTER, format, filter_sizes)?;
        let output = tensor(id::OUTPUT, format, output_sizes)?;
        let mut graph = Self { operations: Vec::new(), next_virtual: id::FIRST_VIRTUAL };
        match convolution.direction {
            Direction::Forward(None) => graph.forward(g, [input, filter, output])?,
            Direction::Forward(Some(fusion)) => {
                let sum = graph.intermediate(output_sizes)?;
                graph.forward(g, [input, filter, sum.clone()])?;
                graph.fuse(fusion, sum, output, (format, output_sizes))?;
            }
            Direction::InputGradient { accumulate } => graph.input_gradient(g, [input, filter, output], accumulate)?,
            Direction::FilterGradient { full_precision } if full_precision && format != Format::F32 => {
                let sum = graph.intermediate(filter_sizes)?;
                graph.filter_gradient(g, [input, sum.clone(), output])?;
                let wide = tensor(id::FILTER, Format::F32, filter_sizes)?;
                graph.pointwise(Pointwise::CUDNN_POINTWISE_IDENTITY, sum, None, wide)?;
            }
            Direction::FilterGradient { .. } => graph.filter_gradient(g, [input, filter, output])?,
        }
        Ok(graph)
    }

    /// Scale, bias, residual and ReLU, from `sum` to `output`.
    fn fuse(&mut self, fusion: Fusion, sum: Arc<Descriptor>, output: Arc<Descriptor>, shape: (Format, Sizes)) -> Result<()> {
        let (format, sizes) = shape;
        let channels = [1, sizes[1], 1, 1];
        let mut steps = vec![
            (Pointwise::CUDNN_POINTWISE_MUL, Some(tensor(id::SCALE, Format::F32, channels)?)),
            (Pointwise::CUDNN_POINTWISE_ADD, Some(tensor(id::BIAS, Format::F32, channels)?)),
        ];
        if fusion.residual {
            steps.push((Pointwise::CUDNN_POINTWISE_ADD, Some(tensor(id::RESIDUAL, format, sizes)?)));
        }
        if fusion.relu {
            steps.push((Pointwise::CUDNN_POINTWISE_RELU_FWD, None));
        }
        let last = steps.len() - 1;
        let mut from = sum;
        for (index, (mode, operand)) in steps.into_iter().enumerate() {
            let to = if index == last { output.clone() } else { self.intermediate(sizes)? };
            self.pointwise(mode, from, operand, to.clone())?;
            from = to;
        }
        Ok(())
    }

    fn forward(&mut self, geometry: &ConvGeometry, [input, filter, output]: [Arc<Descriptor>; 3]) -> Result<()> {
        use Attribute as A;
        let operation = Building::new(Kind::CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR)?
            .set(A::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, Value::Float(1.0))?
            .set(A::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, Value::Float(0.0))?
            .set(A::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, Value::Descriptors(&[window(geometry)?]))?
            .set(A::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, Value::Descriptors(&[input]))?
            .set(A::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, Value::Descriptors(&[filter]))?
            .set(A::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, Value::Descriptors(&[output]))?;
        self.operations.push(operation.finalize()?);
        Ok(())
    }

    fn input_gradient(
        &mut self,
        geometry: &ConvGeometry,
        [input, filter, output]: [Arc<Descriptor>; 3],
        accumulate: bool,
    ) -> Result<()> {
        use Attribute as A;
        let beta = if accumulate { 1.0 } else { 0.0 };
        let operation = Building::new(Kind::CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR)?
            .set(A::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, Value::Float(1.0))?
            .set(A::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA, Value::Float(beta))?
            .set(A::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, Value::Descriptors(&[window(geometry)?]))?
            .set(A::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, Value::Descriptors(&[input]))?
            .set(A::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, Value::Descriptors(&[filter]))?
            .set(A::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, Value::Descriptors(&[output]))?;
        self.operations.push(operation.finalize()?);
        Ok(())
    }

    fn filter_gradient(&mut self, geometry: &ConvGeometry, [input, filter, output]: [Arc<Descriptor>; 3]) -> Result<()> {
        use Attribute as A;
        let operation = Building::new(Kind::CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR)?
            .set(A::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, Value::Float(1.0))?
            .set(A::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA, Value::Float(0.0))?
            .set(A::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, Value::Descriptors(&[window(geometry)?]))?
            .set(A::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, Value::Descriptors(&[input]))?
            .set(A::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, Value::Descriptors(&[filter]))?
            .set(A::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY, Value::Descriptors(&[output]))?;
        self.operations.push(operation.finalize()?);
        Ok(())
    }

    fn pointwise(
        &mut self,
        mode: Pointwise,
        from: Arc<Descriptor>,
        operand: Option<Arc<Descriptor>>,
        to: Arc<Descriptor>,
    ) -> Result<()> {
        use Attribute as A;
        let function = Building::new(Kind::CUDNN_BACKEND_POINTWISE_DESCRIPTOR)?
            .set(A::CUDNN_ATTR_POINTWISE_MODE, Value::PointwiseMode(mode))?
            .set(A::CUDNN_ATTR_POINTWISE_MATH_PREC, Value::Format(Format::F32))?
            .finalize()?;
        let mut operation = Building::new(Kind::CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR)?
            .set(A::CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, Value::Descriptors(&[function]))?
            .set(A::CUDNN_ATTR_OPERATION_POINTWISE_XDESC, Value::Descriptors(&[from]))?
            .set(A::CUDNN_ATTR_OPERATION_POINTWISE_YDESC, Value::Descriptors(&[to]))?;
        if let Some(operand) = operand {
            operation = operation.set(A::CUDNN_ATTR_OPERATION_POINTWISE_BDESC, Value::Descriptors(&[operand]))?;
        }
        self.operations.push(operation.finalize()?);
        Ok(())
    }

    /// A tensor that is never stored.
    fn intermediate(&mut self, sizes: Sizes) -> Result<Arc<Descriptor>> {
        self.next_virtual += 1;
        building(self.next_virtual, Format::F32, sizes)?.set(Attribute::CUDNN_ATTR_TENSOR_IS_VIRTUAL, Value::Flag(true))?.finalize()
    }
}

fn tensor(name: i64, format: Format, sizes: Sizes) -> Result<Arc<Descriptor>> {
    building(name, format, sizes)?.finalize()
}

fn building(name: i64, format: Format, sizes: Sizes) -> Result<Building> {
    let [n, c, h, w] = sizes.map(|size| i64::try_from(size).expect("sizes are far below 2^63"));
    Building::new(Kind::CUDNN_BACKEND_TENSOR_DESCRIPTOR)?
        .set(Attribute::CUDNN_ATTR_TENSOR_UNIQUE_ID, Value::Integers(&[name]))?
        .set(Attribute::CUDNN_ATTR_TENSOR_DATA_TYPE, Value::Format(format))?
        .set(Attribute::CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, Value::Integers(&[ALIGNMENT.cast_signed()]))?
        .set(Attribute::CUDNN_ATTR_TENSOR_DIMENSIONS, Value::Integers(&[n, c, h, w]))?
        .set(Attribute::CUDNN_ATTR_TENSOR_STRIDES, Value::Integers(&[h * w * c, 1, w * c, c]))
}

/// How the filter moves over the input.
fn window(geometry: &ConvGeometry) -> Result<Arc<Descriptor>> {
    let both = |size: usize| [i64::try_from(size).expect("sizes are far below 2^63"); 2];
    Building::new(Kind::CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR)?
        .set(Attribute::CUDNN_ATTR_CONVOLUTION_COMP_TYPE, Value::Format(Format::F32))?
        .set(Attribute::CUDNN_ATTR_CONVOLUTION_CONV_MODE, Value::ConvolutionMode(CUDNN_CROSS_CORRELATION))?
        .set(Attribute::CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, Value::Integers(&[2]))?
        .set(Attribute::CUDNN_ATTR_CONVOLUTION_DILATIONS, Value::Integers(&[1, 1]))?
        .set(Attribute::CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, Value::Integers(&both(geometry.stride)))?
        .set(Attribute::CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, Value::Integers(&both(geometry.padding)))?
        .set(Attribute::CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, Value::Integers(&both(geometry.padding)))?
        .finalize()
}

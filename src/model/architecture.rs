//! ResNet 18, 34, 50 and 101 as a list of layers, with torchvision's structure (v1.5: the stride sits in the 3x3 convolution), names
//! and parameter shapes, and an embedding head in the place of the classifier.

use crate::error::{Error, Result};
use crate::ops::pool::GlobalPooling;
use crate::settings::choice;

/// Largest side of an image, in pixels: with it no size of a network leaves the integers.
const LARGEST_IMAGE: usize = 1 << 14;
/// Longest embedding.
const LONGEST_EMBEDDING: usize = 1 << 16;

choice! {
    /// Which ResNet.
    pub enum Depth {
        /// 10 layers, basic blocks, half the channels of the others: 1.2 million parameters, for studies of many runs. Not in torchvision.
        Small = "small",
        /// 18 layers, basic blocks.
        ResNet18 = "resnet18",
        /// 34 layers, basic blocks.
        ResNet34 = "resnet34",
        /// 50 layers, bottleneck blocks.
        ResNet50 = "resnet50",
        /// 101 layers, bottleneck blocks.
        ResNet101 = "resnet101",
    }
}

impl Depth {
    fn blocks(self) -> [usize; 4] {
        match self {
            Self::Small => [1, 1, 1, 1],
            Self::ResNet18 => [2, 2, 2, 2],
            Self::ResNet34 | Self::ResNet50 => [3, 4, 6, 3],
            Self::ResNet101 => [3, 4, 23, 3],
        }
    }

    /// Channels of the stem and of the first stage's blocks.
    fn channels(self) -> usize {
        if self == Self::Small { 32 } else { 64 }
    }

    fn is_bottleneck(self) -> bool {
        matches!(self, Self::ResNet50 | Self::ResNet101)
    }
}

/// Size of one image's activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Channels.
    pub channels: usize,
}

impl Extent {
    /// Number of values.
    pub fn len(self) -> usize {
        self.height * self.width * self.channels
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// What a node computes. Numbers are indices into [`Architecture::parameters`], or into the batch norms, or of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// Convolution without bias.
    Conv {
        /// Parameter: the filter.
        filter: usize,
        /// Side of the filter.
        kernel: usize,
        /// Step of the filter.
        stride: usize,
    },
    /// Batch norm, then the residual if any, then ReLU if asked.
    BatchNorm {
        /// Parameter: the scale; the shift is the next one.
        scale: usize,
        /// First of this layer's channels among the running means, and among the running variances.
        statistics: usize,
        /// Whether a ReLU follows.
        relu: bool,
        /// Node whose output is added before the ReLU.
        residual: Option<usize>,
    },
    /// The stem's 3x3 maximum.
    MaxPool,
    /// Global pooling.
    GlobalPool(GlobalPooling),
    /// Fully connected.
    Linear {
        /// Parameter: the matrix; the bias is the next one.
        weight: usize,
    },
    /// L2 normalisation.
    Normalize,
}

/// A layer, what it reads, and the size of what it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// What is computed.
    pub layer: Layer,
    /// The node whose output is read; `None` reads the images.
    pub input: Option<usize>,
    /// Size of the output, per image.
    pub output: Extent,
}

/// How a parameter is laid out and initialised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Filter, here `(out, kernel, kernel, in)`, in torch `(out, in, kernel, kernel)`; Kaiming normal, fan out.
    Filter,
    /// Scale of a batch norm; ones.
    Scale,
    /// Shift of a batch norm; zeros.
    Shift,
    /// Matrix or bias of the head; uniform within one over the root of the given fan in.
    Head {
        /// Inputs of the layer.
        fan_in: usize,
    },
}

/// A learned tensor in the flat parameter buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Torchvision's name.
    pub name: String,
    /// Torch's shape.
    pub shape: Vec<usize>,
    /// Layout and initialisation.
    pub role: Role,
    /// First element in the flat buffer: the end of the parameter before, so that a scale and its shift, a matrix and its bias, are one
    /// range. (Every length but the last bias's is a multiple of 32, hence every start is aligned as GPU libraries want it.)
    pub start: usize,
}

impl Parameter {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The layers, the parameters and the statistics of a network for one image size.
#[derive(Clone, Debug, PartialEq)]
pub struct Architecture {
    /// Which ResNet.
    pub depth: Depth,
    /// Side of the square images.
    pub image_size: usize,
    /// Length of the embedding.
    pub dim: usize,
    /// In order of execution; the last one writes the embedding.
    pub nodes: Vec<Node>,
    /// In torchvision's order.
    pub parameters: Vec<Parameter>,
    /// Names (torchvision's, without `.running_mean`), channels and first index of each batch norm's statistics.
    pub norms: Vec<(String, usize, usize)>,
    /// Length of the flat parameter buffer.
    pub parameters_len: usize,
    /// Length of the flat buffers of running means and running variances: the channels of all batch norms.
    pub statistics_len: usize,
}

impl Architecture {
    /// The network of `depth` for `image_size` pixels, with an embedding of `dim` numbers.
    ///
    /// # Errors
    /// [`Error::Config`] if a size is zero or beyond all reason.
    pub fn new(depth: Depth, image_size: usize, dim: usize, pooling: GlobalPooling) -> Result<Self> {
        for (setting, size, most) in [("--image-size", image_size, LARGEST_IMAGE), ("--dim", dim, LONGEST_EMBEDDING)] {
            if size == 0 || size > most {
                return Err(Error::config(format!("{setting} must be from 1 to {most}, found {size}")));
            }
        }
        let empty = Self {
            depth,
            image_size,
            dim,
            nodes: Vec::new(),
            parameters: Vec::new(),
            norms: Vec::new(),
            parameters_len: 0,
            statistics_len: 0,
        };
        let mut builder = Builder { network: empty };
        let trunk = builder.trunk();
        builder.head(trunk, pooling);
        Ok(builder.network)
    }

    /// First parameter of the embedding head in the flat buffer; the trunk's lie before it.
    pub fn head_start(&self) -> usize {
        let is_head = |parameter: &&Parameter| matches!(parameter.role, Role::Head { .. });
        self.parameters.iter().find(is_head).map_or(self.parameters_len, |head| head.start)
    }

    /// Size of one image.
    pub fn image(&self) -> Extent {
        Extent { height: self.image_size, width: self.image_size, channels: 3 }
    }

    /// The convolution whose output batch norm `index` reads, and what that reads; `None` for every other node.
    pub fn convolution_before(&self, index: usize) -> Option<(usize, Option<usize>)> {
        let Node { layer: Layer::BatchNorm { .. }, input: Some(conv), .. } = self.nodes[index] else { return None };
        matches!(self.nodes[conv].layer, Layer::Conv { .. }).then(|| (conv, self.nodes[conv].input))
    }

    /// Size of what node `index` reads.
    pub fn input(&self, index: usize) -> Extent {
        self.nodes[index].input.map_or(self.image(), |input| self.nodes[input].output)
    }
}

struct Builder {
    network: Architecture,
}

impl Builder {
    fn output(&self, node: Option<usize>) -> Extent {
        node.map_or(self.network.image(), |index| self.network.nodes[index].output)
    }

    fn push(&mut self, layer: Layer, input: Option<usize>, output: Extent) -> usize {
        self.network.nodes.push(Node { layer, input, output });
        self.network.nodes.len() - 1
    }

    fn parameter(&mut self, name: String, shape: Vec<usize>, role: Role) -> usize {
        let parameter = Parameter { name, shape, role, start: self.network.parameters_len };
        self.network.parameters_len += parameter.len();
        self.network.parameters.push(parameter);
        self.network.parameters.len() - 1
    }

    fn conv(&mut self, name: &str, input: Option<usize>, channels: usize, kernel: usize, stride: usize) -> usize {
        let from = self.output(input);
        let shape = vec![channels, from.channels, kernel, kernel];
        let filter = self.parameter(format!("{name}.weight"), shape, Role::Filter);
        let side = |length: usize| (length + 2 * (kernel / 2) - kernel) / stride + 1;
        let output = Extent { height: side(from.height), width: side(from.width), channels };
        self.push(Layer::Conv { filter, kernel, stride }, input, output)
    }

    fn norm(&mut self, name: &str, input: usize, relu: bool, residual: Option<usize>) -> usize {
        let output = self.output(Some(input));
        let scale = self.parameter(format!("{name}.weight"), vec![output.channels], Role::Scale);
        self.parameter(format!("{name}.bias"), vec![output.channels], Role::Shift);
        let statistics = self.network.statistics_len;
        self.network.norms.push((name.to_owned(), output.channels, statistics));
        self.network.statistics_len += output.channels;
        self.push(Layer::BatchNorm { scale, statistics, relu, residual }, Some(input), output)
    }

    fn trunk(&mut self) -> usize {
        let stem = self.conv("conv1", None, self.network.depth.channels(), 7, 2);
        let stem = self.norm("bn1", stem, true, None);
        let from = self.output(Some(stem));
        let pooled = Extent { height: from.height.div_ceil(2), width: from.width.div_ceil(2), channels: from.channels };
        let mut last = self.push(Layer::MaxPool, Some(stem), pooled);
        for (stage, blocks) in self.network.depth.blocks().into_iter().enumerate() {
            for block in 0..blocks {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                last = self.block(&format!("layer{}.{block}", stage + 1), last, self.network.depth.channels() << stage, stride);
            }
        }
        last
    }

    /// The residual branch, then the shortcut, then the sum: the order in which torchvision registers their parameters.
    fn block(&mut self, name: &str, input: usize, width: usize, stride: usize) -> usize {
        let bottleneck = self.network.depth.is_bottleneck();
        let kernels: &[(usize, usize, usize)] =
            if bottleneck { &[(width, 1, 1), (width, 3, stride), (4 * width, 1, 1)] } else { &[(width, 3, stride), (width, 3, 1)] };
        let out_channels = kernels[kernels.len() - 1].0;
        let (mut last, mut last_conv) = (input, input);
        for (index, &(channels, kernel, stride)) in kernels.iter().enumerate() {
            last_conv = self.conv(&format!("{name}.conv{}", index + 1), Some(last), channels, kernel, stride);
            if index + 1 < kernels.len() {
                last = self.norm(&format!("{name}.bn{}", index + 1), last_conv, true, None);
            }
        }
        let closing_name = format!("{name}.bn{}", kernels.len());
        if stride == 1 && self.output(Some(input)).channels == out_channels {
            return self.norm(&closing_name, last_conv, true, Some(input));
        }
        let shortcut = self.conv(&format!("{name}.downsample.0"), Some(input), out_channels, 1, stride);
        let shortcut = self.norm(&format!("{name}.downsample.1"), shortcut, false, None);
        self.norm(&closing_name, last_conv, true, Some(shortcut))
    }

    fn head(&mut self, trunk: usize, pooling: GlobalPooling) {
        let features = self.output(Some(trunk)).channels;
        let pooled = self.push(Layer::GlobalPool(pooling), Some(trunk), Extent { height: 1, width: 1, channels: features });
        let dim = self.network.dim;
        let role = Role::Head { fan_in: features };
        let weight = self.parameter("fc.weight".to_owned(), vec![dim, features], role);
        self.parameter("fc.bias".to_owned(), vec![dim], role);
        let output = Extent { height: 1, width: 1, channels: dim };
        let linear = self.push(Layer::Linear { weight }, Some(pooled), output);
        self.push(Layer::Normalize, Some(linear), output);
    }
}

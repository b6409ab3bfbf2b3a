//! Between our flat buffers and torchvision's named tensors: filters are `(out, kernel, kernel, in)` here, `(out, in, kernel, kernel)`
//! there.

use crate::device::host_memory;
use crate::error::{Error, Result};
use crate::files::numbers;
use crate::model::{Architecture, Parameter, Role};
use safetensors::{Dtype, SafeTensors};
use std::path::Path;

/// A tensor to be written.
pub struct NamedTensor {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

impl NamedTensor {
    pub fn floats(name: impl Into<String>, shape: Vec<usize>, values: &[f32]) -> Self {
        Self { name: name.into(), dtype: Dtype::F32, shape, bytes: numbers::as_bytes(values).to_vec() }
    }

    pub fn integers(name: impl Into<String>, values: &[i32]) -> Self {
        Self { name: name.into(), dtype: Dtype::I32, shape: vec![values.len()], bytes: numbers::as_bytes(values).to_vec() }
    }
}

impl safetensors::View for &NamedTensor {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        (&self.bytes).into()
    }
    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// An encoder's values on the host.
pub struct HostWeights {
    pub parameters: Vec<f32>,
    pub running_means: Vec<f32>,
    pub running_variances: Vec<f32>,
    pub batches_tracked: u64,
}

/// Every tensor of an encoder under `prefix` + torchvision's name.
pub fn to_torch(architecture: &Architecture, weights: &HostWeights, prefix: &str) -> Vec<NamedTensor> {
    let mut tensors = Vec::new();
    for parameter in &architecture.parameters {
        let values = &weights.parameters[parameter.start..parameter.start + parameter.len()];
        let name = format!("{prefix}{}", parameter.name);
        tensors.push(NamedTensor::floats(name, parameter.shape.clone(), &permuted(parameter, values, Direction::ToTorch)));
    }
    for (name, channels, start) in &architecture.norms {
        let range = *start..start + channels;
        let statistic = |kind: &str, values: &[f32]| {
            NamedTensor::floats(format!("{prefix}{name}.{kind}"), vec![*channels], &values[range.clone()])
        };
        tensors.push(statistic("running_mean", &weights.running_means));
        tensors.push(statistic("running_var", &weights.running_variances));
        let bytes = weights.batches_tracked.to_le_bytes().to_vec();
        tensors.push(NamedTensor { name: format!("{prefix}{name}.num_batches_tracked"), dtype: Dtype::I64, shape: vec![], bytes });
    }
    tensors
}

/// Reads an encoder back.
///
/// # Errors
/// [`Error::Data`] naming the first tensor that is missing or has another shape.
pub fn from_torch(architecture: &Architecture, file: &Tensors<'_>, prefix: &str) -> Result<HostWeights> {
    // What the header says of the network's size has to be in the file before memory is taken for it.
    for parameter in &architecture.parameters {
        file.bytes(&format!("{prefix}{}", parameter.name), Dtype::F32, &parameter.shape)?;
    }
    let mut parameters =
        host_memory::zeros(architecture.parameters_len).map_err(|error| Error::data(file.path, error.to_string()))?;
    for parameter in &architecture.parameters {
        let values = file.floats(&format!("{prefix}{}", parameter.name), &parameter.shape)?;
        let target = &mut parameters[parameter.start..parameter.start + parameter.len()];
        target.copy_from_slice(&permuted(parameter, &values, Direction::FromTorch));
    }
    let (mut running_means, mut running_variances) = (Vec::new(), Vec::new());
    for (name, channels, _) in &architecture.norms {
        running_means.extend(file.floats(&format!("{prefix}{name}.running_mean"), &[*channels])?);
        running_variances.extend(file.floats(&format!("{prefix}{name}.running_var"), &[*channels])?);
    }
    let counter = file.bytes(&format!("{prefix}bn1.num_batches_tracked"), Dtype::I64, &[])?;
    let batches_tracked = u64::from_le_bytes(counter.try_into().expect("an I64 scalar has 8 bytes"));
    Ok(HostWeights { parameters, running_means, running_variances, batches_tracked })
}

#[derive(Clone, Copy, PartialEq)]
pub enum Direction {
    ToTorch,
    FromTorch,
}

/// The values of a parameter in the other layout.
pub fn permuted(parameter: &Parameter, values: &[f32], direction: Direction) -> Vec<f32> {
    let (Role::Filter, &[outputs, inputs, kernel, _]) = (parameter.role, parameter.shape.as_slice()) else {
        return values.to_vec();
    };
    let taps = kernel * kernel;
    let mut result = vec![0.0; values.len()];
    for output in 0..outputs {
        for input in 0..inputs {
            for tap in 0..taps {
                let torch = (output * inputs + input) * taps + tap;
                let ours = (output * taps + tap) * inputs + input;
                let (from, to) = if direction == Direction::ToTorch { (ours, torch) } else { (torch, ours) };
                result[to] = values[from];
            }
        }
    }
    result
}

/// The tensors of an open file, with errors that name it.
pub struct Tensors<'a> {
    pub path: &'a Path,
    pub tensors: SafeTensors<'a>,
}

impl Tensors<'_> {
    /// The bytes of a tensor of the given type and shape.
    ///
    /// # Errors
    /// [`Error::Data`] if it is missing, or of another type or shape.
    pub fn bytes(&self, name: &str, dtype: Dtype, shape: &[usize]) -> Result<&[u8]> {
        let missing = |_| Error::data(self.path, format!("expected a tensor {name} of shape {shape:?}, found none of that name"));
        let tensor = self.tensors.tensor(name).map_err(missing)?;
        if (tensor.dtype(), tensor.shape()) != (dtype, shape) {
            let found = format!("{:?} {:?}", tensor.dtype(), tensor.shape());
            return Err(Error::data(self.path, format!("tensor {name}: expected {dtype:?} {shape:?}, found {found}")));
        }
        Ok(tensor.data())
    }

    /// A tensor of 32-bit floats, whatever precision it is stored in.
    ///
    /// # Errors
    /// [`Error::Data`] if it is missing, of another shape, or of whole numbers.
    pub fn widened(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let dtype = self.tensors.tensor(name).map_or(Dtype::F32, |tensor| tensor.dtype());
        let halves = |widen: fn(u16) -> f32| -> Result<Vec<f32>> {
            let halves = numbers::from_bytes(self.bytes(name, dtype, shape)?);
            self.finite(name, shape, halves.into_iter().map(widen).collect())
        };
        match dtype {
            Dtype::F16 => halves(|bits| half::f16::from_bits(bits).to_f32()),
            Dtype::BF16 => halves(|bits| half::bf16::from_bits(bits).to_f32()),
            _ => self.floats(name, shape),
        }
    }

    /// A tensor of 32-bit floats.
    ///
    /// # Errors
    /// As [`Tensors::bytes`]; [`Error::Data`] if one of them is not finite.
    pub fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        self.finite(name, shape, numbers::from_bytes(self.bytes(name, Dtype::F32, shape)?))
    }

    fn finite(&self, name: &str, shape: &[usize], values: Vec<f32>) -> Result<Vec<f32>> {
        let Some(at) = values.iter().position(|value| !value.is_finite()) else { return Ok(values) };
        let row = at / shape.iter().skip(1).product::<usize>().max(1);
        let found = format!("tensor {name}: expected finite numbers, found {} in row {row}", values[at]);
        Err(Error::data(self.path, found))
    }

    /// A list of 32-bit integers.
    ///
    /// # Errors
    /// As [`Tensors::bytes`].
    pub fn integers(&self, name: &str, len: usize) -> Result<Vec<i32>> {
        Ok(numbers::from_bytes(self.bytes(name, Dtype::I32, &[len])?))
    }
}

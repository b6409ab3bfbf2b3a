//! What is checked, step by step: each a function that is run on the CPU and on the GPU, or on the GPU alone.

mod device;
mod inputs;
mod kernels;
mod libraries;
mod losses;
mod training;

use super::compare::{Closeness, Comparison, Quantity};
use crate::device::Tensor;
use crate::device::cuda::{CudaOptions, PairLossPath, Precision};
use crate::device::{Cpu, Cuda, NumberFormat};
use crate::error::Result;
use crate::ops::Backend;

/// What a step computes on one device.
type Values = Vec<Quantity>;

/// A part of the check.
pub struct Step {
    /// As reports name it.
    pub name: &'static str,
    /// Compares the GPU with the CPU.
    pub run: fn(&Bench) -> Result<Vec<Comparison>>,
}

/// The steps, simple ones first, so that what fails first is the cause of what would fail after it.
pub const STEPS: [Step; 14] = [
    Step { name: "copies between formats", run: |bench| bench.compare(device::copies, device::copies) },
    Step { name: "rows of the memory", run: |bench| bench.compare(device::ring, device::ring) },
    Step { name: "normalisation", run: |bench| bench.compare(kernels::normalisation, kernels::normalisation) },
    Step { name: "batch norm", run: |bench| bench.compare(kernels::batch_norm, kernels::batch_norm) },
    Step { name: "poolings", run: |bench| bench.compare(kernels::poolings, kernels::poolings) },
    Step { name: "augmentation", run: |bench| bench.compare(kernels::augmentation, kernels::augmentation) },
    Step { name: "optimizer", run: |bench| bench.compare(kernels::optimizer, kernels::optimizer) },
    Step { name: "matrix products", run: |bench| bench.compare(libraries::products, libraries::products) },
    Step { name: "retrieval", run: |bench| bench.compare(kernels::retrieval, kernels::retrieval) },
    Step { name: "convolutions", run: |bench| bench.compare(libraries::convolutions, libraries::convolutions) },
    Step { name: "pair loss", run: |bench| bench.compare_both_ways(losses::pair_loss, losses::pair_loss) },
    Step { name: "row normalizers", run: row_normalizers },
    Step { name: "training step", run: |bench| bench.compare(training::training, training::training) },
    Step { name: "captured graph", run: training::captured_graph },
];

/// The weights that depend on the row, of a memory and of a batch.
fn row_normalizers(bench: &Bench) -> Result<Vec<Comparison>> {
    let mut found = bench.compare_both_ways(losses::row_normalizers, losses::row_normalizers)?;
    found.extend(bench.compare(losses::batch_normalizers, losses::batch_normalizers)?);
    Ok(found)
}

/// The devices that are compared.
pub struct Bench {
    cpu: Cpu,
    cuda: Cuda,
    /// The same with the other way of the pair loss, which sizes choose.
    unfused: Option<Cuda>,
    precision: Precision,
}

impl Bench {
    /// Opens the devices.
    ///
    /// # Errors
    /// [`crate::Error::Device`] in the driver's words.
    pub fn open(options: CudaOptions) -> Result<Self> {
        let unfused = CudaOptions { pair_loss: PairLossPath::Unfused, ..options };
        Ok(Self {
            cpu: Cpu::new(Some(1))?,
            cuda: Cuda::open(options)?,
            unfused: (options.pair_loss == PairLossPath::Auto).then(|| Cuda::open(unfused)).transpose()?,
            precision: options.precision,
        })
    }

    /// Loads the kernels of `kernels/<stem>.cu`, compiling them where need be.
    ///
    /// # Errors
    /// [`crate::Error::Device`] in the driver's or the compiler's words.
    pub fn load_kernels(&self, stem: &'static str) -> Result<()> {
        [Some(&self.cuda), self.unfused.as_ref()]
            .into_iter()
            .flatten()
            .try_for_each(|cuda| cuda.load_kernels(stem, inputs::DIM as u32))
    }

    fn compare(&self, on_cpu: fn(&Cpu) -> Result<Values>, on_gpu: fn(&Cuda) -> Result<Values>) -> Result<Vec<Comparison>> {
        Ok(self.beside(&on_cpu(&self.cpu)?, &on_gpu(&self.cuda)?))
    }

    /// By the way of the pair loss that these sizes choose, and by the other.
    fn compare_both_ways(
        &self,
        on_cpu: fn(&Cpu) -> Result<Values>,
        on_gpu: fn(&Cuda) -> Result<Values>,
    ) -> Result<Vec<Comparison>> {
        let expected = on_cpu(&self.cpu)?;
        let mut found = self.beside(&expected, &on_gpu(&self.cuda)?);
        if let Some(unfused) = &self.unfused {
            let unfused = self.beside(&expected, &on_gpu(unfused)?);
            found.extend(
                unfused.into_iter().map(|comparison| Comparison { what: format!("unfused {}", comparison.what), ..comparison }),
            );
        }
        Ok(found)
    }

    fn beside(&self, expected: &Values, found: &Values) -> Vec<Comparison> {
        expected.iter().zip(found).map(|(expected, found)| Comparison::new(self.precision, expected, found)).collect()
    }
}

/// 32-bit numbers on a device.
fn full<B: Backend>(backend: &B, values: &[f32]) -> Result<Tensor<B>> {
    Tensor::from_host(backend, values)
}

/// Numbers in the format of activations.
fn computed<B: Backend>(backend: &B, values: &[f32]) -> Result<Tensor<B>> {
    let mut tensor = Tensor::with_format(backend, values.len(), NumberFormat::Compute)?;
    backend.upload(values, tensor.all_mut())?;
    Ok(tensor)
}

/// A place for results in the format of activations, full of what none of them is.
fn unwritten<B: Backend>(backend: &B, len: usize) -> Result<Tensor<B>> {
    computed(backend, &vec![99.0; len])
}

/// A result, on the host.
fn downloaded<B: Backend>(what: &str, closeness: Closeness, backend: &B, tensor: &Tensor<B>) -> Result<Quantity> {
    Ok(Quantity::new(what, closeness, tensor.to_host(backend)?))
}

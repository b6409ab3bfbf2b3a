//! The devices an engine can be on. Like `main.rs` for the program, this is the one place where a device is chosen.

use super::access::{Access, Caller, CallerStream};
use super::ring::{Ring, StagedRing};
use super::rows::{Given, Rows};
use crate::device::Tensor;
use crate::device::cuda::{CudaOptions, Precision};
use crate::device::{Cpu, Cuda};
use crate::error::{Error, Result};
use crate::evaluate::{Embeddings, EvaluationSet, Scores, evaluate};
use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Arc, Mutex, PoisonError};

/// How the rows of a memory are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// As the device likes it.
    Default,
    F32,
    F16,
    Bf16,
}

/// A device with an engine on it.
pub trait Device: Send + Sync {
    /// A memory on this device.
    fn memory(&self, capacity: usize, dim: usize, dtype: Dtype) -> Result<Arc<Mutex<dyn Ring>>>;
    /// Scores queries against a gallery, or against each other where there is none.
    fn evaluate(&self, queries: &Rows<'_>, gallery: Option<&Rows<'_>>, own_rows: Option<&[i32]>, ks: &[usize]) -> Result<Scores>;
    /// The stream with which calls are in order from now on.
    ///
    /// # Safety
    /// It is NULL or a `CUstream` that lives until another is set or the engine and its memories are gone.
    unsafe fn set_stream(&self, stream: *const c_void) -> Result<()>;
}

/// The device of that name.
///
/// # Errors
/// [`Error::Config`] on a name or a stream that makes no sense, [`Error::Device`] if this machine has no such device.
///
/// # Safety
/// As for [`Device::set_stream`].
pub unsafe fn open(name: &str, stream: *const c_void, threads: usize) -> Result<Arc<dyn Device>> {
    let device: Arc<dyn Device> = match (name, name.strip_prefix("cuda:").map(str::parse)) {
        ("cpu", _) => Arc::new(Cpu::new((threads > 0).then_some(threads))?),
        ("cuda", _) => Arc::new(Gpu::open(0)?),
        (_, Some(Ok(ordinal))) => Arc::new(Gpu::open(ordinal)?),
        _ => return Err(Error::config(format!("unknown device `{name}`; known: `cpu`, `cuda`, `cuda:1` and so on"))),
    };
    // SAFETY: the caller's promise.
    unsafe { device.set_stream(stream) }?;
    Ok(device)
}

impl Device for Cpu {
    fn memory(&self, capacity: usize, dim: usize, dtype: Dtype) -> Result<Arc<Mutex<dyn Ring>>> {
        match dtype {
            Dtype::Default | Dtype::F32 => ring(self.clone(), Caller::default(), capacity, dim),
            Dtype::F16 | Dtype::Bf16 => {
                Err(Error::config("dtype: expected XBM_DTYPE_DEFAULT or XBM_F32 on device `cpu`, found a 16-bit one"))
            }
        }
    }

    fn evaluate(&self, queries: &Rows<'_>, gallery: Option<&Rows<'_>>, own_rows: Option<&[i32]>, ks: &[usize]) -> Result<Scores> {
        scores(self, queries, gallery, own_rows, ks)
    }

    unsafe fn set_stream(&self, stream: *const c_void) -> Result<()> {
        if stream.is_null() { Ok(()) } else { Err(Error::config("stream: device `cpu` has no streams; expected NULL")) }
    }
}

/// A GPU, opened once for each format that memories on it have.
struct Gpu {
    ordinal: usize,
    caller: Caller,
    opened: Mutex<HashMap<&'static str, Cuda>>,
}

impl Gpu {
    fn open(ordinal: usize) -> Result<Self> {
        let gpu = Self { ordinal, caller: Caller::default(), opened: Mutex::default() };
        match gpu.computing_in(Precision::Fp16) {
            Ok(_) => Ok(gpu),
            Err(Error::Device { reason, .. }) => Err(Error::Device { what: format!("opening device `cuda:{ordinal}`"), reason }),
            Err(other) => Err(other),
        }
    }

    fn computing_in(&self, precision: Precision) -> Result<Cuda> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cuda) = opened.get(precision.name()) {
            return Ok(cuda.clone());
        }
        let cuda = Cuda::open_ordinal(self.ordinal, CudaOptions { precision, ..CudaOptions::default() })?;
        Ok(opened.entry(precision.name()).or_insert(cuda).clone())
    }
}

impl Device for Gpu {
    fn memory(&self, capacity: usize, dim: usize, dtype: Dtype) -> Result<Arc<Mutex<dyn Ring>>> {
        let precision = match dtype {
            Dtype::Default | Dtype::F16 => Precision::Fp16,
            Dtype::F32 => Precision::Fp32,
            Dtype::Bf16 => Precision::Bf16,
        };
        ring(self.computing_in(precision)?, self.caller.clone(), capacity, dim)
    }

    fn evaluate(&self, queries: &Rows<'_>, gallery: Option<&Rows<'_>>, own_rows: Option<&[i32]>, ks: &[usize]) -> Result<Scores> {
        let cuda = self.computing_in(Precision::Fp16)?;
        cuda.wait_for_caller(self.caller.stream())?;
        scores(&cuda, queries, gallery, own_rows, ks)
    }

    unsafe fn set_stream(&self, stream: *const c_void) -> Result<()> {
        let handle = stream.addr() as u64;
        // SAFETY: the caller's promise.
        unsafe { self.computing_in(Precision::Fp16)?.expect_own_stream(handle) }?;
        // SAFETY: the caller's promise, and it is a stream of this device.
        self.caller.set((handle != 0).then(|| unsafe { CallerStream::new(handle) }));
        Ok(())
    }
}

fn ring<B: Access>(backend: B, caller: Caller, capacity: usize, dim: usize) -> Result<Arc<Mutex<dyn Ring>>> {
    Ok(Arc::new(Mutex::new(StagedRing::new(backend, caller, capacity, dim)?)))
}

fn scores<B: Access>(
    backend: &B,
    queries: &Rows<'_>,
    gallery: Option<&Rows<'_>>,
    own_rows: Option<&[i32]>,
    ks: &[usize],
) -> Result<Scores> {
    let queries = embeddings(backend, queries)?;
    let gallery = gallery.map(|rows| embeddings(backend, rows)).transpose()?;
    let own: Vec<i32> = match (own_rows, &gallery) {
        (Some(rows), _) => rows.to_vec(),
        (None, Some(_)) => vec![-1; queries.len()],
        (None, None) => (0..queries.len() as i32).collect(),
    };
    let set = EvaluationSet { queries: &queries, gallery: gallery.as_ref().unwrap_or(&queries), own_rows: &own };
    Ok(evaluate(backend, &set)?.scores(ks))
}

/// Rows to be scored, on the host.
fn embeddings<B: Access>(backend: &B, rows: &Rows<'_>) -> Result<Embeddings> {
    let values = match &rows.embeddings {
        Given::Host(values) => values.to_vec(),
        Given::Device(numbers) => {
            let mut taken = Tensor::zeros(backend, rows.rows * rows.dim)?;
            backend.copy_in(*numbers, taken.all_mut())?;
            taken.to_host(backend)?
        }
    };
    Embeddings::new(values, rows.labels.on_host(backend)?.into_owned(), rows.dim)
}

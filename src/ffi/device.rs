//! The devices an engine can be on. Like `main.rs` for the program, this is the one place where a device is chosen.

use super::access::{Access, Caller, CallerStream};
use super::ring::{Ring, StagedRing};
use super::rows::{Dtype, Given, Rows, Search};
use crate::device::cuda::{CudaOptions, Precision};
use crate::device::{Cpu, Cuda};
use crate::device::{RowPrecision, Tensor};
use crate::error::{Error, Result};
use crate::evaluate::{Embeddings, EvaluationSet, Neighbours, Scores, evaluate, nearest};
use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Arc, Mutex, PoisonError};

/// A device with an engine on it.
pub trait Device: Send + Sync {
    /// A memory on this device.
    fn memory(&self, capacity: usize, dim: usize, dtype: Dtype) -> Result<Arc<Mutex<dyn Ring>>>;
    /// Scores queries against a gallery.
    fn evaluate(&self, search: &Search<'_>, ks: &[usize]) -> Result<Scores>;
    /// The `k` nearest gallery rows of each query, and the ids of those.
    fn nearest(&self, search: &Search<'_>, k: usize) -> Result<(Neighbours, Vec<i32>)>;
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
            Dtype::Default | Dtype::F32 => ring(self.clone(), Caller::default(), (capacity, dim), RowPrecision::Compute),
            Dtype::F16 => ring(self.clone(), Caller::default(), (capacity, dim), RowPrecision::F16),
            Dtype::Bf16 => {
                Err(Error::config("dtype: expected XBM_DTYPE_DEFAULT, XBM_F32 or XBM_F16 on device `cpu`, found XBM_BF16"))
            }
        }
    }

    fn evaluate(&self, search: &Search<'_>, ks: &[usize]) -> Result<Scores> {
        Ok(evaluate(self, &HostSet::new(self, search)?.as_set())?.scores(ks))
    }

    fn nearest(&self, search: &Search<'_>, k: usize) -> Result<(Neighbours, Vec<i32>)> {
        with_ids(self, search, nearest(self, &HostSet::new(self, search)?.as_set(), k)?)
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

    /// What is searched with, after what the caller has put on its stream.
    fn searching(&self, search: &Search<'_>) -> Result<(Cuda, HostSet)> {
        let cuda = self.computing_in(Precision::Fp16)?;
        cuda.wait_for_caller(self.caller.stream())?;
        let set = HostSet::new(&cuda, search)?;
        Ok((cuda, set))
    }
}

impl Device for Gpu {
    fn memory(&self, capacity: usize, dim: usize, dtype: Dtype) -> Result<Arc<Mutex<dyn Ring>>> {
        let precision = match dtype {
            Dtype::Default | Dtype::F16 => Precision::Fp16,
            Dtype::F32 => Precision::Fp32,
            Dtype::Bf16 => Precision::Bf16,
        };
        ring(self.computing_in(precision)?, self.caller.clone(), (capacity, dim), RowPrecision::Compute)
    }

    fn evaluate(&self, search: &Search<'_>, ks: &[usize]) -> Result<Scores> {
        let (cuda, set) = self.searching(search)?;
        Ok(evaluate(&cuda, &set.as_set())?.scores(ks))
    }

    fn nearest(&self, search: &Search<'_>, k: usize) -> Result<(Neighbours, Vec<i32>)> {
        let (cuda, set) = self.searching(search)?;
        with_ids(&cuda, search, nearest(&cuda, &set.as_set(), k)?)
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

fn ring<B: Access>(
    backend: B,
    caller: Caller,
    (capacity, dim): (usize, usize),
    precision: RowPrecision,
) -> Result<Arc<Mutex<dyn Ring>>> {
    Ok(Arc::new(Mutex::new(StagedRing::new(backend, caller, (capacity, dim), precision)?)))
}

/// What a search looks for and where, on the host.
struct HostSet {
    queries: Embeddings,
    gallery: Option<Embeddings>,
    own_rows: Vec<i32>,
}

impl HostSet {
    fn new<B: Access>(backend: &B, search: &Search<'_>) -> Result<Self> {
        let queries = embeddings(backend, &search.queries)?;
        let gallery = search.gallery.as_ref().map(|rows| embeddings(backend, rows)).transpose()?;
        let own_rows: Vec<i32> = match (&search.own_rows, &gallery) {
            (Some(rows), _) => rows.to_vec(),
            (None, Some(_)) => vec![-1; queries.len()],
            (None, None) => (0..queries.len() as i32).collect(),
        };
        Ok(Self { queries, gallery, own_rows })
    }

    fn as_set(&self) -> EvaluationSet<'_> {
        let Self { queries, gallery, own_rows } = self;
        EvaluationSet { queries, gallery: gallery.as_ref().unwrap_or(queries), own_rows }
    }
}

/// Neighbours with their ids: -1 where there is no neighbour, and where the gallery has none.
fn with_ids<B: Access>(backend: &B, search: &Search<'_>, found: Neighbours) -> Result<(Neighbours, Vec<i32>)> {
    let known = search.gallery.as_ref().unwrap_or(&search.queries).ids.as_ref();
    let known = known.map(|ids| ids.on_host(backend)).transpose()?;
    let id = |row: &i32| known.as_ref().zip(usize::try_from(*row).ok()).map_or(-1, |(ids, row)| ids[row]);
    let ids = found.rows.iter().map(id).collect();
    Ok((found, ids))
}

/// Rows on the host.
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

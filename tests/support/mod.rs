//! What the test suites share: host values to and from a backend, random values, and comparison with a named tolerance.
//!
//! Every suite's body is generic over the backend, so that one text tests all of them.
#![allow(dead_code, reason = "each suite uses its own part")]

#[cfg(feature = "app")]
pub mod layouts;
pub mod ranks;

use serde::Serialize;
use serde::de::DeserializeOwned;
use xbm_fast::device::cuda::{CudaOptions, PairLossPath, Precision};
use xbm_fast::device::{Cpu, Cuda, NumberFormat, Span, SpanMut, Storage};
use xbm_fast::ops::Backend;
use xbm_fast::ops::augment::Pixels;
use xbm_fast::rng::Rng;
use xbm_fast::train::{self, Learner, State, TrainSettings};

/// The CPU backend with a given number of threads.
pub fn cpu(threads: usize) -> Cpu {
    Cpu::new(Some(threads)).expect("threads start")
}

/// The GPU backend, on a real device or on the software GPU; `None` with a message where there is neither.
pub fn cuda(precision: Precision, pair_loss: PairLossPath) -> Option<Cuda> {
    software_gpu::available().then(|| Cuda::open(CudaOptions { precision, pair_loss }).expect("the device opens"))
}

/// Runs `body` on the GPU backend in 32 bit, where there is a device, and fails if the device has anything to report.
pub fn on_gpu(body: impl FnOnce(&Cuda)) {
    on_gpu_in(Precision::Fp32, body);
}

/// As [`on_gpu`], in another precision.
pub fn on_gpu_in(precision: Precision, body: impl FnOnce(&Cuda)) {
    let Some(cuda) = cuda(precision, PairLossPath::Auto) else { return };
    body(&cuda);
    let reports = software_gpu::take_reports();
    assert!(reports.is_empty(), "the software GPU reports {reports:?}");
}

/// A buffer holding `values`.
pub fn buffer<B: Storage>(backend: &B, values: &[f32]) -> B::Buffer {
    let mut buffer = backend.zeros(values.len(), NumberFormat::Full).unwrap();
    backend.upload(values, SpanMut::new(&mut buffer, 0, values.len())).unwrap();
    buffer
}

/// Images of a step with their labels and instance ids, as a step takes them but owned.
pub struct Batch {
    pub step: u64,
    /// 8-bit RGB of squares.
    pub images: Vec<Vec<u8>>,
    pub side: usize,
    pub labels: Vec<i32>,
    pub ids: Vec<i32>,
}

impl Batch {
    pub fn plain(&self) -> train::Batch<'_> {
        let images = self.images.iter().map(|rgb| Pixels { rgb, height: self.side, width: self.side }).collect();
        train::Batch { step: self.step, images, labels: &self.labels, ids: &self.ids }
    }
}

/// A learner before its first step.
pub fn learner<B: Backend>(backend: &B, config: &TrainSettings) -> Learner<B> {
    Learner::new(backend, config, State::initial(backend, config).unwrap()).unwrap()
}

/// A buffer holding `values`.
pub fn integers<B: Storage>(backend: &B, values: &[i32]) -> B::Integers {
    let mut buffer = backend.zero_integers(values.len()).unwrap();
    backend.upload_integers(values, SpanMut::new(&mut buffer, 0, values.len())).unwrap();
    buffer
}

/// The first `len` values of a buffer.
pub fn values<B: Storage>(backend: &B, buffer: &B::Buffer, len: usize) -> Vec<f32> {
    let mut values = vec![0.0; len];
    backend.download(Span::new(buffer, 0, len), &mut values).unwrap();
    values
}

/// The first `len` integers of a buffer.
pub fn integer_values<B: Storage>(backend: &B, buffer: &B::Integers, len: usize) -> Vec<i32> {
    let mut values = vec![0; len];
    backend.download_integers(Span::new(buffer, 0, len), &mut values).unwrap();
    values
}

/// `len` standard normal values of a named stream.
pub fn normals(name: &str, len: usize) -> Vec<f32> {
    let mut rng = Rng::new(0).at(name);
    (0..len).map(|_| rng.normal()).collect()
}

/// `rows` unit rows of length `dim`.
pub fn unit_rows(name: &str, rows: usize, dim: usize) -> Vec<f32> {
    let mut values = normals(name, rows * dim);
    for row in values.chunks_mut(dim) {
        let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt();
        row.iter_mut().for_each(|v| *v /= norm);
    }
    values
}

/// Fails unless every value is within `tolerance`, relative to the largest expected magnitude.
#[track_caller]
pub fn assert_close(what: &str, found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}: length");
    let scale = expected.iter().fold(1e-30, |max: f64, v| max.max(v.abs()));
    for (index, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(found) - expected).abs() / scale;
        assert!(error <= tolerance, "{what}[{index}]: found {found}, expected {expected}, relative error {error:.2e}");
    }
}

/// Settings with other values of some, by the names that files and flags give them: `config!(base; steps: 3, memory: MemoryKind::None)`.
#[allow(unused_macros, reason = "each suite uses its own part")]
macro_rules! config {
    (@value $key:ident) => { $key };
    (@value $key:ident $value:expr) => { $value };
    ($base:expr; $($key:ident $(: $value:expr)?),* $(,)?) => {
        $crate::support::changed(&$base, [$((stringify!($key), $crate::support::value(&config!(@value $key $($value)?)))),*])
    };
}
#[allow(unused_imports, reason = "each suite uses its own part")]
pub(crate) use config;

/// A setting's value as files hold it.
pub fn value(value: &impl Serialize) -> toml::Value {
    toml::Value::try_from(value).expect("a plain value")
}

/// Settings with other values of some: see [`config!`].
#[track_caller]
pub fn changed<T: Serialize + DeserializeOwned, const N: usize>(base: &T, changes: [(&str, toml::Value); N]) -> T {
    let mut table = toml::Table::try_from(base).expect("settings are plain values");
    for (key, value) in changes {
        assert!(table.insert(key.to_owned(), value).is_some(), "there is no setting `{key}`");
    }
    table.try_into().expect("values of these settings")
}

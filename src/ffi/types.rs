//! What is passed between the caller and the engine, and how it is checked. The header explains each to the caller.

use super::caller::{given, numbers, product, write};
use super::ring::Ring;
use super::rows::{Dtype, Given, Rows, Wanted, fill_at};
use super::status::{Failure, Outcome, Status};
use crate::device::host_memory;
use crate::error::{Error, Result};
use crate::loss::{PairWeighting, ValidWeighting};
use crate::memory::SelfPairs;
use bytemuck::Pod;
use half::slice::HalfFloatSliceExt as _;
use half::{bf16, f16};
use std::ffi::c_void;

/// Version of this interface; grows with every change that a compiled caller would notice.
pub const XBM_ABI_VERSION: u32 = 2;

/// The pointers of a call are of host memory.
pub const XBM_HOST: i32 = 0;
/// They are of the engine's device.
pub const XBM_DEVICE: i32 = 1;

/// Memory rows as the device likes them, 32 bit on the CPU, 16 bit on a GPU; the caller's embeddings in 32 bit.
pub const XBM_DTYPE_DEFAULT: i32 = 0;
/// 32 bit.
pub const XBM_F32: i32 = 1;
/// 16 bit with 10 bits of mantissa.
pub const XBM_F16: i32 = 2;
/// 16 bit with 7 bits of mantissa.
pub const XBM_BF16: i32 = 3;

/// An anchor is no pair with rows of its instance id.
pub const XBM_OWN_INSTANCE: i32 = 0;
/// An anchor is no pair with its row of the batch enqueued last.
pub const XBM_OWN_LAST_ENQUEUE: i32 = 1;
/// Every row is a pair.
pub const XBM_OWN_NONE: i32 = 2;

macro_rules! opaque {
    ($($(#[$doc:meta])* $name:ident)*) => { $(
        $(#[$doc])*
        #[repr(C)]
        #[derive(Debug)]
        pub struct $name {
            _never_followed: [u8; 0],
        }
    )* };
}
opaque! {
    /// Handle of a device with an engine on it.
    XbmEngine
    /// Handle of an embedding memory.
    XbmMemory
    /// Handle of the weights of pairs.
    XbmWeighting
}

/// A batch in the caller's memory.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct XbmBatch {
    /// `(rows, dim)`, contiguous, of length 1 each, in the format `dtype`.
    pub embeddings: *const c_void,
    /// `(rows)`.
    pub labels: *const i32,
    /// `(rows)`: instance ids; NULL stands for -1 everywhere.
    pub ids: *const i32,
    /// Number of rows.
    pub rows: usize,
    /// Length of a row.
    pub dim: usize,
    /// [`XBM_HOST`] or [`XBM_DEVICE`].
    pub location: i32,
    /// Of the embeddings: one of `XBM_F32`, `XBM_F16` and `XBM_BF16`; [`XBM_DTYPE_DEFAULT`] is 32 bit.
    pub dtype: i32,
}

/// How a loss is taken.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct XbmLossSettings {
    /// Factor of loss and gradient.
    pub scale: f32,
    /// One of `XBM_OWN_*`.
    pub own: i32,
    /// 1: the gradient is added to what its memory holds; 0: it replaces that.
    pub accumulate: i32,
}

/// Where the results of a loss go; NULL where one is not wanted.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct XbmLossOutputs {
    /// `(rows, dim)`: gradient of the loss with respect to the embeddings.
    pub gradient: *mut f32,
    /// `(rows)`: loss of each row, not scaled.
    pub row_losses: *mut f32,
    /// `(rows, 2)`: positives and negatives of each row that have a weight.
    pub kept: *mut i32,
    /// One number, in host memory: `scale` times the sum of the row losses.
    pub loss: *mut f64,
}

/// Where a memory stands.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct XbmMemoryInfo {
    /// Number of slots.
    pub capacity: usize,
    /// Length of a row.
    pub dim: usize,
    /// Slots in use.
    pub count: usize,
    /// Slot that the next row takes.
    pub head: usize,
}

/// How rows are held, or are to be.
pub(super) fn dtype(number: i32) -> Outcome<Dtype> {
    match number {
        XBM_DTYPE_DEFAULT => Ok(Dtype::Default),
        XBM_F32 => Ok(Dtype::F32),
        XBM_F16 => Ok(Dtype::F16),
        XBM_BF16 => Ok(Dtype::Bf16),
        other => Err(Failure::argument(format!("dtype: expected XBM_DTYPE_DEFAULT, XBM_F32, XBM_F16 or XBM_BF16, found {other}"))),
    }
}

/// Pair weights from the name of a loss, such as `circle` or `circle:gamma=64`, or from TOML, which no name looks like.
pub(super) fn pair_weighting(text: &str) -> Result<ValidWeighting> {
    if !text.contains(['[', '{', '"']) {
        return text.parse::<PairWeighting>()?.valid();
    }
    let weighting: PairWeighting = toml::from_str(text).map_err(|error| Error::config(format!("weighting: {error}")))?;
    weighting.valid()
}

impl XbmBatch {
    fn on_device(&self) -> Outcome<bool> {
        match self.location {
            XBM_HOST => Ok(false),
            XBM_DEVICE => Ok(true),
            other => Err(Failure::argument(format!("location: expected XBM_HOST or XBM_DEVICE, found {other}"))),
        }
    }

    /// The rows of a batch, its lengths checked.
    ///
    /// # Safety
    /// Each pointer is NULL or has the length the batch says, unchanged during `'a`.
    pub(super) unsafe fn rows<'a>(&self, part: &BatchParts) -> Outcome<Rows<'a>> {
        // SAFETY: the caller's promise, for both.
        unsafe { self.rows_with(part, |on_device| Given::at(on_device, part.labels, self.labels, self.rows)) }
    }

    /// The same where labels mean nothing: each is 0.
    ///
    /// # Safety
    /// As for [`Self::rows`].
    pub(super) unsafe fn unlabelled_rows<'a>(&self, part: &BatchParts) -> Outcome<Rows<'a>> {
        // SAFETY: the caller's promise.
        unsafe { self.rows_with(part, |_| Ok(Given::Host(host_memory::zeros(self.rows)?.into()))) }
    }

    unsafe fn rows_with<'a>(&self, part: &BatchParts, labels: impl FnOnce(bool) -> Outcome<Given<'a, i32>>) -> Outcome<Rows<'a>> {
        let Self { ids, rows, dim, .. } = *self;
        let on_device = self.on_device()?;
        if dim == 0 || i32::try_from(rows).is_err() {
            let (expected, found) = (format!("at most {} rows of length 1 or more", i32::MAX), format!("{rows} of length {dim}"));
            return Err(Error::shape(part.whole, expected, found).into());
        }
        let len = product(part.whole, rows, dim)?;
        // SAFETY: the caller's promise.
        unsafe {
            Ok(Rows {
                embeddings: self.embeddings(part.embeddings, len)?,
                labels: labels(on_device)?,
                ids: given(ids).then(|| Given::at(on_device, part.ids, ids, rows)).transpose()?,
                rows,
                dim,
            })
        }
    }
}

impl XbmBatch {
    /// The embeddings in 32 bit.
    ///
    /// # Safety
    /// As for [`Self::rows`].
    unsafe fn embeddings<'a>(&self, what: &'static str, len: usize) -> Outcome<Given<'a, f32>> {
        let on_device = self.on_device()?;
        // SAFETY: the caller's promise, for each of the three.
        unsafe {
            match dtype(self.dtype)? {
                Dtype::Default | Dtype::F32 => Given::at(on_device, what, self.embeddings.cast(), len),
                Dtype::F16 | Dtype::Bf16 if on_device => Err(Failure::new(
                    Status::Config,
                    format!("{what}: 16-bit numbers are taken from XBM_HOST only; expected XBM_F32 of XBM_DEVICE"),
                )),
                Dtype::F16 => widened(what, self.embeddings.cast::<f16>(), len, |from, to| from.convert_to_f32_slice(to)),
                Dtype::Bf16 => widened(what, self.embeddings.cast::<bf16>(), len, |from, to| from.convert_to_f32_slice(to)),
            }
        }
    }
}

/// 16-bit numbers of the caller's in 32 bit.
///
/// # Safety
/// As for [`numbers`].
unsafe fn widened<'a, T: Pod>(
    what: &'static str,
    pointer: *const T,
    len: usize,
    widen: impl FnOnce(&[T], &mut [f32]),
) -> Outcome<Given<'a, f32>> {
    // SAFETY: the caller's promise.
    let narrow = unsafe { numbers(what, pointer, len) }?;
    let mut wide = host_memory::zeros(len)?;
    widen(&narrow, &mut wide);
    Ok(Given::Host(wide.into()))
}

/// What messages call a batch and what is in it.
pub(super) struct BatchParts {
    pub whole: &'static str,
    embeddings: &'static str,
    labels: &'static str,
    ids: &'static str,
}

macro_rules! batch_parts {
    ($($name:ident = $word:literal,)*) => { $(
        pub(super) const $name: BatchParts = BatchParts {
            whole: $word,
            embeddings: concat!("embeddings of ", $word),
            labels: concat!("labels of ", $word),
            ids: concat!("ids of ", $word),
        };
    )* };
}
batch_parts! {
    BATCH = "batch",
    ANCHORS = "anchors",
    QUERIES = "queries",
    GALLERY = "gallery",
}

impl XbmLossSettings {
    /// Which rows are an anchor itself.
    pub(super) fn self_pairs(&self, anchors: &XbmBatch) -> Outcome<SelfPairs> {
        match self.own {
            // An array of none may be anywhere.
            XBM_OWN_INSTANCE if given(anchors.ids) || anchors.rows == 0 => Ok(SelfPairs::Instance),
            XBM_OWN_INSTANCE => Err(Failure::argument("ids of anchors: expected instance ids for XBM_OWN_INSTANCE, found NULL")),
            XBM_OWN_LAST_ENQUEUE => Ok(SelfPairs::Slot),
            XBM_OWN_NONE => Ok(SelfPairs::None),
            other => Err(Failure::argument(format!("own: expected one of XBM_OWN_*, found {other}"))),
        }
    }

    /// The factor, if it is one.
    pub(super) fn finite_scale(&self) -> Outcome<f32> {
        let words = || Failure::new(Status::Config, format!("scale: expected a finite number, found {}", self.scale));
        self.scale.is_finite().then_some(self.scale).ok_or_else(words)
    }

    /// What the gradient is to be added to, if to anything.
    ///
    /// # Safety
    /// `gradient` is NULL or points to as many numbers as the anchors have, where they are, that do not change during `'a`.
    pub(super) unsafe fn added_to<'a>(&self, anchors: &XbmBatch, gradient: *const f32) -> Outcome<Option<Given<'a, f32>>> {
        match self.accumulate {
            0 => Ok(None),
            // SAFETY: the caller's promise.
            1 => unsafe { Given::at(anchors.on_device()?, "gradient", gradient, anchors.rows * anchors.dim) }.map(Some),
            other => Err(Failure::argument(format!("accumulate: expected 0 or 1, found {other}"))),
        }
    }
}

impl XbmLossOutputs {
    /// Writes the results of the last loss of `anchors` to where they are wanted.
    ///
    /// # Safety
    /// The pointers are NULL or have room for what their fields say, at the location of the anchors.
    pub(super) unsafe fn take(&self, ring: &dyn Ring, anchors: &XbmBatch, scale: f32) -> Outcome {
        let (at, rows) = (anchors.on_device()?, anchors.rows);
        // SAFETY: the caller's promise, for each of the three.
        unsafe {
            if given(self.gradient) {
                fill_at(at, "gradient", self.gradient, rows * anchors.dim, |to| ring.gradient(to))?;
            }
            if given(self.row_losses) {
                fill_at(at, "row_losses", self.row_losses, rows, |to| ring.row_losses(to))?;
            }
            if given(self.kept) {
                fill_at(at, "kept", self.kept, 2 * rows, |to| ring.kept(to))?;
            }
        }
        if !given(self.loss) {
            return Ok(());
        }
        let mut losses = vec![0.0; rows];
        ring.row_losses(Wanted::Host(&mut losses))?;
        let sum: f64 = losses.iter().copied().map(f64::from).sum();
        // SAFETY: the caller's promise.
        unsafe { write("loss", self.loss, f64::from(scale) * sum) }
    }
}

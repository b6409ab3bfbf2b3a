//! A batch of the caller's, on the host or on the engine's device, its lengths checked; and what is searched.

use super::access::{Access, DeviceNumbers};
use super::caller::{fill, numbers};
use super::status::Outcome;
use crate::error::Result;
use crate::ops::{In, IntegersIn};
use bytemuck::Pod;
use std::borrow::Cow;

/// Numbers of the caller's to be read.
pub enum Given<'a, T: Copy> {
    Host(Cow<'a, [T]>),
    Device(DeviceNumbers<T>),
}

/// Where numbers of ours are to go.
pub enum Wanted<'a, T> {
    Host(&'a mut [T]),
    Device(DeviceNumbers<T>),
}

/// A batch.
pub struct Rows<'a> {
    /// `(rows, dim)`.
    pub embeddings: Given<'a, f32>,
    /// `(rows)`.
    pub labels: Given<'a, i32>,
    /// `(rows)`: instance ids; `None` stands for -1 everywhere.
    pub ids: Option<Given<'a, i32>>,
    /// How many.
    pub rows: usize,
    /// Length of an embedding.
    pub dim: usize,
}

/// Queries and where they look, as a device takes them.
pub struct Search<'a> {
    pub queries: Rows<'a>,
    /// None: the queries.
    pub gallery: Option<Rows<'a>>,
    pub own_rows: Option<Cow<'a, [i32]>>,
}

/// How the rows of a memory are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// As the device likes it.
    Default,
    F32,
    F16,
    Bf16,
}

impl<'a, T: Pod> Given<'a, T> {
    /// `len` numbers, wherever they are.
    ///
    /// # Safety
    /// `pointer` is NULL or points to `len` numbers there that do not change during `'a`.
    pub unsafe fn at(on_device: bool, what: &'static str, pointer: *const T, len: usize) -> Outcome<Self> {
        // SAFETY: the caller's promise.
        unsafe {
            if on_device && len > 0 {
                return Ok(Self::Device(DeviceNumbers::new(what, pointer, len)?));
            }
            numbers(what, pointer, len).map(Self::Host)
        }
    }
}

/// Has `len` numbers written to the caller's memory, wherever that is.
///
/// # Safety
/// `pointer` is NULL or points to room there for `len` numbers that nobody else uses during the call.
pub unsafe fn fill_at<T: Pod>(
    on_device: bool,
    what: &'static str,
    pointer: *mut T,
    len: usize,
    write: impl FnOnce(Wanted<'_, T>) -> Result<()>,
) -> Outcome {
    // SAFETY: the caller's promise.
    unsafe {
        if on_device && len > 0 {
            return Ok(write(Wanted::Device(DeviceNumbers::new(what, pointer, len)?))?);
        }
        fill(what, pointer, len, |to| write(Wanted::Host(to)))
    }
}

impl Given<'_, i32> {
    /// Labels and the like are few, and the engine keeps its books on the host.
    pub fn on_host<B: Access>(&self, backend: &B) -> Result<Cow<'_, [i32]>> {
        match self {
            Self::Host(values) => Ok(Cow::Borrowed(values)),
            Self::Device(numbers) => {
                let mut values = vec![0; numbers.len()];
                backend.copy_integers_in(*numbers, &mut values)?;
                Ok(Cow::Owned(values))
            }
        }
    }
}

impl Wanted<'_, f32> {
    pub fn fill<B: Access>(self, backend: &B, from: In<'_, B>) -> Result<()> {
        match self {
            Self::Host(to) => backend.download(from, to),
            Self::Device(to) => backend.copy_out(from, to),
        }
    }
}

impl Wanted<'_, i32> {
    pub fn fill<B: Access>(self, backend: &B, from: IntegersIn<'_, B>) -> Result<()> {
        match self {
            Self::Host(to) => backend.download_integers(from, to),
            Self::Device(to) => backend.copy_integers_out(from, to),
        }
    }
}

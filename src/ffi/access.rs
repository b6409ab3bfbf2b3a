//! How an engine reaches what its caller has on the same device: memory, and a stream with work on it.

use super::caller::check_pointer;
use super::status::{Failure, Outcome};
use crate::device::{Cpu, Cuda};
use crate::error::{Error, Result};
use crate::ops::{Backend, In, IntegersIn, Out};
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};

/// A backend whose caller may work on the same device.
pub trait Access: Backend {
    /// Before a call: what the caller has put on its stream so far comes first. The device waits, not this thread.
    fn wait_for_caller(&self, caller: Option<CallerStream>) -> Result<()>;

    /// After a call: what the caller puts on its stream from now on comes later. Without a stream, everything has happened on return.
    fn make_caller_wait(&self, caller: Option<CallerStream>) -> Result<()>;

    /// Reads numbers of the caller's.
    fn copy_in(&self, from: DeviceNumbers<f32>, to: Out<'_, Self>) -> Result<()>;

    /// Reads integers of the caller's to the host.
    fn copy_integers_in(&self, from: DeviceNumbers<i32>, to: &mut [i32]) -> Result<()>;

    /// Writes to the caller's memory.
    fn copy_out(&self, from: In<'_, Self>, to: DeviceNumbers<f32>) -> Result<()>;

    /// Writes integers to the caller's memory.
    fn copy_integers_out(&self, from: IntegersIn<'_, Self>, to: DeviceNumbers<i32>) -> Result<()>;
}

/// A CUDA stream of the caller's, which stays theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallerStream(u64);

impl CallerStream {
    /// # Safety
    /// `handle` is that of a stream, of the engine's context, that lives as long as it is used.
    pub unsafe fn new(handle: u64) -> Self {
        Self(handle)
    }

    /// Its handle, a `CUstream`.
    pub fn handle(self) -> u64 {
        self.0
    }
}

/// The caller's stream, shared by an engine and its memories.
#[derive(Clone, Default)]
pub struct Caller {
    stream: Arc<Mutex<Option<CallerStream>>>,
}

impl Caller {
    pub fn stream(&self) -> Option<CallerStream> {
        *self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set(&self, stream: Option<CallerStream>) {
        *self.stream.lock().unwrap_or_else(PoisonError::into_inner) = stream;
    }
}

/// Numbers of the caller's on the engine's device.
#[derive(Clone, Copy)]
pub struct DeviceNumbers<T> {
    what: &'static str,
    address: u64,
    len: usize,
    numbers: PhantomData<T>,
}

impl<T> DeviceNumbers<T> {
    /// `len` numbers from `pointer` on.
    ///
    /// # Safety
    /// They are there, or `pointer` is no address of the device at all, until the engine has led the caller's stream again. Nobody
    /// writes them meanwhile, and if the engine is to write them nobody reads them either.
    pub unsafe fn new(what: &'static str, pointer: *const T, len: usize) -> Outcome<Self> {
        check_pointer(what, pointer, len)?;
        if !pointer.is_aligned() {
            let width = size_of::<T>();
            return Err(Failure::argument(format!(
                "{what}: expected a device address that is a multiple of {width}, found {pointer:p}"
            )));
        }
        Ok(Self { what, address: pointer.addr() as u64, len, numbers: PhantomData })
    }

    /// What messages call them.
    pub fn what(self) -> &'static str
    where
        T: Copy,
    {
        self.what
    }

    /// How many.
    pub fn len(self) -> usize
    where
        T: Copy,
    {
        self.len
    }

    /// Of the first one.
    pub fn address(self) -> u64
    where
        T: Copy,
    {
        self.address
    }
}

fn no_device_memory<T>() -> Result<T> {
    Err(Error::config("location: device `cpu` has no memory of its own; expected XBM_HOST, found XBM_DEVICE"))
}

impl Access for Cpu {
    fn wait_for_caller(&self, _: Option<CallerStream>) -> Result<()> {
        Ok(())
    }

    fn make_caller_wait(&self, _: Option<CallerStream>) -> Result<()> {
        Ok(())
    }

    fn copy_in(&self, _: DeviceNumbers<f32>, _: Out<'_, Self>) -> Result<()> {
        no_device_memory()
    }

    fn copy_integers_in(&self, _: DeviceNumbers<i32>, _: &mut [i32]) -> Result<()> {
        no_device_memory()
    }

    fn copy_out(&self, _: In<'_, Self>, _: DeviceNumbers<f32>) -> Result<()> {
        no_device_memory()
    }

    fn copy_integers_out(&self, _: IntegersIn<'_, Self>, _: DeviceNumbers<i32>) -> Result<()> {
        no_device_memory()
    }
}

impl Access for Cuda {
    fn wait_for_caller(&self, caller: Option<CallerStream>) -> Result<()> {
        // SAFETY: the promise of `CallerStream::new`.
        caller.map_or(Ok(()), |stream| unsafe { self.wait_for(stream.handle()) })
    }

    fn make_caller_wait(&self, caller: Option<CallerStream>) -> Result<()> {
        // SAFETY: the promise of `CallerStream::new`.
        caller.map_or_else(|| self.synchronize(), |stream| unsafe { self.let_wait(stream.handle()) })
    }

    fn copy_in(&self, from: DeviceNumbers<f32>, to: Out<'_, Self>) -> Result<()> {
        self.expect_own_memory(from.what(), from.address())?;
        // SAFETY: the promise of `DeviceNumbers::new`.
        unsafe { self.copy_from(from.address(), to) }
    }

    fn copy_integers_in(&self, from: DeviceNumbers<i32>, to: &mut [i32]) -> Result<()> {
        self.expect_own_memory(from.what(), from.address())?;
        // SAFETY: as above.
        unsafe { self.read_from(from.address(), to) }
    }

    fn copy_out(&self, from: In<'_, Self>, to: DeviceNumbers<f32>) -> Result<()> {
        self.expect_own_memory(to.what(), to.address())?;
        // SAFETY: as above.
        unsafe { self.copy_to(from, to.address()) }
    }

    fn copy_integers_out(&self, from: IntegersIn<'_, Self>, to: DeviceNumbers<i32>) -> Result<()> {
        self.expect_own_memory(to.what(), to.address())?;
        // SAFETY: as above.
        unsafe { self.copy_integers_to(from, to.address()) }
    }
}

//! Device memory: blocks that start on 256 bytes, kept when they are given back and handed out again.
//!
//! Everything runs on one stream, so a block may be reused as soon as its last user has been put on the stream: what comes after it
//! runs after it.

use crate::error::{Error, Result};
use crate::kernel::device_error;
use cudarc::driver::sys::CUresult;
use cudarc::driver::{CudaContext, CudaStream, result};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What every block starts on and is a multiple of: more than any vector load or library asks for.
pub const ALIGNMENT: usize = 256;
/// How much larger than asked for a block that is handed out again may be.
const LARGEST_EXCESS: usize = 2;

/// Blocks of device memory, in use and idle.
#[derive(Debug)]
pub(crate) struct Pool {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    idle: Mutex<BTreeMap<usize, Vec<u64>>>,
}

/// A block of device memory, given back to its pool on drop.
#[derive(Debug)]
pub(crate) struct DeviceMemory {
    address: u64,
    bytes: usize,
    pool: Arc<Pool>,
}

impl DeviceMemory {
    /// The first byte.
    pub fn address(&self) -> u64 {
        self.address
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        let mut idle = self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.entry(self.bytes).or_default().push(self.address);
    }
}

impl Pool {
    pub fn new(context: Arc<CudaContext>, stream: Arc<CudaStream>) -> Arc<Self> {
        Arc::new(Self { context, stream, idle: Mutex::default() })
    }

    /// A block of at least `bytes` with undefined content.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if the device has no such block even after the idle ones are freed.
    pub fn allocate(self: &Arc<Self>, bytes: usize) -> Result<DeviceMemory> {
        let bytes = bytes.max(1).next_multiple_of(ALIGNMENT);
        let block = |(address, bytes)| DeviceMemory { address, bytes, pool: self.clone() };
        if let Some(found) = self.take_idle(bytes) {
            return Ok(block(found));
        }
        let mut address = self.request(bytes)?;
        if address.is_none() {
            self.free_idle()?;
            address = self.request(bytes)?;
        }
        match address {
            Some(address) => Ok(block((address, bytes))),
            None => {
                let (free, total) = self.context.mem_get_info().map_err(device_error("asking for free memory"))?;
                Err(Error::OutOfMemory { needed: bytes, free, total, purpose: String::new(), advice: String::new() })
            }
        }
    }

    fn take_idle(&self, bytes: usize) -> Option<(u64, usize)> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let found = idle.range_mut(bytes..=bytes * LARGEST_EXCESS).find_map(|(&size, blocks)| blocks.pop().map(|at| (at, size)));
        idle.retain(|_, blocks| !blocks.is_empty());
        found
    }

    /// `None` when the device is out of memory.
    fn request(&self, bytes: usize) -> Result<Option<u64>> {
        self.context.bind_to_thread().map_err(device_error("using the device"))?;
        // SAFETY: the context is current; the block is freed once, in `free_idle`.
        match unsafe { result::malloc_sync(bytes) } {
            Ok(address) => Ok(Some(address)),
            Err(error) if error.0 == CUresult::CUDA_ERROR_OUT_OF_MEMORY => Ok(None),
            Err(error) => Err(device_error("allocating device memory")(error)),
        }
    }

    fn free_idle(&self) -> Result<()> {
        self.stream.synchronize().map_err(device_error("waiting for the device"))?;
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        for address in idle.into_values().flatten() {
            // SAFETY: nobody owns an idle block, and what was put on the stream with it has run.
            unsafe { result::free_sync(address) }.map_err(device_error("freeing device memory"))?;
        }
        Ok(())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Blocks hold their pool, so all of them are idle. A device that has failed can free nothing, and its process is ending.
        if self.context.bind_to_thread().is_ok() {
            let _ = self.free_idle();
        }
    }
}

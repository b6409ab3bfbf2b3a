//! Device memory: blocks that start on 256 bytes, kept when they are given back and handed out again.
//!
//! Everything runs on one stream, so a block may be reused as soon as its last user has been put on the stream: what comes after it
//! runs after it.

use crate::device::cuda::kernel::device_error;
use crate::error::{Error, Result};
use cudarc::driver::sys::CUresult;
use cudarc::driver::{CudaContext, CudaStream, result};
use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What every block starts on and is a multiple of: more than any vector load or library asks for.
pub const ALIGNMENT: usize = 256;
/// How much larger than asked for a block that is handed out again may be.
const LARGEST_EXCESS: usize = 2;

/// Blocks of device memory, in use and idle.
#[derive(Debug)]
pub(crate) struct Pool {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    blocks: Mutex<Blocks>,
}

#[derive(Debug, Default)]
struct Blocks {
    /// Sizes and addresses of blocks that nobody has. The smallest that fits and the first of these is taken, so that equal requests of
    /// equal pools are answered by equal addresses.
    idle: BTreeSet<(usize, u64)>,
    /// While work waits in a queue: what was handed out since, which that work may use although it is idle again.
    awaited: Option<HashSet<u64>>,
}

/// A block of device memory, given back on drop.
#[derive(Debug)]
pub(crate) struct DeviceMemory {
    address: u64,
    bytes: usize,
    home: Home,
}

#[derive(Debug)]
enum Home {
    Pool(Arc<Pool>),
    /// A recording, which counts what it has lent.
    Recording(Arc<AtomicUsize>),
}

impl Blocks {
    /// Takes out the idle blocks at certain addresses.
    fn remove(&mut self, wanted: impl Fn(u64) -> bool) -> Vec<(usize, u64)> {
        let found: Vec<_> = self.idle.iter().copied().filter(|&(_, address)| wanted(address)).collect();
        found.iter().for_each(|block| {
            self.idle.remove(block);
        });
        found
    }
}

impl DeviceMemory {
    /// The first byte.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Its size.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A block that stays its recording's.
    pub fn lent(address: u64, bytes: usize, count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self { address, bytes, home: Home::Recording(count.clone()) }
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        match &self.home {
            Home::Pool(pool) => {
                pool.blocks().idle.insert((self.bytes, self.address));
            }
            Home::Recording(count) => {
                count.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

impl Pool {
    pub fn new(context: Arc<CudaContext>, stream: Arc<CudaStream>) -> Arc<Self> {
        Arc::new(Self { context, stream, blocks: Mutex::default() })
    }

    /// A block of at least `bytes` with undefined content.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if the device has no such block even after the idle ones are freed.
    pub fn allocate(self: &Arc<Self>, bytes: usize) -> Result<DeviceMemory> {
        self.allocate_from(bytes, true)
    }

    /// The same, of blocks that no work in the queue uses: it may be written before that work runs.
    ///
    /// # Errors
    /// As [`Pool::allocate`].
    pub fn allocate_untouched(self: &Arc<Self>, bytes: usize) -> Result<DeviceMemory> {
        self.allocate_from(bytes, false)
    }

    fn allocate_from(self: &Arc<Self>, bytes: usize, touched: bool) -> Result<DeviceMemory> {
        let bytes = bytes.max(1).next_multiple_of(ALIGNMENT);
        let (bytes, address) = match self.take_idle(bytes, touched) {
            Some(found) => found,
            None => (bytes, self.request_or_free(bytes)?),
        };
        if let Some(awaited) = &mut self.blocks().awaited {
            awaited.insert(address);
        }
        Ok(DeviceMemory { address, bytes, home: Home::Pool(self.clone()) })
    }

    fn take_idle(&self, bytes: usize, touched: bool) -> Option<(usize, u64)> {
        let mut blocks = self.blocks();
        let free = |address: &u64| touched || blocks.awaited.as_ref().is_none_or(|awaited| !awaited.contains(address));
        let fitting = (bytes, 0)..=(bytes * LARGEST_EXCESS, u64::MAX);
        let found = blocks.idle.range(fitting).find(|(_, address)| free(address)).copied()?;
        blocks.idle.remove(&found);
        Some(found)
    }

    fn request_or_free(&self, bytes: usize) -> Result<u64> {
        if let Some(address) = self.request(bytes)? {
            return Ok(address);
        }
        self.free_idle()?;
        if let Some(address) = self.request(bytes)? {
            return Ok(address);
        }
        let (free, total) = self.context.mem_get_info().map_err(device_error("asking for free memory"))?;
        Err(Error::OutOfMemory { needed: bytes, free, total, purpose: String::new(), advice: String::new() })
    }

    /// From now on work waits in a queue, until [`Pool::stop_waiting`].
    pub fn await_work(&self) {
        self.blocks().awaited = Some(HashSet::new());
    }

    /// Everything that waited is on the stream.
    pub fn stop_waiting(&self) {
        self.blocks().awaited = None;
    }

    /// Those of `wanted` that are idle, taken out of the pool.
    pub fn take(self: &Arc<Self>, wanted: &HashSet<u64>) -> Vec<DeviceMemory> {
        let mut blocks = self.blocks();
        let taken = blocks.remove(|address| wanted.contains(&address));
        drop(blocks);
        taken.into_iter().map(|(bytes, address)| DeviceMemory { address, bytes, home: Home::Pool(self.clone()) }).collect()
    }

    fn blocks(&self) -> MutexGuard<'_, Blocks> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut blocks = self.blocks();
        let awaited = blocks.awaited.take();
        let unused = blocks.remove(|address| awaited.as_ref().is_none_or(|awaited| !awaited.contains(&address)));
        blocks.awaited = awaited;
        drop(blocks);
        for (_, address) in unused {
            // SAFETY: nobody owns an idle block, what was put on the stream with it has run, and nothing that waits uses it.
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

//! Blocks of pinned host memory that uploads take turns in: some are filled while the copies from others are under way, so that the host
//! may be a few steps ahead of the device.

use crate::device::cuda::kernel::device_error;
use crate::error::Result;
use cudarc::driver::{CudaContext, CudaEvent, CudaStream, PinnedHostSlice, result, sys};
use std::collections::VecDeque;
use std::sync::Arc;

/// Smallest block, in bytes.
const SMALLEST: usize = 4 << 10;
/// Blocks there may be: a step sends about ten times, and the host may be two steps ahead.
const MOST: usize = 32;
/// How much larger than what is sent a block may be.
const LARGEST_EXCESS: usize = 4;

#[derive(Debug)]
pub(super) struct Staging {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    /// In the order in which they were last used.
    blocks: VecDeque<Block>,
}

#[derive(Debug)]
struct Block {
    bytes: PinnedHostSlice<u8>,
    /// Passed once the copy from the block has been made.
    copied: CudaEvent,
}

impl Staging {
    pub fn new(context: Arc<CudaContext>, stream: Arc<CudaStream>) -> Self {
        Self { context, stream, blocks: VecDeque::new() }
    }

    /// Lets `fill` write `bytes` bytes and puts their copy to a device address, whose owner has room for them, on the stream.
    pub fn send(&mut self, bytes: usize, address: u64, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        self.context.bind_to_thread().map_err(device_error("using the device"))?;
        let mut block = self.take(bytes)?;
        block.copied.synchronize().map_err(device_error("waiting for an upload"))?;
        let pinned = &mut block.bytes.as_mut_slice().map_err(device_error("using pinned memory"))?[..bytes];
        fill(pinned);
        // SAFETY: the caller owns the device memory; the pinned block is written again only after its event.
        unsafe { result::memcpy_htod_async(address, pinned, self.stream.cu_stream()) }.map_err(device_error("uploading"))?;
        block.copied.record(&self.stream).map_err(device_error("recording an event"))?;
        self.blocks.push_back(block);
        Ok(())
    }

    /// A block that is large enough: one whose copy has been made, a new one, or, where there are many, the one that was used first.
    fn take(&mut self, bytes: usize) -> Result<Block> {
        let fits = |block: &Block| block.bytes.len() >= bytes && block.bytes.len() <= bytes.max(SMALLEST) * LARGEST_EXCESS;
        let idle = self.blocks.iter().position(|block| fits(block) && block.copied.is_complete());
        let full = self.blocks.len() == MOST;
        let chosen = idle.or_else(|| if full { self.blocks.iter().position(fits) } else { None });
        if let Some(block) = chosen.and_then(|index| self.blocks.remove(index)) {
            return Ok(block);
        }
        if full {
            self.blocks.pop_front();
        }
        Block::new(&self.context, bytes.next_power_of_two().max(SMALLEST))
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // The copy from the block may be under way; a device that has failed has none.
        let _ = self.copied.synchronize();
    }
}

impl Block {
    fn new(context: &Arc<CudaContext>, bytes: usize) -> Result<Self> {
        let copied =
            context.new_event(Some(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING)).map_err(device_error("making an event"))?;
        // SAFETY: bytes of any value are bytes; they are written before they are read.
        let bytes = unsafe { context.alloc_pinned_with_flags(bytes, 0) }.map_err(device_error("allocating pinned memory"))?;
        Ok(Self { bytes, copied })
    }
}

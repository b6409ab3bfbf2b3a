//! Two blocks of pinned host memory that uploads take turns in: one is filled while the copy from the other is under way.

use crate::error::Result;
use crate::kernel::device_error;
use cudarc::driver::{CudaContext, CudaEvent, CudaStream, PinnedHostSlice, result, sys};
use std::sync::Arc;

/// Smallest block, in bytes.
const SMALLEST: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Staging {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    blocks: [Option<Block>; 2],
    turn: usize,
}

#[derive(Debug)]
struct Block {
    bytes: PinnedHostSlice<u8>,
    /// Passed once the copy from the block has been made.
    copied: CudaEvent,
}

impl Staging {
    pub fn new(context: Arc<CudaContext>, stream: Arc<CudaStream>) -> Self {
        Self { context, stream, blocks: [None, None], turn: 0 }
    }

    /// Lets `fill` write `bytes` bytes and puts their copy to a device address, whose owner has room for them, on the stream.
    pub fn send(&mut self, bytes: usize, address: u64, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        self.turn = 1 - self.turn;
        self.context.bind_to_thread().map_err(device_error("using the device"))?;
        let block = match &mut self.blocks[self.turn] {
            Some(block) if block.bytes.len() >= bytes => block,
            place => {
                *place = None;
                place.insert(Block::new(&self.context, bytes.next_power_of_two().max(SMALLEST))?)
            }
        };
        block.copied.synchronize().map_err(device_error("waiting for an upload"))?;
        let pinned = &mut block.bytes.as_mut_slice().map_err(device_error("using pinned memory"))?[..bytes];
        fill(pinned);
        // SAFETY: the caller owns the device memory; the pinned block is written again only after its event.
        unsafe { result::memcpy_htod_async(address, pinned, self.stream.cu_stream()) }.map_err(device_error("uploading"))?;
        block.copied.record(&self.stream).map_err(device_error("recording an event"))
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

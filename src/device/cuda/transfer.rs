//! Between host and device.

use super::{Cuda, DeviceMemory, Waiting, lock};
use crate::device::cuda::kernel::device_error;
use crate::error::Result;
use bytemuck::Pod;
use cudarc::driver::result;

impl Cuda {
    /// Copies host bytes to new device memory through pinned memory, without waiting.
    pub(crate) fn stage(&self, bytes: usize, fill: impl FnOnce(&mut [u8])) -> Result<DeviceMemory> {
        let memory = match &mut *lock(&self.device.waiting) {
            Waiting::Queue(queue) => queue.upload(self.pool(), bytes)?,
            _ => self.pool().allocate(bytes)?,
        };
        lock(&self.device.staging).send(bytes, memory.address(), fill)?;
        Ok(memory)
    }

    /// Device memory that may be written at once, whatever waits.
    pub(crate) fn memory_to_keep(&self, bytes: usize) -> Result<DeviceMemory> {
        self.pool().allocate_untouched(bytes)
    }

    /// Copies host bytes to memory of [`Cuda::memory_to_keep`] through pinned memory, at once and without waiting.
    pub(crate) fn send(&self, address: u64, bytes: usize, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        lock(&self.device.staging).send(bytes, address, fill)
    }

    /// Copies a few values to new device memory, without waiting.
    pub(crate) fn stage_values<T: Pod>(&self, values: &[T]) -> Result<DeviceMemory> {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        self.stage(bytes.len(), |target| target.copy_from_slice(bytes))
    }

    /// Copies device memory to the host and waits for it.
    pub(crate) fn read<T: Pod>(&self, address: u64, values: &mut [T]) -> Result<()> {
        self.stop_waiting()?;
        self.bind()?;
        // SAFETY: the callers own the device memory from this address on, and `values` stays borrowed until the stream is waited for.
        unsafe { result::memcpy_dtoh_async(values, address, self.stream().cu_stream()) }.map_err(device_error("downloading"))?;
        self.stream().synchronize().map_err(device_error("waiting for the device"))
    }

    /// Copies host values to memory that is somebody's.
    pub(super) fn write<T: Pod>(&self, values: &[T], address: u64) -> Result<()> {
        if !matches!(*lock(&self.device.waiting), Waiting::Queue(_)) {
            return self.write_now(values, address);
        }
        let staged = self.stage_values(values)?;
        self.copy_bytes(staged.address(), address, size_of_val(values))
    }

    pub(super) fn write_now<T: Pod>(&self, values: &[T], address: u64) -> Result<()> {
        self.bind()?;
        // SAFETY: the callers own the device memory from this address on; a copy from pageable memory has read it when it returns.
        unsafe { result::memcpy_htod_async(address, values, self.stream().cu_stream()) }.map_err(device_error("uploading"))
    }
}

//! Global memory, which is the host's.

pub use super::shared::{ATOMIC, Access, Shared};

/// A range of addresses that a kernel may touch.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    pub start: u64,
    pub bytes: u64,
    /// Of the driver's allocations.
    pub number: u64,
    pub writable: bool,
}

/// The regions of a launch.
pub struct Global {
    regions: Vec<Region>,
    latest: Region,
}

impl Global {
    pub fn new(mut regions: Vec<Region>) -> Self {
        regions.sort_by_key(|region| region.start);
        Self { regions, latest: Region { start: 0, bytes: 0, number: 0, writable: false } }
    }

    /// Fails unless these bytes are in one region.
    pub fn check(&mut self, address: u64, bytes: u64, written: bool) -> Result<(), String> {
        if !address.is_multiple_of(bytes) {
            return Err(format!("a misaligned access: {bytes} bytes at {address:#x}"));
        }
        self.check_range(address, bytes, written)
    }

    /// The same for bytes at any address.
    pub fn check_range(&mut self, address: u64, bytes: u64, written: bool) -> Result<(), String> {
        let inside = |region: &Region| {
            address >= region.start && address - region.start + bytes <= region.bytes && (!written || region.writable)
        };
        if inside(&self.latest) {
            return Ok(());
        }
        let next = self.regions.partition_point(|region| region.start <= address);
        let region = next.checked_sub(1).map(|at| self.regions[at]);
        match region {
            Some(region) if inside(&region) => {
                self.latest = region;
                Ok(())
            }
            Some(region) if !region.writable => {
                Err("illegal address: a write to the parameters of the kernel, or behind them".into())
            }
            Some(Region { start, bytes: length, number, .. }) => {
                let end = start + length;
                let place = if address < end {
                    format!("byte {} of allocation {number} ({length} bytes)", address - start)
                } else {
                    format!("{} bytes past the end of allocation {number} ({length} bytes)", address - end)
                };
                Err(format!("illegal address: {bytes} bytes at {place}"))
            }
            None => Err(format!("illegal address: {bytes} bytes at {address:#x}, below every allocation")),
        }
    }

    /// Reads what `check` has found to be there.
    #[inline(always)]
    pub fn read_checked(&self, address: u64, bytes: u64) -> u64 {
        let pointer = std::ptr::with_exposed_provenance::<u8>(address as usize);
        // SAFETY: `check` found these bytes within a live allocation of the driver or the parameters of this launch, aligned; the
        // driver runs one kernel at a time, under its lock.
        unsafe {
            match bytes {
                1 => u64::from(pointer.read()),
                2 => u64::from(pointer.cast::<u16>().read()),
                4 => u64::from(pointer.cast::<u32>().read()),
                _ => pointer.cast::<u64>().read(),
            }
        }
    }

    /// Reads many bytes that `check_range` has found to be there.
    pub fn copy_checked(&self, address: u64, to: &mut [u8]) {
        let pointer = std::ptr::with_exposed_provenance::<u8>(address as usize);
        // SAFETY: as in `read_checked`, for all of these bytes.
        unsafe { to.as_mut_ptr().copy_from_nonoverlapping(pointer, to.len()) };
    }

    /// Writes what `check` has found to be writable.
    #[inline(always)]
    pub fn write_checked(&mut self, address: u64, bytes: u64, value: u64) {
        let pointer = std::ptr::with_exposed_provenance_mut::<u8>(address as usize);
        // SAFETY: as in `read_checked`.
        unsafe {
            match bytes {
                1 => pointer.write(value as u8),
                2 => pointer.cast::<u16>().write(value as u16),
                4 => pointer.cast::<u32>().write(value as u32),
                _ => pointer.cast::<u64>().write(value),
            }
        }
    }
}

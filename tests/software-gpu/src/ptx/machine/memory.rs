//! Global memory, which is the host's, and shared memory, with what has been written and who touched it since the last barrier.

use crate::ptx::program::SHARED_START;

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

/// What is known of four bytes of shared memory.
#[derive(Clone, Copy, Default)]
struct Shadow {
    /// Bytes that hold something.
    written: u8,
    /// Bytes that were written and read since `write_epoch` and `read_epoch` began, and by which warp.
    writes: u8,
    reads: u8,
    writer: u8,
    reader: u8,
    write_epoch: u32,
    read_epoch: u32,
    write_line: u32,
}

const SEVERAL: u8 = u8::MAX;
/// Stands for whoever accesses atomically: these accesses are no races among themselves.
pub const ATOMIC: u8 = u8::MAX - 1;

/// Who accesses shared memory, and when: barriers of the whole block part the epochs.
#[derive(Clone, Copy)]
pub struct Access {
    pub warp: u8,
    pub epoch: u32,
    pub line: u32,
}

/// The shared memory of a block.
pub struct Shared {
    bytes: Vec<u8>,
    shadow: Vec<Shadow>,
    /// Off once a barrier of part of the block has been used: epochs say nothing then.
    pub finds_races: bool,
    needs_written: bool,
}

impl Shared {
    /// Shared memory starts as NaN.
    pub fn new(bytes: usize, needs_written: bool) -> Self {
        let shadow = vec![Shadow::default(); bytes.div_ceil(4)];
        Self { bytes: vec![0xff; bytes.next_multiple_of(16)], shadow, finds_races: true, needs_written }
    }

    /// The place of these bytes.
    pub fn place(&self, address: u64, bytes: u64) -> Result<usize, String> {
        let length = 4 * self.shadow.len() as u64;
        let start = u64::from(SHARED_START);
        if address < start || address - start + bytes > length {
            let offset = address.cast_signed() - start.cast_signed();
            return Err(format!("{bytes} bytes at shared offset {offset} are outside the {length} bytes of shared memory"));
        }
        if !address.is_multiple_of(bytes) {
            return Err(format!("shared offset {} is not aligned to {bytes} bytes", address - start));
        }
        Ok((address - start) as usize)
    }

    /// Notes an access; returns its place.
    pub fn touch(&mut self, address: u64, bytes: u64, access: Access, write: bool) -> Result<usize, String> {
        let place = self.place(address, bytes)?;
        self.note(place, bytes as usize, access, write)?;
        Ok(place)
    }

    #[inline(always)]
    pub fn get(&self, place: usize, bytes: usize) -> u64 {
        let mut value = [0; 8];
        value[..bytes].copy_from_slice(&self.bytes[place..place + bytes]);
        u64::from_le_bytes(value)
    }

    #[inline(always)]
    pub fn set(&mut self, place: usize, bytes: usize, value: u64) {
        self.bytes[place..place + bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
    }

    /// Sixteen bytes for a matrix load.
    pub fn row(&self, place: usize) -> [u8; 16] {
        self.bytes[place..place + 16].try_into().expect("sixteen bytes")
    }

    fn note(&mut self, place: usize, bytes: usize, access: Access, write: bool) -> Result<(), String> {
        for word in place / 4..=(place + bytes - 1) / 4 {
            let touched = if bytes >= 4 { 0xf } else { ((1 << bytes) - 1) << (place % 4) };
            let shadow = &mut self.shadow[word];
            if !write && self.needs_written && shadow.written & touched != touched {
                return Err(format!("shared offset {} is read and was never written", 4 * word));
            }
            if self.finds_races {
                let by_others = shadow.write_epoch == access.epoch && shadow.writes & touched != 0 && shadow.writer != access.warp;
                if by_others {
                    let (writer, line) = (shadow.writer, shadow.write_line);
                    let what = if write { "written" } else { "read" };
                    return Err(format!(
                        "race: shared offset {} is {what}, and warp {writer} wrote it at PTX line {line} with no barrier between",
                        4 * word
                    ));
                }
                if write && shadow.read_epoch == access.epoch && shadow.reads & touched != 0 && shadow.reader != access.warp {
                    return Err(format!(
                        "race: shared offset {} is written, and another warp read it with no barrier between",
                        4 * word
                    ));
                }
            }
            if write {
                shadow.written |= touched;
                if shadow.write_epoch != access.epoch || shadow.writer != access.warp {
                    (shadow.write_epoch, shadow.writer, shadow.writes) = (access.epoch, access.warp, 0);
                }
                shadow.writes |= touched;
                shadow.write_line = access.line;
            } else {
                if shadow.read_epoch != access.epoch {
                    (shadow.read_epoch, shadow.reader, shadow.reads) = (access.epoch, access.warp, 0);
                } else if shadow.reader != access.warp {
                    shadow.reader = SEVERAL;
                }
                shadow.reads |= touched;
            }
        }
        Ok(())
    }
}

//! Tensor maps as the stand-in driver writes them: see driver/tensor_map.hpp, which has the same layout.

use super::memory::Global;
use crate::ptx::program::SHARED_WINDOW;

const MAGIC: u64 = 0x314d_5054;
const BYTES: u64 = 128;

/// A tensor of up to five dimensions in global memory, and the box that one instruction copies. The first dimension is contiguous.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorMap {
    pub address: u64,
    pub rank: usize,
    pub element_bytes: u64,
    /// 0 to 3: none, 32, 64 or 128 bytes.
    pub swizzle: u32,
    pub sizes: [u64; 5],
    pub strides: [u64; 5],
    pub box_sizes: [u64; 5],
}

impl TensorMap {
    pub(super) fn read(global: &mut Global, address: u64) -> Result<Self, String> {
        if !address.is_multiple_of(64) {
            return Err(format!("a tensor map at {address:#x}, which is not aligned to 64 bytes"));
        }
        if address >= SHARED_WINDOW {
            return Err("a tensor map in shared or local memory".into());
        }
        global.check_range(address, BYTES, false)?;
        let word = |at: u64| global.read_checked(address + at, 8);
        let (head, modes) = (word(0), word(8));
        if head & 0xffff_ffff != MAGIC {
            return Err(format!("at {address:#x} is no tensor map that cuTensorMapEncodeTiled has made"));
        }
        let byte = |word: u64, at: u32| word >> (8 * at) & 0xff;
        let element_bytes = byte(head, 5);
        let mut map = Self {
            address: word(16),
            rank: byte(head, 4) as usize,
            element_bytes,
            swizzle: byte(head, 6) as u32,
            sizes: [1; 5],
            strides: [element_bytes; 5],
            box_sizes: [1; 5],
        };
        for axis in 0..map.rank {
            map.sizes[axis] = word(24 + 8 * axis as u64);
            map.box_sizes[axis] = 1 + byte(modes, axis as u32);
            if axis > 0 {
                map.strides[axis] = word(64 + 8 * (axis as u64 - 1));
            }
        }
        if byte(modes, 5) != 0 {
            return Err("a tensor map that fills with NaN is not known".into());
        }
        if byte(modes, 6) != 0 {
            return Err("a tensor map with element strides other than 1 is not known".into());
        }
        if map.swizzle != 0 && map.row_bytes() != 16 << map.swizzle {
            let (row, swizzle) = (map.row_bytes(), 16 << map.swizzle);
            return Err(format!("a tensor map with a swizzle of {swizzle} bytes and rows of {row} is not known"));
        }
        Ok(map)
    }

    /// The 128 bytes of the map.
    #[must_use]
    pub fn encoded(&self) -> [u8; BYTES as usize] {
        let mut bytes = [0; BYTES as usize];
        bytes[..4].copy_from_slice(&(MAGIC as u32).to_le_bytes());
        bytes[4..7].copy_from_slice(&[self.rank as u8, self.element_bytes as u8, self.swizzle as u8]);
        bytes[16..24].copy_from_slice(&self.address.to_le_bytes());
        for axis in 0..self.rank {
            bytes[8 + axis] = (self.box_sizes[axis] - 1) as u8;
            bytes[24 + 8 * axis..][..8].copy_from_slice(&self.sizes[axis].to_le_bytes());
            if axis > 0 {
                bytes[64 + 8 * (axis - 1)..][..8].copy_from_slice(&self.strides[axis].to_le_bytes());
            }
        }
        bytes
    }

    fn row_bytes(&self) -> u64 {
        self.box_sizes[0] * self.element_bytes
    }

    pub(super) fn box_bytes(&self) -> u64 {
        self.box_sizes.iter().product::<u64>() * self.element_bytes
    }

    /// The box at some coordinates, as it lies in shared memory but for the swizzle, and how many of its bytes were read: what is
    /// outside the tensor is zero.
    pub(super) fn box_at(&self, global: &mut Global, coordinates: &[i32; 5]) -> Result<(Vec<u8>, u64), String> {
        let (mut bytes, mut read) = (vec![0; self.box_bytes() as usize], 0);
        let row_bytes = self.row_bytes() as usize;
        for (number, row) in bytes.chunks_exact_mut(row_bytes).enumerate() {
            let mut rest = number as u64;
            let mut start = Some(self.address);
            for (axis, &coordinate) in coordinates.iter().enumerate().take(self.rank).skip(1) {
                let at = i64::from(coordinate) + (rest % self.box_sizes[axis]).cast_signed();
                rest /= self.box_sizes[axis];
                let inside = u64::try_from(at).ok().filter(|&at| at < self.sizes[axis]);
                start = start.zip(inside).map(|(start, at)| start + at * self.strides[axis]);
            }
            let first = i64::from(coordinates[0]);
            let (from, to) = (first.max(0), (first + self.box_sizes[0].cast_signed()).min(self.sizes[0].cast_signed()));
            let Some(start) = start.filter(|_| from < to) else { continue };
            let element = self.element_bytes.cast_signed();
            let count = ((to - from) * element) as usize;
            let source = start + (from * element).cast_unsigned();
            global.check_range(source, count as u64, false)?;
            let into = ((from - first) * element) as usize;
            global.copy_checked(source, &mut row[into..into + count]);
            read += count as u64;
        }
        Ok((bytes, read))
    }
}

/// Where a byte of shared memory lies under a swizzle: address bits 4 to 6 are changed by bits 7 to 9, as many as the pattern has.
pub(super) fn swizzled(address: u64, swizzle: u32) -> u64 {
    address ^ (address >> 3 & ((1 << swizzle) - 1) << 4)
}

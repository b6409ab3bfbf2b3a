//! Descriptors of matrices in shared memory, as `wgmma` takes them.

use super::memory::Shared;
use super::tensor_map::swizzled;
use super::wgmma::eight;
use crate::ptx::program::Format;

/// A matrix of M or N rows and 16 columns of K, of 16-bit numbers.
///
/// Units of 16 bytes hold eight numbers with K running, or M or N where it is transposed. Units of a swizzle's width lie side by
/// side, eight of these below each other make a pattern, and the offsets lead from one pattern to the next.
pub struct Descriptor {
    start: u64,
    leading: u64,
    stride: u64,
    /// 0 to 3: none, 32, 64 or 128 bytes.
    swizzle: u32,
    transposed: bool,
}

impl Descriptor {
    pub fn new(bits: u64, transposed: bool) -> Result<Self, String> {
        let field = |at: u32| (bits >> at & 0x3fff) << 4;
        if bits & 0x3ff1_c000_c000_c000 != 0 {
            return Err(format!("the descriptor {bits:#018x} of a matrix has bits that belong to no field"));
        }
        if bits >> 49 & 7 != 0 {
            return Err(format!("the descriptor {bits:#018x} of a matrix has a base offset, which is not known"));
        }
        // 1 stands for 128 bytes, 3 for 32.
        let swizzle = [0, 3, 2, 1][(bits >> 62) as usize];
        Ok(Self { start: field(0), leading: field(16), stride: field(32), swizzle, transposed })
    }

    /// The address of the unit that holds the number of a row and a column: those of eight columns, or of eight rows.
    fn unit(&self, row: u64, column: u64) -> u64 {
        let width = 16 << self.swizzle;
        let offset = match (self.transposed, self.swizzle) {
            (false, 0) => row / 8 * self.stride + row % 8 * 16 + column / 8 * self.leading,
            (false, _) => row / 8 * self.stride + row % 8 * width + column / 8 * 16,
            (true, 0) => row / 8 * self.stride + column / 8 * self.leading + column % 8 * 16,
            (true, _) => {
                let within = width / 2;
                row / within * self.leading + row % within / 8 * 16 + column / 8 * self.stride + column % 8 * width
            }
        };
        swizzled(self.start + offset, self.swizzle)
    }

    /// Eight rows from a multiple of eight on.
    pub fn eight_rows(&self, shared: &Shared, first: usize, format: Format) -> Result<[[f32; 16]; 8], String> {
        let first = first as u64;
        let mut rows = [[0.0; 16]; 8];
        let unit = |row: u64, column: u64| {
            let place = shared.place(self.unit(row, column), 16).map_err(|words| format!("a matrix of wgmma: {words}"))?;
            Ok::<_, String>(eight(shared.asynchronous_row(place)?, format))
        };
        if self.transposed {
            for column in 0..16 {
                for (row, number) in unit(first, column)?.into_iter().enumerate() {
                    rows[row][column as usize] = number;
                }
            }
        } else {
            for (row, numbers) in (first..).zip(&mut rows) {
                numbers[..8].copy_from_slice(&unit(row, 0)?);
                numbers[8..].copy_from_slice(&unit(row, 8)?);
            }
        }
        Ok(rows)
    }
}

//! Descriptions of matrices by which kernels of compute capability 9.0 copy boxes of them (TMA).

use super::kernel::{Format, device_error};
use crate::error::Result;
use bytemuck::{Pod, Zeroable};
use cudarc::driver::sys;
use std::ptr::from_mut;

/// Columns of a box of 16-bit numbers: the 128 bytes of a swizzled row.
pub const PANEL_COLUMNS: usize = 64;

/// A matrix of 16-bit numbers in boxes of [`PANEL_COLUMNS`] columns and some rows, as the driver encodes it. Numbers outside of the matrix are
/// read as zeros.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct TensorMap {
    opaque: [u64; 16],
}

impl TensorMap {
    /// Of `(rows, columns)` at an address of device memory, which is a multiple of 16 as the bytes of a row are.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error) with the driver's words.
    pub fn of_rows(address: u64, rows: usize, columns: usize, box_rows: usize, format: Format) -> Result<Self> {
        let mut map = Self::zeroed();
        let kind = match format {
            Format::F16 => sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
            Format::Bf16 => sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
            Format::F32 => unreachable!("panels are of 16-bit numbers"),
        };
        // A matrix without rows is never read, but has an address.
        let sizes = [columns as u64, rows.max(1) as u64];
        let strides = [2 * columns as u64];
        let boxes = [PANEL_COLUMNS as u32, box_rows as u32];
        let steps = [1, 1];
        // SAFETY: the driver writes the 128 bytes of the map, and reads as many sizes as the rank says.
        let encoded = unsafe {
            sys::cuTensorMapEncodeTiled(
                from_mut(&mut map).cast(),
                kind,
                2,
                address as *mut _,
                sizes.as_ptr(),
                strides.as_ptr(),
                boxes.as_ptr(),
                steps.as_ptr(),
                sys::CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
                sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_128B,
                sys::CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                sys::CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
            )
        };
        encoded.result().map_err(device_error("describing rows to the device"))?;
        Ok(map)
    }
}

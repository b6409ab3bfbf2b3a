//! Makes tensor maps with the stand-in driver.

use crate::{Device, device, loaded};

/// What `cuTensorMapEncodeTiled` is given. The sizes and strides that it reads are as many as the rank says.
#[derive(Clone, Copy, Debug)]
pub struct Arguments {
    /// Of CUtensorMapDataType.
    pub data_type: i32,
    /// Dimensions.
    pub rank: u32,
    /// Where the tensor lies.
    pub address: u64,
    /// Of the tensor.
    pub sizes: [u64; 5],
    /// In bytes, of all dimensions but the first.
    pub strides: [u64; 4],
    /// Of the box.
    pub box_sizes: [u32; 5],
    /// Of every dimension, in elements.
    pub element_strides: [u32; 5],
    /// Of CUtensorMapInterleave.
    pub interleave: i32,
    /// Of CUtensorMapSwizzle.
    pub swizzle: i32,
    /// Of CUtensorMapFloatOOBfill.
    pub fill: i32,
}

#[repr(C, align(64))]
struct Map([u8; 128]);

type Encode =
    unsafe extern "C" fn(*mut Map, i32, u32, u64, *const u64, *const u64, *const u32, *const u32, i32, i32, i32, i32) -> i32;

/// The result of the call and the map; `None` where the software GPU is not loaded.
pub fn encode(arguments: &Arguments) -> Option<(i32, [u8; 128])> {
    if *device() != Device::Software {
        return None;
    }
    let library = loaded("libcuda.so.1").expect("the software GPU is loaded");
    let mut map = Map([0xff; 128]);
    let Arguments { data_type, rank, address, sizes, strides, box_sizes, element_strides, interleave, swizzle, fill } = arguments;
    let (sizes, strides, boxes, steps) = (sizes.as_ptr(), strides.as_ptr(), box_sizes.as_ptr(), element_strides.as_ptr());
    // SAFETY: the function has this signature in driver/tensor_map.cpp, and reads at most five of each of the arrays.
    let result = unsafe {
        let encode = library.get::<Encode>(b"cuTensorMapEncodeTiled").expect("the software GPU has this function");
        encode(&raw mut map, *data_type, *rank, *address, sizes, strides, boxes, steps, *interleave, *swizzle, 0, *fill)
    };
    Some((result, map.0))
}

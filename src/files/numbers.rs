//! Numbers as the bytes of a file, which are little-endian.

use bytemuck::Pod;

#[cfg(target_endian = "big")]
compile_error!("numbers go to files as they are in memory, which has to be little-endian");

/// The bytes of numbers.
pub fn as_bytes<T: Pod>(numbers: &[T]) -> &[u8] {
    bytemuck::cast_slice(numbers)
}

/// The numbers of bytes, wherever these begin; the last is filled up with zeros where they end within it.
pub fn from_bytes<T: Pod>(bytes: &[u8]) -> Vec<T> {
    bytemuck::pod_collect_to_vec(bytes)
}

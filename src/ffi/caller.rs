//! The caller's memory: what is read from it and written to it. Pointers may be unaligned; nothing of the caller's is kept after a call.

use super::status::{Failure, Outcome, Status};
use crate::error::Result;
use bytemuck::Pod;
use std::borrow::Cow;
use std::ffi::{CStr, c_char};

/// A structure or number of the caller's.
///
/// # Safety
/// `pointer` is NULL or points to a `T`.
pub unsafe fn read<T: Copy>(what: &str, pointer: *const T) -> Outcome<T> {
    if pointer.is_null() {
        return Err(null(what));
    }
    // SAFETY: not NULL, so it points to a `T`, wherever that is aligned to.
    Ok(unsafe { pointer.read_unaligned() })
}

/// Writes a structure or number of the caller's.
///
/// # Safety
/// `pointer` is NULL or points to memory for a `T`.
pub unsafe fn write<T>(what: &str, pointer: *mut T, value: T) -> Outcome {
    if pointer.is_null() {
        return Err(null(what));
    }
    // SAFETY: not NULL, so there is room for a `T`, wherever that is aligned to.
    unsafe { pointer.write_unaligned(value) };
    Ok(())
}

/// A text of the caller's.
///
/// # Safety
/// `pointer` is NULL or points to characters that end with a zero and do not change during `'a`.
pub unsafe fn text<'a>(what: &str, pointer: *const c_char) -> Outcome<&'a str> {
    if pointer.is_null() {
        return Err(null(what));
    }
    // SAFETY: not NULL, so it points to a text that ends with a zero.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str().map_err(|error| Failure::argument(format!("{what}: expected UTF-8, found other bytes ({error})")))
}

/// `len` numbers of the caller's, borrowed if they are aligned.
///
/// # Safety
/// `pointer` is NULL or points to `len` numbers that do not change during `'a`.
pub unsafe fn numbers<'a, T: Pod>(what: &str, pointer: *const T, len: usize) -> Outcome<Cow<'a, [T]>> {
    if len == 0 {
        return Ok(Cow::Borrowed(&[]));
    }
    check_pointer(what, pointer, len)?;
    if pointer.is_aligned() {
        // SAFETY: not NULL, aligned, and `len` numbers that fit an address space.
        return Ok(Cow::Borrowed(unsafe { std::slice::from_raw_parts(pointer, len) }));
    }
    let mut copy = vec![T::zeroed(); len];
    // SAFETY: byte by byte there is no alignment; the copy is ours and has the same length.
    unsafe { pointer.cast::<u8>().copy_to_nonoverlapping(copy.as_mut_ptr().cast(), len * size_of::<T>()) };
    Ok(Cow::Owned(copy))
}

/// Lets `fill` write `len` numbers of the caller's.
///
/// # Safety
/// `pointer` is NULL or points to memory for `len` numbers that nobody else uses during the call.
pub unsafe fn fill<T: Pod>(what: &str, pointer: *mut T, len: usize, fill: impl FnOnce(&mut [T]) -> Result<()>) -> Outcome {
    if len == 0 {
        return Ok(fill(&mut [])?);
    }
    check_pointer(what, pointer, len)?;
    if pointer.is_aligned() {
        // SAFETY: not NULL, aligned, `len` numbers that fit an address space; any bits are a `Pod`.
        return Ok(fill(unsafe { std::slice::from_raw_parts_mut(pointer, len) })?);
    }
    let mut aside = vec![T::zeroed(); len];
    fill(&mut aside)?;
    // SAFETY: as in `numbers`, the other way round.
    unsafe { pointer.cast::<u8>().copy_from_nonoverlapping(aside.as_ptr().cast(), len * size_of::<T>()) };
    Ok(())
}

/// Copies numbers of ours to the caller's memory.
///
/// # Safety
/// As for [`fill`], with the length of `from`.
pub unsafe fn copy_out<T: Pod>(what: &str, from: &[T], to: *mut T) -> Outcome {
    // SAFETY: the caller's promise.
    unsafe {
        fill(what, to, from.len(), |to| {
            to.copy_from_slice(from);
            Ok(())
        })
    }
}

/// Whether a pointer that may be NULL is not.
pub fn given<T>(pointer: *const T) -> bool {
    !pointer.is_null()
}

/// Fails unless there is a pointer, and `len` numbers fit an address space.
pub fn check_pointer<T>(what: &str, pointer: *const T, len: usize) -> Outcome {
    if pointer.is_null() {
        return Err(null(what));
    }
    product(what, len, size_of::<T>()).map(|_| ())
}

fn null(what: &str) -> Failure {
    Failure::argument(format!("{what}: expected a pointer, found NULL"))
}

/// The number of values of a matrix.
pub fn product(what: &str, rows: usize, dim: usize) -> Outcome<usize> {
    let values = rows.checked_mul(dim).filter(|&len| len <= isize::MAX as usize / 8);
    values.ok_or_else(|| Failure::new(Status::Shape, format!("{what}: {rows} times {dim} values do not fit any memory")))
}

//! Plain loops compiled for the widest vectors that the processor turns out to have, and hints to its caches.

use pulp::{Arch, Simd, WithSimd};

/// Runs `loops`, an `#[inline(always)]` closure, with AVX2 or AVX-512 where they exist.
///
/// The closure must be written where this is called. Then it is compiled as an `FnOnce`, whose body becomes a part of the vectorised
/// function; what is handed to [`Arch::dispatch`] itself is compiled as an `Fn` behind a shim, which often stays a function of its
/// own and without wide vectors.
pub(crate) fn vectorized<R>(loops: impl FnOnce() -> R) -> R {
    Arch::new().dispatch(Loops(loops))
}

struct Loops<F>(F);

impl<R, F: FnOnce() -> R> WithSimd for Loops<F> {
    type Output = R;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> R {
        (self.0)()
    }
}

/// Bytes of a cache line.
#[cfg(target_arch = "x86_64")]
const LINE: usize = 64;

/// Asks for `values` to be brought into the second-level cache; does nothing where the processor has no such instruction.
#[inline(always)]
pub(crate) fn prefetch<T>(values: &[T]) {
    #[cfg(target_arch = "x86_64")]
    for line in values.chunks(LINE / size_of::<T>()) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: a prefetch changes nothing a program can see, and faults on no address; this one is that of a slice besides.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}

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

/// Sum of the products of two rows, with wide vectors where it is called from [`vectorized`] loops.
#[inline(always)]
pub(crate) fn dot(left: &[f32], right: &[f32]) -> f32 {
    /// Sums, so that additions need not wait for each other.
    const SUMS: usize = 32;
    let mut sums = [0.0; SUMS];
    let ((left, left_rest), (right, right_rest)) = (left.as_chunks::<SUMS>(), right.as_chunks::<SUMS>());
    for (left, right) in left.iter().zip(right) {
        for lane in 0..SUMS {
            sums[lane] += left[lane] * right[lane];
        }
    }
    for (sum, (left, right)) in sums.iter_mut().zip(left_rest.iter().zip(right_rest)) {
        *sum += left * right;
    }
    for half in [16, 8, 4, 2, 1] {
        for lane in 0..half {
            sums[lane] += sums[lane + half];
        }
    }
    sums[0]
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

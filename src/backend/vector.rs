//! Plain loops compiled for the widest vectors that the processor turns out to have.

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

//! Products of codes: 32 of them an instruction, in sums of 16 bits that stay in registers.
//!
//! The sums may overflow on the way; what they amount to fits, and additions that wrap around do not mind. Bound: arithmetic.

#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::Sieve;

use super::{Anchors, Rows};

/// See [`Sieve::sift`].
pub(super) struct Sift<'a, F> {
    pub(super) sieve: Sieve,
    pub(super) anchors: Anchors<'a>,
    pub(super) rows: Rows<'a>,
    pub(super) limits: (&'a [i32], &'a [i32]),
    pub(super) ahead: &'a [f32],
    pub(super) found: F,
}

/// On this processor there is none.
#[cfg(not(target_arch = "x86_64"))]
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sieve {}

#[cfg(not(target_arch = "x86_64"))]
impl Sieve {
    /// `None`: nothing is faster for codes than for 32-bit numbers.
    pub(crate) fn new() -> Option<Self> {
        None
    }

    pub(super) fn encode_rows<'a>(self, _: impl Fn(usize) -> &'a [f32], _: usize, _: &mut [super::RowBlock], _: &mut [i32]) {
        match self {}
    }
}

#[cfg(not(target_arch = "x86_64"))]
impl<F: FnMut(usize, usize, u32)> Sift<'_, F> {
    pub(super) fn run(self) {
        match self.sieve {}
    }
}

//! What instructions compute from the registers of one lane, found by their whole opcode.

mod bits;
mod compare;
mod convert;
mod float;
pub mod formats;
mod integer;
mod rounding;

use super::program::{Class, Run};

/// An opcode's function; the name of its shape says the files of its result and sources, such as `w_ww`.
pub struct Entry {
    pub run: Run,
    pub shape: &'static str,
    pub class: Class,
}

/// The function of an opcode, if there is one.
pub fn find(opcode: &str) -> Option<Entry> {
    integer::find(opcode)
        .or_else(|| bits::find(opcode))
        .or_else(|| compare::find(opcode))
        .or_else(|| float::find(opcode))
        .or_else(|| convert::find(opcode))
}

/// An [`Entry`] of a class, with a function from `registers.rs` and what it computes.
macro_rules! entry {
    ($class:ident, $shape:ident, $compute:expr) => {
        Some($crate::ptx::ops::Entry {
            run: |registers, operands, mask| $crate::ptx::registers::$shape(registers, operands, mask, $compute),
            shape: stringify!($shape),
            class: $crate::ptx::program::Class::$class,
        })
    };
}
use entry;

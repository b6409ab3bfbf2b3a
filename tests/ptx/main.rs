//! The PTX machine by itself: small kernels written by hand, against values written by hand, and faults that it must find.

mod arithmetic;
mod collectives;
mod cutlass;
mod faults;
mod flow;
mod matrices;
mod snippet;

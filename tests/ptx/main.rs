//! The PTX machine by itself: small kernels written by hand, against values written by hand, and faults that it must find.

mod arithmetic;
mod barriers;
mod collectives;
mod cutlass;
mod cutlass_hopper;
mod faults;
mod flow;
mod groups;
mod hopper;
mod maps;
mod matrices;
mod snippet;
mod tensors;

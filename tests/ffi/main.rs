//! The C interface: its header against its source, its results against the library's own, its answers to misuse, a
//! caller on the same GPU, and C programs.

mod calls;
mod degenerate;
mod gpu;
mod header;
mod misuse;
mod nearest;
mod programs;
#[path = "../support/mod.rs"]
mod support;

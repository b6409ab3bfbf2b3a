//! The C interface: its header against its source, its results against the library's own, its answers to misuse, and C programs.

mod calls;
mod header;
mod misuse;
mod programs;
#[path = "../support/mod.rs"]
mod support;

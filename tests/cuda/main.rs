//! The GPU backend on a real device or on the software GPU, beyond what the suites of the operations run on it in 32 bit.
//! Without a C++ compiler and without a device these tests are skipped, and say so.

#[path = "../support/mod.rs"]
mod support;

mod failures;
mod graph;
mod images;
mod operations;
mod probe;
mod program;
mod retrieval;
mod self_check;
mod storage;
mod train;

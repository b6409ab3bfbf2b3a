//! What users of this field's software have reported in public, tried on this program.
//!
//! A test is named for the subject of its report, as it should be; the address of the report and what was wrong there are in the comment
//! above it. Inputs are small and made by the test. The right value comes from a plain loop, from arithmetic, or from how the input was
//! made. `pairs`, `pictures` and `program` are what the tests share.

mod checkpoints;
mod command_line;
mod evaluation;
mod files;
mod images;
mod leaks;
mod losses;
mod memory;
mod numbers;
mod pairs;
mod pictures;
mod program;
mod sampling;
#[path = "../support/mod.rs"]
mod support;
mod tables;

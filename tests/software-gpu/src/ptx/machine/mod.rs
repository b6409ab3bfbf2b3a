//! Executes a [`Program`]: blocks one after another, in each the warps by turns, in each the lanes side by side.

mod block;
mod collective;
mod copies;
pub mod counts;
mod data;
mod matrix;
pub mod memory;
mod stack;
mod warp;

use super::program::Program;
use crate::Order;
use block::{Random, Surroundings, shuffle};
use counts::Counts;
use memory::{Global, Region};

/// How a kernel is launched.
#[derive(Clone, Debug)]
pub struct Launch {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared_bytes: u32,
    pub order: Order,
    pub seed: u64,
    /// Whether asynchronous copies land at the wait that needs them rather than at issue.
    pub late_copies: bool,
    /// Whether reading shared memory that nobody has written is an error; where not, it is NaN.
    pub needs_written: bool,
}

/// Where the dynamic shared memory begins behind the variables with a length.
fn dynamic_offset(program: &Program) -> u32 {
    program.static_shared.next_multiple_of(1024)
}

/// Runs a kernel; `regions` are what it may touch.
///
/// # Errors
/// What it did wrong, and where.
pub fn run(program: &Program, launch: &Launch, params: &[u8], mut regions: Vec<Region>) -> Result<Counts, String> {
    if params.len() < program.params_bytes as usize {
        return Err(format!("{}: {} bytes of parameters, expected {}", program.name, params.len(), program.params_bytes));
    }
    let mut aligned: Vec<u128> = vec![0; params.len().div_ceil(16).max(1)];
    for (word, bytes) in aligned.iter_mut().zip(params.chunks(16)) {
        let mut whole = [0; 16];
        whole[..bytes.len()].copy_from_slice(bytes);
        *word = u128::from_le_bytes(whole);
    }
    let start = aligned.as_ptr().expose_provenance() as u64;
    regions.push(Region { start, bytes: 16 * aligned.len() as u64, number: 0, writable: false });
    let mut around = Surroundings::new(program, launch, start, Global::new(regions));
    let mut blocks: Vec<u64> = (0..launch.grid.iter().map(|&size| u64::from(size)).product()).collect();
    if launch.order != Order::Fifo {
        shuffle(&mut blocks, &mut Random::new(launch.seed));
    }
    let mut warps = Vec::new();
    for number in blocks {
        block::run(&mut around, &mut warps, number)?;
    }
    Ok(around.counts)
}

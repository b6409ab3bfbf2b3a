//! Executes a [`Program`]: clusters of blocks one after another, in each the warps by turns, in each the lanes side by side.

mod block;
mod cluster;
mod collective;
mod copies;
pub mod counts;
mod data;
mod descriptor;
mod hopper;
mod matrix;
mod mbarrier;
pub mod memory;
mod shared;
mod special;
mod stack;
mod surroundings;
mod tensor_copies;
pub mod tensor_map;
mod warp;
mod wgmma;

use super::program::Program;
use crate::Order;
use counts::Counts;
use memory::{Global, Region};
use surroundings::{Random, Surroundings, shuffle};

/// How a kernel is launched.
#[derive(Clone, Debug)]
pub struct Launch {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    /// Blocks of a cluster.
    pub cluster: [u32; 3],
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

/// Parameters and variables of a module begin where a tensor map may.
#[derive(Clone, Copy)]
#[repr(C, align(128))]
struct Line([u8; 128]);

fn aligned(bytes: &[u8]) -> Vec<Line> {
    let mut lines = vec![Line([0; 128]); bytes.len().div_ceil(128).max(1)];
    for (line, bytes) in lines.iter_mut().zip(bytes.chunks(128)) {
        line.0[..bytes.len()].copy_from_slice(bytes);
    }
    lines
}

/// Blocks of a cluster that every device can run.
const BLOCKS_OF_A_CLUSTER: u32 = 8;

fn check_clusters(program: &Program, launch: &Launch) -> Result<(), String> {
    let (name, cluster, grid) = (&program.name, launch.cluster, launch.grid);
    let blocks: u32 = cluster.iter().product();
    if blocks == 0 || blocks > BLOCKS_OF_A_CLUSTER {
        return Err(format!("{name}: clusters of {cluster:?} blocks: expected 1 to {BLOCKS_OF_A_CLUSTER}"));
    }
    if cluster.iter().zip(grid).any(|(&cluster, grid)| grid % cluster != 0) {
        return Err(format!("{name}: a grid of {grid:?} blocks does not divide into clusters of {cluster:?}"));
    }
    match program.cluster {
        Some(named) if named != cluster => {
            Err(format!("{name}: clusters of {cluster:?} blocks, and the kernel requires {named:?}"))
        }
        _ => Ok(()),
    }
}

/// Runs a kernel; `regions` are what it may touch.
///
/// # Errors
/// What it did wrong, and where.
pub fn run(program: &Program, launch: &Launch, params: &[u8], mut regions: Vec<Region>) -> Result<Counts, String> {
    if params.len() < program.params_bytes as usize {
        return Err(format!("{}: {} bytes of parameters, expected {}", program.name, params.len(), program.params_bytes));
    }
    check_clusters(program, launch)?;
    let (params, variables) = (aligned(params), aligned(&program.globals));
    let [start, globals] = [&params, &variables].map(|lines| {
        let start = lines.as_ptr().expose_provenance() as u64;
        regions.push(Region { start, bytes: (lines.len() * size_of::<Line>()) as u64, number: 0, writable: false });
        start
    });
    let mut around = Surroundings::new(program, launch, start, globals, Global::new(regions));
    let mut clusters: Vec<u64> = (0..around.clusters_in_grid().iter().map(|&size| u64::from(size)).product()).collect();
    if launch.order != Order::Fifo {
        shuffle(&mut clusters, &mut Random::new(launch.seed));
    }
    let mut teams = Vec::new();
    for number in clusters {
        block::run(&mut around, &mut teams, number)?;
    }
    Ok(around.counts)
}

//! What the warps of a cluster share.

use super::cluster::{ClusterBarrier, Resident};
use super::counts::{Counts, sectors};
use super::memory::{Access, Global, Shared};
use super::tensor_copies::TensorFlight;
use super::{Launch, Order};
use crate::ptx::program::{Program, SHARED_WINDOW, Space, WARP};

pub struct Surroundings<'p> {
    pub program: &'p Program,
    pub launch: &'p Launch,
    /// The address of the kernel's parameters, and that of the module's variables.
    pub params: u64,
    pub globals: u64,
    pub global: Global,
    /// The block whose warp runs.
    pub own: Resident,
    /// The blocks of the cluster by rank; that of `own` is empty here.
    pub others: Vec<Resident>,
    pub cluster_index: [u32; 3],
    pub cluster_barrier: ClusterBarrier,
    pub flights: Vec<TensorFlight>,
    /// Grows with everything that may let a waiting warp go on.
    pub progress: u64,
    pub counts: Counts,
    pub random: Random,
}

/// A few random numbers of a seed (xorshift).
#[derive(Clone, Copy)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

pub fn shuffle<T>(items: &mut [T], random: &mut Random) {
    for last in (1..items.len()).rev() {
        items.swap(last, random.below(last as u64 + 1) as usize);
    }
}

impl<'p> Surroundings<'p> {
    pub fn new(program: &'p Program, launch: &'p Launch, params: u64, globals: u64, global: Global) -> Self {
        Self {
            program,
            launch,
            params,
            globals,
            global,
            own: Resident::default(),
            others: Vec::new(),
            cluster_index: [0; 3],
            cluster_barrier: ClusterBarrier::default(),
            flights: Vec::new(),
            progress: 0,
            counts: Counts::default(),
            random: Random::new(1),
        }
    }

    /// Makes these those of another cluster, the one of that number.
    pub fn begin(&mut self, number: u64) {
        let size = self.launch.cluster;
        let clusters = self.clusters_in_grid();
        let [x, y, _] = clusters.map(u64::from);
        self.cluster_index = [number % x, number / x % y, number / (x * y)].map(|index| index as u32);
        let bytes = super::dynamic_offset(self.program) + self.launch.shared_bytes;
        self.others = (0..size.iter().product())
            .map(|rank| {
                let within = [rank % size[0], rank / size[0] % size[1], rank / (size[0] * size[1])];
                Resident {
                    rank,
                    index: std::array::from_fn(|axis| self.cluster_index[axis] * size[axis] + within[axis]),
                    shared: Shared::new(bytes as usize, self.launch.needs_written, self.threads()),
                    epoch: 1,
                    ..Resident::default()
                }
            })
            .collect();
        self.own = std::mem::take(&mut self.others[0]);
        self.cluster_barrier = ClusterBarrier::default();
        self.flights.clear();
        self.random = Random::new(self.launch.seed.wrapping_mul(1_000_003) + number + 1);
    }

    /// Makes a block the one whose warp runs.
    pub fn switch_to(&mut self, rank: u32) {
        let old = self.own.rank as usize;
        std::mem::swap(&mut self.own, &mut self.others[old]);
        std::mem::swap(&mut self.own, &mut self.others[rank as usize]);
    }

    pub fn clusters_in_grid(&self) -> [u32; 3] {
        std::array::from_fn(|axis| self.launch.grid[axis] / self.launch.cluster[axis])
    }

    pub fn threads(&self) -> usize {
        self.launch.block.iter().product::<u32>() as usize
    }

    pub fn access(&self, warp: usize, lane: usize, line: u32) -> Access {
        Access { warp: warp as u8, thread: (WARP * warp + lane) as u16, epoch: self.own.epoch, line }
    }

    pub fn copy_lands_at_once(&mut self) -> bool {
        if self.launch.order == Order::Random { self.random.below(2) == 0 } else { !self.launch.late_copies }
    }

    pub fn count(&mut self, space: Space, addresses: &[(usize, u64)], bytes: u64, written: bool) {
        match space {
            // Parameters are no device memory, however they are read.
            Space::Global | Space::Generic if addresses[0].1.wrapping_sub(self.params) < u64::from(self.program.params_bytes) => {}
            Space::Global | Space::Generic => {
                let (sectors, bytes) = (sectors(addresses, bytes), bytes * addresses.len() as u64);
                if written {
                    self.counts.sectors_written += sectors;
                    self.counts.bytes_written += bytes;
                } else {
                    self.counts.sectors_read += sectors;
                    self.counts.bytes_read += bytes;
                }
            }
            Space::Shared => {
                let mut words = [(0, 0); WARP];
                for (word, &(lane, address)) in words.iter_mut().zip(addresses) {
                    *word = (lane, (address & !SHARED_WINDOW) as u32);
                }
                self.counts.shared_access(&words[..addresses.len()], bytes as u32);
            }
            Space::Frame | Space::Cluster => {}
        }
    }

    pub fn count_copy(&mut self, read: &[(usize, u64)], bytes: u64) {
        self.counts.sectors_read += sectors(read, bytes);
        self.counts.bytes_read += bytes * read.len() as u64;
        self.counts.bytes_copied += bytes * read.len() as u64;
    }
}

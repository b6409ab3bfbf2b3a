//! Blocks of a cluster: whose shared memory an address means, their common barrier, registers that warps hand on.

use super::block::Wait;
use super::collective::named_lanes;
use super::data::addresses;
use super::memory::{ATOMIC, Access, Shared};
use super::surroundings::Surroundings;
use super::warp::{Trouble, Warp};
use super::wgmma::Group;
use crate::ptx::hopper::Hopper;
use crate::ptx::program::{Address, SHARED_WINDOW, WARP};
use crate::ptx::registers::{Mask, lanes_of};

/// Where an address of shared memory keeps the rank of its block, plus one; 0 stands for the block that uses it.
const RANK_SHIFT: u32 = 24;
/// Registers of a multiprocessor, and how many of a thread a warp may start with.
const REGISTERS: u32 = 65536;
const MOST_OF_A_THREAD: u32 = 255;

/// A block.
#[derive(Default)]
pub struct Resident {
    pub rank: u32,
    pub index: [u32; 3],
    pub shared: Shared,
    pub epoch: u32,
    /// Whether all of its warps have ended.
    pub ended: bool,
    /// Registers that `setmaxnreg.dec` has given back, minus those taken since.
    pub free_registers: u32,
    /// Products of its warpgroups.
    pub groups: Vec<Group>,
}

/// The barrier of all threads of a cluster.
#[derive(Default)]
pub struct ClusterBarrier {
    pub phase: u64,
    arrived: usize,
    ended: usize,
}

impl Surroundings<'_> {
    pub fn blocks_in_cluster(&self) -> u32 {
        self.launch.cluster.iter().product()
    }

    /// The rank that an address means, and the address there.
    pub fn resolve(&self, address: u64) -> Result<(u32, u64), String> {
        let address = address & !SHARED_WINDOW;
        let Some(rank) = ((address >> RANK_SHIFT) as u32).checked_sub(1) else { return Ok((self.own.rank, address)) };
        if rank >= self.blocks_in_cluster() {
            return Err(format!("{address:#x} is no address of a block of this cluster"));
        }
        if self.has_ended(rank) {
            return Err(format!("shared memory of the cluster's block {rank} is accessed, and that block has ended"));
        }
        Ok((rank, address & ((1 << RANK_SHIFT) - 1)))
    }

    pub fn has_ended(&self, rank: u32) -> bool {
        if rank == self.own.rank { self.own.ended } else { self.others[rank as usize].ended }
    }

    pub fn shared_of(&mut self, rank: u32) -> &mut Shared {
        if rank == self.own.rank { &mut self.own.shared } else { &mut self.others[rank as usize].shared }
    }

    /// Notes an access to shared memory of any block of the cluster. Its epochs are not those of this one: no races are found.
    pub fn remote(
        &mut self,
        (rank, address): (u32, u64),
        bytes: u64,
        access: Access,
        write: bool,
    ) -> Result<(&mut Shared, usize), String> {
        let access = if rank == self.own.rank { access } else { Access { warp: ATOMIC, thread: u16::MAX, epoch: 0, ..access } };
        let shared = self.shared_of(rank);
        let place = shared.touch(address, bytes, access, write)?;
        Ok((shared, place))
    }

    fn cluster_threads(&self) -> usize {
        self.threads() * self.blocks_in_cluster() as usize
    }

    fn settle_cluster_barrier(&mut self) {
        let barrier = &self.cluster_barrier;
        if barrier.arrived == 0 || barrier.arrived + barrier.ended < self.cluster_threads() {
            return;
        }
        self.cluster_barrier.arrived = 0;
        self.cluster_barrier.phase += 1;
        self.progress += 1;
        // A barrier of the whole block, too.
        self.own.epoch += 1;
        self.others.iter_mut().for_each(|block| block.epoch += 1);
    }

    /// Counts threads that have ended as arrived, at this phase and all that follow.
    pub fn leave_cluster_barrier(&mut self, threads: usize, arrived: bool) {
        self.cluster_barrier.ended += threads;
        if arrived {
            self.cluster_barrier.arrived -= threads;
        }
        self.settle_cluster_barrier();
    }
}

/// The first lane's address, resolved.
pub fn single(warp: &Warp<'_>, around: &Surroundings<'_>, address: &Address, lane: usize) -> Result<(u32, u64), Trouble> {
    let (found, _) = addresses(warp, address, 1 << lane);
    around.resolve(found[0].1).map_err(|words| Trouble { lane: Some(lane), words })
}

pub fn map_rank(warp: &mut Warp<'_>, around: &Surroundings<'_>, op: &Hopper, lanes: u32) -> Result<(), Trouble> {
    let &Hopper::MapRank { wide, d, a, rank } = op else { return Ok(()) };
    for lane in lanes_of(lanes) {
        let rank = warp.registers.words[rank as usize][lane];
        if rank >= around.blocks_in_cluster() {
            let words = format!("mapa names block {rank} of a cluster of {}", around.blocks_in_cluster());
            return Err(Trouble { lane: Some(lane), words });
        }
        let bits = (rank + 1) << RANK_SHIFT;
        if wide {
            let address = warp.registers.doubles[a as usize][lane] & !(0xff << RANK_SHIFT);
            warp.registers.doubles[d as usize][lane] = address | u64::from(bits);
        } else {
            let address = warp.registers.words[a as usize][lane] & ((1 << RANK_SHIFT) - 1);
            warp.registers.words[d as usize][lane] = address | bits;
        }
    }
    Ok(())
}

fn all_alive(warp: &Warp<'_>, lanes: u32, what: &str) -> Result<(), Trouble> {
    if lanes == warp.alive {
        return Ok(());
    }
    let lane = Some((warp.alive & !lanes).trailing_zeros() as usize);
    Err(Trouble { lane, words: format!("the warp diverged: {what} needs all lanes, and {lanes:#010x} are here") })
}

pub fn arrive(warp: &mut Warp<'_>, around: &mut Surroundings<'_>, lanes: u32) -> Result<(), Trouble> {
    all_alive(warp, lanes, "barrier.cluster.arrive")?;
    if warp.cluster_phase.is_some() {
        return Err("barrier.cluster.arrive again with no barrier.cluster.wait between".to_owned().into());
    }
    warp.cluster_phase = Some(around.cluster_barrier.phase);
    around.cluster_barrier.arrived += lanes.count_ones() as usize;
    around.progress += 1;
    around.settle_cluster_barrier();
    Ok(())
}

/// What the warp waits for, if it has to.
pub fn wait(warp: &mut Warp<'_>, around: &Surroundings<'_>, lanes: u32) -> Result<Option<Wait>, Trouble> {
    all_alive(warp, lanes, "barrier.cluster.wait")?;
    let Some(phase) = warp.cluster_phase else {
        return Err("barrier.cluster.wait without barrier.cluster.arrive before it".to_owned().into());
    };
    if phase == around.cluster_barrier.phase {
        return Ok(Some(Wait::Cluster));
    }
    warp.cluster_phase = None;
    Ok(None)
}

/// Registers that a thread starts with: as many as ptxas may use.
pub fn registers_at_start(around: &Surroundings<'_>) -> u32 {
    let program = around.program;
    let threads = (around.threads().next_multiple_of(WARP) as u32 * program.least_blocks).max(WARP as u32);
    let fair = REGISTERS / threads / 8 * 8;
    program.most_registers.map_or(fair, |most| most.next_multiple_of(8)).min(MOST_OF_A_THREAD.next_multiple_of(8))
}

/// What the warp waits for, if it has to.
pub fn set_registers(
    warp: &mut Warp<'_>,
    around: &mut Surroundings<'_>,
    count: u32,
    more: bool,
    lanes: u32,
) -> Result<Option<Wait>, Trouble> {
    all_alive(warp, lanes, "setmaxnreg")?;
    let held = warp.thread_registers;
    if more && count < held || !more && count > held {
        let what = if more { "inc" } else { "dec" };
        return Err(format!("setmaxnreg.{what} to {count} registers of a thread that has {held}").into());
    }
    let needed = WARP as u32 * (count.max(held) - count.min(held));
    if !more {
        around.own.free_registers += needed;
        around.progress += u64::from(needed > 0);
    } else if around.own.free_registers >= needed {
        around.own.free_registers -= needed;
    } else {
        return Ok(Some(Wait::Registers { needed, free: around.own.free_registers }));
    }
    warp.thread_registers = count;
    Ok(None)
}

pub fn elect(warp: &mut Warp<'_>, op: &Hopper, lanes: u32) -> Result<(), Trouble> {
    let &Hopper::Elect { d, leader, members } = op else { return Ok(()) };
    named_lanes(warp, members, lanes, "elect.sync")?;
    let first = lanes.trailing_zeros();
    let mask = Mask::new(lanes);
    mask.keep_words(&mut warp.registers.words[d as usize], &[first; WARP]);
    mask.keep_bits(&mut warp.registers.predicates[leader as usize], 1 << first);
    Ok(())
}

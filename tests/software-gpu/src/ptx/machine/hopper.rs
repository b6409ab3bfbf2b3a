//! Instructions of compute capability 9.0, and assertions.

use super::block::Wait;
use super::surroundings::Surroundings;
use super::warp::{Trouble, Warp};
use super::{cluster, matrix, mbarrier, tensor_copies, wgmma};
use crate::ptx::hopper::Hopper;
use crate::ptx::program::WARP;
use crate::ptx::registers::lanes_of;

impl<'p> Warp<'p> {
    /// What the warp waits for, if it has to.
    pub(super) fn hopper(
        &mut self,
        around: &mut Surroundings<'p>,
        op: &'p Hopper,
        lanes: u32,
        line: u32,
    ) -> Result<Option<Wait>, Trouble> {
        match op {
            Hopper::Init { barrier, count } => mbarrier::initialise(self, around, barrier, *count, lanes)?,
            Hopper::Invalidate { barrier } => mbarrier::invalidate(self, around, barrier, lanes)?,
            Hopper::Arrive(arrive) => mbarrier::arrive(self, around, arrive, lanes)?,
            Hopper::Wait { .. } => return mbarrier::wait(self, around, op, lanes),
            Hopper::MapRank { .. } => cluster::map_rank(self, around, op, lanes)?,
            Hopper::CopyTensor(copy) => tensor_copies::issue(self, around, copy, lanes, line)?,
            Hopper::PrefetchMap { map } => tensor_copies::prefetch(self, around, map, lanes)?,
            Hopper::Elect { .. } => cluster::elect(self, op, lanes)?,
            Hopper::ProxyFence => {
                lanes_of(lanes).for_each(|lane| around.own.shared.proxy_fence((WARP * self.number + lane) as u16))
            }
            Hopper::BarrierFence => {
                lanes_of(lanes).for_each(|lane| around.own.shared.show_barriers((WARP * self.number + lane) as u16));
            }
            Hopper::ClusterArrive => cluster::arrive(self, around, lanes)?,
            Hopper::ClusterWait => return cluster::wait(self, around, lanes),
            Hopper::SetRegisters { count, more } => return cluster::set_registers(self, around, *count, *more, lanes),
            Hopper::ProductFence | Hopper::ProductCommit | Hopper::ProductWait { .. } | Hopper::Product(_) => {
                matrix::whole_warp(lanes, "wgmma")?;
                match op {
                    Hopper::ProductFence => self.products.fence(),
                    Hopper::ProductCommit => self.products.commit(),
                    Hopper::ProductWait { left } => return wgmma::wait(self, around, *left),
                    Hopper::Product(product) => wgmma::issue(self, around, product, line)?,
                    _ => {}
                }
            }
        }
        Ok(None)
    }

    /// The words of an assertion that does not hold.
    pub(super) fn assertion(&self, around: &mut Surroundings<'_>, [condition, file, line]: [u32; 3], lanes: u32) -> Trouble {
        let lane = lanes.trailing_zeros() as usize;
        let start = lane * around.program.frame_bytes as usize;
        let word = |offset: u32| u64::from_le_bytes(std::array::from_fn(|at| self.frame[start + offset as usize + at]));
        let mut text = |address: u64| {
            let mut text = String::new();
            while around.global.check(address + text.len() as u64, 1, false).is_ok() {
                match around.global.read_checked(address + text.len() as u64, 1) as u8 {
                    0 => break,
                    letter if letter.is_ascii() => text.push(letter.into()),
                    _ => text.push('?'),
                }
            }
            text
        };
        let (condition, file) = (text(word(condition)), text(word(file)));
        let file = file.rsplit('/').next().unwrap_or_default();
        Trouble { lane: Some(lane), words: format!("the assertion `{condition}` of {file}:{} does not hold", word(line) as u32) }
    }
}

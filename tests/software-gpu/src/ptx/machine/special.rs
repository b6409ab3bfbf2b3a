//! What constants and special registers hold.

use super::surroundings::Surroundings;
use super::warp::Warp;
use crate::ptx::program::{Constant, File, SHARED_START, Value, WARP};

impl Warp<'_> {
    pub(super) fn set_constant(&mut self, constant: &Constant, surroundings: &Surroundings<'_>) {
        let launch = surroundings.launch;
        let [x, y, _] = launch.block;
        let dynamic = SHARED_START + super::dynamic_offset(surroundings.program);
        let of_lane = |lane: usize| -> u64 {
            let thread = (WARP * self.number + lane) as u32;
            u64::from(match constant.value {
                Value::Bits(bits) => return bits,
                Value::Truth(truth) => u32::from(truth),
                Value::ThreadIndex(axis) => [thread % x, thread / x % y, thread / (x * y)][usize::from(axis)],
                Value::BlockSize(axis) => launch.block[usize::from(axis)],
                Value::BlockIndex(axis) => surroundings.own.index[usize::from(axis)],
                Value::GridSize(axis) => launch.grid[usize::from(axis)],
                Value::Lane => lane as u32,
                Value::WarpIndex => self.number as u32,
                Value::LanesBelow(0) => (1 << lane) - 1,
                Value::LanesBelow(1) => (2_u64 << lane).wrapping_sub(1) as u32,
                Value::LanesBelow(2) => 1 << lane,
                Value::LanesBelow(3) => u32::MAX << lane,
                Value::LanesBelow(_) => (u64::from(u32::MAX) << (lane + 1)) as u32,
                Value::DynamicShared => dynamic,
                Value::DynamicSharedBytes => launch.shared_bytes,
                Value::ClusterIndex(axis) => surroundings.cluster_index[usize::from(axis)],
                Value::ClustersInGrid(axis) => surroundings.clusters_in_grid()[usize::from(axis)],
                Value::BlockInCluster(axis) => surroundings.own.index[usize::from(axis)] % launch.cluster[usize::from(axis)],
                Value::ClusterSize(axis) => launch.cluster[usize::from(axis)],
                Value::Rank => surroundings.own.rank,
                Value::BlocksInCluster => surroundings.blocks_in_cluster(),
                Value::Params(offset) => return surroundings.params + u64::from(offset),
                Value::Global(offset) => return surroundings.globals + u64::from(offset),
            })
        };
        let index = constant.index as usize;
        match constant.file {
            File::Predicate => self.registers.predicates[index] = if of_lane(0) == 0 { 0 } else { u32::MAX },
            File::Word => self.registers.words[index] = std::array::from_fn(|lane| of_lane(lane) as u32),
            File::Double => self.registers.doubles[index] = std::array::from_fn(of_lane),
        }
    }
}

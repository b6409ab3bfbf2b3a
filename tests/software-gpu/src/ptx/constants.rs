//! Registers that are set before a warp starts: constants and special registers.

use super::program::File;

/// What a register holds from the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    Bits(u64),
    /// Of a true or false predicate.
    Truth(bool),
    ThreadIndex(u8),
    BlockSize(u8),
    BlockIndex(u8),
    GridSize(u8),
    Lane,
    WarpIndex,
    /// Bits of lanes below, up to, above and from this one on.
    LanesBelow(i8),
    DynamicShared,
    DynamicSharedBytes,
    /// An address among the kernel's parameters.
    Params(u32),
    /// An address among the module's variables.
    Global(u32),
    ClusterIndex(u8),
    ClustersInGrid(u8),
    BlockInCluster(u8),
    ClusterSize(u8),
    Rank,
    BlocksInCluster,
}

/// A register and what it holds from the start.
#[derive(Clone, Copy, Debug)]
pub struct Constant {
    pub file: File,
    pub index: u32,
    pub value: Value,
}

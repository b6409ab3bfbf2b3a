//! Kinds of instructions.

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Integer,
    Float,
    Double,
    Convert,
    Move,
    Branch,
    LoadGlobal,
    StoreGlobal,
    LoadShared,
    StoreShared,
    Local,
    Param,
    Atomic,
    Warp,
    Barrier,
    CopyAsync,
    LoadMatrix,
    Product,
}

impl Class {
    pub const COUNT: usize = Class::Product as usize + 1;
    pub const NAMES: [&str; Self::COUNT] = [
        "integer",
        "float",
        "double",
        "convert",
        "move",
        "branch",
        "load global",
        "store global",
        "load shared",
        "store shared",
        "local",
        "param",
        "atomic",
        "warp",
        "barrier",
        "cp.async",
        "ldmatrix",
        "mma",
    ];
}

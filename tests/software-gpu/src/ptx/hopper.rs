//! What sm_90a adds: barriers in shared memory, clusters, copies of tensors, products of a warpgroup.

use super::program::{Address, File, Format};
use super::uses::address_register;

/// An instruction that only compute capability 9.0 has, or that only makes sense with one.
pub enum Hopper {
    /// `mbarrier.init`, with how many arrivals a phase waits for.
    Init {
        barrier: Address,
        count: u32,
    },
    Invalidate {
        barrier: Address,
    },
    /// `mbarrier.arrive`, or `mbarrier.expect_tx` where nobody arrives.
    Arrive(Arrive),
    /// `mbarrier.try_wait` and `test_wait`.
    Wait {
        barrier: Address,
        done: u32,
        phase: Phase,
    },
    /// The address of a variable in another block of the cluster.
    MapRank {
        wide: bool,
        d: u32,
        a: u32,
        rank: u32,
    },
    CopyTensor(Box<CopyTensor>),
    PrefetchMap {
        map: Address,
    },
    Elect {
        d: u32,
        leader: u32,
        members: u32,
    },
    /// Orders the thread's accesses to shared memory before asynchronous ones.
    ProxyFence,
    /// Shows initialised barriers to the other blocks of the cluster.
    BarrierFence,
    ClusterArrive,
    ClusterWait,
    /// `setmaxnreg`: registers of a thread.
    SetRegisters {
        count: u32,
        more: bool,
    },
    ProductFence,
    ProductCommit,
    ProductWait {
        left: u32,
    },
    Product(Box<GroupProduct>),
}

#[derive(Clone, Copy, Debug)]
pub struct Arrive {
    pub barrier: Address,
    /// Where the phase is written to.
    pub state: Option<u32>,
    /// A register with how many arrivals; one where it is missing.
    pub count: Option<u32>,
    /// A register with bytes to expect.
    pub expected: Option<u32>,
    pub arrives: bool,
}

/// Which phase is waited for.
#[derive(Clone, Copy, Debug)]
pub enum Phase {
    /// A register with its parity.
    Parity(u32),
    /// A register with what `mbarrier.arrive` gave.
    State(u32),
}

/// `cp.async.bulk.tensor` from global memory in tile mode.
pub struct CopyTensor {
    pub to: Address,
    pub map: Address,
    pub coordinates: Vec<u32>,
    pub barrier: Address,
    /// A register with the blocks of the cluster that receive it.
    pub blocks: Option<u32>,
}

/// `wgmma.mma_async` of 64 x N x 16.
pub struct GroupProduct {
    pub format: Format,
    pub d: Vec<u32>,
    pub a: OperandA,
    /// A register with the descriptor of B.
    pub b: u32,
    /// Whether what D holds is added, as a predicate that may be negated.
    pub adds: (u32, bool),
    pub negates: [bool; 2],
    /// Whether A and B lie with M or N rather than K contiguous.
    pub transposed: [bool; 2],
}

#[derive(Clone, Copy, Debug)]
pub enum OperandA {
    Registers([u32; 4]),
    Descriptor(u32),
}

impl Hopper {
    /// As `uses::registers`. Those of D count as read: they may be added to, and what they held before must not be forgotten.
    pub fn registers(&mut self, visit: &mut impl FnMut(File, &mut u32, bool)) {
        match self {
            Self::Init { barrier, count } => {
                address_register(barrier, visit);
                visit(File::Word, count, false);
            }
            Self::Invalidate { barrier } => address_register(barrier, visit),
            Self::Arrive(arrive) => {
                address_register(&mut arrive.barrier, visit);
                for source in [&mut arrive.count, &mut arrive.expected].into_iter().flatten() {
                    visit(File::Word, source, false);
                }
                if let Some(state) = &mut arrive.state {
                    visit(File::Double, state, true);
                }
            }
            Self::Wait { barrier, done, phase } => {
                address_register(barrier, visit);
                match phase {
                    Phase::Parity(parity) => visit(File::Word, parity, false),
                    Phase::State(state) => visit(File::Double, state, false),
                }
                visit(File::Predicate, done, true);
            }
            Self::MapRank { wide, d, a, rank } => {
                let file = if *wide { File::Double } else { File::Word };
                visit(file, a, false);
                visit(File::Word, rank, false);
                visit(file, d, true);
            }
            Self::CopyTensor(copy) => {
                for address in [&mut copy.to, &mut copy.map, &mut copy.barrier] {
                    address_register(address, visit);
                }
                for source in copy.coordinates.iter_mut().chain(&mut copy.blocks) {
                    visit(File::Word, source, false);
                }
            }
            Self::PrefetchMap { map } => address_register(map, visit),
            Self::Elect { d, leader, members } => {
                visit(File::Word, members, false);
                visit(File::Word, d, true);
                visit(File::Predicate, leader, true);
            }
            Self::Product(product) => {
                match &mut product.a {
                    OperandA::Registers(a) => a.iter_mut().for_each(|a| visit(File::Word, a, false)),
                    OperandA::Descriptor(a) => visit(File::Double, a, false),
                }
                visit(File::Double, &mut product.b, false);
                visit(File::Predicate, &mut product.adds.0, false);
                product.d.iter_mut().for_each(|d| visit(File::Word, d, false));
            }
            Self::ProxyFence
            | Self::BarrierFence
            | Self::ClusterArrive
            | Self::ClusterWait
            | Self::SetRegisters { .. }
            | Self::ProductFence
            | Self::ProductCommit
            | Self::ProductWait { .. } => {}
        }
    }
}

//! A kernel as the machine executes it: every register, label and constant resolved to a number.

pub use super::class::Class;
pub use super::constants::{Constant, Value};
use super::hopper::Hopper;
use super::module::Place;
use super::registers::{Mask, Registers};

/// Lanes of a warp.
pub const WARP: usize = 32;
/// Where shared memory begins in its own state space, so that 0 is never valid.
pub const SHARED_START: u32 = 1024;
/// Where the window of shared memory lies among generic addresses.
pub const SHARED_WINDOW: u64 = 1 << 56;
/// Where the window of a thread's local memory lies.
pub const LOCAL_WINDOW: u64 = 2 << 56;
/// No instruction: the end of a function as a place where lanes meet.
pub const NOWHERE: u32 = u32::MAX;

/// A kernel and the functions it calls.
pub struct Program {
    pub name: String,
    pub code: Vec<Instruction>,
    /// Constants and special registers that are set before a warp starts.
    pub constants: Vec<Constant>,
    pub registers: RegisterCounts,
    pub params_bytes: u32,
    /// Shared memory of variables with a length; the dynamic part begins behind it.
    pub static_shared: u32,
    /// Per-lane memory: call parameters and `.local` variables of every function.
    pub frame_bytes: u32,
    /// The module's variables in global memory, which nobody may write to.
    pub globals: Vec<u8>,
    /// Blocks of a cluster, where the kernel says so.
    pub cluster: Option<[u32; 3]>,
    /// Registers of a thread, where the kernel says so, and blocks that a multiprocessor must hold.
    pub most_registers: Option<u32>,
    pub least_blocks: u32,
    /// Registers of products that every instruction touches, and whether it writes them; empty where there are no products of a
    /// warpgroup.
    pub touched: Vec<Vec<(u32, bool)>>,
    /// Files that `place.file` names.
    pub files: std::collections::HashMap<u32, String>,
}

/// How many registers of 1, up to 32 and 64 bits a warp has.
#[derive(Clone, Copy, Debug, Default)]
pub struct RegisterCounts {
    pub predicates: u32,
    pub words: u32,
    pub doubles: u32,
}

/// Which registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum File {
    /// One bit.
    Predicate,
    /// Up to 32 bits; 16-bit ones hold zeros above.
    Word,
    /// 64 bits.
    Double,
}

/// `@%p` or `@!%p`.
#[derive(Clone, Copy, Debug)]
pub struct Guard {
    pub predicate: u32,
    pub negated: bool,
}

pub struct Instruction {
    pub op: Op,
    pub guard: Option<Guard>,
    pub class: Class,
    pub place: Place,
}

/// Register numbers of an instruction of one lane's registers; which file each is in is known to the function that runs it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Operands {
    pub d: u32,
    pub e: u32,
    pub a: u32,
    pub b: u32,
    pub c: u32,
}

/// Computes registers from registers, lane by lane.
pub type Run = fn(&mut Registers, &Operands, &Mask);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    Global,
    Shared,
    /// Of any block of the cluster.
    Cluster,
    /// Addresses within a lane's own memory, from 0 on.
    Frame,
    Generic,
}

/// Where an access goes: a register, or nothing, and bytes after it.
#[derive(Clone, Copy, Debug)]
pub struct Address {
    pub space: Space,
    /// A register of 32 or 64 bits.
    pub base: Option<(File, u32)>,
    pub offset: i64,
}

/// The registers that an access moves: `count` elements of `bytes` each.
#[derive(Clone, Copy, Debug)]
pub struct Moved {
    pub file: File,
    pub registers: [u32; 4],
    pub count: u8,
    pub bytes: u8,
    /// Sign-extended to a register of this many bytes, when loaded.
    pub extended: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Atomic {
    Add,
    AddFloat,
    Min { signed: bool },
    Max { signed: bool },
    And,
    Or,
    Xor,
    Exchange,
    CompareAndSwap,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shuffle {
    Up,
    Down,
    Butterfly,
    Index,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vote {
    Ballot,
    All,
    Any,
    Uniform,
}

/// What a barrier makes of the predicates of all threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    And,
    Or,
    Count,
}

/// Bytes that a call copies between the frames of caller and callee.
#[derive(Clone, Copy, Debug)]
pub struct Passed {
    pub from: u32,
    pub to: u32,
    pub bytes: u32,
}

pub struct Call {
    pub target: u32,
    pub params: Vec<Passed>,
    pub results: Vec<Passed>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Half,
    Bfloat,
}

/// `mma.sync.m16n8k16`, or `m16n8k8`: registers of the result, of A, of B and of what is added.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    pub format: Format,
    pub depth: u8,
    pub d: [u32; 4],
    pub a: [u32; 4],
    pub b: [u32; 2],
    pub c: [u32; 4],
}

pub enum Op {
    /// The shape says which of the operands are there, and in which file: see `uses.rs`.
    Lanes(Run, Operands, &'static str),
    Nothing,
    Branch {
        target: u32,
        join: u32,
    },
    Call(Box<Call>),
    /// The end of a function, and of a thread in a kernel.
    Return,
    Exit,
    /// And what it is called.
    Trap(&'static str),
    /// A kernel's parameters at a known offset: the same for all lanes.
    LoadParam {
        offset: u32,
        moved: Moved,
    },
    Load(Address, Moved),
    Store(Address, Moved),
    Atomic {
        what: Atomic,
        address: Address,
        file: File,
        bytes: u8,
        d: Option<u32>,
        a: u32,
        b: u32,
    },
    Shuffle {
        kind: Shuffle,
        d: u32,
        inside: Option<u32>,
        a: u32,
        b: u32,
        c: u32,
        members: u32,
    },
    Vote {
        kind: Vote,
        d: u32,
        predicate: u32,
        negated: bool,
        members: u32,
    },
    /// All threads, or as many as a register says.
    Barrier {
        id: u32,
        threads: Option<u32>,
        arrive: bool,
        reduction: Option<(Reduction, u32, u32, bool)>,
    },
    WarpBarrier {
        members: u32,
    },
    CopyAsync {
        to: Address,
        from: Address,
        bytes: u8,
        valid: Option<u32>,
    },
    CopyCommit,
    CopyWait {
        left: u32,
    },
    LoadMatrix {
        d: [u32; 4],
        count: u8,
        transposed: bool,
        address: Address,
    },
    Product(Box<Product>),
    /// An assertion that does not hold; where the frame keeps the words for it.
    Assert {
        condition: u32,
        file: u32,
        line: u32,
    },
    Hopper(Hopper),
}

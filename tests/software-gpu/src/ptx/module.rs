//! A module's functions, parameters, variables and statements.

use super::tokens::Token;
use std::collections::HashMap;

/// A parameter or a variable of a state space.
#[derive(Clone, Debug)]
pub struct Variable<'t> {
    pub name: &'t str,
    pub align: u32,
    pub bytes: u32,
}

/// Registers of one type: `count` numbered ones behind a prefix, or one of that name.
#[derive(Clone, Debug)]
pub struct RegisterList<'t> {
    pub name: &'t str,
    pub count: Option<u32>,
    pub kind: &'t str,
}

/// Where a statement stands: its line in the PTX, and the file and line of the source that `.loc` names (0 where none does).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub line: u32,
    pub file: u32,
    pub source_line: u32,
}

/// What stands in a body.
#[derive(Clone, Debug)]
pub enum Statement<'t> {
    Open,
    Close,
    Label(&'t str),
    Registers(RegisterList<'t>),
    Variable {
        space: &'t str,
        variable: Variable<'t>,
    },
    /// Opcode and operands, a guard before them.
    Instruction {
        tokens: Vec<Token<'t>>,
        place: Place,
    },
}

/// What a kernel says of its launches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    pub cluster: Option<[u32; 3]>,
    pub most_registers: Option<u32>,
    pub least_blocks: Option<u32>,
}

/// A kernel or a device function.
#[derive(Clone, Debug)]
pub struct Body<'t> {
    pub name: &'t str,
    pub is_kernel: bool,
    pub params: Vec<Variable<'t>>,
    pub results: Vec<Variable<'t>>,
    pub limits: Limits,
    pub statements: Vec<Statement<'t>>,
}

/// A file of PTX.
#[derive(Debug, Default)]
pub struct Module<'t> {
    pub bodies: Vec<Body<'t>>,
    /// Shared variables of the module; an array without a length is the dynamic shared memory.
    pub shared: Vec<Variable<'t>>,
    /// Variables in global memory, and the bytes they begin with.
    pub globals: Vec<(Variable<'t>, Vec<u8>)>,
    pub files: HashMap<u32, &'t str>,
}

//! From the tokens of a kernel and the functions it calls to a [`Program`].

mod control;
mod hopper;
mod memory;
mod names;
mod operands;
mod values;
mod warp;

use super::allocate;
use super::flow;
use super::module::{Body, Module, Place, Statement};
use super::ops;
use super::program::{Class, Constant, File, Guard, Instruction, Op, Operands, Program, RegisterCounts, Value};
use super::tokens::Token;
use super::uses::touched;
use operands::{Operand, parsed};
use std::collections::HashMap;

/// What a name stands for.
#[derive(Clone, Copy, Debug)]
enum Symbol {
    Register(File, u32),
    /// Numbered registers behind a prefix.
    Numbered {
        file: File,
        first: u32,
        count: u32,
    },
    /// A kernel's parameter.
    Param(u32),
    /// A call's parameter or result, in the lane's own memory.
    Passed {
        offset: u32,
        bytes: u32,
    },
    Local(u32),
    Shared(u32),
    DynamicShared,
    /// A variable of the module in global memory.
    Global(u32),
}

/// A function that has been called: where its parameters and results lie, and where its code begins.
struct Callee {
    body: usize,
    params: Vec<(u32, u32)>,
    results: Vec<(u32, u32)>,
    entry: u32,
}

struct Builder<'a, 't> {
    module: &'a Module<'t>,
    code: Vec<Instruction>,
    constants: HashMap<(File, Value), u32>,
    counts: RegisterCounts,
    frame_bytes: u32,
    shared_bytes: u32,
    callees: Vec<Callee>,
    in_kernel: bool,
    scopes: Vec<HashMap<&'t str, Symbol>>,
    /// Labels by the scope they stand in; the scopes that are open, by number, and how many there have been.
    labels: HashMap<(u32, &'t str), u32>,
    open_scopes: Vec<u32>,
    scopes_count: u32,
    branches: Vec<(usize, &'t str, Vec<u32>)>,
    globals: Vec<u8>,
}

/// Decodes a kernel and what it calls.
pub fn program(module: &Module<'_>, kernel: &str) -> Result<Program, String> {
    let body = module.bodies.iter().find(|body| body.is_kernel && body.name == kernel).ok_or("no such kernel")?;
    let mut builder = Builder {
        module,
        code: Vec::new(),
        constants: HashMap::new(),
        counts: RegisterCounts::default(),
        frame_bytes: 16,
        shared_bytes: 0,
        callees: Vec::new(),
        in_kernel: true,
        scopes: vec![HashMap::new()],
        labels: HashMap::new(),
        open_scopes: Vec::new(),
        scopes_count: 0,
        branches: Vec::new(),
        globals: Vec::new(),
    };
    for variable in &module.shared {
        builder.shared(variable);
    }
    for (variable, bytes) in &module.globals {
        builder.global(variable, bytes);
    }
    builder.scopes.push(HashMap::new());
    let mut params_bytes: u32 = 0;
    for param in &body.params {
        let offset = params_bytes.next_multiple_of(param.align);
        builder.declare(param.name, Symbol::Param(offset));
        params_bytes = offset + param.bytes;
    }
    builder.body(body)?;
    builder.in_kernel = false;
    let mut next = 0;
    while next < builder.callees.len() {
        builder.callee(next)?;
        next += 1;
    }
    let Builder { mut code, mut constants, counts, frame_bytes, shared_bytes, callees, globals, .. } = builder;
    for instruction in &mut code {
        if let Op::Call(call) = &mut instruction.op {
            call.target = callees[call.target as usize].entry;
        }
    }
    let graph = flow::find_joins(&mut code);
    let entries = callees.iter().map(|callee| callee.entry);
    let counts = allocate::compact(&mut code, &graph, entries, &mut constants, counts);
    let constants = constants.into_iter().map(|((file, value), index)| Constant { file, index, value }).collect();
    let files = module.files.iter().map(|(&index, &name)| (index, name.to_owned())).collect();
    let name = kernel.to_owned();
    let touched = touched(&mut code);
    Ok(Program {
        name,
        code,
        constants,
        registers: counts,
        params_bytes,
        static_shared: shared_bytes,
        frame_bytes,
        globals,
        cluster: body.limits.cluster,
        most_registers: body.limits.most_registers,
        least_blocks: body.limits.least_blocks.unwrap_or(1),
        touched,
        files,
    })
}

impl<'t> Builder<'_, 't> {
    /// The register that holds a value from the start.
    fn constant(&mut self, file: File, value: Value) -> u32 {
        if let Some(&register) = self.constants.get(&(file, value)) {
            return register;
        }
        let register = self.new_register(file);
        self.constants.insert((file, value), register);
        register
    }

    fn callee(&mut self, index: usize) -> Result<(), String> {
        let body = &self.module.bodies[self.callees[index].body];
        self.callees[index].entry = self.code.len() as u32;
        self.scopes.truncate(1);
        self.scopes.push(HashMap::new());
        let places = self.callees[index].results.iter().chain(&self.callees[index].params).copied().collect::<Vec<_>>();
        for (variable, (offset, bytes)) in body.results.iter().chain(&body.params).zip(places) {
            self.declare(variable.name, Symbol::Passed { offset, bytes });
        }
        self.body(body)
    }

    fn body(&mut self, body: &Body<'t>) -> Result<(), String> {
        self.labels.clear();
        self.open_scopes = vec![0];
        self.scopes_count = 1;
        let depth = self.scopes.len();
        for statement in &body.statements {
            match statement {
                Statement::Open => {
                    self.scopes.push(HashMap::new());
                    self.open_scopes.push(self.scopes_count);
                    self.scopes_count += 1;
                }
                Statement::Close => {
                    self.scopes.truncate((self.scopes.len() - 1).max(depth));
                    self.open_scopes.pop();
                }
                Statement::Label(name) => {
                    let scope = *self.open_scopes.last().expect("the body's scope");
                    self.labels.insert((scope, name), self.code.len() as u32);
                }
                Statement::Registers(list) => self.registers(list)?,
                Statement::Variable { space, variable } => match *space {
                    ".shared" => self.shared(variable),
                    ".local" => {
                        let offset = self.in_frame(variable);
                        self.declare(variable.name, Symbol::Local(offset));
                    }
                    _ => {
                        let (offset, bytes) = (self.in_frame(variable), variable.bytes);
                        self.declare(variable.name, Symbol::Passed { offset, bytes });
                    }
                },
                Statement::Instruction { tokens, place } => {
                    self.instruction(tokens, *place).map_err(|words| format!("line {}: {words}", place.line))?;
                }
            }
        }
        // A body may end without `ret`, and a label may stand behind the last instruction.
        self.push(Op::Return, None, Class::Branch, Place::default());
        for (at, label, scopes) in std::mem::take(&mut self.branches) {
            let target = *scopes
                .iter()
                .rev()
                .find_map(|&scope| self.labels.get(&(scope, label)))
                .ok_or_else(|| format!("{}: no label `{label}`", body.name))?;
            if let Op::Branch { target: to, .. } = &mut self.code[at].op {
                *to = target;
            }
        }
        Ok(())
    }

    fn push(&mut self, op: Op, guard: Option<Guard>, class: Class, place: Place) {
        self.code.push(Instruction { op, guard, class, place });
    }

    fn instruction(&mut self, tokens: &[Token<'t>], place: Place) -> Result<(), String> {
        let (guard, tokens) = self.guard(tokens)?;
        let opcode = tokens[0].text;
        let (op, class) = if opcode == "call" || opcode.starts_with("call.") {
            (self.call(&tokens[1..])?, Class::Branch)
        } else {
            let operands = parsed(&tokens[1..]).map_err(|words| format!("{}: {words}", unknown(tokens)))?;
            self.operation(opcode, &operands).map_err(|words| if words.is_empty() { unknown(tokens) } else { words })?
        };
        self.push(op, guard, class, place);
        Ok(())
    }

    fn guard<'o>(&mut self, tokens: &'o [Token<'t>]) -> Result<(Option<Guard>, &'o [Token<'t>]), String> {
        if !tokens[0].is(b'@') {
            return Ok((None, tokens));
        }
        let negated = tokens[1].is(b'!');
        let at = 1 + usize::from(negated);
        let predicate = self.source(&Operand::Name(tokens[at].text), File::Predicate)?;
        Ok((Some(Guard { predicate, negated }), &tokens[at + 1..]))
    }

    /// An empty error stands for an instruction that is not known.
    fn operation(&mut self, opcode: &'t str, operands: &[Operand<'t>]) -> Result<(Op, Class), String> {
        let parts: Vec<&str> = opcode.split('.').collect();
        match parts[0] {
            "ld" | "ldu" => self.load(&parts, operands),
            "st" => self.store(&parts, operands),
            "atom" | "red" => self.atomic(&parts, operands),
            "bra" | "ret" | "exit" | "trap" | "brkpt" | "bar" | "barrier" | "membar" | "fence" => {
                self.control(opcode, &parts, operands)
            }
            "shfl" | "vote" | "activemask" | "ldmatrix" | "mma" | "cp" => self.warp(opcode, &parts, operands),
            "mbarrier" | "wgmma" | "mapa" | "elect" | "setmaxnreg" | "prefetch" => self.hopper(opcode, &parts, operands),
            "mov" if operands.iter().any(|operand| matches!(operand, Operand::Vector(_))) => self.split_move(&parts, operands),
            _ => self.lanes(opcode, operands),
        }
    }

    fn lanes(&mut self, opcode: &str, operands: &[Operand<'t>]) -> Result<(Op, Class), String> {
        let entry = ops::find(opcode).ok_or("")?;
        let (result, sources) = entry.shape.split_once('_').expect("a shape has two parts");
        // A unary operation of predicates reads its operand twice.
        let sources = if sources == "pp" && operands.len() == 2 { "p" } else { sources };
        if operands.len() != 1 + sources.len() {
            return Err(format!("`{opcode}` takes {} operands, found {}", 1 + sources.len(), operands.len()));
        }
        let file = |shape: u8| match shape {
            b'p' => File::Predicate,
            b'w' => File::Word,
            _ => File::Double,
        };
        let d = self.destination(&operands[0], file(result.as_bytes()[0]))?;
        let mut found = [0; 4];
        for (place, shape) in sources.bytes().enumerate() {
            found[place] = self.source(&operands[1 + place], file(shape))?;
        }
        let [a, b, c, e] = found;
        let b = if sources == "p" { a } else { b };
        Ok((Op::Lanes(entry.run, Operands { d, e, a, b, c }, entry.shape), entry.class))
    }
}

fn unknown(tokens: &[Token<'_>]) -> String {
    let words: Vec<&str> = tokens.iter().map(|token| token.text).collect();
    format!("the instruction `{}` is not known", words.join(" "))
}

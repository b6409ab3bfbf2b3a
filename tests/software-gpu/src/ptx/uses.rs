//! Which registers an instruction reads and writes.

use super::hopper::{Hopper, OperandA};
use super::program::{Address, File, Instruction, Moved, Op};
use std::collections::HashSet;

/// Tells `visit` of every register of an instruction: its file, its number, which may be changed, and whether it is written.
pub fn registers(instruction: &mut Instruction, visit: &mut impl FnMut(File, &mut u32, bool)) {
    if let Some(guard) = &mut instruction.guard {
        visit(File::Predicate, &mut guard.predicate, false);
    }
    match &mut instruction.op {
        Op::Lanes(_, operands, shape) => {
            let (results, sources) = shape.split_once('_').expect("a shape has two parts");
            let from = [&mut operands.a, &mut operands.b, &mut operands.c];
            for (shape, register) in sources.bytes().zip(from) {
                visit(file(shape), register, false);
            }
            if sources.len() == 4 {
                visit(file(sources.as_bytes()[3]), &mut operands.e, false);
            }
            if results.len() == 2 {
                visit(file(results.as_bytes()[1]), &mut operands.e, true);
            }
            visit(file(results.as_bytes()[0]), &mut operands.d, true);
        }
        Op::LoadParam { moved, .. } => moved_registers(moved, true, visit),
        Op::Load(address, moved) => {
            address_register(address, visit);
            moved_registers(moved, true, visit);
        }
        Op::Store(address, moved) => {
            address_register(address, visit);
            moved_registers(moved, false, visit);
        }
        Op::Atomic { address, file, d, a, b, .. } => {
            address_register(address, visit);
            visit(*file, a, false);
            visit(*file, b, false);
            if let Some(d) = d {
                visit(*file, d, true);
            }
        }
        Op::CopyAsync { to, from, valid, .. } => {
            address_register(to, visit);
            address_register(from, visit);
            if let Some(valid) = valid {
                visit(File::Word, valid, false);
            }
        }
        other => together(other, visit),
    }
}

fn together(op: &mut Op, visit: &mut impl FnMut(File, &mut u32, bool)) {
    match op {
        Op::Shuffle { d, inside, a, b, c, members, .. } => {
            for source in [a, b, c, members] {
                visit(File::Word, source, false);
            }
            visit(File::Word, d, true);
            if let Some(inside) = inside {
                visit(File::Predicate, inside, true);
            }
        }
        Op::Vote { kind, d, predicate, members, .. } => {
            visit(File::Predicate, predicate, false);
            visit(File::Word, members, false);
            visit(if *kind == super::program::Vote::Ballot { File::Word } else { File::Predicate }, d, true);
        }
        Op::Barrier { id, threads, reduction, .. } => {
            visit(File::Word, id, false);
            if let Some(threads) = threads {
                visit(File::Word, threads, false);
            }
            if let Some((kind, d, predicate, _)) = reduction {
                visit(File::Predicate, predicate, false);
                visit(if *kind == super::program::Reduction::Count { File::Word } else { File::Predicate }, d, true);
            }
        }
        Op::WarpBarrier { members } => visit(File::Word, members, false),
        Op::LoadMatrix { d, count, address, .. } => {
            address_register(address, visit);
            for register in &mut d[..usize::from(*count)] {
                visit(File::Word, register, true);
            }
        }
        Op::Product(product) => {
            for source in product.a.iter_mut().chain(&mut product.b).chain(&mut product.c) {
                visit(File::Word, source, false);
            }
            for d in &mut product.d {
                visit(File::Word, d, true);
            }
        }
        Op::Hopper(op) => op.registers(visit),
        _ => {}
    }
}

fn file(shape: u8) -> File {
    match shape {
        b'p' => File::Predicate,
        b'w' => File::Word,
        _ => File::Double,
    }
}

pub fn address_register(address: &mut Address, visit: &mut impl FnMut(File, &mut u32, bool)) {
    if let Some((file, register)) = &mut address.base {
        visit(*file, register, false);
    }
}

fn moved_registers(moved: &mut Moved, written: bool, visit: &mut impl FnMut(File, &mut u32, bool)) {
    for register in &mut moved.registers[..usize::from(moved.count)] {
        visit(moved.file, register, written);
    }
}

/// The registers that hold operands and sums of a warpgroup's products, for every instruction but these products, whose sums others may
/// go on with.
pub fn touched(code: &mut [Instruction]) -> Vec<Vec<(u32, bool)>> {
    let mut operands = HashSet::new();
    for instruction in code.iter_mut() {
        if let Op::Hopper(product @ Hopper::Product(_)) = &mut instruction.op {
            product.registers(&mut |file, register, _| {
                if file == File::Word {
                    operands.insert(*register);
                }
            });
        }
    }
    if operands.is_empty() {
        return Vec::new();
    }
    let of = |instruction: &mut Instruction| {
        let mut found = Vec::new();
        if let Op::Hopper(Hopper::Product(product)) = &instruction.op {
            if let OperandA::Registers(a) = product.a {
                found.extend(a.map(|register| (register, false)));
            }
            return found;
        }
        registers(instruction, &mut |file, register, written| {
            if file == File::Word && operands.contains(register) {
                found.push((*register, written));
            }
        });
        found
    };
    code.iter_mut().map(of).collect()
}

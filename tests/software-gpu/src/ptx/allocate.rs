//! Fewer registers: those that are never alive at the same time share one, so that a warp's stay in the processor's caches.
//!
//! Lanes have registers of their own, so what is alive is decided for a thread, as if it ran alone.

use super::flow::Graph;
use super::hopper::Hopper;
use super::program::{File, Instruction, Op, RegisterCounts, Value};
use super::uses::registers;
use std::collections::{BTreeMap, HashMap};

const FILES: [File; 3] = [File::Predicate, File::Word, File::Double];

/// Renumbers the registers of a program. `entries` is where its functions begin, behind the kernel.
pub fn compact(
    code: &mut [Instruction],
    graph: &Graph,
    entries: impl Iterator<Item = u32>,
    constants: &mut HashMap<(File, Value), u32>,
    counts: RegisterCounts,
) -> RegisterCounts {
    let mut starts: Vec<u32> = [0].into_iter().chain(entries).collect();
    starts.push(code.len() as u32);
    let mut found = RegisterCounts::default();
    for file in FILES {
        let (before, after) = match file {
            File::Predicate => (counts.predicates, &mut found.predicates),
            File::Word => (counts.words, &mut found.words),
            File::Double => (counts.doubles, &mut found.doubles),
        };
        const NONE: u32 = u32::MAX;
        let mut renumbered = vec![NONE; before as usize];
        for ((_, _), register) in constants.iter().filter(|((of, _), _)| *of == file) {
            renumbered[*register as usize] = *after;
            *after += 1;
        }
        for function in starts.windows(2) {
            let lives = lives(code, graph, (function[0], function[1]), file, &renumbered, NONE);
            *after = share(&lives, *after, &mut renumbered);
        }
        for instruction in code.iter_mut() {
            registers(instruction, &mut |of, register, _| {
                if of == file {
                    *register = renumbered[*register as usize];
                }
            });
        }
        for ((of, _), register) in constants.iter_mut() {
            if *of == file {
                *register = renumbered[*register as usize];
            }
        }
    }
    found
}

/// From the first instruction at which a register may hold something that is read later, to the last.
type Lives = BTreeMap<u32, (u32, u32)>;

fn lives(code: &mut [Instruction], graph: &Graph, (from, to): (u32, u32), file: File, known: &[u32], none: u32) -> Lives {
    let first = graph.starts.partition_point(|&start| start < from);
    let last = graph.starts.partition_point(|&start| start < to);
    // Registers of this function, numbered densely.
    let mut dense: HashMap<u32, usize> = HashMap::new();
    let mut names = Vec::new();
    for instruction in &mut code[from as usize..to as usize] {
        registers(instruction, &mut |of, register, _| {
            if of == file && known[*register as usize] == none {
                dense.entry(*register).or_insert_with(|| {
                    names.push(*register);
                    names.len() - 1
                });
            }
        });
    }
    let words = names.len().div_ceil(64);
    let blocks = last - first;
    let (mut read, mut killed) = (vec![0_u64; words * blocks], vec![0_u64; words * blocks]);
    let mut spans = vec![(u32::MAX, 0); names.len()];
    // Products of warpgroups read their operands until they are waited for.
    let is_wait = |at: &u32| matches!(code[*at as usize].op, Op::Hopper(Hopper::ProductWait { .. }));
    let waited = (from..to).rev().find(is_wait).unwrap_or(from);
    let end_of = |block: usize| graph.starts.get(block + 1).copied().unwrap_or(code.len() as u32);
    let ends: Vec<u32> = (first..last).map(end_of).collect();
    for block in 0..blocks {
        let (read, killed) = (&mut read[words * block..][..words], &mut killed[words * block..][..words]);
        for at in graph.starts[first + block]..ends[block] {
            let instruction = &mut code[at as usize];
            let guarded = instruction.guard.is_some();
            let last = if matches!(instruction.op, Op::Hopper(Hopper::Product(_))) { at.max(waited) } else { at };
            registers(instruction, &mut |of, register, written| {
                let Some(&number) = dense.get(register).filter(|_| of == file) else { return };
                let (word, bit) = (number / 64, 1 << (number % 64));
                if !written && killed[word] & bit == 0 {
                    read[word] |= bit;
                } else if written && !guarded {
                    killed[word] |= bit;
                }
                let span: &mut (u32, u32) = &mut spans[number];
                *span = (span.0.min(at), span.1.max(last));
            });
        }
    }
    let mut alive = read.clone();
    let mut after = vec![0_u64; words * blocks];
    let mut changed = true;
    while changed {
        changed = false;
        for block in (0..blocks).rev() {
            for &successor in &graph.successors[first + block] {
                if !(first..last).contains(&successor) {
                    continue;
                }
                for word in 0..words {
                    after[words * block + word] |= alive[words * (successor - first) + word];
                }
            }
            for place in words * block..words * (block + 1) {
                let new = read[place] | after[place] & !killed[place];
                changed |= new != alive[place];
                alive[place] = new;
            }
        }
    }
    for block in 0..blocks {
        let (start, end) = (graph.starts[first + block], ends[block]);
        for (set, at) in [(&alive, start), (&after, end)] {
            for (number, span) in spans.iter_mut().enumerate() {
                if set[words * block + number / 64] >> (number % 64) & 1 == 1 {
                    *span = (span.0.min(at), span.1.max(at));
                }
            }
        }
    }
    names.into_iter().zip(spans).collect()
}

/// Hands out numbers from `next` on; returns the first that is left.
fn share(lives: &Lives, next: u32, renumbered: &mut [u32]) -> u32 {
    let mut order: Vec<(u32, u32, u32)> = lives.iter().map(|(&register, &(start, end))| (start, end, register)).collect();
    order.sort_unstable();
    let mut next = next;
    let mut free: Vec<u32> = Vec::new();
    let mut busy = std::collections::BinaryHeap::new();
    for (start, end, register) in order {
        while let Some(&std::cmp::Reverse((ended, number))) = busy.peek() {
            if ended >= start {
                break;
            }
            busy.pop();
            free.push(number);
        }
        let number = free.pop().unwrap_or_else(|| {
            next += 1;
            next - 1
        });
        renumbered[register as usize] = number;
        busy.push(std::cmp::Reverse((end, number)));
    }
    next
}

//! Where lanes that a branch has parted meet again: its nearest post-dominator.

use super::program::{Instruction, NOWHERE, Op};

/// Basic blocks: where each begins, and which follow. The number of blocks stands for the end of a function.
#[derive(Default)]
pub struct Graph {
    pub starts: Vec<u32>,
    pub successors: Vec<Vec<usize>>,
}

fn graph(code: &[Instruction]) -> Graph {
    let mut leads = vec![false; code.len() + 1];
    leads[0] = true;
    for (at, instruction) in code.iter().enumerate() {
        match instruction.op {
            Op::Branch { target, .. } => {
                leads[target as usize] = true;
                leads[at + 1] = true;
            }
            Op::Return | Op::Exit | Op::Trap(_) => leads[at + 1] = true,
            _ => {}
        }
    }
    let starts: Vec<u32> = (0..code.len()).filter(|&at| leads[at]).map(|at| at as u32).collect();
    let block_of = |at: u32| starts.partition_point(|&start| start <= at) - 1;
    let end = starts.len();
    let successors = (0..starts.len()).map(|block| {
        let last = starts.get(block + 1).map_or(code.len(), |&next| next as usize) - 1;
        let following = if last + 1 < code.len() { block + 1 } else { end };
        let instruction = &code[last];
        match (&instruction.op, instruction.guard) {
            (Op::Branch { target, .. }, None) => vec![block_of(*target)],
            (Op::Branch { target, .. }, Some(_)) => vec![block_of(*target), following],
            // Lanes that leave under a guard meet nobody again.
            (Op::Return | Op::Exit, None) => vec![end],
            (Op::Trap(_), None) => Vec::new(),
            _ => vec![following],
        }
    });
    let successors = successors.collect();
    Graph { starts, successors }
}

/// The nearest post-dominator of every block, by the way of Cooper, Harvey and Kennedy.
fn post_dominators(graph: &Graph) -> Vec<Option<usize>> {
    let end = graph.starts.len();
    let mut predecessors = vec![Vec::new(); end + 1];
    for (block, successors) in graph.successors.iter().enumerate() {
        for &successor in successors {
            predecessors[successor].push(block);
        }
    }
    // Postorder of the reversed graph.
    let mut number = vec![usize::MAX; end + 1];
    let mut order = Vec::with_capacity(end + 1);
    let mut seen = vec![false; end + 1];
    let mut stack = vec![(end, 0)];
    seen[end] = true;
    while let Some((block, next)) = stack.pop() {
        if let Some(&before) = predecessors[block].get(next) {
            stack.push((block, next + 1));
            if !std::mem::replace(&mut seen[before], true) {
                stack.push((before, 0));
            }
        } else {
            number[block] = order.len();
            order.push(block);
        }
    }
    let mut found = vec![None; end + 1];
    found[end] = Some(end);
    let mut changed = true;
    while changed {
        changed = false;
        for &block in order.iter().rev().skip(1) {
            let mut nearest: Option<usize> = None;
            for &successor in &graph.successors[block] {
                if found[successor].is_none() {
                    continue;
                }
                nearest = Some(nearest.map_or(successor, |other| common(&found, &number, other, successor)));
            }
            if nearest.is_some() && found[block] != nearest {
                found[block] = nearest;
                changed = true;
            }
        }
    }
    found
}

fn common(found: &[Option<usize>], number: &[usize], mut a: usize, mut b: usize) -> usize {
    while a != b {
        while number[a] < number[b] {
            a = found[a].expect("a block that has been visited");
        }
        while number[b] < number[a] {
            b = found[b].expect("a block that has been visited");
        }
    }
    a
}

/// Writes into every branch where its lanes meet again.
pub fn find_joins(code: &mut [Instruction]) -> Graph {
    if code.is_empty() {
        return Graph::default();
    }
    let graph = graph(code);
    let dominators = post_dominators(&graph);
    for (block, dominator) in dominators.iter().enumerate().take(graph.starts.len()) {
        let last = graph.starts.get(block + 1).map_or(code.len(), |&next| next as usize) - 1;
        if let Op::Branch { join, .. } = &mut code[last].op {
            *join = dominator.and_then(|meeting| graph.starts.get(meeting).copied()).unwrap_or(NOWHERE);
        }
    }
    graph
}

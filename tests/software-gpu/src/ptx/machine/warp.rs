//! A warp: its registers, and the loop that executes its instructions.

use super::block::Wait;
use super::copies::Copies;
use super::stack::Stack;
use super::surroundings::Surroundings;
use super::wgmma::Products;
use super::{collective, copies, data, matrix};
use crate::ptx::program::{Instruction, LOCAL_WINDOW, Op, Program, Reduction, WARP};
use crate::ptx::registers::{Mask, Registers};

/// Why a warp stopped.
pub enum Stop {
    Finished,
    /// It has run as long as it was told to.
    Pause,
    Barrier(Arrival),
    /// It has looked for something that has not happened.
    Poll(Wait),
}

/// A warp at a barrier.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    pub id: u32,
    /// How many threads the barrier waits for; all of the block where it does not say.
    pub threads: Option<u32>,
    pub waits: bool,
    pub lanes: u32,
    /// The kind, the destination and the predicates of the lanes.
    pub reduction: Option<(Reduction, u32, u32)>,
}

/// What went wrong, and in which lane.
pub struct Trouble {
    pub lane: Option<usize>,
    pub words: String,
}

impl From<String> for Trouble {
    fn from(words: String) -> Self {
        Self { lane: None, words }
    }
}

pub struct Warp<'p> {
    pub number: usize,
    /// Lanes whose threads have not ended.
    pub alive: u32,
    pub registers: Registers,
    pub stack: Stack<'p>,
    /// Every lane's own memory, one lane after another.
    pub frame: Vec<u8>,
    pub copies: Copies,
    pub products: Products<'p>,
    /// The phase of the cluster's barrier at which it has arrived and not yet waited.
    pub cluster_phase: Option<u64>,
    /// Registers that each of its threads has.
    pub thread_registers: u32,
    /// Since its last look at something that had not happened, if there has been no successful one.
    pub waits_for: Option<Wait>,
    /// The instruction that is executed.
    pub at: u32,
    mask: Mask,
}

impl<'p> Warp<'p> {
    pub fn new(program: &'p Program, surroundings: &Surroundings<'_>, number: usize) -> Self {
        let threads = surroundings.threads() - WARP * number;
        let alive = if threads < WARP { (1 << threads) - 1 } else { u32::MAX };
        let mut warp = Self {
            number,
            alive,
            registers: Registers::new(program.registers),
            stack: Stack::new(alive),
            frame: vec![0xff; WARP * program.frame_bytes as usize],
            copies: Copies::default(),
            products: Products::new(if program.touched.is_empty() { 0 } else { program.registers.words }),
            cluster_phase: None,
            thread_registers: 0,
            waits_for: None,
            at: 0,
            mask: Mask::new(alive),
        };
        for constant in &program.constants {
            warp.set_constant(constant, surroundings);
        }
        warp
    }

    /// Makes it the warp of that number of another block.
    pub fn restart(&mut self, program: &'p Program, surroundings: &Surroundings<'_>) {
        self.stack = Stack::new(self.alive_at_start(surroundings));
        self.alive = self.alive_at_start(surroundings);
        self.registers.predicates.fill(u32::MAX);
        self.registers.words.fill([u32::MAX; WARP]);
        self.registers.doubles.fill([u64::MAX; WARP]);
        self.frame.fill(0xff);
        self.copies = Copies::default();
        self.products = Products::new(if program.touched.is_empty() { 0 } else { program.registers.words });
        self.cluster_phase = None;
        self.waits_for = None;
        for constant in &program.constants {
            self.set_constant(constant, surroundings);
        }
    }

    fn alive_at_start(&self, surroundings: &Surroundings<'_>) -> u32 {
        let threads = surroundings.threads() - WARP * self.number;
        if threads < WARP { (1 << threads) - 1 } else { u32::MAX }
    }

    /// Runs at most so many instructions.
    pub fn run(&mut self, surroundings: &mut Surroundings<'p>, most: u64) -> Result<Stop, Trouble> {
        for _ in 0..most {
            let (frame, bytes) = (&mut self.frame, surroundings.program.frame_bytes as usize);
            let path = self.stack.settle(|ended| {
                for passed in &ended.call.results {
                    copies::pass(frame, bytes, passed, ended.mask);
                }
            });
            let Some(path) = path else {
                self.copies.must_be_waited_for()?;
                self.products.must_be_waited_for()?;
                return Ok(Stop::Finished);
            };
            self.at = path.at;
            if self.mask.bits != path.mask {
                self.mask = Mask::new(path.mask);
            }
            let instruction = &surroundings.program.code[path.at as usize];
            surroundings.counts.instructions[instruction.class as usize] += 1;
            let touched = surroundings.program.touched.get(path.at as usize).filter(|touched| !touched.is_empty());
            if let (Some(touched), None) = (touched, instruction.guard) {
                self.products.touch(touched)?;
            }
            if let (Op::Lanes(run, operands, _), None) = (&instruction.op, instruction.guard) {
                run(&mut self.registers, operands, &self.mask);
                self.stack.go_to(path.at + 1);
                continue;
            }
            if let Some(stop) = self.execute(surroundings, instruction, path.at)? {
                return Ok(stop);
            }
        }
        Ok(Stop::Pause)
    }

    fn execute(
        &mut self,
        surroundings: &mut Surroundings<'p>,
        instruction: &'p Instruction,
        at: u32,
    ) -> Result<Option<Stop>, Trouble> {
        let lanes = match instruction.guard {
            None => self.mask.bits,
            Some(guard) => {
                let predicate = self.registers.predicates[guard.predicate as usize];
                self.mask.bits & if guard.negated { !predicate } else { predicate }
            }
        };
        if let (Some(touched), Some(_)) = (surroundings.program.touched.get(at as usize), instruction.guard)
            && lanes != 0
        {
            self.products.touch(touched)?;
        }
        match &instruction.op {
            Op::Branch { target, .. } if lanes == self.mask.bits => {
                self.stack.go_to(*target);
                return Ok(None);
            }
            Op::Branch { target, join } if lanes != 0 => {
                self.stack.part(lanes, *target, *join);
                return Ok(None);
            }
            _ if lanes == 0 => {}
            Op::Call(call) => {
                let bytes = surroundings.program.frame_bytes as usize;
                for passed in &call.params {
                    copies::pass(&mut self.frame, bytes, passed, lanes);
                }
                self.stack.call(call, lanes);
                return Ok(None);
            }
            Op::Return => {
                if self.stack.leave(lanes) {
                    self.alive &= !lanes;
                }
                return Ok(None);
            }
            Op::Exit => {
                self.alive &= !lanes;
                self.stack.exit(lanes);
                return Ok(None);
            }
            Op::Trap(name) => return Err(Trouble { lane: Some(lanes.trailing_zeros() as usize), words: (*name).into() }),
            Op::Assert { condition, file, line } => return Err(self.assertion(surroundings, [*condition, *file, *line], lanes)),
            Op::Hopper(op) => {
                if let Some(wait) = self.hopper(surroundings, op, lanes, instruction.place.line)? {
                    // Whoever looks at an mbarrier is told, and looks again by itself.
                    let next = if matches!(wait, Wait::Barrier { .. }) { at + 1 } else { at };
                    self.stack.go_to(next);
                    return Ok(Some(Stop::Poll(wait)));
                }
                self.waits_for = None;
            }
            Op::Barrier { id, threads, arrive, reduction } => {
                self.stack.go_to(at + 1);
                return self.arrive(lanes, *id, *threads, !*arrive, *reduction).map(Some);
            }
            Op::Lanes(run, operands, _) if lanes == self.mask.bits => run(&mut self.registers, operands, &self.mask),
            Op::Lanes(run, operands, _) => run(&mut self.registers, operands, &Mask::new(lanes)),
            other => self.together(surroundings, other, instruction, lanes)?,
        }
        self.stack.go_to(at + 1);
        Ok(None)
    }

    fn together(
        &mut self,
        surroundings: &mut Surroundings<'p>,
        op: &Op,
        instruction: &Instruction,
        lanes: u32,
    ) -> Result<(), Trouble> {
        let line = instruction.place.line;
        match op {
            Op::LoadParam { offset, moved } => data::load_param(self, surroundings, *offset, moved, lanes),
            Op::Load(address, moved) => data::load(self, surroundings, address, moved, lanes, line),
            Op::Store(address, moved) => data::store(self, surroundings, address, moved, lanes, line),
            Op::Atomic { .. } => data::atomic(self, surroundings, op, lanes, line),
            Op::Shuffle { .. } => collective::shuffle(self, op, lanes),
            Op::Vote { .. } => collective::vote(self, op, lanes),
            Op::WarpBarrier { members } => collective::named_lanes(self, *members, lanes, "bar.warp.sync"),
            Op::CopyAsync { .. } => copies::issue(self, surroundings, op, lanes, line),
            Op::CopyCommit => copies::commit(self, lanes),
            Op::CopyWait { left } => copies::wait(self, surroundings, *left, lanes),
            Op::LoadMatrix { .. } => matrix::load(self, surroundings, op, lanes, line),
            Op::Product(product) => matrix::multiply(self, product, lanes),
            _ => Ok(()),
        }
    }

    pub fn threads(&self, surroundings: &Surroundings<'_>) -> usize {
        self.alive_at_start(surroundings).count_ones() as usize
    }

    /// Whether it has arrived at the running phase of the cluster's barrier.
    pub fn arrived_at_cluster_barrier(&self, surroundings: &Surroundings<'_>) -> bool {
        self.cluster_phase == Some(surroundings.cluster_barrier.phase)
    }

    fn arrive(
        &mut self,
        lanes: u32,
        id: u32,
        threads: Option<u32>,
        waits: bool,
        reduction: Option<(Reduction, u32, u32, bool)>,
    ) -> Result<Stop, Trouble> {
        if lanes != self.alive {
            let lane = Some((self.alive & !lanes).trailing_zeros() as usize);
            return Err(Trouble {
                lane,
                words: format!("a barrier without all lanes: {lanes:#010x} are here of {:#010x}", self.alive),
            });
        }
        let first = |register: u32| self.registers.words[register as usize][lanes.trailing_zeros() as usize];
        let reduction = reduction.map(|(kind, d, predicate, negated)| {
            let predicate = self.registers.predicates[predicate as usize];
            (kind, d, lanes & if negated { !predicate } else { predicate })
        });
        Ok(Stop::Barrier(Arrival { id: first(id), threads: threads.map(first), waits, lanes, reduction }))
    }

    /// Gives the lanes what a barrier's reduction has found.
    pub fn finish_barrier(&mut self, arrival: &Arrival, count: u32, threads: u32) {
        let Some((kind, d, _)) = arrival.reduction else { return };
        let mask = Mask::new(arrival.lanes);
        let all = |truth: bool| if truth { u32::MAX } else { 0 };
        match kind {
            Reduction::And => mask.keep_bits(&mut self.registers.predicates[d as usize], all(count == threads)),
            Reduction::Or => mask.keep_bits(&mut self.registers.predicates[d as usize], all(count > 0)),
            Reduction::Count => mask.keep_words(&mut self.registers.words[d as usize], &[count; WARP]),
        }
    }

    /// The generic address of a lane's own memory, as a place in `frame`.
    pub fn frame_place(&self, surroundings: &Surroundings<'_>, lane: usize, address: u64, bytes: u64) -> Result<usize, Trouble> {
        let offset = address & !LOCAL_WINDOW;
        let length = u64::from(surroundings.program.frame_bytes);
        if offset + bytes > length || !offset.is_multiple_of(bytes) {
            return Err(Trouble { lane: Some(lane), words: format!("{bytes} bytes at local offset {offset} of {length}") });
        }
        Ok(lane * length as usize + offset as usize)
    }
}

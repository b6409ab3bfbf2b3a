//! Products of a warpgroup: each of its four warps multiplies sixteen rows, as late as `wgmma.wait_group` allows or at once.

use super::block::Wait;
use super::descriptor::Descriptor;
use super::matrix::{Tiles, accumulate, numbers};
use super::memory::Shared;
use super::surroundings::Surroundings;
use super::warp::{Trouble, Warp};
use crate::ptx::hopper::{GroupProduct, OperandA};
use crate::ptx::program::{Format, WARP};
use crate::ptx::registers::Registers;
use std::collections::VecDeque;
use std::rc::Rc;

const WARPS: usize = 4;

/// A product that a warp has issued.
struct Issued<'p> {
    product: &'p GroupProduct,
    /// Which one of the warpgroup it is.
    number: usize,
    /// What the registers of A held.
    a: [[u32; WARP]; 4],
}

/// What the four warps must agree about.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Call {
    line: u32,
    /// 0 where A lies in registers.
    a: u64,
    b: u64,
    adds: bool,
}

/// The numbers of A and of B by row of A and column of B, eight of these together.
struct Operands {
    a: Vec<[[f32; 16]; 8]>,
    b: Vec<[[f32; 16]; 8]>,
}

/// One operation of four warps: it reads shared memory once for all of them, after the last of them has issued it and before the first
/// of them has waited for it.
struct Operation {
    call: Call,
    operands: Option<Rc<Operands>>,
}

/// The operations of a warpgroup that not all of its warps have waited for.
#[derive(Default)]
pub struct Group {
    operations: VecDeque<Operation>,
    /// How many there were before these.
    before: usize,
    issued: [usize; WARPS],
    ended: [usize; WARPS],
}

impl Group {
    fn issue(&mut self, warp: usize, call: Call) -> Result<usize, String> {
        let number = self.issued[warp];
        match self.operations.get(number - self.before) {
            None => self.operations.push_back(Operation { call, operands: None }),
            Some(other) if other.call == call => {}
            Some(other) => {
                return Err(format!(
                    "the warps of a warpgroup disagree about their product {number}: another issued that of PTX line {}, or other \
                     descriptors or predicates",
                    other.call.line
                ));
            }
        }
        self.issued[warp] += 1;
        Ok(number)
    }

    fn is_issued_by_all(&self, number: usize) -> bool {
        self.issued.iter().all(|&issued| issued > number)
    }

    /// Reads the operands, unless that is done.
    fn read(&mut self, shared: &Shared, number: usize, product: &GroupProduct) -> Result<(Rc<Operands>, bool), String> {
        let Operation { call, operands } = &mut self.operations[number - self.before];
        if let Some(operands) = operands {
            return Ok((operands.clone(), call.adds));
        }
        let matrix = |bits, transposed, blocks: usize| {
            let descriptor = Descriptor::new(bits, transposed)?;
            (0..blocks).map(|block| descriptor.eight_rows(shared, 8 * block, product.format)).collect::<Result<Vec<_>, String>>()
        };
        let a = match product.a {
            OperandA::Registers(_) => Vec::new(),
            OperandA::Descriptor(_) => matrix(call.a, product.transposed[0], 8)?,
        };
        let read = Rc::new(Operands { a, b: matrix(call.b, product.transposed[1], product.d.len() / 4)? });
        *operands = Some(read.clone());
        Ok((read, call.adds))
    }

    fn end(&mut self, warp: usize) {
        self.ended[warp] += 1;
        while self.ended.iter().all(|&ended| ended > self.before) {
            self.operations.pop_front();
            self.before += 1;
        }
    }
}

/// A warp's products that nobody has waited for, and its registers that they use.
#[derive(Default)]
pub struct Products<'p> {
    open: Vec<Issued<'p>>,
    groups: VecDeque<Vec<Issued<'p>>>,
    /// By register: products under way that add to it, and those that read it.
    sums: Vec<u16>,
    operands: Vec<u16>,
    /// Written since the last `wgmma.fence`.
    written: Vec<bool>,
}

impl<'p> Products<'p> {
    pub fn new(words: u32) -> Self {
        let count = words as usize;
        Self { sums: vec![0; count], operands: vec![0; count], written: vec![true; count], ..Self::default() }
    }

    /// Notes that an instruction touches registers, each of them written or read.
    pub fn touch(&mut self, registers: &[(u32, bool)]) -> Result<(), String> {
        for &(register, written) in registers {
            let register = register as usize;
            if self.sums[register] > 0 {
                return Err("the sums of a product of a warpgroup are touched before wgmma.wait_group has waited for it".into());
            }
            if written && self.operands[register] > 0 {
                return Err("the operand of a product of a warpgroup is written before wgmma.wait_group has waited for it".into());
            }
            self.written[register] |= written;
        }
        Ok(())
    }

    pub fn fence(&mut self) {
        self.written.fill(false);
    }

    pub fn must_be_waited_for(&self) -> Result<(), Trouble> {
        if self.open.is_empty() && self.groups.is_empty() {
            return Ok(());
        }
        Err("a warp ended before its products were waited for".to_owned().into())
    }

    fn use_registers(&mut self, product: &GroupProduct, begins: bool) {
        let change = |count: &mut u16| *count = if begins { *count + 1 } else { *count - 1 };
        product.d.iter().for_each(|&register| change(&mut self.sums[register as usize]));
        if let OperandA::Registers(a) = product.a {
            a.iter().for_each(|&register| change(&mut self.operands[register as usize]));
        }
    }

    fn must_be_fenced(&self, product: &GroupProduct) -> Result<(), String> {
        let a = if let OperandA::Registers(a) = &product.a { &a[..] } else { &[] };
        if product.d.iter().chain(a).any(|&register| self.written[register as usize]) {
            return Err(
                "wgmma.fence is missing: registers of the product were written since the last one, or there was none".into()
            );
        }
        Ok(())
    }

    pub fn commit(&mut self) {
        self.groups.push_back(std::mem::take(&mut self.open));
    }
}

fn same_in_all_lanes(warp: &Warp<'_>, register: u32) -> Result<u64, Trouble> {
    let values = &warp.registers.doubles[register as usize];
    match values.iter().position(|value| *value != values[0]) {
        None => Ok(values[0]),
        Some(lane) => Err(Trouble { lane: Some(lane), words: "the descriptor of a matrix differs between lanes".into() }),
    }
}

pub fn issue<'p>(warp: &mut Warp<'p>, around: &mut Surroundings<'p>, product: &'p GroupProduct, line: u32) -> Result<(), Trouble> {
    let group = warp.number / WARPS;
    if around.threads() < WARP * WARPS * (group + 1) {
        return Err("wgmma.mma_async outside a warpgroup of 128 threads".to_owned().into());
    }
    warp.products.must_be_fenced(product)?;
    let (predicate, negated) = product.adds;
    let adds = warp.registers.predicates[predicate as usize] ^ if negated { u32::MAX } else { 0 };
    if adds != 0 && adds != u32::MAX {
        return Err("the predicate of a product of a warpgroup differs between lanes".to_owned().into());
    }
    let mut held = [[0; WARP]; 4];
    let a = match product.a {
        OperandA::Registers(a) => {
            held = a.map(|register| warp.registers.words[register as usize]);
            0
        }
        OperandA::Descriptor(a) => same_in_all_lanes(warp, a)?,
    };
    let call = Call { line, a, b: same_in_all_lanes(warp, product.b)?, adds: adds != 0 };
    if around.own.groups.len() <= group {
        around.own.groups.resize_with(group + 1, Group::default);
    }
    let number = around.own.groups[group].issue(warp.number % WARPS, call)?;
    if around.own.groups[group].is_issued_by_all(number) && around.copy_lands_at_once() {
        around.own.groups[group].read(&around.own.shared, number, product)?;
    }
    around.progress += 1;
    warp.products.use_registers(product, true);
    warp.products.open.push(Issued { product, number, a: held });
    Ok(())
}

/// What the warp waits for, if it has to: for all warps to issue what it has.
pub fn wait(warp: &mut Warp<'_>, around: &mut Surroundings<'_>, left: u32) -> Result<Option<Wait>, Trouble> {
    let (number, part) = (warp.number / WARPS, warp.number % WARPS);
    while warp.products.groups.len() > left as usize {
        let last = warp.products.groups[0].last().map(|issued| issued.number);
        if last.is_some_and(|last| !around.own.groups[number].is_issued_by_all(last)) {
            return Ok(Some(Wait::Warpgroup));
        }
        for issued in warp.products.groups.pop_front().expect("a group") {
            let group = &mut around.own.groups[number];
            let line = group.operations[issued.number - group.before].call.line;
            let read = group.read(&around.own.shared, issued.number, issued.product);
            let (operands, adds) = read.map_err(|words| format!("{words} (a product of PTX line {line})"))?;
            multiply(&mut warp.registers, &operands, &issued, adds, part);
            around.own.groups[number].end(part);
            warp.products.use_registers(issued.product, false);
        }
        around.progress += 1;
    }
    Ok(None)
}

/// The sixteen rows of one warp.
fn multiply(registers: &mut Registers, operands: &Operands, issued: &Issued<'_>, adds: bool, warp: usize) {
    let product = issued.product;
    let mut tiles = Tiles { a: [[0.0; 16]; 16], b: [[0.0; 8]; 16] };
    match product.a {
        OperandA::Registers(_) => {
            for (part, register) in issued.a.iter().enumerate() {
                let [low, high] = numbers(register, product.format);
                for lane in 0..WARP {
                    let (row, k) = (lane / 4 + part % 2 * 8, lane % 4 * 2 + part / 2 * 8);
                    (tiles.a[row][k], tiles.a[row][k + 1]) = (low[lane], high[lane]);
                }
            }
        }
        OperandA::Descriptor(_) => {
            tiles.a[..8].copy_from_slice(&operands.a[2 * warp]);
            tiles.a[8..].copy_from_slice(&operands.a[2 * warp + 1]);
        }
    }
    if product.negates[0] != product.negates[1] {
        tiles.a.iter_mut().flatten().for_each(|number| *number = -*number);
    }
    for (columns, d) in operands.b.iter().zip(product.d.chunks_exact(4)) {
        for (column, numbers) in columns.iter().enumerate() {
            for (k, number) in numbers.iter().enumerate() {
                tiles.b[k][column] = *number;
            }
        }
        add(registers, &tiles, d, adds);
    }
}

fn add(registers: &mut Registers, tiles: &Tiles, d: &[u32], adds: bool) {
    let place = |lane: usize, index: usize| (lane / 4 + index / 2 * 8, lane % 4 * 2 + index % 2);
    let mut sums = [[0.0_f64; 8]; 16];
    if adds {
        for (index, &register) in d.iter().enumerate() {
            for lane in 0..WARP {
                let (row, column) = place(lane, index);
                sums[row][column] = f64::from(f32::from_bits(registers.words[register as usize][lane]));
            }
        }
    }
    accumulate(tiles, 16, &mut sums);
    for (index, &register) in d.iter().enumerate() {
        registers.words[register as usize] = std::array::from_fn(|lane| {
            let (row, column) = place(lane, index);
            (sums[row][column] as f32).to_bits()
        });
    }
}

/// Sixteen bytes as eight numbers.
pub fn eight(row: [u8; 16], format: Format) -> [f32; 8] {
    let mut pairs = [0; WARP];
    for (pair, bytes) in pairs.iter_mut().zip(row.chunks_exact(4)) {
        *pair = u32::from_le_bytes(bytes.try_into().expect("four bytes"));
    }
    let [low, high] = numbers(&pairs, format);
    std::array::from_fn(|at| if at % 2 == 0 { low[at / 2] } else { high[at / 2] })
}

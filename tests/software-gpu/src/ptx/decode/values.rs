//! Registers of operands: names, constants, special registers, addresses of variables.

use super::operands::Operand;
use super::{Builder, Symbol};
use crate::ptx::program::{Class, File, LOCAL_WINDOW, Op, Operands, Run, Value, WARP};
use crate::ptx::registers::{Mask, Registers, w_ww, x_ww};
use crate::ptx::tokens::number;

impl<'t> Builder<'_, 't> {
    /// The register that an operand is read from.
    pub fn source(&mut self, operand: &Operand<'t>, file: File) -> Result<u32, String> {
        match operand {
            Operand::Name(name) => self.named(name, file),
            Operand::Number { text, negative } => {
                let value = number(text).ok_or_else(|| format!("`{text}` is not a number"))?;
                let value = if *negative { value.wrapping_neg() } else { value };
                Ok(match file {
                    File::Word => self.constant(file, Value::Bits(value & 0xffff_ffff)),
                    File::Double => self.constant(file, Value::Bits(value)),
                    File::Predicate => self.constant(file, Value::Truth(value != 0)),
                })
            }
            other => Err(format!("a register or a constant was expected, found {other:?}")),
        }
    }

    fn named(&mut self, name: &str, file: File) -> Result<u32, String> {
        let value = match self.look_up(name) {
            Some(Symbol::Register(found, register)) if found == file => return Ok(register),
            Some(Symbol::Register(..)) => return Err(format!("`{name}` has another width than the instruction")),
            Some(Symbol::Param(offset)) => Value::Params(offset),
            Some(Symbol::Passed { offset, .. }) => Value::Bits(LOCAL_WINDOW | u64::from(offset)),
            Some(Symbol::Local(offset)) => Value::Bits(u64::from(offset)),
            Some(Symbol::Shared(address)) => Value::Bits(u64::from(address)),
            Some(Symbol::DynamicShared) => Value::DynamicShared,
            Some(Symbol::Global(offset)) => Value::Global(offset),
            Some(Symbol::Numbered { .. }) | None => special(name).ok_or_else(|| format!("`{name}` is not known"))?,
        };
        Ok(self.constant(file, value))
    }

    /// The register that an operand is written to; `_` is one nobody reads.
    pub fn destination(&mut self, operand: &Operand<'t>, file: File) -> Result<u32, String> {
        match operand {
            Operand::Name("_") => Ok(self.new_register(file)),
            Operand::Name(name) => match self.look_up(name) {
                Some(Symbol::Register(found, register)) if found == file => Ok(register),
                Some(Symbol::Register(..)) => Err(format!("`{name}` has another width than the instruction")),
                _ => Err(format!("`{name}` is not a register")),
            },
            other => Err(format!("a register was expected, found {other:?}")),
        }
    }

    /// A predicate that may be negated.
    pub fn truth(&mut self, operand: &Operand<'t>) -> Result<(u32, bool), String> {
        match operand {
            Operand::Not(name) => Ok((self.named(name, File::Predicate)?, true)),
            other => Ok((self.source(other, File::Predicate)?, false)),
        }
    }

    /// Exactly `N` registers of a vector.
    pub fn vector<const N: usize>(&mut self, operand: &Operand<'t>, written: bool) -> Result<[u32; N], String> {
        let single = [operand.clone()];
        let elements = if let Operand::Vector(elements) = operand { elements.as_slice() } else { &single };
        if elements.len() != N {
            return Err(format!("expected {N} registers, found {}", elements.len()));
        }
        let mut found = [0; N];
        for (register, element) in found.iter_mut().zip(elements) {
            *register = if written { self.destination(element, File::Word)? } else { self.source(element, File::Word)? };
        }
        Ok(found)
    }

    /// `mov` that packs or unpacks.
    pub fn split_move(&mut self, parts: &[&str], operands: &[Operand<'t>]) -> Result<(Op, Class), String> {
        let wide = match parts[1..] {
            ["b32"] => false,
            ["b64"] => true,
            _ => return Err(String::new()),
        };
        let file = if wide { File::Double } else { File::Word };
        let (run, operands, shape): (Run, Operands, &str) = match operands {
            [whole, Operand::Vector(pair)] if pair.len() == 2 => {
                let (a, b) = (self.source(&pair[0], File::Word)?, self.source(&pair[1], File::Word)?);
                let d = self.destination(whole, file)?;
                let run: Run = if wide {
                    |registers, operands, mask| x_ww(registers, operands, mask, |low, high| u64::from(high) << 32 | u64::from(low))
                } else {
                    |registers, operands, mask| w_ww(registers, operands, mask, |low, high| high << 16 | low & 0xffff)
                };
                (run, Operands { d, a, b, ..Operands::default() }, if wide { "x_ww" } else { "w_ww" })
            }
            [Operand::Vector(pair), whole] if pair.len() == 2 => {
                let (d, e) = (self.destination(&pair[0], File::Word)?, self.destination(&pair[1], File::Word)?);
                let a = self.source(whole, file)?;
                let (run, shape): (Run, &str) = if wide { (unpack_wide, "ww_x") } else { (unpack, "ww_w") };
                (run, Operands { d, e, a, ..Operands::default() }, shape)
            }
            _ => return Err(String::new()),
        };
        Ok((Op::Lanes(run, operands, shape), Class::Move))
    }
}

fn unpack(registers: &mut Registers, operands: &Operands, mask: &Mask) {
    let whole = registers.words[operands.a as usize];
    mask.keep_words(&mut registers.words[operands.d as usize], &whole.map(|value| value & 0xffff));
    mask.keep_words(&mut registers.words[operands.e as usize], &whole.map(|value| value >> 16));
}

fn unpack_wide(registers: &mut Registers, operands: &Operands, mask: &Mask) {
    let whole = registers.doubles[operands.a as usize];
    let (low, high): ([u32; WARP], [u32; WARP]) = (whole.map(|value| value as u32), whole.map(|value| (value >> 32) as u32));
    mask.keep_words(&mut registers.words[operands.d as usize], &low);
    mask.keep_words(&mut registers.words[operands.e as usize], &high);
}

fn special(name: &str) -> Option<Value> {
    let (register, axis) = name.split_once('.').unwrap_or((name, ""));
    let axis = match axis {
        "x" => Some(0),
        "y" => Some(1),
        "z" => Some(2),
        _ => None,
    };
    Some(match register {
        "%tid" => Value::ThreadIndex(axis?),
        "%ntid" => Value::BlockSize(axis?),
        "%ctaid" => Value::BlockIndex(axis?),
        "%nctaid" => Value::GridSize(axis?),
        "%clusterid" => Value::ClusterIndex(axis?),
        "%nclusterid" => Value::ClustersInGrid(axis?),
        "%cluster_ctaid" => Value::BlockInCluster(axis?),
        "%cluster_nctaid" => Value::ClusterSize(axis?),
        "%cluster_ctarank" => Value::Rank,
        "%cluster_nctarank" => Value::BlocksInCluster,
        "%laneid" => Value::Lane,
        "%warpid" => Value::WarpIndex,
        "%lanemask_lt" => Value::LanesBelow(0),
        "%lanemask_le" => Value::LanesBelow(1),
        "%lanemask_eq" => Value::LanesBelow(2),
        "%lanemask_ge" => Value::LanesBelow(3),
        "%lanemask_gt" => Value::LanesBelow(4),
        "%dynamic_smem_size" => Value::DynamicSharedBytes,
        "WARP_SZ" => Value::Bits(WARP as u64),
        _ => return None,
    })
}

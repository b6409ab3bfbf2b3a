//! Loads, stores and atomic operations.

use super::operands::Operand;
use super::{Builder, Symbol};
use crate::ptx::declarations::width_of;
use crate::ptx::program::{Address, Atomic, Class, File, Moved, Op, Space, Value};

impl<'t> Builder<'_, 't> {
    pub fn load(&mut self, parts: &[&str], operands: &[Operand<'t>]) -> Result<(Op, Class), String> {
        let [to, from] = operands else { return Err("a load takes a register and an address".into()) };
        let (space, vector, ty) = moved_parts(parts)?;
        let moved = self.moved(ty, vector, to, true)?;
        if space == "param"
            && let Some(offset) = self.param_offset(from)
        {
            return Ok((Op::LoadParam { offset, moved }, Class::Param));
        }
        let address = self.address(from, space)?;
        let class = match address.space {
            Space::Shared | Space::Cluster => Class::LoadShared,
            Space::Frame => Class::Local,
            Space::Generic if space == "param" => Class::Param,
            _ => Class::LoadGlobal,
        };
        Ok((Op::Load(address, moved), class))
    }

    pub fn store(&mut self, parts: &[&str], operands: &[Operand<'t>]) -> Result<(Op, Class), String> {
        let [to, from] = operands else { return Err("a store takes an address and a register".into()) };
        let (space, vector, ty) = moved_parts(parts)?;
        let moved = self.moved(ty, vector, from, false)?;
        let address = self.address(to, space)?;
        let class = match address.space {
            Space::Shared | Space::Cluster => Class::StoreShared,
            Space::Frame => Class::Local,
            _ => Class::StoreGlobal,
        };
        Ok((Op::Store(address, moved), class))
    }

    fn param_offset(&self, operand: &Operand<'t>) -> Option<u32> {
        let Operand::Address { base: Some(base), offset } = operand else { return None };
        match self.look_up(base) {
            Some(Symbol::Param(start)) => u32::try_from(i64::from(start) + offset).ok(),
            _ => None,
        }
    }

    fn moved(&mut self, ty: &str, vector: u8, operand: &Operand<'t>, written: bool) -> Result<Moved, String> {
        let bytes = width_of(ty).ok_or("")?;
        let single = [operand.clone()];
        let elements = if let Operand::Vector(elements) = operand { elements.as_slice() } else { &single };
        if elements.len() != usize::from(vector) {
            return Err(format!("expected {vector} registers, found {}", elements.len()));
        }
        // Registers may be wider than what is moved.
        let wide = elements.iter().find_map(|element| match element {
            Operand::Name(name) => match self.look_up(name) {
                Some(Symbol::Register(file, _)) => Some(file == File::Double),
                _ => None,
            },
            _ => None,
        });
        let file = if wide.unwrap_or(bytes == 8) { File::Double } else { File::Word };
        let mut registers = [0; 4];
        for (register, element) in registers.iter_mut().zip(elements) {
            *register = if written { self.destination(element, file)? } else { self.source(element, file)? };
        }
        let extended = (ty.starts_with('s') && bytes < 8).then_some(if file == File::Double { 8 } else { 4 });
        Ok(Moved { file, registers, count: vector, bytes: bytes as u8, extended })
    }

    /// An address in a space that the instruction names; none for a generic one.
    pub fn address(&mut self, operand: &Operand<'t>, space: &str) -> Result<Address, String> {
        let Operand::Address { base, offset } = operand else { return Err(format!("an address was expected, found {operand:?}")) };
        let mut offset = *offset;
        let mut kind = match space {
            "global" | "const" => Space::Global,
            "shared" | "shared::cta" => Space::Shared,
            "shared::cluster" => Space::Cluster,
            "local" => Space::Frame,
            "param" | "" => Space::Generic,
            _ => return Err(String::new()),
        };
        let base = match base.map(|name| (name, self.look_up(name))) {
            None => None,
            Some((_, Some(Symbol::Register(File::Predicate, _)))) => return Err("a predicate is no address".into()),
            Some((_, Some(Symbol::Register(file, register)))) => Some((file, register)),
            Some((_, Some(Symbol::Passed { offset: start, .. }))) if space == "param" => {
                kind = Space::Frame;
                offset += i64::from(start);
                None
            }
            Some((_, Some(Symbol::Local(start)))) if space == "local" => {
                offset += i64::from(start);
                None
            }
            Some((_, Some(Symbol::Shared(start)))) if matches!(kind, Space::Shared | Space::Cluster) => {
                offset += i64::from(start);
                None
            }
            Some((_, Some(Symbol::DynamicShared))) if matches!(kind, Space::Shared | Space::Cluster) => {
                Some((File::Word, self.constant(File::Word, Value::DynamicShared)))
            }
            Some((name, _)) => return Err(format!("`{name}` is no address in this space")),
        };
        Ok(Address { space: kind, base, offset })
    }

    pub fn atomic(&mut self, parts: &[&str], operands: &[Operand<'t>]) -> Result<(Op, Class), String> {
        let mut space = "";
        let mut what = None;
        let ty = parts[parts.len() - 1];
        for &part in &parts[1..parts.len() - 1] {
            match part {
                "relaxed" | "acquire" | "release" | "acq_rel" | "cta" | "gpu" | "sys" => {}
                "global" | "shared" => space = part,
                operation => what = Some(operation),
            }
        }
        let signed = ty.starts_with('s');
        let what = match (what.ok_or("")?, ty) {
            ("add", "f32") => Atomic::AddFloat,
            ("add", "u32" | "s32" | "u64") => Atomic::Add,
            ("min", "u32" | "s32" | "u64" | "s64") => Atomic::Min { signed },
            ("max", "u32" | "s32" | "u64" | "s64") => Atomic::Max { signed },
            ("and", "b32" | "b64") => Atomic::And,
            ("or", "b32" | "b64") => Atomic::Or,
            ("xor", "b32" | "b64") => Atomic::Xor,
            ("exch", "b32" | "b64") => Atomic::Exchange,
            ("cas", "b32" | "b64") => Atomic::CompareAndSwap,
            _ => return Err(String::new()),
        };
        let bytes = width_of(ty).ok_or("")? as u8;
        let file = if bytes == 8 { File::Double } else { File::Word };
        let (d, rest) = match (parts[0], operands) {
            ("atom", [d, rest @ ..]) => (Some(self.destination(d, file)?), rest),
            (_, rest) => (None, rest),
        };
        let (address, a, b) = match rest {
            [address, a] if what != Atomic::CompareAndSwap => (address, a, a),
            [address, a, b] if what == Atomic::CompareAndSwap => (address, a, b),
            _ => return Err(String::new()),
        };
        let (address, a, b) = (self.address(address, space)?, self.source(a, file)?, self.source(b, file)?);
        Ok((Op::Atomic { what, address, file, bytes, d, a, b }, Class::Atomic))
    }
}

/// The state space, the length of the vector and the type of a load or store.
fn moved_parts<'p>(parts: &[&'p str]) -> Result<(&'p str, u8, &'p str), String> {
    let (mut space, mut vector) = ("", 1);
    let ty = parts[parts.len() - 1];
    for &part in &parts[1..parts.len() - 1] {
        match part {
            "global" | "shared" | "shared::cta" | "shared::cluster" | "local" | "param" | "const" => space = part,
            "v2" => vector = 2,
            "v4" => vector = 4,
            // Caching and ordering: accesses of the machine are seen at once by all.
            "volatile" | "relaxed" | "acquire" | "release" | "weak" | "cta" | "gpu" | "sys" | "nc" | "ca" | "cg" | "cs" | "cv"
            | "wb" | "wt" | "lu" | "L1::no_allocate" | "L1::evict_last" | "L2::128B" | "L2::256B" | "L2::64B" => {}
            _ => return Err(String::new()),
        }
    }
    Ok((space, vector, ty))
}

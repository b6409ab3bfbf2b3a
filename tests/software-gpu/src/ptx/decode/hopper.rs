//! Instructions of compute capability 9.0.

use super::Builder;
use super::operands::Operand;
use crate::ptx::hopper::{Arrive, CopyTensor, GroupProduct, Hopper, OperandA, Phase};
use crate::ptx::program::{Class, File, Format, Op};
use crate::ptx::tokens::number;

/// A number that is written into the instruction.
fn literal(operand: &Operand<'_>) -> Result<i64, String> {
    match operand {
        Operand::Number { text, negative } => {
            let value = number(text).ok_or(String::new())?.cast_signed();
            Ok(if *negative { -value } else { value })
        }
        _ => Err("an immediate number was expected".into()),
    }
}

/// Scopes and orderings, which mean nothing here: what is done is seen at once.
fn without_scopes<'p>(parts: &[&'p str]) -> Vec<&'p str> {
    parts.iter().copied().filter(|part| !matches!(*part, "release" | "acquire" | "relaxed" | "cta" | "cluster")).collect()
}

impl<'t> Builder<'_, 't> {
    pub fn hopper(&mut self, opcode: &str, parts: &[&str], operands: &[Operand<'t>]) -> Result<(Op, Class), String> {
        let class = match parts[0] {
            "mbarrier" | "elect" | "setmaxnreg" | "mapa" => Class::Warp,
            "cp" | "prefetch" => Class::CopyAsync,
            "wgmma" if opcode.starts_with("wgmma.mma_async") => Class::Product,
            "wgmma" => Class::Warp,
            _ => Class::Barrier,
        };
        let op = match (parts[0], operands) {
            ("mbarrier", _) => self.mbarrier(&without_scopes(&parts[1..]), operands)?,
            ("wgmma", _) => self.group_product(opcode, operands)?,
            ("cp", _) => self.copy_tensor(&parts[3..], operands)?,
            ("mapa", [d, a, rank]) => {
                let wide = match parts[1..] {
                    ["u64"] => true,
                    ["shared::cluster", "u32"] => false,
                    _ => return Err(String::new()),
                };
                let file = if wide { File::Double } else { File::Word };
                let (a, rank) = (self.source(a, file)?, self.source(rank, File::Word)?);
                Hopper::MapRank { wide, d: self.destination(d, file)?, a, rank }
            }
            ("elect", [Operand::Pair(d, leader), members]) if opcode == "elect.sync" => {
                let members = self.source(members, File::Word)?;
                let leader = self.destination(&Operand::Name(leader), File::Predicate)?;
                Hopper::Elect { d: self.destination(&Operand::Name(d), File::Word)?, leader, members }
            }
            ("setmaxnreg", [count]) => {
                let more = match parts[1..] {
                    ["inc", "sync", "aligned", "u32"] => true,
                    ["dec", "sync", "aligned", "u32"] => false,
                    _ => return Err(String::new()),
                };
                let count = literal(count)?;
                if !(24..=256).contains(&count) || count % 8 != 0 {
                    return Err(format!("setmaxnreg takes a multiple of 8 from 24 to 256, found {count}"));
                }
                Hopper::SetRegisters { count: count as u32, more }
            }
            ("prefetch", [map]) if matches!(parts[1..], ["tensormap"] | ["param" | "const", "tensormap"]) => {
                Hopper::PrefetchMap { map: self.address(map, "")? }
            }
            _ => match opcode {
                "fence.proxy.async" | "fence.proxy.async.shared::cta" | "fence.proxy.async.shared::cluster" => Hopper::ProxyFence,
                "fence.mbarrier_init.release.cluster" => Hopper::BarrierFence,
                "barrier.cluster.arrive.aligned"
                | "barrier.cluster.arrive.release.aligned"
                | "barrier.cluster.arrive.relaxed.aligned" => Hopper::ClusterArrive,
                "barrier.cluster.wait.aligned" | "barrier.cluster.wait.acquire.aligned" => Hopper::ClusterWait,
                _ => return Err(String::new()),
            },
        };
        Ok((Op::Hopper(op), class))
    }

    fn mbarrier(&mut self, parts: &[&str], operands: &[Operand<'t>]) -> Result<Hopper, String> {
        let (what, space) = match parts {
            [what @ .., space @ ("shared" | "shared::cta" | "shared::cluster"), "b64"] => (what, *space),
            [what @ .., "b64"] => (what, ""),
            _ => return Err(String::new()),
        };
        match (what, operands) {
            (["init"], [barrier, count]) => {
                Ok(Hopper::Init { barrier: self.address(barrier, space)?, count: self.source(count, File::Word)? })
            }
            (["inval"], [barrier]) => Ok(Hopper::Invalidate { barrier: self.address(barrier, space)? }),
            (["expect_tx"], [barrier, bytes]) => {
                let (barrier, expected) = (self.address(barrier, space)?, Some(self.source(bytes, File::Word)?));
                Ok(Hopper::Arrive(Arrive { barrier, state: None, count: None, expected, arrives: false }))
            }
            (["arrive"], [state, barrier, rest @ ..]) if rest.len() < 2 => {
                let count = rest.first().map(|count| self.source(count, File::Word)).transpose()?;
                self.arrival(state, barrier, space, count, None)
            }
            (["arrive", "expect_tx"], [state, barrier, bytes]) => {
                let bytes = self.source(bytes, File::Word)?;
                self.arrival(state, barrier, space, None, Some(bytes))
            }
            // The last operand, where there is one, limits the time that the hardware may suspend the thread.
            (["try_wait", "parity"], [done, barrier, parity, limit @ ..]) if limit.len() < 2 => {
                let phase = Phase::Parity(self.source(parity, File::Word)?);
                self.wait(done, barrier, space, phase)
            }
            (["test_wait", "parity"], [done, barrier, parity]) => {
                let phase = Phase::Parity(self.source(parity, File::Word)?);
                self.wait(done, barrier, space, phase)
            }
            (["try_wait"], [done, barrier, state, limit @ ..]) if limit.len() < 2 => {
                let phase = Phase::State(self.source(state, File::Double)?);
                self.wait(done, barrier, space, phase)
            }
            (["test_wait"], [done, barrier, state]) => {
                let phase = Phase::State(self.source(state, File::Double)?);
                self.wait(done, barrier, space, phase)
            }
            _ => Err(String::new()),
        }
    }

    fn arrival(
        &mut self,
        state: &Operand<'t>,
        barrier: &Operand<'t>,
        space: &str,
        count: Option<u32>,
        expected: Option<u32>,
    ) -> Result<Hopper, String> {
        let state = if matches!(state, Operand::Name("_")) { None } else { Some(self.destination(state, File::Double)?) };
        if state.is_some() && space == "shared::cluster" {
            return Err("an arrival at a barrier of the cluster returns no state".into());
        }
        Ok(Hopper::Arrive(Arrive { barrier: self.address(barrier, space)?, state, count, expected, arrives: true }))
    }

    fn wait(&mut self, done: &Operand<'t>, barrier: &Operand<'t>, space: &str, phase: Phase) -> Result<Hopper, String> {
        if space == "shared::cluster" {
            return Err(String::new());
        }
        let barrier = self.address(barrier, space)?;
        Ok(Hopper::Wait { barrier, done: self.destination(done, File::Predicate)?, phase })
    }

    /// `parts` are what follows `cp.async.bulk`.
    fn copy_tensor(&mut self, parts: &[&str], operands: &[Operand<'t>]) -> Result<Hopper, String> {
        let (["tensor", rank, rest @ ..], [to, Operand::Tensor { map, coordinates }, barrier, after @ ..]) = (parts, operands)
        else {
            return Err(String::new());
        };
        // Tile mode is what is meant where no mode is written.
        let rest: Vec<&str> = rest.iter().copied().filter(|part| *part != "tile").collect();
        let ["shared::cluster" | "shared::cta", "global", "mbarrier::complete_tx::bytes", hints @ ..] = rest.as_slice() else {
            return Err(String::new());
        };
        let (multicast, hints) = match hints {
            ["multicast::cluster", hints @ ..] => (true, hints),
            hints => (false, hints),
        };
        let hinted = match hints {
            [] => false,
            ["L2::cache_hint"] => true,
            _ => return Err(String::new()),
        };
        let dimensions = match *rank {
            "1d" => 1,
            "2d" => 2,
            "3d" => 3,
            "4d" => 4,
            "5d" => 5,
            _ => return Err(String::new()),
        };
        if coordinates.len() != dimensions || after.len() != usize::from(multicast) + usize::from(hinted) {
            return Err(String::new());
        }
        let blocks = if multicast { Some(self.source(&after[0], File::Word)?) } else { None };
        let coordinates = coordinates.iter().map(|coordinate| self.source(coordinate, File::Word)).collect::<Result<_, _>>()?;
        let (to, barrier) = (self.address(to, "shared")?, self.address(barrier, "shared")?);
        let map = self.address(map, "")?;
        Ok(Hopper::CopyTensor(Box::new(CopyTensor { to, map, coordinates, barrier, blocks })))
    }

    fn group_product(&mut self, opcode: &str, operands: &[Operand<'t>]) -> Result<Hopper, String> {
        let shape = match (opcode, operands) {
            ("wgmma.fence.sync.aligned", []) => return Ok(Hopper::ProductFence),
            ("wgmma.commit_group.sync.aligned", []) => return Ok(Hopper::ProductCommit),
            ("wgmma.wait_group.sync.aligned", [left]) => {
                let left = literal(left)?;
                if !(0..8).contains(&left) {
                    return Err(format!("wgmma.wait_group waits for all but 0 to 7 groups, found {left}"));
                }
                return Ok(Hopper::ProductWait { left: left as u32 });
            }
            _ => opcode.strip_prefix("wgmma.mma_async.sync.aligned.m64n").ok_or(String::new())?,
        };
        let (columns, format) = match shape.split_once('k') {
            Some((columns, "16.f32.f16.f16")) => (columns, Format::Half),
            Some((columns, "16.f32.bf16.bf16")) => (columns, Format::Bfloat),
            _ => return Err(String::new()),
        };
        let columns: usize = columns.parse().map_err(|_| String::new())?;
        let [Operand::Vector(d), a, b, adds, rest @ ..] = operands else { return Err(String::new()) };
        if !(8..=256).contains(&columns) || !columns.is_multiple_of(8) || d.len() != columns / 2 {
            return Err(format!("{} registers for 64 x {columns} sums of a warpgroup", d.len()));
        }
        let d = d.iter().map(|d| self.destination(d, File::Word)).collect::<Result<_, _>>()?;
        let a = match a {
            Operand::Vector(_) => OperandA::Registers(self.vector::<4>(a, false)?),
            descriptor => OperandA::Descriptor(self.source(descriptor, File::Double)?),
        };
        let flags = rest.iter().map(literal).collect::<Result<Vec<_>, _>>()?;
        let (signs, transposed) = match (&flags[..], a) {
            (&[a, b, transposed_a, transposed_b], OperandA::Descriptor(_)) => ([a, b], [transposed_a, transposed_b]),
            (&[a, b, transposed_b], OperandA::Registers(_)) => ([a, b], [0, transposed_b]),
            _ => return Err(String::new()),
        };
        if signs.iter().any(|sign| sign.abs() != 1) || transposed.iter().any(|bit| !(0..2).contains(bit)) {
            return Err("the signs of a product are 1 or -1, its transpositions 0 or 1".into());
        }
        let (b, adds) = (self.source(b, File::Double)?, self.truth(adds)?);
        let (negates, transposed) = (signs.map(|sign| sign < 0), transposed.map(|bit| bit == 1));
        Ok(Hopper::Product(Box::new(GroupProduct { format, d, a, b, adds, negates, transposed })))
    }
}

//! Instructions that a warp executes together, and asynchronous copies.

use super::Builder;
use super::operands::Operand;
use crate::ptx::program::{Class, File, Format, Op, Product, Shuffle, Space, Vote};
use crate::ptx::tokens::number;

impl<'t> Builder<'_, 't> {
    pub fn warp(&mut self, opcode: &str, parts: &[&str], operands: &[Operand<'t>]) -> Result<(Op, Class), String> {
        match parts[0] {
            "shfl" => self.shuffle(parts, operands),
            "vote" => self.vote(opcode, operands),
            "ldmatrix" => self.load_matrix(parts, operands),
            "mma" => self.product(opcode, operands),
            "cp" if parts.starts_with(&["cp", "async", "bulk"]) => self.hopper(opcode, parts, operands),
            "cp" => self.copy(parts, operands),
            _ => Err(String::new()),
        }
    }

    fn shuffle(&mut self, parts: &[&str], operands: &[Operand<'t>]) -> Result<(Op, Class), String> {
        let kind = match parts[1..] {
            ["sync", "up", "b32"] => Shuffle::Up,
            ["sync", "down", "b32"] => Shuffle::Down,
            ["sync", "bfly", "b32"] => Shuffle::Butterfly,
            ["sync", "idx", "b32"] => Shuffle::Index,
            _ => return Err(String::new()),
        };
        let [to, a, b, c, members] = operands else { return Err(String::new()) };
        let (d, inside) = match to {
            Operand::Pair(d, inside) => {
                let inside = self.destination(&Operand::Name(inside), File::Predicate)?;
                (self.destination(&Operand::Name(d), File::Word)?, Some(inside))
            }
            d => (self.destination(d, File::Word)?, None),
        };
        let mut read = |operand| self.source(operand, File::Word);
        let (a, b, c, members) = (read(a)?, read(b)?, read(c)?, read(members)?);
        Ok((Op::Shuffle { kind, d, inside, a, b, c, members }, Class::Warp))
    }

    fn vote(&mut self, opcode: &str, operands: &[Operand<'t>]) -> Result<(Op, Class), String> {
        let (kind, file) = match opcode {
            "vote.sync.ballot.b32" => (Vote::Ballot, File::Word),
            "vote.sync.all.pred" => (Vote::All, File::Predicate),
            "vote.sync.any.pred" => (Vote::Any, File::Predicate),
            "vote.sync.uni.pred" => (Vote::Uniform, File::Predicate),
            _ => return Err(String::new()),
        };
        let [d, predicate, members] = operands else { return Err(String::new()) };
        let d = self.destination(d, file)?;
        let (predicate, negated) = self.truth(predicate)?;
        let members = self.source(members, File::Word)?;
        Ok((Op::Vote { kind, d, predicate, negated, members }, Class::Warp))
    }

    fn load_matrix(&mut self, parts: &[&str], operands: &[Operand<'t>]) -> Result<(Op, Class), String> {
        let (["sync", "aligned", "m8n8", count, rest @ ..] | ["sync", "aligned", count, "m8n8", rest @ ..]) = &parts[1..] else {
            return Err(String::new());
        };
        let (transposed, rest) = if rest.first() == Some(&"trans") { (true, &rest[1..]) } else { (false, rest) };
        if !matches!(rest, ["shared" | "shared::cta", "b16"]) {
            return Err(String::new());
        }
        let [to, from] = operands else { return Err(String::new()) };
        let mut d = [0; 4];
        let count = match *count {
            "x1" => self.vector::<1>(to, true).map(|found| d[..1].copy_from_slice(&found)).map(|()| 1)?,
            "x2" => self.vector::<2>(to, true).map(|found| d[..2].copy_from_slice(&found)).map(|()| 2)?,
            "x4" => self.vector::<4>(to, true).map(|found| d = found).map(|()| 4)?,
            _ => return Err(String::new()),
        };
        let address = self.address(from, "shared")?;
        Ok((Op::LoadMatrix { d, count, transposed, address }, Class::LoadMatrix))
    }

    fn product(&mut self, opcode: &str, operands: &[Operand<'t>]) -> Result<(Op, Class), String> {
        let (depth, format) = match opcode.strip_prefix("mma.sync.aligned.") {
            Some("m16n8k16.row.col.f32.f16.f16.f32") => (16, Format::Half),
            Some("m16n8k16.row.col.f32.bf16.bf16.f32") => (16, Format::Bfloat),
            Some("m16n8k8.row.col.f32.f16.f16.f32") => (8, Format::Half),
            Some("m16n8k8.row.col.f32.bf16.bf16.f32") => (8, Format::Bfloat),
            _ => return Err(String::new()),
        };
        let [d, a, b, c] = operands else { return Err(String::new()) };
        let d = self.vector::<4>(d, true)?;
        let c = self.vector::<4>(c, false)?;
        let (a, b) = if depth == 16 {
            (self.vector::<4>(a, false)?, self.vector::<2>(b, false)?)
        } else {
            let ([a0, a1], [b0]) = (self.vector::<2>(a, false)?, self.vector::<1>(b, false)?);
            ([a0, a1, a0, a1], [b0, b0])
        };
        Ok((Op::Product(Box::new(Product { format, depth, d, a, b, c })), Class::Product))
    }

    fn copy(&mut self, parts: &[&str], operands: &[Operand<'t>]) -> Result<(Op, Class), String> {
        let literal = |operand: &Operand<'_>| match operand {
            Operand::Number { text, negative: false } => {
                number(text).and_then(|value| u32::try_from(value).ok()).ok_or(String::new())
            }
            _ => Err(String::new()),
        };
        let op = match (&parts[1..], operands) {
            (["async", "commit_group"], []) => Op::CopyCommit,
            (["async", "wait_group"], [left]) => Op::CopyWait { left: literal(left)? },
            (["async", "wait_all"], []) => Op::CopyWait { left: 0 },
            (["async", kind @ ("ca" | "cg"), "shared" | "shared::cta", "global", hints @ ..], [to, from, bytes, rest @ ..])
                if hints.iter().all(|hint| hint.starts_with("L2::")) && rest.len() < 2 =>
            {
                let bytes = literal(bytes)? as u8;
                if !(bytes == 16 || *kind == "ca" && matches!(bytes, 4 | 8)) {
                    return Err(format!("cp.async.{kind} cannot copy {bytes} bytes"));
                }
                let valid = rest.first().map(|valid| self.source(valid, File::Word)).transpose()?;
                let (to, from) = (self.address(to, "shared")?, self.address(from, "global")?);
                debug_assert!(to.space == Space::Shared);
                Op::CopyAsync { to, from, bytes, valid }
            }
            _ => return Err(String::new()),
        };
        Ok((op, Class::CopyAsync))
    }
}

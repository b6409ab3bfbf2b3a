//! Branches, calls and barriers.

use super::operands::Operand;
use super::{Builder, Callee, Symbol};
use crate::ptx::program::{Call, Class, File, NOWHERE, Op, Passed, Reduction};
use crate::ptx::tokens::{Kind, Token};

impl<'t> Builder<'_, 't> {
    pub fn control(&mut self, opcode: &str, parts: &[&str], operands: &[Operand<'t>]) -> Result<(Op, Class), String> {
        match (opcode, operands) {
            ("bra" | "bra.uni", [Operand::Name(label)]) => {
                self.branches.push((self.code.len(), label, self.open_scopes.clone()));
                Ok((Op::Branch { target: 0, join: NOWHERE }, Class::Branch))
            }
            ("ret" | "ret.uni", []) => Ok((Op::Return, Class::Branch)),
            ("exit", []) => Ok((Op::Exit, Class::Branch)),
            ("trap", []) => Ok((Op::Trap("trap"), Class::Branch)),
            ("brkpt", []) => Ok((Op::Trap("brkpt"), Class::Branch)),
            ("bar.warp.sync", [members]) => Ok((Op::WarpBarrier { members: self.source(members, File::Word)? }, Class::Barrier)),
            _ if opcode.starts_with("fence.proxy.async") && opcode != "fence.proxy.async.global"
                || opcode == "fence.mbarrier_init.release.cluster"
                || opcode.starts_with("barrier.cluster.") =>
            {
                self.hopper(opcode, parts, operands)
            }
            _ if matches!(parts[0], "membar" | "fence") && parts.len() > 1 => Ok((Op::Nothing, Class::Barrier)),
            _ => self.barrier(opcode, operands),
        }
    }

    fn barrier(&mut self, opcode: &str, operands: &[Operand<'t>]) -> Result<(Op, Class), String> {
        let short = opcode.replacen("barrier", "bar", 1).replace(".cta", "").replace(".aligned", "");
        let (operands, reduction) = match (short.as_str(), operands) {
            ("bar.red.and.pred", [d, rest @ .., source]) => (rest, Some((Reduction::And, File::Predicate, d, source))),
            ("bar.red.or.pred", [d, rest @ .., source]) => (rest, Some((Reduction::Or, File::Predicate, d, source))),
            ("bar.red.popc.u32", [d, rest @ .., source]) => (rest, Some((Reduction::Count, File::Word, d, source))),
            ("bar.sync" | "bar.arrive", rest) => (rest, None),
            _ => return Err(String::new()),
        };
        let reduction = match reduction {
            Some((kind, file, d, source)) => {
                let (source, negated) = self.truth(source)?;
                Some((kind, self.destination(d, file)?, source, negated))
            }
            None => None,
        };
        let (id, threads) = match operands {
            [id] => (self.source(id, File::Word)?, None),
            [id, threads] => (self.source(id, File::Word)?, Some(self.source(threads, File::Word)?)),
            _ => return Err(String::new()),
        };
        Ok((Op::Barrier { id, threads, arrive: short == "bar.arrive", reduction }, Class::Barrier))
    }

    /// `(result), function, (params)`; results and params may be missing.
    pub fn call(&mut self, tokens: &[Token<'t>]) -> Result<Op, String> {
        let (mut groups, mut name) = ([Vec::new(), Vec::new()], None);
        let mut inside = false;
        for token in tokens {
            match token.kind {
                Kind::Sign(b'(') => inside = true,
                Kind::Sign(b')') => inside = false,
                Kind::Sign(b',') => {}
                Kind::Word if inside => groups[usize::from(name.is_some())].push(token.text),
                Kind::Word if name.is_none() => name = Some(token.text),
                _ => return Err(format!("`{}` is not known in a call", token.text)),
            }
        }
        let name = name.ok_or("a call names no function")?;
        if name == "__assertfail" {
            return self.assertion(&groups[1]);
        }
        let target = self.called(name)?;
        let [results, params] = groups;
        let callee = &self.callees[target];
        if callee.params.len() != params.len() || callee.results.len() != results.len() {
            return Err(format!("`{name}` takes {} parameters, found {}", callee.params.len(), params.len()));
        }
        let passed = |own: &[&str], theirs: &[(u32, u32)], into: bool| -> Result<Vec<Passed>, String> {
            let pairs = own.iter().zip(theirs).map(|(name, &(there, bytes))| match self.look_up(name) {
                Some(Symbol::Passed { offset, bytes: found }) if found == bytes => {
                    let (from, to) = if into { (offset, there) } else { (there, offset) };
                    Ok(Passed { from, to, bytes })
                }
                _ => Err(format!("`{name}` is no parameter of {bytes} bytes")),
            });
            pairs.collect()
        };
        let params = passed(&params, &callee.params, true)?;
        let results = passed(&results, &callee.results, false)?;
        Ok(Op::Call(Box::new(Call { target: target as u32, params, results })))
    }

    /// What the device library calls when `assert` fails: the condition, the file, the line, the function, a size.
    fn assertion(&self, params: &[&str]) -> Result<Op, String> {
        let place = |name: &&str| match self.look_up(name) {
            Some(Symbol::Passed { offset, .. }) => Ok(offset),
            _ => Err(format!("`{name}` is no parameter")),
        };
        match params.iter().map(place).collect::<Result<Vec<_>, _>>()?[..] {
            [condition, file, line, ..] => Ok(Op::Assert { condition, file, line }),
            _ => Err("`__assertfail` takes five parameters".into()),
        }
    }

    /// The number of a function among the callees.
    fn called(&mut self, name: &str) -> Result<usize, String> {
        let module = self.module;
        let body = module.bodies.iter().position(|body| !body.is_kernel && body.name == name);
        let body = body.ok_or_else(|| format!("the function `{name}` has no body"))?;
        if let Some(found) = self.callees.iter().position(|callee| callee.body == body) {
            return Ok(found);
        }
        let place = |variable| (self.in_frame(variable), variable.bytes);
        let places: Vec<_> = module.bodies[body].results.iter().chain(&module.bodies[body].params).map(place).collect();
        let (results, params) = places.split_at(module.bodies[body].results.len());
        self.callees.push(Callee { body, params: params.to_vec(), results: results.to_vec(), entry: 0 });
        Ok(self.callees.len() - 1)
    }
}

//! Reads a module; instructions stay tokens until they are decoded.

use super::module::{Body, Limits, Module, Place, RegisterList, Statement, Variable};
use super::tokens::{Kind, Token, number, tokens};

/// Reads a module.
pub fn module(text: &str) -> Result<Module<'_>, String> {
    let tokens = tokens(text)?;
    let mut reader = Reader { tokens: &tokens, at: 0, place: Place::default() };
    let mut module = Module::default();
    while let Some(token) = reader.peek() {
        match token.text {
            ".visible" | ".weak" | ".extern" => reader.at += 1,
            ".entry" | ".func" => module.bodies.extend(reader.body()?),
            ".file" => reader.file(&mut module)?,
            ".section" => reader.section()?,
            ".shared" => {
                reader.at += 1;
                let variable = reader.variable()?;
                reader.expect(b';')?;
                module.shared.push(variable);
            }
            ".global" | ".const" => module.globals.extend(reader.global()?),
            ".version" | ".target" | ".address_size" | ".loc" => reader.skip_line(),
            other => return Err(format!("line {}: `{other}` is not known at the level of a module", token.line)),
        }
    }
    Ok(module)
}

struct Reader<'a, 't> {
    tokens: &'a [Token<'t>],
    at: usize,
    place: Place,
}

impl<'t> Reader<'_, 't> {
    fn peek(&self) -> Option<Token<'t>> {
        self.tokens.get(self.at).copied()
    }

    fn next(&mut self) -> Result<Token<'t>, String> {
        let token = self.peek().ok_or("the text ends inside a declaration")?;
        self.at += 1;
        Ok(token)
    }

    fn take(&mut self, sign: u8) -> bool {
        let found = self.peek().is_some_and(|token| token.is(sign));
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, sign: u8) -> Result<(), String> {
        let token = self.next()?;
        let (line, text) = (token.line, token.text);
        if token.is(sign) { Ok(()) } else { Err(format!("line {line}: expected `{}`, found `{text}`", sign as char)) }
    }

    fn number(&mut self) -> Result<u32, String> {
        let token = self.next()?;
        let value = number(token.text).and_then(|value| u32::try_from(value).ok());
        value.ok_or_else(|| format!("line {}: expected a number, found `{}`", token.line, token.text))
    }

    fn skip_line(&mut self) {
        let line = self.peek().map_or(0, |token| token.line);
        while self.peek().is_some_and(|token| token.line == line) {
            self.at += 1;
        }
    }

    fn file(&mut self, module: &mut Module<'t>) -> Result<(), String> {
        let line = self.next()?.line;
        let index = self.number()?;
        let path = self.next()?.text;
        module.files.insert(index, path.rsplit('/').next().unwrap_or(path));
        while self.peek().is_some_and(|token| token.line == line) {
            self.at += 1;
        }
        Ok(())
    }

    fn section(&mut self) -> Result<(), String> {
        while !self.take(b'{') {
            self.next()?;
        }
        while !self.take(b'}') {
            self.next()?;
        }
        Ok(())
    }

    /// `.align 8 .b8 name[32]`, `.b32 name`.
    fn variable(&mut self) -> Result<Variable<'t>, String> {
        let (mut align, mut width, mut vector) = (None, None, 1);
        loop {
            let token = self.next()?;
            match token.text {
                ".align" => align = Some(self.number()?),
                ".v2" => vector = 2,
                ".v4" => vector = 4,
                ".ptr" | ".global" | ".const" => {}
                ty if ty.starts_with('.') => {
                    width =
                        Some(width_of(ty).ok_or_else(|| format!("line {}: a variable of type `{ty}` is not known", token.line))?);
                }
                name => {
                    let width = vector * width.ok_or_else(|| format!("line {}: `{name}` has no type", token.line))?;
                    let mut bytes = width;
                    while self.take(b'[') {
                        let empty = self.peek().is_some_and(|token| token.is(b']'));
                        bytes *= if empty { 0 } else { self.number()? };
                        self.expect(b']')?;
                    }
                    return Ok(Variable { name, align: align.unwrap_or(width), bytes });
                }
            }
        }
    }

    fn variables(&mut self) -> Result<Vec<Variable<'t>>, String> {
        let mut found = Vec::new();
        if !self.take(b'(') {
            return Ok(found);
        }
        while !self.take(b')') {
            self.take(b',');
            let token = self.next()?;
            if !matches!(token.text, ".param" | ".reg") {
                return Err(format!("line {}: expected a parameter, found `{}`", token.line, token.text));
            }
            found.push(self.variable()?);
        }
        Ok(found)
    }

    /// A kernel or a function; none for a declaration without a body.
    fn body(&mut self) -> Result<Option<Body<'t>>, String> {
        let is_kernel = self.next()?.text == ".entry";
        let results = self.variables()?;
        let name = self.next()?.text;
        let params = self.variables()?;
        let mut limits = Limits::default();
        loop {
            if self.take(b';') {
                return Ok(None);
            }
            if self.take(b'{') {
                break;
            }
            self.limit(&mut limits)?;
        }
        let mut statements = Vec::new();
        let mut depth = 1;
        self.place = Place::default();
        while depth > 0 {
            let statement = self.statement()?;
            match statement {
                Some(Statement::Open) => depth += 1,
                Some(Statement::Close) => depth -= 1,
                _ => {}
            }
            statements.extend(statement);
        }
        statements.pop();
        Ok(Some(Body { name, is_kernel, params, results, limits, statements }))
    }

    fn limit(&mut self, limits: &mut Limits) -> Result<(), String> {
        match self.next()?.text {
            ".reqnctapercluster" => {
                let mut cluster = [self.number()?, 1, 1];
                for size in &mut cluster[1..] {
                    if self.take(b',') {
                        *size = self.number()?;
                    }
                }
                limits.cluster = Some(cluster);
            }
            ".maxnreg" => limits.most_registers = Some(self.number()?),
            ".minnctapersm" => limits.least_blocks = Some(self.number()?),
            _ => {}
        }
        Ok(())
    }

    /// A variable that begins with numbers or zeros. A kernel that uses any other is refused, as nothing is known by its name.
    fn global(&mut self) -> Result<Option<(Variable<'t>, Vec<u8>)>, String> {
        self.at += 1;
        let start = self.at;
        let variable = self.variable();
        let mut bytes = Vec::new();
        let width = self.tokens[start..self.at].iter().find_map(|token| width_of(token.text)).unwrap_or(1) as usize;
        let mut understood = variable.is_ok();
        while !self.take(b';') {
            let token = self.next()?;
            match (token.kind, number(token.text)) {
                (Kind::Number, Some(value)) => bytes.extend(&value.to_le_bytes()[..width]),
                (Kind::Sign(b'=' | b'{' | b'}' | b','), _) => {}
                _ => understood = false,
            }
        }
        Ok(variable.ok().filter(|_| understood).map(|variable| (variable, bytes)))
    }

    fn statement(&mut self) -> Result<Option<Statement<'t>>, String> {
        let first = self.next()?;
        match first.text {
            "{" => return Ok(Some(Statement::Open)),
            "}" => return Ok(Some(Statement::Close)),
            ".loc" => {
                self.place.file = self.number()?;
                self.place.source_line = self.number()?;
                while self.peek().is_some_and(|token| token.line == first.line) {
                    self.at += 1;
                }
                return Ok(None);
            }
            ".pragma" => {
                while !self.take(b';') {
                    self.next()?;
                }
                return Ok(None);
            }
            ".reg" => return self.registers().map(Some),
            ".param" | ".local" | ".shared" => {
                let variable = self.variable()?;
                self.expect(b';')?;
                return Ok(Some(Statement::Variable { space: first.text, variable }));
            }
            _ => {}
        }
        if first.kind == Kind::Word && self.take(b':') {
            return Ok(Some(Statement::Label(first.text)));
        }
        if first.text.starts_with('.') {
            return Err(format!("line {}: the directive `{}` is not known", first.line, first.text));
        }
        let start = self.at - 1;
        while !self.take(b';') {
            self.next()?;
        }
        let place = Place { line: first.line, ..self.place };
        Ok(Some(Statement::Instruction { tokens: self.tokens[start..self.at - 1].to_vec(), place }))
    }

    fn registers(&mut self) -> Result<Statement<'t>, String> {
        let kind = self.next()?.text;
        let name = self.next()?.text;
        let mut count = None;
        if self.take(b'<') {
            count = Some(self.number()?);
            self.expect(b'>')?;
        }
        self.expect(b';')?;
        Ok(Statement::Registers(RegisterList { name, count, kind }))
    }
}

/// Bytes of a type such as `.f32`.
pub fn width_of(ty: &str) -> Option<u32> {
    Some(match ty.trim_start_matches('.') {
        "b8" | "u8" | "s8" => 1,
        "b16" | "u16" | "s16" | "f16" | "bf16" => 2,
        "b32" | "u32" | "s32" | "f32" | "f16x2" | "bf16x2" => 4,
        "b64" | "u64" | "s64" | "f64" => 8,
        _ => return None,
    })
}

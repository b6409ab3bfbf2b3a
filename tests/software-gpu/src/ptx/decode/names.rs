//! What names stand for, and where variables lie.

use super::{Builder, Symbol};
use crate::ptx::module::{RegisterList, Variable};
use crate::ptx::program::{File, SHARED_START};

impl<'t> Builder<'_, 't> {
    pub(super) fn declare(&mut self, name: &'t str, symbol: Symbol) {
        self.scopes.last_mut().expect("the module's scope").insert(name, symbol);
    }

    pub(super) fn look_up(&self, name: &str) -> Option<Symbol> {
        let prefix = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
        let number = name[prefix.len()..].parse::<u32>();
        for scope in self.scopes.iter().rev() {
            match scope.get(name) {
                Some(Symbol::Numbered { .. }) | None => {}
                Some(&symbol) => return Some(symbol),
            }
            if let (Ok(number), Some(&Symbol::Numbered { file, first, count })) = (&number, scope.get(prefix))
                && *number < count
            {
                return Some(Symbol::Register(file, first + number));
            }
        }
        None
    }

    pub(super) fn shared(&mut self, variable: &Variable<'t>) {
        if variable.bytes == 0 {
            self.declare(variable.name, Symbol::DynamicShared);
            return;
        }
        let start = self.shared_bytes.next_multiple_of(variable.align.max(1));
        self.declare(variable.name, Symbol::Shared(SHARED_START + start));
        self.shared_bytes = start + variable.bytes;
    }

    pub(super) fn global(&mut self, variable: &Variable<'t>, bytes: &[u8]) {
        let start = self.globals.len().next_multiple_of(variable.align.max(1) as usize);
        self.globals.resize(start, 0);
        self.globals.extend(bytes);
        self.globals.resize(start + variable.bytes as usize, 0);
        self.declare(variable.name, Symbol::Global(start as u32));
    }

    pub(super) fn in_frame(&mut self, variable: &Variable<'_>) -> u32 {
        let start = self.frame_bytes.next_multiple_of(variable.align.max(1));
        self.frame_bytes = start + variable.bytes.next_multiple_of(4);
        start
    }

    pub(super) fn new_register(&mut self, file: File) -> u32 {
        let count = match file {
            File::Predicate => &mut self.counts.predicates,
            File::Word => &mut self.counts.words,
            File::Double => &mut self.counts.doubles,
        };
        *count += 1;
        *count - 1
    }

    pub(super) fn registers(&mut self, list: &RegisterList<'t>) -> Result<(), String> {
        let file = match list.kind {
            ".pred" => File::Predicate,
            ".b8" | ".u8" | ".b16" | ".u16" | ".s16" | ".f16" | ".b32" | ".u32" | ".s32" | ".f32" | ".f16x2" => File::Word,
            ".b64" | ".u64" | ".s64" | ".f64" => File::Double,
            other => return Err(format!("registers of type `{other}` are not known")),
        };
        let Some(count) = list.count else {
            let register = self.new_register(file);
            self.declare(list.name, Symbol::Register(file, register));
            return Ok(());
        };
        let counted = self.new_register(file);
        for _ in 1..count {
            self.new_register(file);
        }
        self.declare(list.name, Symbol::Numbered { file, first: counted, count });
        Ok(())
    }
}

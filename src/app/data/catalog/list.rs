//! Lists of white-space separated fields, a record a line, as most published data sets come with.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::files::input;

/// A list that was read.
pub(super) struct List {
    path: PathBuf,
    text: String,
}

impl List {
    pub fn read(path: PathBuf) -> Result<Self> {
        let text = input::read_text(&path)?;
        Ok(Self { path, text })
    }

    /// Fails unless the fields of line `number` (from 1) are `expected`.
    pub fn expect_header(&self, number: usize, expected: &[&str]) -> Result<()> {
        let line = self.text.lines().nth(number - 1).unwrap_or_default();
        if line.split_whitespace().eq(expected.iter().copied()) {
            return Ok(());
        }
        Err(self.malformed(number, format!("expected the header `{}`, found `{line}`", expected.join(" "))))
    }

    /// The records after the first `skipped` lines, each with its line number from 1; empty lines are passed over. Fields are called
    /// `names` in messages.
    pub fn rows<'a, const N: usize>(
        &'a self,
        skipped: usize,
        names: [&'a str; N],
    ) -> impl Iterator<Item = Result<(usize, [&'a str; N])>> {
        let lines = self.text.lines().enumerate().skip(skipped).map(|(index, line)| (index + 1, line));
        lines.filter(|(_, line)| !line.trim().is_empty()).map(move |(number, line)| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let found = fields.len();
            let fields = fields.try_into().map_err(|_| {
                self.malformed(number, format!("expected {N} fields ({}), found {found}: `{line}`", names.join(" ")))
            })?;
            Ok((number, fields))
        })
    }

    /// A number of at least `least`, called `what` in messages.
    pub fn number(&self, line: usize, what: &str, least: u64, field: &str) -> Result<u64> {
        let number = field.parse().ok().filter(|&number| number >= least);
        number.ok_or_else(|| self.malformed(line, format!("expected a {what} of {least} or more, found `{field}`")))
    }

    pub fn malformed(&self, line: usize, reason: String) -> Error {
        Error::data(&self.path, format!("line {line}: {reason}"))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

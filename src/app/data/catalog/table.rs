//! Tables with a header, as spreadsheets and programs write csv files: separated by commas, semicolons or tabs, in UTF-8 or UTF-16.
//!
//! Blanks around a field belong to it only inside quotes. Columns are found by name, in any case, with blanks around it or without.

use std::path::{Path, PathBuf};

use ::csv::{ReaderBuilder, StringRecord};

use crate::error::{Error, Result};
use crate::files::input;

const SEPARATORS: [u8; 3] = [b',', b';', b'\t'];
const BLANKS: [char; 2] = [' ', '\t'];
/// How far a column may be from a known name to be suggested (Jaro-Winkler similarity).
const SUGGESTION_SIMILARITY: f64 = 0.8;

/// A table with a header.
pub(super) struct Table {
    path: PathBuf,
    header: Vec<String>,
    rows: Vec<StringRecord>,
    /// Lines before the header.
    lines_before: u64,
}

impl Table {
    pub fn open(path: &Path) -> Result<Self> {
        let text = input::read_text(path)?;
        let (stated, text) = stated_separator(&text);
        let separator = stated.unwrap_or_else(|| separator(text.lines().next().unwrap_or_default()));
        let mut reader = ReaderBuilder::new().delimiter(separator).from_reader(text.as_bytes());
        let malformed = |error: ::csv::Error| Error::data(path, error.to_string());
        let header = reader.headers().map_err(malformed)?.iter().map(|name| name.trim().to_owned()).collect();
        let (mut rows, mut record) = (Vec::new(), StringRecord::new());
        while reader.read_record(&mut record).map_err(malformed)? {
            let start = record.position().map_or(0, |position| position.byte()) as usize;
            let raw = &text.as_bytes()[start..(reader.position().byte() as usize).min(text.len())];
            rows.push(trimmed(&record, &quoted_fields(raw, separator)));
        }
        Ok(Self { path: path.to_owned(), header, rows, lines_before: u64::from(stated.is_some()) })
    }

    /// The position of the column of that name.
    pub fn column(&self, name: &str) -> Result<usize> {
        self.optional(name)?.ok_or_else(|| {
            let similarity = |column: &str| match column.to_lowercase() {
                column if column.contains(name) => 1.0,
                column => strsim::jaro_winkler(name, &column),
            };
            let near = self.header.iter().max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
            let hint = match near.filter(|near| similarity(near) >= SUGGESTION_SIMILARITY) {
                Some(near) => format!("; if `{near}` is meant, rename it"),
                None => String::new(),
            };
            Error::data(&self.path, format!("expected a column `{name}`, found the header `{}`{hint}", self.header.join(",")))
        })
    }

    /// The position of the column of that name, if there is one: as it is written, or else in another case.
    pub fn optional(&self, name: &str) -> Result<Option<usize>> {
        let positions = |fits: &dyn Fn(&str) -> bool| -> Vec<usize> {
            self.header.iter().enumerate().filter(|(_, column)| fits(column)).map(|(position, _)| position).collect()
        };
        let mut found = positions(&|column| column == name);
        if found.is_empty() {
            found = positions(&|column| column.eq_ignore_ascii_case(name));
        }
        if found.len() > 1 {
            let words = format!("expected one column `{name}`, found {} in the header `{}`", found.len(), self.header.join(","));
            return Err(Error::data(&self.path, words));
        }
        Ok(found.first().copied())
    }

    /// Names of the columns at other positions than `used`.
    pub fn unused(&self, used: &[usize]) -> Vec<&str> {
        let unused = self.header.iter().enumerate().filter(|(position, name)| !used.contains(position) && !name.is_empty());
        unused.map(|(_, name)| name.as_str()).collect()
    }

    pub fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.rows.iter().map(|record| Row { table: self, record })
    }
}

/// A row of a table.
pub(super) struct Row<'a> {
    table: &'a Table,
    record: &'a StringRecord,
}

impl Row<'_> {
    pub fn field(&self, column: usize) -> &str {
        &self.record[column]
    }

    pub fn malformed(&self, reason: String) -> Error {
        let line = self.record.position().map_or(0, |position| position.line()) + self.table.lines_before;
        Error::data(&self.table.path, format!("line {line}: {reason}"))
    }
}

/// Excel's first line `sep=;`, and the text after it.
fn stated_separator(text: &str) -> (Option<u8>, &str) {
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    match first.trim_end().to_ascii_lowercase().strip_prefix("sep=").map(str::as_bytes) {
        Some(&[separator]) => (Some(separator), rest),
        _ => (None, text),
    }
}

/// The separator that a header uses most; a comma where it uses none.
fn separator(header: &str) -> u8 {
    let mut inside = false;
    let mut counts = [0; SEPARATORS.len()];
    for byte in header.bytes() {
        inside ^= byte == b'"';
        if let Some(kind) = SEPARATORS.iter().position(|separator| *separator == byte && !inside) {
            counts[kind] += 1;
        }
    }
    let most = counts.iter().copied().max().unwrap_or(0);
    SEPARATORS[counts.iter().position(|count| *count == most).unwrap_or(0)]
}

/// Which fields of a record stand in quotes, which the reader of csv does not tell.
fn quoted_fields(raw: &[u8], separator: u8) -> Vec<bool> {
    // Ends of lines before a record count as its beginning.
    let before = raw.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let (mut rest, mut quoted) = (&raw[before..], Vec::new());
    loop {
        let in_quotes = rest.first() == Some(&b'"');
        quoted.push(in_quotes);
        let mut at = usize::from(in_quotes);
        while in_quotes && at < rest.len() {
            match &rest[at..] {
                [b'"', b'"', ..] => at += 2,
                [b'"', ..] => break,
                _ => at += 1,
            }
        }
        match rest[at.min(rest.len())..].iter().position(|byte| *byte == separator) {
            Some(end) => rest = &rest[at + end + 1..],
            None => return quoted,
        }
    }
}

fn trimmed(record: &StringRecord, quoted: &[bool]) -> StringRecord {
    let mut result = StringRecord::new();
    for (index, field) in record.iter().enumerate() {
        result.push_field(if quoted.get(index) == Some(&true) { field } else { field.trim_matches(BLANKS) });
    }
    result.set_position(record.position().cloned());
    result
}

//! `csv:PATH`: a table with the columns `path`, `label` and `split` (train, test, query or gallery), in any order, among others.
//! Paths are relative to the table's folder.

use std::path::Path;

use ::csv::{ReaderBuilder, StringRecord};

use super::{Entry, path_of};
use crate::data::{Builder, Dataset, OpenOptions, Source, Split};
use crate::error::{Error, Result};

pub(super) const ENTRY: Entry = Entry { name: "csv", usage: "csv:PATH", open };

fn open(rest: &str, _options: &OpenOptions) -> Result<Dataset> {
    let table = path_of(rest, &ENTRY)?;
    let folder = table.parent().unwrap_or(Path::new(""));
    let file = std::fs::File::open(table).map_err(Error::io(table))?;
    let mut reader = ReaderBuilder::new().trim(::csv::Trim::All).from_reader(file);
    let malformed = |error: ::csv::Error| Error::data(table, error.to_string());
    let header = reader.headers().map_err(malformed)?.clone();
    let [path_column, label_column, split_column] = ["path", "label", "split"].map(|name| column(table, &header, name));
    let (path_column, label_column, split_column) = (path_column?, label_column?, split_column?);

    let mut builder = Builder::new(String::new(), table);
    for record in reader.records() {
        let record = record.map_err(malformed)?;
        let row = record.position().map_or(0, |position| position.line());
        let path = folder.join(&record[path_column]);
        if !path.is_file() {
            return Err(Error::data(table, format!("line {row}: there is no file {}", path.display())));
        }
        let (label, split) = (&record[label_column], &record[split_column]);
        if label.is_empty() {
            return Err(Error::data(table, format!("line {row}: expected a label, found none")));
        }
        let split = Split::from_name(split).ok_or_else(|| {
            Error::data(table, format!("line {row}: expected a split of train, test, query or gallery, found `{split}`"))
        })?;
        builder.push(label, split, Source::File(path));
    }
    builder.finish()
}

fn column(table: &Path, header: &StringRecord, name: &str) -> Result<usize> {
    header.iter().position(|column| column.trim_start_matches('\u{feff}') == name).ok_or_else(|| {
        let found = header.iter().collect::<Vec<_>>().join(",");
        Error::data(table, format!("expected a column `{name}` (path, label and split are needed), found the header `{found}`"))
    })
}

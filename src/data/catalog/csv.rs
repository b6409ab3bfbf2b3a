//! `csv:PATH`: a table with the columns `path`, `label` and `split` (train, test, query or gallery), in any order, among others.
//! Paths are relative to the table's folder. Columns `x1`, `y1`, `x2`, `y2` give the corners of the part of the file that is the image,
//! in pixels; where all four are empty the whole file is. A column `soft_label` gives every image a number, such as a pose or a group, by
//! whose difference negatives may be weighed (`--negative-soft`).

use std::path::{Path, PathBuf};

use ::csv::{ReaderBuilder, StringRecord};

use super::{Entry, path_of};
use crate::data::builder::Builder;
use crate::data::{Dataset, OpenOptions, PixelBox, Protocol, Source, Split};
use crate::error::{Error, Result};
use crate::files::input;

pub(super) const ENTRY: Entry = Entry { name: "csv", usage: "csv:PATH", open };

const CORNERS: [&str; 4] = ["x1", "y1", "x2", "y2"];

fn open(rest: &str, _options: &OpenOptions) -> Result<Dataset> {
    let path = path_of(rest, &ENTRY)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let table = Table::open(path)?;
    let [path_column, label_column, split_column] = ["path", "label", "split"].map(|name| table.column(name));
    let (path_column, label_column, split_column) = (path_column?, label_column?, split_column?);
    let corners = corner_columns(&table)?;
    let soft_column = table.column("soft_label").ok();

    let mut builder = Builder::new(path, Protocol::default());
    for row in table.rows() {
        let path = folder.join(row.field(path_column));
        if !path.is_file() {
            return Err(row.malformed(format!("there is no file {}", path.display())));
        }
        let (label, split) = (row.field(label_column), row.field(split_column));
        if label.is_empty() {
            return Err(row.malformed("expected a label, found none".to_owned()));
        }
        let split = Split::from_name(split)
            .ok_or_else(|| row.malformed(format!("expected a split of train, test, query or gallery, found `{split}`")))?;
        let part = corners.map(|columns| part(&row, columns)).transpose()?.flatten();
        builder.push_part(label, split, Source::File(path), part);
        if let Some(column) = soft_column {
            builder.push_soft_label(soft_label(&row, column)?);
        }
    }
    builder.finish()
}

fn soft_label(row: &Row<'_>, column: usize) -> Result<f32> {
    let found = row.field(column);
    let number = found.parse::<f32>().ok().filter(|number| number.is_finite());
    number.ok_or_else(|| row.malformed(format!("expected a number as soft_label, found `{found}`")))
}

/// The columns of the corners: all four, or none.
fn corner_columns(table: &Table) -> Result<Option<[usize; 4]>> {
    if CORNERS.iter().all(|name| table.column(name).is_err()) {
        return Ok(None);
    }
    let [x1, y1, x2, y2] = CORNERS.map(|name| table.column(name));
    Ok(Some([x1?, y1?, x2?, y2?]))
}

fn part(row: &Row<'_>, columns: [usize; 4]) -> Result<Option<PixelBox>> {
    let fields = columns.map(|column| row.field(column));
    if fields.iter().all(|field| field.is_empty()) {
        return Ok(None);
    }
    let corners = fields.map(|field| field.parse::<f64>().ok().filter(|corner| corner.is_finite()));
    let part = match corners {
        [Some(x1), Some(y1), Some(x2), Some(y2)] => PixelBox::from_corners([x1, y1, x2, y2]),
        _ => None,
    };
    let found = fields.join(",");
    part.map(Some).ok_or_else(|| row.malformed(format!("expected corners x1,y1,x2,y2 with x1 < x2 and y1 < y2, found `{found}`")))
}

/// A table with a header.
pub(super) struct Table {
    path: PathBuf,
    header: StringRecord,
    rows: Vec<StringRecord>,
}

impl Table {
    pub fn open(path: &Path) -> Result<Self> {
        let file = input::open(path)?;
        let mut reader = ReaderBuilder::new().trim(::csv::Trim::All).from_reader(file);
        let malformed = |error: ::csv::Error| Error::data(path, error.to_string());
        let header = reader.headers().map_err(malformed)?.clone();
        let rows = reader.records().collect::<Result<_, _>>().map_err(malformed)?;
        Ok(Self { path: path.to_owned(), header, rows })
    }

    /// The position of the column of that name.
    pub fn column(&self, name: &str) -> Result<usize> {
        self.header.iter().position(|column| column.trim_start_matches('\u{feff}') == name).ok_or_else(|| {
            let found = self.header.iter().collect::<Vec<_>>().join(",");
            Error::data(&self.path, format!("expected a column `{name}`, found the header `{found}`"))
        })
    }

    pub fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.rows.iter().map(|record| Row { table: &self.path, record })
    }
}

/// A row of a table.
pub(super) struct Row<'a> {
    table: &'a Path,
    record: &'a StringRecord,
}

impl Row<'_> {
    pub fn field(&self, column: usize) -> &str {
        &self.record[column]
    }

    pub fn malformed(&self, reason: String) -> Error {
        let line = self.record.position().map_or(0, |position| position.line());
        Error::data(self.table, format!("line {line}: {reason}"))
    }
}

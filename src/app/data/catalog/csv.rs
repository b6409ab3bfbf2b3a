//! `csv:PATH`: a table with the columns `path`, `label` and `split` (train, test, query or gallery), in any order, among others. Where
//! images are only embedded, `path` is enough.
//! Paths are relative to the table's folder; names that are not UTF-8 are written as [`name::text_of`] does. Columns `x1`, `y1`, `x2`,
//! `y2` give the corners of the part of the file that is the image, in pixels; where all four are empty the whole file is. A column `soft_label` gives every image a number, such as a pose or a group, by
//! whose difference negatives may be weighed (`--negative-soft`).

use std::io::ErrorKind;
use std::path::Path;

use super::paths::NO_CLASS;
use super::table::{Row, Table};
use super::{Entry, path_of};
use crate::app::data::builder::Builder;
use crate::app::data::{Dataset, Labels, OpenOptions, PixelBox, Protocol, Source, Split};
use crate::error::{Error, Result};
use crate::files::{input, name};

pub(super) const ENTRY: Entry = Entry { name: "csv", usage: "csv:PATH", open };

const CORNERS: [&str; 4] = ["x1", "y1", "x2", "y2"];

fn open(rest: &str, options: &OpenOptions) -> Result<Dataset> {
    let path = path_of(rest, &ENTRY)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let table = Table::open(path)?;
    let needed = |name: &str| match options.labels {
        Labels::Needed => table.column(name).map(Some),
        Labels::Optional => table.optional(name),
    };
    let (path_column, label_column, split_column) = (table.column("path")?, needed("label")?, needed("split")?);
    let corners = corner_columns(&table)?;
    let soft_column = table.optional("soft_label")?;

    let mut builder = Builder::new(path, Protocol::default());
    let used = [Some(path_column), label_column, split_column]
        .into_iter()
        .flatten()
        .chain(corners.into_iter().flatten())
        .chain(soft_column);
    let unused = table.unused(&used.collect::<Vec<_>>());
    if !unused.is_empty() && (corners.is_none() || soft_column.is_none()) {
        let known = "path, label and split, x1, y1, x2 and y2 (a box), and soft_label";
        builder.note(format!("columns that are not used: {} (those that are: {known})", unused.join(", ")));
    }
    for row in table.rows() {
        let path = name::listed(folder, row.field(path_column));
        if let Err(error) = input::metadata(&path) {
            return Err(row.malformed(match error {
                Error::Io { source, .. } if source.kind() == ErrorKind::NotFound => format!("there is no file {}", path.display()),
                error => error.to_string(),
            }));
        }
        let label = label_column.map_or(NO_CLASS, |column| row.field(column));
        if label.is_empty() && options.labels == Labels::Needed {
            return Err(row.malformed("expected a label, found none".to_owned()));
        }
        let split = match split_column.map(|column| row.field(column)) {
            Some(split) => Split::from_name(split)
                .ok_or_else(|| row.malformed(format!("expected a split of train, test, query or gallery, found `{split}`")))?,
            None => Split::Test,
        };
        let part = corners.map(|columns| part(&row, columns)).transpose()?.flatten();
        builder.push_part(label, split, Source::File(path), part);
        if let Some(column) = soft_column {
            builder.push_soft_label(soft_label(&row, column)?);
        }
    }
    builder.finish_with(options.labels)
}

fn soft_label(row: &Row<'_>, column: usize) -> Result<f32> {
    let found = row.field(column);
    let number = found.parse::<f32>().ok().filter(|number| number.is_finite());
    number.ok_or_else(|| row.malformed(format!("expected a number as soft_label, found `{found}`")))
}

/// The columns of the corners: all four, or none.
fn corner_columns(table: &Table) -> Result<Option<[usize; 4]>> {
    let [x1, y1, x2, y2] = CORNERS.map(|name| table.optional(name));
    if [x1?, y1?, x2?, y2?].iter().all(Option::is_none) {
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

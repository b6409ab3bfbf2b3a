//! `cars:PATH`: Cars-196 (Krause et al., 2013), a folder with `car_ims/` and `cars_annos.mat`: a MATLAB struct array `annotations` with
//! the fields `relative_im_path` and `class` (from 1) and a cell array `class_names`. A `cars_annos.csv` with the columns
//! `relative_im_path` and `class` does as well. Classes 1 to 98 are trained on, 99 to 196 query each other, whole images without their
//! boxes; the field `test` splits images for classification and is ignored.

mod mat;

use std::collections::HashMap;
use std::path::Path;

use super::{Entry, path_of};
use crate::app::data::builder::Builder;
use crate::app::data::{Dataset, OpenOptions, Protocol, Split};
use crate::error::{Error, Result};
use crate::files::{input, name};

pub(super) const ENTRY: Entry = Entry { name: "cars", usage: "cars:PATH", open };

const MATLAB_FILE: &str = "cars_annos.mat";
const TABLE: &str = "cars_annos.csv";
const LAST_TRAINING_CLASS: usize = 98;

/// Paths with their classes, and the names of the classes, as far as they have one.
type Annotations = (Vec<Car>, Vec<Option<String>>);

/// A labelled path.
struct Car {
    path: String,
    class: usize,
}

fn open(rest: &str, _options: &OpenOptions) -> Result<Dataset> {
    let root = path_of(rest, &ENTRY)?;
    let (matlab, table) = (root.join(MATLAB_FILE), root.join(TABLE));
    let (list, (cars, names)) = if !matlab.is_file() && table.is_file() {
        (TABLE, (read_table(&table)?, Vec::new()))
    } else {
        (MATLAB_FILE, read_matlab(&matlab)?)
    };
    let mut builder = Builder::new(root, Protocol::recall_at(&[1, 2, 4, 8]));
    if list == MATLAB_FILE && table.is_file() {
        builder.note(format!("{MATLAB_FILE} is read; {TABLE} beside it is not used"));
    }
    for Car { path, class } in cars {
        let class_name = class.checked_sub(1).and_then(|index| names.get(index)?.clone()).unwrap_or_else(|| class.to_string());
        let split = if class <= LAST_TRAINING_CLASS { Split::Train } else { Split::Test };
        builder.push_listed(&class_name, split, name::listed(root, &path), list);
    }
    builder.finish()
}

fn read_matlab(path: &Path) -> Result<Annotations> {
    let malformed = |reason: String| Error::data(path, reason);
    let bytes = input::read(path)?;
    let variables = mat::read(&bytes).map_err(malformed)?;
    let variable = |name: &str| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value);
    let annotations =
        variable("annotations").ok_or_else(|| malformed("expected a variable `annotations`, found none".to_owned()))?;
    let field = |name: &str| {
        annotations.field(name).ok_or_else(|| malformed(format!("expected a struct array `annotations` with a field `{name}`")))
    };
    let (paths, classes) = (field("relative_im_path")?, field("class")?);
    let car = |(index, (path, class)): (usize, (&mat::Value, &mat::Value))| {
        let class = class.number().filter(|class| *class >= 1.0 && class.fract() == 0.0);
        let (Some(path), Some(class)) = (path.text(), class) else {
            return Err(malformed(format!("annotation {}: expected a path and a class of 1 or more", index + 1)));
        };
        Ok(Car { path: path.to_owned(), class: class as usize })
    };
    let cars = paths.into_iter().zip(classes).enumerate().map(car).collect::<Result<_>>()?;
    let cells = variable("class_names").map(mat::Value::cells).unwrap_or_default();
    let names: Vec<Option<String>> = cells.iter().map(|name| name.text().map(str::to_owned)).collect();
    let mut called = HashMap::new();
    for (index, name) in names.iter().enumerate().filter_map(|(index, name)| Some((index, name.as_ref()?))) {
        if let Some(other) = called.insert(name, index) {
            let words = format!("expected a name for each class, found `{name}` for {} and {}", other + 1, index + 1);
            return Err(malformed(words));
        }
    }
    Ok((cars, names))
}

fn read_table(path: &Path) -> Result<Vec<Car>> {
    let table = super::table::Table::open(path)?;
    let [path_column, class_column] = [table.column("relative_im_path")?, table.column("class")?];
    table
        .rows()
        .map(|row| {
            let class = row.field(class_column).parse().ok().filter(|class| *class >= 1);
            let class = class
                .ok_or_else(|| row.malformed(format!("expected a class of 1 or more, found `{}`", row.field(class_column))))?;
            Ok(Car { path: row.field(path_column).to_owned(), class })
        })
        .collect()
}

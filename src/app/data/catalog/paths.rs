//! `list:FILE`: paths of images, one a line or, as `find -print0` writes them, each ended by a zero; `list:-`, or `-` alone, is standard
//! input. Such images have neither class nor split: they are embedded and searched, not trained on.

use std::path::{Path, PathBuf};

use super::{Entry, path_of};
use crate::app::data::builder::Builder;
use crate::app::data::{Dataset, Labels, OpenOptions, Protocol, Source, Split};
use crate::error::{Error, Result};
use crate::files::{input, name};

pub(super) const ENTRY: Entry = Entry { name: "list", usage: "list:FILE", open };

/// Of images that nobody has named.
pub(super) const NO_CLASS: &str = "";

fn open(rest: &str, options: &OpenOptions) -> Result<Dataset> {
    let path = path_of(rest, &ENTRY)?;
    if options.labels == Labels::Needed {
        let words = "a list of paths has no classes; `embed` and `index` take it, training and scores need a csv with the columns path, \
                     label and split";
        return Err(Error::data(path, words));
    }
    // Paths are as the reader of the list would open them: of a file relative to it, of standard input to where the command is typed.
    let (bytes, folder) = match rest {
        input::STANDARD_INPUT => (input::standard_input()?.to_vec(), Path::new("")),
        _ => (input::read(path)?, path.parent().unwrap_or(Path::new(""))),
    };
    let separator = if bytes.contains(&0) { 0 } else { b'\n' };
    let mut builder = Builder::new(path, Protocol::default());
    for line in bytes.split(|byte| *byte == separator) {
        let line = String::from_utf8_lossy(line);
        let line = if separator == 0 { &line } else { line.trim_end_matches('\r') };
        if !line.is_empty() {
            builder.push_listed(NO_CLASS, Split::Test, name::listed(folder, line), "the list");
        }
    }
    builder.finish_with(options.labels)
}

/// Images in these files.
pub fn of_files(files: Vec<PathBuf>) -> Dataset {
    let mut builder = Builder::new(Path::new(input::STANDARD_INPUT), Protocol::default());
    files.into_iter().for_each(|file| builder.push(NO_CLASS, Split::Test, Source::File(file)));
    builder.unchecked()
}

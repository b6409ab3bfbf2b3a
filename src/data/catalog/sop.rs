//! `sop:PATH`: Stanford Online Products (Song et al., CVPR 2016), a folder with `Ebay_train.txt` and `Ebay_test.txt`, each with the
//! header `image_id class_id super_class_id path` and ids from 1. Test images query all other test images.

use std::fs;
use std::path::Path;

use super::{Entry, path_of};
use crate::data::{Builder, Dataset, OpenOptions, Source, Split};
use crate::error::{Error, Result};

pub(super) const ENTRY: Entry = Entry { name: "sop", usage: "sop:PATH", open };

const HEADER: [&str; 4] = ["image_id", "class_id", "super_class_id", "path"];

fn open(rest: &str, _options: &OpenOptions) -> Result<Dataset> {
    let root = path_of(rest, &ENTRY)?;
    let mut builder = Builder::new(String::new(), root);
    read_list(&mut builder, root, "Ebay_train.txt", Split::Train)?;
    read_list(&mut builder, root, "Ebay_test.txt", Split::Test)?;
    builder.finish()
}

fn read_list(builder: &mut Builder, root: &Path, name: &str, split: Split) -> Result<()> {
    let list = root.join(name);
    let text = fs::read_to_string(&list).map_err(Error::io(&list))?;
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    if !header.split_whitespace().eq(HEADER) {
        return Err(Error::data(list, format!("line 1: expected the header `{}`, found `{header}`", HEADER.join(" "))));
    }
    for (row, line) in lines.enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let &[_, class, _, path] = fields.as_slice() else {
            let reason = format!("line {}: expected 4 fields ({}), found {}: `{line}`", row + 2, HEADER.join(" "), fields.len());
            return Err(Error::data(list, reason));
        };
        if !class.parse::<u32>().is_ok_and(|id| id >= 1) {
            return Err(Error::data(list, format!("line {}: expected a class id of 1 or more, found `{class}`", row + 2)));
        }
        let path = root.join(path);
        if path.is_file() {
            builder.push(class, split, Source::File(path));
        } else {
            builder.skip(path, format!("listed in {name}, but there is no such file"));
        }
    }
    Ok(())
}

//! `sop:PATH`: Stanford Online Products (Song et al., CVPR 2016), a folder with `Ebay_train.txt` and `Ebay_test.txt`, each with the
//! header `image_id class_id super_class_id path` and ids from 1. Test images query all other test images.

use std::path::Path;

use super::list::List;
use super::{Entry, path_of};
use crate::app::data::builder::Builder;
use crate::app::data::{Dataset, OpenOptions, Protocol, Split};
use crate::error::Result;

pub(super) const ENTRY: Entry = Entry { name: "sop", usage: "sop:PATH", open };

const HEADER: [&str; 4] = ["image_id", "class_id", "super_class_id", "path"];

fn open(rest: &str, _options: &OpenOptions) -> Result<Dataset> {
    let root = path_of(rest, &ENTRY)?;
    let mut builder = Builder::new(root, Protocol::recall_at(&[1, 10, 100, 1000]));
    read_list(&mut builder, root, "Ebay_train.txt", Split::Train)?;
    read_list(&mut builder, root, "Ebay_test.txt", Split::Test)?;
    builder.finish()
}

fn read_list(builder: &mut Builder, root: &Path, name: &str, split: Split) -> Result<()> {
    let list = List::read(root.join(name))?;
    list.expect_header(1, &HEADER)?;
    for row in list.rows(1, HEADER) {
        let (line, [_, class, _, path]) = row?;
        list.number(line, "class id", 1, class)?;
        builder.push_listed(class, split, root.join(path), name);
    }
    Ok(())
}

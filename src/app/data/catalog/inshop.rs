//! `inshop:PATH`: DeepFashion's In-Shop Clothes Retrieval (Liu et al., CVPR 2016), a folder with `Eval/list_eval_partition.txt`: the
//! number of images, the header `image_name item_id evaluation_status`, then rows aligned with several spaces. Image names begin with
//! `img/`, which is unpacked beside `Eval/` or inside `Img/`. Queries search the gallery.

use std::path::{Path, PathBuf};

use super::list::List;
use super::{Entry, path_of};
use crate::app::data::builder::Builder;
use crate::app::data::{Dataset, OpenOptions, Protocol, Split};
use crate::error::{Error, Result};
use crate::files::name;

pub(super) const ENTRY: Entry = Entry { name: "inshop", usage: "inshop:PATH", open };

const LIST: &str = "list_eval_partition.txt";
const HEADER: [&str; 3] = ["image_name", "item_id", "evaluation_status"];

fn open(rest: &str, _options: &OpenOptions) -> Result<Dataset> {
    let root = path_of(rest, &ENTRY)?;
    let list = List::read(root.join("Eval").join(LIST))?;
    let mut builder = Builder::new(root, Protocol::recall_at(&[1, 10, 20, 30, 40, 50]));
    let images = image_root(root);
    let root_note = format!("images are read from {}", images.join("img").display());
    let unused = if images.join("img_highres").is_dir() { "; img_highres beside it is not used" } else { "" };
    builder.note(root_note + unused);
    list.expect_header(2, &HEADER)?;
    let mut rows = 0;
    for row in list.rows(2, HEADER) {
        let (line, [path, item, status]) = row?;
        let split = Split::from_name(status).filter(|split| *split != Split::Test).ok_or_else(|| {
            list.malformed(line, format!("expected the evaluation status train, query or gallery, found `{status}`"))
        })?;
        builder.push_listed(item, split, name::listed(&images, path), LIST);
        rows += 1;
    }
    let (_, [count]) = list.rows(0, ["number of images"]).next().unwrap_or(Ok((1, [""])))?;
    let count = list.number(1, "number of images", 1, count)?;
    if count != rows {
        return Err(Error::data(list.path(), format!("truncated or added to: line 1 promises {count} images, found {rows}")));
    }
    builder.finish()
}

/// The folder that holds `img/`.
fn image_root(root: &Path) -> PathBuf {
    let inside = root.join("Img");
    if inside.join("img").is_dir() { inside } else { root.to_owned() }
}

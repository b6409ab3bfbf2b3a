//! `cub:PATH`: Caltech-UCSD Birds-200-2011 (Wah et al., 2011), a folder with `images.txt` (`id path`), `image_class_labels.txt`
//! (`id class`), ids and classes from 1, `images/`, and `classes.txt` with the names of the classes. Classes 1 to 100 are trained on,
//! 101 to 200 query each other, whole images without their boxes; `train_test_split.txt` splits images for classification and is
//! ignored.

use std::collections::HashMap;

use super::list::List;
use super::{Entry, path_of};
use crate::app::data::builder::Builder;
use crate::app::data::{Dataset, OpenOptions, Protocol, Split};
use crate::error::Result;

pub(super) const ENTRY: Entry = Entry { name: "cub", usage: "cub:PATH", open };

const LAST_TRAINING_CLASS: u64 = 100;

fn open(rest: &str, _options: &OpenOptions) -> Result<Dataset> {
    let root = path_of(rest, &ENTRY)?;
    let images = List::read(root.join("images.txt"))?;
    let labels = List::read(root.join("image_class_labels.txt"))?;
    let mut class_of = HashMap::new();
    for row in labels.rows(0, ["image_id", "class_id"]) {
        let (line, [image, class]) = row?;
        labels.number(line, "class id", 1, class)?;
        if let Some(other) = class_of.insert(image, class).filter(|other| *other != class) {
            return Err(labels.malformed(line, format!("expected one class of image {image}, found {other} and {class}")));
        }
    }
    let names = List::read(root.join("classes.txt"))?;
    let (mut name_of, mut class_called) = (HashMap::new(), HashMap::new());
    for row in names.rows(0, ["class_id", "class_name"]) {
        let (line, [class, name]) = row?;
        if let Some(other) = class_called.insert(name, class).filter(|other| *other != class) {
            return Err(names.malformed(line, format!("expected a name for each class, found `{name}` for {other} and {class}")));
        }
        name_of.insert(class, name);
    }
    let mut builder = Builder::new(root, Protocol::recall_at(&[1, 2, 4, 8]));
    for row in images.rows(0, ["image_id", "image_name"]) {
        let (line, [image, path]) = row?;
        let missing =
            |what: &str, list: &List| images.malformed(line, format!("expected {what} in {}, found none", list.path().display()));
        let class = *class_of.get(image).ok_or_else(|| missing(&format!("the class of image {image}"), &labels))?;
        let name: &str = name_of.get(class).ok_or_else(|| missing(&format!("the name of class {class}"), &names))?;
        let training = class.parse::<u64>().is_ok_and(|class| class <= LAST_TRAINING_CLASS);
        let split = if training { Split::Train } else { Split::Test };
        builder.push_listed(name, split, root.join("images").join(path), "images.txt");
    }
    builder.finish()
}

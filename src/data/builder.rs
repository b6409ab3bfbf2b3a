//! Collects the images of a layout.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::{Dataset, ImageRecord, PixelBox, Protocol, Source, Split};
use crate::error::{Error, Result};

/// Gives classes dense labels, in the order in which they are first seen, and checks at the end that the whole can be used.
pub(super) struct Builder {
    root: PathBuf,
    labels: HashMap<String, i32>,
    dataset: Dataset,
}

impl Builder {
    pub fn new(root: &Path, protocol: Protocol) -> Self {
        let dataset = Dataset {
            name: String::new(),
            images: Vec::new(),
            classes: Vec::new(),
            soft_labels: Vec::new(),
            protocol,
            skipped: Vec::new(),
            split_is_drawn: false,
        };
        Self { root: root.to_owned(), labels: HashMap::new(), dataset }
    }

    pub fn push(&mut self, class: &str, split: Split, source: Source) {
        self.push_part(class, split, source, None);
    }

    pub fn push_part(&mut self, class: &str, split: Split, source: Source, part: Option<PixelBox>) {
        let label = match self.labels.get(class) {
            Some(&label) => label,
            None => {
                let label = self.dataset.classes.len() as i32;
                self.labels.insert(class.to_owned(), label);
                self.dataset.classes.push(class.to_owned());
                label
            }
        };
        self.push_labelled(label, split, source, part);
    }

    /// For a layout that numbers its classes itself: their names, in the order of the labels.
    pub fn name_classes(&mut self, names: Vec<String>) {
        self.dataset.classes = names;
    }

    /// The label must be that of a named class.
    pub fn push_labelled(&mut self, label: i32, split: Split, source: Source, part: Option<PixelBox>) {
        self.dataset.images.push(ImageRecord { source, part, label, split });
    }

    /// An image file that the file `list` names, or a skip if it is not there.
    pub fn push_listed(&mut self, class: &str, split: Split, path: PathBuf, list: &str) {
        if path.is_file() {
            self.push(class, split, Source::File(path));
        } else {
            self.skip(path, format!("listed in {list}, but there is no such file"));
        }
    }

    /// Of the image pushed last; every image has one, or none has.
    pub fn push_soft_label(&mut self, label: f32) {
        self.dataset.soft_labels.push(label);
    }

    /// The data has no split of its own: its classes were divided by the options.
    pub fn split_is_drawn(&mut self) {
        self.dataset.split_is_drawn = true;
    }

    pub fn skip(&mut self, path: PathBuf, reason: impl Into<String>) {
        self.dataset.skipped.push((path, reason.into()));
    }

    pub fn finish(self) -> Result<Dataset> {
        let Dataset { images, classes, skipped, .. } = &self.dataset;
        let has = |split| images.iter().any(|image| image.split == split);
        let reason = if images.is_empty() {
            let first = skipped.first().map_or(String::new(), |(path, why)| {
                format!("; the first of {} left out: {} ({why})", skipped.len(), path.display())
            });
            format!("expected images, found none{first}")
        } else if classes.len() < 2 {
            format!("expected at least two classes, found one ({}): nothing could be told apart", classes[0])
        } else if has(Split::Query) != has(Split::Gallery) {
            let (there, missing) = if has(Split::Query) { ("query", "gallery") } else { ("gallery", "query") };
            format!("found {there} images but no {missing} images: a query split needs a gallery split")
        } else if has(Split::Test) && has(Split::Query) {
            "found both test and query/gallery images: use one protocol or the other".to_owned()
        } else {
            return Ok(self.dataset);
        };
        Err(Error::data(self.root, reason))
    }
}

//! Collects the images of a layout.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::survey;
use super::{DEFAULT_MAX_MEGAPIXELS, Dataset, ImageRecord, Labels, PixelBox, Protocol, Source, Split};
use crate::error::{Error, Result};
use crate::files::input;

/// Kinds of files left out that are named where nothing else was found.
const KINDS_NAMED: usize = 8;

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
            notes: Vec::new(),
            max_megapixels: DEFAULT_MAX_MEGAPIXELS,
            first_frames: Arc::default(),
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
        match input::metadata(&path) {
            Ok(_) => self.push(class, split, Source::File(path)),
            Err(Error::Data { reason, .. }) => self.skip(path, reason),
            Err(_) => self.skip(path, format!("listed in {list}, but there is no such file")),
        }
    }

    /// Of the image pushed last; every image has one, or none has.
    pub fn push_soft_label(&mut self, label: f32) {
        self.dataset.soft_labels.push(label);
    }

    /// Something worth knowing that changes nothing.
    pub fn note(&mut self, words: impl Into<String>) {
        self.dataset.notes.push(words.into());
    }

    /// The data has no split of its own: its classes were divided by the options.
    pub fn split_is_drawn(&mut self) {
        self.dataset.split_is_drawn = true;
    }

    pub fn skip(&mut self, path: PathBuf, reason: impl Into<String>) {
        self.dataset.skipped.push((path, reason.into()));
    }

    /// For training and scores.
    pub fn finish(self) -> Result<Dataset> {
        self.finish_with(Labels::Needed)
    }

    pub fn unchecked(self) -> Dataset {
        self.dataset
    }

    pub fn finish_with(self, labels: Labels) -> Result<Dataset> {
        let Dataset { images, classes, .. } = &self.dataset;
        let has = |split| images.iter().any(|image| image.split == split);
        let reason = if !images.is_empty() && labels == Labels::Optional {
            return Ok(self.dataset);
        } else if images.is_empty() {
            let skips = survey::skips(&self.dataset);
            let left_out: Vec<String> = skips.iter().take(KINDS_NAMED).map(ToString::to_string).collect();
            let left_out = if left_out.is_empty() { String::new() } else { format!("; left out: {}", left_out.join("; ")) };
            format!("expected images, found none{left_out}")
        } else if classes.len() < 2 {
            let words = "nothing could be told apart; `embed` and `index` take images as they are";
            format!("expected at least two classes, found one ({}): {words}", classes[0])
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

//! Data sets: where images come from, which class and split each belongs to, and how batches of them reach the training loop.
//!
//! Reading order: this file (what a data set is), [`catalog`] (one file per layout), [`decode`] (file to RGB), [`sampler`] (which
//! images form a batch), [`views`] (which part of an image is seen), [`loader`] (decoding ahead of the loop), [`synthetic`] (drawn
//! products, the default data set).

pub mod catalog;
pub mod decode;
pub mod loader;
mod pipeline;
pub mod sampler;
pub mod synthetic;
pub mod views;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
pub use decode::Image;
pub use loader::{Batch, EvaluationBatches, Loader, LoaderOptions};
pub use sampler::{Sampler, SamplerOptions, SamplerReport, Sampling};
pub use views::{CentreView, RandomView};

/// What an image is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// The network is trained on it.
    Train,
    /// It queries, and is found by, every other test image.
    Test,
    /// It queries the gallery.
    Query,
    /// It is found by queries.
    Gallery,
}

impl Split {
    /// The split of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Train, Self::Test, Self::Query, Self::Gallery].into_iter().find(|split| split.name() == name)
    }

    /// The name in label files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "test",
            Self::Query => "query",
            Self::Gallery => "gallery",
        }
    }
}

/// Where the pixels of an image are.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// In an image file.
    File(PathBuf),
    /// Nowhere: they are drawn when asked for.
    Drawn(synthetic::Drawing),
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Drawn(drawing) => drawing.fmt(f),
        }
    }
}

/// One image of a data set; its position in [`Dataset::images`] is its instance id.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageRecord {
    /// Where its pixels are.
    pub source: Source,
    /// Its class: an index into [`Dataset::classes`].
    pub label: i32,
    /// What it is used for.
    pub split: Split,
}

/// What a data set needs to know besides its SPEC.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Share of the classes held out for testing, in `[0, 1]`, where the layout itself does not split. Default 0.5, as in the
    /// protocols of CUB, Cars and SOP.
    pub holdout: f64,
    /// Seed of the choice of held-out classes. It does not change what a synthetic product looks like.
    pub seed: u64,
    /// Edge in pixels of drawn images whose SPEC does not say it. Default 64.
    pub default_image_size: usize,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self { holdout: 0.5, seed: 0, default_image_size: 64 }
    }
}

/// Labelled images, not yet decoded.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// The SPEC it was opened from.
    pub name: String,
    /// Every image of every split.
    pub images: Vec<ImageRecord>,
    /// Names of the classes; a label is an index into it, shared by all splits.
    pub classes: Vec<String>,
    /// Files that were found or listed but not taken, and why.
    pub skipped: Vec<(PathBuf, String)>,
}

impl Dataset {
    /// Opens the data set that `spec` names; see [`catalog::usage`] for the forms it may have.
    ///
    /// # Errors
    /// [`Error::Config`] for an unknown name or option, with a suggestion; [`Error::Data`] and [`Error::Io`] for label files and
    /// folders that are missing or malformed.
    ///
    /// ```
    /// use xbm_fast::data::{Dataset, OpenOptions, Split};
    /// let dataset = Dataset::open("synthetic:classes=8,views=3", &OpenOptions::default())?;
    /// assert_eq!(dataset.indices(Split::Test).len(), 4 * 3);
    /// assert_eq!(dataset.decode(0)?.width, 64);
    /// # Ok::<(), xbm_fast::Error>(())
    /// ```
    pub fn open(spec: &str, options: &OpenOptions) -> Result<Self> {
        catalog::open(spec, options)
    }

    /// Positions of the images of a split, in the order of the data set.
    pub fn indices(&self, split: Split) -> Vec<usize> {
        (0..self.images.len()).filter(|&index| self.images[index].split == split).collect()
    }

    /// Labels of the images at `indices`.
    pub fn labels(&self, indices: &[usize]) -> Vec<i32> {
        indices.iter().map(|&index| self.images[index].label).collect()
    }

    /// Reads (or draws) the image at `index`, upright and in RGB.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read, [`Error::Data`] if it is no intact image.
    pub fn decode(&self, index: usize) -> Result<Image> {
        match &self.images[index].source {
            Source::File(path) => Image::open(path),
            Source::Drawn(drawing) => Ok(drawing.draw()),
        }
    }
}

/// Collects the images of a layout and gives their classes dense labels, in the order in which classes are first named.
struct Builder {
    root: PathBuf,
    labels: HashMap<String, i32>,
    dataset: Dataset,
}

impl Builder {
    fn new(name: String, root: &Path) -> Self {
        let dataset = Dataset { name, images: Vec::new(), classes: Vec::new(), skipped: Vec::new() };
        Self { root: root.to_owned(), labels: HashMap::new(), dataset }
    }

    fn push(&mut self, class: &str, split: Split, source: Source) {
        let label = match self.labels.get(class) {
            Some(&label) => label,
            None => {
                let label = self.dataset.classes.len() as i32;
                self.labels.insert(class.to_owned(), label);
                self.dataset.classes.push(class.to_owned());
                label
            }
        };
        self.dataset.images.push(ImageRecord { source, label, split });
    }

    fn skip(&mut self, path: PathBuf, reason: impl Into<String>) {
        self.dataset.skipped.push((path, reason.into()));
    }

    fn finish(self) -> Result<Dataset> {
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

//! Data sets: where images come from, which class and split each belongs to, and how batches of them reach the training loop.
//!
//! Reading order: this file (what a data set is), [`catalog`] (one file per layout), [`decode`] (file to RGB), [`packed`] (all images
//! in one mapped file), [`sampler`] (which images form a batch), [`loader`] (decoding
//! ahead of the loop), [`survey`] (what is in a data set, in numbers), [`SameImages`] and [`Copies`] (the same picture in more than one
//! place), [`Provenance`] with its [`Listing`] (what a model was trained on), [`synthetic`] (drawn products, the default data set).

mod builder;
pub mod catalog;
mod content;
mod copies;
pub mod decode;
mod frames;
mod image;
mod jpeg;
mod kind;
mod listing;
pub mod loader;
mod novelty;
pub mod packed;
mod pipeline;
mod protocol;
mod provenance;
pub mod sampler;
pub mod survey;
pub mod synthetic;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::files::name;
use crate::rng::Rng;
use crate::words::counted;
pub use content::{Content, SameImages};
pub use copies::{Copies, CopyKind, classes_seen_in_training};
pub use decode::{DEFAULT_MAX_MEGAPIXELS, Decoded, has_image_bytes};
pub use image::{Bytes, Image, PixelBox};
pub use listing::{Changes, Listing};
pub use loader::{Batch, EvaluationBatches, Loader, LoaderOptions, check_unreadable};
pub use novelty::TestClasses;
pub use protocol::Protocol;
pub use provenance::Provenance;
pub use sampler::{Sampler, SamplerOptions, SamplerReport, Sampling};

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
    /// It chooses among the checkpoints of a run: drawn from the training images, never named by a file.
    Validation,
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
            Self::Validation => "validation",
        }
    }
}

/// Where the pixels of an image are.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// In an image file.
    File(PathBuf),
    /// In a packed file.
    Packed(packed::PackedImage),
    /// Nowhere: they are drawn when asked for.
    Drawn(synthetic::Drawing),
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => f.write_str(&name::text_of(path)),
            Self::Packed(image) => image.fmt(f),
            Self::Drawn(drawing) => drawing.fmt(f),
        }
    }
}

/// One image of a data set; its position in [`Dataset::images`] is its instance id.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageRecord {
    /// Where its pixels are.
    pub source: Source,
    /// The part of those pixels that is the image; all of them if none is given.
    pub part: Option<PixelBox>,
    /// Its class: an index into [`Dataset::classes`].
    pub label: i32,
    /// What it is used for.
    pub split: Split,
}

/// What an image has to have to be taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Labels {
    /// A class, of at least two, and a split that can be scored: what training and scores are made of.
    #[default]
    Needed,
    /// Whatever there is: images in any folder, of any class or none.
    Optional,
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
    /// Largest image that is decoded, in millions of pixels. Default [`DEFAULT_MAX_MEGAPIXELS`].
    pub max_megapixels: u32,
    /// What an image has to have to be taken.
    pub labels: Labels,
}

impl Default for OpenOptions {
    fn default() -> Self {
        let (default_image_size, max_megapixels) = (64, DEFAULT_MAX_MEGAPIXELS);
        Self { holdout: 0.5, seed: 0, default_image_size, max_megapixels, labels: Labels::Needed }
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
    /// A number for each image, as the csv's column `soft_label` has it; empty where there is none.
    pub soft_labels: Vec<f32>,
    /// How its test images are scored.
    pub protocol: Protocol,
    /// Files that were found or listed but not taken, and why.
    pub skipped: Vec<(PathBuf, String)>,
    /// What else was noticed while it was opened, in sentences.
    pub notes: Vec<String>,
    /// Largest image that is decoded, in millions of pixels.
    pub max_megapixels: u32,
    /// Images whose files hold more than the frame or page that is used, as far as they were decoded.
    first_frames: Arc<Mutex<BTreeSet<usize>>>,
    /// Whether its classes were divided by [`OpenOptions`], because the data has no split of its own.
    pub split_is_drawn: bool,
}

impl Dataset {
    /// Opens the data set that `spec` names; see [`catalog::usage`] for the forms it may have.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for an unknown name or option, with a suggestion; [`Error::Data`](crate::Error::Data)
    /// and [`Error::Io`](crate::Error::Io) for label files and folders that are missing or malformed.
    ///
    /// ```
    /// use xbm_fast::app::data::{Dataset, OpenOptions, Split};
    /// let dataset = Dataset::open("synthetic:classes=8,views=3", &OpenOptions::default())?;
    /// assert_eq!(dataset.indices(Split::Test).len(), 4 * 3);
    /// assert_eq!(dataset.decode(0)?.width, 64);
    /// # Ok::<(), xbm_fast::Error>(())
    /// ```
    pub fn open(spec: &str, options: &OpenOptions) -> Result<Self> {
        catalog::open(spec, options)
    }

    /// The images at any depth below a folder, each of the class that its own folder names.
    ///
    /// # Errors
    /// A folder that cannot be read, or without images.
    pub fn below(folder: &Path) -> Result<Self> {
        catalog::below(folder)
    }

    /// The images in these files, without classes.
    pub fn of_files(files: Vec<PathBuf>) -> Self {
        catalog::of_files(files)
    }

    /// Takes a share of the training classes, drawn by the seed, for validation: checkpoints and settings can then be chosen without a look
    /// at what tests them.
    ///
    /// # Errors
    /// [`Error::Data`](crate::Error::Data) where that leaves fewer than two classes on either side.
    pub fn hold_out(&mut self, share: f64, seed: u64) -> Result<()> {
        let mut classes: Vec<i32> = self.labels(&self.indices(Split::Train));
        classes.sort_unstable();
        classes.dedup();
        let (total, held_out) = (classes.len(), (classes.len() as f64 * share).round() as usize);
        if held_out < 2 || total < held_out + 2 {
            let advice = match total {
                0..4 => "--validation 0 takes none".to_owned(),
                _ => "--validation 0.5 does both".to_owned(),
            };
            let expected =
                format!("expected --validation to leave two training classes and to hold out two, found {}", share as f32);
            return Err(Error::data(&self.name, format!("{expected} of {}; {advice}", counted(total, "class"))));
        }
        Rng::new(seed).at("validation").shuffle(&mut classes);
        classes.truncate(held_out);
        classes.sort_unstable();
        for image in &mut self.images {
            if image.split == Split::Train && classes.binary_search(&image.label).is_ok() {
                image.split = Split::Validation;
            }
        }
        Ok(())
    }

    /// Makes the validation images the test images, and leaves out those there were.
    pub fn test_on_validation(&mut self) {
        let is_kept = |image: &ImageRecord| matches!(image.split, Split::Train | Split::Validation);
        let kept: Vec<bool> = self.images.iter().map(is_kept).collect();
        let mut keep = kept.iter();
        self.soft_labels.retain(|_| *keep.next().expect("a soft label for each image"));
        self.images.retain(is_kept);
        for image in self.images.iter_mut().filter(|image| image.split == Split::Validation) {
            image.split = Split::Test;
        }
    }

    /// Where the image at `index` is, and what is wrong with it, of the words of an error about it.
    pub fn fault(&self, index: usize, words: &str) -> (String, String) {
        let place = self.name_of(index);
        let reason = words.strip_prefix(&place).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(words).to_owned();
        (place, reason)
    }

    /// Where the image at `index` is, in words.
    pub fn name_of(&self, index: usize) -> String {
        self.images[index].source.to_string()
    }

    /// Name of the class of the image at `index`.
    pub fn class_of(&self, index: usize) -> &str {
        &self.classes[self.images[index].label as usize]
    }

    /// Positions of the images of a split, in the order of the data set.
    pub fn indices(&self, split: Split) -> Vec<usize> {
        (0..self.images.len()).filter(|&index| self.images[index].split == split).collect()
    }

    /// Labels of the images at `indices`.
    pub fn labels(&self, indices: &[usize]) -> Vec<i32> {
        indices.iter().map(|&index| self.images[index].label).collect()
    }

    /// Says, if it is so, that images decoded so far are the first frame or page of several in their file.
    pub fn first_frames(&self) -> Option<String> {
        let found = self.first_frames.lock().unwrap_or_else(PoisonError::into_inner);
        let first = &self.images[*found.first()?].source;
        let (count, verb) = (found.len(), if found.len() == 1 { "image is" } else { "images are" });
        Some(format!("{count} {verb} the first frame or page of a file that holds more, which are not used; the first: {first}"))
    }

    /// Reads (or draws) the image at `index`, upright, in RGB and cut to its part.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if the file cannot be read, [`Error::Data`](crate::Error::Data) if it is no intact image.
    pub fn decode(&self, index: usize) -> Result<Image> {
        let ImageRecord { source, part, .. } = &self.images[index];
        let Decoded { image, several } = match source {
            Source::File(path) => Decoded::open(path, self.max_megapixels)?,
            Source::Packed(image) => image.decode(self.max_megapixels)?,
            Source::Drawn(drawing) => Decoded { image: drawing.draw(), several: false },
        };
        if several {
            self.first_frames.lock().unwrap_or_else(PoisonError::into_inner).insert(index);
        }
        match part {
            Some(part) => image.cut(*part, source.to_string().as_ref()),
            None => Ok(image),
        }
    }
}

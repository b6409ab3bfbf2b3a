//! `folder:PATH`: one sub-folder per class, either below `train/` and `test/` (or `query/` and `gallery/`), or as one tree whose
//! classes are split at random ([`OpenOptions::holdout`]). Where labels are optional ([`Labels`]) every image below PATH is taken, and its
//! class is the folder it is in.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::{Entry, path_of};
use crate::app::data::builder::Builder;
use crate::app::data::{Dataset, Labels, OpenOptions, Protocol, Source, Split, decode};
use crate::error::{Error, Result};
use crate::files::name;
use crate::rng::Rng;

pub(super) const ENTRY: Entry = Entry { name: "folder", usage: "folder:PATH", open };

fn open(rest: &str, options: &OpenOptions) -> Result<Dataset> {
    let root = path_of(rest, &ENTRY)?;
    let mut builder = Builder::new(root, Protocol::default());
    let top = children(root)?;
    if options.labels == Labels::Optional {
        return all_below(builder, root, &top, options);
    }
    if top.iter().any(|child| split_of(child).is_some()) {
        for child in top {
            match split_of(&child) {
                Some(split) => {
                    for class in children(&child)? {
                        push_class(&mut builder, &class, split)?;
                    }
                }
                None => builder.skip(child, "expected only train/, test/, query/ and gallery/ beside each other"),
            }
        }
        return builder.finish();
    }
    let (classes, others): (Vec<_>, Vec<_>) = top.into_iter().partition(|child| child.is_dir());
    for file in others {
        builder.skip(file, IN_NO_CLASS);
    }
    // A folder without images is no class: it must not change which classes are drawn.
    let (classes, empty): (Vec<_>, Vec<_>) = classes.into_iter().partition(|class| holds_images(class));
    for folder in empty {
        push_class(&mut builder, &folder, Split::Train)?;
    }
    for (class, split) in drawn(&classes, options) {
        push_class(&mut builder, class, split)?;
    }
    builder.split_is_drawn();
    builder.finish()
}

const IN_NO_CLASS: &str = "it is in no class folder, which training and scores need; `embed` and `index` take it as it is";

/// The classes with the splits that the options draw for them.
fn drawn<'a>(classes: &'a [PathBuf], options: &OpenOptions) -> impl Iterator<Item = (&'a PathBuf, Split)> {
    let mut order: Vec<usize> = (0..classes.len()).collect();
    Rng::new(options.seed).at("held-out classes").shuffle(&mut order);
    let held_out = held_out(classes.len(), options.holdout);
    classes.iter().zip(order).map(move |(class, position)| (class, if position < held_out { Split::Test } else { Split::Train }))
}

/// The images at any depth below a folder, each of the class that its own folder names.
pub fn below(folder: &Path) -> Result<Dataset> {
    let options = OpenOptions { labels: Labels::Optional, ..OpenOptions::default() };
    let builder = Builder::new(folder, Protocol::default());
    all_below(builder, folder, &children(folder)?, &options)
}

/// Every image, whatever the folders: those that training would know have the splits that it would give them, all others are test images.
fn all_below(mut builder: Builder, root: &Path, top: &[PathBuf], options: &OpenOptions) -> Result<Dataset> {
    let mut walk = Walk { builder: &mut builder, splits: BTreeMap::new(), entered: BTreeSet::new() };
    if top.iter().any(|child| split_of(child).is_some()) {
        for child in top {
            let (base, split) = split_of(child).map_or((root, Split::Test), |split| (child.as_path(), split));
            walk.take(child, base, split)?;
        }
        return builder.finish_with(options.labels);
    }
    let classes: Vec<PathBuf> = top.iter().filter(|child| child.is_dir() && holds_images(child)).cloned().collect();
    walk.splits = drawn(&classes, options).map(|(class, split)| (class.clone(), split)).collect();
    for child in top {
        walk.take(child, root, Split::Test)?;
    }
    builder.split_is_drawn();
    builder.finish_with(options.labels)
}

/// A walk through folders of any depth.
struct Walk<'a> {
    builder: &'a mut Builder,
    /// Of folders whose images have another split than that of the walk.
    splits: BTreeMap<PathBuf, Split>,
    /// Folders by what they really are: links may lead round.
    entered: BTreeSet<PathBuf>,
}

impl Walk<'_> {
    /// Takes an image, or all images below a folder; the class is the path of the folder below `base`.
    fn take(&mut self, path: &Path, base: &Path, split: Split) -> Result<()> {
        if path.is_dir() {
            if self.entered.insert(path.canonicalize().map_err(Error::io(path))?) {
                children(path)?.iter().try_for_each(|child| self.take(child, base, split))?;
            }
        } else if let Some(reason) = decode::no_image(path) {
            self.builder.skip(path.to_owned(), reason);
        } else {
            let folder = path.parent().unwrap_or(base);
            let class = name::text_of(folder.strip_prefix(base).unwrap_or(folder));
            let split = self.splits.get(folder).copied().unwrap_or(split);
            self.builder.push(&class, split, Source::File(path.to_owned()));
        }
        Ok(())
    }
}

/// How many of `classes` a share of `holdout` is: none at 0, all at 1, and otherwise at least one on either side.
pub(super) fn held_out(classes: usize, holdout: f64) -> usize {
    match (classes as f64 * holdout).round() as usize {
        _ if holdout == 0.0 || classes < 2 => 0,
        _ if holdout == 1.0 => classes,
        share => share.clamp(1, classes - 1),
    }
}

/// The split a top folder stands for: one of the four names, holding folders itself (a class may be named "train" too).
fn split_of(folder: &Path) -> Option<Split> {
    let split = Split::from_name(folder.file_name()?.to_str()?)?;
    children(folder).ok()?.iter().any(|child| child.is_dir()).then_some(split)
}

/// What is in a folder, sorted by name, without hidden files.
fn children(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        if !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn holds_images(folder: &Path) -> bool {
    children(folder).is_ok_and(|children| children.iter().any(|path| !path.is_dir() && decode::no_image(path).is_none()))
}

fn push_class(builder: &mut Builder, folder: &Path, split: Split) -> Result<()> {
    if !folder.is_dir() {
        builder.skip(folder.to_owned(), IN_NO_CLASS);
        return Ok(());
    }
    let class = name::text_of(folder.file_name().unwrap_or_default());
    let mut empty = true;
    for path in children(folder)? {
        if path.is_dir() {
            builder
                .skip(path, "expected images in a class folder, found another folder, whose images only `embed` and `index` take");
        } else if let Some(reason) = decode::no_image(&path) {
            builder.skip(path, reason);
        } else {
            builder.push(&class, split, Source::File(path));
            empty = false;
        }
    }
    if empty {
        builder.skip(folder.to_owned(), "the class folder holds no image");
    }
    Ok(())
}

//! `folder:PATH`: one sub-folder per class, either below `train/` and `test/` (or `query/` and `gallery/`), or as one tree whose
//! classes are split at random ([`OpenOptions::holdout`]).

use std::fs;
use std::path::{Path, PathBuf};

use super::{Entry, path_of};
use crate::app::data::builder::Builder;
use crate::app::data::{Dataset, OpenOptions, Protocol, Source, Split, decode};
use crate::error::{Error, Result};
use crate::files::name;
use crate::rng::Rng;

pub(super) const ENTRY: Entry = Entry { name: "folder", usage: "folder:PATH", open };

fn open(rest: &str, options: &OpenOptions) -> Result<Dataset> {
    let root = path_of(rest, &ENTRY)?;
    let mut builder = Builder::new(root, Protocol::default());
    let top = children(root)?;
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
        builder.skip(file, "it is in no class folder");
    }
    // A folder without images is no class: it must not change which classes are drawn.
    let (classes, empty): (Vec<_>, Vec<_>) = classes.into_iter().partition(|class| holds_images(class));
    for folder in empty {
        push_class(&mut builder, &folder, Split::Train)?;
    }
    let mut order: Vec<usize> = (0..classes.len()).collect();
    Rng::new(options.seed).at("held-out classes").shuffle(&mut order);
    let held_out = held_out(classes.len(), options.holdout);
    for (class, position) in classes.iter().zip(order) {
        push_class(&mut builder, class, if position < held_out { Split::Test } else { Split::Train })?;
    }
    builder.split_is_drawn();
    builder.finish()
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
        builder.skip(folder.to_owned(), "it is in no class folder");
        return Ok(());
    }
    let class = name::text_of(folder.file_name().unwrap_or_default());
    let mut empty = true;
    for path in children(folder)? {
        if path.is_dir() {
            builder.skip(path, "expected images in a class folder, found another folder");
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

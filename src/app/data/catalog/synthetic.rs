//! `synthetic[:classes=..,views=..,size=..,seed=..]`: drawn products; the first half of the classes is for training, the rest for tests.

use std::path::Path;

use super::{Entry, unknown};
use crate::app::data::builder::Builder;
use crate::app::data::synthetic::Drawing;
use crate::app::data::{Dataset, OpenOptions, Protocol, Source, Split};
use crate::error::{Error, Result};

pub(super) const ENTRY: Entry = Entry { name: "synthetic", usage: "synthetic[:classes=N,views=N,size=PIXELS,seed=N]", open };

const DEFAULT_CLASSES: usize = 320;
const DEFAULT_VIEWS: usize = 8;
/// The smallest edge at which parts of a product are still told apart.
const SMALLEST_SIZE: usize = 16;
const LARGEST_SIZE: usize = 1024;
/// Image ids are 32-bit signed integers.
const MOST_IMAGES: usize = i32::MAX as usize;

fn open(rest: &str, options: &OpenOptions) -> Result<Dataset> {
    let (mut classes, mut views, mut size, mut seed) = (DEFAULT_CLASSES, DEFAULT_VIEWS, options.default_image_size, 0);
    for option in rest.split(',').filter(|option| !option.is_empty()) {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        let number = || {
            value.parse::<usize>().map_err(|_| {
                Error::config(format!("synthetic option `{key}`: expected a whole number, as in `{key}=8`, found `{value}`"))
            })
        };
        match key {
            "classes" => classes = number()?,
            "views" => views = number()?,
            "size" => size = number()?,
            "seed" => seed = number()? as u64,
            _ => {
                return Err(Error::config(format!(
                    "synthetic option {}",
                    unknown(option, key, &["classes", "views", "size", "seed"])
                )));
            }
        }
    }
    within("classes", classes, 2, MOST_IMAGES)?;
    within("views", views, 1, MOST_IMAGES / classes)?;
    within("size", size, SMALLEST_SIZE, LARGEST_SIZE)?;
    let mut builder = Builder::new(Path::new("synthetic"), Protocol::default());
    let held_out = super::folder::held_out(classes, options.holdout);
    for class in 0..classes {
        let split = if class < classes - held_out { Split::Train } else { Split::Test };
        for view in 0..views {
            builder.push(&format!("product {class}"), split, Source::Drawn(Drawing { seed, class, view, size }));
        }
    }
    builder.split_is_drawn();
    builder.finish()
}

fn within(option: &str, value: usize, low: usize, high: usize) -> Result<()> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(Error::config(format!("synthetic option `{option}`: expected {low} to {high}, found {value}")))
}

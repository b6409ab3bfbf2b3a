//! `deepfashion2:PATH`: DeepFashion2 (Ge et al., CVPR 2019) as consumer-to-shop retrieval with ground-truth boxes: a folder with
//! `train/` and `validation/`, each with `annos/000001.json` and `image/000001.jpg`. An annotation has `source` (user or shop),
//! `pair_id` and items `item1`, `item2`, ... with `style` and `bounding_box`. Every item of a style above 0 is an image, cut to its
//! box; items of one pair and one style are a class. Users' photographs query those of shops, so that positives are of the other source.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::{Entry, path_of};
use crate::app::data::builder::Builder;
use crate::app::data::{Dataset, OpenOptions, PixelBox, Protocol, Source, Split};
use crate::error::{Error, Result};
use crate::files::input;

pub(super) const ENTRY: Entry = Entry { name: "deepfashion2", usage: "deepfashion2:PATH", open };

const REMARK: &str = "items are cut out by their ground-truth boxes; the official score has to find them with a detector first";

fn open(rest: &str, _options: &OpenOptions) -> Result<Dataset> {
    let root = path_of(rest, &ENTRY)?;
    let mut builder = Builder::new(root, Protocol::recall_at(&[1, 5, 10, 15, 20]).with_remark(REMARK));
    for part in ["train", "validation"] {
        for (annotation, read) in read_annotations(&root.join(part))? {
            match read {
                Ok(photograph) => push_items(&mut builder, part, &annotation, photograph),
                Err(reason) => builder.skip(annotation, reason),
            }
        }
    }
    builder.finish()
}

fn push_items(builder: &mut Builder, part: &str, annotation: &Path, photograph: Photograph) {
    let Some(image) = image_of(annotation) else { return };
    if !image.is_file() {
        return builder.skip(image, "it has an annotation, but there is no such file");
    }
    let split = match (part, photograph.source) {
        ("train", _) => Split::Train,
        (_, Photographer::User) => Split::Query,
        (_, Photographer::Shop) => Split::Gallery,
    };
    for item in photograph.items {
        let Some(bounding_box) = PixelBox::from_corners(item.bounding_box) else {
            builder.skip(image.clone(), "an item's box is empty");
            continue;
        };
        if item.style == 0 {
            builder.skip(image.clone(), "an item of style 0 has no counterpart in the other source");
            continue;
        }
        // Pairs are numbered anew in each part.
        let class = format!("{part} pair {} style {}", photograph.pair_id, item.style);
        builder.push_part(&class, split, Source::File(image.clone()), Some(bounding_box));
    }
}

/// `part/image/000001.jpg` for `part/annos/000001.json`.
fn image_of(annotation: &Path) -> Option<PathBuf> {
    let mut name = annotation.file_stem()?.to_owned();
    name.push(".jpg");
    Some(annotation.parent()?.with_file_name("image").join(name))
}

/// All annotations of a part, in the order of their names, each with what is in it or why that cannot be read.
fn read_annotations(part: &Path) -> Result<Vec<(PathBuf, Result<Photograph, String>)>> {
    let folder = part.join("annos");
    let mut paths = Vec::new();
    for entry in fs::read_dir(&folder).map_err(Error::io(&folder))? {
        let path = entry.map_err(Error::io(&folder))?.path();
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json")) {
            paths.push(path);
        }
    }
    paths.sort();
    let read = |path: &Path| -> Result<Photograph, String> {
        let text = input::read(path).map_err(|error| error.to_string())?;
        serde_json::from_slice(&text).map_err(|error| format!("expected an annotation with source, pair_id and items: {error}"))
    };
    Ok(paths.into_par_iter().map(|path| (path.clone(), read(&path))).collect())
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Photographer {
    User,
    Shop,
}

#[derive(Deserialize)]
struct Item {
    style: u64,
    bounding_box: [f64; 4],
}

struct Photograph {
    source: Photographer,
    pair_id: u64,
    items: Vec<Item>,
}

impl<'de> Deserialize<'de> for Photograph {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PhotographVisitor)
    }
}

/// Reads `item1`, `item2`, ... in the order of the file and passes over everything it does not know.
struct PhotographVisitor;

impl<'de> Visitor<'de> for PhotographVisitor {
    type Value = Photograph;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with source, pair_id and items")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Photograph, M::Error> {
        let (mut source, mut pair_id, mut items) = (None, None, Vec::new());
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "source" => source = Some(map.next_value()?),
                "pair_id" => pair_id = Some(map.next_value()?),
                item if item.starts_with("item") => items.push(map.next_value()?),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        let missing = |field| serde::de::Error::missing_field(field);
        let (source, pair_id) = (source.ok_or_else(|| missing("source"))?, pair_id.ok_or_else(|| missing("pair_id"))?);
        Ok(Photograph { source, pair_id, items })
    }
}

//! Every image of a data set by name, class and split: what a run remembers of its data, and what has changed since.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt;
use std::io::{Read, Write};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use serde::{Deserialize, Serialize};

use xxhash_rust::xxh3::xxh3_64;

use super::{Content, Dataset, PixelBox, Source, Split};

/// Most bytes of a listing's text: a damaged one must not fill the memory.
const MOST_BYTES: u64 = 1 << 32;

/// The images of a data set, in its order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    classes: Vec<String>,
    images: Vec<Listed>,
}

/// Label, split, name and part of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Listed(i32, String, String, Option<PixelBox>);

/// What tells an image of a data set from the others: class, name and part.
type Key = (String, String, Option<PixelBox>);

impl Listing {
    /// Of a data set as it is.
    pub fn of(dataset: &Dataset) -> Self {
        let listed = |index: usize| {
            let image = &dataset.images[index];
            Listed(image.label, image.split.name().to_owned(), relative_name(dataset, index), image.part)
        };
        Self { classes: dataset.classes.clone(), images: (0..dataset.images.len()).map(listed).collect() }
    }

    /// As a short text without line breaks.
    pub fn to_text(&self) -> String {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        let written = serde_json::to_writer(&mut encoder, self).map_err(std::io::Error::from).and_then(|()| encoder.flush());
        written.expect("writing to memory does not fail");
        STANDARD.encode(encoder.finish().expect("writing to memory does not fail"))
    }

    /// Reads that text.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_text(text: &str) -> Result<Self, String> {
        let bytes = STANDARD.decode(text).map_err(|error| error.to_string())?;
        let mut json = Vec::new();
        ZlibDecoder::new(&bytes[..]).take(MOST_BYTES).read_to_end(&mut json).map_err(|error| error.to_string())?;
        let listing: Self = serde_json::from_slice(&json).map_err(|error| error.to_string())?;
        let fits = |Listed(label, split, ..): &Listed| {
            usize::try_from(*label).is_ok_and(|label| label < listing.classes.len()) && Split::from_name(split).is_some()
        };
        if listing.images.iter().all(fits) { Ok(listing) } else { Err("an image without a class or a split".to_owned()) }
    }

    /// A hash of the images, whatever their order and splits.
    pub fn fingerprint(&self) -> Content {
        let mut keys: Vec<Key> = self.images.iter().map(|image| self.key(image)).collect();
        keys.sort_unstable();
        Content(xxh3_64(&serde_json::to_vec(&keys).expect("names and numbers")))
    }

    /// Names of the classes with images in a split.
    pub fn classes_in(&self, split: Split) -> BTreeSet<&str> {
        let inside = self.images.iter().filter(|image| image.1 == split.name());
        inside.map(|image| self.classes[image.0 as usize].as_str()).collect()
    }

    /// Whether an image of `dataset` has the class and the file name of a listed one: it may be in another folder, or packed.
    pub fn shares_an_image(&self, dataset: &Dataset) -> bool {
        let end = |name: &str| name.rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
        let listed: HashSet<(&str, String)> =
            self.images.iter().map(|image| (self.classes[image.0 as usize].as_str(), end(&image.2))).collect();
        (0..dataset.images.len()).any(|index| listed.contains(&(dataset.class_of(index), end(&relative_name(dataset, index)))))
    }

    /// Makes `dataset` what it was when it was listed: the same images in the same order, with the same labels and splits.
    ///
    /// # Errors
    /// What has changed, if images that are listed are gone.
    pub fn restore(&self, mut dataset: Dataset) -> Result<Dataset, Changes> {
        let mut places = places(&dataset);
        let found: Option<Vec<usize>> = self.images.iter().map(|image| places.get_mut(&self.key(image))?.pop_front()).collect();
        let Some(found) = found else { return Err(self.changes(&dataset)) };
        let image = |(&index, Listed(label, split, ..)): (&usize, &Listed)| {
            let mut image = dataset.images[index].clone();
            (image.label, image.split) = (*label, Split::from_name(split).expect("checked when the listing was read"));
            image
        };
        let images = found.iter().zip(&self.images).map(image).collect();
        if !dataset.soft_labels.is_empty() {
            dataset.soft_labels = found.iter().map(|&index| dataset.soft_labels[index]).collect();
        }
        (dataset.images, dataset.classes) = (images, self.classes.clone());
        Ok(dataset)
    }

    /// What is in `dataset` and not in the listing, and the other way round.
    pub fn changes(&self, dataset: &Dataset) -> Changes {
        let mut places = places(dataset);
        let mut changes = Changes::default();
        for image in &self.images {
            if places.get_mut(&self.key(image)).and_then(VecDeque::pop_front).is_none() {
                changes.removed.push(image.2.clone());
            }
        }
        let mut added: Vec<usize> = places.into_values().flatten().collect();
        added.sort_unstable();
        changes.added = added.into_iter().map(|index| relative_name(dataset, index)).collect();
        let (listed, found) = (used_classes(&self.classes, self.images.iter().map(|image| image.0)), dataset.used_classes());
        changes.new_classes = found.difference(&listed).map(|&class| class.to_owned()).collect();
        changes.lost_classes = listed.difference(&found).map(|&class| class.to_owned()).collect();
        changes
    }

    fn key(&self, Listed(label, _, name, part): &Listed) -> Key {
        (self.classes[*label as usize].clone(), name.clone(), *part)
    }
}

impl Dataset {
    /// Names of the classes that have images.
    pub fn used_classes(&self) -> BTreeSet<&str> {
        used_classes(&self.classes, self.images.iter().map(|image| image.label))
    }
}

fn used_classes(classes: &[String], labels: impl Iterator<Item = i32>) -> BTreeSet<&str> {
    labels.map(|label| classes[label as usize].as_str()).collect()
}

/// Where the images of a data set are in it; several may have one name.
fn places(dataset: &Dataset) -> HashMap<Key, VecDeque<usize>> {
    let mut places: HashMap<Key, VecDeque<usize>> = HashMap::new();
    for (index, image) in dataset.images.iter().enumerate() {
        let key = (dataset.class_of(index).to_owned(), relative_name(dataset, index), image.part);
        places.entry(key).or_default().push_back(index);
    }
    places
}

/// The name of an image inside its data set, which may have moved.
fn relative_name(dataset: &Dataset, index: usize) -> String {
    match &dataset.images[index].source {
        Source::File(path) => {
            let root = Path::new(dataset.name.split_once(':').map_or("", |(_, path)| path));
            let beside = root.parent().unwrap_or(root);
            let inside = path.strip_prefix(root).or_else(|_| path.strip_prefix(beside)).unwrap_or(path);
            inside.to_string_lossy().into_owned()
        }
        Source::Packed(image) => image.name().to_owned(),
        Source::Drawn(drawing) => drawing.to_string(),
    }
}

/// How a data set differs from its listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Names of images that are not listed.
    pub added: Vec<String>,
    /// Names of listed images that are gone.
    pub removed: Vec<String>,
    /// Classes of which no image is listed.
    pub new_classes: Vec<String>,
    /// Listed classes of which no image is left.
    pub lost_classes: Vec<String>,
}

impl Changes {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [
            (&self.new_classes, "class", "classes", "added"),
            (&self.lost_classes, "class", "classes", "removed"),
            (&self.added, "image", "images", "added"),
            (&self.removed, "image", "images", "removed"),
        ];
        let words = kinds.iter().filter_map(|(names, one, many, what)| {
            let first = names.first()?;
            Some(match names.len() {
                1 => format!("1 {one} {what} ({first})"),
                count => format!("{count} {many} {what} (the first: {first})"),
            })
        });
        f.write_str(&words.collect::<Vec<_>>().join(", "))
    }
}

//! What an image is, whatever its name: a hash of its pixels where it is decoded, of its file's bytes where it is only listed.
//!
//! The hash is XXH3 with 64 bits: among a million images two differ and agree once in thirty million sets. It is written into indexes
//! and checkpoints, so it must not change.

use std::collections::HashMap;
use std::fmt;
use std::io::{Read, Seek, SeekFrom};
use std::str::FromStr;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::{Dataset, Image, Source};
use crate::files::input;

/// Files of one length are told apart by so many of their last bytes before they are read in full.
const TAIL_LEN: u64 = 4096;

/// A hash: of an image's pixels and size, or of what a list holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Content(pub u64);

impl Image {
    /// What it is, whatever its name.
    pub fn content(&self) -> Content {
        Content(xxh3_64_with_seed(&self.rgb, ((self.height as u64) << 32) | self.width as u64))
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Content {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = u64::from_str_radix(text, 16).ok().filter(|_| text.len() == 16);
        number.map(Self).ok_or_else(|| format!("expected a hash of 16 hexadecimal digits, found `{text}`"))
    }
}

impl From<Content> for String {
    fn from(content: Content) -> Self {
        content.to_string()
    }
}

impl TryFrom<String> for Content {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// Which images of a data set are known to be the same picture.
#[derive(Clone, Debug)]
pub struct SameImages {
    /// For each image another one that is the same, ending in one that points to itself.
    same_as: Vec<usize>,
}

impl SameImages {
    /// By their files: those of one length and with the same bytes, hard links and symbolic links among them, and images of a packed
    /// file with the same bytes. Only files of which there are several of a length are read.
    pub fn by_files(dataset: &Dataset) -> Self {
        let mut same = Self { same_as: (0..dataset.images.len()).collect() };
        let listed: Vec<usize> = (0..dataset.images.len()).filter(|&image| !is_drawn(&dataset.images[image].source)).collect();
        let mut groups = divided(vec![listed], |image| {
            let record = &dataset.images[image];
            stated(&record.source).map(|stated| (stated, record.part))
        });
        groups = divided(groups, |image| tail(&dataset.images[image].source));
        groups = divided(groups, |image| whole(&dataset.images[image].source));
        groups.iter().for_each(|group| group.windows(2).for_each(|pair| same.join(pair[0], pair[1])));
        same
    }

    /// Adds what is known of decoded images, by their position in the data set.
    pub fn add(&mut self, contents: impl Iterator<Item = (usize, Content)>) {
        let mut first = HashMap::new();
        for (image, content) in contents {
            let other = *first.entry(content).or_insert(image);
            self.join(other, image);
        }
    }

    /// The images that are not alone, each group in the order of the data set.
    pub fn groups(&self) -> Vec<Vec<usize>> {
        let mut members: HashMap<usize, Vec<usize>> = HashMap::new();
        for image in (0..self.same_as.len()).filter(|&image| self.leader(image) != image) {
            members.entry(self.leader(image)).or_default().push(image);
        }
        let mut groups: Vec<Vec<usize>> = members.into_iter().map(|(leader, rest)| [vec![leader], rest].concat()).collect();
        groups.sort_unstable();
        groups
    }

    /// The first image that is the same.
    pub fn leader(&self, mut image: usize) -> usize {
        while self.same_as[image] != image {
            image = self.same_as[image];
        }
        image
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.leader(one), self.leader(other));
        self.same_as[one.max(other)] = one.min(other);
    }
}

/// Parts of `groups` whose images have the same key, without those that are alone or have none.
fn divided<K: Ord + Send>(groups: Vec<Vec<usize>>, key: impl Fn(usize) -> Option<K> + Sync) -> Vec<Vec<usize>> {
    let mut parts = Vec::new();
    for group in groups {
        let mut keyed: Vec<(K, usize)> = group.into_par_iter().filter_map(|image| Some((key(image)?, image))).collect();
        keyed.sort_unstable();
        let same = keyed.chunk_by(|one, other| one.0 == other.0).filter(|part| part.len() > 1);
        parts.extend(same.map(|part| part.iter().map(|(_, image)| *image).collect::<Vec<usize>>()));
    }
    parts
}

fn is_drawn(source: &Source) -> bool {
    matches!(source, Source::Drawn(_))
}

/// What is known without a look at the bytes: length, and checksum and size where they are stored.
fn stated(source: &Source) -> Option<(u64, u32, [u32; 2])> {
    match source {
        Source::File(path) => Some((input::metadata(path).ok()?.len(), 0, [0; 2])),
        Source::Packed(image) => Some((image.bytes().len() as u64, image.checksum(), image.size())),
        Source::Drawn(_) => None,
    }
}

/// A hash of the last bytes; those of images differ sooner than the first ones.
fn tail(source: &Source) -> Option<u64> {
    let Source::File(path) = source else { return Some(0) };
    let mut file = input::open(path).ok()?;
    let len = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(TAIL_LEN))).ok()?;
    let mut bytes = Vec::new();
    file.take(TAIL_LEN).read_to_end(&mut bytes).ok()?;
    Some(xxh3_64(&bytes))
}

fn whole(source: &Source) -> Option<u64> {
    match source {
        Source::File(path) => Some(xxh3_64(&input::read(path).ok()?)),
        Source::Packed(image) => Some(xxh3_64(&image.bytes())),
        Source::Drawn(_) => None,
    }
}

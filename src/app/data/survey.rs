//! What is in a data set, in numbers, before anyone trains on it for hours.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use super::pipeline::Pipeline;
use super::{Content, Dataset, Protocol, Source, Split, decode};
use crate::error::Result;
use crate::words::counted;

/// Images checked ahead of the reader of the results.
const AHEAD: usize = 64;
/// Images whose size is looked up, at most: their headers are read, and the one in the middle is hardly another with more of them.
const SIZES: usize = 128;
/// Counts of images per class from which on classes are counted together: 1, 2, 3, 4, 5 to 8, 9 to 16, ...
const BINS_FROM: [usize; 10] = [1, 2, 3, 4, 5, 9, 17, 33, 65, 129];

/// What was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Survey {
    /// The SPEC.
    pub name: String,
    /// Images of all splits.
    pub images: usize,
    /// Classes of all splits.
    pub classes: usize,
    /// Images of which only a part is used.
    pub parts: usize,
    /// The splits that have images.
    pub splits: Vec<SplitSurvey>,
    /// Classes that are both trained on and tested.
    pub shared_classes: usize,
    /// How it is scored.
    pub protocol: Protocol,
    /// What was left out, by reason.
    pub skipped: Vec<Skips>,
    /// What else is worth knowing, in sentences.
    pub notes: Vec<String>,
}

/// One split.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SplitSurvey {
    /// Its name in label files.
    pub split: &'static str,
    /// Its images.
    pub images: usize,
    /// Classes that have images in it.
    pub classes: usize,
    /// Fewest images of a class.
    pub min: usize,
    /// Images of the class in the middle (the lower one of two).
    pub median: usize,
    /// Most images of a class.
    pub max: usize,
    /// Number of classes with so many images: `(at least, at most, classes)`, without empty bins.
    pub histogram: Vec<(usize, usize, usize)>,
}

/// Files left out for one reason.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Skips {
    /// Why.
    pub reason: String,
    /// How many.
    pub count: usize,
    /// The first of them.
    pub first: PathBuf,
}

/// How large the images are that are trained on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sides {
    /// Pixels of the shorter side of the one in the middle.
    pub median: u32,
    /// Images whose headers were read.
    pub looked_at: usize,
}

impl Sides {
    /// Of training images spread evenly over the data set; `None` if none of them says its size.
    pub fn of(dataset: &Dataset) -> Option<Self> {
        let training = dataset.indices(Split::Train);
        let evenly = (0..training.len().min(SIZES)).map(|number| training[number * training.len() / training.len().min(SIZES)]);
        let mut sides: Vec<u32> = evenly.filter_map(|index| shorter_side(dataset, index)).collect();
        sides.sort_unstable();
        Some(Self { median: *sides.get(sides.len().saturating_sub(1) / 2)?, looked_at: sides.len() })
    }
}

/// Pixels of the shorter side of an image or of its part, by what its header says.
fn shorter_side(dataset: &Dataset, index: usize) -> Option<u32> {
    let image = &dataset.images[index];
    let [height, width] = match (&image.part, &image.source) {
        (Some(part), _) => [part.bottom - part.top, part.right - part.left],
        (None, Source::File(path)) => decode::size_of(path)?,
        (None, Source::Packed(packed)) => packed.size(),
        (None, Source::Drawn(drawing)) => [drawing.size as u32; 2],
    };
    Some(height.min(width))
}

impl Survey {
    /// Counts what the data set lists; no image is read.
    pub fn new(dataset: &Dataset) -> Self {
        let splits = [Split::Train, Split::Test, Split::Query, Split::Gallery];
        let counts = splits.map(|split| images_per_class(dataset, split));
        let tested = |class: &i32| counts[1..].iter().any(|counts| counts.contains_key(class));
        Self {
            name: dataset.name.clone(),
            images: dataset.images.len(),
            classes: dataset.classes.len(),
            parts: dataset.images.iter().filter(|image| image.part.is_some()).count(),
            shared_classes: counts[0].keys().filter(|class| tested(class)).count(),
            splits: splits.iter().zip(&counts).filter_map(|(split, counts)| SplitSurvey::new(*split, counts)).collect(),
            protocol: dataset.protocol.clone(),
            skipped: skips(dataset),
            notes: dataset.notes.clone(),
        }
    }
}

impl SplitSurvey {
    /// Of the images that are trained on; `None` if there are none.
    pub fn of_training(dataset: &Dataset) -> Option<Self> {
        Self::new(Split::Train, &images_per_class(dataset, Split::Train))
    }

    fn new(split: Split, counts: &BTreeMap<i32, usize>) -> Option<Self> {
        let mut sorted: Vec<usize> = counts.values().copied().collect();
        sorted.sort_unstable();
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let bins = BINS_FROM.iter().enumerate().map(|(index, &from)| {
            let to = BINS_FROM.get(index + 1).map_or(max, |next| next - 1);
            (from, to, sorted.iter().filter(|&&count| (from..=to).contains(&count)).count())
        });
        Some(Self {
            split: split.name(),
            images: sorted.iter().sum(),
            classes: sorted.len(),
            min,
            median: sorted[(sorted.len() - 1) / 2],
            max,
            histogram: bins.filter(|(_, _, classes)| *classes > 0).collect(),
        })
    }
}

fn images_per_class(dataset: &Dataset, split: Split) -> BTreeMap<i32, usize> {
    let mut counts = BTreeMap::new();
    for image in dataset.images.iter().filter(|image| image.split == split) {
        *counts.entry(image.label).or_default() += 1;
    }
    counts
}

/// What a data set left out, by reason, in the order in which reasons first occur.
pub fn skips(dataset: &Dataset) -> Vec<Skips> {
    let mut all: Vec<Skips> = Vec::new();
    for (path, reason) in &dataset.skipped {
        match all.iter_mut().find(|skips| skips.reason == *reason) {
            Some(skips) => skips.count += 1,
            None => all.push(Skips { reason: reason.clone(), count: 1, first: path.clone() }),
        }
    }
    all
}

/// Decodes every image, on `threads` threads, and returns what each is, or why it cannot be used, in the order of the data set. Bytes in
/// packed files are compared with their checksums. `progress` is called after each image.
///
/// # Errors
/// [`Error::Config`](crate::Error::Config) if no thread can be started.
pub fn decode_all(dataset: &Arc<Dataset>, threads: usize, progress: impl Fn()) -> Result<Vec<Result<Content, String>>> {
    let (total, shared) = (dataset.images.len(), dataset.clone());
    let mut checks = Pipeline::start(0..total as u64, threads, AHEAD, move |index| {
        let source = &shared.images[index as usize].source;
        let intact = if let Source::Packed(image) = source { image.verify() } else { Ok(()) };
        let decoded = intact.and_then(|()| shared.decode(index as usize));
        Ok(decoded.map(|image| image.content()).map_err(|error| error.to_string()))
    })?;
    let mut found = Vec::with_capacity(total);
    for _ in 0..total {
        found.push(checks.next().expect("one for each image")?);
        progress();
    }
    Ok(found)
}

/// The images of [`decode_all`] that cannot be used, by their position in the data set, with the reason.
///
/// # Errors
/// As [`decode_all`].
pub fn unreadable(dataset: &Arc<Dataset>, threads: usize, progress: impl Fn()) -> Result<Vec<(usize, String)>> {
    let decoded = decode_all(dataset, threads, progress)?.into_iter().enumerate();
    Ok(decoded.filter_map(|(index, decoded)| Some((index, decoded.err()?))).collect())
}

impl fmt::Display for Survey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} of {}", self.name, counted(self.images, "image"), counted(self.classes, "class"))?;
        if self.parts > 0 {
            let (are, their) = if self.parts == 1 { ("is", "its file") } else { ("are", "their files") };
            writeln!(f, "  {} {are} cut out of {their} by a box", counted(self.parts, "image"))?;
        }
        for split in &self.splits {
            split.fmt(f)?;
        }
        if self.shared_classes > 0 {
            let are = if self.shared_classes == 1 { "is" } else { "are" };
            let shared = counted(self.shared_classes, "class");
            writeln!(f, "  {shared} {are} both trained on and tested: scores will not be about new classes")?;
        }
        let ranks: Vec<String> = self.protocol.recall_at.iter().map(usize::to_string).collect();
        let gallery = self.splits.iter().any(|split| split.split == Split::Gallery.name());
        let search = if gallery { "queries search the gallery" } else { "every test image searches all others" };
        writeln!(f, "  scored by Recall@{}: {search}", ranks.join("/"))?;
        if !self.protocol.remark.is_empty() {
            writeln!(f, "  note: {}", self.protocol.remark)?;
        }
        for note in &self.notes {
            writeln!(f, "  note: {note}")?;
        }
        for skips in &self.skipped {
            writeln!(f, "  left out: {skips}")?;
        }
        Ok(())
    }
}

impl fmt::Display for SplitSurvey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { split, images, classes, min, median, max, .. } = self;
        let (images, of) = (counted(*images, "image"), counted(*classes, "class"));
        writeln!(f, "  {split:<8} {images} of {of}, {min} to {max} a class, median {median}")?;
        for &(from, to, classes) in &self.histogram {
            let images = if from == to { from.to_string() } else { format!("{from}-{to}") };
            // The longest bar, of all classes, has 40 characters.
            let bar = "#".repeat((40 * classes).div_ceil(self.classes));
            writeln!(f, "    {images:>9} {classes:>8} {bar}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Skips {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reason, count, first } = self;
        match count {
            1 => write!(f, "{}: {reason}", first.display()),
            _ => write!(f, "{count} files, the first {}: {reason}", first.display()),
        }
    }
}

//! The same picture in more than one place of a data set: what makes a score flattering, or labels contradict each other.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Dataset, SameImages, Split};

/// How a picture that is there twice misleads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CopyKind {
    /// A test image was trained on.
    TrainedOn,
    /// A query is in the gallery, too.
    QueryInGallery,
    /// A test or gallery image is there more than once.
    TestedTwice,
    /// One picture has two labels.
    TwoClasses,
}

/// The images of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copies {
    /// How they mislead.
    pub kind: CopyKind,
    /// How many images: of the tested ones, or of all that have two labels.
    pub images: usize,
    /// The first of them.
    pub first: String,
    /// Where the same picture is.
    pub same_as: String,
}

impl Copies {
    /// All that are misleading in a data set.
    pub fn find(dataset: &Dataset, same: &SameImages) -> Vec<Self> {
        let groups = same.groups();
        let find = |kind: CopyKind| Self::of_kind(dataset, &groups, kind);
        let kinds = [CopyKind::TrainedOn, CopyKind::QueryInGallery, CopyKind::TestedTwice, CopyKind::TwoClasses];
        kinds.into_iter().filter_map(find).collect()
    }

    /// Test images that a model was trained on, by its record: it knows the pictures, not their names.
    pub fn trained_on(images: usize, first: String) -> Self {
        Self { kind: CopyKind::TrainedOn, images, first, same_as: "an image that the model was trained on".to_owned() }
    }

    fn of_kind(dataset: &Dataset, groups: &[Vec<usize>], kind: CopyKind) -> Option<Self> {
        let (mut images, mut first) = (0, None);
        for group in groups {
            let pairs = misleading(dataset, group, kind);
            images += pairs.len();
            first = first.or(pairs.first().copied());
        }
        let (image, other) = first?;
        let (mut first, mut same_as) = (dataset.name_of(image), dataset.name_of(other));
        if kind == CopyKind::TwoClasses {
            first += &format!(" ({})", dataset.class_of(image));
            same_as += &format!(" ({})", dataset.class_of(other));
        }
        Some(Self { kind, images, first, same_as })
    }
}

/// Of the images of a group those that mislead, each with one that it is the same as.
fn misleading(dataset: &Dataset, group: &[usize], kind: CopyKind) -> Vec<(usize, usize)> {
    let split = |image: usize| dataset.images[image].split;
    let other = |image: usize, fits: &dyn Fn(usize) -> bool| group.iter().copied().find(|&other| other != image && fits(other));
    let found = |image: usize| match kind {
        CopyKind::TrainedOn if !matches!(split(image), Split::Train | Split::Validation) => {
            other(image, &|other| split(other) == Split::Train)
        }
        CopyKind::QueryInGallery if split(image) == Split::Query => other(image, &|other| split(other) == Split::Gallery),
        CopyKind::TestedTwice if matches!(split(image), Split::Test | Split::Gallery) => {
            other(image, &|other| split(other) == split(image))
        }
        CopyKind::TwoClasses => other(image, &|other| dataset.images[other].label != dataset.images[image].label),
        _ => None,
    };
    group.iter().filter_map(|&image| Some((image, found(image)?))).collect()
}

/// Labels of the classes with a test image that is the same as a training image of any class.
pub fn classes_seen_in_training(dataset: &Dataset, same: &SameImages) -> BTreeSet<i32> {
    let groups = same.groups();
    let pairs = groups.iter().flat_map(|group| misleading(dataset, group, CopyKind::TrainedOn));
    pairs.map(|(image, _)| dataset.images[image].label).collect()
}

impl fmt::Display for Copies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, images, first, same_as } = self;
        let (one, many, follows) = match kind {
            CopyKind::TrainedOn => ("test image was", "test images were", "trained on, too, which says nothing about new images"),
            CopyKind::QueryInGallery => {
                ("query is", "queries are", "in the gallery, too, and find themselves; --same-set leaves them out")
            }
            CopyKind::TestedTwice => {
                ("tested image is", "tested images are", "there more than once and find their copies; --same-set leaves those out")
            }
            CopyKind::TwoClasses => ("image is", "images are", "the same pictures under two classes"),
        };
        write!(f, "{images} {} {follows}: {first} is {same_as}", if *images == 1 { one } else { many })
    }
}

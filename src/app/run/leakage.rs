//! What of a test is not new to the encoder: the same pictures in training and test, in queries and gallery, and classes that were trained
//! on.

use super::scoring::TestResult;
use crate::app::data::{Content, Copies, CopyKind, Dataset, SameImages, Split, TestClasses, classes_seen_in_training};
use crate::error::Result;
use crate::group::Group;
use std::collections::BTreeSet;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leakage {
    /// Pictures that are there more than once, by kind.
    pub copies: Vec<Copies>,
    /// How many test classes are new.
    pub classes: TestClasses,
}

impl Leakage {
    /// By the files of a run that is about to train on the training images of `dataset`.
    pub fn of_training(dataset: &Dataset, same: &SameImages) -> Self {
        let trained = trained_classes(dataset);
        let classes = TestClasses::of(dataset, Some(&trained), &classes_seen_in_training(dataset, same));
        Self { copies: Copies::find(dataset, same), classes }
    }

    /// By what test images show, too: `trained` are the classes that were trained on, if they are known, `seen` the pictures.
    pub fn of_result(
        (dataset, same): (&Dataset, &SameImages),
        result: &TestResult,
        trained: Option<&BTreeSet<String>>,
        seen: &BTreeSet<Content>,
    ) -> Self {
        let (mut copies, mut seen_classes) = (Copies::find(dataset, same), classes_seen_in_training(dataset, same));
        let repeated: Vec<usize> =
            result.contents().filter(|(_, content)| seen.contains(content)).map(|(image, _)| image).collect();
        seen_classes.extend(repeated.iter().map(|&image| dataset.images[image].label));
        let listed = copies.iter().find(|copies| copies.kind == CopyKind::TrainedOn).map_or(0, |copies| copies.images);
        if repeated.len() > listed {
            copies.retain(|copies| copies.kind != CopyKind::TrainedOn);
            copies.insert(0, Copies::trained_on(repeated.len(), dataset.name_of(repeated[0])));
        }
        Self { copies, classes: TestClasses::of(dataset, trained, &seen_classes) }
    }
}

impl Leakage {
    /// Where queries and gallery are scored as one set, copies among them mislead no more.
    pub fn leave_out_copies(&mut self) {
        self.copies.retain(|copies| !matches!(copies.kind, CopyKind::QueryInGallery | CopyKind::TestedTwice));
    }
}

/// Names of the classes that a run on `dataset` trains on.
pub fn trained_classes(dataset: &Dataset) -> BTreeSet<String> {
    dataset.indices(Split::Train).into_iter().map(|index| dataset.class_of(index).to_owned()).collect()
}

/// What the training images of a run are, as far as they were decoded: the rest may still be told by its files.
#[derive(Debug)]
pub struct Seen {
    /// By position in the data set.
    taken: Vec<Option<Content>>,
    contents: BTreeSet<Content>,
}

impl Seen {
    /// Of a run over `images` images that has trained on `contents` before it was resumed.
    pub fn new(images: usize, contents: BTreeSet<Content>) -> Self {
        Self { taken: vec![None; images], contents }
    }

    /// An image was in a batch.
    pub fn take(&mut self, image: usize, content: Option<Content>) {
        if self.taken[image].is_none() {
            self.taken[image] = content;
            self.contents.extend(content);
        }
    }

    /// Takes what all ranks have taken.
    pub fn join(&mut self, group: &Group) -> Result<()> {
        if group.is_alone() {
            return Ok(());
        }
        let own: Vec<[u64; 2]> = self.images().map(|(image, content)| [image as u64, content.0]).collect();
        let all = group.concat("the images trained on", &own)?;
        all.into_iter().for_each(|[image, content]| self.take(image as usize, Some(Content(content))));
        Ok(())
    }

    /// Everything trained on, before the run was resumed, too.
    pub fn contents(&self) -> &BTreeSet<Content> {
        &self.contents
    }

    /// Positions of the images trained on since, and what they are.
    pub fn images(&self) -> impl Iterator<Item = (usize, Content)> {
        self.taken.iter().enumerate().filter_map(|(image, taken)| Some((image, (*taken)?)))
    }
}

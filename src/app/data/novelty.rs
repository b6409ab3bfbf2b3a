//! Whether test classes are new to a model: what may be said about its scores.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Dataset, Split};

/// The classes that a model is tested on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TestClasses {
    /// Classes that query.
    pub test_classes: usize,
    /// Those of them that were trained on; unknown for a model that does not record what it was trained on.
    #[serde(rename = "test_classes_trained_on")]
    pub trained_on: Option<usize>,
}

impl TestClasses {
    /// Of a data set: `trained` are names of classes trained on, if they are known, `seen` labels of classes whose images were trained on
    /// under whatever name.
    pub fn of(dataset: &Dataset, trained: Option<&BTreeSet<String>>, seen: &BTreeSet<i32>) -> Self {
        let queries = |split: Split| matches!(split, Split::Test | Split::Query);
        let tested: BTreeSet<i32> = dataset.images.iter().filter(|image| queries(image.split)).map(|image| image.label).collect();
        let was_trained_on = |trained: &BTreeSet<String>| {
            tested.iter().filter(|&label| seen.contains(label) || trained.contains(&dataset.classes[*label as usize])).count()
        };
        Self { test_classes: tested.len(), trained_on: trained.map(was_trained_on) }
    }

    /// What Recall@1 on them may be called.
    pub fn headline(&self) -> String {
        match self.trained_on {
            None => "Recall@1".to_owned(),
            Some(0) => "Recall@1 on classes never trained on".to_owned(),
            Some(all) if all == self.test_classes => "Recall@1 on test images of classes trained on".to_owned(),
            Some(some) => format!("Recall@1 on test images, {some} of {} classes trained on", self.test_classes),
        }
    }
}

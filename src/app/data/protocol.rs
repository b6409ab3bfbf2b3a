//! How a data set's test images are scored by those who publish results on it.

use serde::Serialize;

/// The ranks of a data set, and what to know before comparing with published figures. Whether every test image searches all others
/// or queries search a gallery is said by the splits of the images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Protocol {
    /// Ranks at which recall is reported, ascending.
    pub recall_at: Vec<usize>,
    /// What to know before comparing; usually nothing.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remark: String,
}

impl Protocol {
    /// Recall at these ranks, as others report it.
    pub fn recall_at(ranks: &[usize]) -> Self {
        Self { recall_at: ranks.to_vec(), remark: String::new() }
    }

    /// The same, with something to know before comparing.
    pub fn with_remark(self, remark: &str) -> Self {
        Self { remark: remark.to_owned(), ..self }
    }
}

impl Default for Protocol {
    /// The ranks of Stanford Online Products, for data that nobody has published on.
    fn default() -> Self {
        Self::recall_at(&[1, 10, 100, 1000])
    }
}

//! What a step takes.

use crate::ops::augment::Pixels;

/// The images of one step, as plain pixels and labels; of a rank among several the part of the step's images that is its own,
/// [`crate::group::Group::part`].
#[derive(Clone, Debug)]
pub struct Batch<'a> {
    /// The step, counted from 0, by which its crops are drawn.
    pub step: u64,
    /// Decoded images, of any sizes; as many as the settings' batch size, or this rank's part of it.
    pub images: Vec<Pixels<'a>>,
    /// The class of each.
    pub labels: &'a [i32],
    /// Instance id of each: the same number whenever the same image comes again.
    pub ids: &'a [i32],
}

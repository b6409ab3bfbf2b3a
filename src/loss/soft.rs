//! Soft labels: negatives that are more alike in something other than their class, such as pose or a level of a hierarchy, weigh less.

use super::LARGEST_RATE;
use super::text::{assignments, unreadable};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

const EXAMPLE: &str = "width=1,least=0";

/// The factor on the weight of a negative: from `least` at equal soft labels, growing with their difference, to 1 where they differ by
/// `width` or more. With numbered groups and a width of 1 or less it is `least` within a group and 1 outside.
///
/// ```
/// let soft: xbm_fast::loss::Soft = "width=0.5,least=0.2".parse()?;
/// assert_eq!((soft.factor(3.0, 3.0), soft.factor(3.0, 3.25), soft.factor(3.0, 4.0)), (0.2, 0.6, 1.0));
/// # Ok::<(), xbm_fast::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Soft {
    /// Difference from which a negative has its whole weight.
    pub width: f32,
    /// Share of its weight at equal soft labels; more than 1 pushes them harder.
    pub least: f32,
}

impl Soft {
    /// Whether the width is positive and no weight grows beyond all bounds.
    pub(super) fn is_sound(self) -> bool {
        self.width.is_finite() && self.width > 0.0 && (0.0..=LARGEST_RATE).contains(&self.least)
    }

    /// Of a negative with these soft labels.
    #[inline(always)]
    pub fn factor(self, anchor: f32, row: f32) -> f32 {
        self.least + (1.0 - self.least) * ((anchor - row).abs() / self.width).min(1.0)
    }
}

impl fmt::Display for Soft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "width={},least={}", self.width, self.least)
    }
}

impl FromStr for Soft {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut soft = Self { width: 1.0, least: 0.0 };
        for assignment in assignments(text, EXAMPLE, text) {
            match assignment? {
                ("width", width) => soft.width = width,
                ("least", least) => soft.least = least,
                _ => return Err(unreadable(text, EXAMPLE, "`width` and `least`")),
            }
        }
        if soft.is_sound() { Ok(soft) } else { Err(unreadable(text, EXAMPLE, "a positive width and a least from 0 to 1e6")) }
    }
}

impl TryFrom<String> for Soft {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Soft> for String {
    fn from(soft: Soft) -> Self {
        soft.to_string()
    }
}

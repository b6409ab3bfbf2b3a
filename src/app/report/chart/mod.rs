//! Charts as SVG, without scripts or anything fetched.
//!
//! | file | picture |
//! |---|---|
//! | `lines.rs` | lines over steps: a card of the report |
//! | `weights.rs` | weight curves over the similarities: a card of the report |
//! | `sketch.rs` | weight curves, and the scores of seeds, in a cell of a study's table |
//! | `figure.rs` | weight curves side by side: a file of its own |
//!
//! All of them map values to pixels by `plot.rs` and choose ticks and write numbers by `ticks.rs`. Those of a page take their colours,
//! light and dark, from the classes of its style sheet; a file of its own holds them.

mod card;
mod figure;
mod lines;
mod plot;
mod sketch;
mod ticks;
mod weights;

pub use figure::{Figure, FigureCurve};
pub(super) use lines::{LineChart, Series};
pub(crate) use sketch::{curves_sketch, scores_sketch};
pub(super) use ticks::percent;
pub(super) use weights::weight_chart;

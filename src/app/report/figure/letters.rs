//! Outlines of letters, for pictures made of pixels: those of DejaVu Sans, in a table.

use super::Point;
use std::collections::HashMap;
use std::sync::LazyLock;

/// Units to the size of the letters.
pub(super) const UNITS: f64 = 500.0;
/// Drawn in the place of letters that are not in the table.
const UNKNOWN: char = '?';

/// A letter on a line of text.
#[derive(Debug, Default)]
pub(super) struct Letter {
    /// From this letter to the next.
    pub(super) advance: f64,
    /// To the right and up from the start of the line.
    pub(super) outlines: Vec<Vec<Point>>,
}

static LETTERS: LazyLock<HashMap<char, Letter>> = LazyLock::new(|| {
    let lines = include_str!("letters.txt").lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| read(line).expect("the table is as letters.py wrote it")).collect()
});

fn read(line: &str) -> Option<(char, Letter)> {
    let (code, rest) = line.split_once(' ')?;
    let (advance, outlines) = rest.split_once(' ').unwrap_or((rest, ""));
    let corners = |outline: &str| -> Vec<Point> {
        let numbers: Vec<f64> = outline.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        numbers.chunks_exact(2).map(|corner| (corner[0], corner[1])).collect()
    };
    let outlines = outlines.split('/').map(corners).filter(|outline| !outline.is_empty()).collect();
    Some((char::from_u32(code.parse().ok()?)?, Letter { advance: advance.trim().parse().ok()?, outlines }))
}

/// The letter, or a question mark for one that is not in the table.
pub(super) fn of(letter: char) -> &'static Letter {
    LETTERS.get(&letter).unwrap_or(&LETTERS[&UNKNOWN])
}

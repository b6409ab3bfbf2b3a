//! Plain loops in double precision, and the comparison with them.

use crate::pair_loss::case::{Case, Found};
use crate::support::{assert_close, cpu};
use std::sync::LazyLock;
use xbm_fast::device::{Cpu, Storage};
use xbm_fast::loss::{Curve, Gate, Side};
use xbm_fast::ops::pair_loss::PairLossGeometry;

/// Sums of at most a few thousand 32-bit products of unit rows.
const TOLERANCE: f64 = 2e-5;
/// A similarity this close to a jump of the weight may fall on either side of it.
const BAND: f64 = 1e-5;

/// What the operation is defined to be, row by row; rows with a similarity too close to a jump are not compared.
struct Expected {
    gradient: Vec<f64>,
    row_losses: Vec<f64>,
    kept: Vec<i32>,
    ambiguous: Vec<bool>,
}

fn oracle(case: &Case) -> Expected {
    let PairLossGeometry { anchors, rows, dim } = case.geometry;
    let before = case.before.clone().unwrap_or_else(|| vec![0.0; anchors * dim]);
    let mut expected = Expected {
        gradient: before.iter().map(|&value| f64::from(value)).collect(),
        row_losses: vec![0.0; anchors],
        kept: vec![0; 2 * anchors],
        ambiguous: vec![false; anchors],
    };
    for anchor in 0..anchors {
        for row in 0..rows {
            if case.is_own(anchor, row) {
                continue;
            }
            let s = case.dot(anchor, row);
            let is_positive = case.anchor_labels[anchor] == case.memory_labels[row];
            let side = if is_positive { &case.weighting.positive } else { &case.weighting.negative };
            let weight = f64::from(side.weight(s as f32));
            let loss = if is_positive { side.positive_loss(s as f32) } else { side.negative_loss(s as f32) };
            let sign = if is_positive { -1.0 } else { 1.0 };
            expected.row_losses[anchor] += f64::from(loss);
            expected.kept[2 * anchor + usize::from(!is_positive)] += i32::from(weight != 0.0);
            expected.ambiguous[anchor] |= near_a_jump(side, s);
            for index in 0..dim {
                expected.gradient[anchor * dim + index] +=
                    f64::from(case.scale) * sign * weight * f64::from(case.memory[row * dim + index]);
            }
        }
    }
    expected
}

/// Whether a curve or gate jumps within the band around `s`.
fn near_a_jump(side: &Side, s: f64) -> bool {
    let mut jumps = match side.gate {
        Gate::None => vec![],
        Gate::Above(threshold) | Gate::Below(threshold) => vec![threshold],
    };
    match side.curve {
        Curve::Band { lo, hi } => jumps.extend([lo, hi]),
        Curve::Power { s0, .. } => jumps.push(s0),
        Curve::Table(ref knots) => jumps.extend(knots.iter().map(|knot| knot.0)),
        _ => {}
    }
    jumps.iter().any(|&jump| (s - f64::from(jump)).abs() < BAND)
}

/// Compares with the oracle on one thread, and the bits with those on two, and with those of a second run, whose scratch memory
/// is full of what other cases left.
#[track_caller]
pub fn check(case: &Case) {
    static BACKENDS: LazyLock<[Cpu; 2]> = LazyLock::new(|| [cpu(1), cpu(2)]);
    let found = case.run(&cpu(1)).unwrap();
    for backend in BACKENDS.iter() {
        assert_eq!(found, case.run(backend).unwrap(), "bits on {}", backend.description());
    }
    compare(case, &found);
}

#[track_caller]
fn compare(case: &Case, found: &Found) {
    let expected = oracle(case);
    let dim = case.geometry.dim;
    let clear: Vec<usize> = (0..case.geometry.anchors).filter(|&anchor| !expected.ambiguous[anchor]).collect();
    let rows = |values: &[f32]| clear.iter().flat_map(|&anchor| values[anchor * dim..][..dim].to_vec()).collect::<Vec<_>>();
    let expected_rows: Vec<f64> = clear.iter().flat_map(|&anchor| expected.gradient[anchor * dim..][..dim].to_vec()).collect();
    let at = |values: &[f32]| clear.iter().map(|&anchor| values[anchor]).collect::<Vec<_>>();
    let expected_losses: Vec<f64> = clear.iter().map(|&anchor| expected.row_losses[anchor]).collect();
    for &anchor in &clear {
        assert_eq!(found.kept[2 * anchor..][..2], expected.kept[2 * anchor..][..2], "kept pairs of anchor {anchor}");
    }
    assert_close("gradient", &with_unit(rows(&found.gradient)), &with_unit(expected_rows), TOLERANCE);
    assert_close("row losses", &with_unit(at(&found.row_losses)), &with_unit(expected_losses), TOLERANCE);
}

/// Appends a 1, so that sums which cancel to nearly nothing are not compared relative to nothing.
fn with_unit<T: From<u8>>(mut values: Vec<T>) -> Vec<T> {
    values.push(T::from(1));
    values
}

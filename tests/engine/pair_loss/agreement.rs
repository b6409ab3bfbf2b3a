//! Every curve behind every gate, on sizes that fill blocks, tiles and ranges and on sizes that do not.

use crate::pair_loss::case::{Case, Excluded};
use crate::pair_loss::oracle::check;
use crate::support::{cpu, normals, unit_rows};
use proptest::prelude::*;
use xbm_fast::Error;
use xbm_fast::device::RowPrecision;
use xbm_fast::loss::{Curve, Gate, PairWeighting, Side};

fn curves() -> Vec<Curve> {
    let texts = [
        "constant:0.75",
        "linear:a=1,b=-0.5",
        "power:s0=-0.25,p=2",
        "exp:k=4,s0=0.5",
        "exp:k=-30,s0=0.2",
        "sigmoid:k=20,s0=0.1",
        "sigmoid:k=-0.1,s0=0",
        "band:lo=-0.1,hi=0.2",
        "table:-1=1,-0.1=0,0.1=0,0.5=0.5,1=3",
    ];
    texts.into_iter().map(|text| text.parse().unwrap()).collect()
}

fn gates() -> [Gate; 5] {
    [Gate::None, Gate::Above(0.05), Gate::Below(0.1), Gate::Above(0.9), Gate::Below(-0.9)]
}

fn side() -> impl Strategy<Value = Side> {
    (prop::sample::select(curves()), prop::sample::select(gates().to_vec())).prop_map(|(curve, gate)| Side::new(curve, gate))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_plain_loops(
        (anchors, rows, dim, classes) in (0usize..40, 0usize..400, 1usize..70, 1usize..9),
        (positive, negative) in (side(), side()),
        excluded in prop::sample::select(vec![Excluded::Nothing, Excluded::Slot, Excluded::Instance]),
        scale in prop::sample::select(vec![1.0f32, 0.125, 3.0]),
        accumulate in any::<bool>(),
    ) {
        let mut case = Case::new(anchors, rows, dim, classes);
        case.weighting = PairWeighting { positive, negative };
        (case.scale, case.excluded) = (scale, excluded);
        case.before = accumulate.then(|| normals("before", anchors * dim));
        check(&case);
    }
}

#[test]
fn every_curve_behind_every_gate_on_both_sides() {
    for curve in curves() {
        for gate in gates() {
            let mut case = Case::new(5, 97, 16, 3);
            let gated = Side::new(curve.clone(), gate);
            case.weighting = PairWeighting { positive: gated.clone(), negative: gated };
            check(&case);
        }
    }
}

#[test]
fn more_anchors_rows_and_columns_than_one_block_one_tile_or_one_range() {
    for (anchors, rows, dim) in [(131, 1100, 24), (3, 5000, 33), (1, 600, 2049)] {
        let mut case = Case::new(anchors, rows, dim, 7);
        case.weighting.negative.gate = Gate::Above(0.2);
        check(&case);
        case.weighting.negative.gate = Gate::None;
        case.excluded = Excluded::Instance;
        check(&case);
    }
}

/// Rows around the centres of their classes, of which the first half are near each other: tiles with many hard negatives, and with none.
#[test]
fn int8_pruning_leaves_out_easy_negatives_where_there_are_many_and_where_there_are_few() {
    let (anchors, rows, dim, classes) = (300, 2000, 72, 40);
    let mut case = Case::new(anchors, rows, dim, classes);
    let centres = unit_rows("centres", classes, dim);
    case.memory_labels = (0..rows).map(|row| (row * classes / rows) as i32).collect();
    for (row, values) in case.memory.chunks_mut(dim).enumerate() {
        let class = row * classes / rows;
        let (near, own) = (&centres[..dim], &centres[class * dim..][..dim]);
        for (index, value) in values.iter_mut().enumerate() {
            *value = 0.7 * *value + own[index] + if class < classes / 2 { near[index] } else { 0.0 };
        }
        let norm = values.iter().map(|value| value * value).sum::<f32>().sqrt();
        values.iter_mut().for_each(|value| *value /= norm);
    }
    for anchor in 0..anchors {
        let row = anchor * rows / anchors;
        case.slots[anchor] = row as i32;
        case.anchor_labels[anchor] = case.memory_labels[row];
        case.anchors[anchor * dim..][..dim].copy_from_slice(&case.memory[row * dim..][..dim]);
    }
    check(&case);
    let negatives: Vec<i32> = case.run(&cpu(1)).unwrap().kept.chunks(2).map(|kept| kept[1]).collect();
    let [near, apart] = [0..anchors / 2, anchors / 2..anchors].map(|half| negatives[half].iter().sum::<i32>());
    assert!(near > 10_000 && apart < 100, "hard negatives: {near} and {apart}");
}

#[test]
fn rows_of_16_bit_are_compared_as_the_numbers_they_hold() {
    for (gate, dim) in [(Gate::Above(0.4), 64), (Gate::None, 33)] {
        let mut case = Case::new(70, 1500, dim, 9);
        case.weighting.negative.gate = gate;
        case.memory.iter_mut().for_each(|value| *value = half::f16::from_f32(*value).to_f32());
        let expected = case.run(&cpu(1)).unwrap();
        for precision in [RowPrecision::Compute, RowPrecision::F16] {
            case.stored = Some(precision);
            assert_eq!(case.run(&cpu(2)).unwrap(), expected, "{precision:?}");
        }
        case.memory[1400 * dim + 3] = f32::NAN;
        let error = case.run(&cpu(2)).unwrap_err();
        assert!(matches!(error, Error::NotFinite { what: "memory", row: 1400 }), "{error}");
    }
}

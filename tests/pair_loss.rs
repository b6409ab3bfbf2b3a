//! The pair loss against plain loops in double precision, over ragged sizes, every curve and gate, and every way to be no pair.

mod support;

use proptest::prelude::*;
use std::sync::LazyLock;
use support::{assert_close, buffer, cpu, integer_values, integers, normals, unit_rows, values};
use xbm_fast::Error;
use xbm_fast::backend::{Cpu, Precision, RowPrecision, Span, SpanMut, Storage};
use xbm_fast::ops::pair_loss::{Others, OwnRows, PairLoss, PairLossGeometry, PairLossInputs, PairLossOutputs};
use xbm_fast::rng::Rng;
use xbm_fast::weighting::{Curve, Gate, PairWeighting, Side};

/// Sums of at most a few thousand 32-bit products of unit rows.
const TOLERANCE: f64 = 2e-5;
/// A similarity this close to a jump of the weight may fall on either side of it.
const BAND: f64 = 1e-5;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Excluded {
    Nothing,
    Slot,
    Instance,
}

#[derive(Clone, Debug)]
struct Case {
    geometry: PairLossGeometry,
    weighting: PairWeighting,
    scale: f32,
    anchors: Vec<f32>,
    memory: Vec<f32>,
    anchor_labels: Vec<i32>,
    memory_labels: Vec<i32>,
    excluded: Excluded,
    slots: Vec<i32>,
    anchor_ids: Vec<i32>,
    memory_ids: Vec<i32>,
    before: Option<Vec<f32>>,
    /// Of the memory, where it is one rather than plain numbers.
    stored: Option<RowPrecision>,
}

#[derive(Debug, PartialEq)]
struct Found {
    gradient: Vec<f32>,
    row_losses: Vec<f32>,
    kept: Vec<i32>,
}

impl Case {
    /// Random unit rows of `classes` labels; the anchors are rows of the memory where it has rows.
    fn new(anchors: usize, rows: usize, dim: usize, classes: usize) -> Self {
        let geometry = PairLossGeometry { anchors, rows, dim };
        let mut memory = unit_rows(&format!("memory {rows} {dim}"), rows.max(1), dim);
        let mut rng = Rng::new(1).at("labels").at(rows).at(anchors);
        let memory_labels: Vec<i32> = (0..rows).map(|_| rng.below(classes) as i32).collect();
        let memory_ids: Vec<i32> = (0..rows).map(|_| rng.below(rows.div_ceil(2)) as i32).collect();
        let slots: Vec<i32> = (0..anchors).map(|_| if rows == 0 { -1 } else { rng.below(rows + 1) as i32 - 1 }).collect();
        let from = |slot: i32| slot.max(0) as usize;
        let anchor_rows = slots.iter().flat_map(|&slot| memory[from(slot) * dim..][..dim].to_vec()).collect();
        memory.truncate(rows * dim);
        Self {
            geometry,
            weighting: PairWeighting::contrastive(),
            scale: 1.0,
            anchors: anchor_rows,
            anchor_labels: slots.iter().map(|&slot| memory_labels.get(from(slot)).copied().unwrap_or(0)).collect(),
            anchor_ids: slots.iter().map(|&slot| memory_ids.get(from(slot)).copied().unwrap_or(0)).collect(),
            memory,
            memory_labels,
            memory_ids,
            excluded: Excluded::Slot,
            slots,
            before: None,
            stored: None,
        }
    }

    fn run<B: PairLoss>(&self, backend: &B) -> Result<Found, Error> {
        let PairLossGeometry { anchors, rows, dim } = self.geometry;
        let numbers = [&self.anchors, &self.memory].map(|values| buffer(backend, values));
        let whole = [&self.anchor_labels, &self.memory_labels, &self.slots, &self.anchor_ids, &self.memory_ids];
        let [anchor_labels, memory_labels, slots, anchor_ids, memory_ids] = whole.map(|values| integers(backend, values));
        let own = match self.excluded {
            Excluded::Nothing => OwnRows::None,
            Excluded::Slot => OwnRows::Slot(Span::new(&slots, 0, anchors)),
            Excluded::Instance => {
                OwnRows::Instance { anchors: Span::new(&anchor_ids, 0, anchors), rows: Span::new(&memory_ids, 0, rows) }
            }
        };
        let poison = vec![f32::NAN; anchors * dim];
        let mut gradient = buffer(backend, self.before.as_ref().unwrap_or(&poison));
        let mut row_losses = buffer(backend, &vec![f32::NAN; anchors]);
        let mut stored = backend.zero_rows(rows * dim, self.stored.unwrap_or_default())?;
        backend.upload_rows(&self.memory, SpanMut::new(&mut stored, 0, rows * dim))?;
        let mut kept = integers(backend, &vec![-7; 2 * anchors]);
        let inputs = PairLossInputs {
            anchors: Span::new(&numbers[0], 0, anchors * dim),
            anchor_labels: Span::new(&anchor_labels, 0, anchors),
            memory: match self.stored {
                None => Others::Numbers(Span::new(&numbers[1], 0, rows * dim)),
                Some(_) => Others::Stored(Span::new(&stored, 0, rows * dim)),
            },
            memory_labels: Span::new(&memory_labels, 0, rows),
            own,
            soft: None,
        };
        let outputs = PairLossOutputs {
            gradient: SpanMut::new(&mut gradient, 0, anchors * dim),
            row_losses: SpanMut::new(&mut row_losses, 0, anchors),
            kept: SpanMut::new(&mut kept, 0, 2 * anchors),
        };
        backend.pair_loss(&self.geometry, &self.weighting, self.scale, inputs, outputs, self.before.is_some())?;
        Ok(Found {
            gradient: values(backend, &gradient, anchors * dim),
            row_losses: values(backend, &row_losses, anchors),
            kept: integer_values(backend, &kept, 2 * anchors),
        })
    }

    fn is_own(&self, anchor: usize, row: usize) -> bool {
        match self.excluded {
            Excluded::Nothing => false,
            Excluded::Slot => self.slots[anchor] == row as i32,
            Excluded::Instance => self.anchor_ids[anchor] == self.memory_ids[row],
        }
    }

    /// Whether a curve or gate jumps within the band around `s`.
    fn near_a_jump(&self, side: &Side, s: f64) -> bool {
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

    fn dot(&self, anchor: usize, row: usize) -> f64 {
        let dim = self.geometry.dim;
        let (left, right) = (&self.anchors[anchor * dim..], &self.memory[row * dim..]);
        (0..dim).map(|index| f64::from(left[index]) * f64::from(right[index])).sum()
    }
}

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
            expected.ambiguous[anchor] |= case.near_a_jump(side, s);
            for index in 0..dim {
                expected.gradient[anchor * dim + index] +=
                    f64::from(case.scale) * sign * weight * f64::from(case.memory[row * dim + index]);
            }
        }
    }
    expected
}

/// Compares with the oracle on one thread, and the bits with those on two, and with those of a second run, whose scratch memory
/// is full of what other cases left.
#[track_caller]
fn check(case: &Case) {
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
fn easy_negatives_are_left_out_where_there_are_many_and_where_there_are_few() {
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

#[test]
fn the_rule_reports_one_minus_s_and_s_minus_half() {
    let mut case = Case::new(1, 4, 2, 1);
    case.excluded = Excluded::Nothing;
    case.anchors = vec![1.0, 0.0];
    case.memory = vec![0.75, 0.5, 0.75, 0.5, 0.25, 0.5, 0.5, 0.5];
    (case.anchor_labels, case.memory_labels) = (vec![0], vec![0, 1, 1, 1]);
    let found = case.run(&cpu(1)).unwrap();
    assert_eq!(found.kept, [1, 1]);
    assert_eq!(found.row_losses, [0.25 + 0.25]);
    assert_eq!(found.gradient, [0.0, 0.0]);
}

#[test]
fn an_empty_memory_gives_zeros_or_leaves_what_it_adds_to() {
    let mut case = Case::new(3, 0, 5, 1);
    let found = case.run(&cpu(2)).unwrap();
    assert_eq!(found, Found { gradient: vec![0.0; 15], row_losses: vec![0.0; 3], kept: vec![0; 6] });
    case.before = Some(normals("before", 15));
    assert_eq!(case.run(&cpu(2)).unwrap().gradient, case.before.unwrap());
}

#[test]
fn a_memory_of_one_class_zero_has_only_positives() {
    let mut case = Case::new(6, 50, 12, 1);
    check(&case);
    case.slots = vec![-1; 6];
    assert!(case.run(&cpu(1)).unwrap().kept.chunks(2).all(|kept| kept == [50, 0]));
}

#[test]
fn anchors_of_a_class_the_memory_lacks_have_only_negatives() {
    let mut case = Case::new(6, 50, 12, 2);
    case.anchor_labels = vec![i32::MIN; 6];
    case.weighting.negative.gate = Gate::None;
    case.slots = vec![-1; 6];
    check(&case);
    assert!(case.run(&cpu(1)).unwrap().kept.chunks(2).all(|kept| kept == [0, 50]));
}

#[test]
fn duplicate_rows_are_pairs_unless_they_share_the_instance() {
    let mut case = Case::new(1, 3, 4, 1);
    case.memory = case.anchors.repeat(3);
    (case.slots, case.anchor_ids, case.memory_ids) = (vec![1], vec![8], vec![8, 8, 9]);
    let kept = [Excluded::Nothing, Excluded::Slot, Excluded::Instance].map(|excluded| {
        case.excluded = excluded;
        check(&case);
        case.run(&cpu(1)).unwrap().kept[0]
    });
    assert_eq!(kept, [3, 2, 1]);
}

#[test]
fn a_value_that_is_not_finite_is_named_by_its_row_and_nothing_is_written() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut case = Case::new(4, 700, 9, 3);
        case.memory[650 * 9 + 8] = bad;
        let error = case.run(&cpu(2)).unwrap_err();
        assert!(matches!(error, Error::NotFinite { what: "memory", row: 650 }), "{error}");
        let mut case = Case::new(4, 700, 9, 3);
        case.anchors[2 * 9] = bad;
        let error = case.run(&cpu(2)).unwrap_err();
        assert!(matches!(error, Error::NotFinite { what: "anchors", row: 2 }), "{error}");
    }
}

#[test]
fn a_similarity_that_overflows_is_rejected() {
    let mut case = Case::new(2, 3, 1, 1);
    case.anchors = vec![1.0, 1e30];
    case.memory = vec![1.0, 1e30, 1.0];
    let error = case.run(&cpu(1)).unwrap_err();
    assert!(matches!(error, Error::NotFinite { what: "similarities of the anchors", row: 1 }), "{error}");
}

#[test]
fn wrong_lengths_are_named() {
    let sound = Case::new(3, 5, 4, 2);
    let backend = cpu(1);
    let (anchors, labels) = (buffer(&backend, &sound.anchors), integers(&backend, &sound.anchor_labels));
    let (memory, memory_labels) = (buffer(&backend, &sound.memory), integers(&backend, &sound.memory_labels));
    for short in 0..7 {
        let less = |index: usize, len: usize| len - usize::from(index == short);
        let (mut gradient, mut row_losses) =
            (backend.zeros(12, Precision::Full).unwrap(), backend.zeros(3, Precision::Full).unwrap());
        let mut kept = backend.zero_integers(6).unwrap();
        let inputs = PairLossInputs {
            anchors: Span::new(&anchors, 0, less(0, 12)),
            anchor_labels: Span::new(&labels, 0, less(1, 3)),
            memory: Others::Numbers(Span::new(&memory, 0, less(2, 20))),
            memory_labels: Span::new(&memory_labels, 0, less(3, 5)),
            own: OwnRows::None,
            soft: None,
        };
        let outputs = PairLossOutputs {
            gradient: SpanMut::new(&mut gradient, 0, less(4, 12)),
            row_losses: SpanMut::new(&mut row_losses, 0, less(5, 3)),
            kept: SpanMut::new(&mut kept, 0, less(6, 6)),
        };
        let error = backend.pair_loss(&sound.geometry, &sound.weighting, 1.0, inputs, outputs, false).unwrap_err();
        let what = ["anchors", "anchor labels", "memory", "memory labels", "gradient", "row losses", "kept counts"][short];
        assert!(error.to_string().starts_with(&format!("{what}: expected")), "{error}");
    }
}

#[test]
fn settings_out_of_range_are_rejected() {
    let sound = Case::new(3, 5, 4, 2);
    let message = |spoil: fn(&mut Case)| {
        let mut case = sound.clone();
        spoil(&mut case);
        case.run(&cpu(1)).unwrap_err().to_string()
    };
    assert!(message(|case| case.weighting.negative.gate = Gate::Above(1.5)).contains("above:1.5"));
    assert!(message(|case| case.weighting.positive.curve = Curve::Constant(f32::NAN)).contains("finite"));
}

//! The published losses on both backends against PyTorch's autograd (`golden/published_losses.txt`, written by `golden/published_losses.py`), and
//! what no loss uses against plain loops. The GPU is a real one or the software GPU.

use crate::support::{assert_close, buffer, cpu, cuda, integer_values, integers, on_gpu, unit_rows, values};
use proptest::prelude::*;
use std::collections::HashMap;
use xbm_fast::device::cuda::{PairLossPath, Precision};
use xbm_fast::device::{NumberFormat, Span, SpanMut};
use xbm_fast::loss::{Mining, Named, Normalization, PairWeighting, Side};
use xbm_fast::ops::pair_loss::{
    CompareWith, PairLoss, PairLossCall, PairLossGeometry, PairLossInputs, PairLossOutputs, SelfPairMask, SoftLabels,
};
use xbm_fast::rng::Rng;

/// Single precision. A circle's exponents reach 100 and more, and their rounding is that of the weight.
const TOLERANCE: f64 = 2e-5;
/// Sums of hundreds of single-precision weights, divided by one another.
const LOOPS: f64 = 2e-5;
/// Weights rounded to 11 bits.
const WEIGHTS_IN_16_BIT: f64 = 1e-3;
const DIM: usize = 8;
/// Rows take turns at having one of these, or none.
const SOFT_LABELS: [f32; 6] = [0.0, 0.25, 0.5, 1.0, 2.5, -1.0];

type Golden = HashMap<(String, String), Vec<f64>>;

fn golden() -> Golden {
    let lines = include_str!("../golden/published_losses.txt").lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let first = words.iter().position(|word| word.parse::<f64>().is_ok()).unwrap();
            let numbers = words[first..].iter().map(|word| word.parse().unwrap()).collect();
            ((words[0].to_owned(), words[1..first].join(" ")), numbers)
        })
        .collect()
}

/// A case of the golden file.
#[derive(Clone)]
struct Case {
    anchors: Vec<f32>,
    anchor_labels: Vec<i32>,
    memory: Vec<f32>,
    memory_labels: Vec<i32>,
    both: bool,
    dim: usize,
}

impl Case {
    fn new(golden: &Golden, case: &str) -> Self {
        let of = |what: &str| &golden[&(case.to_owned(), what.to_owned())];
        let floats = |what| of(what).iter().map(|&value| value as f32).collect();
        let labels = |what| of(what).iter().map(|&value| value as i32).collect();
        Self {
            anchors: floats("anchors"),
            anchor_labels: labels("anchor-labels"),
            memory: floats("memory"),
            memory_labels: labels("memory-labels"),
            both: case == "batch",
            dim: DIM,
        }
    }

    /// The same in a larger dimension, with zeros.
    fn padded(&self, dim: usize) -> Self {
        let pad = |values: &[f32]| {
            let rows = values.chunks(self.dim).flat_map(|row| row.iter().copied().chain(std::iter::repeat_n(0.0, dim - self.dim)));
            rows.collect()
        };
        Self { anchors: pad(&self.anchors), memory: pad(&self.memory), dim, ..self.clone() }
    }

    /// The same with embeddings as 16 bit hold them.
    fn rounded(&self) -> Self {
        let round = |values: &[f32]| values.iter().map(|&value| half::f16::from_f32(value).to_f32()).collect();
        Self { anchors: round(&self.anchors), memory: round(&self.memory), ..self.clone() }
    }

    /// Gradient, row losses and kept pairs.
    fn run<B: PairLoss>(&self, backend: &B, weighting: &PairWeighting) -> (Vec<f32>, Vec<f32>, Vec<i32>) {
        self.run_as(backend, weighting, self.both)
    }

    /// The gradient of the anchors alone, each of which is the memory row of its place.
    fn run_without_self(&self, weighting: &PairWeighting) -> Vec<f32> {
        self.run_as(&cpu(1), weighting, true).0
    }

    fn run_as<B: PairLoss>(&self, backend: &B, weighting: &PairWeighting, own: bool) -> (Vec<f32>, Vec<f32>, Vec<i32>) {
        let weighting = &weighting.clone().valid().unwrap();
        let (anchors, rows, dim) = (self.anchor_labels.len(), self.memory_labels.len(), self.dim);
        let anchor_values = buffer(backend, &self.anchors);
        let mut memory = backend.zeros(self.memory.len(), NumberFormat::Compute).unwrap();
        backend.upload(&self.memory, SpanMut::new(&mut memory, 0, self.memory.len())).unwrap();
        let (anchor_labels, memory_labels) = (integers(backend, &self.anchor_labels), integers(backend, &self.memory_labels));
        let slots = integers(backend, &(0..anchors as i32).collect::<Vec<_>>());
        let (mut gradient, mut losses) = (buffer(backend, &self.anchors), buffer(backend, &vec![f32::NAN; anchors]));
        let mut kept = integers(backend, &vec![-1; 2 * anchors]);
        let soft = buffer(backend, &SOFT_LABELS);
        let every_row = |count: usize| integers(backend, &(0..count as i32).map(|row| row % 7 - 1).collect::<Vec<_>>());
        let (anchor_soft, memory_soft) = (every_row(anchors), every_row(rows));
        let inputs = PairLossInputs {
            anchors: Span::new(&anchor_values, 0, anchors * dim),
            anchor_labels: Span::new(&anchor_labels, 0, anchors),
            memory: CompareWith::Numbers(Span::new(&memory, 0, rows * dim)),
            memory_labels: Span::new(&memory_labels, 0, rows),
            self_pairs: if own { SelfPairMask::Slot(Span::new(&slots, 0, anchors)) } else { SelfPairMask::None },
            soft: Some(SoftLabels {
                labels: Span::new(&soft, 0, SOFT_LABELS.len()),
                anchors: Span::new(&anchor_soft, 0, anchors),
                rows: Span::new(&memory_soft, 0, rows),
            }),
        };
        let outputs = PairLossOutputs {
            gradient: SpanMut::new(&mut gradient, 0, anchors * dim),
            row_losses: SpanMut::new(&mut losses, 0, anchors),
            kept: SpanMut::new(&mut kept, 0, 2 * anchors),
        };
        let geometry = PairLossGeometry { anchors, rows, dim };
        if self.both {
            backend.batch_pair_loss(PairLossCall { geometry, weighting, scale: 1.0, accumulate: false, inputs, outputs }).unwrap();
        } else {
            backend.pair_loss(PairLossCall { geometry, weighting, scale: 1.0, accumulate: false, inputs, outputs }).unwrap();
        }
        (values(backend, &gradient, anchors * dim), values(backend, &losses, anchors), integer_values(backend, &kept, 2 * anchors))
    }
}

/// What is nothing beside 1 need not be nothing to the last digit.
fn assert_close_beside_one(what: &str, found: &[f32], expected: impl IntoIterator<Item = f64>, tolerance: f64) {
    let found: Vec<f32> = found.iter().copied().chain([1.0]).collect();
    assert_close(what, &found, &expected.into_iter().chain([1.0]).collect::<Vec<_>>(), tolerance);
}

fn equals_autograd<B: PairLoss>(backend: &B) {
    let golden = golden();
    for case in ["memory", "one-class", "batch"] {
        let inputs = Case::new(&golden, case);
        for named in Named::all() {
            let (gradient, losses, _) = inputs.run(backend, &named.weighting());
            for (what, found) in [("losses", losses), ("gradient", gradient)] {
                let expected = golden[&(case.to_owned(), format!("{} {what}", named.name))].iter().copied();
                assert_close_beside_one(&format!("{case} {} {what}", named.name), &found, expected, TOLERANCE);
            }
        }
    }
    let inputs = Case::new(&golden, "memory");
    let others: Vec<&str> =
        golden.keys().filter_map(|(_, what)| what.strip_suffix(" losses")).filter(|text| text.contains(':')).collect();
    assert_eq!(others.len(), Named::all().len(), "each loss with other parameters than the default: {others:?}");
    for text in others {
        let (gradient, losses, _) = inputs.run(backend, &text.parse().unwrap());
        for (what, found) in [("losses", losses), ("gradient", gradient)] {
            let expected = golden[&("memory".to_owned(), format!("{text} {what}"))].iter().copied();
            assert_close_beside_one(&format!("{text} {what}"), &found, expected, TOLERANCE);
        }
    }
}

#[test]
fn every_published_loss_has_the_value_and_the_gradient_of_autograd() {
    equals_autograd(&cpu(2));
}

#[test]
fn every_published_loss_has_the_value_and_the_gradient_of_autograd_on_a_gpu() {
    on_gpu(equals_autograd);
}

/// The other ways of a GPU against the CPU, which autograd has confirmed: 16 bit fused and unfused, on embeddings that 16 bit hold exactly.
#[test]
fn every_published_loss_agrees_between_all_ways_of_a_gpu_and_the_cpu() {
    let golden = golden();
    let large = large(21, 330, 5);
    let cases = ["memory", "one-class", "batch"].map(|case| Case::new(&golden, case));
    let cases: Vec<Case> = cases.iter().chain([&large]).map(|case| case.padded(64).rounded()).collect();
    for (precision, path) in [(Precision::Fp16, PairLossPath::Fused), (Precision::Fp16, PairLossPath::Unfused)] {
        let Some(cuda) = cuda(precision, path) else { return };
        for (index, case) in cases.iter().enumerate() {
            for named in Named::all() {
                let (weighting, what) = (named.weighting(), format!("{path:?} case {index} {}", named.name));
                let (expected, found) = (case.run(&cpu(1), &weighting), case.run(&cuda, &weighting));
                assert_close_beside_one(&format!("{what} losses"), &found.1, expected.1.iter().map(|&v| v.into()), TOLERANCE);
                assert_close_beside_one(
                    &format!("{what} gradient"),
                    &found.0,
                    expected.0.iter().map(|&v| v.into()),
                    WEIGHTS_IN_16_BIT,
                );
                // Most weights of a circle vanish beyond what single precision holds, gradually on one device and at once on another.
                if named.name != "circle" {
                    assert_eq!(found.2, expected.2, "{what} kept");
                }
            }
        }
        assert_eq!(software_gpu::take_reports(), Vec::<String>::new());
    }
}

/// Random unit rows that lean towards their class, larger than one block of anchors, one tile and one range of the memory.
fn large(anchors: usize, rows: usize, classes: i32) -> Case {
    let labels = |name: &str, count: usize| -> Vec<i32> {
        let mut rng = Rng::new(4).at(name);
        (0..count).map(|_| rng.below(classes as usize) as i32).collect()
    };
    let centres = unit_rows("centres", classes as usize, DIM);
    let lean = |name: &str, labels: &[i32]| -> Vec<f32> {
        let mut values = unit_rows(name, labels.len(), DIM);
        for (row, &label) in values.chunks_mut(DIM).zip(labels) {
            row.iter_mut().zip(&centres[label as usize * DIM..]).for_each(|(value, centre)| *value += centre);
            let norm = row.iter().map(|value| value * value).sum::<f32>().sqrt();
            row.iter_mut().for_each(|value| *value /= norm);
        }
        values
    };
    let (anchor_labels, memory_labels) = (labels("anchor labels", anchors), labels("memory labels", rows));
    Case {
        anchors: lean("anchors", &anchor_labels),
        memory: lean("memory", &memory_labels),
        anchor_labels,
        memory_labels,
        both: false,
        dim: DIM,
    }
}

/// The similarities of an anchor's pairs of one kind that are mined and pass the gate, and all of them.
fn kept(side: &Side, positive: bool, own: &[(usize, f64)], other: &[(usize, f64)]) -> Vec<(usize, f64)> {
    let (low, high) = side.gate.interval();
    let least = |pairs: &[(usize, f64)]| pairs.iter().map(|pair| pair.1).fold(f64::INFINITY, f64::min);
    let most = |pairs: &[(usize, f64)]| pairs.iter().map(|pair| pair.1).fold(f64::NEG_INFINITY, f64::max);
    let mut hardest: Vec<f64> = own.iter().map(|pair| if positive { -pair.1 } else { pair.1 }).collect();
    hardest.sort_by(|a, b| b.total_cmp(a));
    let mined = |s: f64| match side.mining {
        Mining::All => true,
        Mining::Relative(margin) if positive => s < most(other) + f64::from(margin),
        Mining::Relative(margin) => s > least(other) - f64::from(margin),
        Mining::Hardest(count) => (if positive { -s } else { s }) >= *hardest.get(count as usize - 1).unwrap_or(&f64::NEG_INFINITY),
    };
    let open = |s: f64| s > low.into() && s < high.into() && side.weight(s as f32) != 0.0;
    own.iter().copied().filter(|&(_, s)| mined(s) && open(s)).collect()
}

/// The gradient by plain loops in double precision, for the row scales whose formula is one line.
fn gradient_by_loops(case: &Case, weighting: &PairWeighting) -> Vec<f64> {
    let row = |values: &[f32], index: usize| -> Vec<f64> { values[index * DIM..][..DIM].iter().map(|&v| v.into()).collect() };
    let rows: Vec<Vec<f64>> = (0..case.memory_labels.len()).map(|index| row(&case.memory, index)).collect();
    let sides = [&weighting.positive, &weighting.negative];
    let pairs: Vec<[Vec<(usize, f64)>; 2]> = (0..case.anchor_labels.len())
        .map(|anchor| {
            let anchor_row = row(&case.anchors, anchor);
            let similar = |index: &usize| (*index, anchor_row.iter().zip(&rows[*index]).map(|(a, b)| a * b).sum::<f64>());
            let (positives, negatives): (Vec<usize>, Vec<usize>) =
                (0..rows.len()).partition(|&index| case.memory_labels[index] == case.anchor_labels[anchor]);
            let all = [positives, negatives].map(|indices| indices.iter().map(similar).collect::<Vec<_>>());
            [kept(sides[0], true, &all[0], &all[1]), kept(sides[1], false, &all[1], &all[0])]
        })
        .collect();
    let in_all = [0, 1].map(|kind: usize| pairs.iter().map(|row| row[kind].len()).sum::<usize>() as f64);
    let mut gradient = vec![0.0; case.anchors.len()];
    for (anchor, kinds) in pairs.iter().enumerate() {
        let curve = |kind: usize, s: f64| f64::from(sides[kind].weight(s as f32));
        let sums = [0, 1].map(|kind: usize| kinds[kind].iter().map(|pair| curve(kind, pair.1)).sum::<f64>());
        for (kind, sign) in [(0, -1.0), (1, 1.0)] {
            let count = kinds[kind].len() as f64;
            let divisor = match sides[kind].scale {
                Normalization::Sum => 1.0,
                Normalization::Mean => count,
                Normalization::MeanRow => (kinds[0].len() + kinds[1].len()) as f64,
                Normalization::MeanAll => in_all[kind] / pairs.len() as f64,
                Normalization::SoftmaxPlusOne => 1.0 + sums[kind],
                Normalization::Softmax => sums[kind],
                Normalization::SoftmaxAll => sums[0] + sums[1],
                other => panic!("no loop for {other}"),
            };
            for &(index, s) in &kinds[kind] {
                let soft = |row: usize| SOFT_LABELS.get((row % 7).wrapping_sub(1));
                let factor = match (sides[kind].soft, soft(anchor), soft(index)) {
                    (Some(rule), Some(mine), Some(other)) => {
                        f64::from(rule.least)
                            + f64::from(1.0 - rule.least) * f64::from(((mine - other).abs() / rule.width).min(1.0))
                    }
                    _ => 1.0,
                };
                let weight = factor * sign * f64::from(sides[kind].factor) * curve(kind, s) / divisor;
                gradient[anchor * DIM..][..DIM].iter_mut().zip(&rows[index]).for_each(|(g, m)| *g += weight * m);
            }
        }
    }
    gradient
}

fn side(kind: &'static [&'static str]) -> impl Strategy<Value = Side> {
    let scales = ["sum", "mean", "mean-row", "mean-all", "soft-one", "soft", "joint"];
    let mining = ["all", "relative:0.1", "relative:-0.2", "hardest:1", "hardest:7", "hardest:100000"];
    let gates = ["none", "above:0.1", "below:0.6"];
    let any = |texts: &'static [&'static str]| prop::sample::select(texts);
    (any(kind), prop::sample::select(scales.to_vec()), prop::sample::select(mining.to_vec()), prop::sample::select(gates.to_vec()))
        .prop_map(|(curve, scale, mining, gate)| {
            Side::new(curve.parse().unwrap(), gate.parse().unwrap())
                .scaled(scale.parse().unwrap())
                .mined(mining.parse().unwrap())
                .times(0.75)
        })
}

const CURVES: &[&str] =
    &["constant:2", "exp:k=-3,s0=0.5", "exp:k=5,s0=0.9", "sigmoid:k=8,s0=0.3", "power:s0=0.2,p=2", "table:-1=0,0=0,1=2"];

fn agrees_with_loops<B: PairLoss>(backend: &B, case: &Case, weighting: &PairWeighting) {
    let (gradient, losses, _) = case.run(backend, weighting);
    assert!(losses.iter().all(|loss| loss.is_finite()), "{weighting}: {losses:?}");
    assert_close_beside_one(&format!("gradient of {weighting}"), &gradient, gradient_by_loops(case, weighting), LOOPS);
}

fn weighting() -> impl Strategy<Value = PairWeighting> {
    let soft = prop::sample::select(vec![None, Some("width=0.5,least=0.25"), Some("width=2,least=1.5")]);
    (side(CURVES), side(CURVES), soft).prop_map(|(positive, negative, soft)| {
        let soft = soft.map(|text| text.parse().unwrap());
        PairWeighting { positive, negative: Side { soft, ..negative } }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn sides_with_any_scale_and_mining_agree_with_plain_loops(weighting in weighting(), classes in 1i32..6) {
        agrees_with_loops(&cpu(1), &large(9, 230, classes), &weighting);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn sides_with_any_scale_and_mining_agree_with_plain_loops_on_a_gpu(weighting in weighting(), classes in 1i32..6) {
        on_gpu(|cuda| agrees_with_loops(cuda, &large(9, 230, classes), &weighting));
    }
}

#[test]
fn the_threads_change_no_bit_of_any_loss() {
    let case = large(140, 1300, 6);
    for named in Named::all() {
        assert_eq!(case.run(&cpu(1), &named.weighting()), case.run(&cpu(3), &named.weighting()), "{}", named.name);
    }
}

#[test]
fn a_batch_is_trained_on_both_sides_of_a_pair() {
    let mut case = large(40, 40, 5);
    (case.memory, case.memory_labels) = (case.anchors.clone(), case.anchor_labels.clone());
    let plain = PairWeighting::contrastive();
    let one_sided = case.run_without_self(&plain);
    case.both = true;
    let both = case.run(&cpu(1), &plain).0;
    assert_eq!(both, one_sided.iter().map(|g| 2.0 * g).collect::<Vec<_>>());
}

#[test]
fn every_loss_is_finite_at_the_ends_of_the_similarities_and_in_any_row() {
    is_finite_everywhere(&cpu(1));
    on_gpu(is_finite_everywhere);
}

fn is_finite_everywhere<B: PairLoss>(backend: &B) {
    for named in Named::all() {
        let extreme = match named.name {
            "nca" | "info-nce" => format!("{}:t=0.001", named.name),
            "n-pair" | "lifted-structure" => format!("{}:scale=500", named.name),
            "multi-similarity" | "binomial-deviance" => format!("{}:alpha=500,beta=500", named.name),
            "circle" => "circle:gamma=1000".to_owned(),
            name => name.to_owned(),
        };
        for text in [named.name.to_owned(), extreme] {
            for (anchors, labels) in [(1.0f32, [0, 0, 0]), (1.0, [1, 1, 1]), (1.0, [0, 1, 1]), (-1.0, [0, 0, 1]), (0.6, [0, 1, 0])]
            {
                let mut anchor = vec![0.0; DIM];
                (anchor[0], anchor[1]) = (anchors, (1.0 - anchors * anchors).sqrt());
                let unit = |sign: f32| (0..DIM).map(move |index| if index == 0 { sign } else { 0.0 });
                let memory = unit(1.0).chain(unit(-1.0)).chain(anchor.clone()).collect();
                let case =
                    Case { anchors: anchor, anchor_labels: vec![0], memory, memory_labels: labels.to_vec(), both: false, dim: DIM };
                let (gradient, losses, _) = case.run(backend, &text.parse().unwrap());
                let finite = gradient.iter().chain(&losses).all(|value| value.is_finite());
                assert!(finite, "{text} with {labels:?}: {gradient:?} {losses:?}");
            }
        }
    }
}

//! Losses: rows that lack pairs, embeddings that coincide, exponents out of range.

use crate::pairs::{Pairs, log_sum_exp};
use crate::support::{assert_close, buffer, cpu, on_gpu_in, unit_rows, values};
use xbm_fast::device::cuda::Precision;
use xbm_fast::device::{Span, SpanMut};
use xbm_fast::loss::Named;
use xbm_fast::ops::l2_normalize::{L2Normalize, RowGeometry};

/// Single precision, with exponents of a few hundred.
const ROUNDING: f64 = 1e-4;
/// Weights rounded to 11 bits.
const IN_16_BIT: f64 = 2e-3;

// github.com/KevinMusgrave/pytorch-metric-learning/issues/107: a batch without a triplet that violates the margin gave NaN, a mean over
// nothing.
#[test]
fn a_triplet_loss_without_triplets_is_zero() {
    let apart = [1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0].to_vec();
    for labels in [[0, 1, 2, 3], [0, 0, 0, 0], [0, 0, 1, 1]] {
        let loss = Pairs::batch(apart.clone(), &labels).loss(&cpu(1), "triplet");
        assert!(loss.rows.iter().chain(&loss.gradient).all(|&value| value == 0.0), "{labels:?}: {loss:?}");
    }
}

// github.com/tensorflow/addons/issues/2447: a batch without positives divided by their number, zero.
// github.com/rksltnl/Deep-Metric-Learning-CVPR16/issues/6: the lifted-structure loss of a row without pairs was 0/0.
// github.com/adambielski/siamese-triplet/issues/61: a batch in which no class had two images ended the program.
#[test]
fn every_loss_is_finite_whatever_kind_of_pair_is_missing() {
    let (one_class, all_apart, lonely) = ([3; 6], [0, 1, 2, 3, 4, 5], [0, 0, 0, 1, 1, 2]);
    for named in Named::all() {
        for labels in [one_class, all_apart, lonely] {
            let loss = Pairs::random_batch("missing", &labels, 8).loss(&cpu(1), named.name);
            assert!(loss.is_finite(), "{} of {labels:?}: {loss:?}", named.name);
        }
    }
}

// github.com/KevinMusgrave/pytorch-metric-learning/issues/110: no label came twice, and nothing said that there was nothing to learn.
#[test]
fn an_anchor_alone_with_itself_has_no_loss_and_no_pair_counted() {
    for named in Named::all() {
        let alone = Pairs::random_batch("alone", &[4], 8);
        assert!(alone.loss(&cpu(1), named.name).is_nothing(), "{}", named.name);
        let without_rows = Pairs { rows: vec![], row_labels: vec![], own: vec![-1], ..alone };
        assert!(without_rows.loss(&cpu(1), named.name).is_nothing(), "{} of no rows", named.name);
    }
}

// github.com/HobbitLong/SupContrast/issues/141: anchors without a positive gave NaN, and with them the mean of the batch.
#[test]
fn an_anchor_without_a_positive_has_no_contrastive_loss_and_spoils_no_other() {
    let pairs = Pairs::random_batch("no positive", &[0, 1, 1, 3], 3);
    let loss = pairs.loss(&cpu(1), "info-nce:t=0.8");
    assert_close("losses", &loss.rows, &supervised_contrast(&pairs, 0.8), ROUNDING);
    assert_eq!([loss.rows[0], loss.rows[3]], [0.0, 0.0]);
    assert!(loss.gradient[..3].iter().chain(&loss.gradient[9..]).all(|&value| value == 0.0));
}

/// Khosla et al. 2020, equation 2: for each positive the logarithm of its share in all pairs of the row, averaged.
fn supervised_contrast(pairs: &Pairs, temperature: f64) -> Vec<f64> {
    let row = |anchor: usize| {
        let (positives, negatives) = pairs.similarities(anchor);
        let all = log_sum_exp(positives.iter().chain(&negatives).map(|similarity| similarity / temperature));
        let mean = positives.iter().map(|similarity| all - similarity / temperature).sum::<f64>() / positives.len() as f64;
        if positives.is_empty() { 0.0 } else { mean }
    };
    (0..pairs.anchor_labels.len()).map(row).collect()
}

// github.com/KevinMusgrave/pytorch-metric-learning/issues/699: which pairs belong in the denominator of InfoNCE with several positives.
// github.com/alinlab/CSI/issues/49: the pair of an anchor with itself was counted among its positives.
#[test]
fn a_contrastive_denominator_holds_all_pairs_of_the_row_but_the_anchor_itself() {
    let pairs = Pairs::random_batch("denominator", &[0, 0, 0, 1, 1, 2, 2, 2], 6);
    let loss = pairs.loss(&cpu(1), "info-nce:t=0.2");
    assert_close("losses", &loss.rows, &supervised_contrast(&pairs, 0.2), ROUNDING);
    let counted_twice = Pairs { own: vec![-1; 8], ..pairs.clone() };
    assert_ne!(loss.rows, counted_twice.loss(&cpu(1), "info-nce:t=0.2").rows);
}

// github.com/tensorflow/tensorflow/issues/30199: a positive equal to the anchor made every gradient of the triplet loss NaN.
#[test]
fn a_triplet_whose_positive_is_the_anchor_has_the_gradient_of_its_negative() {
    let (anchor, near) = ([0.6f32, 0.8, 0.0], [0.8f32, 0.6, 0.0]);
    let pairs = Pairs::batch([anchor, anchor, near].concat(), &[0, 0, 1]);
    let loss = pairs.loss(&cpu(1), "triplet:margin=0.1");
    // s_p = 1, s_n = 0.96: 0.96 - 1 + 0.1 = 0.06, and its slope is negative minus positive.
    assert_close("losses", &loss.rows[..2], &[0.06; 2], ROUNDING);
    assert_close("gradient", &loss.gradient[..3], &[0.2, -0.2, 0.0], ROUNDING);
    assert!(loss.is_finite(), "{loss:?}");
}

// github.com/adambielski/siamese-triplet/issues/18: two equal images had a distance of 0, whose square root has no slope.
// github.com/keras-team/keras/issues/9097: the same of a siamese network's two inputs.
#[test]
fn equal_images_of_a_class_attract_each_other_no_further() {
    let row = [2.0f32, -1.0, 2.0];
    let unit = row.map(|value| value / 3.0);
    let loss = Pairs::batch([unit, unit].concat(), &[5, 5]).loss(&cpu(1), "contrastive");
    assert_close("losses", &loss.rows, &[0.0, 0.0], ROUNDING);
    let backend = cpu(1);
    let (geometry, norms) = (RowGeometry { rows: 2, dim: 3 }, vec![3.0; 2]);
    let [unit, norms, gradient] = [[unit, unit].concat(), norms, loss.gradient].map(|values| buffer(&backend, &values));
    let mut result = buffer(&backend, &[f32::NAN; 6]);
    let output = SpanMut::new(&mut result, 0, 6);
    backend.l2_normalize_backward(&geometry, Span::all(&unit), Span::all(&norms), Span::all(&gradient), output).unwrap();
    // What pulls along the row itself does not turn it.
    assert!(values(&backend, &result, 6).iter().all(|value| value.abs() < 1e-6));
}

// github.com/huggingface/sentence-transformers/pull/4033: coinciding embeddings had NaN gradients, whatever loss was above them.
#[test]
fn every_loss_of_coinciding_embeddings_is_finite() {
    let one = unit_rows("coinciding", 1, 16);
    for named in Named::all() {
        for labels in [[0, 0, 1, 1], [0, 0, 0, 0], [0, 1, 2, 3]] {
            let loss = Pairs::batch(one.repeat(4), &labels).loss(&cpu(1), named.name);
            assert!(loss.is_finite(), "{} of {labels:?}: {loss:?}", named.name);
        }
    }
}

// github.com/qianjinhao/circle-loss/issues/2: at a batch of 128 the sums of exponentials overflowed and the loss was NaN.
#[test]
fn a_circle_loss_of_a_large_batch_does_not_overflow() {
    let labels: Vec<i32> = (0..128).map(|image| image / 4).collect();
    let pairs = Pairs::random_batch("circle", &labels, 16);
    let (gamma, margin) = (256.0, 0.25);
    let expected: Vec<f64> = (0..128).map(|anchor| circle(&pairs.similarities(anchor), gamma, margin)).collect();
    assert!(expected.iter().any(|&loss| loss > 89.0), "an exponential of 32 bits would hold this");
    let loss = pairs.loss(&cpu(1), "circle:gamma=256,m=0.25");
    assert_close("losses", &loss.rows, &expected, ROUNDING);
    assert!(loss.is_finite());
}

/// Sun et al. 2020: `ln(1 + sum over the negatives * sum over the positives)`.
fn circle((positives, negatives): &(Vec<f64>, Vec<f64>), gamma: f64, margin: f64) -> f64 {
    let positive = positives.iter().map(|s| -gamma * (1.0 + margin - s).max(0.0) * (s - (1.0 - margin)));
    let negative = negatives.iter().map(|s| gamma * (s + margin).max(0.0) * (s - margin));
    let both = log_sum_exp(positive) + log_sum_exp(negative);
    both.max(0.0) + (-both.abs()).exp().ln_1p()
}

// github.com/TinyZeaMays/CircleLoss/issues/25: whether the sums of a circle loss are added or multiplied.
#[test]
fn the_sums_of_a_circle_loss_are_multiplied() {
    // One positive at 0.6 and one negative at 0.8, gamma 2 and margin 0.4: exponents -2 * 0.8 * 0 = 0 and 2 * 1.2 * 0.4 = 0.96.
    let pairs = Pairs {
        dim: 2,
        anchors: vec![1.0, 0.0],
        anchor_labels: vec![0],
        rows: vec![0.6, 0.8, 0.8, 0.6],
        row_labels: vec![0, 1],
        own: vec![-1],
    };
    let loss = pairs.loss(&cpu(1), "circle:gamma=2,m=0.4");
    assert_close("loss", &loss.rows, &[(1.0 + 0.96f64.exp()).ln()], ROUNDING);
}

// github.com/KevinMusgrave/pytorch-metric-learning/issues/723: a miner that found nothing was followed by positives of other labels.
// github.com/Confusezius/Revisiting_Deep_Metric_Learning_PyTorch/issues/3: a multi-similarity batch without mined pairs ended training.
#[test]
fn mining_that_finds_no_pair_makes_none_up() {
    // Both classes are where they belong: positives at 1, negatives at 0, nothing within 0.1 of the other kind.
    let apart = [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]].concat();
    let loss = Pairs::batch(apart, &[15, 15, 169, 169]).loss(&cpu(1), "multi-similarity");
    assert!(loss.is_nothing(), "{loss:?}");
}

// github.com/msight-tech/research-ms-loss/issues/14: the anchor was recognised by a similarity of 1, as are copies of it.
#[test]
fn a_copy_of_the_anchor_in_another_row_is_a_pair() {
    let copy = [0.0f32, 1.0, 0.0];
    let pairs = Pairs::batch([copy, copy, copy, [1.0, 0.0, 0.0]].concat(), &[0, 0, 1, 1]);
    let loss = pairs.loss(&cpu(1), "contrastive:negative=0.5");
    // The first anchor: its copy as a positive, the copy of another class as a negative, not the fourth row.
    assert_eq!(loss.kept, [[1, 1], [1, 1], [1, 2], [1, 0]]);
}

// github.com/KevinMusgrave/pytorch-metric-learning/issues/744: with labels of 100,000 and more the loss became 0.
#[test]
fn labels_are_names_whatever_their_size() {
    let small = Pairs::random_batch("labels", &[0, 1, 0, 2, 1, 2], 8);
    let huge = |label: &i32| [i32::MAX, i32::MIN, -1][*label as usize];
    let large = Pairs {
        anchor_labels: small.anchor_labels.iter().map(huge).collect(),
        row_labels: small.row_labels.iter().map(huge).collect(),
        ..small.clone()
    };
    for named in Named::all() {
        assert_eq!(small.loss(&cpu(1), named.name), large.loss(&cpu(1), named.name), "{}", named.name);
    }
}

// github.com/KevinMusgrave/pytorch-metric-learning/issues/496: labels given twice counted as one batch only if they were one object.
#[test]
fn rows_with_the_anchors_labels_are_pairs_unless_they_are_the_anchors() {
    let labels: Vec<i32> = (0..6).collect();
    let anchors = Pairs::random_batch("views", &labels, 8);
    let other_views = Pairs { rows: unit_rows("other views", 6, 8), own: vec![-1; 6], ..anchors.clone() };
    let counted = |pairs: &Pairs| pairs.loss(&cpu(1), "contrastive:negative=-1").kept;
    assert_eq!(counted(&anchors), [[0, 5]; 6]);
    assert_eq!(counted(&other_views), [[1, 5]; 6]);
}

// github.com/JohnGiorgi/DeCLUTR/issues/60: the NT-Xent loss failed in half precision.
#[test]
fn a_low_temperature_does_not_overflow_in_half_precision() {
    let labels: Vec<i32> = (0..24).map(|image| image / 3).collect();
    let mut pairs = Pairs::random_batch("temperature", &labels, 64);
    for values in [&mut pairs.anchors, &mut pairs.rows] {
        values.iter_mut().for_each(|value| *value = half::f16::from_f32(*value).to_f32());
    }
    // e^(1 / 0.01) is beyond 32 bits, and e^12 beyond 16.
    let expected = pairs.loss(&cpu(1), "info-nce:t=0.01");
    assert_close("losses", &expected.rows, &supervised_contrast(&pairs, f64::from(0.01f32)), ROUNDING);
    on_gpu_in(Precision::Fp16, |cuda| {
        let found = pairs.loss(cuda, "info-nce:t=0.01");
        let double = |values: &[f32]| values.iter().map(|&value| f64::from(value)).collect::<Vec<_>>();
        assert_close("losses", &found.rows, &double(&expected.rows), IN_16_BIT);
        assert_close("gradient", &found.gradient, &double(&expected.gradient), IN_16_BIT);
    });
}

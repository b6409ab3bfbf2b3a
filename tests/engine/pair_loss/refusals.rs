//! Numbers, lengths and settings that make no sense are refused, by name.

use crate::pair_loss::case::Case;
use crate::support::{buffer, cpu, integers};
use xbm_fast::Error;
use xbm_fast::device::{NumberFormat, Span, SpanMut, Storage};
use xbm_fast::loss::{Curve, Gate, PairWeighting};
use xbm_fast::ops::pair_loss::{CompareWith, PairLoss, PairLossCall, PairLossInputs, PairLossOutputs, SelfPairMask};

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
            (backend.zeros(12, NumberFormat::Full).unwrap(), backend.zeros(3, NumberFormat::Full).unwrap());
        let mut kept = backend.zero_integers(6).unwrap();
        let inputs = PairLossInputs {
            anchors: Span::new(&anchors, 0, less(0, 12)),
            anchor_labels: Span::new(&labels, 0, less(1, 3)),
            memory: CompareWith::Numbers(Span::new(&memory, 0, less(2, 20))),
            memory_labels: Span::new(&memory_labels, 0, less(3, 5)),
            self_pairs: SelfPairMask::None,
            soft: None,
        };
        let outputs = PairLossOutputs {
            gradient: SpanMut::new(&mut gradient, 0, less(4, 12)),
            row_losses: SpanMut::new(&mut row_losses, 0, less(5, 3)),
            kept: SpanMut::new(&mut kept, 0, less(6, 6)),
        };
        let error = backend
            .pair_loss(PairLossCall {
                geometry: sound.geometry,
                weighting: &sound.weighting.clone().valid().unwrap(),
                scale: 1.0,
                accumulate: false,
                inputs,
                outputs,
            })
            .unwrap_err();
        let what = ["anchors", "anchor labels", "memory", "memory labels", "gradient", "row losses", "kept counts"][short];
        assert!(error.to_string().starts_with(&format!("{what}: expected")), "{error}");
    }
}

#[test]
fn settings_out_of_range_are_rejected() {
    let message = |spoil: fn(&mut PairWeighting)| {
        let mut weighting = PairWeighting::contrastive();
        spoil(&mut weighting);
        weighting.valid().unwrap_err().to_string()
    };
    assert!(message(|weighting| weighting.negative.gate = Gate::Above(1.5)).contains("above:1.5"));
    assert!(message(|weighting| weighting.positive.curve = Curve::Constant(f32::NAN)).contains("expected weights and rates"));
}

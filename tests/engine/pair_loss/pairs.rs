//! What is a pair, of which kind, and what is reported of it.

use crate::pair_loss::case::{Case, Excluded, Found};
use crate::pair_loss::oracle::check;
use crate::support::{cpu, normals};
use xbm_fast::loss::Gate;

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

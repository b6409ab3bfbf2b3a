//! Flags that change nothing beside the others are named.

use super::place::{Place, assert_says, assert_silent, tiny};

#[test]
fn a_flag_without_effect_is_named_with_the_one_that_takes_it_away() {
    let place = Place::new();
    let idle = [
        ("--memory none --memory-weight 2", "--memory-weight has no effect with --memory none"),
        ("--memory cross-batch --momentum 0.5", "--momentum has no effect with --memory cross-batch"),
        ("--memory cross-batch --memory-average 0.5", "--memory-average has no effect with --memory cross-batch"),
        ("--memory instance --memory-size 99", "--memory-size has no effect with --memory instance"),
        ("--schedule cosine --schedule-factor 0.5", "--schedule-factor has no effect with --schedule cosine"),
        (
            "--memory cross-batch --memory-size 16 --memory-start 3",
            "the memory is never used: it starts at --memory-start 3, after --steps 3",
        ),
        ("--optimizer sgd --beta2 0.9", "--beta2 has no effect with --optimizer sgd"),
    ];
    for (number, (flags, words)) in idle.into_iter().enumerate() {
        assert_says(&place.works(&tiny(&format!("{flags} --out {number}"))), &[words]);
    }
    let useful = "--memory momentum --momentum 0.5 --memory-size 16 --memory-start 1 --schedule step --schedule-factor 0.5 --schedule-steps 2 --beta2 0.9";
    assert_silent(&place.works(&tiny(&format!("{useful} --optimizer adam --out useful"))), &["no effect", "never used"]);
}

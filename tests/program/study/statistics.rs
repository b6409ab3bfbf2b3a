//! Statistics against golden values, and the verdicts that follow from them.

use xbm_fast::app::study::statistics::{Direction, Spread, Verdict, sign_flip_p, student_quantile, student_within};

/// Both sides compute in 64 bit.
const ROUNDING: f64 = 1e-12;

#[track_caller]
fn assert_near(found: f64, expected: f64) {
    assert!((found - expected).abs() <= ROUNDING * expected.abs().max(1.0), "found {found}, expected {expected}");
}

/// Degrees of freedom, probability of -1.7 ..= 1.7, and the 97.5 % quantile, by tests/golden/study.py.
#[test]
fn students_t_equals_scipys() {
    for (freedom, within, quantile) in [
        (1, 0.661493945339334, 12.7062047361747),
        (2, 0.768766573798429, 4.30265272974946),
        (3, 0.81230935844659, 3.18244630528371),
        (4, 0.83564505872995, 2.77644510519779),
        (5, 0.850123213151676, 2.57058183563631),
        (9, 0.876652337856176, 2.2621571627982),
        (30, 0.900522124411483, 2.04227245630124),
    ] {
        assert_near(student_within(1.7, freedom), within);
        assert_near(student_quantile(0.95, freedom), quantile);
    }
}

#[test]
fn the_interval_and_the_sign_flip_p_of_paired_differences_equal_scipys() {
    let differences = [0.031, 0.012, 0.047, -0.004, 0.026];
    let spread = Spread::of(&differences).unwrap();
    let half = spread.half_width().unwrap();
    assert_near(spread.mean - half, -0.00162226771194082);
    assert_near(spread.mean + half, 0.0464222677119408);
    assert_near(sign_flip_p(&differences).unwrap(), 0.125);
}

#[test]
fn the_smallest_sign_flip_p_halves_with_each_seed() {
    for seeds in 1..8 {
        assert_near(sign_flip_p(&vec![0.02; seeds]).unwrap(), 2.0 * 0.5f64.powi(seeds as i32));
    }
    assert_eq!((sign_flip_p(&[]), sign_flip_p(&[0.1; 21])), (None, None));
}

#[test]
fn a_claim_is_judged_by_where_its_interval_lies() {
    use Direction::{Better, NoBetter};
    use Verdict::{Confirmed, NotConfirmed, Undecided};
    // With two values the half width is 12.7 sigma / sqrt 2: 0.0127 for a spread of 0.0014.
    let around = |mean: f64| Spread::of(&[mean - 0.001, mean + 0.001]).unwrap();
    let cases = [(0.05, Confirmed, NotConfirmed), (0.0, Undecided, Undecided), (-0.05, NotConfirmed, Confirmed)];
    for (mean, better, no_better) in cases {
        assert_eq!((Better.judge(&around(mean), 0.01), NoBetter.judge(&around(mean), 0.01)), (better, no_better), "{mean}");
    }
    let certain = Spread { count: 9, mean: 0.004, deviation: 1e-6 };
    assert_eq!(
        (Better.judge(&certain, 0.01), NoBetter.judge(&certain, 0.01)),
        (Confirmed, Confirmed),
        "a gain too small to matter"
    );
    assert_eq!(Better.judge(&Spread::of(&[0.5]).unwrap(), 0.01), Undecided, "one seed decides nothing");
    for equal in [[0.02; 3], [0.0; 3], [0.1 + 0.2, 0.3, 0.3]] {
        let spread = Spread::of(&equal).unwrap();
        assert_eq!((Better.judge(&spread, 0.01), NoBetter.judge(&spread, 0.01)), (Undecided, Undecided), "{equal:?}");
    }
}

#[test]
fn a_fact_needs_all_its_claims() {
    use Verdict::{Confirmed, NotConfirmed, NotTested, Undecided};
    for (claims, expected) in [
        (vec![Confirmed, Confirmed], Confirmed),
        (vec![Confirmed, Undecided], Undecided),
        (vec![Undecided, NotConfirmed, Confirmed], NotConfirmed),
        (vec![Confirmed, NotTested, Undecided], NotTested),
        (vec![NotTested, NotConfirmed], NotConfirmed),
        (vec![], NotTested),
    ] {
        assert_eq!(Verdict::of_all(claims.clone()), expected, "{claims:?}");
    }
}

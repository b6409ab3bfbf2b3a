//! Curves against their formulas in double precision, losses against numerical integrals of the weights, and text forms.

use xbm_fast::loss::{Curve, Gate, LARGEST_EXPONENT, Mining, Named, Normalization, PairWeighting, Side};

/// A few units in the last place, relative to the largest value involved.
const TOLERANCE: f64 = 2e-6;
/// Similarities of unit rows exceed 1 by rounding only.
const BEYOND: f64 = 1e-4;

const CURVES: [&str; 16] = [
    "constant:0",
    "constant:2.5",
    "linear:a=1,b=0.5",
    "linear:a=0.5,b=-0.5",
    "power:s0=0.5,p=2",
    "power:s0=-1,p=0.5",
    "power:s0=0,p=0",
    "exp:k=10,s0=0.5",
    "exp:k=-40,s0=0.9",
    "exp:k=80,s0=0.8",
    "exp:k=0,s0=0.8",
    "sigmoid:k=40,s0=0.5",
    "sigmoid:k=-0.01,s0=0.2",
    "sigmoid:k=0,s0=0",
    "band:lo=-0.25,hi=0.75",
    "table:-0.75=1,-0.25=0,0.25=0,0.5=0.5,0.875=4",
];

fn gates() -> [Gate; 5] {
    [Gate::None, Gate::Above(0.5), Gate::Above(-0.3), Gate::Below(0.9), Gate::Below(-0.1)]
}

fn curve(text: &str) -> Curve {
    text.parse().unwrap()
}

fn formula(curve: &Curve, s: f64) -> f64 {
    match *curve {
        Curve::Constant(c) => c.into(),
        Curve::Linear { a, b } => f64::from(a) + f64::from(b) * s,
        Curve::Power { s0, p } => {
            let base = (s - f64::from(s0)) / (1.0 - f64::from(s0));
            if base > 0.0 { base.powf(p.into()) } else { 0.0 }
        }
        Curve::Exponential { k, s0 } => (f64::from(k) * (s - f64::from(s0))).min(LARGEST_EXPONENT.into()).exp(),
        Curve::Sigmoid { k, s0 } => 1.0 / (1.0 + (-f64::from(k) * (s - f64::from(s0))).exp()),
        Curve::Band { lo, hi } => f64::from(u8::from(s >= lo.into() && s <= hi.into())),
        Curve::Circle { gamma, m } => {
            let (size, x) = (f64::from(gamma).abs(), if gamma < 0.0 { 1.0 - s } else { s });
            let pace = size * (x + f64::from(m)).max(0.0);
            pace * (pace * (x - f64::from(m))).min(LARGEST_EXPONENT.into()).exp()
        }
        Curve::Table(ref knots) => {
            let knots: Vec<(f64, f64)> = knots.iter().map(|&(s, weight)| (s.into(), weight.into())).collect();
            let (first, last) = (knots[0], knots[knots.len() - 1]);
            let inside = knots.windows(2).find(|pair| pair[0].0 <= s && s <= pair[1].0);
            inside.map_or(if s < first.0 { first.1 } else { last.1 }, |pair| {
                pair[0].1 + (pair[1].1 - pair[0].1) * (s - pair[0].0) / (pair[1].0 - pair[0].0)
            })
        }
    }
}

fn gated_formula(side: &Side, s: f64) -> f64 {
    let (lo, hi) = side.gate.interval();
    if s > lo.into() && s < hi.into() { formula(&side.curve, s) } else { 0.0 }
}

/// A dense grid of 32-bit similarities, steps of 1/512, so that every jump of the curves above lies on or between grid points.
fn grid() -> Vec<f32> {
    (-512..=512).map(|step| step as f32 / 512.0).collect()
}

fn sides() -> impl Iterator<Item = Side> {
    CURVES.into_iter().flat_map(|text| gates().map(|gate| Side::new(curve(text), gate)))
}

/// Integral of the gated formula by the midpoint rule, exact enough around jumps because its steps are tiny.
fn area(side: &Side, from: f64, to: f64) -> f64 {
    const STEPS: u32 = 64;
    let step = (to - from) / f64::from(STEPS);
    (0..STEPS).map(|index| gated_formula(side, from + (f64::from(index) + 0.5) * step) * step).sum()
}

fn largest(side: &Side) -> f64 {
    grid().iter().map(|&s| gated_formula(side, s.into()).abs()).fold(1.0, f64::max)
}

#[test]
fn weights_follow_their_formulas() {
    for side in sides() {
        for s in grid() {
            let expected = gated_formula(&side, s.into());
            let error = (f64::from(side.weight(s)) - expected).abs();
            assert!(error <= TOLERANCE * expected.abs().max(1.0), "{side:?} at {s}: {} not {expected}", side.weight(s));
        }
    }
}

#[test]
fn a_circle_follows_its_formula_in_both_directions() {
    for text in ["circle:gamma=80,m=0.4", "circle:gamma=-80,m=0.4", "circle:gamma=4,m=-0.25"] {
        let side = Side::ungated(curve(text));
        assert_eq!(side.curve.to_string(), text);
        for s in grid() {
            let expected = gated_formula(&side, s.into());
            // The exponent is a difference of squares times gamma: its rounding is that of numbers near 100.
            let error = (f64::from(side.weight(s)) - expected).abs();
            assert!(error <= 50.0 * TOLERANCE * expected.max(1.0), "{text} at {s}: {} not {expected}", side.weight(s));
        }
    }
}

#[test]
fn the_derivative_of_a_loss_is_the_weight() {
    for side in sides() {
        let largest = largest(&side);
        for pair in grid().windows(2) {
            let (from, to) = (pair[0], pair[1]);
            let expected = area(&side, from.into(), to.into());
            let jump = largest * f64::from(to - from) / 64.0;
            let slack = TOLERANCE * largest + if expected == 0.0 { 0.0 } else { jump };
            let pushed = f64::from(side.negative_loss(to)) - f64::from(side.negative_loss(from));
            let pulled = f64::from(side.positive_loss(from)) - f64::from(side.positive_loss(to));
            assert!((pushed - expected).abs() <= slack, "{side:?} negative {from}..{to}: {pushed} not {expected}");
            assert!((pulled - expected).abs() <= slack, "{side:?} positive {from}..{to}: {pulled} not {expected}");
        }
    }
}

#[test]
fn losses_are_the_whole_integrals_and_start_at_zero() {
    for side in sides() {
        let total: f64 = grid().windows(2).map(|pair| area(&side, pair[0].into(), pair[1].into())).sum();
        let slack = 2e-4 * largest(&side);
        assert_eq!((side.positive_loss(1.0), side.negative_loss(-1.0)), (0.0, 0.0), "{side:?}");
        assert!((f64::from(side.positive_loss(-1.0)) - total).abs() < slack, "{side:?}");
        assert!((f64::from(side.negative_loss(1.0)) - total).abs() < slack, "{side:?}");
    }
}

#[test]
fn everything_is_finite_a_rounding_error_beyond_the_interval() {
    for side in sides() {
        for s in [-1.0 - BEYOND as f32, 1.0 + BEYOND as f32, -1.0, 1.0] {
            let values = [side.weight(s), side.positive_loss(s), side.negative_loss(s)];
            assert!(values.iter().all(|value| value.is_finite()), "{side:?} at {s}: {values:?}");
            let past = largest(&side) * BEYOND * 1.1;
            assert!(values[1] >= -past as f32 || s < 0.0, "{side:?} at {s}: {values:?}");
        }
    }
}

#[test]
fn arrays_hold_what_the_scalar_functions_return() {
    let s: [f32; 32] = std::array::from_fn(|index| index as f32 / 16.0 - 1.0);
    for side in sides() {
        assert_eq!(side.weights(&s), s.map(|s| side.weight(s)), "{side:?}");
        assert_eq!(side.positive_losses(&s), s.map(|s| side.positive_loss(s)), "{side:?}");
        assert_eq!(side.negative_losses(&s), s.map(|s| side.negative_loss(s)), "{side:?}");
    }
}

#[test]
fn outside_the_support_the_weight_is_zero_and_so_is_the_loss_beyond() {
    for side in sides() {
        let (lo, hi) = side.support();
        for s in grid() {
            assert!(side.weight(s) == 0.0 || (s > lo && s < hi), "{side:?} at {s}");
            assert!(s < hi || side.positive_loss(s).abs() <= TOLERANCE as f32, "{side:?} positive at {s}");
            assert!(s > lo || side.negative_loss(s).abs() <= TOLERANCE as f32, "{side:?} negative at {s}");
        }
    }
}

#[test]
fn text_forms_round_trip() {
    for text in CURVES {
        assert_eq!(curve(text).to_string(), text);
    }
    for gate in gates() {
        assert_eq!(gate.to_string().parse::<Gate>().unwrap(), gate);
    }
    assert_eq!(curve(" exp : s0 = 0.5 , k=1e1 "), Curve::Exponential { k: 10.0, s0: 0.5 });
}

#[test]
fn settings_round_trip_and_default_to_the_rule() {
    assert_eq!(toml::from_str::<PairWeighting>("").unwrap(), PairWeighting::contrastive());
    let text = "[negative]\ncurve = \"sigmoid:k=20,s0=0.5\"\ngate = \"above:0.25\"\n";
    let weighting: PairWeighting = toml::from_str(text).unwrap();
    assert_eq!(weighting.positive, PairWeighting::contrastive().positive);
    assert_eq!(weighting.negative, Side::new(Curve::Sigmoid { k: 20.0, s0: 0.5 }, Gate::Above(0.25)));
    let written = toml::to_string(&weighting).unwrap();
    assert!(written.contains(text), "{written}");
    assert_eq!(toml::from_str::<PairWeighting>(&written).unwrap(), weighting);
    assert!(toml::from_str::<PairWeighting>("[negatives]\ncurve = \"constant:1\"").is_err());
}

#[test]
fn published_losses_are_read_by_name_and_written_as_sides() {
    for named in Named::all() {
        let weighting: PairWeighting = named.name.parse().unwrap();
        assert_eq!(named.example().parse::<PairWeighting>().unwrap(), weighting, "{}", named.name);
        assert_eq!(named.weighting(), weighting, "{}", named.name);
        let written = toml::to_string(&weighting).unwrap();
        assert_eq!(toml::from_str::<PairWeighting>(&written).unwrap(), weighting, "{written}");
    }
    let circle: PairWeighting = "circle:gamma=64".parse().unwrap();
    assert_eq!(circle.negative.curve, Curve::Circle { gamma: 64.0, m: 0.4 });
    assert_eq!(PairWeighting::default(), "contrastive".parse().unwrap());
}

#[test]
fn mining_and_row_scales_round_trip() {
    for text in ["all", "relative:0.1", "hardest:8"] {
        assert_eq!(text.parse::<Mining>().unwrap().to_string(), text);
    }
    let scales = ["sum", "mean", "mean-row", "mean-all", "soft-one", "soft", "joint", "remainder", "contrast", "product", "hinge"];
    for text in scales.into_iter().chain(["balanced", "triplets:0.25"]) {
        assert_eq!(text.parse::<Normalization>().unwrap().to_string(), text);
    }
}

#[test]
fn sides_that_do_not_fit_their_row_scale_are_refused() {
    let refused = |change: fn(&mut PairWeighting)| {
        let mut weighting = PairWeighting::contrastive();
        change(&mut weighting);
        weighting.validate().unwrap_err().to_string()
    };
    assert!(refused(|w| w.positive.scale = Normalization::Remainder).contains("needs an `exp` curve"));
    assert!(refused(|w| w.negative.scale = Normalization::Contrast).contains("for positive pairs"));
    assert!(refused(|w| w.negative.scale = Normalization::Product).contains("both sides"));
    assert!(refused(|w| w.negative.curve = Curve::Circle { gamma: 80.0, m: 0.4 }).contains("normalises"));
    assert!(refused(|w| w.negative.scale = Normalization::Balanced).contains("`sigmoid`"));
    assert!(refused(|w| w.negative.factor = -1.0).contains("factor"));
}

#[track_caller]
fn curve_error(text: &str) -> String {
    text.parse::<Curve>().unwrap_err().to_string()
}

#[test]
fn a_typo_is_answered_with_a_suggestion_and_what_is_known() {
    let message = curve_error("sigmiod:k=1,s0=0");
    assert!(message.contains("did you mean `sigmoid`?") && message.contains("table:-1=0,0.5=0,1=1"), "{message}");
    assert!(!curve_error("cosine").contains("did you mean"), "{}", curve_error("cosine"));
    let message = "abvoe:0.5".parse::<Gate>().unwrap_err().to_string();
    assert!(message.contains("did you mean `above`?") && message.contains("none | above:0.5 | below:0.9"), "{message}");
}

#[test]
fn what_cannot_be_read_or_honoured_is_named() {
    let cases = [
        ("constant:x", "a number where `x` stands"),
        ("constant", "as in `constant:1`"),
        ("exp:k=1", "both `k` and `s0`"),
        ("exp:k=1,k=2", "once each"),
        ("exp:k=1,s0=0,p=3", "once each"),
        ("linear:1,2", "assignments separated by commas"),
        ("constant:nan", "expected weights and rates from"),
        ("power:s0=1,p=2", "s0 of at most 0.999"),
        ("power:s0=0,p=-1", "p from 0 to 1000"),
        ("band:lo=0.5,hi=0.4", "lo <= hi"),
        ("table:0=1,0=2", "ascending"),
        ("table:", "assignments"),
    ];
    for (text, expected) in cases {
        assert!(curve_error(text).contains(expected), "{text}: {}", curve_error(text));
    }
    for (text, expected) in
        [("circel", "did you mean `circle`?"), ("circle:gamma=-3", "gamma must be from"), ("nca:k=2", "only parameters")]
    {
        let message = text.parse::<PairWeighting>().unwrap_err().to_string();
        assert!(message.contains(expected), "{text}: {message}");
    }
    for (text, expected) in [("above:1.5", "-1..1"), ("below", "a number"), ("none:1", "nothing after")] {
        let message = text.parse::<Gate>().unwrap_err().to_string();
        assert!(message.contains(expected), "{text}: {message}");
    }
}

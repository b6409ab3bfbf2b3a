//! The published losses of one row in double precision, as their papers have them, and their derivatives by each similarity. A row that
//! lacks one of the two kinds has no loss where the publication compares the kinds with one another.

/// Loss of a row, and its derivatives by the similarities of its positives and of its negatives.
pub struct Row {
    pub loss: f64,
    pub by_positive: Vec<f64>,
    pub by_negative: Vec<f64>,
}

impl Row {
    fn nothing(positives: &[f64], negatives: &[f64]) -> Self {
        Self { loss: 0.0, by_positive: vec![0.0; positives.len()], by_negative: vec![0.0; negatives.len()] }
    }
}

fn each(values: &[f64], function: impl Fn(f64) -> f64) -> Vec<f64> {
    values.iter().map(|&value| function(value)).collect()
}

fn sum(values: &[f64], function: impl Fn(f64) -> f64) -> f64 {
    values.iter().map(|&value| function(value)).sum()
}

fn softplus(x: f64) -> f64 {
    x.exp().ln_1p()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The loss `name` with its published parameters on the row of an anchor with these positives and negatives.
pub fn row(name: &str, positives: &[f64], negatives: &[f64]) -> Row {
    match name {
        "contrastive" => Row {
            loss: sum(positives, |s| 1.0 - s) + sum(negatives, |s| (s - 0.5).max(0.0)),
            by_positive: each(positives, |_| -1.0),
            by_negative: each(negatives, |s| f64::from(u8::from(s > 0.5))),
        },
        "binomial-deviance" => {
            let (alpha, beta, lambda) = (2.0, 50.0, 0.5);
            let (p, n) = (positives.len().max(1) as f64, negatives.len().max(1) as f64);
            Row {
                loss: sum(positives, |s| softplus(-alpha * (s - lambda))) / p
                    + sum(negatives, |s| softplus(beta * (s - lambda))) / n,
                by_positive: each(positives, |s| -alpha * sigmoid(-alpha * (s - lambda)) / p),
                by_negative: each(negatives, |s| beta * sigmoid(beta * (s - lambda)) / n),
            }
        }
        "info-nce" if !positives.is_empty() => info_nce(positives, negatives),
        _ if positives.is_empty() || negatives.is_empty() => Row::nothing(positives, negatives),
        "triplet" => triplet(positives, negatives),
        "lifted-structure" => lifted_structure(positives, negatives),
        "nca" => {
            let (own, other) = (sum(positives, f64::exp), sum(negatives, f64::exp));
            Row {
                loss: ((own + other) / own).ln(),
                by_positive: each(positives, |s| s.exp() * (1.0 / (own + other) - 1.0 / own)),
                by_negative: each(negatives, |s| s.exp() / (own + other)),
            }
        }
        "n-pair" => {
            let other = sum(negatives, f64::exp);
            let pull = sum(positives, |s| sigmoid(other.ln() - s));
            Row {
                loss: sum(positives, |s| softplus(other.ln() - s)),
                by_positive: each(positives, |s| -sigmoid(other.ln() - s)),
                by_negative: each(negatives, |s| pull * s.exp() / other),
            }
        }
        "multi-similarity" => multi_similarity(positives, negatives),
        "circle" => circle(positives, negatives),
        other => panic!("no formula for {other}"),
    }
}

fn info_nce(positives: &[f64], negatives: &[f64]) -> Row {
    let t = 0.07;
    let all = sum(positives, |s| (s / t).exp()) + sum(negatives, |s| (s / t).exp());
    let count = positives.len() as f64;
    Row {
        loss: all.ln() - sum(positives, |s| s / t) / count,
        by_positive: each(positives, |s| ((s / t).exp() / all - 1.0 / count) / t),
        by_negative: each(negatives, |s| (s / t).exp() / all / t),
    }
}

fn triplet(positives: &[f64], negatives: &[f64]) -> Row {
    let violated = |p: f64, n: f64| n - p + 0.1 > 0.0;
    Row {
        loss: sum(positives, |p| sum(negatives, |n| (n - p + 0.1).max(0.0))),
        by_positive: each(positives, |p| -(negatives.iter().filter(|&&n| violated(p, n)).count() as f64)),
        by_negative: each(negatives, |n| positives.iter().filter(|&&p| violated(p, n)).count() as f64),
    }
}

fn lifted_structure(positives: &[f64], negatives: &[f64]) -> Row {
    let (own, other) = (sum(positives, |s| (1.0 - s).exp()), sum(negatives, f64::exp));
    let loss = (own * other).ln();
    if loss <= 0.0 {
        return Row::nothing(positives, negatives);
    }
    Row { loss, by_positive: each(positives, |s| -(1.0 - s).exp() / own), by_negative: each(negatives, |s| s.exp() / other) }
}

fn multi_similarity(positives: &[f64], negatives: &[f64]) -> Row {
    let (alpha, beta, lambda, eps) = (2.0, 50.0, 0.5, 0.1);
    let hardest_positive = positives.iter().copied().fold(f64::INFINITY, f64::min);
    let hardest_negative = negatives.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let pull = |s: f64| if s < hardest_negative + eps { (-alpha * (s - lambda)).exp() } else { 0.0 };
    let push = |s: f64| if s > hardest_positive - eps { (beta * (s - lambda)).exp() } else { 0.0 };
    let (own, other) = (sum(positives, pull), sum(negatives, push));
    Row {
        loss: own.ln_1p() / alpha + other.ln_1p() / beta,
        by_positive: each(positives, |s| -pull(s) / (1.0 + own)),
        by_negative: each(negatives, |s| push(s) / (1.0 + other)),
    }
}

/// The self-paced factors are constants to the derivative, as published.
fn circle(positives: &[f64], negatives: &[f64]) -> Row {
    let (gamma, m) = (80.0, 0.4);
    let pace = |x: f64| (x + m).max(0.0);
    let grown = |x: f64| (gamma * pace(x) * (x - m)).exp();
    let (own, other) = (sum(positives, |s| grown(1.0 - s)), sum(negatives, grown));
    let active = own * other / (1.0 + own * other);
    Row {
        loss: (own * other).ln_1p(),
        by_positive: each(positives, |s| -active * gamma * pace(1.0 - s) * grown(1.0 - s) / own),
        by_negative: each(negatives, |s| active * gamma * pace(s) * grown(s) / other),
    }
}

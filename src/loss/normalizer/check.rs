//! Which curves a row scale takes.

use super::{Mining, Normalization};
use crate::error::{Error, Result};
use crate::loss::{Curve, LARGEST_MARGIN, LARGEST_RATE, PairWeighting, Side};

impl PairWeighting {
    /// Fails on a side whose factor, mining or row scale does not fit.
    pub(in crate::loss) fn validate_rows(&self) -> Result<()> {
        let (positive, negative) = (&self.positive, &self.negative);
        for (kind, side, other) in [("positive", positive, negative), ("negative", negative, positive)] {
            if let Some(needs) = unmet_by_numbers(side).or_else(|| unmet_by_scale(kind == "positive", side, other)) {
                let (scale, curve) = (side.scale, &side.curve);
                return Err(Error::config(format!("{kind} pairs, curve `{curve}`, row scale `{scale}`: {needs}")));
            }
        }
        Ok(())
    }
}

fn is_margin(margin: f32) -> bool {
    margin.abs() <= LARGEST_MARGIN
}

fn unmet_by_numbers(side: &Side) -> Option<&'static str> {
    match side.mining {
        _ if !(0.0..=LARGEST_RATE).contains(&side.factor) => Some("the factor must be a number from 0 to 1e6"),
        _ if side.soft.is_some_and(|soft| !soft.is_sound()) => Some("soft labels need a positive width and a least from 0 to 1e6"),
        Mining::Relative(margin) if !is_margin(margin) => Some("the margin of relative mining must be from -100 to 100"),
        Mining::Hardest(0) => Some("mining needs at least 1 hardest pair"),
        _ => None,
    }
}

fn unmet_by_scale(positive: bool, side: &Side, other: &Side) -> Option<&'static str> {
    if positive && side.soft.is_some() {
        return Some("soft labels weigh negative pairs only");
    }
    let exponential = |side: &Side| side.curve.rate().is_some();
    let plain_exponential = matches!(side.curve, Curve::Exponential { .. }) && exponential(side);
    match side.scale {
        Normalization::Remainder | Normalization::Contrast if !positive => Some("this row scale is for positive pairs"),
        Normalization::Remainder | Normalization::Contrast if !plain_exponential => {
            Some("this row scale needs an `exp` curve with k other than 0")
        }
        Normalization::Remainder | Normalization::Contrast if !exponential(other) => {
            Some("this row scale needs exponential curves on both sides")
        }
        Normalization::Product | Normalization::Hinge if !(exponential(side) && exponential(other)) => {
            Some("this row scale needs an `exp` or `circle` curve on both sides")
        }
        Normalization::Balanced if !(if positive { matches!(side.curve, Curve::Sigmoid { .. }) } else { plain_exponential }) => {
            Some("balanced weights need a `sigmoid` for positives and an `exp` for negatives")
        }
        Normalization::Balanced if other.scale != Normalization::Balanced => {
            Some("balanced weights need this row scale on both sides")
        }
        Normalization::Triplets(margin) => unmet_by_triplets(margin, side, other),
        Normalization::Sum | Normalization::Mean | Normalization::MeanRow | Normalization::MeanAll
            if matches!(side.curve, Curve::Circle { .. }) =>
        {
            Some("a circle needs a row scale that normalises it: soft, soft-one, joint, product or hinge")
        }
        _ => None,
    }
}

fn unmet_by_triplets(margin: f32, side: &Side, other: &Side) -> Option<&'static str> {
    let constant = |side: &Side| matches!(side.curve, Curve::Constant(_));
    if !is_margin(margin) {
        Some("the margin must be from -100 to 100")
    } else if !(other.scale == side.scale && constant(side) && constant(other)) {
        Some("counted triplets need this row scale, with one margin, and a constant curve on both sides")
    } else if !(other.mining == Mining::All && side.mining == Mining::All) {
        Some("counted triplets know no mining")
    } else {
        None
    }
}

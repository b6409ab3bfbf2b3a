//! Curves and gates as text: `constant:1`, `exp:k=10,s0=0.5`, `above:0.5`. What is printed can be read back.

use super::{Curve, Gate, Mining, Normalization, PairWeighting, Side};
use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;

const CURVES: [(&str, &str); 8] = [
    ("constant", "constant:1"),
    ("linear", "linear:a=1,b=0.5"),
    ("power", "power:s0=0.5,p=2"),
    ("exp", "exp:k=10,s0=0.5"),
    ("sigmoid", "sigmoid:k=10,s0=0.5"),
    ("band", "band:lo=0.5,hi=0.9"),
    ("circle", "circle:gamma=80,m=0.4"),
    ("table", "table:-1=0,0.5=0,1=1"),
];
const MINING: [(&str, &str); 3] = [("all", "all"), ("relative", "relative:0.1"), ("hardest", "hardest:8")];
const GATES: [(&str, &str); 3] = [("none", "none"), ("above", "above:0.5"), ("below", "below:0.9")];

impl fmt::Display for Curve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant(c) => write!(f, "constant:{c}"),
            Self::Linear { a, b } => write!(f, "linear:a={a},b={b}"),
            Self::Power { s0, p } => write!(f, "power:s0={s0},p={p}"),
            Self::Exponential { k, s0 } => write!(f, "exp:k={k},s0={s0}"),
            Self::Sigmoid { k, s0 } => write!(f, "sigmoid:k={k},s0={s0}"),
            Self::Band { lo, hi } => write!(f, "band:lo={lo},hi={hi}"),
            Self::Circle { gamma, m } => write!(f, "circle:gamma={gamma},m={m}"),
            Self::Table(knots) => {
                f.write_str("table:")?;
                for (index, (s, weight)) in knots.iter().enumerate() {
                    write!(f, "{}{s}={weight}", if index == 0 { "" } else { "," })?;
                }
                Ok(())
            }
        }
    }
}

impl FromStr for Curve {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, arguments) = text.split_once(':').unwrap_or((text, ""));
        let example = known("weight curve", &CURVES, name)?;
        let two = |names| named(text, example, arguments, names);
        let curve = match name.trim() {
            "constant" => Self::Constant(number(text, example, arguments)?),
            "linear" => two(["a", "b"]).map(|[a, b]| Self::Linear { a, b })?,
            "power" => two(["s0", "p"]).map(|[s0, p]| Self::Power { s0, p })?,
            "exp" => two(["k", "s0"]).map(|[k, s0]| Self::Exponential { k, s0 })?,
            "sigmoid" => two(["k", "s0"]).map(|[k, s0]| Self::Sigmoid { k, s0 })?,
            "band" => two(["lo", "hi"]).map(|[lo, hi]| Self::Band { lo, hi })?,
            "circle" => two(["gamma", "m"]).map(|[gamma, m]| Self::Circle { gamma, m })?,
            _ => Self::Table(
                assignments(text, example, arguments)
                    .map(|assignment| assignment.and_then(|(s, weight)| Ok((number(text, example, s)?, weight))))
                    .collect::<Result<_>>()?,
            ),
        };
        curve.validate()?;
        Ok(curve)
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Above(threshold) => write!(f, "above:{threshold}"),
            Self::Below(threshold) => write!(f, "below:{threshold}"),
        }
    }
}

impl FromStr for Gate {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, threshold) = text.split_once(':').unwrap_or((text, ""));
        let example = known("gate", &GATES, name)?;
        let gate = match name.trim() {
            "above" => Self::Above(number(text, example, threshold)?),
            "below" => Self::Below(number(text, example, threshold)?),
            _ if threshold.is_empty() => Self::None,
            _ => return Err(unreadable(text, example, "nothing after `none`")),
        };
        gate.validate()?;
        Ok(gate)
    }
}

macro_rules! as_string {
    ($($type:ty)*) => { $(
        impl TryFrom<String> for $type {
            type Error = Error;
            fn try_from(text: String) -> Result<Self> {
                text.parse()
            }
        }
        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
    )* };
}
as_string!(Curve Gate Mining Normalization);

impl fmt::Display for Mining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Relative(margin) => write!(f, "relative:{margin}"),
            Self::Hardest(count) => write!(f, "hardest:{count}"),
        }
    }
}

impl FromStr for Mining {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, argument) = text.split_once(':').unwrap_or((text, ""));
        let example = known("mining", &MINING, name)?;
        match name.trim() {
            "relative" => Ok(Self::Relative(number(text, example, argument)?)),
            "hardest" => match argument.trim().parse() {
                Ok(count) if count > 0 => Ok(Self::Hardest(count)),
                _ => Err(unreadable(text, example, "a whole number of at least 1")),
            },
            _ if argument.is_empty() => Ok(Self::All),
            _ => Err(unreadable(text, example, "nothing after `all`")),
        }
    }
}

/// The row scales that have no parameter.
const ROW_SCALES: [(Normalization, &str); 12] = [
    (Normalization::Sum, "sum"),
    (Normalization::Mean, "mean"),
    (Normalization::MeanRow, "mean-row"),
    (Normalization::MeanAll, "mean-all"),
    (Normalization::SoftmaxPlusOne, "soft-one"),
    (Normalization::Softmax, "soft"),
    (Normalization::SoftmaxAll, "joint"),
    (Normalization::Remainder, "remainder"),
    (Normalization::Contrast, "contrast"),
    (Normalization::Product, "product"),
    (Normalization::Hinge, "hinge"),
    (Normalization::Balanced, "balanced"),
];

impl fmt::Display for Normalization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Triplets(margin) = self {
            return write!(f, "triplets:{margin}");
        }
        let named = ROW_SCALES.iter().find(|(scale, _)| scale == self);
        f.write_str(named.expect("every other scale has a name").1)
    }
}

impl FromStr for Normalization {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, argument) = text.split_once(':').unwrap_or((text, ""));
        let forms: Vec<_> = ROW_SCALES.iter().map(|(_, name)| (*name, *name)).chain([("triplets", "triplets:0.1")]).collect();
        let example = known("row scale", &forms, name)?;
        let named = ROW_SCALES.iter().find(|(_, known)| *known == name.trim());
        match named {
            None => Ok(Self::Triplets(number(text, example, argument)?)),
            Some((scale, _)) if argument.is_empty() => Ok(*scale),
            Some((_, known)) => Err(unreadable(text, known, "nothing after the name")),
        }
    }
}

impl fmt::Display for Side {
    /// Curve, then what else differs from an ungated sum: `exp:k=50,s0=0.5 above:0.25 relative:0.1 soft-one times 2`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.curve)?;
        if self.gate != Gate::None {
            write!(f, " {}", self.gate)?;
        }
        if self.mining != Mining::All {
            write!(f, " {}", self.mining)?;
        }
        if self.scale != Normalization::Sum {
            write!(f, " {}", self.scale)?;
        }
        if let Some(soft) = self.soft {
            write!(f, " soft:{soft}")?;
        }
        if self.factor.to_bits() == 1f32.to_bits() { Ok(()) } else { write!(f, " times {}", self.factor) }
    }
}

impl fmt::Display for PairWeighting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "positive {}, negative {}", self.positive, self.negative)
    }
}

/// The example of a known name; otherwise an error that lists what is known and guesses what was meant.
pub(super) fn known<'a>(kind: &str, forms: &[(&str, &'a str)], name: &str) -> Result<&'a str> {
    /// Least Jaro-Winkler similarity of a name that is worth suggesting.
    const ALIKE: f64 = 0.75;
    let name = name.trim();
    if let Some((_, example)) = forms.iter().find(|(known, _)| *known == name) {
        return Ok(example);
    }
    let nearest = forms
        .iter()
        .map(|(known, _)| (strsim::jaro_winkler(known, &name.to_lowercase()), *known))
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|left, right| left.0.total_cmp(&right.0));
    let suggestion = nearest.map_or_else(|| ".".to_owned(), |(_, known)| format!(", did you mean `{known}`?"));
    let examples = forms.iter().map(|(_, example)| *example).collect::<Vec<_>>().join(" | ");
    Err(Error::config(format!("unknown {kind} `{name}`{suggestion} Known: {examples}")))
}

pub(super) fn unreadable(text: &str, example: &str, expected: &str) -> Error {
    Error::config(format!("cannot read `{text}`: expected {expected}, as in `{example}`"))
}

fn number(text: &str, example: &str, number: &str) -> Result<f32> {
    let expected = || format!("a number where `{}` stands", number.trim());
    number.trim().parse().map_err(|_| unreadable(text, example, &expected()))
}

/// The `key=number` assignments between commas.
pub(super) fn assignments<'a>(
    text: &'a str,
    example: &'a str,
    arguments: &'a str,
) -> impl Iterator<Item = Result<(&'a str, f32)>> + use<'a> {
    arguments.split(',').map(move |assignment| {
        let (key, value) =
            assignment.split_once('=').ok_or_else(|| unreadable(text, example, "assignments separated by commas"))?;
        Ok((key.trim(), number(text, example, value)?))
    })
}

/// Exactly the named parameters, each once, in any order.
fn named(text: &str, example: &str, arguments: &str, names: [&str; 2]) -> Result<[f32; 2]> {
    let mut found = [None; 2];
    for assignment in assignments(text, example, arguments) {
        let (key, value) = assignment?;
        match names.iter().position(|name| *name == key) {
            Some(index) if found[index].is_none() => found[index] = Some(value),
            _ => return Err(unreadable(text, example, &format!("`{}` and `{}` once each", names[0], names[1]))),
        }
    }
    match found {
        [Some(first), Some(second)] => Ok([first, second]),
        _ => Err(unreadable(text, example, &format!("both `{}` and `{}`", names[0], names[1]))),
    }
}

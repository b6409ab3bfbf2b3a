//! Curves and gates as text: `constant:1`, `exp:k=10,s0=0.5`, `above:0.5`. What is printed can be read back.

use super::{Curve, Gate};
use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;

const CURVES: [(&str, &str); 7] = [
    ("constant", "constant:1"),
    ("linear", "linear:a=1,b=0.5"),
    ("power", "power:s0=0.5,p=2"),
    ("exp", "exp:k=10,s0=0.5"),
    ("sigmoid", "sigmoid:k=10,s0=0.5"),
    ("band", "band:lo=0.5,hi=0.9"),
    ("table", "table:-1=0,0.5=0,1=1"),
];
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
as_string!(Curve Gate);

/// The example of a known name; otherwise an error that lists what is known and guesses what was meant.
fn known(kind: &str, forms: &[(&str, &'static str)], name: &str) -> Result<&'static str> {
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

fn unreadable(text: &str, example: &str, expected: &str) -> Error {
    Error::config(format!("cannot read `{text}`: expected {expected}, as in `{example}`"))
}

fn number(text: &str, example: &str, number: &str) -> Result<f32> {
    let expected = || format!("a number where `{}` stands", number.trim());
    number.trim().parse().map_err(|_| unreadable(text, example, &expected()))
}

/// The `key=number` assignments between commas.
fn assignments<'a>(text: &'a str, example: &'a str, arguments: &'a str) -> impl Iterator<Item = Result<(&'a str, f32)>> + use<'a> {
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

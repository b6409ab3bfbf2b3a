//! Published pair-wise losses, written as weights of positive and negative pairs.
//!
//! Each is, on a row, exactly the published loss: its value up to rounding and its derivative by every similarity. Losses that were
//! published on distances are written on the similarity `s = 1 - distance`. Defaults are those of the publication, or of the authors'
//! code where the paper leaves them open; each is set by name, as in `multi-similarity:alpha=2,beta=40`.

use super::text::{assignments, known, unreadable};
use super::{Curve, Gate, LARGEST_MARGIN, LARGEST_RATE, Mining, NEGATIVE_THRESHOLD, Normalization, PairWeighting, Side};
use crate::error::{Error, Result};
use std::str::FromStr;

/// A parameter of a named loss, with its default.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parameter {
    /// As it is set: `margin`.
    pub name: &'static str,
    /// Its published value.
    pub default: f32,
    /// Its least and its largest value.
    range: [f32; 2],
}

/// A published loss.
#[derive(Clone, Copy, Debug)]
pub struct Named {
    /// As it is called on the command line.
    pub name: &'static str,
    /// Where it was published.
    pub source: &'static str,
    /// What can be set.
    pub parameters: &'static [Parameter],
    weighting: fn(&[f32]) -> PairWeighting,
}

const fn positive(name: &'static str, default: f32) -> Parameter {
    Parameter { name, default, range: [1.0 / LARGEST_RATE, LARGEST_RATE] }
}

const fn any(name: &'static str, default: f32) -> Parameter {
    Parameter { name, default, range: [-LARGEST_MARGIN, LARGEST_MARGIN] }
}

fn exponential(k: f32, s0: f32) -> Side {
    Side::ungated(Curve::Exponential { k, s0 })
}

fn sigmoid(k: f32, s0: f32) -> Side {
    Side::ungated(Curve::Sigmoid { k, s0 })
}

const ALL: [Named; 9] = [
    Named {
        name: "contrastive",
        source: "Hadsell et al. 2006, as a rule on similarities",
        parameters: &[any("positive", 1.0), any("negative", NEGATIVE_THRESHOLD)],
        weighting: |p| {
            let above = |gate: f32| if gate >= 1.0 { Gate::None } else { Gate::Below(gate) };
            let below = |gate: f32| if gate <= -1.0 { Gate::None } else { Gate::Above(gate) };
            PairWeighting {
                positive: Side::new(Curve::Constant(1.0), above(p[0])),
                negative: Side::new(Curve::Constant(1.0), below(p[1])),
            }
        },
    },
    Named {
        name: "triplet",
        source: "Schroff et al. 2015, all triplets",
        parameters: &[any("margin", 0.1)],
        weighting: |p| {
            let side = Side::ungated(Curve::Constant(1.0)).scaled(Normalization::Triplets(p[0]));
            PairWeighting { positive: side.clone(), negative: side }
        },
    },
    Named {
        name: "lifted-structure",
        source: "Oh Song et al. 2016, generalised by Hermans et al. 2017",
        parameters: &[any("margin", 1.0), positive("scale", 1.0)],
        weighting: |p| PairWeighting {
            positive: exponential(-p[1], 1.0).scaled(Normalization::Hinge),
            negative: exponential(p[1], 1.0 - p[0]).scaled(Normalization::Hinge),
        },
    },
    Named {
        name: "nca",
        source: "Goldberger et al. 2004",
        parameters: &[positive("t", 1.0)],
        weighting: |p| PairWeighting {
            positive: exponential(1.0 / p[0], 0.0).scaled(Normalization::Remainder).times(1.0 / p[0]),
            negative: exponential(1.0 / p[0], 0.0).scaled(Normalization::SoftmaxAll).times(1.0 / p[0]),
        },
    },
    Named {
        name: "info-nce",
        source: "van den Oord et al. 2018; over several positives Khosla et al. 2020 (SupCon)",
        parameters: &[positive("t", 0.07)],
        weighting: |p| PairWeighting {
            positive: exponential(1.0 / p[0], 0.0).scaled(Normalization::Contrast).times(1.0 / p[0]),
            negative: exponential(1.0 / p[0], 0.0).scaled(Normalization::SoftmaxAll).times(1.0 / p[0]),
        },
    },
    Named {
        name: "n-pair",
        source: "Sohn 2016",
        parameters: &[positive("scale", 1.0)],
        weighting: |p| PairWeighting {
            positive: sigmoid(-p[0], 0.0).scaled(Normalization::Balanced).times(p[0]),
            // Its weights are those of the positives, which have the factor.
            negative: exponential(p[0], 0.0).scaled(Normalization::Balanced),
        },
    },
    Named {
        name: "binomial-deviance",
        source: "Yi et al. 2014; Ustinova & Lempitsky 2016",
        parameters: &[positive("alpha", 2.0), positive("beta", 50.0), any("lambda", 0.5)],
        weighting: |p| PairWeighting {
            positive: sigmoid(-p[0], p[2]).scaled(Normalization::Mean).times(p[0]),
            negative: sigmoid(p[1], p[2]).scaled(Normalization::Mean).times(p[1]),
        },
    },
    Named {
        name: "multi-similarity",
        source: "Wang et al. 2019",
        parameters: &[positive("alpha", 2.0), positive("beta", 50.0), any("lambda", 0.5), any("eps", 0.1)],
        weighting: |p| PairWeighting {
            positive: exponential(-p[0], p[2]).scaled(Normalization::SoftmaxPlusOne).mined(Mining::Relative(p[3])),
            negative: exponential(p[1], p[2]).scaled(Normalization::SoftmaxPlusOne).mined(Mining::Relative(p[3])),
        },
    },
    Named {
        name: "circle",
        source: "Sun et al. 2020",
        parameters: &[positive("gamma", 80.0), any("m", 0.4)],
        weighting: |p| PairWeighting {
            positive: Side::ungated(Curve::Circle { gamma: -p[0], m: p[1] }).scaled(Normalization::Product),
            negative: Side::ungated(Curve::Circle { gamma: p[0], m: p[1] }).scaled(Normalization::Product),
        },
    },
];

impl Named {
    /// All of them.
    pub fn all() -> &'static [Self] {
        &ALL
    }

    /// Its weights with the published parameters.
    pub fn weighting(&self) -> PairWeighting {
        (self.weighting)(&self.parameters.iter().map(|parameter| parameter.default).collect::<Vec<_>>())
    }

    /// How it is written out: `multi-similarity:alpha=2,beta=50,lambda=0.5,eps=0.1`.
    pub fn example(&self) -> String {
        let parameters: Vec<_> =
            self.parameters.iter().map(|parameter| format!("{}={}", parameter.name, parameter.default)).collect();
        format!("{}:{}", self.name, parameters.join(","))
    }

    fn with(&self, text: &str, arguments: &str) -> Result<PairWeighting> {
        let example = self.example();
        let mut values: Vec<f32> = self.parameters.iter().map(|parameter| parameter.default).collect();
        let given = if arguments.trim().is_empty() { None } else { Some(assignments(text, &example, arguments)) };
        for assignment in given.into_iter().flatten() {
            let (key, value) = assignment?;
            let index = self.parameters.iter().position(|parameter| parameter.name == key);
            let index = index.ok_or_else(|| unreadable(text, &example, "only parameters of that loss"))?;
            let Parameter { name, range: [least, most], .. } = self.parameters[index];
            if !(least..=most).contains(&value) {
                return Err(Error::config(format!("weighting `{text}`: {name} must be from {least} to {most}, found {value}")));
            }
            values[index] = value;
        }
        Ok((self.weighting)(&values))
    }
}

impl FromStr for PairWeighting {
    type Err = Error;

    /// A published loss by name, with parameters that differ from their defaults: `circle`, `circle:gamma=64`.
    fn from_str(text: &str) -> Result<Self> {
        let (name, arguments) = text.split_once(':').unwrap_or((text, ""));
        let examples: Vec<String> = ALL.iter().map(Named::example).collect();
        let forms: Vec<(&str, &str)> = ALL.iter().zip(&examples).map(|(named, example)| (named.name, example.as_str())).collect();
        known("weighting", &forms, name)?;
        let named = ALL.iter().find(|named| named.name == name.trim()).expect("a known name");
        let weighting = named.with(text, arguments)?;
        weighting.validate()?;
        Ok(weighting)
    }
}

//! What a study runs and what it asks: a declaration in TOML, and the variants it stands for.

use super::statistics::Direction;
use crate::app::config::TrainConfig;
use crate::error::{Error, Result};
use crate::files::{input, output};
use crate::words::counted;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The first line of what a study writes for people to read and change.
pub(super) const MARK: &str = "# Written by xbm-fast study.";

/// The built-in study of the facts F1 to F6.
pub const DEFAULT: &str = include_str!("default.toml");
/// A shorter one.
pub const QUICK: &str = include_str!("quick.toml");
/// The built-in search.
pub const TUNE: &str = include_str!("tune.toml");

/// A study: every variant is trained with every seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudyPlan {
    /// Heading of the page.
    pub title: String,
    /// Seeds; variants are compared seed by seed.
    pub seeds: Vec<u64>,
    /// Settings of `train` that all variants share.
    #[serde(default)]
    pub base: toml::Table,
    /// Groups of variants.
    #[serde(default, rename = "group")]
    pub groups: Vec<Group>,
    /// Settings to be tuned.
    #[serde(default, rename = "tune", skip_serializing_if = "Vec::is_empty")]
    pub searches: Vec<Search>,
    /// What the variants are to show.
    #[serde(default, rename = "fact")]
    pub facts: Vec<Fact>,
}

/// Variants that differ in the values of some settings: every combination of the axes' values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// A group without axes is one variant of this name; with axes they are named `group/setting=value`.
    pub name: String,
    /// Settings that its variants share.
    #[serde(default)]
    pub settings: toml::Table,
    /// Settings and the values each takes.
    #[serde(default)]
    pub axes: toml::Table,
}

/// Settings to tune.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Search {
    /// Its name, also of the file with the settings it ends with.
    pub name: String,
    /// Settings that it starts from, beside the base.
    #[serde(default)]
    pub settings: toml::Table,
    /// Settings and the values each may take; they are tuned in the order of their names.
    pub axes: toml::Table,
    /// Most times that it goes through the axes; it ends earlier when none changes.
    #[serde(default = "Search::default_rounds")]
    pub rounds: usize,
}

impl Search {
    fn default_rounds() -> usize {
        2
    }
}

/// A statement that stands or falls with some comparisons.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fact {
    /// Short name, such as `F1`.
    pub name: String,
    /// The statement.
    pub statement: String,
    /// All of these have to hold.
    #[serde(rename = "claim")]
    pub claims: Vec<Claim>,
}

/// That one variant is, or is not, better than another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// The variant spoken of.
    pub variant: String,
    /// `better` or `no better`.
    pub is: Direction,
    /// The variant it is compared with.
    pub than: String,
    /// The smallest gain in Recall@1 that matters.
    #[serde(default = "Claim::default_margin")]
    pub margin: f64,
}

impl Claim {
    fn default_margin() -> f64 {
        0.01
    }
}

/// One combination of settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// Its name in claims, table and page.
    pub name: String,
    /// What it changes in the base.
    pub changes: toml::Table,
    /// All its settings, but for seed and folder.
    pub config: TrainConfig,
}

impl StudyPlan {
    /// Reads a declaration; `source` is named in errors.
    ///
    /// # Errors
    /// [`Error::Data`] on text that is not a plan.
    pub fn parse(text: &str, source: &Path) -> Result<Self> {
        toml::from_str(text).map_err(|error: toml::de::Error| {
            let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            Error::data(source, format!("line {line}: expected a study: {}", error.message().replace('\n', ", ")))
        })
    }

    /// The declaration as TOML.
    pub fn to_toml(&self) -> String {
        format!("{MARK}\n\n{}", toml::to_string_pretty(self).expect("a plan is plain values"))
    }

    /// Whether a file declares the same.
    pub fn is_at(&self, path: &Path) -> bool {
        input::read_text(path).is_ok_and(|text| Self::parse(&text, path).is_ok_and(|plan| plan == *self))
    }

    /// Whether a file was written by a study.
    pub fn is_written(path: &Path) -> bool {
        output::head(path, MARK.len() as u64) == MARK.as_bytes()
    }

    /// Every variant, in the order of the groups.
    ///
    /// # Errors
    /// [`Error::Config`] on settings that `train` refuses, names that are not unique, seeds that are missing or repeated, and claims about
    /// variants that do not exist.
    pub fn variants(&self) -> Result<Vec<Variant>> {
        let mut variants: Vec<Variant> = Vec::new();
        for group in &self.groups {
            for (name, changes) in group.combinations()? {
                if variants.iter().any(|known| known.name == name) {
                    return Err(Error::config(format!("two variants of the study are named `{name}`; rename a group")));
                }
                let config = self.config(&changes).map_err(|error| Error::config(format!("variant `{name}`: {error}")))?;
                variants.push(Variant { name, changes, config });
            }
        }
        self.check(&variants)?;
        Ok(variants)
    }

    /// All settings of a variant, but for seed and folder.
    pub(super) fn config(&self, changes: &toml::Table) -> Result<TrainConfig> {
        let mut settings = self.base.clone();
        settings.extend(changes.clone());
        for own in ["seed", "out"] {
            if settings.contains_key(own) {
                return Err(Error::config(format!("`{own}` is set by the study itself; remove it")));
            }
        }
        TrainConfig::merged(None, settings)
    }

    fn check(&self, variants: &[Variant]) -> Result<()> {
        let repeated = (1..self.seeds.len()).any(|index| self.seeds[..index].contains(&self.seeds[index]));
        if self.seeds.is_empty() || repeated || variants.is_empty() {
            let found = format!("the seeds {:?} and {}", self.seeds, counted(variants.len(), "variant"));
            return Err(Error::config(format!(
                "expected a study with different `seeds` and at least one [[group]], found {found}"
            )));
        }
        for fact in &self.facts {
            for name in fact.claims.iter().flat_map(|claim| [&claim.variant, &claim.than]) {
                if !variants.iter().any(|variant| variant.name == *name) {
                    let alike = |variant: &&Variant| (1e6 * strsim::jaro_winkler(name, &variant.name)) as u64;
                    let nearest = variants.iter().max_by_key(alike).expect("there are variants");
                    let words = format!(
                        "fact {} speaks of variant `{name}`, which no group has; did you mean `{}`?",
                        fact.name, nearest.name
                    );
                    return Err(Error::config(words));
                }
            }
        }
        Ok(())
    }
}

impl Group {
    /// Names and settings of the variants: the last axis changes fastest.
    fn combinations(&self) -> Result<Vec<(String, toml::Table)>> {
        let mut combinations = vec![(Vec::new(), self.settings.clone())];
        for (key, values) in &self.axes {
            let Some(values) = values.as_array().filter(|values| !values.is_empty()) else {
                return Err(Error::config(format!("group `{}`: axis `{key}` must be a list of values, found {values}", self.name)));
            };
            combinations = combinations
                .iter()
                .flat_map(|(names, settings)| {
                    values.iter().map(move |value| {
                        let mut settings = settings.clone();
                        settings.insert(key.clone(), value.clone());
                        (names.iter().cloned().chain([format!("{key}={}", shown(value))]).collect::<Vec<_>>(), settings)
                    })
                })
                .collect();
        }
        let name =
            |names: Vec<String>| if names.is_empty() { self.name.clone() } else { format!("{}/{}", self.name, names.join(",")) };
        Ok(combinations.into_iter().map(|(names, settings)| (name(names), settings)).collect())
    }
}

/// A value as it is typed after a flag.
pub fn shown(value: &toml::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

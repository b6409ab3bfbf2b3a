//! Settings for the published data sets, kept as TOML in `recipes/` and built into the program.
//!
//! A recipe's first comment line describes it, the second one names its source; what the source leaves open is marked as chosen here.

use crate::error::{Error, Result};
use std::fmt::Write;

/// Settings of a run, with where they come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// What `--recipe` calls it.
    pub name: &'static str,
    text: &'static str,
}

macro_rules! recipes {
    ($($name:literal),* $(,)?) => {
        &[$(Recipe { name: $name, text: include_str!(concat!("../../recipes/", $name, ".toml")) }),*]
    };
}

/// Every recipe, by data set, XBM's own before the stronger one.
pub const RECIPES: &[Recipe] =
    recipes!["sop", "sop-512", "inshop", "inshop-512", "deepfashion2", "deepfashion2-512", "cub", "cub-512", "cars", "cars-512",];

impl Recipe {
    /// The recipe of that name.
    ///
    /// # Errors
    /// [`Error::Config`] with the names there are.
    pub fn named(name: &str) -> Result<&'static Self> {
        let names = || RECIPES.iter().map(|recipe| recipe.name).collect::<Vec<_>>().join(", ");
        let found = RECIPES.iter().find(|recipe| recipe.name == name);
        found.ok_or_else(|| Error::config(format!("--recipe {name}: no such recipe; there are {}", names())))
    }

    /// What it is for, in one line.
    pub fn description(&self) -> &'static str {
        self.comment(0)
    }

    /// Where its values come from, in one line.
    pub fn source(&self) -> &'static str {
        self.comment(1)
    }

    fn comment(&self, line: usize) -> &'static str {
        self.text.lines().nth(line).map_or("", |line| line.trim_start_matches("# "))
    }

    /// Its settings.
    ///
    /// # Errors
    /// [`Error::Config`] if it is not TOML.
    pub fn table(&self) -> Result<toml::Table> {
        self.text.parse().map_err(|error| Error::config(format!("recipe {}: {error}", self.name)))
    }
}

/// Names, descriptions and sources, as `train --list-recipes` prints them.
pub fn list() -> String {
    let width = RECIPES.iter().map(|recipe| recipe.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for recipe in RECIPES {
        let _ = writeln!(text, "{:width$}  {}\n{:width$}  {}", recipe.name, recipe.description(), "", recipe.source());
    }
    text
}

//! The flags of `train`: one for each setting, made of its declaration.

use super::{CHOSEN_BY_IMAGES, settings};
use crate::error::{Error, Result};
use crate::settings::{Kind, Setting};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, value_parser};
use serde::Serialize;
use std::path::PathBuf;
use std::sync::LazyLock;

/// Every setting with its flag, without dashes.
static FLAGS: LazyLock<Vec<(String, &'static Setting)>> =
    LazyLock::new(|| settings().iter().map(|setting| (setting.flag(), *setting)).collect());

/// The settings that were given as flags; what was not keeps its value from the file or the recipe, or its default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrainFlags {
    given: Vec<(&'static str, Given)>,
}

/// A value as it was typed.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
enum Given {
    Whole(u64),
    Number(f32),
    Numbers(Vec<f32>),
    Text(String),
    Path(PathBuf),
    Switch(bool),
}

impl TrainFlags {
    /// The flags that were given, as TOML settings.
    ///
    /// # Errors
    /// [`Error::Config`] on what TOML cannot hold: a whole number above 2^63 - 1, a path that is not Unicode.
    pub fn table(&self) -> Result<toml::Table> {
        let mut table = toml::Table::new();
        for (key, given) in &self.given {
            if let Given::Whole(number) = given
                && i64::try_from(*number).is_err()
            {
                let flag = key.replace('_', "-");
                return Err(Error::config(format!("--{flag} must be at most {}, found {number}", i64::MAX)));
            }
            let value = toml::Value::try_from(given);
            let value = value.map_err(|error| Error::config(format!("a flag does not fit into config.toml: {error}")))?;
            table.insert((*key).to_owned(), value);
        }
        Ok(table)
    }
}

impl Args for TrainFlags {
    fn augment_args(command: Command) -> Command {
        FLAGS.iter().fold(command, |command, (name, setting)| command.arg(flag(name, setting)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for TrainFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |setting: &&'static Setting| Some((setting.key, value_of(setting, matches)?));
        Ok(Self { given: settings().iter().filter_map(given).collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The flag of a setting. Names of choices are checked with the settings of files, which answer in the same words.
fn flag(name: &'static str, setting: &Setting) -> Arg {
    let mut help = setting.help();
    if CHOSEN_BY_IMAGES.contains(&setting.key) {
        help += " [own images: chosen by them]";
    }
    let arg = Arg::new(setting.key).long(name).help(help).help_heading(setting.heading);
    if setting.kind == Kind::Switch {
        return arg.action(ArgAction::SetTrue);
    }
    let arg = arg.value_name(setting.unit);
    match setting.kind {
        Kind::Whole(largest) => arg.value_parser(value_parser!(u64).range(..=largest)),
        Kind::Number => arg.value_parser(value_parser!(f32)),
        Kind::Numbers => arg.value_parser(value_parser!(f32)).value_delimiter(',').num_args(1).action(ArgAction::Set),
        Kind::Path => arg.value_parser(value_parser!(PathBuf)),
        Kind::Text | Kind::Choice(_) | Kind::Switch => arg,
    }
}

/// The value that was typed for a setting.
fn value_of(setting: &Setting, matches: &ArgMatches) -> Option<Given> {
    let key = setting.key;
    match setting.kind {
        Kind::Switch => matches.get_flag(key).then(|| Given::Switch(!setting.is_negated())),
        Kind::Whole(_) => matches.get_one(key).copied().map(Given::Whole),
        Kind::Number => matches.get_one(key).copied().map(Given::Number),
        Kind::Numbers => matches.get_many(key).map(|numbers| Given::Numbers(numbers.copied().collect())),
        Kind::Path => matches.get_one(key).cloned().map(Given::Path),
        Kind::Text | Kind::Choice(_) => matches.get_one(key).cloned().map(Given::Text),
    }
}

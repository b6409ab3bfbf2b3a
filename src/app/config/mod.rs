//! Settings of a training run. Each is declared once, in the section it belongs to ([`crate::settings`]), and has the same name in TOML
//! (with underscores) and as a flag (with dashes).

mod data;
mod flags;
mod idle;
mod machine;
mod record;
mod sampling;
mod weighting;

pub use data::{DataSettings, ScoredOn};
pub use flags::TrainFlags;
pub use machine::{DeviceChoice, MachineSettings};
pub use record::RecordSettings;
pub use sampling::SamplingSettings;
pub use weighting::read_weighting;

use crate::app::data::SamplerOptions;
use crate::error::{Error, Result};
use crate::files::input;
use crate::loss::PairWeighting;
use crate::settings::Setting;
use crate::train::TrainSettings;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// Everything that determines a run, and how it is recorded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrainConfig {
    /// What it reads.
    #[serde(flatten)]
    pub data: DataSettings,
    /// Where it computes.
    #[serde(flatten)]
    pub machine: MachineSettings,
    /// What determines its steps.
    #[serde(flatten)]
    pub train: TrainSettings,
    /// Which images form a batch.
    #[serde(flatten)]
    pub sampling: SamplingSettings,
    /// What it writes.
    #[serde(flatten)]
    pub record: RecordSettings,
}

/// Sections of the help, in their order.
const HEADINGS: [&str; 8] = ["Data", "Machine", "Network", "Batch", "Memory", "Weighting", "Optimiser", "Record"];

/// Settings that follow from a person's own images where nobody gives them ([`crate::app::fit`]).
pub const CHOSEN_BY_IMAGES: [&str; 8] =
    ["image_size", "batch_size", "samples_per_class", "steps", "memory_size", "memory_start", "eval_every", "validation"];

/// Every setting, section by section.
pub fn settings() -> &'static [&'static Setting] {
    static SETTINGS: LazyLock<Vec<&'static Setting>> = LazyLock::new(|| {
        let reading = [DataSettings::SETTINGS, MachineSettings::SETTINGS].into_iter().flatten();
        let writing = [SamplingSettings::SETTINGS, RecordSettings::SETTINGS].into_iter().flatten();
        let mut all: Vec<_> = reading.chain(TrainSettings::settings()).chain(writing).chain(weighting::settings()).collect();
        all.sort_by_key(|setting| HEADINGS.iter().position(|heading| *heading == setting.heading));
        all
    });
    &SETTINGS
}

/// Name of a run's settings inside its folder.
pub const FILE_NAME: &str = "config.toml";

/// Where settings were given: named in messages about them.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// In a TOML file.
    File(&'a Path),
    /// In a recipe of this name.
    Recipe(&'a str),
    /// On the command line.
    Flags,
}

impl Source<'_> {
    /// What is wrong with a setting that was given there.
    fn blame(self, key: &str, reason: String) -> Error {
        match self {
            Self::File(path) => Error::data(path, format!("{key}: {reason}")),
            Self::Recipe(name) => Error::config(format!("recipe {name}: {key}: {reason}")),
            Self::Flags => Error::config(format!("--{}: {reason}", key.replace('_', "-"))),
        }
    }
}

impl TrainConfig {
    /// The defaults, overridden by a TOML file if there is one, overridden by flags.
    ///
    /// # Errors
    /// [`Error::Data`] on a file that is not TOML or holds an unknown or ill-typed key, [`Error::Config`] on settings that contradict
    /// each other.
    pub fn merged(file: Option<&Path>, flags: toml::Table) -> Result<Self> {
        let file = file.map(|path| Ok((Source::File(path), read_table(path)?))).transpose()?;
        Self::layered(file.into_iter().chain([(Source::Flags, flags)]))
    }

    /// The defaults, overridden by each layer in turn. A layer that chooses a weighting begins with that, whatever those before it changed.
    ///
    /// # Errors
    /// An unknown or ill-typed key, with where it was given; [`Error::Config`] on settings that contradict each other.
    pub fn layered<'a>(layers: impl IntoIterator<Item = (Source<'a>, toml::Table)>) -> Result<Self> {
        let (mut settings, mut weighting) = (toml::Table::new(), PairWeighting::default());
        for (source, mut layer) in layers {
            let blame = |key: &str, reason| source.blame(key, reason);
            weighting::take(&mut layer, &mut weighting, blame)?;
            check_layer(&layer, blame)?;
            count_once(&layer, &mut settings, blame)?;
            settings.extend(layer);
        }
        let mut config: Self = settings.try_into().map_err(|error: toml::de::Error| Error::config(error.message()))?;
        config.train.weighting = weighting;
        config.check()?;
        Ok(config)
    }

    /// The settings as TOML, enough to repeat the run. Its folder is left out: a repeated run gets one of its own.
    pub fn to_toml(&self) -> String {
        let mut anywhere = self.clone();
        anywhere.record.out = PathBuf::new();
        toml::to_string_pretty(&anywhere).expect("settings are plain values")
    }

    /// How batches are drawn.
    pub fn sampler(&self) -> SamplerOptions {
        let SamplingSettings { samples_per_class, order, .. } = self.sampling;
        SamplerOptions { batch_size: self.train.batch.size, samples_per_class, sampling: order, seed: self.train.execution.seed }
    }

    /// Fails on settings that contradict each other.
    ///
    /// # Errors
    /// [`Error::Config`] with the flags and their values.
    pub fn check(&self) -> Result<()> {
        self.sampling.check(self.train.batch.size)?;
        self.data.check_ranges().map_err(Error::config)?;
        self.machine.check_ranges().map_err(Error::config)?;
        self.record.check_ranges().map_err(Error::config)?;
        self.train.check()
    }
}

/// The settings in a file.
///
/// # Errors
/// [`Error::Data`] where it is not TOML.
pub fn read_table(path: &Path) -> Result<toml::Table> {
    let text = input::read_text(path)?;
    text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
        Error::data(path, format!("line {line}: expected TOML: {}", error.message().replace('\n', ", ")))
    })
}

/// The layer that counts a run in steps or in epochs has the say over those before it, and says it one way.
fn count_once(layer: &toml::Table, before: &mut toml::Table, blame: impl Fn(&str, String) -> Error) -> Result<()> {
    let counted = |key| layer.get(key).and_then(toml::Value::as_integer).is_some_and(|number: i64| number > 0);
    match (counted("epochs"), layer.contains_key("steps")) {
        (true, true) => return Err(blame("epochs", "is another way to say --steps; leave one of them out".to_owned())),
        (true, false) => before.remove("steps"),
        (false, true) => before.remove("epochs"),
        (false, false) => None,
    };
    Ok(())
}

/// Fails on the first setting whose name is unknown or whose value cannot be read, with the error that `blame` makes of both.
fn check_layer(layer: &toml::Table, blame: impl Fn(&str, String) -> Error) -> Result<()> {
    for (key, value) in layer {
        if settings().iter().all(|setting| setting.key != key) {
            let alike = |setting: &&&Setting| (1e6 * strsim::jaro_winkler(key, setting.key)) as u64;
            let closest = settings().iter().max_by_key(alike).map_or("data", |setting| setting.key);
            return Err(blame(key, format!("no such setting, did you mean `{closest}`? All are flags of `xbm-fast train --help`")));
        }
        let alone = toml::Table::from_iter([(key.clone(), value.clone())]);
        alone.try_into::<TrainConfig>().map_err(|error| blame(key, error.message().to_owned()))?;
    }
    Ok(())
}

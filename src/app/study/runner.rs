//! Trains the variants, one run after another, each in a folder of its own that is known by its settings: what is finished is kept, what
//! was cut off goes on, what failed is noted.

use super::plan::Variant;
use crate::app::config::{FILE_NAME, TrainConfig};
use crate::app::data::{Content, Dataset, Listing, OpenOptions};
use crate::app::run::{self, Ending, RunFolder, Verbosity};
use crate::app::runlog::{SUMMARY_FILE, Summary};
use crate::error::{Error, Result};
use crate::files::write_atomically;
use crate::ops::Backend;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

const RUNS: &str = "runs";
const FAILURE_FILE: &str = "failure.txt";
/// Of a run that its settings, its data or its files did not let begin or go on: the next study tries it again by itself.
const REFUSAL_FILE: &str = "refused.txt";
/// Most letters of a variant's name in the name of its folder.
const SLUG_LETTERS: usize = 40;

/// How a run stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It has not run to its end yet.
    Pending,
    /// It ended with these scores.
    Finished(Box<Summary>),
    /// It ended with this error.
    Failed(String),
}

/// One run of the study: a variant under a seed.
#[derive(Clone, Debug)]
pub struct Planned {
    /// All settings, folder included.
    config: TrainConfig,
}

impl Planned {
    /// The run of a variant under a seed.
    pub fn new(folders: &mut RunFolders, variant: &Variant, seed: u64) -> Self {
        let mut config = variant.config.clone();
        (config.train.execution.seed, config.record.out) = (seed, PathBuf::new());
        config.record.out = folders.find(&variant.name, &config);
        Self { config }
    }

    /// The run's folder.
    pub fn folder(&self) -> &Path {
        &self.config.record.out
    }

    /// How the run stands, by what lies in its folder.
    pub fn outcome(&self) -> Outcome {
        if let Ok(summary) = Summary::read(self.folder()) {
            return Outcome::Finished(Box::new(summary));
        }
        let words = |name| std::fs::read_to_string(self.folder().join(name));
        words(FAILURE_FILE).or_else(|_| words(REFUSAL_FILE)).map_or(Outcome::Pending, Outcome::Failed)
    }

    /// All settings, folder included.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// Forgets that the run was refused, for what refused it may be put right by now.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn forget_refusal(&self) -> Result<()> {
        let path = self.folder().join(REFUSAL_FILE);
        if path.is_file() { std::fs::remove_file(&path).map_err(Error::io(&path)) } else { Ok(()) }
    }

    /// Whether the run has finished on other images than its data set holds; `current` are the hashes of the data sets looked at before.
    pub fn is_outdated(&self, current: &mut HashMap<String, Option<Content>>) -> bool {
        let Outcome::Finished(summary) = self.outcome() else { return false };
        let Some(images) = summary.images else { return false };
        let spec = &self.config.data.spec;
        let opened = || Dataset::open(spec, &OpenOptions::default()).ok().map(|dataset| Listing::of(&dataset).fingerprint());
        let now = current.entry(spec.clone()).or_insert_with(opened);
        now.is_some_and(|now| now != images)
    }

    /// Forgets a failure, so that the run is tried again.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn forget_failure(&self) -> Result<()> {
        let folder = self.folder();
        if matches!(self.outcome(), Outcome::Failed(_)) {
            std::fs::remove_dir_all(folder).map_err(Error::io(folder))
        } else {
            Ok(())
        }
    }

    /// Trains to the end, from where an earlier attempt was cut off. `None` if somebody asked to stop.
    ///
    /// # Errors
    /// [`Error::Io`] if a failure cannot be noted, [`Error::Busy`] if another process trains this run; a failure itself is an [`Outcome`].
    pub fn execute<B: Backend>(&self, backend: &B, interrupted: &AtomicBool) -> Result<Option<Outcome>> {
        match self.train(backend, interrupted) {
            Ok(Ending::Finished(summary, folder, _)) => {
                folder.discard_checkpoints()?;
                Ok(Some(Outcome::Finished(summary)))
            }
            Ok(Ending::Interrupted(..)) => Ok(None),
            // Somebody else's work is no failure of the run's.
            Err(error @ Error::Busy { .. }) => Err(error),
            Err(error) => {
                let (words, folder) = (error.to_string(), self.folder());
                let refused = matches!(error, Error::Config(_) | Error::Data { .. } | Error::Io { .. });
                std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
                let name = if refused { REFUSAL_FILE } else { FAILURE_FILE };
                write_atomically(folder.join(name), |file| file.write_all(words.as_bytes()))?;
                Ok(Some(Outcome::Failed(words)))
            }
        }
    }

    fn train<B: Backend>(&self, backend: &B, interrupted: &AtomicBool) -> Result<Ending> {
        let (config, folder) = (self.config.clone(), self.folder());
        // Scores that are there and yet unread are damaged, and the checkpoints went when the run finished.
        if folder.join(FILE_NAME).is_file() && folder.join(SUMMARY_FILE).exists() {
            std::fs::remove_dir_all(folder).map_err(Error::io(folder))?;
        }
        match RunFolder::open(folder) {
            Ok(folder) if folder.last_checkpoint()?.is_some() => {
                run::resume(backend, folder, config, interrupted, Verbosity::Silent)
            }
            // Nothing to go on from: it was cut off before its first checkpoint, or has lost its scores since it finished.
            Ok(folder) => {
                drop(folder);
                std::fs::remove_dir_all(self.folder()).map_err(Error::io(self.folder()))?;
                run::start(backend, config, interrupted, Verbosity::Silent)
            }
            Err(error @ Error::Busy { .. }) => Err(error),
            Err(_) => run::start(backend, config, interrupted, Verbosity::Silent),
        }
    }
}

/// The folders of a study's runs. A folder's name ends in a fingerprint of its run's settings.
#[derive(Debug)]
pub struct RunFolders {
    parent: PathBuf,
    known: Vec<PathBuf>,
}

impl RunFolders {
    /// Those that a study's folder holds.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read.
    pub fn of(study: &Path) -> Result<Self> {
        let (parent, mut known) = (study.join(RUNS), Vec::new());
        if parent.is_dir() {
            for entry in std::fs::read_dir(&parent).map_err(Error::io(&parent))? {
                known.push(entry.map_err(Error::io(&parent))?.path());
            }
        }
        Ok(Self { parent, known })
    }

    /// The folder for these settings: the one there is, whatever its variant was called, or a new one.
    fn find(&mut self, variant: &str, config: &TrainConfig) -> PathBuf {
        let fingerprint = format!("-{:016x}", fnv(chosen(config).to_string().as_bytes()));
        let fits = |path: &&PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(&fingerprint));
        if let Some(folder) = self.known.iter().find(fits) {
            return folder.clone();
        }
        let plain = |letter: char| if letter.is_ascii_alphanumeric() || letter == '.' { letter } else { '-' };
        let slug: String = variant.chars().map(plain).take(SLUG_LETTERS).collect();
        let folder = self.parent.join(format!("{slug}-seed{}{fingerprint}", config.train.execution.seed));
        self.known.push(folder.clone());
        folder
    }
}

/// The settings that are not the defaults, so that a setting added later leaves fingerprints as they are, and the program's version.
fn chosen(config: &TrainConfig) -> toml::Table {
    let table = |config: &TrainConfig| toml::Table::try_from(config).expect("settings are plain values");
    let defaults = table(&TrainConfig::default());
    let mut chosen: toml::Table = table(config).into_iter().filter(|(name, value)| defaults.get(name) != Some(value)).collect();
    chosen.insert("version".to_owned(), env!("CARGO_PKG_VERSION").into());
    chosen
}

/// FNV-1a, 64 bits.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

//! The folder of a run: who may use it, where each file goes, and which checkpoints stay.

use crate::app::config::{FILE_NAME, ScoredOn, Source, TrainConfig, read_table};
use crate::app::report::is_page;
use crate::app::runlog::{METRICS_FILE, SUMMARY_FILE, Summary, read_metrics};
use crate::checkpoint;
use crate::error::{Error, Result};
use crate::files::lock::FolderLock;
use crate::files::output::Outputs;
use crate::files::{input, is_temporary, write_atomically};
use serde_json::Value;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

const CHECKPOINTS: &str = "checkpoints";
/// The model that scored best.
const BEST: &str = "best.safetensors";
const DEFAULT_PARENT: &str = "runs";

const REPORT: &str = "report.html";
/// Names the last checkpoint that was written, so that a deleted one is missed, and the seconds of training before it.
const LAST_CHECKPOINT: &str = ".last-checkpoint";

/// The model that `path` names: itself, or the best one of the run in that folder.
///
/// # Errors
/// [`Error::Data`] on a folder without one.
pub fn model_file(path: &Path) -> Result<PathBuf> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let places = [path.join(CHECKPOINTS).join(BEST), path.join(BEST)];
    places.into_iter().find(|place| place.is_file()).ok_or_else(|| {
        let words = format!("expected a model or the folder of a run, found a folder without {CHECKPOINTS}/{BEST}");
        Error::data(path, format!("{words}; give the file of a model"))
    })
}

/// A run's folder, with its `checkpoints/`. No other process can open it meanwhile.
#[derive(Clone, Debug)]
pub struct RunFolder {
    root: PathBuf,
    /// Of the process that writes.
    _lock: Option<FolderLock>,
}

impl PartialEq for RunFolder {
    fn eq(&self, other: &Self) -> bool {
        self.root == other.root
    }
}

impl RunFolder {
    /// Makes the folder for a new run and writes its settings; an empty `config.record.out` chooses the next free `runs/NNN`.
    ///
    /// # Errors
    /// [`Error::Data`] if the folder holds a run already, or files that a run would write over; [`Error::Busy`] if another process is
    /// about to train in it; [`Error::Io`] if it cannot be written.
    pub fn create(config: &mut TrainConfig) -> Result<Self> {
        if config.record.out.as_os_str().is_empty() {
            config.record.out = make_next_free(Path::new(DEFAULT_PARENT))?;
        }
        let root = config.record.out.clone();
        expect_free(&root)?;
        std::fs::create_dir_all(&root).map_err(unusable(&root))?;
        let lock = FolderLock::take(&root)?;
        // Another process may have come and gone between the look and the lock.
        expect_free(&root)?;
        let folder = Self { root, _lock: Some(lock) };
        std::fs::create_dir_all(folder.checkpoints()).map_err(unusable(&folder.root))?;
        folder.write_config(config)?;
        Ok(folder)
    }

    /// The folder of an earlier run.
    ///
    /// # Errors
    /// [`Error::Data`] if there is no run in it, or somebody else's report; [`Error::Busy`] if it is being trained.
    pub fn open(root: &Path) -> Result<Self> {
        if !root.join(FILE_NAME).is_file() {
            return Err(Error::data(root, format!("holds no run: expected a {FILE_NAME}, written by `xbm-fast train --out`")));
        }
        if root.to_str().is_none() {
            return Err(Error::data(root, "expected a path in Unicode, as config.toml names it"));
        }
        let folder = Self { root: root.to_owned(), _lock: Some(FolderLock::take(root)?) };
        let theirs = Outputs::in_folder();
        theirs.check(&folder.report(), is_page)?;
        theirs.check(&root.join(SUMMARY_FILE), is_summary)?;
        std::fs::create_dir_all(folder.checkpoints()).map_err(Error::io(folder.checkpoints()))?;
        remove_unfinished(&folder.root)?;
        remove_unfinished(&folder.checkpoints())?;
        Ok(folder)
    }

    /// The folder of a run whose first rank writes in it; this one only reads.
    pub fn of_first_rank(root: &Path) -> Self {
        Self { root: root.to_owned(), _lock: None }
    }

    /// The run's settings, overridden by flags. Before there was a setting for it, a run with validation classes was scored on them.
    ///
    /// # Errors
    /// As [`TrainConfig::merged`].
    pub fn settings(&self, flags: toml::Table) -> Result<TrainConfig> {
        let path = self.config();
        let mut settings = read_table(&path)?;
        if settings.get("validation").and_then(toml::Value::as_float).is_some_and(|share| share > 0.0) {
            settings.entry("score_on").or_insert_with(|| ScoredOn::Validation.name().into());
        }
        TrainConfig::layered([(Source::File(&path), settings), (Source::Flags, flags)])
    }

    /// Writes the settings.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write_config(&self, config: &TrainConfig) -> Result<()> {
        write_atomically(self.config(), |file| file.write_all(config.to_toml().as_bytes()))
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The run's settings.
    pub fn config(&self) -> PathBuf {
        self.root.join(FILE_NAME)
    }

    /// The page to look at.
    pub fn report(&self) -> PathBuf {
        self.root.join(REPORT)
    }

    /// The model that scored best.
    pub fn best(&self) -> PathBuf {
        self.checkpoints().join(BEST)
    }

    /// The checkpoint of a step.
    pub fn checkpoint(&self, step: u64) -> PathBuf {
        self.checkpoints().join(checkpoint::file_name(step))
    }

    /// The newest checkpoint.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder cannot be read.
    pub fn last_checkpoint(&self) -> Result<Option<PathBuf>> {
        Ok(checkpoint::list(&self.checkpoints())?.pop().map(|(_, path)| path))
    }

    /// Notes that the checkpoint of a step was written, after so many seconds of training.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn note_checkpoint(&self, step: u64, seconds: f64) -> Result<()> {
        write_atomically(self.root.join(LAST_CHECKPOINT), |file| writeln!(file, "{}\n{seconds}", checkpoint::file_name(step)))
    }

    /// Seconds of training up to the checkpoint at `path`: noted with it, or as logged at or before its step.
    pub fn seconds_until(&self, path: &Path, step: u64) -> Option<f64> {
        let noted = self.noted_checkpoint().filter(|(name, _)| path.ends_with(name)).and_then(|(_, seconds)| seconds);
        let logged = || {
            let lines = read_metrics(&self.root).ok()?;
            lines.iter().rev().find(|metrics| metrics.step <= step && metrics.seconds.is_some())?.seconds
        };
        noted.or_else(logged)
    }

    /// Name of the checkpoint that was written last, and the seconds of training before it.
    fn noted_checkpoint(&self) -> Option<(String, Option<f64>)> {
        let text = std::fs::read_to_string(self.root.join(LAST_CHECKPOINT)).ok()?;
        let mut lines = text.lines();
        Some((lines.next()?.trim().to_owned(), lines.next().and_then(|seconds| seconds.parse().ok())))
    }

    /// Makes room for a start from nothing, for want of a checkpoint: what was logged before is kept under another name. Says so.
    ///
    /// # Errors
    /// [`Error::Data`] if there was a checkpoint, so that more than a start is lost; [`Error::Io`].
    pub fn start_over(&self) -> Result<String> {
        let log = self.root.join(METRICS_FILE);
        let steps = if log.exists() { read_metrics(&self.root)?.last().map_or(0, |last| last.step) } else { 0 };
        let noted = self.noted_checkpoint();
        if noted.is_some() || self.root.join(SUMMARY_FILE).exists() {
            let last = noted.map_or(String::new(), |(name, _)| format!(" (the last one was {name})"));
            let root = self.root.display();
            return Err(Error::data(
                self.checkpoints(),
                format!(
                    "expected a checkpoint of a run that has logged {steps} steps{last}, found none; put it back, or train anew with \
                     `xbm-fast train --config {root}/{FILE_NAME} --out` and another folder"
                ),
            ));
        }
        if steps == 0 {
            return Ok("no checkpoint was written before the run ended; starting at step 0".to_owned());
        }
        let kept = (1..).map(|number| format!("metrics-{number}.jsonl")).find(|name| !self.root.join(name).exists());
        let kept = kept.expect("there is always a next number");
        std::fs::rename(&log, self.root.join(&kept)).map_err(Error::io(&log))?;
        Ok(format!(
            "no checkpoint was written before the run ended; starting at step 0, and its log of {steps} steps is now {kept}"
        ))
    }

    /// Deletes all checkpoints but the newest `keep`, at least one.
    ///
    /// # Errors
    /// [`Error::Io`] if one cannot be deleted.
    pub fn prune(&self, keep: usize) -> Result<()> {
        let all = checkpoint::list(&self.checkpoints())?;
        for (_, path) in &all[..all.len().saturating_sub(keep.max(1))] {
            std::fs::remove_file(path).map_err(Error::io(path))?;
        }
        Ok(())
    }

    /// Deletes all checkpoints and the best model: what a run leaves that is only of interest for its scores.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn discard_checkpoints(&self) -> Result<()> {
        std::fs::remove_dir_all(self.checkpoints()).map_err(Error::io(self.checkpoints()))
    }

    fn checkpoints(&self) -> PathBuf {
        self.root.join(CHECKPOINTS)
    }
}

/// Makes the first of `001`, `002` and so on that does not exist yet. Two processes never make the same one.
fn make_next_free(parent: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(parent).map_err(unusable(parent))?;
    let mut number = 1;
    loop {
        let path = parent.join(format!("{number:03}"));
        match std::fs::create_dir(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            made => return made.map(|()| path).map_err(unusable(parent)),
        }
    }
}

/// Fails if there is a run in the folder, or something that a new one would write over.
fn expect_free(root: &Path) -> Result<()> {
    if root.join(FILE_NAME).exists() {
        let words = format!("holds a run already; continue it with --resume {}, or choose another --out", root.display());
        return Err(Error::data(root, words));
    }
    let checkpoints = root.join(CHECKPOINTS);
    let is_empty = std::fs::read_dir(&checkpoints).is_ok_and(|mut entries| entries.next().is_none());
    for name in [REPORT, SUMMARY_FILE, METRICS_FILE, CHECKPOINTS] {
        let path = root.join(name);
        if path.symlink_metadata().is_ok() && !(name == CHECKPOINTS && is_empty) {
            return Err(Error::data(
                &path,
                "is there already, in a folder without a run, and a run would write over it; choose another --out",
            ));
        }
    }
    Ok(())
}

/// Whether a file is the summary of a run, or the damaged rest of one.
fn is_summary(path: &Path) -> bool {
    let text = input::read(path).unwrap_or_default();
    serde_json::from_slice::<Value>(&text).map_or(true, |value| serde_json::from_value::<Summary>(value).is_ok())
}

fn unusable(root: &Path) -> impl FnOnce(std::io::Error) -> Error {
    move |error| Error::data(root, format!("the run's folder cannot be made here ({error}); choose another --out"))
}

/// Deletes the temporary files of a run that was killed while it wrote them, and no others.
fn remove_unfinished(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        if is_temporary(&path) {
            std::fs::remove_file(&path).map_err(Error::io(&path))?;
        }
    }
    Ok(())
}

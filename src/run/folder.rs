//! The folder of a run: where each file goes, and which checkpoints stay.

use crate::checkpoint;
use crate::config::{FILE_NAME, TrainConfig};
use crate::error::{Error, Result};
use crate::files::write_atomically;
use std::io::Write;
use std::path::{Path, PathBuf};

const CHECKPOINTS: &str = "checkpoints";
const DEFAULT_PARENT: &str = "runs";

/// A run's folder, with its `checkpoints/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFolder {
    root: PathBuf,
}

impl RunFolder {
    /// Makes the folder for a new run and writes its settings; an empty `config.out` chooses the next free `runs/NNN`.
    ///
    /// # Errors
    /// [`Error::Data`] if the folder holds a run already, [`Error::Io`] if it cannot be written.
    pub fn create(config: &mut TrainConfig) -> Result<Self> {
        if config.out.as_os_str().is_empty() {
            config.out = next_free(Path::new(DEFAULT_PARENT));
        }
        let root = config.out.clone();
        if root.join(FILE_NAME).exists() {
            let words = format!("holds a run already; continue it with --resume {}, or choose another --out", root.display());
            return Err(Error::data(&root, words));
        }
        let folder = Self { root };
        let unusable =
            |error| Error::data(&folder.root, format!("the run's folder cannot be made here ({error}); choose another --out"));
        std::fs::create_dir_all(folder.checkpoints()).map_err(unusable)?;
        folder.write_config(config)?;
        Ok(folder)
    }

    /// The folder of an earlier run.
    ///
    /// # Errors
    /// [`Error::Data`] if there is no run in it.
    pub fn open(root: &Path) -> Result<Self> {
        if !root.join(FILE_NAME).is_file() {
            return Err(Error::data(root, format!("holds no run: expected a {FILE_NAME}, written by `xbm-fast train --out`")));
        }
        if root.to_str().is_none() {
            return Err(Error::data(root, "expected a path in Unicode, as config.toml names it"));
        }
        let folder = Self { root: root.to_owned() };
        std::fs::create_dir_all(folder.checkpoints()).map_err(Error::io(folder.checkpoints()))?;
        remove_unfinished(&folder.root)?;
        remove_unfinished(&folder.checkpoints())?;
        Ok(folder)
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
        self.root.join("report.html")
    }

    /// The model that scored best.
    pub fn best(&self) -> PathBuf {
        self.checkpoints().join("best.safetensors")
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

fn next_free(parent: &Path) -> PathBuf {
    (1..).map(|number| parent.join(format!("{number:03}"))).find(|path| !path.exists()).expect("there is always a next number")
}

/// Deletes the temporary files of a run that was killed while it wrote them.
fn remove_unfinished(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        if path.extension().is_some_and(|extension| extension == "tmp") {
            std::fs::remove_file(&path).map_err(Error::io(&path))?;
        }
    }
    Ok(())
}

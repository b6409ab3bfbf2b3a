//! Which files an index folder consists of.

use crate::error::{Error, Result};
use crate::files::{input, write_atomically};
use crate::settings::choice;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Name of the file.
pub const MANIFEST: &str = "manifest.json";
const FORMAT: u32 = 1;

choice! {
    /// How rows are stored.
    pub enum RowFormat {
        /// 32-bit floats, as they were computed.
        F32 = "f32",
        /// 16-bit floats: half the room, and similarities off by less than 0.001.
        F16 = "f16",
    }
}

/// Where images of an index come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// SPEC of the data set.
    pub data: String,
    /// Share of its classes that were held out for testing.
    pub holdout: f64,
    /// Seed of the held-out classes.
    pub seed: u64,
    /// The folder that relative paths start from.
    pub folder: PathBuf,
    /// Splits that were asked for; all if there is none.
    #[serde(default)]
    pub splits: Vec<String>,
}

/// A shard that counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// What its files are called.
    pub name: String,
    /// Rows in it.
    pub rows: usize,
    /// Name of the file of those that count no more.
    pub removed: Option<String>,
}

/// What an index folder is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    format: u32,
    /// Version of the program that wrote it.
    pub version: String,
    /// Changes so far.
    pub generation: u64,
    /// The model that made the rows.
    pub checkpoint: PathBuf,
    /// CRC-32C of its file.
    pub checkpoint_crc32c: u32,
    /// Length of a row.
    pub dim: usize,
    /// How rows are stored.
    pub rows: RowFormat,
    /// The id of the next image.
    pub next_id: u64,
    /// The number of the next shard.
    pub next_shard: u64,
    /// Where images come from.
    pub origins: Vec<Origin>,
    /// In the order of their rows.
    pub shards: Vec<Entry>,
}

impl Manifest {
    /// Of an index without images.
    pub fn new((checkpoint, checkpoint_crc32c): (PathBuf, u32), dim: usize, rows: RowFormat) -> Self {
        Self {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            generation: 0,
            checkpoint,
            checkpoint_crc32c,
            dim,
            rows,
            next_id: 0,
            next_shard: 1,
            origins: Vec::new(),
            shards: Vec::new(),
        }
    }

    /// Of the folder at `root`.
    pub fn read(root: &Path) -> Result<Self> {
        let path = root.join(MANIFEST);
        let damaged = |error: serde_json::Error| Error::data(&path, format!("expected the manifest of an index: {error}"));
        let value: serde_json::Value = serde_json::from_str(&input::read_text(&path)?).map_err(damaged)?;
        match value["format"].as_u64() {
            Some(format) if format == u64::from(FORMAT) => {}
            found => {
                let found = found.map_or("none".to_owned(), |format| format.to_string());
                let words = format!(
                    "expected an index of format {FORMAT}, found format {found}; this is xbm-fast {}",
                    env!("CARGO_PKG_VERSION")
                );
                return Err(Error::data(&path, words));
            }
        }
        let manifest: Self = serde_json::from_value(value).map_err(damaged)?;
        // Names are joined to the folder's: none may lead out of it.
        let names = manifest.shards.iter().flat_map(|entry| [Some(&entry.name), entry.removed.as_ref()]).flatten();
        if let Some(name) =
            names.into_iter().find(|name| !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte)))
        {
            return Err(Error::data(&path, format!("damaged: `{name}` is no name of a shard")));
        }
        if manifest.dim == 0 {
            return Err(Error::data(&path, "damaged: rows of no numbers"));
        }
        Ok(manifest)
    }

    /// Makes it the one that counts.
    pub fn write(&self, root: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).expect("names and numbers");
        write_atomically(root.join(MANIFEST), |file| file.write_all(text.as_bytes()))
    }
}

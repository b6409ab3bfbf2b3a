//! `xbm-fast index`: an index that lives. Images are added to it, removed and replaced without embedding the others again.

use super::interrupt::Interrupt;
use super::{DeviceFlags, DeviceRequest, EmbedFlags, Job, one_of};
use crate::app::data::{DEFAULT_MAX_MEGAPIXELS, Split};
use crate::app::index::store::{Editor, RowFormat, Store, StoredImage};
use crate::app::index::{self, Opened};
use crate::app::run::{Collected, Collector, DataRequest, model_file};
use crate::app::terminal::{self, print_json, say};
use crate::error::{Error, Result};
use crate::files::name;
use crate::files::output::Outputs;
use crate::ops::Backend;
use crate::words::{counted, quoted};
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What to do with an index.
#[derive(Debug, Args)]
pub struct IndexArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: IndexCommand,
}

/// The commands of an index.
#[derive(Debug, Subcommand)]
pub enum IndexCommand {
    /// Add images that are new or have changed; makes the index if there is none
    Add(IndexAddArgs),
    /// Look at all images again: add what is new, replace what has changed, remove what is gone
    Update(IndexUpdateArgs),
    /// Remove images; their files stay
    Remove(IndexRemoveArgs),
    /// Say what is in an index
    Info(IndexInfoArgs),
    /// Write an index for other programs
    Export(IndexExportArgs),
}

/// What to add.
#[derive(Debug, Args)]
#[command(allow_negative_numbers = true)]
pub struct IndexAddArgs {
    /// Folder of the index
    #[arg(value_name = "DIR")]
    pub index: PathBuf,
    /// Images, as for `xbm-fast embed`
    #[arg(long, value_name = "SPEC")]
    pub data: String,
    /// A model or checkpoint (.safetensors), or the folder of a run, whose best model is taken [default: that of the index]
    #[arg(long, value_name = "FILE|DIR")]
    pub checkpoint: Option<PathBuf>,
    /// How a new index keeps its rows: f32, or f16, which takes half the room [default: f32]
    #[arg(long, value_parser = one_of::<RowFormat>())]
    pub rows: Option<RowFormat>,
    /// Splits to add [default: all images]
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(["train", "test", "query", "gallery"]))]
    pub split: Vec<String>,
    /// How it goes about it.
    #[command(flatten)]
    pub changing: ChangingFlags,
}

/// What to update.
#[derive(Debug, Args)]
pub struct IndexUpdateArgs {
    /// Folder of the index
    #[arg(value_name = "DIR")]
    pub index: PathBuf,
    /// The index's model, if it has moved
    #[arg(long, value_name = "FILE|DIR")]
    pub checkpoint: Option<PathBuf>,
    /// How it goes about it.
    #[command(flatten)]
    pub changing: ChangingFlags,
}

/// How images are put into an index.
#[derive(Debug, Args)]
pub struct ChangingFlags {
    /// Where it computes.
    #[command(flatten)]
    pub device: DeviceFlags,
    /// How images are embedded.
    #[command(flatten)]
    pub embedding: EmbedFlags,
    /// Largest image that is decoded, in millions of pixels
    #[arg(long, default_value_t = DEFAULT_MAX_MEGAPIXELS, value_name = "MPX")]
    pub max_megapixels: u32,
    /// Print what was done as JSON on stdout
    #[arg(long)]
    pub json: bool,
}

impl ChangingFlags {
    fn report(&self, index: &Path, store: &Store, collected: &Collected, interrupt: &Interrupt) -> Result<ExitCode> {
        for (path, reason) in &collected.unreadable {
            say(format_args!("left out  {path}: {reason}"));
        }
        let Collected { added, replaced, removed, unchanged, .. } = collected;
        let words = format!("{added} added, {replaced} replaced, {removed} removed, {unchanged} unchanged");
        say(format_args!("{words}; {} in {}", counted(store.len(), "image"), index.display()));
        if self.json {
            print_json(collected)?;
        }
        if collected.interrupted {
            say("interrupted; what was done is kept, and the same command goes on");
            return Ok(interrupt.exit_code());
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Job for IndexAddArgs {
    fn device(&self) -> DeviceRequest {
        self.changing.device.request()
    }

    fn run<B: Backend>(self, backend: &B) -> Result<ExitCode> {
        let interrupt = Interrupt::listen("batch of images")?;
        let checkpoint = self.checkpoint.as_deref().map(model_file).transpose()?;
        let options = self.changing.embedding.options()?;
        let mut collector = Collector::open(backend, &self.index, checkpoint.as_deref(), self.rows, &options)?;
        let request =
            DataRequest { spec: Some(&self.data), max_megapixels: Some(self.changing.max_megapixels), ..DataRequest::default() };
        let splits: Vec<Split> = self.split.iter().filter_map(|name| Split::from_name(name)).collect();
        let collected = collector.add(request, &splits, interrupt.flag())?;
        self.changing.report(&self.index, collector.store(), &collected, &interrupt)
    }
}

impl Job for IndexUpdateArgs {
    fn device(&self) -> DeviceRequest {
        self.changing.device.request()
    }

    fn run<B: Backend>(self, backend: &B) -> Result<ExitCode> {
        let interrupt = Interrupt::listen("batch of images")?;
        Store::open(&self.index)?;
        let checkpoint = self.checkpoint.as_deref().map(model_file).transpose()?;
        let options = self.changing.embedding.options()?;
        let mut collector = Collector::open(backend, &self.index, checkpoint.as_deref(), None, &options)?;
        let collected = collector.update(self.changing.max_megapixels, interrupt.flag())?;
        self.changing.report(&self.index, collector.store(), &collected, &interrupt)
    }
}

/// What to remove.
#[derive(Debug, Args)]
pub struct IndexRemoveArgs {
    /// Folder of the index
    #[arg(value_name = "DIR")]
    pub index: PathBuf,
    /// Files to remove, and folders, which stand for all images below them
    #[arg(value_name = "PATH", required_unless_present_any = ["id", "missing"])]
    pub paths: Vec<PathBuf>,
    /// Images by their ids, as `xbm-fast search --json` gives them as rows
    #[arg(long, value_name = "ID,..", value_delimiter = ',')]
    pub id: Vec<u64>,
    /// Images whose files are gone
    #[arg(long)]
    pub missing: bool,
}

impl IndexRemoveArgs {
    /// Removes them.
    ///
    /// # Errors
    /// What is no index, and an image that is not in it.
    pub fn run(self) -> Result<ExitCode> {
        let mut editor = Editor::open(&self.index)?;
        let paths = self.paths.iter().map(|path| std::path::absolute(path).map_err(Error::io(path))).collect::<Result<Vec<_>>>()?;
        let (mut positions, mut met) = (Vec::new(), vec![false; paths.len()]);
        let mut known_ids = Vec::new();
        for position in editor.store().positions() {
            let StoredImage { id, path, stamp, .. } = editor.store().image(position)?;
            let place = name::path_of(&path);
            let named = paths.iter().position(|path| place.starts_with(path));
            named.iter().for_each(|&path| met[path] = true);
            let by_id = self.id.contains(&id);
            known_ids.extend(by_id.then_some(id));
            // Only images that are files by themselves have a stamp.
            let gone = self.missing && stamp.is_some() && !place.is_file();
            if named.is_some() || by_id || gone {
                positions.push(position);
            }
        }
        if let Some((path, _)) = self.paths.iter().zip(met).find(|(_, met)| !met) {
            let words = format!(
                "no image of the index is there; `xbm-fast index info {}` says what is in it",
                quoted(&self.index.to_string_lossy())
            );
            return Err(Error::data(path, words));
        }
        if let Some(id) = self.id.iter().find(|id| !known_ids.contains(id)) {
            return Err(Error::config(format!("--id {id}: no image of the index has it")));
        }
        editor.remove(&positions);
        editor.commit()?;
        let left = counted(editor.store().len(), "image");
        say(format_args!("{} removed; {left} in {}", positions.len(), self.index.display()));
        Ok(ExitCode::SUCCESS)
    }
}

/// What to look at.
#[derive(Debug, Args)]
pub struct IndexInfoArgs {
    /// Folder of the index
    #[arg(value_name = "DIR")]
    pub index: PathBuf,
    /// Print as JSON on stdout
    #[arg(long)]
    pub json: bool,
}

#[derive(Serialize)]
struct Info {
    images: usize,
    dim: usize,
    rows: RowFormat,
    bytes: u64,
    shards: usize,
    removed_rows: usize,
    checkpoint: PathBuf,
    data: Vec<String>,
}

impl IndexInfoArgs {
    /// Prints it.
    ///
    /// # Errors
    /// What is no index.
    pub fn run(self) -> Result<ExitCode> {
        let store = Store::open(&self.index)?;
        let (removed_rows, shards, bytes) = store.room();
        let info = Info {
            images: store.len(),
            dim: store.dim(),
            rows: store.rows(),
            bytes,
            shards,
            removed_rows,
            checkpoint: store.checkpoint().0.to_owned(),
            data: store.origins().iter().map(|origin| origin.data.clone()).collect(),
        };
        if self.json {
            print_json(&info)?;
            return Ok(ExitCode::SUCCESS);
        }
        let sources: String = info.data.iter().map(|data| format!("  from      {data}\n")).collect();
        let here = if info.checkpoint.is_file() { "" } else { " (not there any more; say where it is with --checkpoint)" };
        terminal::print(&format!(
            "{}: {}\n{sources}  model     {}{here}\n  rows      {} numbers in {}, {:.1} MB in {}, {} that count no more\n",
            self.index.display(),
            counted(info.images, "image"),
            info.checkpoint.display(),
            info.dim,
            info.rows.name(),
            info.bytes as f64 / 1e6,
            counted(shards, "shard"),
            removed_rows,
        ))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// What to write.
#[derive(Debug, Args)]
pub struct IndexExportArgs {
    /// An index: a folder, or the rows that `xbm-fast embed` wrote
    #[arg(value_name = "DIR|FILE.npy|FILE.safetensors")]
    pub index: PathBuf,
    /// File of the rows, for NumPy, as safetensors, or for faiss as an `IndexFlatIP`; a .csv that says what each row is is written beside it
    #[arg(long, value_name = "FILE.npy|FILE.safetensors|FILE.faiss")]
    pub out: PathBuf,
    /// Write over files that xbm-fast did not make; never over one that is read
    #[arg(long)]
    pub force: bool,
}

impl IndexExportArgs {
    /// Writes it.
    ///
    /// # Errors
    /// What is no index, and files that cannot be written.
    pub fn run(self) -> Result<ExitCode> {
        index::check_outputs(&self.out, &Outputs::new(self.force).reading([&self.index]))?;
        let index = Opened::open(&self.index)?.into_files()?;
        index.write(&self.out)?;
        let rows = counted(index.images.len(), "embedding");
        say(format_args!("{rows} of length {} in {}", index.dim, self.out.display()));
        Ok(ExitCode::SUCCESS)
    }
}

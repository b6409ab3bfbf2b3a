//! The command line: what is typed, and how it becomes work. One command, one file.

mod data;
mod device;
mod doctor;
mod embed;
mod embedding;
mod eval;
mod index;
mod interrupt;
mod pack;
mod search;
mod self_check;
mod shell;
mod split;
mod study;
mod train;
mod weights;

pub use data::DataArgs;
pub use device::DeviceFlags;
pub use doctor::DoctorArgs;
pub use embed::EmbedArgs;
pub use embedding::EmbedFlags;
pub use eval::EvalArgs;
pub use index::{IndexArgs, IndexCommand};
pub use pack::{PackArgs, PackEncoding};
pub use search::SearchArgs;
pub use self_check::SelfCheckArgs;
pub use shell::{CompletionsArgs, ManArgs};
pub use split::SplitFlags;
pub use study::StudyArgs;
pub use train::{TrainArgs, TrainJob};
pub use weights::WeightsArgs;

use crate::app::config::DeviceChoice;
use crate::app::data::{Dataset, Labels, OpenOptions, Provenance, Source};
use crate::checkpoint::load_record;
use crate::device::cuda::{PairLossPath, Precision};
use crate::error::Result;
use crate::files::output::Outputs;
use crate::ops::Backend;
use crate::settings::{Choice, sentence};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Train image-retrieval embeddings with an embedding memory.
#[derive(Debug, Parser)]
#[command(name = "xbm-fast", version, about, arg_required_else_help = true, args_override_self = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a network. Without arguments: the built-in products, about a minute on two cores.
    Train(Box<TrainArgs>),
    /// Score a trained network on a data set's test images.
    Eval(EvalArgs),
    /// Embed a data set's images: rows of numbers for other programs, and for search.
    Embed(EmbedArgs),
    /// Keep an index that lives: add images, remove them, look at them again, export it.
    Index(IndexArgs),
    /// Find the images of an index that look like given ones.
    Search(SearchArgs),
    /// Compare weights and memories over several seeds, with a verdict for each claim: which rule holds on this data?
    Study(StudyArgs),
    /// Draw the weights of positive and negative pairs by similarity, of published losses and your own, and print their table.
    Weights(WeightsArgs),
    /// Say what is in a data set: images, classes, splits, what was left out.
    Data(DataArgs),
    /// Pack a data set into one file that loads fast.
    Pack(PackArgs),
    /// Say what this machine has for the GPU backend, what is missing, and what to install.
    Doctor(DoctorArgs),
    /// Print what a shell completes commands and flags by.
    Completions(CompletionsArgs),
    /// Print a manual page.
    Man(ManArgs),
    /// Try the GPU for another process of this program, which is told of it in JSON.
    #[command(hide = true)]
    SelfCheck(SelfCheckArgs),
}

/// Where a command wants to compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceRequest {
    /// Kind of device.
    pub choice: DeviceChoice,
    /// Worker threads of the host; 0 is one per core.
    pub threads: usize,
    /// What a GPU computes in.
    pub precision: Precision,
    /// Which implementation of the pair loss a GPU uses.
    pub pair_loss: PairLossPath,
}

/// A command that computes on a device.
pub trait Job {
    /// The device it asks for.
    fn device(&self) -> DeviceRequest;

    /// Does the work; the exit code is for the shell.
    ///
    /// # Errors
    /// Those of the command.
    fn run<B: Backend>(self, backend: &B) -> Result<ExitCode>;
}

/// A flag's value that is one of a choice's names.
fn one_of<T: Choice>() -> impl TypedValueParser<Value = T> {
    let named = |(_, name, doc): &(T, &'static str, &'static str)| PossibleValue::new(*name).help(sentence(doc));
    let value = |text: String| T::CHOICES.iter().find(|(_, name, _)| *name == text).expect("clap knows the names").0;
    PossibleValuesParser::new(T::CHOICES.iter().map(named)).map(value)
}

/// The outputs of a command that reads the data set `spec`.
fn reading_data<'a>(outputs: Outputs<'a>, spec: &'a str) -> Outputs<'a> {
    outputs.reading(place_of(spec)).reading_listed(move || images_of(spec))
}

/// The outputs of a command that reads a model, and the data set `spec` or else the one that the model was trained on.
fn reading_model<'a>(outputs: Outputs<'a>, checkpoint: &'a Path, spec: Option<&'a str>) -> Outputs<'a> {
    let outputs = outputs.reading([checkpoint]);
    match spec {
        Some(spec) => reading_data(outputs, spec),
        None => outputs.reading_listed(move || {
            let recorded = Provenance::from_value(load_record(checkpoint)?.trained_on, checkpoint)?;
            let Some(run) = recorded else { return Ok(Vec::new()) };
            Ok(images_of(&run.data)?.into_iter().chain(place_of(&run.data)).collect())
        }),
    }
}

/// The file or folder that a SPEC names.
fn place_of(spec: &str) -> Option<PathBuf> {
    spec.split_once(':').map(|(_, path)| PathBuf::from(path))
}

/// The image files of a data set, wherever they are.
fn images_of(spec: &str) -> Result<Vec<PathBuf>> {
    let options = OpenOptions { labels: Labels::Optional, ..OpenOptions::default() };
    let images = Dataset::open(spec, &options)?.images.into_iter();
    let files = images.filter_map(|image| match image.source {
        Source::File(path) => Some(path),
        Source::Packed(_) | Source::Drawn(_) => None,
    });
    Ok(files.collect())
}

//! Checkpoints: safetensors files that hold a whole run, and models that PyTorch loads.
//!
//! A checkpoint (`step-000400.safetensors`) holds the query encoder under torchvision's names, the key encoder under `key_encoder.`,
//! the optimiser's moments, the memory with the age of each row and the drift measured, and the run's progress as JSON in the header: enough to continue with
//! the same bits. Both hold in their header what they were trained on, so that a model is not tested on it by mistake. A model (`best.safetensors`) holds the one encoder that scored, nothing else, so that
//! `torchvision.models.resnet18(num_classes=dim).load_state_dict(...)` takes it as it is.

mod layout;
mod memory;
mod pretrained;

use crate::app::config::FILE_NAME;
use crate::app::data::Provenance;
use crate::app::window::Window;
use crate::device::Tensor;
use crate::error::{Error, Result};
use crate::files::{input, write_atomically};
use crate::model::{Architecture, Depth, ModelSettings, Weights};
use crate::ops::Backend;
use crate::ops::optimizer::SCALER_LEN;
use crate::ops::pool::GlobalPooling;
use crate::train::schedule::Plateau;
use crate::train::{State, TrainSettings};
use crate::words::quoted;
use layout::{HostWeights, NamedTensor, Tensors, from_torch, to_torch};
use memory::MemoryHeader;
pub use memory::{load_memory, memory_from_bytes, memory_to_bytes, save_memory};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

pub use pretrained::load_pretrained;

const FORMAT: u32 = 3;
const HEADER: &str = "xbm-fast";
const KEY_ENCODER: &str = "key_encoder.";
const SCALER: &str = "optimizer.scaler";
/// More than any run takes, and few enough to be counted in images.
const MOST_STEPS: u64 = 1 << 40;

/// What a run knows beside its tensors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Recall@1 before the first step.
    pub initial_recall_at_1: f64,
    /// Best Recall@1 so far, and its step.
    pub best: Option<(f64, u64)>,
    /// State of the plateau schedule.
    pub plateau: Plateau,
    /// Seconds of training so far.
    pub seconds: f64,
    /// Steps taken since the last line of the log.
    pub window: Window,
    /// The run's data; unknown in checkpoints of earlier versions.
    #[serde(skip)]
    pub provenance: Option<Provenance>,
}

/// Which network a file belongs to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkHeader {
    /// Which ResNet.
    pub backbone: Depth,
    /// Length of the embedding.
    pub dim: usize,
    /// Side of the images.
    pub image_size: usize,
    /// Pooling of the head.
    pub pooling: GlobalPooling,
}

impl NetworkHeader {
    /// The network of a run.
    pub fn of(config: &TrainSettings) -> Self {
        let ModelSettings { backbone, dim, image_size, pooling, .. } = config.model;
        Self { backbone, dim, image_size, pooling }
    }

    /// The layers this header describes.
    ///
    /// # Errors
    /// [`Error::Config`] if a size is zero or beyond all reason.
    pub fn architecture(&self) -> Result<Architecture> {
        Architecture::new(self.backbone, self.image_size, self.dim, self.pooling)
    }
}

impl std::fmt::Display for NetworkHeader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { backbone, dim, image_size, pooling } = self;
        let names = (format!("{backbone:?}").to_lowercase(), format!("{pooling:?}").to_lowercase());
        write!(f, "{} with --dim {dim}, --image-size {image_size}, --pooling {}", names.0, names.1)
    }
}

#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    version: String,
    network: NetworkHeader,
    run: Option<RunHeader>,
    /// Absent in files of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trained_on: Option<Provenance>,
}

#[derive(Serialize, Deserialize)]
struct RunHeader {
    step: u64,
    has_key_encoder: bool,
    second_moment_len: usize,
    memory: Option<MemoryHeader>,
    progress: Progress,
}

/// Name of the checkpoint of a step.
pub fn file_name(step: u64) -> String {
    format!("step-{step:06}.safetensors")
}

/// The checkpoints in a folder, by step.
///
/// # Errors
/// [`Error::Io`] if the folder cannot be read.
pub fn list(folder: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let step = name.strip_prefix("step-").and_then(|rest| rest.strip_suffix(".safetensors")).and_then(|step| step.parse().ok());
        found.extend(step.map(|step| (step, path.clone())));
    }
    found.sort();
    Ok(found)
}

/// Writes a whole run.
///
/// # Errors
/// [`Error::Io`] if the file cannot be written; what stood there before is then still there.
pub fn save<B: Backend>(backend: &B, path: &Path, config: &TrainSettings, state: &State<B>, progress: &Progress) -> Result<()> {
    let network = NetworkHeader::of(config);
    let architecture = network.architecture()?;
    let mut tensors = to_torch(&architecture, &download(backend, &state.query)?, "");
    if let Some(key) = &state.key {
        tensors.extend(to_torch(&architecture, &download(backend, key)?, KEY_ENCODER));
    }
    for (name, moment) in [("optimizer.first_moment", &state.first_moment), ("optimizer.second_moment", &state.second_moment)] {
        tensors.push(NamedTensor::floats(name, vec![moment.len()], &moment.to_host(backend)?));
    }
    tensors.push(NamedTensor::floats(SCALER, vec![SCALER_LEN], &state.scaler.to_host(backend)?));
    let mut memory = None;
    if let Some(ring) = &state.memory {
        let state = ring.export(backend)?;
        tensors.extend(memory::tensors(&state));
        memory = Some(MemoryHeader::of(&state));
    }
    let run = RunHeader {
        step: state.step,
        has_key_encoder: state.key.is_some(),
        second_moment_len: state.second_moment.len(),
        memory,
        progress: progress.clone(),
    };
    write(path, (network, Some(run), progress.provenance.clone()), &tensors)
}

/// Writes one encoder, as PyTorch loads it.
///
/// # Errors
/// As [`save`].
pub fn save_model<B: Backend>(backend: &B, path: &Path, config: &TrainSettings, weights: &Weights<B>) -> Result<()> {
    save_trained_model(backend, path, config, weights, None)
}

/// Writes one encoder with what it was trained on, as PyTorch loads it.
///
/// # Errors
/// As [`save`].
pub fn save_trained_model<B: Backend>(
    backend: &B,
    path: &Path,
    config: &TrainSettings,
    weights: &Weights<B>,
    provenance: Option<Provenance>,
) -> Result<()> {
    let network = NetworkHeader::of(config);
    let tensors = to_torch(&network.architecture()?, &download(backend, weights)?, "");
    write(path, (network, None, provenance), &tensors)
}

/// Reads a whole run back; its network must be the one `config` describes.
///
/// # Errors
/// [`Error::Data`] on a truncated, foreign or newer file, another network, another kind or size of memory, or a model without a run.
pub fn load<B: Backend>(backend: &B, path: &Path, config: &TrainSettings) -> Result<(State<B>, Progress)> {
    let bytes = input::read(path)?;
    let (header, file) = open_to_go_on(path, &bytes)?;
    let expected = NetworkHeader::of(config);
    if header.network != expected {
        return Err(Error::data(
            path,
            format!("expected {expected}, as this run is; found {}; resume without these flags", header.network),
        ));
    }
    let Some(run) = header.run else {
        return Err(Error::data(path, "holds a model without the state of its run; resume from a step-*.safetensors"));
    };
    let architecture = expected.architecture()?;
    let mut state = State::initial(backend, config, &architecture)?;
    if run.has_key_encoder != state.key.is_some() || run.second_moment_len != state.second_moment.len() {
        return Err(Error::data(
            path,
            "was written with another --memory or --optimizer than this run's; resume without these flags",
        ));
    }
    if run.step > MOST_STEPS {
        return Err(Error::data(path, format!("damaged header: expected at most {MOST_STEPS} steps, found {}", run.step)));
    }
    state.step = run.step;
    state.query = upload(backend, &from_torch(&architecture, &file, "")?)?;
    if run.has_key_encoder {
        state.key = Some(upload(backend, &from_torch(&architecture, &file, KEY_ENCODER)?)?);
    }
    state.first_moment = Tensor::from_host(backend, &file.floats("optimizer.first_moment", &[architecture.parameters_len])?)?;
    state.second_moment = Tensor::from_host(backend, &file.floats("optimizer.second_moment", &[run.second_moment_len])?)?;
    let saved = file.floats(SCALER, &[SCALER_LEN])?;
    state.scaler = Tensor::from_host(backend, &resumed_scaler(saved, backend.initial_scaler()))?;
    match (&mut state.memory, run.memory) {
        (None, None) => {}
        (Some(ring), Some(header)) => {
            let saved = memory::read(&file, &header)?;
            if saved.capacity != ring.capacity() {
                let words = format!("holds a memory of {} rows, and this run's has {} rows", saved.capacity, ring.capacity());
                return Err(Error::data(path, format!("{words}; {}", config.memory.size_advice())));
            }
            ring.restore(backend, &saved).map_err(|error| Error::data(path, error.to_string()))?
        }
        (_, found) => {
            let found = if found.is_some() { "a memory" } else { "no memory" };
            return Err(Error::data(
                path,
                format!("holds {found}, which is not what this run's --memory asks for; resume without --memory"),
            ));
        }
    }
    Ok((state, Progress { provenance: header.trained_on, ..run.progress }))
}

/// Opens the checkpoint that a run is to go on from.
fn open_to_go_on<'a>(path: &'a Path, bytes: &'a [u8]) -> Result<(Header, Tensors<'a>)> {
    open(path, bytes).map_err(|error| Error::config(format!("{error}; {}", without(path))))
}

/// How a run goes on that cannot go on from the checkpoint at `path`.
fn without(path: &Path) -> String {
    let folder = path.parent().unwrap_or(Path::new(""));
    let older = list(folder).unwrap_or_default().into_iter().map(|(_, other)| other).rfind(|other| other != path);
    match older {
        Some(older) => format!("delete it to go on from {}", older.display()),
        None => {
            let settings = folder.with_file_name(FILE_NAME);
            format!("there is no older one; `xbm-fast train --config {}` starts again", quoted(&settings.to_string_lossy()))
        }
    }
}

/// The counts go on; so does the loss scale, unless it comes from a device that has none, or goes to one.
fn resumed_scaler(mut saved: Vec<f32>, initial: [f32; SCALER_LEN]) -> Vec<f32> {
    if saved[0] == 1.0 || initial[0] == 1.0 {
        saved[0] = initial[0];
    }
    saved
}

/// Reads an encoder: of a model, or the one to evaluate of a whole run.
///
/// # Errors
/// As [`load`].
pub fn load_encoder<B: Backend>(backend: &B, path: &Path) -> Result<(NetworkHeader, Weights<B>)> {
    let Model { network, weights, .. } = load_model(backend, path)?;
    Ok((network, weights))
}

/// What the model or checkpoint at `path` was trained on; unknown in files of earlier versions.
///
/// # Errors
/// As [`load`].
pub fn load_provenance(path: &Path) -> Result<Option<Provenance>> {
    let bytes = input::read(path)?;
    Ok(open_to_go_on(path, &bytes)?.0.trained_on)
}

/// An encoder, and what it was trained on.
#[derive(Debug)]
pub struct Model<B: Backend> {
    /// Its network.
    pub network: NetworkHeader,
    /// Its weights.
    pub weights: Weights<B>,
    /// What it was trained on; unknown in files of earlier versions.
    pub provenance: Option<Provenance>,
}

/// Reads an encoder with what it was trained on.
///
/// # Errors
/// As [`load`].
pub fn load_model<B: Backend>(backend: &B, path: &Path) -> Result<Model<B>> {
    let bytes = input::read(path)?;
    let (header, file) = open(path, &bytes)?;
    let prefix = if header.run.is_some_and(|run| run.has_key_encoder) { KEY_ENCODER } else { "" };
    let architecture = header.network.architecture().map_err(|error| Error::data(path, format!("damaged header: {error}")))?;
    let weights = upload(backend, &from_torch(&architecture, &file, prefix)?)?;
    Ok(Model { network: header.network, weights, provenance: header.trained_on })
}

fn open<'a>(path: &'a Path, bytes: &'a [u8]) -> Result<(Header, Tensors<'a>)> {
    let unreadable = |error| {
        let found = torch_pickle(bytes).unwrap_or_else(|| format!("a truncated or foreign one ({error})"));
        let expected = "a complete safetensors file of xbm-fast, such as a run's checkpoints/best.safetensors";
        Error::data(path, format!("expected {expected}, found {found}"))
    };
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(unreadable)?;
    let tensors = SafeTensors::deserialize(bytes).map_err(unreadable)?;
    let text = metadata.metadata().as_ref().and_then(|entries| entries.get(HEADER));
    let Some(text) = text else {
        return Err(Error::data(
            path,
            "expected a file written by xbm-fast, found safetensors of another program: the header has no `xbm-fast` entry",
        ));
    };
    let version: FormatOnly = serde_json::from_str(text).map_err(|error| Error::data(path, format!("damaged header: {error}")))?;
    if version.format != FORMAT {
        return Err(Error::data(
            path,
            format!(
                "expected format {FORMAT}, found format {}; read it with the version of xbm-fast that wrote it",
                version.format
            ),
        ));
    }
    let header = serde_json::from_str(text).map_err(|error| Error::data(path, format!("damaged header: {error}")))?;
    Ok((header, Tensors { path, tensors }))
}

/// What to say of bytes that are no safetensors file where they begin as `torch.save` does: a zip archive since PyTorch 1.6, and before
/// that a pickle of its magic number.
fn torch_pickle(bytes: &[u8]) -> Option<String> {
    let pickled = bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"\x80\x02\x8a\x0a");
    pickled.then(|| "one that PyTorch's torch.save wrote; write it with safetensors.torch.save_file(state_dict, path)".to_owned())
}

/// Read first, so that a newer file is called newer rather than damaged.
#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

fn write(
    path: &Path,
    (network, run, trained_on): (NetworkHeader, Option<RunHeader>, Option<Provenance>),
    tensors: &[NamedTensor],
) -> Result<()> {
    let header = Header { format: FORMAT, version: env!("CARGO_PKG_VERSION").to_owned(), network, run, trained_on };
    let text = serde_json::to_string(&header).map_err(|error| Error::data(path, error.to_string()))?;
    let named = tensors.iter().map(|tensor| (tensor.name.as_str(), tensor));
    let bytes = safetensors::serialize(named, Some(HashMap::from([(HEADER.to_owned(), text)])))
        .map_err(|error| Error::data(path, error.to_string()))?;
    write_atomically(path, |file| file.write_all(&bytes))
}

fn download<B: Backend>(backend: &B, weights: &Weights<B>) -> Result<HostWeights> {
    Ok(HostWeights {
        parameters: weights.parameters.to_host(backend)?,
        running_means: weights.running_means.to_host(backend)?,
        running_variances: weights.running_variances.to_host(backend)?,
        batches_tracked: weights.batches_tracked,
    })
}

fn upload<B: Backend>(backend: &B, weights: &HostWeights) -> Result<Weights<B>> {
    Ok(Weights {
        parameters: Tensor::from_host(backend, &weights.parameters)?,
        running_means: Tensor::from_host(backend, &weights.running_means)?,
        running_variances: Tensor::from_host(backend, &weights.running_variances)?,
        batches_tracked: weights.batches_tracked,
    })
}

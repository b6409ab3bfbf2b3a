//! A whole run in a file: everything that training changes, and what the program keeps beside it.

use super::KEY_ENCODER;
use super::encoder::{download, upload};
use super::header::{Header, NetworkHeader, RunHeader, open, write};
use super::layout::{NamedTensor, Tensors, from_torch, to_torch};
use super::memory::{self, MemoryHeader};
use crate::error::{Error, Result};
use crate::files::input;
use crate::memory::MemoryKind;
use crate::ops::Backend;
use crate::ops::optimizer::{Algorithm, SCALER_LEN};
use crate::train::State;
use crate::train::TrainSettings;
use serde_json::Value;
use std::path::Path;

const FIRST_MOMENT: &str = "optimizer.first_moment";
const SECOND_MOMENT: &str = "optimizer.second_moment";
const SCALER: &str = "optimizer.scaler";
/// More than any run takes, and few enough to be counted in images.
const MOST_STEPS: u64 = 1 << 40;

/// What a program keeps in a checkpoint beside the tensors, as JSON of its own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// Where the run is: best score, state of its schedule and the like.
    pub progress: Value,
    /// What the network is trained on; also in models.
    pub trained_on: Option<Value>,
}

/// Writes a whole run. Of several ranks all have to call it, and the first one writes, in the layout of one process.
///
/// # Errors
/// [`Error::Io`] if the file cannot be written; what stood there before is then still there.
pub fn save<B: Backend>(backend: &B, path: &Path, config: &TrainSettings, state: &State<B>, record: &Record) -> Result<()> {
    let ring = state.memory.as_ref().map(|memory| memory.export(backend)).transpose()?;
    if !backend.group().is_first() {
        return Ok(());
    }
    let network = NetworkHeader::of(config);
    let architecture = network.architecture()?;
    let mut tensors = to_torch(&architecture, &download(backend, &state.query)?, "");
    if let Some(key) = &state.key {
        tensors.extend(to_torch(&architecture, &download(backend, key)?, KEY_ENCODER));
    }
    for (name, values) in [(FIRST_MOMENT, &state.first_moment), (SECOND_MOMENT, &state.second_moment), (SCALER, &state.scaler)] {
        tensors.push(NamedTensor::floats(name, vec![values.len()], &values.to_host(backend)?));
    }
    tensors.extend(ring.iter().flat_map(memory::tensors));
    let run = RunHeader {
        step: state.step,
        has_key_encoder: state.key.is_some(),
        second_moment_len: state.second_moment.len(),
        memory: ring.as_ref().map(MemoryHeader::of),
        progress: record.progress.clone(),
    };
    write(path, &Header::new(network, Some(run), record.trained_on.clone()), &tensors)
}

/// What a program keeps in the checkpoint or model at `path`; of a model [`Record::trained_on`] only.
///
/// # Errors
/// [`Error::Data`] on a truncated, foreign or newer file.
pub fn load_record(path: &Path) -> Result<Record> {
    let bytes = input::read(path)?;
    let header = open(path, &bytes)?.0;
    Ok(Record { progress: header.run.map_or(Value::Null, |run| run.progress), trained_on: header.trained_on })
}

impl<B: Backend> State<B> {
    /// The state that a checkpoint holds, and what the program kept beside it. Its network, optimiser and memory must be those of
    /// `config`.
    ///
    /// # Errors
    /// [`Error::Data`] on a truncated, foreign or newer file, another network, another kind or size of memory, or a model without a run.
    pub fn from_checkpoint(backend: &B, config: &TrainSettings, path: &Path) -> Result<(Self, Record)> {
        let bytes = input::read(path)?;
        let (header, file) = open(path, &bytes)?;
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
        let state = restored(backend, config, &run, &file)?;
        Ok((state, Record { progress: run.progress, trained_on: header.trained_on }))
    }
}

fn restored<B: Backend>(backend: &B, config: &TrainSettings, run: &RunHeader, file: &Tensors<'_>) -> Result<State<B>> {
    let architecture = config.architecture()?;
    let (has_key, has_second) = (config.memory.kind == MemoryKind::Momentum, config.optimizer.algorithm != Algorithm::Sgd);
    let second_moment_len = if has_second { architecture.parameters_len } else { 0 };
    if run.has_key_encoder != has_key || run.second_moment_len != second_moment_len {
        let words = "was written with another --memory or --optimizer than this run's; resume without these flags";
        return Err(Error::data(file.path, words));
    }
    if run.step > MOST_STEPS {
        return Err(Error::data(file.path, format!("damaged header: expected at most {MOST_STEPS} steps, found {}", run.step)));
    }
    let encoder = |prefix| upload(backend, &from_torch(&architecture, file, prefix)?);
    let query = encoder("")?;
    let key = has_key.then(|| encoder(KEY_ENCODER)).transpose()?;
    let mut state = State::before_first_step(backend, config, query, key)?;
    state.step = run.step;
    for (name, values) in [(FIRST_MOMENT, &mut state.first_moment), (SECOND_MOMENT, &mut state.second_moment)] {
        backend.upload(&file.floats(name, &[values.len()])?, values.all_mut())?;
    }
    let scaler = resumed_scaler(file.floats(SCALER, &[SCALER_LEN])?, backend.initial_scaler());
    backend.upload(&scaler, state.scaler.all_mut())?;
    restore_memory(backend, config, &mut state, run, file)?;
    Ok(state)
}

fn restore_memory<B: Backend>(
    backend: &B,
    config: &TrainSettings,
    state: &mut State<B>,
    run: &RunHeader,
    file: &Tensors<'_>,
) -> Result<()> {
    match (&mut state.memory, &run.memory) {
        (None, None) => Ok(()),
        (Some(ring), Some(header)) => {
            let saved = memory::read(file, header)?;
            if saved.capacity != ring.capacity() {
                let words = format!("holds a memory of {} rows, and this run's has {} rows", saved.capacity, ring.capacity());
                return Err(Error::data(file.path, format!("{words}; {}", config.memory.size_advice())));
            }
            ring.restore(backend, &saved).map_err(|error| Error::data(file.path, error.to_string()))
        }
        (_, found) => {
            let found = if found.is_some() { "a memory" } else { "no memory" };
            let words = format!("holds {found}, which is not what this run's --memory asks for; resume without --memory");
            Err(Error::data(file.path, words))
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

//! An embedding memory as tensors: `memory.rows` (count, dim) f32 and `memory.labels`, `memory.ids`, `memory.written` (count) i32, with the
//! rest in the header; a part of a checkpoint, or a safetensors file on its own, whose header entry is `xbm-fast-memory`. What is read
//! back behaves like what was written, bit for bit.

use super::layout::{NamedTensor, Tensors};
use crate::device::Storage;
use crate::error::{Error, Result};
use crate::files::{input, write_atomically};
use crate::memory::{DriftMeter, EmbeddingMemory, MemoryState};
use crate::unit::check_unit_rows;
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

const HEADER: &str = "xbm-fast-memory";

/// What of a memory is no tensor.
#[derive(Serialize, Deserialize)]
pub struct MemoryHeader {
    capacity: usize,
    dim: usize,
    head: usize,
    count: usize,
    clock: u32,
    drift: DriftMeter,
}

impl MemoryHeader {
    pub fn of(state: &MemoryState) -> Self {
        let &MemoryState { capacity, dim, head, clock, drift, ref labels, .. } = state;
        Self { capacity, dim, head, count: labels.len(), clock, drift }
    }
}

/// The rest of it.
pub fn tensors(state: &MemoryState) -> [NamedTensor; 4] {
    let written: Vec<i32> = state.written.iter().map(|&time| time as i32).collect();
    [
        NamedTensor::floats("memory.rows", vec![state.labels.len(), state.dim], &state.rows),
        NamedTensor::integers("memory.labels", &state.labels),
        NamedTensor::integers("memory.ids", &state.ids),
        NamedTensor::integers("memory.written", &written),
    ]
}

/// Both back from an open file.
///
/// # Errors
/// [`Error::Data`] if a tensor is missing, or of another type or shape, or if a row is neither of length 1 nor zeros.
pub fn read(file: &Tensors<'_>, header: &MemoryHeader) -> Result<MemoryState> {
    let &MemoryHeader { capacity, dim, head, count, clock, drift } = header;
    let rows = file.floats("memory.rows", &[count, dim])?;
    check_unit_rows("memory.rows", &rows, dim).map_err(|error| Error::data(file.path, error.to_string()))?;
    Ok(MemoryState {
        capacity,
        dim,
        head,
        rows,
        labels: file.integers("memory.labels", count)?,
        ids: file.integers("memory.ids", count)?,
        written: file.integers("memory.written", count)?.into_iter().map(|time| time as u32).collect(),
        clock,
        drift,
    })
}

/// Writes a memory to a file, atomically.
///
/// # Errors
/// [`Error::Io`] if it cannot be written; what stood there before is then still there.
pub fn save_memory<B: Storage>(backend: &B, path: &Path, memory: &EmbeddingMemory<B>) -> Result<()> {
    let bytes = memory_to_bytes(&memory.export(backend)?)?;
    write_atomically(path, |file| file.write_all(&bytes))
}

/// Fills a memory from a file; on failure it is as before.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read, [`Error::Data`] if it holds no memory, or one of another capacity or dim.
pub fn load_memory<B: Storage>(backend: &B, path: &Path, memory: &mut EmbeddingMemory<B>) -> Result<()> {
    let bytes = input::read(path)?;
    let state = memory_from_bytes(&bytes, path)?;
    memory.restore(backend, &state).map_err(|error| Error::data(path, error.to_string()))
}

/// The content of such a file.
///
/// # Errors
/// [`Error::Config`] if it cannot be expressed.
pub fn memory_to_bytes(state: &MemoryState) -> Result<Vec<u8>> {
    let header = serde_json::to_string(&MemoryHeader::of(state)).map_err(|error| Error::config(error.to_string()))?;
    let tensors = tensors(state);
    let named = tensors.iter().map(|tensor| (tensor.name.as_str(), tensor));
    safetensors::serialize(named, Some(HashMap::from([(HEADER.to_owned(), header)])))
        .map_err(|error| Error::config(error.to_string()))
}

/// Reads the content of such a file; `path` is where messages say it is from.
///
/// # Errors
/// [`Error::Data`] if it is truncated, foreign or damaged, or holds rows that are no embeddings.
pub fn memory_from_bytes(bytes: &[u8], path: &Path) -> Result<MemoryState> {
    let expected = "expected a memory saved by xbm-fast, found";
    let unreadable = |error| Error::data(path, format!("{expected} a truncated or foreign file ({error})"));
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(unreadable)?;
    let tensors = SafeTensors::deserialize(bytes).map_err(unreadable)?;
    let text = metadata.metadata().as_ref().and_then(|entries| entries.get(HEADER));
    let text = text.ok_or_else(|| Error::data(path, format!("{expected} safetensors without a `{HEADER}` entry in the header")))?;
    let header = serde_json::from_str(text).map_err(|error| Error::data(path, format!("damaged header: {error}")))?;
    read(&Tensors { path, tensors }, &header)
}

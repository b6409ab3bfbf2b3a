//! An embedding memory on its own, as a safetensors file: `memory.rows` (count, dim) f32, `memory.labels` and `memory.ids` (count) i32,
//! and in the header's `xbm-fast-memory` entry capacity, dim, head and count. What is read back behaves like what was written, bit for bit.

use super::layout::{NamedTensor, Tensors};
use super::{MemoryHeader, read_memory};
use crate::backend::Storage;
use crate::error::{Error, Result};
use crate::files::write_atomically;
use crate::memory::{EmbeddingMemory, MemoryState};
use safetensors::SafeTensors;
use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

const HEADER: &str = "xbm-fast-memory";

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
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    let state = memory_from_bytes(&bytes, path)?;
    memory.restore(backend, &state).map_err(|error| Error::data(path, error.to_string()))
}

/// The content of such a file.
///
/// # Errors
/// [`Error::Config`] if it cannot be expressed.
pub fn memory_to_bytes(state: &MemoryState) -> Result<Vec<u8>> {
    let &MemoryState { capacity, dim, head, ref rows, ref labels, ref ids } = state;
    let count = labels.len();
    let tensors = [
        NamedTensor::floats("memory.rows", vec![count, dim], rows),
        NamedTensor::integers("memory.labels", labels),
        NamedTensor::integers("memory.ids", ids),
    ];
    let header = serde_json::to_string(&MemoryHeader { capacity, dim, head, count });
    let header = header.map_err(|error| Error::config(error.to_string()))?;
    let named = tensors.iter().map(|tensor| (tensor.name.as_str(), tensor));
    safetensors::serialize(named, Some(HashMap::from([(HEADER.to_owned(), header)])))
        .map_err(|error| Error::config(error.to_string()))
}

/// Reads the content of such a file; `path` is where messages say it is from.
///
/// # Errors
/// [`Error::Data`] if it is truncated, foreign or damaged.
pub fn memory_from_bytes(bytes: &[u8], path: &Path) -> Result<MemoryState> {
    let expected = "expected a memory saved by xbm-fast, found";
    let unreadable = |error| Error::data(path, format!("{expected} a truncated or foreign file ({error})"));
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(unreadable)?;
    let tensors = SafeTensors::deserialize(bytes).map_err(unreadable)?;
    let text = metadata.metadata().as_ref().and_then(|entries| entries.get(HEADER));
    let text = text.ok_or_else(|| Error::data(path, format!("{expected} safetensors without a `{HEADER}` entry in the header")))?;
    let header = serde_json::from_str(text).map_err(|error| Error::data(path, format!("damaged header: {error}")))?;
    read_memory(&Tensors { path, tensors }, &header)
}

//! Checkpoints: safetensors files that hold a whole run, and models that PyTorch loads.
//!
//! A checkpoint (`step-000400.safetensors`) holds the query encoder under torchvision's names, the key encoder under `key_encoder.`, the
//! optimiser's moments, the memory with the age of each row and the drift measured, and as JSON in the header a [`Record`] of the
//! program's own: enough to continue with the same bits. A model (`best.safetensors`) holds one encoder, so that
//! `torchvision.models.resnet18(num_classes=dim).load_state_dict(...)` takes it as it is. Equal runs write equal files.

mod encoder;
mod header;
mod layout;
mod memory;
mod pretrained;
mod run;

pub use encoder::{Model, load_encoder, load_model, save_model, save_trained_model};
pub use header::NetworkHeader;
pub use memory::{load_memory, memory_from_bytes, memory_to_bytes, save_memory};
pub use pretrained::load_pretrained;
pub use run::{Record, load_record, save};

use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// What the names of the key encoder's tensors begin with.
const KEY_ENCODER: &str = "key_encoder.";

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

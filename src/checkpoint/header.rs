//! What stands in the header of a model or a checkpoint, as JSON under the key `xbm-fast`, and how such files are told from others.

use super::layout::{NamedTensor, Tensors};
use super::memory::MemoryHeader;
use crate::error::{Error, Result};
use crate::files::write_atomically;
use crate::model::{Architecture, Depth, ModelSettings};
use crate::ops::pool::GlobalPooling;
use crate::train::TrainSettings;
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

const FORMAT: u32 = 3;
const HEADER: &str = "xbm-fast";

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
pub struct Header {
    pub format: u32,
    pub version: String,
    pub network: NetworkHeader,
    pub run: Option<RunHeader>,
    /// Absent in files of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trained_on: Option<Value>,
}

#[derive(Serialize, Deserialize)]
pub struct RunHeader {
    pub step: u64,
    pub has_key_encoder: bool,
    pub second_moment_len: usize,
    pub memory: Option<MemoryHeader>,
    pub progress: Value,
}

impl Header {
    /// The header of a file that this version writes.
    pub fn new(network: NetworkHeader, run: Option<RunHeader>, trained_on: Option<Value>) -> Self {
        Self { format: FORMAT, version: env!("CARGO_PKG_VERSION").to_owned(), network, run, trained_on }
    }
}

/// The header and the tensors of a file's bytes; `path` is for messages.
///
/// # Errors
/// [`Error::Data`] on a truncated, foreign or newer file.
pub fn open<'a>(path: &'a Path, bytes: &'a [u8]) -> Result<(Header, Tensors<'a>)> {
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
pub fn torch_pickle(bytes: &[u8]) -> Option<String> {
    let pickled = bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"\x80\x02\x8a\x0a");
    pickled.then(|| "one that PyTorch's torch.save wrote; write it with safetensors.torch.save_file(state_dict, path)".to_owned())
}

/// Read first, so that a newer file is called newer rather than damaged.
#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

/// Writes tensors under a header.
///
/// # Errors
/// [`Error::Io`] if the file cannot be written; what stood there before is then still there.
pub fn write(path: &Path, header: &Header, tensors: &[NamedTensor]) -> Result<()> {
    let text = serde_json::to_string(header).map_err(|error| Error::data(path, error.to_string()))?;
    let named = tensors.iter().map(|tensor| (tensor.name.as_str(), tensor));
    let bytes = safetensors::serialize(named, Some(HashMap::from([(HEADER.to_owned(), text)])))
        .map_err(|error| Error::data(path, error.to_string()))?;
    write_atomically(path, |file| file.write_all(&bytes))
}

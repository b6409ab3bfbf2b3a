//! An index's rows as the safetensors tensor `embeddings`.

use crate::error::{Error, Result};
use crate::files::{input, numbers, write_atomically};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use std::io::Write;
use std::path::Path;

const NAME: &str = "embeddings";

/// Writes a matrix of `shape`.
pub fn write(path: &Path, values: &[f32], shape: [usize; 2]) -> Result<()> {
    let unwritable = |error: safetensors::SafeTensorError| Error::data(path, error.to_string());
    let view = TensorView::new(Dtype::F32, shape.to_vec(), numbers::as_bytes(values)).map_err(unwritable)?;
    let bytes = safetensors::serialize([(NAME, view)], None).map_err(unwritable)?;
    write_atomically(path, |file| file.write_all(&bytes))
}

/// Reads a matrix and its shape.
pub fn read(path: &Path) -> Result<(Vec<f32>, [usize; 2])> {
    let bytes = input::read(path)?;
    let refused = |found: String| {
        Error::data(
            path,
            format!("expected a complete safetensors file with `{NAME}`, 32-bit floats in rows and columns, found {found}"),
        )
    };
    let file = SafeTensors::deserialize(&bytes).map_err(|error| refused(error.to_string()))?;
    let tensor = file.tensor(NAME).map_err(|_| refused(format!("{:?}", file.names())))?;
    let (Dtype::F32, &[rows, columns]) = (tensor.dtype(), tensor.shape()) else {
        return Err(refused(format!("{:?} {:?}", tensor.dtype(), tensor.shape())));
    };
    Ok((numbers::from_bytes(tensor.data()), [rows, columns]))
}

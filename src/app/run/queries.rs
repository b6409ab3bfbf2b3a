//! Images to look for, wherever they come from: files, folders, and standard input.

use crate::app::data::{Dataset, Decoded, Image, Source, has_image_bytes};
use crate::error::{Error, Result};
use crate::files::input::{self, STANDARD_INPUT};
use crate::files::name;
use std::path::{Path, PathBuf};

/// An image to look for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Its file, or `-`.
    pub name: PathBuf,
    /// Whether it was named itself: one that was found in a folder may be no intact image.
    pub is_named: bool,
    bytes: Option<Vec<u8>>,
}

impl Query {
    /// The image file at `path`.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self { name: path.into(), is_named: true, bytes: None }
    }

    /// An image that is in memory; `name` is for messages.
    pub fn bytes(name: impl Into<PathBuf>, bytes: Vec<u8>) -> Self {
        Self { name: name.into(), is_named: true, bytes: Some(bytes) }
    }

    /// What was typed: a file, a folder, which stands for the images at any depth below it, or `-`, which is the image on standard input, or
    /// the list of paths there.
    ///
    /// # Errors
    /// Folders without images, and standard input that is neither an image nor a list.
    pub fn gather(typed: &[PathBuf]) -> Result<Vec<Self>> {
        let mut queries = Vec::new();
        for path in typed {
            if path.as_os_str() == STANDARD_INPUT {
                queries.extend(Self::piped(input::standard_input()?)?);
            } else if path.is_dir() {
                let files = Dataset::below(path)?.images.into_iter().filter_map(|image| match image.source {
                    Source::File(file) => Some(Self { is_named: false, ..Self::file(file) }),
                    Source::Packed(_) | Source::Drawn(_) => None,
                });
                queries.extend(files);
            } else {
                queries.push(Self::file(path));
            }
        }
        Ok(queries)
    }

    fn piped(bytes: &[u8]) -> Result<Vec<Self>> {
        if has_image_bytes(bytes) {
            return Ok(vec![Self::bytes(STANDARD_INPUT, bytes.to_vec())]);
        }
        let list = std::str::from_utf8(bytes).unwrap_or_default();
        let files: Vec<Self> = list
            .split(['\n', '\0'])
            .map(|line| line.trim_end_matches('\r'))
            .filter(|line| !line.is_empty())
            .map(|line| Self::file(name::listed(Path::new(""), line)))
            .collect();
        if files.is_empty() {
            let found = if bytes.is_empty() { "nothing" } else { "something else" };
            let words = format!("expected an image or a list of image files on standard input, found {found}");
            return Err(Error::data(STANDARD_INPUT, words));
        }
        Ok(files)
    }

    /// Decodes it.
    ///
    /// # Errors
    /// As [`Decoded::open`].
    pub fn read(&self, max_megapixels: u32) -> Result<Image> {
        Ok(match &self.bytes {
            Some(bytes) => Decoded::from_bytes(bytes, &self.name, max_megapixels)?.image,
            None => Decoded::open(&self.name, max_megapixels)?.image,
        })
    }
}

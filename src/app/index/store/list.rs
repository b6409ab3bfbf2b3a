//! What the rows of a shard are: for each its id, the hash of its picture, and a description.
//!
//! The file, in words of 8 bytes: a mark, the number of rows, ids, hashes (0 where there is none), where each description begins and the
//! last one ends; then the descriptions, in JSON. A row is described without reading any other.

use crate::app::data::{Content, PixelBox};
use crate::app::mapping::Mapping;
use crate::error::{Error, Result};
use crate::files::{input, numbers, write_atomically};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

const MARK: u64 = u64::from_le_bytes(*b"XBMlist1");
const WORD: usize = size_of::<u64>();
/// Words before the ids.
const HEAD: usize = 2;

/// By what a file is known to be unchanged without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStamp {
    /// Its bytes.
    pub len: u64,
    /// When it was last changed, in nanoseconds since 1970.
    pub modified: u64,
}

impl FileStamp {
    /// Of the file at `path`, if there is one.
    pub fn of(path: &Path) -> Option<Self> {
        let metadata = input::metadata(path).ok()?;
        let modified = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some(Self { len: metadata.len(), modified: u64::try_from(modified.as_nanos()).ok()? })
    }
}

/// An image of an index.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredImage {
    /// Its number, which no other image of the index ever has.
    #[serde(skip)]
    pub id: u64,
    /// What the picture is, whatever its path.
    #[serde(skip)]
    pub content: Option<Content>,
    /// Which of the origins it comes from.
    pub origin: usize,
    /// Where its pixels are.
    pub path: String,
    /// Name of its class; empty where it has none.
    pub label: String,
    /// Its split.
    pub split: String,
    /// The part of the file that is the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<PixelBox>,
    /// Of its file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<FileStamp>,
}

/// The images of a shard.
#[derive(Debug)]
pub struct List {
    path: PathBuf,
    file: Arc<Mapping>,
    rows: usize,
}

impl List {
    pub fn write(path: &Path, images: impl Iterator<Item = Result<StoredImage>>) -> Result<()> {
        let (mut ids, mut contents, mut ends, mut texts) = (Vec::new(), Vec::new(), vec![0_u64], Vec::new());
        for image in images {
            let image = image?;
            ids.push(image.id);
            contents.push(image.content.map_or(0, |content| content.0));
            serde_json::to_writer(&mut texts, &image).expect("names and numbers");
            ends.push(texts.len() as u64);
        }
        write_atomically(path, |file| {
            for words in [&[MARK, ids.len() as u64][..], &ids, &contents, &ends] {
                file.write_all(numbers::as_bytes(words))?;
            }
            file.write_all(&texts)
        })
    }

    pub fn open(path: &Path, rows: usize) -> Result<Self> {
        let list = Self { path: path.to_owned(), file: Mapping::open(path)?, rows };
        let words =
            rows.checked_mul(3).and_then(|words| words.checked_add(HEAD + 1)).filter(|words| *words <= list.file.len() / WORD);
        let is_whole = words.is_some_and(|words| {
            let end = list.word(words - 1);
            (list.word(0), list.word(1)) == (MARK, rows as u64)
                && end.checked_add((words * WORD) as u64) == Some(list.file.len() as u64)
        });
        if is_whole {
            Ok(list)
        } else {
            Err(Error::data(path, format!("expected a complete list of {rows} images, found another file")))
        }
    }

    pub fn bytes(&self) -> usize {
        self.file.len()
    }

    fn word(&self, index: usize) -> u64 {
        let bytes = self.file.get(index * WORD..(index + 1) * WORD).expect("checked at opening");
        u64::from_le_bytes(bytes.try_into().expect("8 bytes"))
    }

    pub fn id(&self, row: usize) -> u64 {
        self.word(HEAD + row)
    }

    pub fn image(&self, row: usize) -> Result<StoredImage> {
        let texts = (HEAD + 3 * self.rows + 1) * WORD;
        let place = |row: usize| usize::try_from(self.word(HEAD + 2 * self.rows + row)).unwrap_or(usize::MAX).saturating_add(texts);
        let damaged = |reason: String| Error::data(&self.path, format!("damaged: row {row}: {reason}"));
        let (start, end) = (place(row), place(row + 1));
        let text = (start <= end).then(|| self.file.get(start..end)).flatten();
        let text = text.ok_or_else(|| damaged(format!("a description from {start} to {end}")))?;
        let image: StoredImage = serde_json::from_slice(text).map_err(|error| damaged(error.to_string()))?;
        let content = Some(self.word(HEAD + self.rows + row)).filter(|content| *content != 0).map(Content);
        Ok(StoredImage { id: self.id(row), content, ..image })
    }
}

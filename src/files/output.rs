//! What a command may write: nothing over a file that it reads, nothing over a file that it did not make, unless `--force` says so, and
//! nothing where a file cannot be made. It is asked before the work, so that no work is lost.

use super::{input, temporary_name};
use crate::error::{Error, Result};
use std::fs::{self, File, Metadata};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// What a command reads, and whether it may write over files of others.
pub struct Outputs<'a> {
    force: bool,
    /// What to do about a file of somebody else.
    advice: &'static str,
    reads: Vec<PathBuf>,
    /// Further files that are read, listed only where something is in the way.
    listing: Option<Box<dyn Fn() -> Result<Vec<PathBuf>> + 'a>>,
}

impl<'a> Outputs<'a> {
    /// Of a command that reads nothing yet.
    pub fn new(force: bool) -> Self {
        Self { force, advice: "choose another name, or write over it with --force", reads: Vec::new(), listing: None }
    }

    /// Of one that fills a folder with files of fixed names.
    pub fn in_folder() -> Self {
        Self { advice: "choose another --out, or give that file another name", ..Self::new(false) }
    }

    /// Of one that reads these files as well; a folder stands for what is in it.
    #[must_use]
    pub fn reading<P: Into<PathBuf>>(mut self, paths: impl IntoIterator<Item = P>) -> Self {
        self.reads.extend(paths.into_iter().map(Into::into));
        self
    }

    /// Of one that reads the files of a list that takes a while to make.
    #[must_use]
    pub fn reading_listed(mut self, list: impl Fn() -> Result<Vec<PathBuf>> + 'a) -> Self {
        self.listing = Some(Box::new(list));
        self
    }

    /// Fails unless `path` may be written; `is_ours` recognises a file of the kind that is to be written there.
    ///
    /// # Errors
    /// [`Error::Data`] on a folder that is missing or cannot be written, on what is no file, on a file that is read, and without `--force`
    /// on one that was not made by this program.
    pub fn check(&self, path: &Path, is_ours: impl Fn(&Path) -> bool) -> Result<()> {
        expect_writable_folder(path)?;
        let Ok(link) = fs::symlink_metadata(path) else { return Ok(()) };
        expect_file_or_nothing(path)?;
        let ours = path.exists() && is_ours(path);
        expect_unread(path, &self.reads, ours)?;
        if let Some(list) = &self.listing {
            expect_unread(path, &list()?, ours)?;
        }
        if !self.force && !ours {
            let found = if link.is_symlink() { "a link" } else { "a file" };
            return Err(Error::data(path, format!("{found} that xbm-fast did not make is there already; {}", self.advice)));
        }
        Ok(())
    }
}

/// Fails where a name leads to what no file may replace.
///
/// # Errors
/// [`Error::Data`] on a folder, a device, a pipe and a socket.
pub(super) fn expect_file_or_nothing(path: &Path) -> Result<()> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(Error::data(path, "expected the name of a file to write, found a folder")),
        Ok(found) if !found.is_file() => {
            Err(Error::data(path, "expected the name of a file to write, found a device, a pipe or a socket"))
        }
        _ => Ok(()),
    }
}

fn expect_unread(path: &Path, reads: &[PathBuf], ours: bool) -> Result<()> {
    let Some(read) = reads.iter().find(|read| is_read_as(path, read, ours)) else { return Ok(()) };
    let known_as = if path == read { String::new() } else { format!(", as {}", read.display()) };
    Err(Error::data(path, format!("this command reads that file{known_as}; choose another name")))
}

/// Whether writing to `path` changes what is read at `read`. What the program wrote into a folder of images is no part of them.
fn is_read_as(path: &Path, read: &Path, ours: bool) -> bool {
    match fs::metadata(read) {
        Ok(found) if found.is_dir() => !ours && is_inside(path, read),
        Ok(found) => is_same_file(path, (read, &found)),
        Err(_) => false,
    }
}

fn is_inside(path: &Path, folder: &Path) -> bool {
    matches!((path.canonicalize(), folder.canonicalize()), (Ok(path), Ok(folder)) if path.starts_with(&folder))
}

/// Whether two names lead to one file, by whatever links.
#[cfg(unix)]
fn is_same_file(path: &Path, (_, read): (&Path, &Metadata)) -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).is_ok_and(|path| (path.dev(), path.ino()) == (read.dev(), read.ino()))
}

/// Whether two names lead to one file, by whatever links but hard ones.
#[cfg(not(unix))]
fn is_same_file(path: &Path, (read, _): (&Path, &Metadata)) -> bool {
    matches!((path.canonicalize(), read.canonicalize()), (Ok(path), Ok(read)) if path == read)
}

/// Makes a file beside `path` and takes it away again: what a folder allows is known only by trying.
fn expect_writable_folder(path: &Path) -> Result<()> {
    let trial = temporary_name(path)?;
    let made = File::create(&trial).and_then(|_| fs::remove_file(&trial));
    made.map_err(|error| {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let words = match error.kind() {
            ErrorKind::NotFound => format!("the folder {} does not exist; make it first", folder.display()),
            _ => format!("no file can be made in {} ({error}); choose another name", folder.display()),
        };
        Error::data(path, words)
    })
}

/// The first bytes of a file, at most `len`; none of one that cannot be read.
pub fn head(path: &Path, len: u64) -> Vec<u8> {
    read_from(path, |_| 0, len).unwrap_or_default()
}

/// The last bytes of a file, at most `len`.
pub fn tail(path: &Path, len: u64) -> Vec<u8> {
    read_from(path, |size| size.saturating_sub(len), len).unwrap_or_default()
}

fn read_from(path: &Path, start: impl Fn(u64) -> u64, len: u64) -> Option<Vec<u8>> {
    let mut file = input::open(path).ok()?;
    file.seek(SeekFrom::Start(start(file.metadata().ok()?.len()))).ok()?;
    let mut bytes = Vec::new();
    file.take(len).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

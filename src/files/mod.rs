//! Files that are either whole or not there: written under a temporary name in the same folder, synced, renamed. Files to
//! read: [`input`]; their names: [`name`]; numbers in them: [`numbers`].

pub mod input;
pub mod lock;
pub mod name;
pub mod numbers;
pub mod output;

use crate::error::{Error, Result};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Replaces the file at `path` by what `write` writes. Until all of it is on the disk, whatever was at `path` stays; on failure (a full
/// disk, an error of `write`) the temporary file is removed.
///
/// # Errors
/// [`Error::Io`] with the path, [`Error::Data`] where something is that is no file: a rename would replace `/dev/null` for everybody.
pub fn write_atomically(path: impl AsRef<Path>, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<()> {
    let path = path.as_ref();
    output::expect_file_or_nothing(path)?;
    let temporary = temporary_name(path)?;
    let written = write_and_sync(&temporary, write).and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        // The first error is the one to report; the temporary file may not even exist.
        let _ = fs::remove_file(&temporary);
        return Err(Error::io(path)(error));
    }
    sync_folder(path).map_err(Error::io(path))
}

fn write_and_sync(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
    let mut writer = BufWriter::new(File::create(path)?);
    write(&mut writer)?;
    writer.flush()?;
    writer.get_ref().sync_all()
}

/// Whether a file was on its way to be written: `NAME.123.tmp`, with the number of a process.
pub fn is_temporary(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let process = name.strip_suffix(".tmp").and_then(|name| name.rsplit_once('.')).map_or("", |(_, process)| process);
    !process.is_empty() && process.bytes().all(|digit| digit.is_ascii_digit())
}

fn temporary_name(path: &Path) -> Result<PathBuf> {
    let Some(name) = path.file_name() else {
        return Err(Error::data(path, "expected the path of a file, found one without a file name"));
    };
    let mut temporary = name.to_owned();
    temporary.push(format!(".{}.tmp", std::process::id()));
    Ok(path.with_file_name(temporary))
}

/// Makes the rename itself durable, where folders can be synced.
fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(unix) {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

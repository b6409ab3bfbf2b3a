//! One process at a time in a folder. The system gives a lock back however its process ends, so that none is left behind by a kill.

use crate::error::{Error, Result};
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

const FILE_NAME: &str = ".lock";

/// Holds a folder until its last clone is dropped.
#[derive(Clone, Debug)]
pub struct FolderLock(#[expect(dead_code, reason = "held open, which is what keeps the lock")] Arc<File>);

impl FolderLock {
    /// Takes the folder at `path`.
    ///
    /// # Errors
    /// [`Error::Busy`] if another process has it, [`Error::Io`] if nothing can be written there.
    pub fn take(path: &Path) -> Result<Self> {
        let name = path.join(FILE_NAME);
        let open = File::options().read(true).write(true).create(true).truncate(false).open(&name);
        let mut file = open.map_err(Error::io(&name))?;
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            let mut holder = String::new();
            // Only a help: the message is true without the number.
            let _ = file.read_to_string(&mut holder);
            return Err(Error::Busy { path: path.to_owned(), holder: holder.trim().to_owned() });
        }
        // A file system without locks is used without: a folder is still not taken twice one after another.
        let _ = note_holder(&mut file);
        Ok(Self(Arc::new(file)))
    }
}

fn note_holder(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    writeln!(file, "process {}", std::process::id())
}

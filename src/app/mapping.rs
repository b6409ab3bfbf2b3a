//! A file seen as memory, and parts of it that keep it open.

use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;

use crate::error::{Error, Result};
use crate::files::input;

/// A whole file, mapped for reading. Pages come from the disk when they are first read and are shared by all processes.
#[derive(Debug)]
pub struct Mapping(Mmap);

impl Mapping {
    /// Maps the regular file at `path`.
    ///
    /// # Errors
    /// As [`input::open`].
    pub fn open(path: &Path) -> Result<Arc<Self>> {
        let file = input::open(path)?;
        // SAFETY: A map is sound to read as `&[u8]` as long as nobody changes the file underneath. This program never does: a file that
        // is mapped was written under another name, synced and renamed (`crate::files`), and replacing or deleting it leaves the old
        // file, and with it this map, as it was. That no other program writes into it cannot be checked from here; what we can do is to make such a
        // change harmless to memory. The map is read-only and private. Every range is checked against the length seen at opening,
        // bytes are read as bytes or as numbers of which every bit pattern is one, and what decides about memory, an index of places, is
        // copied out and checked once, or checked whenever it is read. So bytes that change give wrong pixels or similarities,
        // and a file that is cut short while it is mapped ends the process by SIGBUS.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io(path))?;
        Ok(Arc::new(Self(map)))
    }

    /// The bytes of `range`, or none if it leaves the file.
    pub fn get(&self, range: Range<usize>) -> Option<&[u8]> {
        self.0.get(range)
    }

    /// Its bytes.
    #[expect(clippy::len_without_is_empty, reason = "only a length is asked for")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// A part of a mapped file; the file stays mapped while any part of it is held.
#[derive(Clone, Debug)]
pub struct Mapped {
    file: Arc<Mapping>,
    range: Range<usize>,
}

impl Mapped {
    /// None if the range leaves the file.
    pub fn new(file: &Arc<Mapping>, range: Range<usize>) -> Option<Self> {
        file.get(range.clone())?;
        Some(Self { file: file.clone(), range })
    }

    /// Asks the system to read the part's pages while its reader is busy with something else.
    pub fn prefetch(&self) {
        #[cfg(unix)]
        {
            // A hint: if it is refused, the pages come when they are read.
            let _ = self.file.0.advise_range(memmap2::Advice::WillNeed, self.range.start, self.range.len());
        }
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.file.get(self.range.clone()).expect("checked when the part was made")
    }
}

//! What calls into cuDNN and cuBLASLt have in common.

use crate::error::{Error, Result};

/// Device memory that a call may scribble on, until the stream has executed it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Workspace {
    /// Its address; unused when there are no bytes.
    pub address: u64,
    /// Its size.
    pub bytes: usize,
}

impl Workspace {
    /// Fails unless there are `needed` bytes at an aligned address.
    ///
    /// # Errors
    /// [`Error::Shape`] naming `what`.
    pub(super) fn check(&self, what: &str, needed: usize, alignment: u64) -> Result<()> {
        if needed > self.bytes {
            return Err(Error::shape(what, format_args!("{needed} bytes"), format_args!("{} bytes", self.bytes)));
        }
        if needed == 0 { Ok(()) } else { check_address(what, self.address, alignment) }
    }
}

/// Fails unless `address` is a device address that a library may load vectors from.
///
/// # Errors
/// [`Error::Shape`] naming `what`.
pub(super) fn check_address(what: &str, address: u64, alignment: u64) -> Result<()> {
    if address != 0 && address.is_multiple_of(alignment) {
        return Ok(());
    }
    Err(Error::shape(what, format_args!("a device address that is a multiple of {alignment}"), format_args!("{address:#x}")))
}

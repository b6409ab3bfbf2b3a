//! Host memory whose size a user, a file or a caller has named: asked for before it is taken, as a failed allocation ends the program.

use crate::error::{Error, Result};

/// `len` zeros. Zeroed pages come from the system as they are, and only when they are touched.
///
/// # Errors
/// [`Error::HostOutOfMemory`] if the system has no memory for them.
pub(crate) fn zeros<T: Clone + Default>(len: usize) -> Result<Vec<T>> {
    expect_available::<T>(len)?;
    Ok(vec![T::default(); len])
}

/// Fails unless the system has memory for `len` values.
///
/// # Errors
/// [`Error::HostOutOfMemory`].
pub(crate) fn expect_available<T>(len: usize) -> Result<()> {
    Vec::<T>::new().try_reserve_exact(len).map_err(|_| Error::host_out_of_memory::<T>(len))
}

//! What carries messages between ranks.

use crate::error::Result;
use std::fmt;
use std::time::Duration;

/// A message to or from a rank.
#[derive(Debug)]
pub struct Message<B> {
    /// The other end.
    pub rank: usize,
    /// What is said, or where what is said goes.
    pub bytes: B,
}

/// A connection to all other ranks.
pub trait Wire: fmt::Debug + Send + Sync {
    /// Number of this process, from 0.
    fn rank(&self) -> usize;

    /// Number of processes.
    fn size(&self) -> usize;

    /// Sends all of `outgoing` and fills all of `incoming`, none of which is empty and each of which is of another rank. Returns when both
    /// are done. Every rank calls this in the same order, and `what` is the same on all of them.
    ///
    /// # Errors
    /// [`crate::Error::Group`] after `patience` without an answer, with the rank and what it was to send; a message of another length.
    fn exchange(
        &self,
        what: &'static str,
        outgoing: &[Message<&[u8]>],
        incoming: Vec<Message<&mut [u8]>>,
        patience: Duration,
    ) -> Result<()>;

    /// Ends the other ranks too, and perhaps this process.
    fn abort(&self);
}

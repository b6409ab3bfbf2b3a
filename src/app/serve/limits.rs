//! What a client may take.

use std::time::Duration;

/// Limits of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of what is sent with a request.
    pub body: usize,
    /// From the first byte of a connection to the last, but for the time that the device takes.
    pub time: Duration,
    /// Open at a time; further ones are closed.
    pub connections: usize,
}

impl Default for Limits {
    /// 64 MiB, which holds any photograph of a telephone; half a minute; 64 connections.
    fn default() -> Self {
        Self { body: 64 << 20, time: Duration::from_secs(30), connections: 64 }
    }
}

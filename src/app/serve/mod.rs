//! A small server for one person's browser: requests are short, few and small, and what is slow or large is cut off.
//!
//! [`serve`] knows HTTP and its limits and nothing of what is asked: one function answers what needs the device, on the thread that called,
//! another the rest, on threads of its own.

mod connection;
mod limits;

pub use limits::Limits;

use crate::error::{Error, Result};
use connection::Connection;
use std::net::{TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;
use tokio::runtime;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// How often it is looked whether to stop.
const LOOK: Duration = Duration::from_millis(100);

/// What a browser asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Such as `GET`.
    pub method: String,
    /// From the first slash on, without what follows a question mark.
    pub path: String,
    /// What follows the question mark.
    pub query: String,
    /// What was sent.
    pub body: Vec<u8>,
}

impl Request {
    /// The value of `key` in the query, as it was sent.
    pub fn parameter(&self, key: &str) -> Option<&str> {
        self.query.split('&').find_map(|pair| pair.split_once('=').filter(|(name, _)| *name == key)).map(|(_, value)| value)
    }
}

/// What it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Such as 200.
    pub status: u16,
    /// Such as `text/html; charset=utf-8`.
    pub kind: &'static str,
    /// What is sent.
    pub body: Vec<u8>,
}

impl Response {
    /// A success.
    pub fn ok(kind: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, kind, body: body.into() }
    }

    /// A failure, in words.
    pub fn failed(status: u16, words: &str) -> Self {
        let body = serde_json::json!({ "error": words }).to_string();
        Self { status, kind: "application/json", body: body.into() }
    }
}

/// What is answered without the device; nothing where it is needed.
pub type Quick = dyn Fn(&Request) -> Option<Response> + Send + Sync;

/// Listens at `address`, `HOST:PORT` or a port of this machine alone.
///
/// # Errors
/// [`Error::Config`] on what is no address, or one that cannot be listened at.
pub fn listen(address: &str) -> Result<TcpListener> {
    let whole = if address.bytes().all(|byte| byte.is_ascii_digit()) { format!("127.0.0.1:{address}") } else { address.to_owned() };
    let refused = |reason: String| Error::config(format!("--serve {address}: {reason}"));
    let found = whole.to_socket_addrs().map_err(|_| refused("expected HOST:PORT or PORT, such as 127.0.0.1:8077".to_owned()))?;
    TcpListener::bind(found.collect::<Vec<_>>().as_slice()).map_err(|error| {
        let words = match error.kind() {
            std::io::ErrorKind::AddrInUse => "another program listens there; choose another port",
            std::io::ErrorKind::PermissionDenied => "the system does not permit it; choose a port from 1024 on",
            _ => "nothing can listen there; choose an address of this machine",
        };
        refused(words.to_owned())
    })
}

/// A request on its way to the thread that has the device, and the way back.
type Job = (Request, oneshot::Sender<Response>);

/// Answers until `stop` is set; what was asked by then is still answered.
///
/// # Errors
/// [`Error::Config`] if no thread can be started.
pub fn serve(
    listener: TcpListener,
    limits: Limits,
    stop: &AtomicBool,
    quick: Arc<Quick>,
    mut with_device: impl FnMut(Request) -> Response,
) -> Result<()> {
    let refused = |error: std::io::Error| Error::config(format!("cannot serve: {error}"));
    listener.set_nonblocking(true).map_err(refused)?;
    let local = listener.local_addr().map_err(refused)?.ip().is_loopback();
    let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(refused)?;
    let (jobs, asked) = mpsc::channel();
    std::thread::scope(|scope| {
        let door = std::thread::Builder::new().name("http".to_owned()).spawn_scoped(scope, move || {
            let connection = Connection { limits, local, quick, jobs };
            runtime.block_on(accept(listener, connection, stop));
            // Threads that still decode a picture are not waited for.
            runtime.shutdown_background();
        });
        door.map_err(refused)?;
        loop {
            match asked.recv_timeout(LOOK) {
                Ok((request, answer)) => {
                    // Who asked may have gone.
                    let _ = answer.send(with_device(request));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    })
}

async fn accept(listener: TcpListener, connection: Connection, stop: &AtomicBool) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let mut open = JoinSet::new();
    while !stop.load(Ordering::Acquire) {
        let accepted = tokio::time::timeout(LOOK, listener.accept()).await;
        while open.try_join_next().is_some() {}
        if let Ok(Ok((stream, _))) = accepted
            && open.len() < connection.limits.connections
        {
            open.spawn(connection.clone().answer(stream));
        }
    }
    drop(listener);
    // Each ends within its own time.
    while open.join_next().await.is_some() {}
}

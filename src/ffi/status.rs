//! How a call ends: a status code, and words for the last failure of each thread.

use crate::error::Error;
use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a function of the C interface returns; the values of `XBM_OK` and `XBM_ERROR_*`.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It did what it says.
    Ok = 0,
    /// A pointer is NULL, a text is not UTF-8, or a constant has no meaning here.
    Argument = 1,
    /// A handle was destroyed, is of another type, or never was one.
    Handle = 2,
    /// Lengths do not fit each other.
    Shape = 3,
    /// NaN or infinity.
    NotFinite = 4,
    /// A setting that cannot be honoured.
    Config = 5,
    /// A file that cannot be read, written or understood.
    File = 6,
    /// The device or its driver refused.
    Device = 7,
    /// The engine broke a promise of its own; nothing of the caller's is at fault.
    Internal = 8,
}

/// A call that did not succeed.
#[derive(Debug)]
pub struct Failure {
    status: Status,
    words: String,
}

/// Result of the body of a call.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    pub fn new(status: Status, words: impl Into<String>) -> Self {
        Self { status, words: words.into() }
    }

    pub fn argument(words: impl Into<String>) -> Self {
        Self::new(Status::Argument, words)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = match error {
            Error::Shape { .. } => Status::Shape,
            Error::NotFinite { .. } => Status::NotFinite,
            Error::Config(_) | Error::Training(_) | Error::Group(_) | Error::Diverged { .. } | Error::HostOutOfMemory { .. } => {
                Status::Config
            }
            Error::Busy { .. } | Error::Data { .. } | Error::Io { .. } => Status::File,
            Error::Device { .. } | Error::OutOfMemory { .. } => Status::Device,
        };
        Self::new(status, error.to_string())
    }
}

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

/// The words of this thread's last failure, empty if there was none; valid until its next one.
pub fn last_error() -> *const c_char {
    // After the thread's own storage is gone, while it ends, there are no words left to show.
    LAST_ERROR.try_with(|words| words.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

/// Runs the body of the call `name`: a failure leaves its words behind, and so does a panic, which never leaves this library.
pub fn call(name: &str, body: impl FnOnce() -> Outcome) -> Status {
    // What a panic may have left half done is behind a mutex, which is poisoned then and refused by later calls.
    let outcome = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| Err(internal(&*panic)));
    let Err(Failure { status, words }) = outcome else { return Status::Ok };
    let words = CString::new(format!("{name}: {words}").replace('\0', " ")).unwrap_or_default();
    // Without thread-local storage the status alone has to do.
    let _ = LAST_ERROR.try_with(|last| last.replace(words));
    status
}

fn internal(panic: &(dyn Any + Send)) -> Failure {
    let words = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Failure::new(Status::Internal, format!("the engine broke a promise of its own: {}", words.unwrap_or("no more is known")))
}

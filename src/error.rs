//! One error type for the library: every message says what was expected, what was found, where, and what to do.

use std::path::{Path, PathBuf};

/// Result of every fallible function of the library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong, in the words a user reads after `error:`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor, buffer or label list has another size than the operation needs.
    #[error("{what}: expected {expected}, found {found}")]
    Shape {
        /// The argument at fault.
        what: String,
        /// What the operation needs.
        expected: String,
        /// What it was given.
        found: String,
    },
    /// A value that no computation should produce or receive.
    #[error("{what} holds a value that is not finite (NaN or infinity), first in row {row}")]
    NotFinite {
        /// The tensor at fault.
        what: &'static str,
        /// First row in which it was seen.
        row: usize,
    },
    /// A setting that cannot be honoured.
    #[error("{0}")]
    Config(String),
    /// A file or folder that is not what its reader needs.
    #[error("{path}: {reason}", path = path.display())]
    Data {
        /// Where.
        path: PathBuf,
        /// Expected and found, and what to do.
        reason: String,
    },
    /// The operating system refused.
    #[error("{path}: {words}", path = path.display(), words = refusal(.path, .source))]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process works in a folder.
    #[error("{path}: another process{holder} is at work in this folder; wait until it has ended, or stop it first", path = path.display(),
        holder = among(.holder))]
    Busy {
        /// The folder.
        path: PathBuf,
        /// Which process, where that is known, such as `process 123`.
        holder: String,
    },
    /// The GPU, its driver or its compiler refused.
    #[error("GPU: {what}: {reason}")]
    Device {
        /// What was being done.
        what: String,
        /// The driver's or the compiler's words.
        reason: String,
    },
    /// The GPU has not enough memory.
    #[error("GPU: out of memory: {purpose} of {needed} asked for, {free} of {total} free; {advice}", needed = size(*.needed),
        free = size(*.free), total = size(*.total), purpose = or(.purpose, "a buffer"), advice = or(.advice, "try a smaller --batch-size"))]
    OutOfMemory {
        /// Bytes asked for.
        needed: usize,
        /// Bytes that were free.
        free: usize,
        /// Bytes of the device.
        total: usize,
        /// What they were for.
        purpose: String,
        /// Which setting lowers the need.
        advice: String,
    },
    /// A step of training has a loss that is not finite.
    #[error("the loss became {loss} at step {step}")]
    Diverged {
        /// NaN or infinity.
        loss: f64,
        /// From 1.
        step: u64,
    },
    /// The system has not enough memory.
    #[error("out of memory: {purpose} of {needed} asked for; {advice}", needed = size(*.needed),
        purpose = or(.purpose, "a buffer"), advice = or(.advice, "ask for less, or end other programs"))]
    HostOutOfMemory {
        /// Bytes asked for.
        needed: usize,
        /// What they were for.
        purpose: String,
        /// Which setting lowers the need.
        advice: String,
    },
    /// Another process of the same run does not answer, or does something else.
    #[error("{0}")]
    Group(String),
    /// Training cannot honestly go on.
    #[error("{0}")]
    Training(String),
}

impl Error {
    /// A mismatch of sizes: `what` was to be `expected` and is `found`.
    pub fn shape(what: impl Into<String>, expected: impl std::fmt::Display, found: impl std::fmt::Display) -> Self {
        Self::Shape { what: what.into(), expected: expected.to_string(), found: found.to_string() }
    }

    /// A setting that cannot be honoured, in a full sentence.
    pub fn config(reason: impl Into<String>) -> Self {
        Self::Config(reason.into())
    }

    /// A file at `path` that is not what was expected.
    pub fn data(path: impl AsRef<Path>, reason: impl Into<String>) -> Self {
        Self::Data { path: path.as_ref().to_owned(), reason: reason.into() }
    }

    /// No memory for `len` values of the type `T`.
    pub fn host_out_of_memory<T>(len: usize) -> Self {
        Self::HostOutOfMemory { needed: len.saturating_mul(size_of::<T>()), purpose: String::new(), advice: String::new() }
    }

    /// Says what memory was asked for and which setting lowers the need, where that is the error and it does not say so already.
    #[must_use]
    pub fn allocating(self, what: &str, lower: &str) -> Self {
        match self {
            Self::OutOfMemory { needed, free, total, purpose, .. } if purpose.is_empty() => {
                Self::OutOfMemory { needed, free, total, purpose: what.to_owned(), advice: format!("lower {lower}") }
            }
            Self::HostOutOfMemory { needed, purpose, .. } if purpose.is_empty() => {
                Self::HostOutOfMemory { needed, purpose: what.to_owned(), advice: format!("lower {lower}") }
            }
            other => other,
        }
    }

    /// For `map_err` on an I/O call about `path`.
    pub fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io { path, source }
    }
}

/// Fails unless `found == expected`.
///
/// # Errors
/// [`Error::Shape`] naming `what`.
pub fn expect_len(what: &str, expected: usize, found: usize) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(Error::shape(what, format_args!("{expected} values"), format_args!("{found} values")))
}

/// Bytes in words.
fn size(bytes: usize) -> String {
    match bytes {
        usize::MAX => "more than any memory".to_owned(),
        0..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}

/// How alike two names are of which one is a slip of the other (Jaro-Winkler similarity).
const SLIP_SIMILARITY: f64 = 0.85;
/// Names of a folder that are compared with a missing one.
const NAMES_COMPARED: usize = 10_000;

/// What the system says of a path, and what to do.
fn refusal(path: &Path, source: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match source.kind() {
        ErrorKind::NotFound => match near(path) {
            Some(near) => format!("No such file or folder; did you mean {}?", near.display()),
            None => "No such file or folder; check the path, which starts from where the command is typed".to_owned(),
        },
        ErrorKind::PermissionDenied => "the system does not permit it; change the permissions, or choose another place".to_owned(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "the disk is full; make room, or choose another place".to_owned(),
        ErrorKind::ReadOnlyFilesystem => "the disk is read-only; choose another place".to_owned(),
        ErrorKind::IsADirectory => "expected a file, found a folder; name a file in it".to_owned(),
        ErrorKind::NotADirectory => "Not a directory: a part of the path is a file; check the path".to_owned(),
        _ => format!("the system refused it ({source}); check the path and the disk"),
    }
}

/// What a missing path may be a slip of: a name beside it that is much like it.
fn near(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let names = std::fs::read_dir(folder).ok()?.take(NAMES_COMPARED).filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let alike = names.map(|other| (strsim::jaro_winkler(name, &other), other)).filter(|(alike, _)| *alike >= SLIP_SIMILARITY);
    alike.max_by(|one, other| one.0.total_cmp(&other.0)).map(|(_, other)| path.with_file_name(other))
}

fn among(holder: &str) -> String {
    if holder.is_empty() { String::new() } else { format!(" ({holder})") }
}

fn or<'a>(words: &'a str, otherwise: &'a str) -> &'a str {
    if words.is_empty() { otherwise } else { words }
}

//! Files that a user names, opened for reading: only regular files are. A named pipe would wait for a writer that may never come, a device
//! may have no end, and a folder fails with words that do not help. Text may be UTF-8 or, as spreadsheets write it, UTF-16.

use std::fs::{self, File, FileType, Metadata};
use std::io::{IsTerminal, Read};
use std::path::Path;
use std::sync::OnceLock;

use crate::error::{Error, Result};

/// What stands for standard input where a path may.
pub const STANDARD_INPUT: &str = "-";

const UTF8_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Opens the regular file at `path`; links are followed.
///
/// # Errors
/// [`Error::Io`] if there is none or it cannot be opened, [`Error::Data`] naming what was found if it is no regular file.
pub fn open(path: impl AsRef<Path>) -> Result<File> {
    let path = path.as_ref();
    // Before opening, because opening a named pipe already waits; and again after it, because the name may since stand for another file.
    metadata(path)?;
    let file = File::open(path).map_err(Error::io(path))?;
    expect_regular(path, &file.metadata().map_err(Error::io(path))?)?;
    Ok(file)
}

/// The whole content of the regular file at `path`.
///
/// # Errors
/// As [`open`].
pub fn read(path: impl AsRef<Path>) -> Result<Vec<u8>> {
    let path = path.as_ref();
    let mut file = open(path)?;
    let mut bytes = Vec::new();
    let length = file.metadata().map_or(0, |metadata| usize::try_from(metadata.len()).unwrap_or(usize::MAX));
    // A length beyond the memory is an error, not an abort.
    bytes.try_reserve_exact(length).map_err(|error| Error::data(path, format!("{length} bytes cannot be read: {error}")))?;
    file.read_to_end(&mut bytes).map_err(Error::io(path))?;
    Ok(bytes)
}

/// All that is piped into the program, however often it is asked for.
///
/// # Errors
/// [`Error::Data`] where nothing is piped, [`Error::Io`] if it cannot be read.
pub fn standard_input() -> Result<&'static [u8]> {
    static PIPED: OnceLock<Vec<u8>> = OnceLock::new();
    if let Some(bytes) = PIPED.get() {
        return Ok(bytes);
    }
    let mut input = std::io::stdin().lock();
    if input.is_terminal() {
        return Err(Error::data(
            STANDARD_INPUT,
            "expected something on standard input, found a terminal; pipe a file or a list into it",
        ));
    }
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes).map_err(Error::io("standard input"))?;
    Ok(PIPED.get_or_init(|| bytes))
}

/// The text in the regular file at `path`, without a byte order mark. The mark tells UTF-16 from UTF-8.
///
/// # Errors
/// As [`open`]; [`Error::Data`] naming the line where the bytes are no text.
pub fn read_text(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    text(read(path)?).map_err(|reason| Error::data(path, reason))
}

/// What is known of the regular file at `path` without opening it.
///
/// # Errors
/// As [`open`].
pub fn metadata(path: impl AsRef<Path>) -> Result<Metadata> {
    let path = path.as_ref();
    let metadata = match fs::metadata(path) {
        Err(_) if path.as_os_str() == "-" => {
            return Err(Error::data(path, "expected the path of a file; nothing is read from standard input"));
        }
        other => other.map_err(Error::io(path))?,
    };
    expect_regular(path, &metadata)?;
    Ok(metadata)
}

fn expect_regular(path: &Path, metadata: &Metadata) -> Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    Err(Error::data(path, format!("expected a file, found {}", name_of(metadata.file_type()))))
}

/// What something that is no regular file is called, with its article.
pub fn name_of(kind: FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return "a named pipe";
        } else if kind.is_socket() {
            return "a socket";
        } else if kind.is_char_device() || kind.is_block_device() {
            return "a device";
        }
    }
    if kind.is_dir() { "a folder" } else { "something else" }
}

fn text(bytes: Vec<u8>) -> std::result::Result<String, String> {
    let text = match bytes.as_slice() {
        [0xFF, 0xFE, units @ ..] => utf16(units, u16::from_le_bytes)?,
        [0xFE, 0xFF, units @ ..] => utf16(units, u16::from_be_bytes)?,
        marked if marked.starts_with(UTF8_MARK) => utf8(marked[UTF8_MARK.len()..].to_vec())?,
        _ => utf8(bytes)?,
    };
    match text.find('\0') {
        Some(at) => Err(format!(
            "line {}: expected text, found a zero; save the file as UTF-8 text if it is UTF-16 or UTF-32",
            line(text[..at].bytes())
        )),
        None => Ok(text),
    }
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> std::result::Result<String, String> {
    let (pairs, odd) = bytes.as_chunks();
    let units: Vec<u16> = pairs.iter().map(|pair| unit(*pair)).collect();
    match String::from_utf16(&units) {
        Ok(text) if odd.is_empty() => Ok(text),
        _ => Err("expected UTF-16 text, as its byte order mark says, found other bytes; save the file as UTF-8".to_owned()),
    }
}

fn utf8(bytes: Vec<u8>) -> std::result::Result<String, String> {
    String::from_utf8(bytes).map_err(|error| {
        let (valid, rest) = error.as_bytes().split_at(error.utf8_error().valid_up_to());
        format!(
            "line {}: expected UTF-8 text, found the byte {:#04X}; if the file is Latin-1 or Windows-1252, save it as UTF-8",
            line(valid.iter().copied()),
            rest[0]
        )
    })
}

/// The line, from 1, that follows these bytes.
fn line(before: impl Iterator<Item = u8>) -> usize {
    1 + before.filter(|byte| *byte == b'\n').count()
}

//! Names of files as text. Where names need not be Unicode, two names must still not become one: bytes that are no UTF-8 are written
//! `\xE9`, and so that the text leads back to the name, a backslash that would read like that is written `\x5C`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The text of a path. Different paths have different texts.
pub fn text_of(path: impl AsRef<OsStr>) -> String {
    let mut text = String::new();
    let mut rest = path.as_ref().as_encoded_bytes();
    if !cfg!(unix) {
        return path.as_ref().to_string_lossy().into_owned();
    }
    while !rest.is_empty() {
        let valid = match std::str::from_utf8(rest) {
            Ok(all) => all,
            Err(error) => std::str::from_utf8(&rest[..error.valid_up_to()]).expect("checked up to here"),
        };
        for (at, character) in valid.char_indices() {
            match character {
                '\\' if escaped(&valid.as_bytes()[at..]).is_some() => text.push_str("\\x5C"),
                other => text.push(other),
            }
        }
        rest = &rest[valid.len()..];
        if let Some((byte, after)) = rest.split_first() {
            text.push_str(&format!("\\x{byte:02X}"));
            rest = after;
        }
    }
    text
}

/// The path that a text of [`text_of`] stands for.
#[cfg(not(unix))]
pub fn path_of(text: &str) -> PathBuf {
    text.into()
}

/// The path that a text of [`text_of`] stands for.
#[cfg(unix)]
pub fn path_of(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        match escaped(rest) {
            Some(byte) => {
                bytes.push(byte);
                rest = &rest[4..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    <std::ffi::OsString as std::os::unix::ffi::OsStringExt>::from_vec(bytes).into()
}

/// The file that a list names inside `folder`: as it is written, or, if there is none, as [`text_of`] writes names.
pub fn listed(folder: &Path, text: &str) -> PathBuf {
    let literal = folder.join(text);
    let meant = folder.join(path_of(text));
    if !literal.exists() && meant.exists() { meant } else { literal }
}

/// The byte that stands at the start of `text` as `\xE9` does.
fn escaped(text: &[u8]) -> Option<u8> {
    let &[b'\\', b'x', high, low] = text.first_chunk()? else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16).filter(|_| !byte.is_ascii_lowercase());
    Some((digit(high)? * 16 + digit(low)?) as u8)
}

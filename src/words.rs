//! Small parts of messages: a count with its noun, and a text as a shell takes it.

use std::borrow::Cow;

/// `1 image`, `2 images`; also `classes` and `queries`.
///
/// ```
/// use xbm_fast::words::counted;
/// assert_eq!([counted(1, "class"), counted(0, "class"), counted(2, "query")], ["1 class", "0 classes", "2 queries"]);
/// ```
pub fn counted(count: usize, noun: &str) -> String {
    match noun.strip_suffix('y') {
        _ if count == 1 => format!("1 {noun}"),
        Some(stem) => format!("{count} {stem}ies"),
        None if noun.ends_with('s') => format!("{count} {noun}es"),
        None => format!("{count} {noun}s"),
    }
}

/// A text as one word of a shell command, so that advice can be pasted.
///
/// ```
/// use xbm_fast::words::quoted;
/// assert_eq!((quoted("runs/001"), quoted("my photo's")), ("runs/001".into(), r"'my photo'\''s'".into()));
/// ```
pub fn quoted(text: &str) -> Cow<'_, str> {
    let plain = |letter: char| letter.is_alphanumeric() || "/._-:=,+@%".contains(letter);
    if !text.is_empty() && text.chars().all(plain) { text.into() } else { format!("'{}'", text.replace('\'', r"'\''")).into() }
}

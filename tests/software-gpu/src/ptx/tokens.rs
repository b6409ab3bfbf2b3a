//! Text of PTX to words, numbers and signs; comments are dropped.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A name, a directive or an opcode with its modifiers: `%r1`, `.reg`, `add.s32`.
    Word,
    /// A number as it is written: `12`, `0x1f`, `0f3F800000`.
    Number,
    /// A text between quotes, without them.
    Text,
    /// One character.
    Sign(u8),
}

/// A token and where it stands.
#[derive(Clone, Copy, Debug)]
pub struct Token<'t> {
    pub kind: Kind,
    pub text: &'t str,
    pub line: u32,
}

impl Token<'_> {
    pub fn is(&self, sign: u8) -> bool {
        self.kind == Kind::Sign(sign)
    }
}

/// Splits a text.
pub fn tokens(text: &str) -> Result<Vec<Token<'_>>, String> {
    let bytes = text.as_bytes();
    let mut found = Vec::with_capacity(text.len() / 4);
    let (mut at, mut line) = (0, 1);
    while at < bytes.len() {
        let start = at;
        let rest = &bytes[at..];
        let kind = match rest[0] {
            b'\n' => {
                line += 1;
                at += 1;
                continue;
            }
            b' ' | b'\t' | b'\r' => {
                at += 1;
                continue;
            }
            b'/' if rest.starts_with(b"//") => {
                at += length(rest, |byte| byte != b'\n');
                continue;
            }
            b'/' if rest.starts_with(b"/*") => {
                let end = text[at..].find("*/").ok_or_else(|| format!("line {line}: a comment without an end"))? + 2;
                line += rest[..end].iter().filter(|&&byte| byte == b'\n').count() as u32;
                at += end;
                continue;
            }
            b'"' => {
                let inside = length(&rest[1..], |byte| byte != b'"' && byte != b'\n');
                at += inside + 2;
                found.push(Token { kind: Kind::Text, text: &text[start + 1..start + 1 + inside], line });
                continue;
            }
            b'0'..=b'9' => {
                at += length(rest, |byte| byte.is_ascii_alphanumeric());
                Kind::Number
            }
            byte if starts_word(byte) => {
                at += 1 + length(&rest[1..], |byte| starts_word(byte) || byte.is_ascii_digit());
                // `bra::uni` and the like are one word.
                while bytes[at..].starts_with(b"::") {
                    at += 2 + length(&bytes[at + 2..], |byte| starts_word(byte) || byte.is_ascii_digit());
                }
                Kind::Word
            }
            sign => {
                at += 1;
                Kind::Sign(sign)
            }
        };
        found.push(Token { kind, text: &text[start..at], line });
    }
    Ok(found)
}

fn starts_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'$' | b'%' | b'.')
}

fn length(bytes: &[u8], inside: impl Fn(u8) -> bool) -> usize {
    bytes.iter().position(|&byte| !inside(byte)).unwrap_or(bytes.len())
}

/// A number as 64 bits: a decimal or hexadecimal integer, or the bits of `0f…` and `0d…`.
pub fn number(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches('U');
    match digits.get(..2) {
        Some("0x" | "0X" | "0f" | "0F" | "0d" | "0D") => u64::from_str_radix(&digits[2..], 16).ok(),
        _ => digits.parse().ok(),
    }
}

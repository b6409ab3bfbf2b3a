//! Reads MATLAB's MAT-files of level 5 (what `save -v6` and `-v7` write), as far as data sets use them: numbers, text, cell arrays and
//! struct arrays. Source: MathWorks, "MAT-File Format", R2023b, chapter 1.
//!
//! A file is a header of 128 bytes and data elements: a tag (type and length) and content padded to 8 bytes. An element of at most 4
//! bytes may share its tag's 8 bytes. A matrix is an element that holds elements: flags, dimensions, name and content. A compressed
//! element is a zlib stream of another element.

use std::io::Read;

use flate2::read::ZlibDecoder;

const HEADER_LEN: usize = 128;
const VERSION: u16 = 0x0100;
const VERSION_OF_HDF5: u16 = 0x0200;
/// Matrices inside matrices; annotations have three levels.
const DEEPEST: usize = 16;
/// Far above any annotation file; keeps a small hostile file from filling the memory.
const MOST_INFLATED: u64 = 1 << 26;

const COMPRESSED: u32 = 15;
const MATRIX: u32 = 14;

/// A variable's content.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A numeric array of any type.
    Numbers(Vec<f64>),
    /// A character array.
    Text(String),
    /// A cell array.
    Cells(Vec<Value>),
    /// A struct array: names of the fields, and the fields of the first element, then those of the second, ...
    Structs(Vec<String>, Vec<Value>),
    /// A type that no data set here uses.
    Other,
}

impl Value {
    /// A field of every element of a struct array.
    pub fn field(&self, name: &str) -> Option<Vec<&Value>> {
        let Self::Structs(names, values) = self else { return None };
        let index = names.iter().position(|known| known == name)?;
        Some(values.iter().skip(index).step_by(names.len()).collect())
    }

    /// A single number.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Numbers(numbers) => <[f64; 1]>::try_from(numbers.as_slice()).ok().map(|[number]| number),
            _ => None,
        }
    }

    /// A text.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The cells of a cell array; nothing for anything else.
    pub fn cells(&self) -> &[Value] {
        match self {
            Self::Cells(cells) => cells,
            _ => &[],
        }
    }
}

/// The variables of a file, or what is wrong with it.
pub fn read(file: &[u8]) -> Result<Vec<(String, Value)>, String> {
    let header = file.get(..HEADER_LEN).ok_or("expected a MATLAB file, found a shorter one than its header")?;
    match (&header[126..], u16::from_le_bytes([header[124], header[125]])) {
        (b"IM", VERSION) => {}
        (b"IM", VERSION_OF_HDF5) => {
            return Err("expected a MATLAB file of level 5, found one of version 7.3 (HDF5); save it with -v7".to_owned());
        }
        (b"MI", _) => return Err("expected a little-endian MATLAB file, found a big-endian one; save it again".to_owned()),
        _ => return Err("expected a MATLAB file of level 5, found something else".to_owned()),
    }
    let mut rest = Elements(&file[HEADER_LEN..]);
    let (mut variables, mut inflated) = (Vec::new(), MOST_INFLATED);
    while let Some((kind, content)) = rest.next()? {
        match kind {
            MATRIX => variables.push(matrix(content, 0)?),
            COMPRESSED => {
                let mut bytes = Vec::new();
                let read = ZlibDecoder::new(content).take(inflated).read_to_end(&mut bytes);
                inflated -= read.map_err(|error| format!("a compressed variable is damaged: {error}"))? as u64;
                let (kind, content) = Elements(&bytes).expect_next("a variable")?;
                if kind == MATRIX {
                    variables.push(matrix(content, 0)?);
                }
            }
            _ => {}
        }
    }
    Ok(variables)
}

/// Name and content of a matrix.
fn matrix(content: &[u8], depth: usize) -> Result<(String, Value), String> {
    if content.is_empty() {
        return Ok((String::new(), Value::Numbers(Vec::new())));
    }
    if depth > DEEPEST {
        return Err(format!("expected at most {DEEPEST} arrays inside each other, found more"));
    }
    let mut elements = Elements(content);
    let flags = elements.expect_next("array flags")?.1;
    let dimensions = numbers(elements.expect_next("dimensions")?)?;
    let name = elements.expect_next("a name")?.1;
    let count = dimensions.iter().product::<f64>();
    let value = match flags.first() {
        Some(1) => Value::Cells(matrices(&mut elements, count, depth + 1)?),
        Some(2) => {
            let names = field_names(&mut elements)?;
            let values = matrices(&mut elements, count * names.len() as f64, depth + 1)?;
            Value::Structs(names, values)
        }
        Some(4) => Value::Text(text(elements.expect_next("characters")?)?),
        Some(6..=15) => Value::Numbers(numbers(elements.expect_next("numbers")?)?),
        _ => Value::Other,
    };
    Ok((latin(name), value))
}

fn matrices(elements: &mut Elements<'_>, count: f64, depth: usize) -> Result<Vec<Value>, String> {
    let mut values = Vec::new();
    // Every matrix takes bytes, so that a wrong count ends in an error before it fills the memory.
    for _ in 0..count as u64 {
        let (kind, content) = elements.expect_next("an array")?;
        values.push(if kind == MATRIX { matrix(content, depth)?.1 } else { Value::Other });
    }
    Ok(values)
}

/// The names of a struct's fields: their common length, then all of them, padded with zeros.
fn field_names(elements: &mut Elements<'_>) -> Result<Vec<String>, String> {
    let length = numbers(elements.expect_next("the length of field names")?)?;
    let names = elements.expect_next("field names")?.1;
    match length.as_slice() {
        &[length] if length >= 1.0 => Ok(names.chunks(length as usize).map(latin).collect()),
        _ => Err(format!("expected one length of all field names, found {length:?}")),
    }
}

/// Numbers of any type; a writer may keep small whole numbers in fewer bytes than the array's type has.
fn numbers((kind, content): (u32, &[u8])) -> Result<Vec<f64>, String> {
    fn all<const N: usize>(content: &[u8], convert: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        content.as_chunks().0.iter().map(|bytes| convert(*bytes)).collect()
    }
    Ok(match kind {
        1 => all(content, |bytes| i8::from_le_bytes(bytes).into()),
        2 => all(content, |bytes| u8::from_le_bytes(bytes).into()),
        3 => all(content, |bytes| i16::from_le_bytes(bytes).into()),
        4 => all(content, |bytes| u16::from_le_bytes(bytes).into()),
        5 => all(content, |bytes| i32::from_le_bytes(bytes).into()),
        6 => all(content, |bytes| u32::from_le_bytes(bytes).into()),
        7 => all(content, |bytes| f32::from_le_bytes(bytes).into()),
        9 => all(content, f64::from_le_bytes),
        12 => all(content, |bytes| i64::from_le_bytes(bytes) as f64),
        13 => all(content, |bytes| u64::from_le_bytes(bytes) as f64),
        _ => return Err(format!("expected numbers, found data of type {kind}")),
    })
}

/// Characters of 8 or 16 bits.
fn text((kind, content): (u32, &[u8])) -> Result<String, String> {
    match kind {
        1 | 2 => Ok(latin(content)),
        16 => Ok(String::from_utf8_lossy(content).into_owned()),
        4 | 17 => {
            let units: Vec<u16> = content.as_chunks().0.iter().map(|bytes| u16::from_le_bytes(*bytes)).collect();
            Ok(String::from_utf16_lossy(&units))
        }
        _ => Err(format!("expected characters, found data of type {kind}")),
    }
}

/// Text of 8-bit characters up to a zero.
fn latin(bytes: &[u8]) -> String {
    bytes.iter().take_while(|byte| **byte != 0).map(|byte| char::from(*byte)).collect()
}

/// Data elements behind each other.
struct Elements<'a>(&'a [u8]);

impl<'a> Elements<'a> {
    /// Type and content of the next one; none at the end.
    fn next(&mut self) -> Result<Option<(u32, &'a [u8])>, String> {
        let Some((tag, rest)) = self.0.split_first_chunk::<8>() else {
            return if self.0.is_empty() { Ok(None) } else { Err("truncated inside a tag".to_owned()) };
        };
        let [kind, len] = [0, 4].map(|at| u32::from_le_bytes([tag[at], tag[at + 1], tag[at + 2], tag[at + 3]]));
        let small_len = (kind >> 16) as usize;
        if small_len > 0 {
            let content =
                self.0[4..8].get(..small_len).ok_or_else(|| format!("expected at most 4 bytes in a tag, found {small_len}"))?;
            self.0 = rest;
            return Ok(Some((kind & 0xFFFF, content)));
        }
        let content =
            rest.get(..len as usize).ok_or_else(|| format!("truncated: expected {len} more bytes, found {}", rest.len()))?;
        let padded = if kind == COMPRESSED { content.len() } else { content.len().next_multiple_of(8) };
        self.0 = &rest[padded.min(rest.len())..];
        Ok(Some((kind, content)))
    }

    fn expect_next(&mut self, what: &str) -> Result<(u32, &'a [u8]), String> {
        self.next()?.ok_or_else(|| format!("truncated: expected {what}, found the end"))
    }
}

//! The settings that choose a weighting, taken together: a published loss or a file, then what differs from it on either side.

use crate::error::{Error, Result};
use crate::loss::{Gate, PairWeighting, Side};
use std::path::Path;

/// What can be set of either side, with `positive` or `negative` in front.
const OF_A_SIDE: [&str; 6] = ["", "_gate", "_mining", "_scale", "_factor", "_soft"];

/// The names of all of them.
pub(super) fn settings() -> impl Iterator<Item = String> {
    let sides = ["positive", "negative"].into_iter().flat_map(|kind| OF_A_SIDE.map(|part| format!("{kind}{part}")));
    std::iter::once("weighting".to_owned()).chain(sides)
}

/// Kind of pair and what is set of it.
fn part(key: &str) -> Option<(bool, &'static str)> {
    let (positive, rest) =
        key.strip_prefix("positive").map(|rest| (true, rest)).or(key.strip_prefix("negative").map(|rest| (false, rest)))?;
    OF_A_SIDE.into_iter().find(|part| *part == rest).map(|part| (positive, part))
}

/// Takes these settings out of a table and changes the weighting by them: `weighting` first, whatever the order. An error is what
/// `blame` makes of the setting's name and a reason.
pub(super) fn take(table: &mut toml::Table, weighting: &mut PairWeighting, blame: impl Fn(&str, String) -> Error) -> Result<()> {
    for key in settings() {
        if let Some(value) = table.remove(&key) {
            set(weighting, &key, value).map_err(|error| blame(&key, error.to_string()))?;
        }
    }
    Ok(())
}

fn set(weighting: &mut PairWeighting, key: &str, value: toml::Value) -> Result<()> {
    let Some((positive, part)) = part(key) else {
        *weighting = read(value)?;
        return Ok(());
    };
    let side: &mut Side = if positive { &mut weighting.positive } else { &mut weighting.negative };
    match part {
        "_gate" => side.gate = gate(key, positive, number(&value)?)?,
        "_factor" => side.factor = number(&value)?,
        "_mining" => side.mining = text(&value)?.parse()?,
        "_scale" => side.scale = text(&value)?.parse()?,
        "_soft" => side.soft = Some(text(&value)?.parse()?),
        _ => side.curve = text(&value)?.parse()?,
    }
    Ok(())
}

/// A published loss by name, the path of a file with the tables `positive` and `negative`, or those tables.
fn read(value: toml::Value) -> Result<PairWeighting> {
    match value {
        toml::Value::String(text) => read_weighting(&text),
        tables => tables.try_into().map_err(|error: toml::de::Error| Error::config(error.message().replace('\n', ", "))),
    }
}

/// A published loss, as in `circle` or `circle:gamma=64`, or the path of a TOML file with the tables `positive` and `negative`.
///
/// # Errors
/// [`Error::Config`] on an unknown name, [`Error::Data`] on a file that cannot be read as a weighting.
pub fn read_weighting(text: &str) -> Result<PairWeighting> {
    if Path::new(text).extension().is_none_or(|extension| extension != "toml") {
        return text.parse();
    }
    let weighting: PairWeighting = super::read_table(Path::new(text))?
        .try_into()
        .map_err(|error: toml::de::Error| Error::data(text, error.message().replace('\n', ", ")))?;
    weighting.validate().map_err(|error| Error::data(text, error.to_string()))?;
    Ok(weighting)
}

fn gate(key: &str, positive: bool, threshold: f32) -> Result<Gate> {
    if !(-1.0..=1.0).contains(&threshold) {
        let flag = key.replace('_', "-");
        return Err(Error::config(format!("--{flag} is a similarity and must be in [-1, 1], found {threshold}")));
    }
    Ok(match positive {
        true if threshold >= 1.0 => Gate::None,
        true => Gate::Below(threshold),
        false if threshold <= -1.0 => Gate::None,
        false => Gate::Above(threshold),
    })
}

fn number(value: &toml::Value) -> Result<f32> {
    let number = value.as_float().or_else(|| value.as_integer().map(|number| number as f64));
    number.map(|number| number as f32).ok_or_else(|| Error::config(format!("expected a number, found {value}")))
}

fn text(value: &toml::Value) -> Result<&str> {
    value.as_str().ok_or_else(|| Error::config(format!("expected text, found {value}")))
}

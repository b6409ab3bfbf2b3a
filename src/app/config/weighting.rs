//! The settings that choose a weighting, taken together: a published loss or a file, then what differs from it on either side.

use crate::error::{Error, Result};
use crate::loss::{Gate, PairWeighting};
use crate::settings::{Kind, Setting};
use std::path::Path;
use std::str::FromStr;

/// A setting, and how its value changes a weighting.
struct Part {
    setting: Setting,
    set: Set,
}

type Set = fn(&mut PairWeighting, &toml::Value) -> Result<()>;

const fn part((key, kind, unit): (&'static str, Kind, &'static str), documentation: &'static str, set: Set) -> Part {
    let setting = Setting::new(key, "Weighting", documentation, kind, String::new);
    Part { setting: setting.unit(unit).empty("that of --weighting"), set }
}

/// In the order in which they are applied: the weighting first, as the others change it.
const PARTS: &[Part] = &[
    Part {
        setting: Setting::new(
            "weighting",
            "Weighting",
            "A published loss, such as multi-similarity or circle:gamma=64, or a TOML file; the flags below change it",
            Kind::Text,
            || "contrastive".to_owned(),
        )
        .unit("NAME|FILE.toml"),
        set: |weighting, value| read(value).map(|read| *weighting = read),
    },
    part(
        ("positive", Kind::Text, "CURVE"),
        "Weight of a positive pair: constant:1, linear:a=1,b=-0.5, exp:k=-10,s0=0.5, sigmoid:.., power:.., band:.., table:..",
        |weighting, value| parse(value).map(|curve| weighting.positive.curve = curve),
    ),
    part(
        ("positive_gate", Kind::Number, "SIMILARITY"),
        "Discard positives more similar than this, which is in [-1, 1]; 1 keeps all",
        |weighting, value| {
            let threshold = threshold("positive-gate", value)?;
            weighting.positive.gate = if threshold >= 1.0 { Gate::None } else { Gate::Below(threshold) };
            Ok(())
        },
    ),
    part(
        ("positive_mining", Kind::Text, "MINING"),
        "Positives compared with the others of their row: all, relative:0.1 or hardest:8",
        |weighting, value| parse(value).map(|mining| weighting.positive.mining = mining),
    ),
    part(
        ("positive_scale", Kind::Text, "SCALE"),
        "How a row scales its positives: sum, mean, mean-row, mean-all, soft, soft-one, joint, ..",
        |weighting, value| parse(value).map(|scale| weighting.positive.scale = scale),
    ),
    part(("positive_factor", Kind::Number, "LAMBDA"), "Factor in front of all positive weights", |weighting, value| {
        number(value).map(|factor| weighting.positive.factor = factor)
    }),
    part(("negative", Kind::Text, "CURVE"), "Weight of a negative pair, as --positive", |weighting, value| {
        parse(value).map(|curve| weighting.negative.curve = curve)
    }),
    part(
        ("negative_gate", Kind::Number, "SIMILARITY"),
        "Discard negatives less similar than this, which is in [-1, 1]; -1 keeps all",
        |weighting, value| {
            let threshold = threshold("negative-gate", value)?;
            weighting.negative.gate = if threshold <= -1.0 { Gate::None } else { Gate::Above(threshold) };
            Ok(())
        },
    ),
    part(
        ("negative_mining", Kind::Text, "MINING"),
        "Negatives compared with the others of their row, as --positive-mining",
        |weighting, value| parse(value).map(|mining| weighting.negative.mining = mining),
    ),
    part(("negative_scale", Kind::Text, "SCALE"), "How a row scales its negatives, as --positive-scale", |weighting, value| {
        parse(value).map(|scale| weighting.negative.scale = scale)
    }),
    part(("negative_factor", Kind::Number, "LAMBDA"), "Factor in front of all negative weights", |weighting, value| {
        number(value).map(|factor| weighting.negative.factor = factor)
    }),
    part(
        ("negative_soft", Kind::Text, "width=1,least=0"),
        "How the soft labels of the data weigh negatives: least where they are equal, fully where they differ by the width",
        |weighting, value| parse(value).map(|soft| weighting.negative.soft = Some(soft)),
    ),
];

/// All of them.
pub(super) fn settings() -> impl Iterator<Item = &'static Setting> {
    PARTS.iter().map(|part| &part.setting)
}

/// Takes these settings out of a table and changes the weighting by them, `weighting` first, whatever the order. An error is what `blame`
/// makes of the setting's name and a reason.
pub(super) fn take(table: &mut toml::Table, weighting: &mut PairWeighting, blame: impl Fn(&str, String) -> Error) -> Result<()> {
    for Part { setting: Setting { key, .. }, set } in PARTS {
        if let Some(value) = table.remove(*key) {
            set(weighting, &value).map_err(|error| blame(key, error.to_string()))?;
        }
    }
    Ok(())
}

/// A published loss by name, the path of a file with the tables `positive` and `negative`, or those tables.
fn read(value: &toml::Value) -> Result<PairWeighting> {
    match value {
        toml::Value::String(text) => read_weighting(text),
        tables => tables.clone().try_into().map_err(|error: toml::de::Error| Error::config(error.message().replace('\n', ", "))),
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

/// A similarity that pairs are compared with.
fn threshold(flag: &str, value: &toml::Value) -> Result<f32> {
    let threshold = number(value)?;
    if (-1.0..=1.0).contains(&threshold) {
        return Ok(threshold);
    }
    Err(Error::config(format!("--{flag} is a similarity and must be in [-1, 1], found {threshold}")))
}

fn number(value: &toml::Value) -> Result<f32> {
    let number = value.as_float().or_else(|| value.as_integer().map(|number| number as f64));
    number.map(|number| number as f32).ok_or_else(|| Error::config(format!("expected a number, found {value}")))
}

fn parse<T: FromStr<Err = Error>>(value: &toml::Value) -> Result<T> {
    value.as_str().ok_or_else(|| Error::config(format!("expected text, found {value}")))?.parse()
}

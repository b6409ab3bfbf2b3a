//! The layouts a data set can have on disk, one file each.
//!
//! To add one: a file here with an `ENTRY`, its line in `ENTRIES`, and a case in `tests/data/catalog.rs`.

mod cars;
mod csv;
mod cub;
mod deepfashion2;
mod folder;
mod inshop;
mod list;
mod packed;
mod paths;
mod sop;
mod synthetic;
mod table;
mod vehicleid;

use super::{Dataset, OpenOptions};
use crate::error::{Error, Result};
use crate::files::input;
pub use folder::below;
pub use paths::of_files;

/// A layout: the name before the colon of a SPEC and what opens the rest of it.
struct Entry {
    name: &'static str,
    usage: &'static str,
    open: fn(rest: &str, options: &OpenOptions) -> Result<Dataset>,
}

const ENTRIES: &[Entry] = &[
    synthetic::ENTRY,
    folder::ENTRY,
    csv::ENTRY,
    sop::ENTRY,
    inshop::ENTRY,
    deepfashion2::ENTRY,
    cub::ENTRY,
    cars::ENTRY,
    vehicleid::ENTRY,
    packed::ENTRY,
    paths::ENTRY,
];

/// How far a misspelt name may be from a known one to be suggested (Jaro-Winkler similarity).
const SUGGESTION_SIMILARITY: f64 = 0.75;

/// Every form a SPEC can have, one a line, for help texts.
pub fn usage() -> String {
    ENTRIES.iter().map(|entry| entry.usage).collect::<Vec<_>>().join("\n")
}

/// Opens the data set that `spec` names.
///
/// # Errors
/// See [`Dataset::open`].
pub fn open(spec: &str, options: &OpenOptions) -> Result<Dataset> {
    if !(0.0..=1.0).contains(&options.holdout) {
        return Err(Error::config(format!("holdout: expected a share of the classes in 0..=1, found {}", options.holdout)));
    }
    let (name, rest) =
        if spec == input::STANDARD_INPUT { (paths::ENTRY.name, spec) } else { spec.split_once(':').unwrap_or((spec, "")) };
    let Some(entry) = ENTRIES.iter().find(|entry| entry.name == name) else {
        let known: Vec<_> = ENTRIES.iter().map(|entry| entry.name).collect();
        let advice = spec_of(spec).map_or_else(|| unknown(spec, name, &known), |meant| format!("`{spec}`: expected `{meant}`"));
        return Err(Error::config(format!("data set {advice}")));
    };
    let mut dataset = (entry.open)(rest, options)?;
    dataset.name = spec.to_owned();
    dataset.max_megapixels = options.max_megapixels;
    Ok(dataset)
}

/// The SPEC of a path that was given without its kind, as the place looks.
fn spec_of(path: &str) -> Option<String> {
    let place = std::path::Path::new(path);
    let kind = match place.extension().and_then(|extension| extension.to_str()) {
        _ if place.is_dir() => "folder",
        Some("csv") if place.is_file() => "csv",
        Some("xbm") if place.is_file() => "packed",
        _ => return None,
    };
    Some(format!("{kind}:{path}"))
}

/// "`whole`: unknown name ..., did you mean ...? Known: ...".
fn unknown(whole: &str, name: &str, known: &[&str]) -> String {
    let closest = known.iter().map(|&other| (strsim::jaro_winkler(name, other), other)).max_by(|a, b| a.0.total_cmp(&b.0));
    let hint = match closest {
        Some((similarity, other)) if similarity >= SUGGESTION_SIMILARITY => format!(", did you mean `{other}`?"),
        _ => ".".to_owned(),
    };
    format!("`{whole}`: `{name}` is not known{hint} Known: {}", known.join(", "))
}

/// The folder or file after the colon, which must not be empty.
fn path_of<'a>(rest: &'a str, entry: &Entry) -> Result<&'a std::path::Path> {
    if rest.is_empty() {
        return Err(Error::config(format!("data set `{}`: expected `{}`, found no path", entry.name, entry.usage)));
    }
    Ok(std::path::Path::new(rest))
}

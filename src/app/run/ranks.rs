//! What the ranks of a run tell each other beside its steps: that they are about to do the same, and what each of them came across.

use super::{RunFolder, report_data};
use crate::app::config::TrainConfig;
use crate::app::data::Provenance;
use crate::error::{Error, Result};
use crate::group::Group;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::PathBuf;

/// Settings that may differ: where and how much, not what.
const OF_THE_MACHINE: [&str; 6] = ["threads", "out", "data", "cache-mb", "device-cache-mb", "group-timeout"];

/// Lists of all ranks, one after the other.
///
/// # Errors
/// [`Error::Group`] if another rank does not answer.
pub fn joined<T: Serialize + DeserializeOwned>(group: &Group, what: &'static str, own: Vec<T>) -> Result<Vec<T>> {
    if group.is_alone() {
        return Ok(own);
    }
    let said = group.collect(what, &serde_json::to_vec(&own).expect("plain values"))?;
    let read = |bytes: &Vec<u8>| serde_json::from_slice::<Vec<T>>(bytes).map_err(|error| Error::Group(format!("{what}: {error}")));
    Ok(said.iter().map(read).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// Fails, on every rank, unless all are the same version with the same settings and the same images on the same kind of device.
///
/// # Errors
/// [`Error::Group`] with the first difference, and both values.
pub fn agree(group: &Group, config: &TrainConfig, images: &Provenance) -> Result<()> {
    if group.is_alone() {
        return Ok(());
    }
    let mut own = vec![("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned())];
    own.push(("images of --data, by their fingerprint".to_owned(), images.listing()?.fingerprint().to_string()));
    let settings = report_data::settings(config).into_iter().filter(|(name, _)| !OF_THE_MACHINE.contains(&name.as_str()));
    own.extend(settings.map(|(name, value)| (format!("--{name}"), value)));
    let all: Vec<Vec<(String, String)>> = joined(group, "the settings", vec![own])?;
    for (rank, others) in all.iter().enumerate().skip(1) {
        // Of as many settings, unless the versions differ, which are first.
        let different = all[0].iter().zip(others).find(|(first, other)| first != other);
        if let Some(((what, expected), (_, found))) = different {
            let words = format!("rank 0 has {what} {expected}, rank {rank} has {found}");
            return Err(Error::Group(format!("{words}; start all ranks with one command, on the same files")));
        }
    }
    Ok(())
}

/// The folder of a new run, made by the first rank.
///
/// # Errors
/// As [`RunFolder::create`].
pub fn create_folder(group: &Group, config: &mut TrainConfig) -> Result<RunFolder> {
    let folder = if group.is_first() { Some(RunFolder::create(config)?) } else { None };
    let mut out: Vec<PathBuf> = joined(group, "the run's folder", folder.iter().map(|_| config.record.out.clone()).collect())?;
    config.record.out = out.swap_remove(0);
    Ok(folder.unwrap_or_else(|| RunFolder::of_first_rank(&config.record.out)))
}

//! Published ResNet weights as the start of a run: safetensors under the names that torchvision and timm share.
//!
//! The trunk must be there whole and nothing else with it: a file of another depth has many tensors of fitting shapes, and a network
//! that is partly random trains without a complaint. Only the classifier (`fc`) is dropped, for the embedding head takes its place.

use super::encoder::{download, upload};
use super::header::torch_pickle;
use super::layout::{Direction, HostWeights, Tensors, permuted};
use crate::error::{Error, Result};
use crate::files::input;
use crate::model::{Architecture, Depth, Role, Weights};
use crate::ops::Backend;
use crate::ops::pool::GlobalPooling;
use crate::train::State;
use crate::train::TrainSettings;
use safetensors::SafeTensors;
use std::collections::BTreeMap;
use std::path::Path;

/// Most names that an error lists of a kind.
const LISTED: usize = 4;
const CLASSIFIER: &str = "fc.";
/// What every name begins with where a model was wrapped for several devices.
const PARALLEL: &str = "module.";
const COUNTER: &str = ".num_batches_tracked";

/// Weights whose trunk is the file's; the head is the one a run with `seed` starts from.
///
/// # Errors
/// [`Error::Io`] and [`Error::Data`] on a file that cannot be read or is no safetensors file, or whose tensors are not the trunk of
/// `architecture`, with what is missing, unexpected or of another shape.
pub fn load_pretrained<B: Backend>(backend: &B, path: &Path, architecture: &Architecture, seed: u64) -> Result<Weights<B>> {
    let bytes = input::read(path)?;
    let unreadable = |error| {
        let found = torch_pickle(&bytes).unwrap_or_else(|| format!("another ({error})"));
        Error::data(path, format!("expected a complete safetensors file, found {found}"))
    };
    let file = Tensors { path, tensors: SafeTensors::deserialize(&bytes).map_err(unreadable)? };
    check_trunk(architecture, &file)?;
    let mut weights = download(backend, &Weights::with_drawn_head(backend, architecture, seed)?)?;
    fill_trunk(architecture, &file, &mut weights)?;
    upload(backend, &weights)
}

impl<B: Backend> State<B> {
    /// The state before the first step of a network whose trunk is that of the file at `path`; the head is drawn by the settings' seed.
    ///
    /// # Errors
    /// As [`load_pretrained`].
    pub fn from_pretrained(backend: &B, config: &TrainSettings, path: &Path) -> Result<Self> {
        Self::from_encoder(backend, config, load_pretrained(backend, path, &config.architecture()?, config.execution.seed)?)
    }
}

fn fill_trunk(architecture: &Architecture, file: &Tensors<'_>, weights: &mut HostWeights) -> Result<()> {
    for parameter in architecture.parameters.iter().filter(|parameter| !matches!(parameter.role, Role::Head { .. })) {
        let values = file.widened(&parameter.name, &parameter.shape)?;
        let target = &mut weights.parameters[parameter.start..parameter.start + parameter.len()];
        target.copy_from_slice(&permuted(parameter, &values, Direction::FromTorch));
    }
    for (name, channels, start) in &architecture.norms {
        let range = *start..start + channels;
        weights.running_means[range.clone()].copy_from_slice(&file.widened(&format!("{name}.running_mean"), &[*channels])?);
        weights.running_variances[range].copy_from_slice(&file.widened(&format!("{name}.running_var"), &[*channels])?);
    }
    Ok(())
}

/// Names and shapes of everything before the head.
fn trunk(architecture: &Architecture) -> BTreeMap<String, Vec<usize>> {
    let parameters = architecture.parameters.iter().filter(|parameter| !parameter.name.starts_with(CLASSIFIER));
    let mut tensors: BTreeMap<_, _> = parameters.map(|parameter| (parameter.name.clone(), parameter.shape.clone())).collect();
    for (name, channels, _) in &architecture.norms {
        tensors.extend(["running_mean", "running_var"].map(|kind| (format!("{name}.{kind}"), vec![*channels])));
    }
    tensors
}

fn check_trunk(architecture: &Architecture, file: &Tensors<'_>) -> Result<()> {
    let belongs = |name: &str| !name.starts_with(CLASSIFIER) && !name.ends_with(COUNTER);
    let found: BTreeMap<String, Vec<usize>> = file
        .tensors
        .iter()
        .filter(|(name, _)| belongs(name))
        .map(|(name, view)| (name.to_owned(), view.shape().to_vec()))
        .collect();
    let expected = trunk(architecture);
    if found == expected {
        return Ok(());
    }
    let missing: Vec<String> = expected.keys().filter(|name| !found.contains_key(*name)).cloned().collect();
    let unexpected: Vec<String> = found.keys().filter(|name| !expected.contains_key(*name)).cloned().collect();
    let differs = |(name, shape): (&String, &Vec<usize>)| {
        let other = found.get(name).filter(|other| *other != shape)?;
        Some(format!("{name} (expected {shape:?}, found {other:?})"))
    };
    let reshaped: Vec<String> = expected.iter().filter_map(differs).collect();
    let faults = [("missing", missing), ("unexpected", unexpected), ("of another shape", reshaped)];
    let faults: Vec<String> =
        faults.into_iter().filter(|(_, names)| !names.is_empty()).map(|(kind, names)| list(kind, names)).collect();
    let expected = name_of(architecture.depth);
    let advice = match depth_of(&found)? {
        Some(depth) => format!("these are the weights of --backbone {}", name_of(depth)),
        None if found.keys().all(|name| name.starts_with(PARALLEL)) => {
            format!("`{PARALLEL}` before each name is of torch.nn.DataParallel: save the state_dict of model.module")
        }
        None => "give weights under torchvision's or timm's names".to_owned(),
    };
    Err(Error::data(file.path, format!("expected the tensors of a {expected}; {}; {advice}", faults.join("; "))))
}

fn name_of(depth: Depth) -> String {
    format!("{depth:?}").to_lowercase()
}

/// The network whose trunk these tensors are.
fn depth_of(found: &BTreeMap<String, Vec<usize>>) -> Result<Option<Depth>> {
    for depth in [Depth::ResNet18, Depth::ResNet34, Depth::ResNet50, Depth::ResNet101] {
        if *found == trunk(&Architecture::new(depth, 1, 1, GlobalPooling::Avg)?) {
            return Ok(Some(depth));
        }
    }
    Ok(None)
}

/// "12 missing: a, b, c, d and 8 more".
fn list(kind: &str, names: Vec<String>) -> String {
    let more = names.len().saturating_sub(LISTED);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{} {kind}: {}{rest}", names.len(), names[..names.len() - more].join(", "))
}

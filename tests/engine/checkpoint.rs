//! Checkpoints: what is saved is read back bit for bit, under torchvision's names, and foreign files are told apart.

use crate::support::{config, cpu};
use safetensors::SafeTensors;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use xbm_fast::checkpoint::{self, NetworkHeader, Record};
use xbm_fast::device::Cpu;
use xbm_fast::device::Tensor;
use xbm_fast::memory::MemoryKind;
use xbm_fast::model::{Architecture, Weights};
use xbm_fast::ops::optimizer::Algorithm;
use xbm_fast::train::State;
use xbm_fast::train::TrainSettings;

const DIM: usize = 16;

fn config() -> TrainSettings {
    config!(TrainSettings::default(); dim: DIM, image_size: 16, batch_size: 8, memory_size: 20)
}

fn architecture(config: &TrainSettings) -> Architecture {
    NetworkHeader::of(config).architecture().unwrap()
}

fn random(backend: &Cpu, name: &str, len: usize) -> Tensor<Cpu> {
    // Repeats a short sequence: millions of normal values would be most of the test's time.
    let short = crate::support::normals(name, 4099);
    Tensor::from_host(backend, &(0..len).map(|index| short[index % short.len()]).collect::<Vec<_>>()).unwrap()
}

/// A state in which no two tensors are alike; a ring has wrapped.
fn random_state(backend: &Cpu, config: &TrainSettings) -> State<Cpu> {
    let architecture = architecture(config);
    let mut state = State::initial(backend, config).unwrap();
    let weights = |name: &str, batches_tracked| Weights {
        parameters: random(backend, &format!("{name} parameters"), architecture.parameters_len),
        running_means: random(backend, &format!("{name} means"), architecture.statistics_len),
        running_variances: random(backend, &format!("{name} variances"), architecture.statistics_len),
        batches_tracked,
    };
    state.step = 41;
    state.query = weights("query", 41);
    state.key = state.key.map(|_| weights("key", 43));
    state.first_moment = random(backend, "first", state.first_moment.len());
    state.second_moment = random(backend, "second", state.second_moment.len());
    if let Some(memory) = &mut state.memory {
        for batch in 0..3 {
            let rows = Tensor::from_host(backend, &crate::support::unit_rows(&format!("rows {batch}"), 8, DIM)).unwrap();
            let labels: [i32; 8] = std::array::from_fn(|row| (row as i32) / 2 - batch);
            memory.enqueue(backend, rows.all(), &labels, &labels).unwrap();
        }
    }
    state
}

/// A third is no short decimal, and 0.1 + 0.2 is next to one.
fn record() -> Record {
    Record {
        progress: json!({ "first": 1.0 / 3.0, "best": [0.1 + 0.2, 40] }),
        trained_on: Some(json!({ "data": "folder:photos" })),
    }
}

fn bits(backend: &Cpu, tensor: &Tensor<Cpu>) -> Vec<u32> {
    tensor.to_host(backend).unwrap().iter().map(|value| value.to_bits()).collect()
}

#[track_caller]
fn assert_same_weights(backend: &Cpu, found: &Weights<Cpu>, expected: &Weights<Cpu>) {
    assert!(bits(backend, &found.parameters) == bits(backend, &expected.parameters), "parameters differ");
    assert_eq!(bits(backend, &found.running_means), bits(backend, &expected.running_means));
    assert_eq!(bits(backend, &found.running_variances), bits(backend, &expected.running_variances));
    assert_eq!(found.batches_tracked, expected.batches_tracked);
}

#[test]
fn a_run_is_read_back_bit_for_bit() {
    let (backend, folder) = (cpu(2), tempfile::tempdir().unwrap());
    for (memory, optimizer) in [
        (MemoryKind::Momentum, Algorithm::Adam),
        (MemoryKind::CrossBatch, Algorithm::Sgd),
        (MemoryKind::Instance, Algorithm::Sgd),
        (MemoryKind::Prototype, Algorithm::Sgd),
    ] {
        let config = config!(config(); memory, optimizer);
        let state = random_state(&backend, &config);
        let path = folder.path().join(checkpoint::file_name(state.step));
        checkpoint::save(&backend, &path, &config, &state, &record()).unwrap();
        let (found, found_record) = State::from_checkpoint(&backend, &config, &path).unwrap();

        assert_eq!(found_record, record());
        assert_eq!(found.step, 41);
        assert_same_weights(&backend, &found.query, &state.query);
        assert_eq!(found.key.is_some(), memory == MemoryKind::Momentum);
        if let (Some(found), Some(expected)) = (&found.key, &state.key) {
            assert_same_weights(&backend, found, expected);
        }
        assert!(bits(&backend, &found.first_moment) == bits(&backend, &state.first_moment));
        assert!(bits(&backend, &found.second_moment) == bits(&backend, &state.second_moment));
        let ring = |state: &State<Cpu>| state.memory.as_ref().unwrap().export(&backend).unwrap();
        assert_eq!(ring(&found), ring(&state));
        if matches!(memory, MemoryKind::Momentum | MemoryKind::CrossBatch) {
            assert_eq!(ring(&found).head, 24 % 20);
        }
    }
}

#[test]
fn a_model_has_torchvisions_names_and_shapes_and_nothing_else() {
    let (backend, folder) = (cpu(2), tempfile::tempdir().unwrap());
    let path = folder.path().join("best.safetensors");
    let weights = Weights::initialised(&backend, &architecture(&config()), 0).unwrap();
    checkpoint::save_model(&backend, &path, &config(), &weights).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let shape = |shape: &[usize]| match shape {
        [] => "scalar".to_owned(),
        sizes => sizes.iter().map(usize::to_string).collect::<Vec<_>>().join("x"),
    };
    let found: BTreeMap<String, String> =
        SafeTensors::deserialize(&bytes).unwrap().iter().map(|(name, tensor)| (name.to_owned(), shape(tensor.shape()))).collect();
    let expected = include_str!("../golden/state_dict_resnet18.txt").lines().map(|line| line.split_once(' ').unwrap());
    let expected: BTreeMap<String, String> = expected.map(|(name, shape)| (name.to_owned(), shape.to_owned())).collect();
    assert_eq!(found, expected);
}

#[test]
fn filters_are_written_in_torchs_layout() {
    let (backend, folder) = (cpu(1), tempfile::tempdir().unwrap());
    let (path, architecture) = (folder.path().join("best.safetensors"), architecture(&config()));
    let weights = Weights::initialised(&backend, &architecture, 3).unwrap();
    checkpoint::save_model(&backend, &path, &config(), &weights).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let stem = file.tensor("conv1.weight").unwrap();
    let torch: Vec<f32> = stem.data().chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
    let parameter = architecture.parameters.iter().find(|parameter| parameter.name == "conv1.weight").unwrap();
    let ours = &weights.parameters.to_host(&backend).unwrap()[parameter.start..];
    for (out, row, column, channel) in [(0, 0, 1, 2), (5, 6, 0, 1), (63, 3, 4, 0)] {
        let in_torch = torch[((out * 3 + channel) * 7 + row) * 7 + column];
        assert_eq!(in_torch, ours[((out * 7 + row) * 7 + column) * 3 + channel]);
    }
}

#[test]
fn the_encoder_to_evaluate_is_the_key_encoder_where_there_is_one() {
    let (backend, folder) = (cpu(2), tempfile::tempdir().unwrap());
    for memory in [MemoryKind::Momentum, MemoryKind::None] {
        let config = config!(config(); memory, optimizer: Algorithm::Sgd);
        let state = random_state(&backend, &config);
        let path = folder.path().join("step-000041.safetensors");
        checkpoint::save(&backend, &path, &config, &state, &record()).unwrap();
        let (network, encoder) = checkpoint::load_encoder(&backend, &path).unwrap();
        assert_eq!(network, NetworkHeader::of(&config));
        assert_same_weights(&backend, &encoder, state.encoder());
    }
}

#[test]
fn checkpoints_are_listed_by_step_and_nothing_else_is() {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "step-1000000.safetensors",
        "step-000040.safetensors",
        "step-000007.safetensors.12.tmp",
        "best.safetensors",
        "step-x.safetensors",
    ] {
        std::fs::write(folder.path().join(name), "").unwrap();
    }
    let steps: Vec<u64> = checkpoint::list(folder.path()).unwrap().into_iter().map(|(step, _)| step).collect();
    assert_eq!(steps, [40, 1_000_000]);
}

/// Why the file at `path` cannot be continued from with these settings.
#[track_caller]
fn refused(path: &Path, config: &TrainSettings) -> String {
    let message = State::from_checkpoint(&cpu(1), config, path).map(|_| ()).expect_err("the file does not fit").to_string();
    let name = path.file_name().unwrap().to_str().unwrap();
    assert!(message.contains(name) && !message.contains('\n'), "{message}");
    message
}

#[track_caller]
fn assert_says(message: &str, words: &[&str]) {
    for word in words {
        assert!(message.contains(word), "expected `{word}` in: {message}");
    }
}

#[test]
fn a_checkpoint_of_other_settings_is_refused_with_both() {
    let (backend, folder) = (cpu(1), tempfile::tempdir().unwrap());
    let config = config!(config(); optimizer: Algorithm::Sgd, memory: MemoryKind::CrossBatch);
    let path = folder.path().join("step-000041.safetensors");
    checkpoint::save(&backend, &path, &config, &random_state(&backend, &config), &record()).unwrap();
    assert_says(&refused(&path, &config!(config; dim: 32)), &["--dim 16", "--dim 32"]);
    let deeper = config!(config; backbone: xbm_fast::model::Depth::ResNet34);
    assert_says(&refused(&path, &deeper), &["resnet18", "resnet34"]);
    assert_says(&refused(&path, &config!(config; optimizer: Algorithm::Adam)), &["--optimizer"]);
    assert_says(&refused(&path, &config!(config; memory: MemoryKind::None)), &["--memory"]);
    assert_says(&refused(&path, &config!(config; memory_size: 24)), &["20 rows", "24 rows"]);

    let whole = std::fs::read(&path).unwrap();
    for len in [0, 7, 500, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..len]).unwrap();
        assert_says(&refused(&path, &config), &["truncated"]);
    }
}

/// A safetensors file of one tensor, with the given entry in its header.
fn foreign(path: &Path, entry: Option<(&str, &str)>) {
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1], &[0; 4]).unwrap();
    let metadata = entry.map(|(key, text)| [(key.to_owned(), text.to_owned())].into());
    std::fs::write(path, safetensors::serialize([("fc.bias", view)], metadata).unwrap()).unwrap();
}

#[test]
fn foreign_newer_and_damaged_files_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.safetensors");
    foreign(&path, None);
    assert_says(&refused(&path, &config()), &["another program"]);
    foreign(&path, Some(("xbm-fast", r#"{"format": 4, "what": "the future holds"}"#)));
    assert_says(&refused(&path, &config()), &["format 3", "format 4"]);
    foreign(&path, Some(("xbm-fast", r#"{"format": 3}"#)));
    assert_says(&refused(&path, &config()), &["damaged header"]);
    std::fs::write(&path, "not a safetensors file at all").unwrap();
    assert_says(&refused(&path, &config()), &["foreign"]);
    let network = serde_json::to_string(&NetworkHeader::of(&config())).unwrap();
    foreign(&path, Some(("xbm-fast", &format!(r#"{{"format": 3, "version": "0", "network": {network}, "run": null}}"#))));
    assert_says(&refused(&path, &config()), &["step-*.safetensors"]);
    let message = checkpoint::load_encoder(&cpu(1), &path).unwrap_err().to_string();
    assert_says(&message, &["conv1.weight", "[64, 3, 7, 7]"]);
}

#[test]
fn saving_over_a_checkpoint_replaces_it_whole_and_leaves_no_temporary_file() {
    let (backend, folder) = (cpu(1), tempfile::tempdir().unwrap());
    let config = config!(config(); optimizer: Algorithm::Sgd, memory: MemoryKind::None);
    let path = folder.path().join("best.safetensors");
    std::fs::write(&path, "old").unwrap();
    checkpoint::save_model(&backend, &path, &config, &random_state(&backend, &config).query).unwrap();
    checkpoint::load_encoder(&backend, &path).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

//! Numbers out of range and sizes beyond all memory, from settings, files and callers: each ends in words that name what is at fault, and
//! what leaves the engine is in the range it states.


use proptest::prelude::*;
use safetensors::SafeTensors;
use std::path::Path;
use crate::support::{buffer, config, cpu, integers, unit_rows, values};
use xbm_fast::Error;
use xbm_fast::checkpoint::{NetworkHeader, load_encoder, memory_from_bytes, memory_to_bytes, save_model};
use xbm_fast::device::{Cpu, Span, SpanMut};
use xbm_fast::evaluate::{Embeddings, EvaluationSet, evaluate, mean_random_similarity, nearest};
use xbm_fast::loss::{Curve, Mining, Normalization, PairWeighting, Side, Soft};
use xbm_fast::memory::{DriftMeter, EmbeddingMemory, Filling, MemoryState};
use xbm_fast::model::{Architecture, Depth, Weights};
use xbm_fast::ops::pair_loss::{CompareWith, PairLoss, PairLossCall, PairLossGeometry, PairLossInputs, PairLossOutputs, SelfPairs};
use xbm_fast::ops::pool::GlobalPooling;
use xbm_fast::train::TrainSettings;
use xbm_fast::train::{Learner, State};

const DIM: usize = 4;

#[track_caller]
fn words_of<T>(result: xbm_fast::Result<T>, words: &str) {
    let Err(error) = result else { panic!("expected an error with `{words}`") };
    assert!(error.to_string().contains(words), "expected `{words}` in: {error}");
}

#[test]
fn parameters_beyond_all_reason_are_refused_by_name() {
    for (text, parameter) in [
        ("triplet:margin=1e38", "margin"),
        ("triplet:margin=-1e38", "margin"),
        ("contrastive:positive=-1e38", "positive"),
        ("lifted-structure:scale=1e38", "scale"),
        ("nca:t=1e-38", "t"),
        ("info-nce:t=1e38", "t"),
        ("n-pair:scale=0", "scale"),
        ("binomial-deviance:beta=1e9", "beta"),
        ("multi-similarity:eps=nan", "eps"),
        ("circle:m=inf", "m"),
    ] {
        words_of(text.parse::<PairWeighting>(), &format!("{parameter} must be from"));
    }
    for text in [
        "constant:1e38",
        "linear:a=1,b=-1e38",
        "power:s0=0.99999,p=2",
        "power:s0=0,p=1e9",
        "exp:k=1e38,s0=0",
        "exp:k=1,s0=1e9",
        "sigmoid:k=-1e38,s0=0",
        "band:lo=-1e38,hi=1",
        "circle:gamma=1e38,m=0",
        "table:0=0,1=1e38",
        "table:0=0,1e-40=1",
    ] {
        words_of(text.parse::<Curve>(), text.split([':', '=']).next().unwrap());
    }
    words_of("width=1,least=1e38".parse::<Soft>(), "a least from 0 to 1e6");
    let side = || Side::ungated(Curve::Constant(1.0));
    let with = |negative: Side| PairWeighting { positive: side(), negative }.validate();
    words_of(with(side().times(1e38)), "factor");
    words_of(with(side().mined(Mining::Relative(f32::NAN))), "margin");
    words_of(with(side().mined(Mining::Relative(1e30))), "margin");
    words_of(with(Side { soft: Some(Soft { width: f32::NAN, least: 0.0 }), ..side() }), "width");
    let both = side().scaled(Normalization::Triplets(1e38));
    words_of(PairWeighting { positive: both.clone(), negative: both }.validate(), "margin");
    for (filling, words) in [
        (Filling::Ring { max_drift: Some(f32::NAN) }, "largest drift"),
        (Filling::Instance { average: 1.0 }, "average"),
        (Filling::Prototype { average: -0.5 }, "average"),
    ] {
        words_of(EmbeddingMemory::with_filling(&cpu(1), 4, DIM, filling), words);
    }
}

/// The curves with their largest and smallest parameters, and every row scale that takes them.
fn extremes() -> Vec<Side> {
    let texts = [
        "constant:1e6",
        "linear:a=-1e6,b=1e6",
        "power:s0=0.999,p=1000",
        "power:s0=-100,p=1000",
        "exp:k=1e6,s0=-100",
        "exp:k=-1e6,s0=100",
        "exp:k=1e-30,s0=0",
        "sigmoid:k=1e6,s0=100",
        "sigmoid:k=-1e6,s0=-100",
        "band:lo=-100,hi=100",
        "table:-100=1e6,0=-1e6,1e-20=1e6",
        "circle:gamma=1e6,m=100",
    ];
    let scales = [
        Normalization::Sum,
        Normalization::Mean,
        Normalization::MeanAll,
        Normalization::SoftmaxPlusOne,
        Normalization::Softmax,
        Normalization::SoftmaxAll,
    ];
    let sides = texts.iter().flat_map(|text| scales.map(|scale| Side::ungated(text.parse().unwrap()).scaled(scale).times(1e6)));
    sides.filter(|side| PairWeighting { positive: side.clone(), negative: side.clone() }.validate().is_ok()).collect()
}

#[test]
fn the_largest_parameters_that_are_taken_give_finite_losses_and_gradients() {
    let (backend, anchors, rows) = (cpu(1), 3, 5);
    let memory: Vec<f32> = [1.000_000_2, 0.0, 0.0, 0.0].repeat(rows - 1).into_iter().chain([-1.0, 0.0, 0.0, 0.0]).collect();
    let mut beyond = Vec::new();
    for side in extremes() {
        let weighting = PairWeighting { positive: side.clone(), negative: side.clone() };
        let numbers = [buffer(&backend, &memory[..anchors * DIM]), buffer(&backend, &memory)];
        let [anchor_labels, labels] = [integers(&backend, &[0, 1, 7]), integers(&backend, &[0, 1, 0, 1, 1])];
        let (mut gradient, mut losses) = (buffer(&backend, &[0.0; 3 * DIM]), buffer(&backend, &[0.0; 3]));
        let mut kept = integers(&backend, &[0; 6]);
        let inputs = PairLossInputs {
            anchors: Span::all(&numbers[0]),
            anchor_labels: Span::all(&anchor_labels),
            memory: CompareWith::Numbers(Span::all(&numbers[1])),
            memory_labels: Span::all(&labels),
            own: SelfPairs::None,
            soft: None,
        };
        let outputs = PairLossOutputs {
            gradient: SpanMut::all(&mut gradient),
            row_losses: SpanMut::all(&mut losses),
            kept: SpanMut::all(&mut kept),
        };
        backend
            .pair_loss(PairLossCall {
                geometry: PairLossGeometry { anchors, rows, dim: DIM },
                weighting: &weighting.clone().valid().unwrap(),
                scale: 1.0,
                accumulate: false,
                inputs,
                outputs,
            })
            .unwrap();
        let found = [values(&backend, &gradient, 3 * DIM), values(&backend, &losses, 3)].concat();
        if !found.iter().all(|value| value.is_finite()) {
            beyond.push((side, found));
        }
    }
    assert!(beyond.is_empty(), "{beyond:#?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn similarities_are_at_most_one_and_at_least_minus_one(rows in 1usize..20, dim in 1usize..200, seed in 0u32..1000) {
        let one = unit_rows(&format!("{seed}"), 1, dim);
        let copies = one.repeat(rows).into_iter().chain(one.iter().map(|value| -value)).collect::<Vec<f32>>();
        let set = Embeddings::new(copies, vec![0; rows + 1], dim).unwrap();
        let own_rows = vec![-1; rows + 1];
        let found = nearest(&cpu(1), &EvaluationSet { queries: &set, gallery: &set, own_rows: &own_rows }, rows + 1).unwrap();
        prop_assert!(found.similarities.iter().all(|similarity| (-1.0..=1.0).contains(similarity)), "{:?}", found.similarities);
        prop_assert!((-1.0..=1.0).contains(&mean_random_similarity(&set, 1)));
    }
}

#[test]
fn rows_that_are_not_of_length_one_are_neither_scored_nor_searched() {
    let backend = cpu(1);
    let sound = Embeddings::new(unit_rows("sound", 4, DIM), vec![0, 0, 1, 1], DIM).unwrap();
    for (value, words) in [(5.0, "row 2: expected a vector of length 1"), (f32::NAN, "not finite"), (f32::MAX, "row 2")] {
        let mut spoiled = sound.clone();
        spoiled.values[2 * DIM] = value;
        for (queries, gallery, name) in [(&spoiled, &sound, "queries"), (&sound, &spoiled, "gallery")] {
            let set = EvaluationSet { queries, gallery, own_rows: &[-1; 4] };
            words_of(nearest(&backend, &set, 1), words);
            words_of(evaluate(&backend, &set), name);
        }
    }
}

#[test]
fn a_drift_is_from_zero_to_two_and_what_is_no_number_tells_nothing() {
    let mut drift = DriftMeter::default();
    for similarity in [1.000_001, -1.000_001, f64::NAN, f64::INFINITY].repeat(3) {
        drift.add(1, similarity);
    }
    assert_eq!(drift.by_age().collect::<Vec<_>>(), [(1, 1.0)]);
}

/// A sound memory of three rows.
fn state() -> MemoryState {
    MemoryState {
        capacity: 4,
        dim: DIM,
        head: 3,
        rows: unit_rows("state", 3, DIM),
        labels: vec![1, 2, 1],
        ids: vec![7, 8, 9],
        written: vec![1, 2, 3],
        clock: 3,
        drift: DriftMeter::default(),
    }
}

#[test]
fn a_saved_memory_with_rows_that_are_no_embeddings_is_refused_with_the_row() {
    let read = |state: &MemoryState| memory_from_bytes(&memory_to_bytes(state).unwrap(), Path::new("memory.safetensors"));
    assert_eq!(read(&state()).unwrap(), state());
    for (value, words) in
        [(f32::NAN, "NaN in row 2"), (f32::INFINITY, "inf in row 2"), (3.0, "row 2: expected a vector of length 1")]
    {
        let mut spoiled = state();
        spoiled.rows[2 * DIM + 1] = value;
        words_of(read(&spoiled), words);
    }
    let mut zeros = state();
    zeros.rows[..DIM].fill(0.0);
    assert_eq!(read(&zeros).unwrap(), zeros);
}

#[test]
fn a_memory_takes_over_no_state_that_it_could_not_have_come_to() {
    let backend = cpu(1);
    type Spoil = fn(&mut MemoryState);
    let spoils: [(Spoil, &str); 4] = [
        (|state| state.rows[5] = f32::NAN, "first in row 1"),
        (|state| state.clock = u32::MAX, "saved memory clock"),
        (|state| state.written[1] = 4, "saved memory times"),
        (|state| state.head = 4, "saved memory head"),
    ];
    let mut memory = EmbeddingMemory::new(&backend, 4, DIM).unwrap();
    memory.restore(&backend, &state()).unwrap();
    for (spoil, words) in spoils {
        let mut spoiled = state();
        spoil(&mut spoiled);
        words_of(memory.restore(&backend, &spoiled), words);
        assert_eq!(memory.export(&backend).unwrap(), state());
    }
    let mut prototypes = EmbeddingMemory::with_filling(&backend, 4, DIM, Filling::Prototype { average: 0.5 }).unwrap();
    words_of(prototypes.restore(&backend, &state()), "one row for each image or class, found two of 1");
}

#[test]
fn sizes_beyond_all_memory_name_their_setting() {
    let backend = cpu(1);
    let architecture = |size, dim| Architecture::new(Depth::ResNet18, size, dim, GlobalPooling::Avg);
    words_of(architecture(40, 100_000_000), "--dim must be from 1 to 65536, found 100000000");
    words_of(architecture(40, usize::MAX), "--dim");
    words_of(architecture(usize::MAX, 128), "--image-size must be from 1 to 16384");
    words_of(
        EmbeddingMemory::new(&backend, 2_000_000_000, 1 << 20),
        "out of memory: the memory of 2000000000 rows of 1048576 numbers",
    );
    words_of(EmbeddingMemory::new(&backend, usize::MAX, usize::MAX), "memory of");

    let settings = |change: fn(&mut TrainSettings)| {
        let mut config = config!(TrainSettings::default(); backbone: Depth::Small);
        change(&mut config);
        State::initial(&cpu(1), &config).and_then(|state| Learner::new(&cpu(1), &config, state))
    };
    // More than the 2^47 bytes that a program can address.
    words_of(
        settings(|it| (it.model.image_size, it.batch.size, it.memory.size) = (16_384, 1 << 20, 1 << 20)),
        "--batch-size or --image-size",
    );
    words_of(settings(|it| it.batch.size = usize::MAX - 3), "--batch-size");
    words_of(settings(|it| it.memory.size = usize::MAX), "memory of");
    words_of(settings(|it| (it.memory.size, it.model.dim) = (i32::MAX as usize, 65_536)), "--memory-size");
}

/// The file with another text in its header, all else as it was.
fn with_header(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).unwrap();
    let mut entries = metadata.metadata().clone().unwrap();
    let changed = entries["xbm-fast"].replace(from, to);
    assert_ne!(changed, entries["xbm-fast"]);
    entries.insert("xbm-fast".to_owned(), changed);
    safetensors::serialize(SafeTensors::deserialize(bytes).unwrap().tensors(), Some(entries)).unwrap()
}

#[test]
fn a_header_of_a_model_larger_than_its_file_is_refused_before_anything_is_allocated() {
    let (backend, folder): (Cpu, _) = (cpu(1), tempfile::tempdir().unwrap());
    let path = folder.path().join("model.safetensors");
    let config = config!(TrainSettings::default(); backbone: Depth::Small, dim: DIM);
    let architecture = NetworkHeader::of(&config).architecture().unwrap();
    save_model(&backend, &path, &config, &Weights::initialised(&backend, &architecture, 0).unwrap()).unwrap();
    let sound = std::fs::read(&path).unwrap();
    for (to, words) in [
        ("\"dim\":1000000000", "--dim must be from 1 to 65536"),
        ("\"dim\":18446744073709551615", "--dim"),
        ("\"dim\":60000", "fc.weight: expected F32 [60000, 256]"),
    ] {
        std::fs::write(&path, with_header(&sound, "\"dim\":4", to)).unwrap();
        let error = load_encoder(&backend, &path).map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::Data { .. }), "{error}");
        words_of(Err::<(), _>(error), words);
    }
    std::fs::write(&path, with_header(&sound, "\"image_size\":40", "\"image_size\":4000000000")).unwrap();
    words_of(load_encoder(&backend, &path).map(|_| ()), "--image-size must be from 1 to 16384");
}

/// A limit of 4 GB on what the program may address: enough to start with.
#[cfg(unix)]
#[test]
fn a_run_that_its_memory_limit_does_not_allow_ends_in_words() {
    let folder = tempfile::tempdir().unwrap();
    for (flags, words) in [
        ("--memory-size 100000000", "out of memory: the memory of 100000000 rows of 128 numbers"),
        ("--image-size 5000", "--batch-size or --image-size"),
        ("--image-size 2000", "--batch-size or --image-size"),
        ("--dim 100000000", "--dim must be from 1 to 65536"),
    ] {
        let program = env!("CARGO_BIN_EXE_xbm-fast");
        let out = folder.path().join("run");
        let command = format!(
            "ulimit -v 4000000; exec '{program}' train --device cpu --threads 1 --backbone small --data synthetic:classes=256,views=2,size=16 --samples-per-class 2 --out '{}' {flags}",
            out.display()
        );
        let output = std::process::Command::new("sh").args(["-c", &command]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{flags}: {said}");
        assert!(said.contains(words), "{flags}: expected `{words}` in: {said}");
    }
}

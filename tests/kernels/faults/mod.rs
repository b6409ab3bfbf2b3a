//! Tests of the tests: every barrier, wait and predicate of the kernels in the [`table`] is removed in turn, and a test must fail.
//! Each mutant is compiled twice, so this runs on request: `cargo test --test kernels -- --ignored`.

mod table;

use crate::device::{Gpu, with_kernels};
use crate::{batch_norm, optimizer, pair_loss, pool, retrieval};
use software_gpu::{Build, SCHEDULES};
use std::fs;
use std::path::Path;
use table::{
    BATCH_NORM, BATCH_NORM_FAULTS, Fault, OPTIMIZER, OPTIMIZER_FAULTS, PAIR_LOSS_FAULTS, POOL, POOL_FAULTS, RETRIEVAL,
    RETRIEVAL_FAULTS,
};
use xbm_fast::device::cuda::kernel::Image;

/// What the kernels under test are made of, beside the vocabulary.
const SOURCES: [&str; 12] = [
    BATCH_NORM,
    OPTIMIZER,
    POOL,
    RETRIEVAL,
    "pair_loss/fused.cu",
    "pair_loss/epilogue.cuh",
    "pair_loss/row.cuh",
    "pair_loss/tile.cuh",
    "pair_loss/normalizer.cuh",
    "pair_loss/weighting.cuh",
    "pair_loss/similarity.cuh",
    "pair_loss/lengths.cuh",
];

/// A source, the test of its kernels, and its faults.
type Subject = (&'static str, fn(&Gpu), &'static [Fault]);

const SUBJECTS: [Subject; 5] = [
    ("pair_loss/fused", pair_loss::check_thoroughly, &PAIR_LOSS_FAULTS),
    ("batch_norm", batch_norm::check_thoroughly, &BATCH_NORM_FAULTS),
    ("pool", pool::check_thoroughly, &POOL_FAULTS),
    ("optimizer", optimizer::check_thoroughly, &OPTIMIZER_FAULTS),
    ("retrieval", retrieval::check_thoroughly, &RETRIEVAL_FAULTS),
];

/// Copies the kernels with one text replaced, and keeps three lengths of the fused pair loss in one format.
fn mutant(folder: &Path, file: &str, from: &str, to: &str) {
    let kernels = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
    for part in ["pair_loss", "device"] {
        fs::create_dir_all(folder.join(part)).unwrap();
    }
    for header in fs::read_dir(kernels.join("device")).unwrap().map(|entry| entry.unwrap()) {
        fs::copy(header.path(), folder.join("device").join(header.file_name())).unwrap();
    }
    for name in SOURCES {
        let mut text = fs::read_to_string(kernels.join(name)).unwrap();
        if name == file {
            assert_eq!(text.matches(from).count(), 1, "`{from}` must occur once in {file}");
            text = text.replace(from, to);
        }
        let kept = |line: &&str| {
            !line.starts_with("  MAKE(") || ["(64, 64, false)", "(512, 512", "(1024"].iter().any(|kept| line.contains(kept))
        };
        let text = text.replace("PAIR_LOSS(bf16, Bfloat, DIM, SUFFIX, LARGE)", "");
        fs::write(folder.join(name), text.lines().filter(kept).map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    }
}

/// The first thing that goes wrong under any schedule of either build.
fn first_failure((stem, check, _): Subject, folder: &Path) -> Option<String> {
    let source = folder.join(format!("{stem}.cu"));
    for build in [Build::Plain, Build::Race] {
        let image = Image(software_gpu::compile(&source, build, folder).unwrap());
        for schedule in SCHEDULES {
            if let Err(words) = with_kernels(schedule, stem, &image, check) {
                return Some(format!("{build:?}, {:?}: {words}", schedule.order));
            }
        }
    }
    None
}

#[test]
#[ignore = "compiles every mutant up to twice: about a minute"]
fn every_removed_barrier_wait_and_predicate_makes_a_test_fail() {
    if !software_gpu::available() || *software_gpu::device() != software_gpu::Device::Software {
        return;
    }
    let mut missed = Vec::new();
    for subject in SUBJECTS {
        let (stem, _, faults) = subject;
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("faults").join(stem);
        let sound = folder.join("none");
        mutant(&sound, "", "", "");
        assert_eq!(first_failure(subject, &sound), None, "{stem} without a fault");
        for (index, (what, file, from, to)) in faults.iter().enumerate() {
            let folder = folder.join(index.to_string());
            mutant(&folder, file, from, to);
            match first_failure(subject, &folder) {
                Some(failure) => println!("{stem}, {what}: {}", failure.lines().next().unwrap_or_default()),
                None => missed.push(format!("{stem}, {what}")),
            }
        }
    }
    assert!(missed.is_empty(), "no test fails without: {missed:?}");
}

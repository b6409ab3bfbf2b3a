//! Tests of the tests: every barrier, wait and predicate of the fused pair loss and of batch norm is removed in turn, and a test must
//! fail.
//! Each mutant is compiled twice, so this runs on request: `cargo test --test kernels -- --ignored`.

use crate::device::{Gpu, with_kernels};
use crate::{batch_norm, pair_loss};
use software_gpu::{Build, SCHEDULES};
use std::fs;
use std::path::Path;
use xbm_fast::device::cuda::kernel::Image;

/// What is removed, the file it is in, its text, and what replaces it.
type Fault = (&'static str, &'static str, &'static str, &'static str);

const PAIR_LOSS_FAULTS: [Fault; 25] = [
    (
        "barrier after the tile's copies have landed",
        "similarity.cuh",
        "stage that the next copy overwrites.\n    block_barrier();",
        "stage that the next copy overwrites.",
    ),
    (
        "wait for the tile's copies",
        "similarity.cuh",
        "tile++) {\n    copy_async_wait<0>();",
        "tile++) {\n    copy_async_wait<1>();",
    ),
    ("wait after the last tile", "similarity.cuh", "  }\n  copy_async_wait<0>();\n", "  }\n"),
    (
        "barrier before row sums overwrite memory rows",
        "similarity.cuh",
        "are still reading.\n  block_barrier();",
        "are still reading.",
    ),
    (
        "barrier after partial similarities are exchanged",
        "similarity.cuh",
        "partial similarities are there.\n  block_barrier();",
        "partial similarities are there.",
    ),
    (
        "blocks that a warp keeps for itself",
        "similarity.cuh",
        "if (block < Tiles::OWN_BLOCKS && place.owns_blocks()) continue;",
        "if (block < Tiles::OWN_BLOCKS) continue;",
    ),
    ("warps without blocks of their own, on adding", "similarity.cuh", "  if (!place.owns_blocks()) return;\n", ""),
    ("order of the sources of an exchange", "similarity.cuh", "place.slice - (place.slice > receiver)", "place.slice"),
    (
        "warps without blocks of their own, on weights",
        "pair_loss/fused.cu",
        "if (place.owns_blocks()) publish_weights",
        "publish_weights",
    ),
    (
        "barrier after weights are exchanged",
        "pair_loss/fused.cu",
        "Shared::PITCH, place, s);\n      block_barrier();",
        "Shared::PITCH, place, s);",
    ),
    ("barrier before row sums are read", "pair_loss/fused.cu", "= mine;\n  }\n  block_barrier();", "= mine;\n  }"),
    ("which slices have sums of a row", "pair_loss/fused.cu", "    if (!Tiles::owns_row(slice, row)) continue;\n", ""),
    (
        "predicate of rows in use, on tiles",
        "pair_loss/tile.cuh",
        "bool found = tile.first + Tiles::ROWS > in_use;",
        "bool found = false;",
    ),
    (
        "predicate of rows in use, on pairs",
        "pair_loss/tile.cuh",
        "const uint32_t left = row < in_use, right = row + 1 < in_use;",
        "const uint32_t left = 1, right = 1;",
    ),
    ("predicate of anchors, on gradients", "pair_loss/fused.cu", "if (anchor >= params.tiles.rows.anchor_count) continue;", ""),
    (
        "predicate of anchors, on row sums",
        "pair_loss/fused.cu",
        "if (row >= Tiles::ANCHORS || anchor >= anchors) return;",
        "if (row >= Tiles::ANCHORS) return;",
    ),
    (
        "predicate of the tile, on row sums",
        "pair_loss/fused.cu",
        "if (row >= Tiles::ANCHORS || anchor >= anchors) return;",
        "if (anchor >= anchors) return;",
    ),
    (
        "end of the split",
        "similarity.cuh",
        "first_tile + source.tiles_per_split < tiles ? first_tile + source.tiles_per_split : tiles",
        "tiles",
    ),
    (
        "vote of the warp on skipping memory rows",
        "pair_loss/fused.cu",
        "if (!warp_any((bits & MAGNITUDES) != 0)) continue;",
        "if ((bits & MAGNITUDES) == 0) continue;",
    ),
    ("second stage", "similarity.cuh", "const uint32_t stage = tile % 2, first = tile", "const uint32_t stage = 0, first = tile"),
    (
        "predicate of rows in use, on copied rows",
        "similarity.cuh",
        "const bool valid = first + row < count && chunk * NUMBERS < dim;",
        "const bool valid = chunk * NUMBERS < dim;",
    ),
    (
        "end of a row that is shorter than its tiling",
        "similarity.cuh",
        "const bool valid = first + row < count && chunk * NUMBERS < dim;",
        "const bool valid = first + row < count;",
    ),
    (
        "predicate of rows in use, on copied labels",
        "similarity.cuh",
        "const bool valid = first + row < count;\n  copy",
        "const bool valid = true;\n  copy",
    ),
    ("predicate of the tile, on copied labels", "similarity.cuh", "if (row >= ROWS) return;", ""),
    ("own slot", "pair_loss/tile.cuh", "found |= !by_instance && uint32_t(own[which]) - tile.first < Tiles::ROWS;", ""),
];

const BATCH_NORM: &str = "batch_norm.cu";
const BATCH_NORM_FAULTS: [Fault; 11] = [
    (
        "barrier before moments of lanes are read",
        BATCH_NORM,
        "  block_barrier();\n  if (!has_column(params, owned)) return;\n  const uint32_t",
        "  if (!has_column(params, owned)) return;\n  const uint32_t",
    ),
    (
        "barrier before gradients of lanes are read",
        BATCH_NORM,
        "  block_barrier();\n  if (!has_column(params, owned)) return;\n  float",
        "  if (!has_column(params, owned)) return;\n  float",
    ),
    (
        "barrier before moments of ranges are read",
        BATCH_NORM,
        "  }\n  block_barrier();\n  if (lane != 0 || channel",
        "  }\n  if (lane != 0 || channel",
    ),
    ("barrier before gradients of ranges are read", BATCH_NORM, "= sums;\n  block_barrier();\n", "= sums;\n"),
    ("threads to spare", BATCH_NORM, "owned.row_lane < owned.row_lanes && ", ""),
    ("end of the channels", BATCH_NORM, " && owned.channel < params.channels", ""),
    ("end of the columns", BATCH_NORM, "thread_index() < owned.columns && ", ""),
    ("end of the channels, of columns", BATCH_NORM, " && column_channel(owned) < params.channels", ""),
    (
        "end of the last range",
        BATCH_NORM,
        "left < params.rows_per_range ? uint32_t(left) : params.rows_per_range",
        "params.rows_per_range",
    ),
    (
        "end of the channels, of the sums of moments",
        BATCH_NORM,
        "if (lane != 0 || channel >= params.channels) return;\n  const Moments",
        "if (lane != 0) return;\n  const Moments",
    ),
    (
        "end of the channels, of the sums of gradients",
        BATCH_NORM,
        "if (lane != 0 || channel >= params.channels) return;\n  for",
        "if (lane != 0) return;\n  for",
    ),
];

/// What the fused pair loss and batch norm are made of, beside the vocabulary.
const SOURCES: [&str; 8] = [
    BATCH_NORM,
    "pair_loss/fused.cu",
    "pair_loss/epilogue.cuh",
    "pair_loss/row.cuh",
    "pair_loss/tile.cuh",
    "pair_loss/normalizer.cuh",
    "pair_loss/weighting.cuh",
    "similarity.cuh",
];

/// A source, the test of its kernels, and its faults.
type Subject = (&'static str, fn(&Gpu), &'static [Fault]);

const SUBJECTS: [Subject; 2] = [
    ("pair_loss/fused", pair_loss::check_thoroughly, &PAIR_LOSS_FAULTS),
    ("batch_norm", batch_norm::check_thoroughly, &BATCH_NORM_FAULTS),
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
            !line.starts_with("PAIR_LOSS_OF_LENGTH(")
                || ["(64, 64, false)", "(512, 512", "(1024"].iter().any(|kept| line.contains(kept))
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

//! The kernels as text: vendor names and assembly in `kernels/device/` only, sources that stand alone, argument structs as their Rust
//! twins have them, and, on request, NVRTC, which compiles every kernel through the engine's own code. The
//! library needs no device: `XBM_NVRTC=/path/to/libnvrtc.so.13 cargo test --test kernel_sources -- --ignored`, or `.ci/kernels nvrtc`.

mod arguments;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use xbm_fast::device::cuda::kernel::{Part, compile, source, stems};
use xbm_fast::kernel_args::pair_loss::warpgroup;

/// Machine code of the one with most kernels, and PTX for devices that are newer than the compiler. nvcc compiles for all others.
const ARCHITECTURES: [&str; 2] = ["sm_90a", "compute_80"];
/// First bytes of a cubin, which is an ELF file.
const ELF: &[u8] = b"\x7fELF";

#[test]
#[ignore = "needs libnvrtc: set XBM_NVRTC to its path"]
fn nvrtc_compiles_every_kernel() {
    let path = std::env::var("XBM_NVRTC").expect("XBM_NVRTC names libnvrtc.so.13");
    let builtins = path.replace("libnvrtc.so.13", "libnvrtc-builtins.so.13.0");
    for library in [&builtins, &path] {
        // SAFETY: NVIDIA's libraries, whose initialisers have no requirement; cudarc then finds them by name.
        let opened = unsafe { Library::open(Some(library), RTLD_NOW | RTLD_GLOBAL) };
        std::mem::forget(opened.unwrap_or_else(|error| panic!("{library}: {error}")));
    }
    let check = |stem: &str, architecture: &str| {
        let image = compile(stem, source(stem).unwrap(), Part::Whole, architecture).unwrap_or_else(|error| panic!("{error}"));
        if architecture.starts_with("compute_") {
            let text = String::from_utf8_lossy(&image.0);
            // Products of warpgroups are of sm_90a alone.
            assert_eq!(text.contains(".visible .entry"), stem != warpgroup::STEM, "{stem} for {architecture}");
            assert!(text.ends_with('\0'), "{stem} for {architecture}");
        } else {
            assert!(image.0.starts_with(ELF), "{stem} for {architecture}");
        }
        println!("{stem}: compiled for {architecture}");
    };
    // While a user waits, a length at a time.
    let part = compile("pair_loss/fused", source("pair_loss/fused").unwrap(), Part::Length(512), "compute_80").unwrap();
    let text = String::from_utf8_lossy(&part.0);
    let kernels: Vec<&str> = text.lines().filter(|line| line.contains(".visible .entry")).collect();
    assert!(kernels.iter().all(|line| line.contains("_512")), "{kernels:?}");
    assert!(kernels.iter().any(|line| line.contains("pair_loss_curve_bf16_512_large")), "{kernels:?}");
    assert_eq!(kernels.len(), 8, "two weightings, formats and sizes of tiles");
    let all: Vec<_> = stems().into_iter().flat_map(|stem| ARCHITECTURES.map(|architecture| (stem, architecture))).collect();
    let next = AtomicUsize::new(0);
    let workers = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((stem, architecture)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    check(stem, architecture);
                }
            });
        }
    });
}

/// Words of CUDA's own that only the vocabulary may use.
const VENDOR_WORDS: [&str; 14] = [
    "asm",
    "threadIdx",
    "blockIdx",
    "blockDim",
    "gridDim",
    "__global__",
    "__device__",
    "__shared__",
    "__syncthreads",
    "__shfl",
    "__ballot",
    "atomicAdd",
    "__half",
    "__nv_bfloat16",
];

/// The files of a folder and of all in it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, mut files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    files.extend(folders.iter().flat_map(|folder| self::files(folder)));
    files
}

#[test]
fn assembly_and_vendor_names_stay_in_the_vocabulary() {
    let kernels = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
    for path in files(&kernels).into_iter().filter(|path| !path.starts_with(kernels.join("device"))) {
        let text = std::fs::read_to_string(&path).unwrap();
        for word in VENDOR_WORDS {
            let found = text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|token| token.starts_with(word));
            assert!(!found, "{} says `{word}`: add a word to kernels/device/ instead", path.display());
        }
    }
}

#[test]
fn every_source_stands_alone() {
    for stem in stems() {
        let text = source(stem).unwrap();
        assert!(text.contains("KERNEL("), "{stem} has a kernel");
        assert!(
            !text
                .lines()
                .any(|line| line.starts_with("#include \"") && !line.contains("emulator.hpp") && !line.contains("half.hpp"))
        );
    }
    assert!(source("no_such_kernels").is_err());
    assert!(source("pair_loss/fused").is_ok(), "a stem has its folder");
}

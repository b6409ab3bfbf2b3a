//! NVRTC compiles every kernel for every architecture, through the engine's own code. The library needs no device:
//! `XBM_NVRTC=/path/to/libnvrtc.so.13 cargo test --test nvrtc -- --ignored`, or `.ci/kernels nvrtc`.

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use xbm_fast::kernel::{compile, source, stems};

const ARCHITECTURES: [&str; 6] = ["sm_80", "sm_86", "sm_89", "sm_90a", "sm_100a", "sm_120a"];
/// First bytes of a cubin, which is an ELF file.
const ELF: &[u8] = b"\x7fELF";

#[test]
#[ignore = "needs libnvrtc: set XBM_NVRTC to its path"]
fn nvrtc_compiles_every_kernel_for_every_architecture() {
    let path = std::env::var("XBM_NVRTC").expect("XBM_NVRTC names libnvrtc.so.13");
    let builtins = path.replace("libnvrtc.so.13", "libnvrtc-builtins.so.13.0");
    for library in [&builtins, &path] {
        // SAFETY: NVIDIA's libraries, whose initialisers have no requirement; cudarc then finds them by name.
        let opened = unsafe { Library::open(Some(library), RTLD_NOW | RTLD_GLOBAL) };
        std::mem::forget(opened.unwrap_or_else(|error| panic!("{library}: {error}")));
    }
    for stem in stems() {
        for architecture in ARCHITECTURES {
            let image = compile(stem, source(stem).unwrap(), architecture).unwrap_or_else(|error| panic!("{error}"));
            assert!(image.0.starts_with(ELF), "{stem} for {architecture}");
        }
        println!("{stem}: compiled for {}", ARCHITECTURES.join(", "));
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
}

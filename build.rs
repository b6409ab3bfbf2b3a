//! Compiles every kernels/**/*.cu with nvcc into fat binaries, or, where there is none, embeds the sources for NVRTC.
//!
//! nvcc is looked for in this order: `XBM_NVCC`, then `bin/nvcc` below `CUDA_HOME`, `CUDA_PATH` and `CUDA_ROOT`, the `PATH`,
//! `/usr/local/cuda` and `/opt/cuda`, and the toolkit wheels of an active `VIRTUAL_ENV` or `CONDA_PREFIX`. `XBM_CUDA_ARCHS` (such as
//! `80,90a`) replaces the list of architectures. `XBM_REQUIRE_NVCC=1` makes a missing nvcc an error. `XBM_NVCC=none` skips the search.
//!
//! What was found stays found until one of the variables named `XBM_` or `CUDA_` changes, or that nvcc. Paths and environments change from
//! shell to shell, and everything would be compiled anew each time: a toolkit that came after a build is taken after `touch build.rs`.

use std::collections::HashSet;
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const KERNELS: &str = "kernels";
/// Ampere (A100; A10, RTX 30), Ada (L4, RTX 40), Hopper, Blackwell (B200; RTX 50).
const ARCHITECTURES: &str = "80,86,89,90a,100,120";
/// Also as PTX, for devices newer than this list.
const PTX_ARCHITECTURE: &str = "80";
/// CUDA version from which on nvcc compresses by a third and less; every driver that loads its code decompresses.
const COMPRESSING_TOOLKIT: i32 = 13_000;
const VARIABLES: [&str; 6] = ["XBM_NVCC", "XBM_CUDA_ARCHS", "XBM_REQUIRE_NVCC", "CUDA_HOME", "CUDA_PATH", "CUDA_ROOT"];

fn main() {
    println!("cargo:rerun-if-changed={KERNELS}");
    for name in VARIABLES {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let sources = kernel_sources(Path::new(KERNELS));
    let nvcc = find_nvcc();
    if let Some(nvcc) = &nvcc {
        println!("cargo:rerun-if-changed={}", nvcc.display());
    } else {
        let required = env::var("XBM_REQUIRE_NVCC").is_ok_and(|value| value == "1");
        assert!(!required, "XBM_REQUIRE_NVCC=1, but nvcc was not found; set XBM_NVCC or CUDA_HOME");
    }
    let architectures = env::var("XBM_CUDA_ARCHS").unwrap_or_else(|_| ARCHITECTURES.into());
    let mut text = format!(
        "/// What the fat binaries run on.\nconst ARCHITECTURES: &str = \"sm_{} and PTX of compute_{PTX_ARCHITECTURE}\";\n",
        architectures.replace(',', ", sm_")
    );
    let version = nvcc.as_deref().map_or(0, toolkit_version);
    writeln!(text, "/// CUDA version of the nvcc that made the fat binaries, such as 13000; 0 when there are none.\nconst TOOLKIT: i32 = {version};").unwrap();
    text.push_str(
        "/// Stem and fat binary of every kernel source; empty when nvcc was not found.\nconst FAT_BINARIES: &[(&str, &[u8])] = &[\n",
    );
    if let Some(nvcc) = &nvcc {
        for source in &sources {
            let binary = compile(nvcc, source, &out);
            writeln!(text, "    ({:?}, include_bytes!({:?})),", stem(source), binary.display().to_string()).unwrap();
        }
    }
    text.push_str(
        "];\n/// Stem and text of every kernel source, its own headers written into it.\nconst SOURCES: &[(&str, &str)] = &[\n",
    );
    for source in &sources {
        let mut whole = String::new();
        inline_headers(source, &mut HashSet::new(), &mut whole);
        let path = output(source, &out, "inlined.cu");
        fs::write(&path, whole).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        writeln!(text, "    ({:?}, include_str!({:?})),", stem(source), path.display().to_string()).unwrap();
    }
    text.push_str("];\n");
    fs::write(out.join("kernels.rs"), text).expect("OUT_DIR is writable");
}

/// The path of a source below kernels/ without its ending, such as `pair_loss/fused`.
fn stem(source: &Path) -> String {
    let below = source.strip_prefix(KERNELS).expect("sources lie in kernels/").with_extension("");
    let parts: Vec<_> = below.iter().map(|part| part.to_string_lossy()).collect();
    parts.join("/")
}

/// Where something made of a source goes; its folder is made.
fn output(source: &Path, out: &Path, extension: &str) -> PathBuf {
    let path = out.join(stem(source)).with_extension(extension);
    fs::create_dir_all(path.parent().expect("below OUT_DIR")).expect("OUT_DIR is writable");
    path
}

/// Every source of a folder and of those in it, in the order of their paths.
fn kernel_sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let (folders, files): (Vec<PathBuf>, Vec<PathBuf>) =
        entries.flatten().map(|entry| entry.path()).partition(|path| path.is_dir());
    let mut sources: Vec<PathBuf> = files.into_iter().filter(|path| path.extension().is_some_and(|e| e == "cu")).collect();
    sources.extend(folders.iter().flat_map(|folder| kernel_sources(folder)));
    sources.sort();
    sources
}

/// Appends a source with its `#include "..."` replaced by the files, each once: NVRTC then needs no folder.
fn inline_headers(source: &Path, seen: &mut HashSet<PathBuf>, whole: &mut String) {
    // One file has several names, as a header of the folder above does.
    let file = fs::canonicalize(source).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
    if !seen.insert(file) {
        return;
    }
    let text = fs::read_to_string(source).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
    for line in text.lines() {
        let header = line.strip_prefix("#include \"").and_then(|rest| rest.strip_suffix('"'));
        let beside = header.and_then(|name| source.parent().map(|folder| folder.join(name)));
        match beside.filter(|path| path.exists()) {
            Some(path) => inline_headers(&path, seen, whole),
            None if line == "#pragma once" => {}
            None => {
                whole.push_str(line);
                whole.push('\n');
            }
        }
    }
}

fn find_nvcc() -> Option<PathBuf> {
    let variable = |name: &str| env::var_os(name).map(PathBuf::from);
    if let Some(chosen) = variable("XBM_NVCC") {
        return if chosen.as_os_str() == "none" {
            None
        } else {
            let found = usable(&chosen);
            assert!(found.is_some(), "XBM_NVCC={}: expected an nvcc that runs, found none there", chosen.display());
            found
        };
    }
    let mut candidates: Vec<PathBuf> =
        ["CUDA_HOME", "CUDA_PATH", "CUDA_ROOT"].into_iter().filter_map(variable).map(|home| home.join("bin/nvcc")).collect();
    candidates.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()).map(|folder| folder.join("nvcc")));
    candidates.extend(["/usr/local/cuda/bin/nvcc", "/opt/cuda/bin/nvcc"].map(PathBuf::from));
    for environment in ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(variable) {
        for python in fs::read_dir(environment.join("lib")).into_iter().flatten().flatten() {
            candidates.push(python.path().join("site-packages/nvidia/cu13/bin/nvcc"));
        }
    }
    candidates.iter().find_map(|path| usable(path))
}

/// The path with links resolved (an nvcc called through a link does not find its profile), if it runs.
fn usable(path: &Path) -> Option<PathBuf> {
    let path = fs::canonicalize(path).ok()?;
    let output = Command::new(&path).arg("--version").output().ok()?;
    output.status.success().then_some(path)
}

/// 13000 for the nvcc of CUDA 13.0.
fn toolkit_version(nvcc: &Path) -> i32 {
    let output = Command::new(nvcc).arg("--version").output().expect("nvcc starts");
    let words = String::from_utf8_lossy(&output.stdout).into_owned();
    let numbers =
        words.split("release ").nth(1).and_then(|rest| rest.split([',', ' ']).next()).and_then(|text| text.split_once('.'));
    let parsed = numbers.and_then(|(major, minor)| Some(1000 * major.parse::<i32>().ok()? + 10 * minor.parse::<i32>().ok()?));
    parsed.unwrap_or_else(|| panic!("{} --version: expected `release MAJOR.MINOR`, found {words}", nvcc.display()))
}

fn compile(nvcc: &Path, source: &Path, out: &Path) -> PathBuf {
    let binary = output(source, out, "fatbin");
    let architectures = env::var("XBM_CUDA_ARCHS").unwrap_or_else(|_| ARCHITECTURES.into());
    let mut command = Command::new(nvcc);
    command.args(["-fatbin", "-O3", "-std=c++17", "--threads", "0"]);
    if toolkit_version(nvcc) >= COMPRESSING_TOOLKIT {
        command.arg("--compress-mode=size");
    }
    for architecture in architectures.split(',') {
        command.arg("-gencode").arg(format!("arch=compute_{architecture},code=sm_{architecture}"));
    }
    command.arg("-gencode").arg(format!("arch=compute_{PTX_ARCHITECTURE},code=compute_{PTX_ARCHITECTURE}"));
    let output = command.arg("-o").arg(&binary).arg(source).output().expect("nvcc starts");
    let words = [&output.stdout[..], &output.stderr].concat();
    assert!(
        output.status.success(),
        "{} refused {} for {architectures}:\n{}\nXBM_CUDA_ARCHS=80,90a leaves out architectures that a toolkit does not know; \
         XBM_NVCC=none embeds the sources, to be compiled on first use",
        nvcc.display(),
        source.display(),
        String::from_utf8_lossy(&words)
    );
    binary
}

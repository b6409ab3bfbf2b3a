//! What `doctor` and `--device` say of a machine that has no device, an old driver, or libraries that are missing or do not fit.

use crate::program::{is_software, program_pretending, words};
use std::path::{Path, PathBuf};
use xbm_fast::device::cuda::driver_verdict;

/// `doctor` in a world, and what it says; it always succeeds.
fn doctor(pretence: &str, libraries: Option<&Path>) -> String {
    let output = program_pretending(&["doctor"], libraries, pretence);
    let words = words(&output);
    assert!(output.status.success(), "{words}");
    words
}

#[track_caller]
fn assert_says(words: &str, parts: &[&str]) {
    for part in parts {
        assert!(words.contains(part), "`{part}` is not in {words}");
    }
}

#[test]
fn machines_that_cannot_are_told_why_and_use_the_cpu() {
    if !is_software() {
        return;
    }
    let folder = software_gpu::folder();
    for (pretence, part) in [
        ("devices=0", "the NVIDIA driver lists no device; check `nvidia-smi`"),
        ("driver=11080", "supports CUDA 11.8, and CUDA 12.0 is needed; install driver 525 or newer"),
        ("capability=75", "has compute capability 7.5, and 8.0 is needed"),
        ("cudnn_version=80907", "version 80907 was found, cuDNN 9 is needed"),
        ("cudnn=mixed", "SUBLIBRARY_VERSION_MISMATCH (1002): its libraries are of several versions; leave one installation"),
    ] {
        assert_says(&doctor(pretence, folder), &["verdict   the CPU will be used", part]);
    }
}

#[test]
fn compiled_kernels_need_a_driver_of_their_major_version() {
    let refusal = |version, compiled_by| driver_verdict(version, compiled_by).err().unwrap_or_default();
    assert_eq!(refusal(12_000, None), "");
    assert_says(&refusal(11_080, None), &["supports CUDA 11.8, and CUDA 12.0 is needed; install driver 525 or newer"]);
    assert_eq!(refusal(13_000, Some(13_000)), "");
    assert_eq!(refusal(13_020, Some(12_000)), "");
    assert_says(&refusal(12_080, Some(13_000)), &["supports CUDA 12.8, and CUDA 13.0 is needed", "XBM_NVCC=none"]);
}

#[test]
fn a_driver_that_cannot_list_kernels_is_told_of_in_words() {
    if !is_software() {
        return;
    }
    let output = program_pretending(&["doctor", "--kernels"], software_gpu::folder(), "driver=12020");
    assert!(!output.status.success());
    assert_says(&words(&output), &["error: GPU: listing kernels: the NVIDIA driver supports CUDA 12.2, and CUDA 12.4 is needed"]);
}

#[test]
fn a_driver_without_a_function_is_too_old_not_a_panic() {
    if !is_software() {
        return;
    }
    let folder = software_gpu::folder().unwrap().join("old");
    let words = doctor("", Some(&folder));
    assert_says(&words, &["the NVIDIA driver lacks a function that is needed; install driver 525 or newer"]);
    assert!(!words.contains("panicked"), "{words}");
}

/// A folder with the software GPU's libraries but for those of a name.
fn without(name: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(software_gpu::folder().unwrap()).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        if file.contains(".so") && !file.starts_with(name) {
            std::os::unix::fs::symlink(&path, folder.path().join(file)).unwrap();
        }
    }
    let path = folder.path().to_owned();
    (folder, path)
}

#[test]
fn a_missing_library_is_named_with_what_to_install() {
    if !is_software() {
        return;
    }
    for (name, parts) in [
        ("libcudnn.", ["cuDNN was not found; install cuDNN 9", "pip install nvidia-cudnn-cu13"]),
        ("libcublasLt.", ["cuBLASLt was not found; install the CUDA 13 libraries", "pip install nvidia-cublas"]),
    ] {
        let (_kept, folder) = without(name);
        assert_says(&doctor("", Some(&folder)), &parts);
        let refused = program_pretending(&["train", "--device", "cuda"], Some(&folder), "");
        assert!(!refused.status.success());
        assert_says(&words(&refused), &["error: GPU: --device cuda: ", parts[0]]);
    }
}

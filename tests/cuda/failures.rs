//! A device that fails ends a run with words, and the run goes on from its folder.

use crate::program::{is_software, program_pretending, words};
use std::path::Path;

/// Trains a small network in `out` on a device that pretends, and what the program says.
fn train(out: &Path, pretence: &str, more: &[&str]) -> (bool, String) {
    let out = out.display().to_string();
    let fixed = ["train", "--device", "cuda", "--backbone", "small", "--data", "synthetic:classes=4,views=2,size=20"];
    let steps =
        ["--batch-size", "4", "--samples-per-class", "2", "--dim", "64", "--steps", "4", "--checkpoint-every", "2", "--json"];
    let sizes = [["--image-size", "16"], ["--memory-size", "8"], ["--memory-start", "0"]];
    let sizes = sizes.iter().filter(|size| !more.contains(&size[0])).flatten();
    let arguments: Vec<&str> = fixed.iter().chain(&steps).chain(sizes).chain(more).copied().collect();
    let output = program_pretending(&[&arguments[..], &["--out", &out]].concat(), software_gpu::folder(), pretence);
    (output.status.success(), words(&output))
}

fn resume(out: &Path) -> serde_json::Value {
    let arguments = ["train", "--resume", &out.display().to_string(), "--json"];
    let output = program_pretending(&arguments, software_gpu::folder(), "");
    assert!(output.status.success(), "{}", words(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_launch_that_fails_ends_the_run_with_words_and_it_resumes() {
    if !is_software() {
        return;
    }
    for graph in [&[][..], &["--no-graph"]] {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("run");
        // Two launches a step, for the trunk and for the head.
        let (success, words) = train(&out, "failing=optimizer_step:5", graph);
        assert!(!success && words.contains("error: GPU: ") && words.contains("CUDA_ERROR_LAUNCH_FAILED"), "{words}");
        assert!(!words.contains("panicked"), "{words}");
        assert!(out.join("checkpoints/step-000002.safetensors").exists(), "{words}");
        assert_eq!(resume(&out)["steps"], 4);
    }
}

#[test]
fn a_convolution_that_no_engine_takes_ends_the_run_with_words_and_it_resumes() {
    if !is_software() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let (success, words) = train(&out, "cudnn=refusing", &[]);
    assert!(!success && words.contains("error: GPU: cuDNN, planning a convolution: none of "), "{words}");
    assert!(words.contains("was told to refuse") && !words.contains("panicked"), "{words}");
    assert_eq!(resume(&out)["steps"], 4);
}

#[test]
fn what_does_not_fit_is_named_with_its_size_and_the_flag_that_lowers_it() {
    if !is_software() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (memory, more, parts) in [
        (
            "memory=40000000",
            &["--image-size", "448"][..],
            ["activations of 4 images of 448 pixels of ", "lower --batch-size or --image-size"],
        ),
        (
            "memory=60000000",
            &["--memory-size", "2000000"],
            ["the memory of 2000000 rows of 64 numbers of ", "lower its number of rows (--memory-size)"],
        ),
        ("memory=6000000", &[], ["the network's parameters of ", "lower --dim, or --backbone"]),
    ] {
        let out = folder.path().join("run");
        let (success, words) = train(&out, memory, more);
        assert!(!success && words.contains("error: GPU: out of memory: "), "{words}");
        for part in parts {
            assert!(words.contains(part), "`{part}` is not in {words}");
        }
        assert!(words.contains(" asked for, ") && words.contains(" free; "), "{words}");
        assert!(!out.exists(), "no folder is made for a run that does not fit");
    }
}

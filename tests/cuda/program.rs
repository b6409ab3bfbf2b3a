//! The program: `doctor` and `--device` with and without a device.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The program with the libraries of a folder in the loader's path, if any, on a software GPU that pretends.
pub fn program_pretending(arguments: &[&str], libraries: Option<&Path>, pretence: &str) -> Output {
    program_pretending_in(
        arguments,
        libraries,
        pretence,
        &[("XBM_CACHE_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"))],
    )
}

/// The same with more variables of the environment.
pub fn program_pretending_in(
    arguments: &[&str],
    libraries: Option<&Path>,
    pretence: &str,
    variables: &[(&str, PathBuf)],
) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xbm-fast"));
    command.args(arguments).env("SOFTWARE_GPU_PRETEND", pretence).env_remove("LD_LIBRARY_PATH");
    for name in ["CUDA_HOME", "CUDA_PATH", "VIRTUAL_ENV", "CONDA_PREFIX"] {
        command.env_remove(name);
    }
    if let Some(folder) = libraries {
        command.env("LD_LIBRARY_PATH", folder);
    }
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    command.output().unwrap()
}

fn program(arguments: &[&str], with_device: bool) -> Output {
    program_pretending(arguments, software_gpu::folder().filter(|_| with_device), "")
}

pub fn words(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

pub fn is_software() -> bool {
    *software_gpu::device() == software_gpu::Device::Software
}

#[test]
fn doctor_without_a_device_says_what_is_missing_and_succeeds() {
    if *software_gpu::device() == software_gpu::Device::Real {
        return;
    }
    let output = program(&["doctor"], false);
    let words = words(&output);
    assert!(output.status.success(), "{words}");
    for part in ["driver    none", "libcuda.so.1", "cuDNN", "pip install", "the CPU will be used"] {
        assert!(words.contains(part), "`{part}` is not in {words}");
    }
}

#[test]
fn doctor_on_a_device_lists_it() {
    if !is_software() {
        return;
    }
    let output = program(&["doctor"], true);
    let words = words(&output);
    for part in ["driver    CUDA 13.0", "software GPU", "libcudnn.so.9", "the GPU will be used"] {
        assert!(words.contains(part), "`{part}` is not in {words}");
    }
}

#[test]
fn doctor_lists_what_every_kernel_takes() {
    if !is_software() {
        return;
    }
    let output = program(&["doctor", "--kernels"], true);
    let words = words(&output);
    let row = |name: &str| -> Vec<String> {
        let line = words.lines().find(|line| line.split_whitespace().next() == Some(name));
        let line = line.unwrap_or_else(|| panic!("no line of {name} in {words}"));
        line.split_whitespace().skip(1).map(str::to_owned).collect()
    };
    assert_eq!(row("kernel"), ["threads", "registers", "local", "shared", "blocks"]);
    // 64 anchors of 128 16-bit numbers, two stages of 32 rows, four times 32 ids; no slices. Registers allow for four warps.
    assert_eq!(row("pair_loss_constant_f16_128"), ["64", "256", "0", "33280", "4"]);
    // Curves take half the rows.
    assert_eq!(row("pair_loss_curve_f16_128"), ["64", "256", "0", "24832", "4"]);
    assert_eq!(row("optimizer_step"), ["256", "256", "0", "-", "1"]);
}

#[test]
fn a_device_that_is_not_there_is_refused_in_one_line() {
    if *software_gpu::device() == software_gpu::Device::Real {
        return;
    }
    let output = program(&["train", "--device", "cuda"], false);
    let words = words(&output);
    assert!(!output.status.success() && words.starts_with("error: GPU: --device cuda: the NVIDIA driver"), "{words}");
}

/// Trains a small network, and the summary that it prints.
fn train(out: &Path, device: &str, more: &[&str]) -> serde_json::Value {
    let out = out.display().to_string();
    let fixed =
        ["train", "--device", device, "--backbone", "small", "--data", "synthetic:classes=4,views=3,size=20", "--out", &out];
    let sizes = ["--image-size", "16", "--batch-size", "4", "--samples-per-class", "2", "--dim", "64", "--memory-size", "8"];
    let output = program(&[&fixed[..], &sizes, &["--memory-start", "0", "--json"], more].concat(), device == "cuda");
    let words = words(&output);
    assert!(output.status.success(), "{words}");
    assert!(device == "cpu" || words.contains("software GPU") && words.contains("fp16"), "{words}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn embeddings_of_any_length_train_on_any_part_of_the_memory() {
    if !is_software() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // Neither is a whole number of 16-byte vectors; a part of the memory begins in the middle of one.
    for dim in ["36", "7"] {
        for weighting in ["contrastive", "nca"] {
            let out = folder.path().join(format!("{dim}-{weighting}"));
            let more = ["--dim", dim, "--weighting", weighting, "--memory-max-drift", "0.02", "--steps", "5"];
            assert_eq!(train(&out, "cuda", &more)["steps"], 5, "{dim} numbers, {weighting}");
        }
    }
}

#[test]
fn train_is_the_same_by_graphs_and_operation_by_operation() {
    if !is_software() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, more: &[&str]| {
        let out = folder.path().join(name);
        let mut summary = train(&out, "cuda", &[&["--steps", "5"], more].concat());
        assert_eq!(summary["steps"], 5);
        for time in ["seconds", "images_per_second"] {
            summary.as_object_mut().unwrap().remove(time);
        }
        (summary, std::fs::read(out.join("checkpoints/best.safetensors")).unwrap())
    };
    let (by_graphs, one_by_one) = (run("graphs", &[]), run("operations", &["--no-graph"]));
    assert_eq!(by_graphs.0, one_by_one.0);
    assert!(by_graphs.1 == one_by_one.1, "the best model");
}

#[test]
fn a_run_moves_between_cpu_and_gpu() {
    if !is_software() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    train(&out, "cpu", &["--steps", "2"]);
    for (device, steps) in [("cuda", "3"), ("cpu", "4")] {
        let arguments = ["train", "--resume", &out.display().to_string(), "--device", device, "--steps", steps, "--json"];
        let output = program(&arguments, device == "cuda");
        assert!(output.status.success(), "{}", words(&output));
        let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(summary["steps"], steps.parse::<u64>().unwrap());
    }
}

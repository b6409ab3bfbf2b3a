//! `--device auto` on a device that is broken somewhere: whichever part it is and however it fails, the run ends on the CPU and says
//! which part; `doctor --check` shows all of it.

use crate::program::{is_software, program_pretending_in, words};
use std::path::{Path, PathBuf};
use std::process::Output;

/// Each step of the check with something that only it and later ones use.
const PARTS: [(&str, &str); 14] = [
    ("copies between formats", "cast_f32_f16"),
    ("rows of the memory", "scatter_rows*"),
    ("normalisation", "l2_normalize_backward*"),
    ("batch norm", "batch_norm_*"),
    ("poolings", "max_pool_backward*"),
    ("augmentation", "augment*"),
    ("optimizer", "optimizer_step"),
    ("matrix products", "cublasLtMatmul"),
    ("retrieval", "retrieval_*"),
    ("convolutions", "convolution_backward_filter"),
    ("pair loss", "pair_loss_combine"),
    ("row normalizers", "pair_normalize"),
    // The first four times are those of the memory's rows.
    ("training step", "scatter_rows_f32_f16:5"),
    ("captured graph", "cuGraphLaunch"),
];

/// A folder of a test, with the cache of its checks.
struct Place {
    folder: tempfile::TempDir,
    runs: std::cell::Cell<usize>,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), runs: 0.into() }
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    fn run(&self, arguments: &[&str], pretence: &str, seconds: u32) -> Output {
        let seconds = seconds.to_string();
        let variables = [("XBM_CACHE_DIR", self.cache()), ("XBM_CHECK_SECONDS", PathBuf::from(seconds))];
        program_pretending_in(arguments, software_gpu::folder(), pretence, &variables)
    }

    /// One step of training wherever `auto` goes, and what is said.
    #[track_caller]
    fn train(&self, pretence: &str, seconds: u32) -> String {
        self.runs.set(self.runs.get() + 1);
        let out = self.folder.path().join(self.runs.get().to_string()).display().to_string();
        let fixed = ["train", "--device", "auto", "--backbone", "small", "--data", "synthetic:classes=4,views=2,size=20"];
        let sizes = ["--image-size", "16", "--batch-size", "4", "--samples-per-class", "2", "--dim", "64", "--memory-size", "8"];
        let output = self.run(&[&fixed[..], &sizes, &["--steps", "1", "--json", "--out", &out]].concat(), pretence, seconds);
        assert!(output.status.success(), "{}", words(&output));
        let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(summary["steps"], 1);
        String::from_utf8(output.stderr).unwrap()
    }

    /// `doctor` and whether it succeeded.
    fn doctor(&self, arguments: &[&str], pretence: &str) -> (bool, String) {
        let output = self.run(&[&["doctor"], arguments].concat(), pretence, LONG);
        (output.status.success(), words(&output))
    }
}

/// A time limit that no step of a busy machine meets.
const LONG: u32 = 3600;
const CPU: &str = "auto      computing on the CPU, because the GPU self-check failed at ";
const GPU: &str = "auto      computing on software GPU";

/// Breaks each part in one way, and expects the step's name, these words, and the command that shows more.
fn expect_each_step_to_notice(way: &str, expected: &str) {
    if !is_software() {
        return;
    }
    for (step, name) in PARTS {
        let found = Place::new().train(&format!("{way}={name}"), LONG);
        let line = found.lines().find(|line| line.starts_with("auto      computing"));
        let line = line.unwrap_or_else(|| panic!("{way} {name}: {found}"));
        assert!(line.starts_with(&format!("{CPU}`{step}`: ")), "{way} {name}: {line}");
        assert!(line.contains(expected) && line.ends_with("; `xbm-fast doctor --check` shows all of it"), "{way} {name}: {line}");
    }
}

#[test]
fn a_part_that_reports_an_error_is_named_with_it() {
    expect_each_step_to_notice("failing", "CUDA_ERROR_LAUNCH_FAILED");
}

#[test]
fn a_part_that_computes_something_else_is_named_with_what_is_wrong() {
    expect_each_step_to_notice("skipping", " the CPU's");
}

#[test]
fn a_part_that_crashes_takes_its_own_process_with_it_and_no_other() {
    expect_each_step_to_notice("crashing", "the process that ran it ended with signal: 6 (SIGABRT)");
}

#[test]
fn what_comes_before_the_steps_can_fail_too() {
    if !is_software() {
        return;
    }
    for (pretence, step, parts) in [
        ("crashing=cuInit", "driver and libraries", ["signal: 6", "doctor --check"]),
        ("crashing=cuDevicePrimaryCtxRetain", "opening the device", ["signal: 6", "doctor --check"]),
        ("failing=cuDevicePrimaryCtxRetain", "opening the device", ["CUDA_ERROR_DEVICE_UNAVAILABLE", "another process"]),
        ("crashing=cuModuleLoadData", "loading kernels", ["augment: the process", "signal: 6"]),
        ("failing=cuModuleLoadData", "loading kernels", ["loading kernels", "CUDA_ERROR_INVALID_IMAGE"]),
        ("failing=nvrtcCompileProgram:3", "loading kernels", [".cu for sm_80", "the compiler was told to fail"]),
        ("failing=cuStreamBeginCapture", "captured graph", ["CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "doctor --check"]),
        ("cudnn=refusing", "convolutions", ["cuDNN, planning a convolution", "was told to refuse"]),
        ("failing=allocation", "opening the device", ["out of memory", "doctor --check"]),
    ] {
        let found = Place::new().train(pretence, LONG);
        let expected = if pretence == "failing=allocation" { CPU.to_owned() } else { format!("{CPU}`{step}`: ") };
        for part in [&expected[..]].into_iter().chain(parts) {
            assert!(found.contains(part), "{pretence}: `{part}` is not in {found}");
        }
    }
}

#[test]
fn a_device_that_never_comes_back_is_given_up() {
    if !is_software() {
        return;
    }
    // One at once, the other after steps that a busy machine may take a while for.
    for (name, step, seconds) in [("cuInit", "driver and libraries", 2), ("cast_f32_f16", "copies between formats", 20)] {
        let place = Place::new();
        let found = place.train(&format!("hanging={name}"), seconds);
        let expected = format!("{CPU}`{step}`: it did not come to an end within {seconds} seconds; `xbm-fast doctor --check`");
        assert!(found.contains(&expected), "{found}");
        let again = place.train(&format!("hanging={name}"), LONG);
        assert!(again.contains(&format!("{CPU}`{step}`, 0 minutes ago: ")), "nobody waits for it twice: {again}");
    }
}

#[test]
fn a_device_that_passes_is_checked_once_and_another_one_again() {
    if !is_software() {
        return;
    }
    let place = Place::new();
    let checks = |pretence| {
        let found = place.train(pretence, LONG);
        assert!(found.contains(GPU), "{found}");
        found.contains("checking it beside the CPU")
    };
    assert!(checks(""));
    assert!(!checks(""), "what passed has passed");
    assert!(checks("driver=13010"), "another driver");
    assert!(checks("capability=90"), "another device");
    assert!(!checks(""));
    let (_, found) = place.doctor(&[], "");
    assert!(found.contains("verdict   the GPU will be used: it passed its self-check"), "{found}");
}

#[test]
fn a_crash_is_remembered_until_a_check_passes_and_an_error_is_not() {
    if !is_software() {
        return;
    }
    let place = Place::new();
    assert!(place.train("crashing=pair_normalize", LONG).contains(CPU));
    assert!(place.train("", LONG).contains(&format!("{CPU}`row normalizers`, 0 minutes ago: ")));
    let (passed, found) = place.doctor(&["--check"], "");
    assert!(passed && found.contains("verdict   the GPU will be used: it passed its self-check"), "{found}");
    assert!(place.train("", LONG).contains(GPU));

    let place = Place::new();
    assert!(place.train("failing=pair_normalize", LONG).contains(CPU));
    assert!(place.train("", LONG).contains(GPU), "it may have been another process's doing");
}

/// The lines of a check: outcome and step.
fn outcomes(found: &str) -> Vec<(&str, &str)> {
    let lines = found.lines().filter_map(|line| line.strip_prefix("check     "));
    lines.map(|line| (line[..7].trim(), line[8..32].trim())).collect()
}

#[test]
fn doctor_shows_every_step_whatever_failed_before_it() {
    if !is_software() {
        return;
    }
    let steps = xbm_fast::app::selfcheck::step_names();
    let place = Place::new();
    let (passed, found) = place.doctor(&["--check"], "");
    assert!(passed, "{found}");
    assert_eq!(outcomes(&found), steps.iter().map(|&step| ("ok", step)).collect::<Vec<_>>(), "{found}");

    let (passed, found) = place.doctor(&["--check"], "crashing=max_pool_backward*,skipping=retrieval_*");
    assert!(!passed, "{found}");
    let failed = ["poolings", "retrieval", "training step", "captured graph"];
    let expected: Vec<_> = steps.iter().map(|&step| (if failed.contains(&step) { "FAILED" } else { "ok" }, step)).collect();
    assert_eq!(outcomes(&found), expected, "{found}");
    for part in
        ["program   xbm-fast ", "system    ", "driver    CUDA 13.0", "software GPU", "cuDNN     ", "attach    all of the above"]
    {
        assert!(found.contains(part), "`{part}` is not in {found}");
    }
    assert!(found.contains("verdict   the CPU will be used: the GPU self-check failed at `poolings`"), "{found}");
}

#[test]
fn doctor_checks_in_other_formats() {
    if !is_software() {
        return;
    }
    for precision in ["fp32", "bf16"] {
        let (passed, found) = Place::new().doctor(&["--check", "--precision", precision], "");
        assert!(passed, "{precision}: {found}");
    }
}

#[test]
fn a_device_that_is_asked_for_by_name_is_not_replaced() {
    if !is_software() {
        return;
    }
    let place = Place::new();
    let out = place.folder.path().join("run").display().to_string();
    let output = place.run(&["train", "--device", "cuda", "--steps", "1", "--out", &out], "failing=augment*", LONG);
    let found = words(&output);
    assert!(!output.status.success() && found.contains("error: GPU: "), "{found}");
    assert!(found.contains("`xbm-fast doctor --check`") && !found.contains("computing on the CPU"), "{found}");
}

#[test]
fn a_machine_without_a_gpu_is_not_told_so_by_every_command() {
    let vendors = std::fs::read_dir("/sys/bus/pci/devices").into_iter().flatten().flatten();
    let mut vendors = vendors.map(|device| std::fs::read_to_string(device.path().join("vendor")).unwrap_or_default());
    if *software_gpu::device() == software_gpu::Device::Real || vendors.any(|vendor| vendor.starts_with("0x10de")) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let cache = [("XBM_CACHE_DIR", folder.path().to_owned())];
    let output = program_pretending_in(&["doctor", "--check"], None::<&Path>, "", &cache);
    assert!(
        output.status.success() && words(&output).contains("the NVIDIA driver (libcuda.so.1) was not found"),
        "{}",
        words(&output)
    );
    let missing = folder.path().join("missing.safetensors").display().to_string();
    let output = program_pretending_in(&["eval", "--checkpoint", &missing, "--device", "auto"], None::<&Path>, "", &cache);
    assert!(!words(&output).contains("auto      "), "{}", words(&output));
}

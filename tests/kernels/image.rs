use crate::device::on;
use std::fs;
use xbm_fast::device::cuda::kernel::{Kernel, Module, Part, architecture_for, image_cached_in, needs_compiler};

#[test]
fn what_the_run_time_compiler_makes_is_kept_checked_and_made_again_when_damaged() {
    on(software_gpu::SCHEDULES[0], |gpu| {
        if *software_gpu::device() != software_gpu::Device::Software {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let load = || image_cached_in(Some(folder.path()), &gpu.context, "optimizer", Part::Whole).unwrap();
        let first = load();
        let files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        let [file] = files.as_slice() else {
            assert!(files.is_empty(), "one file for each source: {files:?}");
            return; // this build has fat binaries
        };
        let architecture = if gpu.capability() == 90 { "sm_90a" } else { "sm_80" };
        assert!(file.display().to_string().contains(&format!("{architecture}-nvrtc0.0")), "{}", file.display());
        let kept = fs::read(file).unwrap();
        assert_eq!(load(), first);
        let mut damaged = kept.clone();
        damaged[40] ^= 1;
        fs::write(file, &damaged).unwrap();
        assert_eq!(load(), first);
        assert_eq!(fs::read(file).unwrap(), kept);
        let module = Module::load(&gpu.context, first).unwrap();
        let kernel: Kernel<[u64; 4]> = module.kernel("moving_average", 0).unwrap();
        assert!(kernel.takes_its_params().unwrap());
    });
    let missing = xbm_fast::device::cuda::kernel::source("no_such_source").unwrap_err().to_string();
    assert!(missing.contains("pair_loss"), "{missing}");
}

#[test]
fn sources_of_many_lengths_are_compiled_for_one_of_them() {
    let part = |stem, kernel| Part::with(stem, kernel).unwrap();
    let divided = |length| if needs_compiler() { Part::Length(length) } else { Part::Whole };
    assert_eq!(part("pair_loss/fused", "pair_loss_constant_f16_512_large"), divided(512));
    assert_eq!(part("pair_loss/row_stats", "pair_row_stats_bf16_64"), divided(64));
    assert_eq!(part("pair_loss/combine", "pair_loss_combine"), Part::Whole);
    assert_eq!(part("cast", "cast_f32_f16"), Part::Whole);
    assert_eq!(Part::of_length("optimizer", 64).unwrap(), Part::Whole);
}

#[test]
fn a_device_newer_than_the_compiler_gets_code_that_it_can_run() {
    let known = [75, 80, 86, 87, 89, 90, 100, 120];
    for (capability, expected) in
        [(80, "sm_80"), (89, "sm_89"), (90, "sm_90a"), (103, "sm_100"), (121, "sm_120"), (110, "compute_100"), (130, "compute_120")]
    {
        assert_eq!(architecture_for(capability, &known), expected, "{capability}");
    }
    assert_eq!(architecture_for(90, &[]), "sm_90");
}

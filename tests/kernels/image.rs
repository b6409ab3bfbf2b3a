use crate::device::on;
use std::fs;
use xbm_fast::device::cuda::kernel::{Kernel, Module, image_cached_in};

#[test]
fn what_the_run_time_compiler_makes_is_kept_checked_and_made_again_when_damaged() {
    on(software_gpu::SCHEDULES[0], |gpu| {
        if *software_gpu::device() != software_gpu::Device::Software {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let load = || image_cached_in(Some(folder.path()), &gpu.context, "optimizer").unwrap();
        let first = load();
        let files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        let [file] = files.as_slice() else {
            assert!(files.is_empty(), "one file for each source: {files:?}");
            return; // this build has fat binaries
        };
        assert!(file.display().to_string().contains("sm_80-nvrtc0.0"), "{}", file.display());
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

//! `xbm-fast doctor`: what this machine has for the GPU backend.

use crate::backend::cuda::libraries::{self, Library};
use crate::backend::cuda::{Probe, version_words};
use crate::backend::{Storage, cudnn};
use crate::error::Result;
use crate::kernel;
use clap::Args;
use std::process::ExitCode;

/// Nothing to choose.
#[derive(Debug, Args)]
pub struct DoctorArgs {}

impl DoctorArgs {
    /// Prints what was found. A machine without a GPU is not ill: the exit code is 0 either way.
    ///
    /// # Errors
    /// None; the result is that of every command.
    pub fn run(self) -> Result<ExitCode> {
        let probe = Probe::run();
        println!("cpu       {}", crate::backend::Cpu::new(None)?.description());
        match &probe.driver {
            Ok(version) => println!("driver    CUDA {}", version_words(*version)),
            Err(reason) => println!("driver    none: {reason}"),
        }
        for (number, device) in probe.devices.iter().enumerate() {
            let (major, minor) = (device.capability / 10, device.capability % 10);
            let gigabytes = device.memory as f64 / f64::from(1 << 30);
            println!("device {number}  {}, compute capability {major}.{minor}, {gigabytes:.1} GiB", device.name);
        }
        for found in &probe.libraries {
            match &found.path {
                Some(path) => println!("{:<9} {}", found.library.name(), path.display()),
                None => println!("{:<9} not found; {}", found.library.name(), found.library.advice()),
            }
        }
        if libraries::present(Library::Cudnn) {
            match cudnn::version() {
                Ok(version) => println!("{:<9} version {}.{}.{}", "", version / 10_000, version / 100 % 100, version % 100),
                Err(reason) => println!("{:<9} {reason}", ""),
            }
        }
        println!("kernels   {}", kernels());
        match probe.verdict() {
            Ok(()) => println!("verdict   the GPU will be used"),
            Err(reason) => println!("verdict   the CPU will be used: {reason}"),
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn kernels() -> String {
    let count = kernel::stems().len();
    match kernel::compiled_for() {
        Some(architectures) => format!("{count} files, compiled by nvcc for {architectures}"),
        None => format!("{count} files, compiled by NVRTC for the device at first use (this build found no nvcc)"),
    }
}
